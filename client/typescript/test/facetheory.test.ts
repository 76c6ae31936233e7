import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { emptyRecord, recordOf } from '../src/face-records.js';
import {
  type FaceReport,
  type FaceStores,
  type FaceStoresOptions,
  faceStores,
  LeaseLostError,
} from '../src/facetheory.js';
import { Coordinator, PageServer, type ServedObject } from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';
import {
  type Face,
  type FaceAnswer,
  FaceApp,
  type FaceAppOptions,
  isFresh,
  type MetaRecord,
} from './face-app.js';
import { leasing } from './interposed.js';
import { WorkerProcess } from './worker-process.js';
import type { Heard } from './workers/facing.js';

const HOUR = 3600;
const DAY = 24 * HOUR;
const KEY = 'default::/about?';

function storesOn(t: TestContext, coordinator: CoordinatorProcess, options: FaceStoresOptions = {}) {
  const reports: FaceReport[] = [];
  const stores = faceStores({
    coordinator: coordinator.connect(),
    onReport: (report) => reports.push(report),
    ...options,
  });
  t.after(() => stores.close());
  return { ...stores, reports };
}

function appOn(
  t: TestContext,
  coordinator: CoordinatorProcess,
  options: FaceStoresOptions = {},
  appOptions: FaceAppOptions = {},
) {
  const stores = storesOn(t, coordinator, options);
  return { stores, app: new FaceApp(stores, appOptions) };
}

const showing = (html: string, revalidateSeconds = HOUR): Face => ({
  revalidateSeconds,
  render: () => ({ html }),
});

const unrendered: Face = { revalidateSeconds: HOUR, render: () => assert.fail('rendered') };

const failing: Face = {
  revalidateSeconds: HOUR,
  render: () => {
    throw new Error('the template is broken');
  },
};

const shown = ({ state, body }: FaceAnswer) => `${state}: ${body}`;

/** A render that begins and goes on until it is told to end. */
function paced(html: string, revalidateSeconds = HOUR) {
  let begin = () => {};
  let proceed = () => {};
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const told = new Promise<void>((resolve) => (proceed = resolve));
  const face: Face = {
    revalidateSeconds,
    render: async () => {
      begin();
      await told;
      return { html };
    },
  };
  return { face, begun, proceed: () => proceed() };
}

/** Asks until the answer is as wished; the test's own timeout ends it otherwise. */
async function until<T>(ask: () => Promise<T>, isWished: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (isWished(answer)) {
      return answer;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const nameFor = (cacheKey: string) =>
  `isr/${createHash('sha256').update(cacheKey).digest('hex').slice(0, 24)}/${Date.now()}-${randomUUID()}.html`;

async function acquire(
  stores: FaceStores | Pick<FaceStores, 'metaStore'>,
  cacheKey = KEY,
  leaseDurationMs = 5000,
) {
  const leaseOwner = randomUUID();
  const nowMs = Date.now();
  const input = { cacheKey, leaseOwner, nowMs, leaseDurationMs, fallbackRevalidateSeconds: 60 };
  return { ...(await stores.metaStore.tryAcquireLease(input)), leaseOwner };
}

async function granted(
  stores: FaceStores | Pick<FaceStores, 'metaStore'>,
  cacheKey = KEY,
  leaseDurationMs = 5000,
) {
  const { leaseToken, leaseOwner, record } = await acquire(stores, cacheKey, leaseDurationMs);
  assert.ok(leaseToken !== null);
  return { lease: { cacheKey, leaseOwner, leaseToken }, record };
}

const said = {
  generatedAt: 0,
  revalidateSeconds: HOUR,
  status: 200,
  contentType: 'text/html; charset=utf-8',
};

/** Counts what reaches the coordinator. */
class Counting extends Coordinator {
  lookups = 0;
  acquires = 0;
  objects = 0;
  /** Consistency tokens of lookups, acquires and reads by name, in their order. */
  readonly tokens: (string | undefined)[] = [];

  override lookup(...args: Parameters<Coordinator['lookup']>): ReturnType<Coordinator['lookup']> {
    this.lookups += 1;
    this.tokens.push(args[1]?.consistencyToken);
    return super.lookup(...args);
  }

  override acquire(...args: Parameters<Coordinator['acquire']>): ReturnType<Coordinator['acquire']> {
    this.acquires += 1;
    this.tokens.push(args[1]?.consistencyToken);
    return super.acquire(...args);
  }

  override serveObject(...args: Parameters<Coordinator['serveObject']>): Promise<ServedObject> {
    this.objects += 1;
    this.tokens.push(args[2]?.consistencyToken);
    return super.serveObject(...args);
  }
}

function counting(t: TestContext, coordinator: CoordinatorProcess): Counting {
  const handle = new Counting({ endpoint: coordinator.endpoint });
  t.after(() => handle.close());
  return handle;
}

test('a page is rendered by the first visitor, and is a hit from then on in every worker', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const first = appOn(t, coordinator);
  const second = appOn(t, coordinator);
  const csp = "default-src 'self'";
  const strictCsp = { inlineScripts: false } as const;
  const rendering = { html: 'about', status: 404, contentType: 'text/plain', csp, strictCsp };
  const face: Face = { revalidateSeconds: HOUR, render: () => rendering };
  assert.equal(await first.stores.metaStore.get(KEY), null);
  const miss = await first.app.serve(KEY, face);
  assert.equal(shown(miss), 'miss: about');
  for (const { app } of [first, second]) {
    const hit = await app.serve(KEY, unrendered);
    const { contentType, status } = rendering;
    const expected = { state: 'hit', body: 'about', status, contentType, csp, strictCsp, etag: miss.etag };
    assert.deepEqual(hit, expected);
  }
  assert.match(String(miss.etag), /^"[0-9a-f]{32}"$/);
});

test('a burst of visitors over two processes costs one render, and all see its page', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { stores, app } = appOn(t, coordinator);
  await app.serve(KEY, showing('old'));
  await stores.metaStore.invalidate(KEY);
  const workers = ['a', 'b'].map((name) =>
    WorkerProcess.start<Heard>(t, 'facing', coordinator.endpoint, name),
  );
  await Promise.all(workers.map((worker) => worker.hear('ready')));
  for (const worker of workers) {
    worker.tell({ key: KEY, visitors: 25 });
  }
  const asked = await Promise.all(workers.map((worker) => worker.hear('asked')));
  assert.equal(asked.filter(({ holdsLease }) => holdsLease).length, 1);
  workers[asked.findIndex(({ holdsLease }) => holdsLease)]?.tell({ proceed: true });
  const served = await Promise.all(workers.map((worker) => worker.hear('served')));
  assert.deepEqual(served.map(({ renders }) => renders).sort(), [0, 1]);
  const answers = served.flatMap((each) => each.answers);
  assert.equal(answers.length, 50);
  assert.equal(answers.filter(({ state }) => state === 'miss').length, 1);
  assert.equal(answers.filter(({ state }) => state === 'wait-hit').length, 49);
  assert.equal(new Set(answers.map(({ body }) => body)).size, 1);
  assert.match(String(answers[0]?.body), /^rendered by [ab]$/);
});

test('visitors who wait cost the coordinator as much as two of them, however many they are', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const holder = storesOn(t, coordinator);
  const handle = counting(t, coordinator);
  const waiting = storesOn(t, coordinator, { coordinator: handle });
  await granted(holder);
  const begun = performance.now();
  let asked = 0;
  await Promise.all(
    Array.from({ length: 100 }, async () => {
      while (performance.now() - begun < 500) {
        assert.equal((await waiting.metaStore.get(KEY))?.htmlPointer, null);
        asked += 1;
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    }),
  );
  const spentMs = performance.now() - begun;
  assert.ok(asked > 4 * handle.lookups, `${asked} calls, ${handle.lookups} lookups`);
  assert.ok(handle.lookups <= spentMs / 15 + 1, `${handle.lookups} lookups in ${spentMs} ms`);
});

test('what a process commits or invalidates it sees at once, whatever it asked a moment before', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { stores, app } = appOn(t, coordinator);
  for (let round = 0; round < 20; round += 1) {
    assert.equal(shown(await app.serve(KEY, showing(`round ${round}`))), `miss: round ${round}`);
    assert.equal(shown(await app.serve(KEY, unrendered)), `hit: round ${round}`);
    await stores.metaStore.invalidate(KEY);
  }
});

test('who asks after an invalidation does not join those who asked before it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = counting(t, coordinator);
  const { app, stores } = appOn(t, coordinator, { coordinator: handle });
  await app.serve(KEY, showing('page'));
  let answer = () => {};
  const withheld = new Promise<void>((resolve) => (answer = resolve));
  let answered = 0;
  handle.lookup = async (...args) => {
    const found = await Coordinator.prototype.lookup.apply(handle, args);
    answered += 1;
    await withheld;
    return found;
  };
  const before = stores.metaStore.get(KEY);
  const together = stores.metaStore.get(KEY);
  await until(
    async () => answered,
    (lookups) => lookups > 0,
  );
  await stores.metaStore.invalidate(KEY);
  const after = stores.metaStore.get(KEY);
  answer();
  const [first, second, third] = await Promise.all([before, together, after]);
  assert.ok(first && second && third);
  assert.equal(answered, 2);
  assert.deepEqual(
    [first, second, third].map((record) => isFresh(record, Date.now())),
    [true, true, false],
  );
});

test('after an invalidation, every lookup, acquire and read by name of this process presents its token', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = counting(t, coordinator);
  const stores = storesOn(t, coordinator, { coordinator: handle });
  const ask = async () => {
    await stores.metaStore.get(KEY);
    await stores.metaStore.releaseLease((await granted(stores)).lease);
    assert.equal(await stores.htmlStore.read('isr/nobody.html'), null);
  };
  await ask();
  await stores.metaStore.invalidate(KEY);
  await ask();
  const [first, second, third, ...others] = handle.tokens;
  assert.deepEqual([first, second, third], [undefined, undefined, undefined]);
  assert.equal(others.length, 3);
  assert.ok(others.every((token) => token !== undefined && token === others[0]));
});

test('a failed render is answered with the previous page, and the next visitor renders again', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { stores, app } = appOn(t, coordinator);
  await assert.rejects(app.serve(KEY, failing), /the template is broken/);
  await app.serve(KEY, showing('old'));
  const before = await stores.metaStore.get(KEY);
  await stores.metaStore.invalidate(KEY);
  assert.equal(shown(await app.serve(KEY, failing)), 'stale: old');
  const answers500: Face = { revalidateSeconds: HOUR, render: () => ({ html: 'sorry', status: 500 }) };
  assert.equal(shown(await app.serve(KEY, answers500)), 'stale: old');
  assert.equal((await stores.metaStore.get(KEY))?.htmlPointer, before?.htmlPointer);
  assert.equal(shown(await app.serve(KEY, showing('new'))), 'miss: new');
  assert.deepEqual(stores.reports, []);
});

test('with backOff, nobody renders for a while after a failed render', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const { stores, app } = appOn(t, coordinator, { backOff: true }, { onContention: 'serve-stale' });
  await app.serve(KEY, showing('old'));
  await stores.metaStore.invalidate(KEY);
  assert.equal(shown(await app.serve(KEY, failing)), 'stale: old');
  assert.equal(shown(await app.serve(KEY, unrendered)), 'stale: old');
  const { acquired, record } = await acquire(stores);
  assert.equal(acquired, false);
  assert.equal(record.leaseOwner, null);
  assert.ok(record.leaseExpiresAt > Date.now());
});

test('an invalidated page is rendered again, also while its render is under way', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { stores, app } = appOn(t, coordinator);
  const other = appOn(t, coordinator);
  await app.serve(KEY, showing('first'));
  await stores.metaStore.invalidate(KEY);
  const overtaken = paced('second');
  const visit = app.serve(KEY, overtaken.face);
  await overtaken.begun;
  await stores.metaStore.invalidate(KEY);
  // The render that began before the invalidation is not waited for.
  assert.equal(shown(await app.serve(KEY, showing('third'))), 'miss: third');
  overtaken.proceed();
  // Its own commit came too late; the record that it began with is of the first page.
  assert.equal(shown(await visit), 'stale: first');
  for (const each of [app, other.app]) {
    assert.equal(shown(await each.serve(KEY, unrendered)), 'hit: third');
  }
});

test('a page that was invalidated while it was rendered is kept, but never a hit', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { stores, app } = appOn(t, coordinator);
  const overtaken = paced('first');
  const visit = app.serve(KEY, overtaken.face);
  await overtaken.begun;
  await stores.metaStore.invalidate(KEY);
  overtaken.proceed();
  assert.equal(shown(await visit), 'miss: first');
  assert.equal(shown(await app.serve(KEY, failing)), 'stale: first');
  assert.equal(shown(await app.serve(KEY, showing('second'))), 'miss: second');
  assert.equal(shown(await app.serve(KEY, unrendered)), 'hit: second');
});

test('a visitor who waits is served a page that is stale as soon as it is committed', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app } = appOn(t, coordinator);
  const other = appOn(t, coordinator);
  const never = paced('never fresh', 0);
  for (const before of [undefined, 'never fresh']) {
    const slow = before === undefined ? never : paced('again', 0);
    const rendering = app.serve(KEY, slow.face);
    await slow.begun;
    const waiting = other.app.serve(KEY, unrendered);
    await until(
      () => other.stores.metaStore.get(KEY),
      (record) => record?.leaseOwner != null,
    );
    slow.proceed();
    assert.equal((await rendering).state, 'miss');
    assert.equal(shown(await waiting), `wait-hit: ${before === undefined ? 'never fresh' : 'again'}`);
  }
});

test('a sidecar is there with its page, for those who ask for this page in this tenant', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app } = appOn(t, coordinator);
  const other = appOn(t, coordinator);
  const foreign = appOn(t, coordinator, { tenant: 'foreign' });
  const face: Face = {
    revalidateSeconds: HOUR,
    render: (dataUrl) => ({ html: dataUrl, data: { user: 'ann' } }),
  };
  const dataUrl = (await app.serve(KEY, face)).body;
  for (const each of [app, other.app]) {
    const sidecar = await each.serve(KEY, unrendered, dataUrl);
    assert.equal(shown(sidecar), 'sidecar: {"user":"ann"}\n');
    assert.match(String(sidecar.etag), /^"/);
    assert.equal((await each.serve(`${KEY}#cookies=other`, unrendered, dataUrl)).state, 'not-found');
  }
  assert.equal((await foreign.app.serve(KEY, unrendered, dataUrl)).state, 'not-found');
  assert.equal((await other.app.serve(KEY, unrendered, `${dataUrl.slice(0, -8)}AAAA`)).state, 'not-found');
});

test('a sidecar is there before its page is, for the worker that renders it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const stores = storesOn(t, coordinator);
  const { lease } = await granted(stores);
  const sidecarName = nameFor(KEY).replace(/html$/, 'hydration.json');
  await stores.htmlStore.write({ key: sidecarName, body: Buffer.from('{}') });
  assert.equal(Buffer.from((await stores.htmlStore.read(sidecarName))?.body ?? []).toString(), '{}');
  await stores.metaStore.releaseLease(lease);
  assert.equal(await stores.htmlStore.read(sidecarName), null);
});

test('a commit whose lease is lost is refused, and the page of the other stays', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const late = storesOn(t, coordinator, { renewLeases: false });
  const { app, stores } = appOn(t, coordinator);
  const { lease } = await granted(late, KEY, 100);
  const htmlPointer = nameFor(KEY);
  await late.htmlStore.write({ key: htmlPointer, body: Buffer.from('late') });
  const took = await until(
    () => app.serve(KEY, showing('current')),
    () => true,
  );
  assert.equal(shown(took), 'miss: current');
  const commit = () => late.metaStore.commitGeneration({ ...lease, ...said, htmlPointer });
  await assert.rejects(commit(), LeaseLostError);
  await late.metaStore.releaseLease(lease);
  await assert.rejects(commit(), LeaseLostError);
  assert.equal(await late.htmlStore.read(htmlPointer), null);
  assert.equal(shown(await app.serve(KEY, unrendered)), 'hit: current');
  // Somebody else's lease, or one for another page, is no lease either.
  const own = await granted(stores, 'another');
  await assert.rejects(
    stores.metaStore.commitGeneration({ ...own.lease, ...said, cacheKey: KEY, htmlPointer }),
    LeaseLostError,
  );
  await assert.rejects(
    late.metaStore.commitGeneration({ ...own.lease, ...said, htmlPointer }),
    LeaseLostError,
  );
});

test('a lease that has ended by its commit cannot be given back: the one after it stays', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const stores = storesOn(t, coordinator, { backOff: true });
  const { lease } = await granted(stores);
  const htmlPointer = nameFor(KEY);
  await stores.htmlStore.write({ key: htmlPointer, body: Buffer.from('page') });
  await stores.metaStore.commitGeneration({ ...lease, ...said, htmlPointer });
  await stores.metaStore.invalidate(KEY);
  const next = await granted(stores);
  await stores.metaStore.releaseLease(lease);
  assert.equal((await acquire(stores)).acquired, false);
  assert.equal((await stores.metaStore.get(KEY))?.leaseOwner, next.lease.leaseOwner);
  assert.equal((await stores.metaStore.get(KEY))?.htmlPointer, htmlPointer);
});

test('a render may take longer than its lease, which is renewed meanwhile', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const other = storesOn(t, coordinator);
  const outlasting = async (renewLeases: boolean) => {
    const key = `${KEY}${renewLeases}`;
    const { app } = appOn(t, coordinator, { renewLeases }, { leaseDurationMs: 1500 });
    const slow = paced('slow');
    const visit = app.serve(key, slow.face);
    await slow.begun;
    const granted = await other.metaStore.get(key);
    assert.ok(granted && granted.leaseExpiresAt > Date.now());
    await until(
      async () => Date.now(),
      (now) => now > granted.leaseExpiresAt + 100,
    );
    assert.equal((await acquire(other, key)).acquired, !renewLeases);
    slow.proceed();
    return visit;
  };
  const [renewed] = await Promise.all([outlasting(true), assert.rejects(outlasting(false), LeaseLostError)]);
  assert.equal(shown(renewed), 'miss: slow');
});

for (const [direction, offsetMs] of [
  ['a day ahead', DAY * 1000],
  ['a day behind', -DAY * 1000],
  ['at zero', -Date.now()],
] as const) {
  test(`a worker's clock that is ${direction} makes no page fresh or stale`, async (t) => {
    const coordinator = await CoordinatorProcess.start(t);
    const now = () => Date.now() + offsetMs;
    const { app, stores } = appOn(t, coordinator, { now }, { now });
    const record = async () => {
      const found = await stores.metaStore.get(KEY);
      assert.ok(found);
      return found;
    };
    await app.serve(KEY, showing('first', 60));
    assert.equal(shown(await app.serve(KEY, unrendered)), 'hit: first');
    await stores.metaStore.invalidate(KEY);
    const invalidated = await record();
    assert.ok(!isFresh(invalidated, now()));
    assert.deepEqual(await record(), invalidated);
    await app.serve(KEY, showing('second', 0.3));
    const expired = await until(record, (found) => !isFresh(found, now()));
    // By the coordinator's clock, and not a moment earlier.
    const handle = coordinator.connect();
    assert.equal((await handle.lookup({ key: KEY })).outcome, 'stale');
    assert.ok(expired.generatedAt > invalidated.generatedAt);
    assert.equal((await record()).generatedAt, expired.generatedAt);
    // A visitor who waits sees by it that a newer page came.
    await app.serve(KEY, showing('third', 60));
    const fresh = await record();
    assert.ok(isFresh(fresh, now()));
    assert.ok(fresh.generatedAt > expired.generatedAt);
  });
}

test('a page is as old as the coordinator says, where the clocks agree', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app, stores } = appOn(t, coordinator);
  await app.serve(KEY, showing('page'));
  const found = await coordinator.connect().lookup({ key: KEY });
  assert.ok(found.outcome === 'fresh');
  assert.equal((await stores.metaStore.get(KEY))?.generatedAt, found.page.generatedAt?.getTime());
});

test('a record of a page that is not fresh is never one of a fresh page, whatever the reason and the clock', () => {
  const page = {
    generation: 1_800_000_000n,
    metadata: {},
    generatedAt: new Date(),
    ageMs: 0,
    body: { delivery: 'omitted' },
    sizeBytes: 0,
    digest: new Uint8Array(),
  } as const;
  for (const now of [0, 1000, Date.now(), Date.now() + HOUR * 1000]) {
    for (const revalidateMs of [undefined, 0, 1000, 10 * 365 * 24 * HOUR * 1000]) {
      const metadata = { revalidateMs };
      for (const reason of ['expired', 'invalidated', 'unverified', 'other'] as const) {
        const record = recordOf(KEY, { freshness: 'stale', page: { ...page, metadata }, reason }, now);
        assert.ok(!isFresh(record, now), `${reason} at ${now}`);
        assert.ok(record.generatedAt > emptyRecord(KEY).generatedAt);
      }
      if (revalidateMs !== 0) {
        const record = recordOf(KEY, { freshness: 'fresh', page: { ...page, metadata } }, now);
        assert.ok(isFresh(record, now), `fresh at ${now}`);
      }
    }
  }
});

test('without a coordinator, calls fail and the last page is served; with it, all is as before', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app, stores } = appOn(t, coordinator, { coordinatorTimeoutMs: 300 });
  const face: Face = {
    revalidateSeconds: HOUR,
    render: (dataUrl) => ({ html: `see ${dataUrl}`, data: { user: 'ann' } }),
  };
  const { body } = await app.serve(KEY, face);
  const slow = paced('never kept');
  const rendering = app.serve('another', slow.face);
  await slow.begun;
  await coordinator.kill();
  await assert.rejects(stores.metaStore.get(KEY), { isOutage: true });
  await assert.rejects(acquire(stores), { isOutage: true });
  for (let visit = 0; visit < 5; visit += 1) {
    assert.equal(shown(await app.serve(KEY, unrendered)), `stale-metadata-error: ${body}`);
    assert.equal((await app.serve(KEY, unrendered, body)).body, '{"user":"ann"}\n');
  }
  // Also long after this process heard of the page, when it would rather ask.
  const name = String((await rememberedBy(app, KEY)).htmlPointer);
  await new Promise((resolve) => setTimeout(resolve, 2100));
  assert.equal(Buffer.from((await stores.htmlStore.read(name))?.body ?? []).toString(), body);
  slow.proceed();
  // The render's own error is not hidden by that of giving the lease back.
  await assert.rejects(rendering, { isOutage: true });
  await until(
    async () => stores.reports,
    (reports) => reports.length > 0,
  );
  assert.deepEqual(
    stores.reports.map(({ type }) => type),
    ['notReleased'],
  );
  await coordinator.restart();
  await until(
    () => app.serve(KEY, unrendered),
    ({ state }) => state === 'hit',
  );
  assert.equal(shown(await app.serve('third', showing('new'))), 'miss: new');
});

async function rememberedBy(app: FaceApp, cacheKey: string): Promise<MetaRecord> {
  const record = app.lastKnown(cacheKey);
  assert.ok(record);
  return record;
}

test('a hit costs one lookup, and no stream of its body once this process knows it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  await appOn(t, coordinator).app.serve(KEY, showing('page'));
  const handle = counting(t, coordinator);
  const { app } = appOn(t, coordinator, { coordinator: handle });
  const together = await Promise.all(Array.from({ length: 20 }, () => app.serve(KEY, unrendered)));
  assert.ok(together.every(({ state }) => state === 'hit'));
  assert.equal(handle.objects, 1);
  const before = handle.lookups;
  for (let visit = 0; visit < 20; visit += 1) {
    assert.equal(shown(await app.serve(KEY, unrendered)), 'hit: page');
  }
  assert.deepEqual([handle.objects, handle.lookups - before, handle.acquires], [1, 20, 0]);
});

test('a purged page is not served, not even by the process that has its bytes', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const { app, stores } = appOn(t, coordinator, { coordinatorTimeoutMs: 300 });
  await app.serve(KEY, showing('secret'));
  const record = await stores.metaStore.get(KEY);
  await handle.invalidate([{ key: KEY }], { depth: 'hard' });
  await until(
    () => stores.metaStore.get(KEY),
    (found) => found === null,
  );
  const name = String(record?.htmlPointer);
  assert.equal(await stores.htmlStore.read(name), null);
  await assert.rejects(app.serve(KEY, failing), /the template is broken/);
  // Not in an outage either, whatever record FaceTheory still remembers.
  await coordinator.kill();
  await assert.rejects(stores.htmlStore.read(name), { isOutage: true });
  await assert.rejects(app.serve(KEY, unrendered), { isOutage: true });
});

test('a body is kept whatever else is found to be purged, and not once its own page is', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const witness = coordinator.connect();
  const { app } = appOn(t, coordinator);
  for (const key of [KEY, 'other']) {
    await app.serve(key, showing('page'));
  }
  const handle = counting(t, coordinator);
  let meanwhile = async () => {};
  handle.serveObject = async (...args) => {
    const served = await Counting.prototype.serveObject.apply(handle, args);
    await meanwhile();
    return served;
  };
  for (const [purged, isKept] of [
    ['other', true],
    [KEY, false],
  ] as const) {
    const stores = storesOn(t, coordinator, { coordinator: handle });
    const name = String((await stores.metaStore.get(KEY))?.htmlPointer);
    meanwhile = async () => {
      await witness.invalidate([{ key: purged }], { depth: 'hard' });
      await until(
        () => stores.metaStore.get(purged),
        (found) => found === null,
      );
    };
    await stores.htmlStore.read(name);
    meanwhile = async () => {};
    handle.objects = 0;
    if (isKept) {
      await stores.metaStore.get(KEY);
    }
    assert.equal((await stores.htmlStore.read(name)) !== null, isKept, purged);
    assert.equal(handle.objects, isKept ? 0 : 1, purged);
  }
});

test('a page that is purged during a long render is not served in place of it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app, stores } = appOn(t, coordinator);
  await app.serve(KEY, showing('secret'));
  const { htmlPointer } = await rememberedBy(app, KEY);
  await coordinator.connect().invalidate([{ key: KEY }], { depth: 'hard' });
  // Nobody has asked for its record since: it ends to be served because that was too long ago.
  await until(
    () => stores.htmlStore.read(String(htmlPointer)),
    (found) => found === null,
  );
});

test('a page that a worker of another kind committed is served, and its successor by its own name', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const acquired = await handle.acquire({ key: KEY });
  assert.ok(acquired.outcome === 'granted');
  await acquired.lease.commit({ html: 'from elsewhere' });
  const { app, stores } = appOn(t, coordinator);
  for (let visit = 0; visit < 2; visit += 1) {
    assert.equal(shown(await app.serve(KEY, unrendered)), 'hit: from elsewhere');
  }
  await stores.metaStore.invalidate(KEY);
  const stale = await stores.metaStore.get(KEY);
  assert.equal(shown(await app.serve(KEY, failing)), 'stale: from elsewhere');
  assert.equal(shown(await app.serve(KEY, showing('own'))), 'miss: own');
  assert.equal(shown(await appOn(t, coordinator).app.serve(KEY, unrendered)), 'hit: own');
  // Its name stands for no other page.
  assert.equal(await storesOn(t, coordinator).htmlStore.read(String(stale?.htmlPointer)), null);
});

test('a page that did not change keeps its name, and one with another status has the new one', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app, stores } = appOn(t, coordinator);
  const answering = (status: number): Face => ({
    revalidateSeconds: HOUR,
    render: () => ({ html: 'same', status }),
  });
  await app.serve(KEY, answering(200));
  const first = await stores.metaStore.get(KEY);
  for (const status of [200, 410]) {
    await stores.metaStore.invalidate(KEY);
    assert.equal((await app.serve(KEY, answering(status))).state, 'miss');
    const kept = (await stores.metaStore.get(KEY))?.htmlPointer === first?.htmlPointer;
    assert.equal(kept, status === 200);
    for (const each of [app, appOn(t, coordinator).app]) {
      const hit = await each.serve(KEY, unrendered);
      assert.equal(shown(hit), 'hit: same');
      assert.equal(hit.status, status);
    }
  }
});

test('a body that is not found by its name is asked for by its page, which lets a lost one heal', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  await appOn(t, coordinator).app.serve(KEY, showing('page'));
  const handle = counting(t, coordinator);
  handle.serveObject = (tenant, name) =>
    Coordinator.prototype.serveObject.call(handle, tenant, `isr/${name}`);
  const { app, stores } = appOn(t, coordinator, { coordinator: handle });
  const record = await stores.metaStore.get(KEY);
  assert.equal(shown(await app.serve(KEY, unrendered)), 'hit: page');
  // A name of which nothing is known is asked for no further.
  assert.equal(
    await storesOn(t, coordinator, { coordinator: handle }).htmlStore.read(String(record?.htmlPointer)),
    null,
  );
});

test('what is checked of a page before it is served is not sent to those who are served otherwise', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app } = appOn(t, coordinator);
  const strictCsp = { inlineScripts: false, inlineStyles: false } as const;
  const csp = "default-src 'self'";
  const rendering = { html: 'about', csp, strictCsp };
  const face: Face = { revalidateSeconds: HOUR, render: () => rendering };
  const miss = await app.serve('default::/about?', face);
  assert.deepEqual((await app.serve('default::/about?', unrendered)).strictCsp, strictCsp);
  const pages = new PageServer({ coordinator: coordinator.connect() });
  const policy = { mode: 'blocking', revalidateSeconds: HOUR } as const;
  const response = await pages.servePage(new Request('http://site/about'), policy, () =>
    assert.fail('rendered'),
  );
  assert.equal(response.headers.get('x-isr-state'), 'hit');
  assert.equal(response.headers.get('content-security-policy'), csp);
  assert.equal(response.headers.get('etag'), miss.etag);
  assert.ok(![...response.headers.keys()].some((name) => name.startsWith('leasehold')));
});

test('an entity tag of the page is kept, and one that is none is replaced', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app } = appOn(t, coordinator);
  for (const [etag, kept] of [
    ['W/"v1"', 'W/"v1"'],
    ['v1', undefined],
    [`"${'x'.repeat(300)}"`, undefined],
  ] as const) {
    const face: Face = { revalidateSeconds: HOUR, render: () => ({ html: 'page', etag }) };
    assert.equal((await app.serve(etag, face)).state, 'miss');
    const hit = await app.serve(etag, unrendered);
    assert.match(String(hit.etag), kept === undefined ? /^"[0-9a-f]{32}"$/ : /^W\/"v1"$/);
  }
});

test('paths and tags that are said of a key invalidate its page', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const labels = (cacheKey: string) => ({ path: cacheKey.replace(/^default::|\?.*$/g, ''), tags: ['docs'] });
  const { app, stores } = appOn(t, coordinator, { labels });
  for (const scope of [{ tag: 'docs' }, { pathPrefix: '/blog' }]) {
    const key = 'default::/blog/one?';
    await app.serve(key, showing(JSON.stringify(scope)));
    await handle.invalidate([scope]);
    await until(
      () => stores.metaStore.get(key),
      (record) => record !== null && !isFresh(record, Date.now()),
    );
  }
});

test('a large page is uploaded ahead of its commit, with its sidecar', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { app } = appOn(t, coordinator);
  const html = Buffer.alloc(5 << 20, 'x');
  const data = 'y'.repeat(4 << 20);
  let dataUrl = '';
  const face: Face = {
    revalidateSeconds: HOUR,
    render: (url) => {
      dataUrl = url;
      return { html, data };
    },
  };
  assert.equal((await app.serve(KEY, face)).state, 'miss');
  const other = appOn(t, coordinator).app;
  assert.equal((await other.serve(KEY, unrendered)).body, html.toString());
  assert.equal((await other.serve(KEY, unrendered, dataUrl)).body, `"${data}"\n`);
});

test('what waits for its commit is bounded in bytes and in time', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const small = storesOn(t, coordinator, { uncommittedBytes: 100 });
  const write = (key: string, bytes: number) =>
    small.htmlStore.write({ key, body: Buffer.alloc(bytes, 'x') });
  const { lease } = await granted(small);
  const name = nameFor(KEY);
  await write(name, 60);
  await assert.rejects(write(nameFor(KEY), 41), /a body of 41 bytes cannot be kept .* allows 100/);
  // The same name again is the same body, not a further one.
  await write(name, 100);
  await small.metaStore.commitGeneration({ ...lease, ...said, htmlPointer: name });
  await write(nameFor(KEY), 100);

  const hasty = storesOn(t, coordinator, { uncommittedMs: 50 });
  const { lease: other } = await granted(hasty, 'another');
  const forgotten = nameFor('another');
  await hasty.htmlStore.write({ key: forgotten, body: Buffer.from('x') });
  await until(
    () => hasty.htmlStore.read(forgotten),
    (found) => found === null,
  );
  await assert.rejects(
    hasty.metaStore.commitGeneration({ ...other, ...said, htmlPointer: forgotten }),
    /was not written to the store that belongs to this one, or too long ago/,
  );
});

test('two renders of one page in one process keep their bodies apart', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const stores = storesOn(t, coordinator);
  const first = await granted(stores);
  const [firstName, secondName] = [nameFor(KEY), nameFor(KEY)];
  await stores.htmlStore.write({ key: firstName, body: Buffer.from('first') });
  await stores.metaStore.invalidate(KEY);
  const second = await granted(stores);
  await stores.htmlStore.write({ key: secondName, body: Buffer.from('second') });
  await stores.metaStore.releaseLease(first.lease);
  await stores.metaStore.commitGeneration({ ...second.lease, ...said, htmlPointer: secondName });
  assert.equal((await stores.metaStore.get(KEY))?.htmlPointer, secondName);
  assert.equal(await stores.htmlStore.read(firstName), null);
});

test('a name that was used before is refused, and the page stays', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const stores = storesOn(t, coordinator);
  const name = nameFor(KEY);
  for (const body of ['first', 'second']) {
    const { lease } = await granted(stores);
    await stores.htmlStore.write({ key: name, body: Buffer.from(body) });
    const commit = stores.metaStore.commitGeneration({ ...lease, ...said, htmlPointer: name });
    if (body === 'first') {
      await commit;
    } else {
      await assert.rejects(commit, { reason: 'OBJECT_CONFLICT' });
      await stores.metaStore.releaseLease(lease);
    }
    await stores.metaStore.invalidate(KEY);
  }
  assert.equal(Buffer.from((await stores.htmlStore.read(name))?.body ?? []).toString(), 'first');
});

test('a page that no coordinator has a name for is rendered each time, and not kept', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const uncommittedBytes = 100;
  const longKey = `default::/about?q=${'a'.repeat(5000)}`;
  const labels = (cacheKey: string) => ({
    path: cacheKey === 'of a long path' ? `/${'a'.repeat(3000)}` : '/a',
  });
  const { app, stores } = appOn(t, coordinator, { uncommittedBytes, labels });
  for (const key of [longKey, 'of a long path']) {
    for (let visit = 0; visit < 2; visit += 1) {
      assert.equal(await stores.metaStore.get(key), null);
      // Two of them do not fit in what waits for its commit.
      assert.equal(shown(await app.serve(key, showing('x'.repeat(60)))), `miss: ${'x'.repeat(60)}`);
      await assert.rejects(app.serve(key, failing), /the template is broken/);
    }
    const { lease } = await granted(stores, key);
    const htmlPointer = nameFor(key);
    await stores.htmlStore.write({ key: htmlPointer, body: Buffer.from('x'.repeat(60)) });
    await stores.metaStore.releaseLease(lease);
    const commit = stores.metaStore.commitGeneration({ ...lease, ...said, htmlPointer });
    await assert.rejects(commit, LeaseLostError);
  }
  assert.deepEqual(stores.reports, []);
});

test('the token of a lease is in the answer alone', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const stores = storesOn(t, coordinator);
  const { leaseToken, record, leaseOwner } = await acquire(stores);
  assert.ok(leaseToken);
  const secret = leaseToken.split('.')[0] ?? '';
  assert.equal(record.leaseOwner, leaseOwner);
  const htmlPointer = nameFor(KEY);
  const lease = { cacheKey: KEY, leaseOwner, leaseToken };
  const errors: unknown[] = [];
  const commit = () => stores.metaStore.commitGeneration({ ...lease, ...said, htmlPointer });
  errors.push(await commit().catch((error: unknown) => error));
  await stores.metaStore.releaseLease(lease);
  errors.push(await commit().catch((error: unknown) => error));
  assert.equal(errors.filter((error) => error instanceof Error).length, 2);
  for (const shownThing of [record, stores, ...errors]) {
    assert.ok(!inspect(shownThing, { depth: 9, showHidden: true }).includes(secret));
  }
});

test('a lease that cannot be given back costs its visitor no longer than an answer', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  let answer = () => {};
  const answered = new Promise<void>((resolve) => (answer = resolve));
  const silent = leasing(coordinator.connect(), (lease) => ({
    release: async (options) => {
      await answered;
      return lease.release(options);
    },
  }));
  const stores = storesOn(t, coordinator, { coordinator: silent, coordinatorTimeoutMs: 1000 });
  const { lease } = await granted(stores, KEY, 60_000);
  let isOver = false;
  const releasing = stores.metaStore.releaseLease(lease).finally(() => {
    isOver = true;
  });
  await until(
    async () => isOver,
    (over) => over,
  );
  // What is closed waits for it.
  const closing = stores.close();
  answer();
  await Promise.all([releasing, closing]);
  assert.equal((await acquire(storesOn(t, coordinator))).acquired, true);
});

test('stores that are closed give their leases back, and no render counts as failed', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  for (const backOff of [false, true]) {
    const closed = faceStores({ coordinator: { endpoint: coordinator.endpoint }, backOff });
    const key = `${KEY}${backOff}`;
    await granted(closed, key, 60_000);
    await closed.close();
    assert.equal((await acquire(storesOn(t, coordinator), key)).acquired, true);
  }
});
