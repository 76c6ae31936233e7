/**
 * A worker that calls the coordinator now and then, notices that it was frozen, and says what became of its first call
 * after that.
 *
 * @module
 */

import { Coordinator, DataCache } from '../../src/index.js';

export type Heard = { type: 'ready' } | { type: 'thawed'; error: string; ms: number };

const [endpoint, kind, name] = process.argv.slice(2);
const TICK_MS = 100;
const FROZEN_MS = 5000;

const coordinator = new Coordinator({ ...(endpoint && { endpoint }) });
const cache = new DataCache({
  coordinator,
  onReport: ({ type, error }) => reports.push(`${type}: ${error}`),
});
const reports: string[] = [];
let calls = 0;

async function call(): Promise<void> {
  calls += 1;
  const key = `${name}-${calls}`;
  switch (kind) {
    case 'lookup':
      await coordinator.lookup({ key });
      break;
    case 'commit': {
      const acquired = await coordinator.acquire({ key }, { waitMs: 1000 });
      if (acquired.outcome !== 'granted') {
        throw new Error(acquired.outcome);
      }
      const { outcome } = await acquired.lease.commit({ html: key });
      if (outcome !== 'committed') {
        throw new Error(outcome);
      }
      break;
    }
    case 'data':
      await cache.withRevalidate(key, 60, () => key);
      if (reports.length > 0) {
        throw new Error(reports.join());
      }
      break;
    default:
      throw new Error(`no such kind: ${kind}`);
  }
}

await call();
let last = performance.now();
const ticking = setInterval(async () => {
  const since = performance.now() - last;
  last = performance.now();
  if (since < FROZEN_MS) {
    return;
  }
  clearInterval(ticking);
  // Timers run before anything is heard of the connections: this is the very first that happens after the thaw.
  const begun = performance.now();
  const error = await call().then(
    () => '',
    (error: unknown) => String(error),
  );
  process.send?.({ type: 'thawed', error, ms: performance.now() - begun } satisfies Heard);
}, TICK_MS);
// Only now: whoever hears it may freeze this process at once, and the clock above must have been read before that.
process.send?.({ type: 'ready' } satisfies Heard);
