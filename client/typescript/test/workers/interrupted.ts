/**
 * A worker that is frozen in the middle of a call, and says what became of it.
 *
 * @module
 */

import { once } from 'node:events';
import { Coordinator } from '../../src/index.js';

export type Heard = { type: 'ready' | 'calling' } | { type: 'answered'; error: string };

const [endpoint] = process.argv.slice(2);
const say = (message: Heard) => process.send?.(message);
const coordinator = new Coordinator({
  ...(endpoint && { endpoint }),
  timeoutMs: 3000,
  attemptTimeoutMs: 1500,
});

await coordinator.health();
const told = once(process, 'message');
say({ type: 'ready' });
await told;
const call = coordinator.lookup({ key: 'k' });
say({ type: 'calling' });
const error = await call.then(
  () => '',
  (error: unknown) => String(error),
);
say({ type: 'answered', error });
