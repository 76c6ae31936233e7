/**
 * A worker that asks for one value, and says when it is the one that fetches it.
 *
 * @module
 */

import { once } from 'node:events';
import { DataCache } from '../../src/index.js';

export type Heard = { type: 'ready' | 'fetching' } | { type: 'got'; value: unknown; fetches: number };

const [endpoint, name] = process.argv.slice(2);
const say = (message: Heard) => process.send?.(message);
const cache = new DataCache({ coordinator: { ...(endpoint && { endpoint }), owner: String(name) } });

let fetches = 0;
process.on('message', async (message: { key?: string }) => {
  if (message.key === undefined) {
    return;
  }
  const value = await cache.withRevalidate(message.key, 60, async () => {
    fetches += 1;
    const told = once(process, 'message');
    say({ type: 'fetching' });
    await told;
    return { by: name };
  });
  say({ type: 'got', value, fetches });
});
say({ type: 'ready' });
