import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { CoordinatorServiceService as Service } from '../src/generated/leasehold/v1/coordinator.js';
import {
  type Coordinator,
  type Lease,
  LeaseholdError,
  RequestId,
  serviceConfig,
  type WatchEvent,
} from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';

async function granted(coordinator: Coordinator, key: string): Promise<Lease> {
  const acquired = await coordinator.acquire({ key });
  assert.ok(acquired.outcome === 'granted', acquired.outcome);
  return acquired.lease;
}

test('a page is rendered by one worker, waited for by another, and found by a third', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const [a, b, c] = [coordinator.connect({ owner: 'a' }), coordinator.connect(), coordinator.connect()];
  const entry = { key: 'acme::/about?', tenant: 'acme', path: '/about' };
  assert.equal((await a.lookup(entry)).outcome, 'missing');
  const acquired = await a.acquire(entry);
  assert.ok(acquired.outcome === 'granted');
  const held = await b.acquire(entry);
  assert.ok(held.outcome === 'held');
  assert.deepEqual([held.regeneration.owner, held.previous], ['a', undefined]);
  const waiting = b.acquire(entry, { waitMs: 30_000, body: 'inline' });
  const html = await acquired.lease.renewWhile(async () => '<h1>About</h1>');
  const metadata = {
    revalidateMs: 60_000,
    tags: ['docs'],
    headers: [['x-a', 'b']] as const,
    renderTimeMs: 1.5,
  };
  const committed = await acquired.lease.commit({ html, sidecar: '{"a":1}', metadata });
  assert.ok(committed.outcome === 'committed' && committed.sidecarToken);
  const ready = await waiting;
  assert.ok(ready.outcome === 'ready' && ready.page.body.delivery === 'inline');
  assert.equal(Buffer.from(ready.page.body.bytes).toString(), '<h1>About</h1>');
  const found = await c.lookup(entry, { knownGeneration: acquired.lease.generation, body: 'inline' });
  assert.ok(found.outcome === 'fresh' && found.freshForMs && found.freshForMs > 50_000);
  assert.equal(found.page.body.delivery, 'unchanged');
  assert.deepEqual(found.page.metadata.headers, [['x-a', 'b']]);
  assert.deepEqual([found.page.metadata.tags, found.page.metadata.renderTimeMs], [['docs'], 1.5]);
  const sidecar = await c.serveSidecar(entry, committed.sidecarToken);
  assert.equal(Buffer.from(await sidecar.body.collect(100)).toString(), '{"a":1}');
  assert.equal(sidecar.contentType, 'application/json');
});

test('a failed render is backed off from, and the previous page stays', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '30s');
  const handle = coordinator.connect();
  const first = await granted(handle, 'k');
  await first.commit({ html: 'page', metadata: { revalidateMs: 0 } });
  const second = await granted(handle, 'k');
  assert.equal(second.previous?.reason, 'expired');
  assert.deepEqual(await second.fail('the template\nis broken'), { outcome: 'released' });
  const paused = await handle.acquire({ key: 'k' });
  assert.ok(paused.outcome === 'backingOff');
  assert.deepEqual([paused.failures, paused.reason], [1, 'the template is broken']);
  assert.ok(paused.remainingMs > 0 && paused.previous);
});

test('a worker that was overtaken is told so', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const late = await granted(handle, 'k');
  await handle.invalidate([{ key: 'k' }], { depth: 'hard' });
  const next = await handle.acquire({ key: 'k' }, { waitMs: 5000 });
  assert.ok(next.outcome === 'granted');
  assert.deepEqual(await late.renew(), { outcome: 'lost' });
  const fenced = await late.commit({ html: 'late' });
  assert.deepEqual(fenced, { outcome: 'fenced', latestGeneration: next.lease.generation });
  assert.equal((await next.lease.commit({ html: 'new' })).outcome, 'committed');
  const superseded = await late.commit({ html: 'late' });
  assert.deepEqual(superseded, { outcome: 'superseded', currentGeneration: next.lease.generation });
  assert.deepEqual(await late.release(), { outcome: 'notHeld' });
});

test('a commit that an invalidation overtook says so', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const lease = await granted(handle, 'k');
  const token = await handle.invalidate([{ tag: 'docs' }]);
  const committed = await lease.commit({ html: 'old', metadata: { tags: ['docs'] } });
  assert.ok(committed.outcome === 'committedStale' && !committed.purged);
  const found = await handle.lookup({ key: 'k' }, { consistencyToken: token });
  assert.ok(found.outcome === 'stale' && found.reason === 'invalidated');
});

test('an acquire is repeated by another process, and its lease adopted', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const [died, heir] = [coordinator.connect(), coordinator.connect()];
  const requestId = RequestId.random();
  const first = await died.acquire({ key: 'k' }, { requestId });
  assert.ok(first.outcome === 'granted');
  const again = await heir.acquire({ key: 'k' }, { requestId: RequestId.from(requestId.expose()) });
  assert.ok(again.outcome === 'granted');
  assert.equal(again.lease.generation, first.lease.generation);
  const adopted = heir.adoptLease({ key: 'k' }, requestId, first.lease.generation);
  assert.equal((await adopted.commit({ html: 'page' })).outcome, 'committed');
  assert.equal((await heir.acquire({ key: 'k' }, { requestId })).outcome, 'ended');
});

test('a commit tells which name an unchanged body keeps', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  await (await granted(handle, 'k')).commit({ html: 'same', htmlName: 'first.html' });
  for (const [htmlName, overtaken] of [
    ['again.html', false],
    ['overtaken.html', true],
  ] as const) {
    await handle.invalidate([{ key: 'k' }]);
    const lease = await granted(handle, 'k');
    if (overtaken) {
      await handle.invalidate([{ key: 'k' }]);
    }
    const committed = await lease.commit({ html: 'same', htmlName });
    assert.ok(committed.outcome === (overtaken ? 'committedStale' : 'committed'));
    assert.deepEqual([committed.htmlName, committed.sidecarName], ['first.html', undefined]);
  }
});

test('bodies are read back by the names that their worker gave them, uploaded or not', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  for (const html of ['small', 'x'.repeat(4 << 20)]) {
    const entry = { key: `k${html.length}`, tenant: 'acme' };
    const [htmlName, sidecarName] = [`isr/${entry.key}.html`, `isr/${entry.key}.hydration.json`];
    const acquired = await handle.acquire(entry);
    assert.ok(acquired.outcome === 'granted');
    const committed = await acquired.lease.commit({ html, sidecar: '{}', htmlName, sidecarName });
    assert.ok(committed.outcome === 'committed');
    assert.deepEqual([committed.htmlName, committed.sidecarName], [htmlName, sidecarName]);
    const found = await handle.lookup(entry);
    assert.ok(found.outcome === 'fresh');
    assert.deepEqual([found.page.htmlName, found.page.sidecarName], [htmlName, sidecarName]);
    const served = await handle.serveObject('acme', htmlName);
    assert.deepEqual([served.kind, served.sizeBytes], ['html', html.length]);
    assert.deepEqual(Buffer.from(served.digest), Buffer.from(found.page.digest));
    assert.equal(Buffer.from(await served.body.collect(html.length)).toString(), html);
    const sidecar = await handle.serveObject('acme', sidecarName);
    assert.equal(sidecar.kind, 'sidecar');
    assert.equal(Buffer.from(await sidecar.body.collect(2)).toString(), '{}');
    await assert.rejects(handle.serveObject('', htmlName), { reason: 'OBJECT_NOT_FOUND' });
    const beyond = { consistencyToken: 'c1-1000' };
    const unknown = { reason: 'CONSISTENCY_TOKEN_UNKNOWN' };
    await assert.rejects(handle.serveObject('acme', htmlName, beyond), unknown);
  }
  const lease = await granted(handle, 'uploaded');
  const upload = await lease.upload('html', 'ahead', { name: 'ahead.html' });
  assert.ok(upload.outcome === 'stored');
  await lease.commit({ html: upload.body, htmlName: 'ahead.html' });
  const ahead = await handle.serveObject('', 'ahead.html');
  assert.equal(Buffer.from(await ahead.body.collect(5)).toString(), 'ahead');
  const other = await granted(handle, 'other');
  await assert.rejects(other.commit({ html: 'ahead', htmlName: 'ahead.html' }), {
    reason: 'OBJECT_CONFLICT',
  });
});

test('bodies that fit no message are uploaded, and streamed back', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const lease = await granted(handle, 'k');
  const html = Buffer.alloc(7 << 20, 'x');
  const sidecar = Buffer.alloc(4 << 20, 'y');
  assert.equal((await lease.commit({ html, sidecar })).outcome, 'committed');
  const found = await handle.lookup({ key: 'k' }, { body: 'inline' });
  assert.ok(found.outcome === 'fresh' && found.page.body.delivery === 'tooLarge');
  const served = await handle.servePage({ key: 'k' });
  assert.ok(html.equals(await served.body.collect(8 << 20)));
  const tooLarge = await handle.servePage({ key: 'k' });
  await assert.rejects(tooLarge.body.collect(1 << 20), { kind: 'bodyTooLarge' });
  const token = found.page.sidecarToken;
  assert.ok(token);
  assert.ok(sidecar.equals(await (await handle.serveSidecar({ key: 'k' }, token)).body.collect(5 << 20)));
});

test('a watch goes on where it stood when the coordinator is lost, or says that it cannot', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const watch = handle.watch([{ wholeTenant: true }]);
  const next = async (): Promise<WatchEvent> => {
    const message = await watch.next();
    assert.ok(!message.done);
    return message.value.event;
  };
  assert.equal((await next()).type, 'started');
  await handle.invalidate([{ tag: 'one' }, { pathPrefix: '/a' }], { depth: 'hard' });
  const first = await next();
  assert.ok(first.type === 'invalidated' && first.depth === 'hard');
  assert.deepEqual(first.scopes, [
    { tenant: 'default', tag: 'one' },
    { tenant: 'default', pathPrefix: '/a' },
  ]);
  await coordinator.restart();
  const seen = [await next(), await next()];
  assert.deepEqual(seen, [{ type: 'resync', reason: 'otherRun' }, { type: 'started' }].sort(byFirst(seen)));
  await (await granted(handle, 'k')).commit({ html: 'page', metadata: { tags: ['t'] } });
  const committed = await next();
  assert.ok(committed.type === 'committed');
  assert.deepEqual([committed.key, committed.tags, committed.stale], ['k', ['t'], false]);
  const pending = watch.next();
  await watch.return();
  assert.deepEqual(await pending, { done: true, value: undefined });
});

test('a watch that is ended while it connects is over, here and at the coordinator', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--max-watches', '1');
  const handle = coordinator.connect({ timeoutMs: 5000 });
  const over = { done: true, value: undefined };
  const watch = handle.watch([{ wholeTenant: true }]);
  const pending = watch.next();
  assert.deepEqual(await watch.return(), over);
  assert.deepEqual([await pending, await watch.next()], [over, over]);
  // There is room for one.
  await using another = handle.watch([{ wholeTenant: true }]);
  assert.equal((await another.next()).value?.event.type, 'started');
  const abort = new AbortController();
  const aborted = handle.watch([{ wholeTenant: true }], { signal: abort.signal });
  const waiting = aborted.next();
  abort.abort(new Error('enough'));
  await assert.rejects(waiting, /enough/);
  assert.deepEqual(await aborted.next(), over);
});

test('a watch that is ended while no coordinator is there does not try on', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect({ timeoutMs: 60_000 });
  await coordinator.kill();
  const watch = handle.watch([{ wholeTenant: true }]);
  const pending = watch.next();
  await watch.return();
  const begun = performance.now();
  assert.deepEqual(await pending, { done: true, value: undefined });
  assert.ok(performance.now() - begun < 30_000);
});

/** Whether a watch that stands again says first that it does, or that it has a gap, is the coordinator's choice. */
function byFirst(seen: readonly WatchEvent[]) {
  return (a: { type: string }) => (a.type === seen[0]?.type ? -1 : 1);
}

test('a signal ends a call that waits, here and at the coordinator', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const lease = await granted(handle, 'k');
  const abort = new AbortController();
  const waiting = handle.acquire({ key: 'k' }, { waitMs: 60_000, signal: abort.signal });
  setTimeout(() => abort.abort(new Error('enough')), 100);
  await assert.rejects(waiting, /enough/);
  await lease.release();
  // Were it still waiting, it would have been granted the lease by now, and held it.
  assert.equal((await handle.acquire({ key: 'k' }, { waitMs: 5000 })).outcome, 'granted');
  await assert.rejects(
    handle.lookup({ key: 'k' }, { signal: AbortSignal.abort(new Error('never')) }),
    /never/,
  );
});

test('many waiters leave room for the commit that they wait for', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--max-streams-per-connection', '100');
  const handle = coordinator.connect();
  const lease = await granted(handle, 'k');
  const waiters = Array.from({ length: 300 }, () => handle.acquire({ key: 'k' }, { waitMs: 30_000 }));
  assert.equal((await lease.commit({ html: 'page' })).outcome, 'committed');
  const outcomes = await Promise.all(waiters);
  assert.deepEqual(new Set(outcomes.map(({ outcome }) => outcome)), new Set(['ready']));
});

test('input that no coordinator takes is refused with the field that is wrong', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  await assert.rejects(handle.lookup({ key: '' }), (error) => {
    assert.ok(error instanceof LeaseholdError && !error.isRetryable);
    assert.deepEqual([error.kind, error.reason], ['refused', 'INVALID_FIELD']);
    assert.equal(error.refusal?.fields[0]?.field, 'entry.key');
    return true;
  });
  const boundary = { request: { route: '/a', headers: [['x-tenant-id', ['acme']]] as const } };
  await assert.rejects(handle.lookup(boundary), { reason: 'TENANT_BOUNDARY' });
  assert.equal((await handle.lookup({ ...boundary, tenant: 'acme' })).outcome, 'missing');
  await assert.rejects(handle.servePage({ key: 'nothing' }), { reason: 'PAGE_NOT_FOUND' });
});

test('requests with other credentials or cookies are other pages', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const request = { route: '/blog/{slug}', params: { slug: 'x' }, query: [['page', ['1']]] as const };
  const entry = { request: { ...request, cookies: [['sid', 'secret']] as const } };
  const acquired = await handle.acquire(entry);
  assert.ok(acquired.outcome === 'granted');
  await acquired.lease.commit({ html: 'mine' });
  assert.equal((await handle.lookup(entry)).outcome, 'fresh');
  assert.equal((await handle.lookup({ request })).outcome, 'missing');
  const indifferent = { request: { ...entry.request, cookieVariance: 'none' as const } };
  assert.equal((await handle.lookup(indifferent)).outcome, 'missing');
  const shown = inspect(acquired.lease, { depth: null }) + JSON.stringify(acquired.lease);
  assert.ok(shown.includes('/blog/{slug}') && !shown.includes('secret'), shown);
});

test('the request id of a lease shows in neither logs nor JSON', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const requestId = RequestId.from(new Uint8Array(16).fill(0xab));
  const acquired = await handle.acquire({ key: 'k' }, { requestId });
  const shown =
    inspect(acquired, { depth: null, showHidden: true }) + inspect(handle, { depth: null, showHidden: true });
  // Two of its bytes in a row: in hex, in decimal (also as `"0":171,"1":171`), in base64. A single `171` is in
  // what remains of a lease now and then.
  const leaked = /ab,? ?ab|171\D+(\d\D+)?171|q6ur/;
  const exposed = requestId.expose();
  assert.match(inspect(exposed), leaked);
  assert.match(JSON.stringify(exposed), leaked);
  assert.doesNotMatch(shown + JSON.stringify((acquired as { lease: Lease }).lease), leaked);
});

test('a channel of gRPC itself takes the service config', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const client = new Client(coordinator.endpoint.replace('http://', ''), credentials.createInsecure(), {
    'grpc.service_config': JSON.stringify(serviceConfig),
  });
  t.after(() => client.close());
  const { path, requestSerialize, responseDeserialize } = Service.invalidate;
  const code = await new Promise((resolve, reject) => {
    const message = { requestId: Buffer.alloc(16, 7), scopes: [], depth: 0 as const };
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      message,
      (error: ServiceError | null) =>
        error ? resolve(error.code) : reject(new Error('an invalidation of nothing was taken')),
    );
  });
  assert.equal(code, 3);
});

test('a connection that is replaced while calls are being made fails none of them', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  for (let round = 0; round < 50; round += 1) {
    await handle.health();
    // Between the wish to make a call and the call, and later and later.
    const calls = [handle.lookup({ key: 'k' }), handle.lookup({ key: 'k' })];
    for (let step = 0; step < round % 5; step += 1) {
      await undefined;
    }
    handle.close();
    calls.push(handle.lookup({ key: 'k' }));
    const outcomes = await Promise.all(calls);
    assert.deepEqual(new Set(outcomes.map(({ outcome }) => outcome)), new Set(['missing']));
  }
});
