import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faceStores } from '../src/facetheory.js';
import { Coordinator, DataCache, type DataReport, LeaseholdError, PageServer } from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';
import { answering } from './interposed.js';
import { LossyLink } from './lossy-link.js';

const now = () => performance.now();

/** Callers that go on until they are told to stop. */
function traffic(callers: number, call: (caller: number, round: number) => Promise<void>) {
  let isOver = false;
  let rounds = 0;
  let wake: (() => void) | undefined;
  const running = Array.from({ length: callers }, async (_, caller) => {
    for (let round = 0; !isOver; round += 1) {
      await call(caller, round);
      // What is answered from memory would otherwise keep everything else of this process from running.
      await new Promise(setImmediate);
      rounds += 1;
      wake?.();
    }
  });
  const over = Promise.all(running);
  over.catch(() => wake?.());
  return {
    /** Resolves when so many further calls were answered. */
    async more(calls: number): Promise<void> {
      for (const until = rounds + calls; rounds < until; ) {
        await Promise.race([over, new Promise<void>((resolve) => (wake = resolve))]);
      }
    },
    async stop(): Promise<void> {
      isOver = true;
      await over;
    },
  };
}

test('a coordinator that is killed in mid-traffic fails no caller, and is in use within a second of its return', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const reports: DataReport[] = [];
  const cache = new DataCache({
    coordinator: coordinator.connect(),
    onReport: (report) => reports.push(report),
  });
  const calls = traffic(20, async (caller, round) => {
    const key = `k${(caller + round) % 10}`;
    assert.deepEqual(await cache.withRevalidate(key, 0.05, async () => ({ key })), { key });
  });
  await calls.more(200);
  await coordinator.kill();
  await calls.more(200);
  assert.ok(reports.some(({ type }) => type === 'unreachable'));
  await coordinator.restart();
  const backAt = now();
  // What is kept at the coordinator, and not only fetched, is seen by another worker.
  const witness = coordinator.connect();
  for (let probe = 0; ; probe += 1) {
    const key = `probe-${probe}`;
    assert.equal(await cache.withRevalidate(key, 60, async () => key), key);
    const found = await witness.lookup({ key: `default::/~data/default/${key}` });
    if (found.outcome === 'fresh') {
      break;
    }
    assert.ok(now() - backAt < 10_000, 'the coordinator is not in use again');
  }
  const took = now() - backAt;
  await calls.stop();
  await cache.idle();
  assert.ok(took < 1000, `${Math.round(took)} ms`);
});

test('a coordinator that drains and comes back fails no call', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const calls = traffic(10, async (caller, round) => {
    const entry = { key: `drain-${caller}-${round}` };
    const acquired = await handle.acquire(entry);
    assert.ok(acquired.outcome === 'granted', acquired.outcome);
    assert.equal((await acquired.lease.commit({ html: 'page' })).outcome, 'committed');
    assert.equal((await handle.lookup(entry)).outcome, 'fresh');
  });
  await calls.more(50);
  await coordinator.drain();
  await coordinator.restart();
  await calls.more(50);
  await calls.stop();
});

test('an outage costs each caller no more than the timeout, and most of them nothing', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const reports: DataReport[] = [];
  const cache = new DataCache({
    coordinator: coordinator.connect(),
    coordinatorTimeoutMs: 400,
    onReport: (report) => reports.push(report),
  });
  await coordinator.kill();
  const begun = now();
  for (let call = 0; call < 500; call += 1) {
    assert.equal(await cache.withRevalidate(`k${call}`, 60, () => call), call);
  }
  const asked = reports.filter(({ type }) => type === 'unreachable').length;
  const seconds = (now() - begun) / 1000;
  // Three to open the breaker, then trials with pauses between them.
  assert.ok(asked <= 4 + seconds * 4, `${asked} of 500 callers asked within ${seconds} s`);
});

test('an invalidation that cannot be made is an error, and its process forgets the value all the same', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const cache = new DataCache({ coordinator: coordinator.connect({ timeoutMs: 300 }), onReport: () => {} });
  assert.equal(await cache.withRevalidate('k', 60, () => 'old'), 'old');
  await coordinator.kill();
  assert.equal(await cache.withRevalidate('k', 60, () => 'new'), 'old');
  await assert.rejects(cache.invalidate('k'), { name: 'LeaseholdError', isRetryable: true });
  assert.equal(await cache.withRevalidate('k', 60, () => 'new'), 'new');
});

test('who waits for a fetch when the coordinator dies fetches by itself', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const holder = coordinator.connect();
  assert.equal(
    (await holder.acquire({ key: 'default::/~data/default/k' }, { ttlMs: 60_000 })).outcome,
    'granted',
  );
  const watch = coordinator.connect();
  const reports: DataReport[] = [];
  const cache = new DataCache({
    coordinator: coordinator.connect(),
    coordinatorTimeoutMs: 500,
    onReport: (report) => reports.push(report),
  });
  const begun = now();
  const waiting = cache.withRevalidate('k', 60, () => 'fetched');
  // By the time that others were answered, it waits.
  assert.equal(
    (await watch.lookup({ key: 'default::/~data/default/k' })).regeneration?.owner,
    'leasehold-client',
  );
  await coordinator.kill();
  assert.equal(await waiting, 'fetched');
  assert.ok(now() - begun < 10_000);
});

test('an acquire whose answer got lost is granted by its repetition', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const lossy = await LossyLink.start(t, coordinator.endpoint);
  const handle = coordinator.connect({ endpoint: lossy.endpoint });
  assert.equal(await handle.health(), 'serving');
  lossy.loseAnswers(1);
  const acquired = await handle.acquire({ key: 'k' }, { ttlMs: 60_000 });
  assert.equal(acquired.outcome, 'granted');
  assert.equal(lossy.lost, 1);
});

test('an invalidation whose answer got lost is made once', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const lossy = await LossyLink.start(t, coordinator.endpoint);
  const handle = coordinator.connect({ endpoint: lossy.endpoint });
  await using watch = coordinator.connect().watch([{ wholeTenant: true }]);
  assert.equal((await watch.next()).value?.event.type, 'started');
  assert.equal(await handle.health(), 'serving');
  lossy.loseAnswers(2);
  const first = await handle.invalidate([{ key: 'first' }]);
  assert.equal(lossy.lost, 2);
  const second = await handle.invalidate([{ key: 'second' }]);
  const seen = [];
  for await (const { event } of watch) {
    if (event.type === 'invalidated') {
      seen.push([event.scopes, event.consistencyToken]);
    }
    if (seen.length === 2) {
      break;
    }
  }
  assert.deepEqual(seen, [
    [[{ tenant: 'default', key: 'first' }], first],
    [[{ tenant: 'default', key: 'second' }], second],
  ]);
});

test('an error says whether the call may have been applied', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const lossy = await LossyLink.start(t, coordinator.endpoint);
  const handle = coordinator.connect({ endpoint: lossy.endpoint, timeoutMs: 500 });
  assert.equal(await handle.health(), 'serving');
  lossy.loseAnswers(Number.POSITIVE_INFINITY);
  await assert.rejects(handle.invalidate([{ key: 'k' }]), { mayHaveBeenApplied: true, isRetryable: true });
  lossy.refuseConnections();
  handle.close();
  await assert.rejects(handle.invalidate([{ key: 'k' }]), { mayHaveBeenApplied: false, isRetryable: true });
});

test('an error tells which coordinator was asked, and what happened at last', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const lossy = await LossyLink.start(t, coordinator.endpoint);
  const at = lossy.endpoint;
  const handle = coordinator.connect({ endpoint: at, timeoutMs: 400, attemptTimeoutMs: 100 });
  const message = async (call: Promise<unknown>) =>
    call.then(
      () => assert.fail('it was answered'),
      (error: Error) => error.message.replaceAll(/\d+ (ms|attempts)/g, '_ $1'),
    );
  assert.equal(await handle.health(), 'serving');
  lossy.loseAnswers(Number.POSITIVE_INFINITY);
  assert.match(
    await message(handle.lookup({ key: 'k' })),
    new RegExp(`^not done within _ ms and _ attempts; at last: .*${at}`),
  );
  lossy.refuseConnections();
  handle.close();
  const unreached = `not done within _ ms and _ attempts; at last: no coordinator was reached at ${at}`;
  assert.equal(await message(handle.lookup({ key: 'k' })), unreached);
  const lines: string[] = [];
  t.mock.method(console, 'warn', (line: string) => lines.push(line.replaceAll(/\d+ (ms|attempts)/g, '_ $1')));
  const cache = new DataCache({ coordinator: { endpoint: at }, coordinatorTimeoutMs: 200 });
  assert.equal(await cache.withRevalidate('k', 60, () => 'value'), 'value');
  await cache.close();
  assert.equal(lines[0], `leasehold: the coordinator gave no answer: error=${unreached}`);
  const gone = new Coordinator({ endpoint: at, retry: { maxAttempts: 1 } });
  assert.equal(await message(gone.lookup({ key: 'k' })), `no coordinator was reached at ${at}`);
  gone.close();
});

test('a connection that fell silent is replaced', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const lossy = await LossyLink.start(t, coordinator.endpoint);
  const handle = coordinator.connect({ endpoint: lossy.endpoint, attemptTimeoutMs: 300 });
  assert.equal(await handle.health(), 'serving');
  lossy.silenceConnections();
  assert.equal((await handle.lookup({ key: 'k' })).outcome, 'missing');
  assert.equal(lossy.connections, 2);
});

test('a copy that was current too long ago is served no more', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const clock = performance.now.bind(performance);
  let aheadMs = 0;
  t.mock.method(performance, 'now', () => clock() + aheadMs);
  const minute = 60_000;
  for (const [localMaxAgeMs, limitMs] of [
    [undefined, 60 * minute],
    [10 * minute, 10 * minute],
  ] as const) {
    let isDown = false;
    const orDown = async <T>(call: () => Promise<T>) =>
      isDown ? Promise.reject(LeaseholdError.notSent()) : call();
    const cuttable = answering(handle, {
      lookup: (...asked) => orDown(() => handle.lookup(...asked)),
      serveObject: (...asked) => orDown(() => handle.serveObject(...asked)),
    });
    const options = { coordinator: cuttable, localMaxAgeMs, onReport: () => {} };
    const pages = new PageServer(options);
    const cache = new DataCache({ ...options, staleBoundSeconds: 10 * 3600 });
    const faces = faceStores(options);
    const served = async (html: string) => {
      const request = new Request(`http://site/${limitMs}`);
      const response = await pages.servePage(request, { mode: 'blocking' }, () => ({ html }));
      return response.text();
    };
    const fetched = (value: string) => cache.withRevalidate(`${limitMs}`, 10 * 3600, () => value);
    assert.deepEqual([await served('old'), await fetched('old')], ['old', 'old']);
    const acquired = await handle.acquire({ key: `face ${limitMs}` });
    assert.ok(acquired.outcome === 'granted');
    const htmlName = `isr/folder/${limitMs}.html`;
    await acquired.lease.commit({ html: 'old', htmlName });
    const read = async () => Buffer.from((await faces.htmlStore.read(htmlName))?.body ?? []).toString();
    assert.equal(await read(), 'old');
    isDown = true;
    aheadMs += limitMs - minute;
    assert.deepEqual([await served('new'), await fetched('new'), await read()], ['old', 'old', 'old']);
    aheadMs += 2 * minute;
    assert.deepEqual([await served('new'), await fetched('new')], ['new', 'new']);
    await assert.rejects(read(), { kind: 'notSent' });
  }
});
