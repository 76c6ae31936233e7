import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { Breaker } from '../src/breaker.js';
import { LeaseholdError, REASONS } from '../src/error.js';
import { CommittedBodies } from '../src/face-bodies.js';
import { BadRequest, ErrorInfo, RetryInfo } from '../src/generated/google/rpc/error_details.js';
import { Status } from '../src/generated/google/rpc/status.js';
import { ErrorReason } from '../src/generated/leasehold/v1/coordinator.js';
import { RandomSource } from '../src/id.js';
import { DataCache, RequestId, SidecarToken, serviceConfig } from '../src/index.js';
import { LastKnown } from '../src/last-known.js';
import { parseEndpoint } from '../src/link.js';
import { copyOf, sizeOf } from '../src/rendered-page.js';
import { backoffMs, RetryBudget } from '../src/retry.js';
import { methodTerms } from '../src/service-config.js';
import { Uncached } from '../src/uncached.js';
import { milliseconds, toDuration } from '../src/wire.js';

interface Details {
  reason?: string;
  domain?: string;
  field?: string;
  retryAfterMs?: number;
}

/** What the channel reports of an error that came over the wire. */
function refused(code: status, details: Details = {}): LeaseholdError {
  const metadata = new Metadata();
  metadata.set('content-type', 'application/grpc');
  const packed: { typeUrl: string; value: Buffer }[] = [];
  const pack = (name: string, bytes: Uint8Array) =>
    packed.push({ typeUrl: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from(bytes) });
  if (details.reason) {
    const info = {
      reason: details.reason,
      domain: details.domain ?? 'leasehold',
      metadata: { limit: 'waiters' },
    };
    pack('ErrorInfo', ErrorInfo.encode(info).finish());
  }
  if (details.field) {
    const fieldViolations = [{ field: details.field, description: 'must not be empty' }];
    pack('BadRequest', BadRequest.encode({ fieldViolations }).finish());
  }
  if (details.retryAfterMs !== undefined) {
    const retryDelay = toDuration(details.retryAfterMs, 'retryAfterMs');
    pack('RetryInfo', RetryInfo.encode({ retryDelay }).finish());
  }
  if (packed.length > 0) {
    const bytes = Status.encode({ code, message: 'm', details: packed }).finish();
    metadata.set('grpc-status-details-bin', Buffer.from(bytes));
  }
  return LeaseholdError.fromStatus(serviceError(code, metadata));
}

function serviceError(code: status, metadata: Metadata): ServiceError {
  return Object.assign(new Error('m'), { code, details: 'm', metadata });
}

test('every reason of the contract says whether to retry and whether it may have been applied', () => {
  const table: [string, status, boolean, boolean][] = [
    ['INVALID_FIELD', status.INVALID_ARGUMENT, false, false],
    ['TENANT_BOUNDARY', status.FAILED_PRECONDITION, false, false],
    ['OBJECT_MISSING', status.FAILED_PRECONDITION, false, false],
    ['OBJECT_CONFLICT', status.FAILED_PRECONDITION, false, false],
    ['CONSISTENCY_TOKEN_UNKNOWN', status.FAILED_PRECONDITION, false, false],
    ['SIDECAR_NOT_FOUND', status.NOT_FOUND, false, false],
    ['PAGE_NOT_FOUND', status.NOT_FOUND, false, false],
    ['LIMIT_REACHED', status.RESOURCE_EXHAUSTED, true, false],
    ['STORE_UNAVAILABLE', status.UNAVAILABLE, true, false],
    ['OUTCOME_UNKNOWN', status.UNAVAILABLE, true, true],
    ['DRAINING', status.UNAVAILABLE, true, false],
    ['DEADLINE', status.DEADLINE_EXCEEDED, true, true],
    ['STORED_DATA_CORRUPT', status.DATA_LOSS, false, false],
    ['BODY_URL_UNSUPPORTED', status.UNIMPLEMENTED, false, false],
    ['INTERNAL', status.INTERNAL, false, true],
    ['OBJECT_NOT_FOUND', status.NOT_FOUND, false, false],
    ['UNAUTHENTICATED', status.UNAUTHENTICATED, false, false],
    ['PERMISSION_DENIED', status.PERMISSION_DENIED, false, false],
  ];
  for (const [reason, code, isRetryable, mayHaveBeenApplied] of table) {
    const error = refused(code, { reason });
    assert.deepEqual(
      { reason: error.reason, isRetryable: error.isRetryable, mayHaveBeenApplied: error.mayHaveBeenApplied },
      { reason, isRetryable, mayHaveBeenApplied },
    );
  }
  const inContract = Object.keys(ErrorReason)
    .filter((name) => name.startsWith('ERROR_REASON_') && name !== 'ERROR_REASON_UNSPECIFIED')
    .map((name) => name.slice('ERROR_REASON_'.length));
  assert.deepEqual(
    table.map(([reason]) => reason),
    inContract,
  );
  assert.deepEqual([...REASONS], inContract);
});

test('reasons from elsewhere are kept as text and judged by code', () => {
  const unknown = refused(status.UNAVAILABLE, { reason: 'NEW_REASON' });
  assert.deepEqual([unknown.reason, unknown.refusal?.statedReason], ['UNKNOWN', 'NEW_REASON']);
  assert.ok(unknown.isRetryable && unknown.mayHaveBeenApplied);
  const foreign = refused(status.INTERNAL, { reason: 'DRAINING', domain: 'other.example' });
  assert.deepEqual([foreign.reason, foreign.refusal?.statedReason], ['UNKNOWN', 'other.example/DRAINING']);
  assert.ok(!foreign.isRetryable);
});

test('statuses without a reason are judged by code', () => {
  const table: [status, boolean, boolean][] = [
    [status.UNAVAILABLE, true, true],
    [status.CANCELLED, true, true],
    [status.UNKNOWN, true, true],
    [status.DEADLINE_EXCEEDED, true, true],
    [status.UNIMPLEMENTED, false, false],
    [status.INVALID_ARGUMENT, false, false],
    [status.OUT_OF_RANGE, false, true],
    [status.INTERNAL, false, true],
  ];
  for (const [code, isRetryable, mayHaveBeenApplied] of table) {
    const error = refused(code);
    assert.deepEqual(
      [error.kind, error.reason, error.isRetryable, error.mayHaveBeenApplied],
      ['refused', 'UNSTATED', isRetryable, mayHaveBeenApplied],
      status[code],
    );
  }
});

test('what the channel says by itself is a broken connection, not a refusal', () => {
  for (const code of [status.UNAVAILABLE, status.INTERNAL, status.UNKNOWN, status.CANCELLED]) {
    const error = LeaseholdError.fromStatus(serviceError(code, new Metadata()));
    assert.deepEqual([error.kind, error.isRetryable, error.mayHaveBeenApplied], ['broken', true, true]);
  }
});

test('fields and the retry delay are read', () => {
  const { refusal } = refused(status.RESOURCE_EXHAUSTED, {
    reason: 'LIMIT_REACHED',
    field: 'entry.key',
    retryAfterMs: 250,
  });
  assert.deepEqual(refusal?.fields, [{ field: 'entry.key', description: 'must not be empty' }]);
  assert.equal(refusal?.retryAfterMs, 250);
  assert.equal(refusal?.metadata.limit, 'waiters');
});

test('doubt about an earlier attempt sticks unless the answer is final', () => {
  assert.equal(LeaseholdError.notSent().afterAttempts(true).mayHaveBeenApplied, true);
  assert.equal(LeaseholdError.notSent().afterAttempts(false).mayHaveBeenApplied, false);
  const final = refused(status.INVALID_ARGUMENT, { reason: 'INVALID_FIELD' });
  assert.equal(final.afterAttempts(true).mayHaveBeenApplied, false);
});

test('secrets show in neither logs nor JSON', () => {
  const bytes = new Uint8Array(16).fill(0xab);
  const secrets = { id: RequestId.from(bytes), token: new SidecarToken('c2VjcmV0') };
  for (const shown of [
    inspect(secrets, { depth: null, showHidden: true }),
    JSON.stringify(secrets),
    `${secrets.id} ${secrets.token}`,
  ]) {
    assert.ok(shown.includes('RequestId(..)') && shown.includes('SidecarToken(..)'), shown);
    assert.ok(!/ab, ?ab|abab|171|c2VjcmV0/.test(shown), shown);
  }
  assert.deepEqual(secrets.id.expose(), bytes);
  assert.throws(() => RequestId.from(new Uint8Array(15)), RangeError);
});

test('request ids are new for every intent', () => {
  assert.notDeepEqual(RequestId.random().expose(), RequestId.random().expose());
});

test('jitter stays between half and whole', () => {
  assert.equal(new RandomSource(() => 0).jittered(100), 50);
  assert.ok(new RandomSource(() => 0.999).jittered(100) < 100);
});

test('backoff grows up to its limit', () => {
  const backoff = { initialMs: 25, maxMs: 1000, multiplier: 2 };
  const pauses = [1, 2, 3, 4, 5, 6, 7, 8].map((failed) => backoffMs(backoff, failed));
  assert.deepEqual(pauses, [25, 50, 100, 200, 400, 800, 1000, 1000]);
  assert.equal(backoffMs(backoff, 1e9), 1000);
});

test('the retry budget is spent, and flows back with time and calls', () => {
  const budget = new RetryBudget({ burst: 2, perSecond: 1, perCall: 0.5 }, 0);
  assert.deepEqual([budget.withdraw(0), budget.withdraw(0), budget.withdraw(0)], [true, true, false]);
  assert.deepEqual([budget.withdraw(1000), budget.withdraw(1000)], [true, false]);
  budget.deposit();
  budget.deposit();
  assert.deepEqual([budget.withdraw(1000), budget.withdraw(1000)], [true, false]);
});

test('every call of the contract has an entry in the service config', () => {
  const proto = readFileSync(
    new URL('../../../../proto/leasehold/v1/coordinator.proto', import.meta.url),
    'utf8',
  );
  const methods = [...proto.matchAll(/^ {2}rpc (\w+)\(/gm)].map(([, name]) => name);
  assert.ok(methods.length >= 11);
  const named = serviceConfig.methodConfig.flatMap(({ name }) => name);
  assert.deepEqual(named.map(({ method }) => method).sort(), methods.sort());
  assert.ok(named.every(({ service }) => service === 'leasehold.v1.CoordinatorService'));
});

test('timeouts and pauses are those of the service config', () => {
  assert.deepEqual(methodTerms(serviceConfig, 'Lookup'), {
    timeoutMs: 20_000,
    backoff: { initialMs: 25, maxMs: 1000, multiplier: 2 },
  });
  // Its repetition must say that it is one, which a channel that repeats by itself cannot.
  assert.deepEqual(methodTerms(serviceConfig, 'AcquireLease'), { timeoutMs: 80_000 });
  // A deadline would end the whole stream.
  for (const method of ['Watch', 'LookupStream', 'ServePage', 'ServeSidecar', 'ServeObject']) {
    assert.equal(methodTerms(serviceConfig, method).timeoutMs, undefined);
  }
  const malformed = {
    methodConfig: [{ name: [{ service: 'leasehold.v1.CoordinatorService' }], timeout: '20' }],
  };
  assert.throws(() => methodTerms(malformed, 'Lookup'), { kind: 'configuration' });
});

test('endpoints that could not work are refused at once', () => {
  assert.equal(parseEndpoint('http://10.0.0.7:7420').target, 'dns:///10.0.0.7:7420');
  assert.equal(parseEndpoint('http://[::1]:7420/').target, 'dns:///[::1]:7420');
  assert.deepEqual(parseEndpoint('https://a'), { target: 'dns:///a:443', isTls: true });
  assert.deepEqual(parseEndpoint('http://a'), { target: 'dns:///a:80', isTls: false });
  for (const endpoint of [
    '10.0.0.7:7420',
    'ftp://a:1',
    'https://a:1/path',
    'http://a:1/path',
    'http://user@a:1',
    '',
  ]) {
    assert.throws(() => parseEndpoint(endpoint), { name: 'LeaseholdError', kind: 'configuration' }, endpoint);
  }
});

test('durations survive the wire, and what is none is refused', () => {
  for (const ms of [0, 1, 999.999999, 1000, 1500.25, 315_360_000_000]) {
    assert.equal(milliseconds(toDuration(ms, 'ms')), ms);
  }
  for (const ms of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => toDuration(ms, 'ttlMs'), { kind: 'configuration' });
  }
  assert.throws(() => milliseconds({ seconds: -1n, nanos: 0 }), { kind: 'protocol' });
});

test('the breaker opens after three failures, and tries again within half a second', () => {
  const breaker = new Breaker();
  assert.equal(breaker.ask(0), 'yes');
  breaker.failed(0, 'yes');
  breaker.failed(0, 'yes');
  assert.equal(breaker.ask(0), 'yes');
  breaker.failed(0, 'yes');
  assert.equal(breaker.ask(99), 'no');
  assert.equal(breaker.ask(100), 'trial');
  assert.equal(breaker.ask(100), 'no');
  let at = 100;
  for (let trial = 0; trial < 10; trial += 1) {
    breaker.failed(at, 'trial');
    const before = at;
    while (breaker.ask(at) === 'no') {
      at += 1;
    }
    assert.ok(at - before <= 500, `${at - before}`);
  }
  breaker.succeeded();
  assert.equal(breaker.ask(at), 'yes');
});

test('many calls that fail together do not keep the breaker open for longer', () => {
  const breaker = new Breaker();
  for (let call = 0; call < 100; call += 1) {
    breaker.failed(0, 'yes');
  }
  assert.equal(breaker.ask(100), 'trial');
});

test('a trial of which nothing is heard is not the last one', () => {
  const breaker = new Breaker();
  for (let call = 0; call < 3; call += 1) {
    breaker.failed(0, 'yes');
  }
  assert.equal(breaker.ask(200), 'trial');
  assert.equal(breaker.ask(700), 'trial');
});

test('last known values are bounded by bytes, and the least used go first', () => {
  const known = new LastKnown<string>(10_000, 60_000);
  known.set('a', 'A', 4000);
  known.set('b', 'B', 4000);
  known.get('a');
  known.set('c', 'C', 4000);
  assert.deepEqual([known.get('a'), known.get('b'), known.get('c')], ['A', undefined, 'C']);
  known.set('huge', 'H', 11_000);
  assert.deepEqual([known.get('huge'), known.get('a')], [undefined, 'A']);
  known.set('a', 'A2', 9000);
  assert.deepEqual([known.get('a'), known.get('c')], ['A2', undefined]);
  known.clear();
  known.set('d', 'D', 9000);
  assert.equal(known.get('d'), 'D');
});

test('last known values without a byte are bounded in number, and long names count', () => {
  for (const [name, most] of [
    ['', 100],
    ['x'.repeat(10_000), 5],
  ] as const) {
    const known = new LastKnown<number>(50_000, 60_000);
    const names = Array.from({ length: 1000 }, (_, number) => `${name}${number}`);
    for (const [number, each] of names.entries()) {
      known.set(each, number, 0);
    }
    const kept = names.filter((each) => known.get(each) !== undefined);
    assert.ok(kept.length > 0 && kept.length <= most, `${kept.length}`);
    assert.ok(kept.includes(names.at(-1)!));
  }
});

test('the headers of a page count, and its body', () => {
  const page = (html: string, header: string) => sizeOf(copyOf({ html, headers: [['x-a', header]] }));
  assert.equal(page('x'.repeat(1000), '') - page('', ''), 1000);
  assert.equal(page('', 'x'.repeat(1000)) - page('', ''), 1000);
});

function keep(bodies: CommittedBodies, name: string, bytes: Uint8Array): void {
  const coming = bodies.begin(name, undefined);
  bodies.keep(coming, { bytes, etag: '""' });
  bodies.end(coming);
}

test('bodies of FaceTheory without a byte are bounded in number', () => {
  const bodies = new CommittedBodies(50_000, 60_000);
  const names = Array.from({ length: 1000 }, (_, number) => `isr/folder/${number}.html`);
  for (const name of names) {
    keep(bodies, name, new Uint8Array());
  }
  const kept = names.filter((name) => bodies.get(name) !== undefined);
  assert.ok(kept.length > 0 && kept.length <= 100, `${kept.length}`);
});

test('what is forgotten of one key costs the same however much is kept of others', () => {
  const bodies = new CommittedBodies(64 << 20);
  const count = 30_000;
  const nameOf = (number: number) => {
    const folder = createHash('sha256').update(`key ${number}`).digest('hex').slice(0, 24);
    return `isr/${folder}/1.html`;
  };
  for (let number = 0; number < count; number += 1) {
    keep(bodies, nameOf(number), new Uint8Array());
  }
  // A look at each of the others, each time, would take a minute or so.
  const begun = performance.now();
  for (let number = 0; number < count; number += 2) {
    bodies.purge(`key ${number}`);
  }
  assert.ok(performance.now() - begun < 10_000);
  assert.deepEqual([bodies.get(nameOf(0)), bodies.get(nameOf(1))?.bytes.length], [undefined, 0]);
});

test("what came out as one caller's only is remembered, found out about by one, and forgotten", () => {
  const uncached = new Uncached(100);
  const way = (now: number) => uncached.way('k', now);
  assert.equal(way(0), 'usual');
  uncached.remember('k', 0);
  assert.deepEqual([way(99), uncached.isKnown('k', 99), uncached.isKnown('k', 100)], ['atOnce', true, false]);
  assert.deepEqual([way(100), way(100)], ['findingOut', 'atOnce']);
  uncached.found('k');
  assert.equal(way(199), 'findingOut');
  uncached.remember('k', 199);
  assert.equal(way(298), 'atOnce');
  assert.equal(way(399), 'usual');
  uncached.remember('k', 0);
  assert.equal(way(500), 'usual', 'after a pause');
  for (const forget of [() => uncached.forget('k'), () => uncached.clear()]) {
    uncached.remember('k', 500);
    forget();
    assert.equal(way(500), 'usual');
  }
  const never = new Uncached(0);
  never.remember('k', 0);
  assert.equal(never.way('k', 0), 'usual');
});

test('it is remembered of a limited number of keys, the newest ones', () => {
  const uncached = new Uncached(100);
  const keys = Array.from({ length: 10_000 }, (_, number) => `${number}`);
  for (const key of keys) {
    uncached.remember(key, 0);
  }
  const known = keys.filter((key) => uncached.isKnown(key, 1));
  assert.ok(known.length > 0 && known.length <= 4096, `${known.length}`);
  assert.equal(known.at(-1), keys.at(-1));
});

test('whoever waits is told once it is remembered of its key', () => {
  const uncached = new Uncached(100);
  const told: string[] = [];
  const first = uncached.onceKnown('k', () => told.push('first'));
  uncached.onceKnown('k', () => told.push('second'));
  uncached.onceKnown('other', () => told.push('other'));
  first.stop();
  uncached.remember('k', 0);
  assert.deepEqual(told, ['second']);
});

test('a namespace in which keys could meet is refused', () => {
  for (const namespace of ['', 'a:b', 'a b', 'x'.repeat(129)]) {
    assert.throws(() => new DataCache({ namespace }), { kind: 'configuration' });
  }
  for (const namespace of ['a', 'A_z.0-9', 'x'.repeat(128)]) {
    assert.doesNotThrow(() => new DataCache({ namespace }), namespace);
  }
});

test('ttls, bounds and keys that are none are refused', async () => {
  assert.throws(() => new DataCache({ staleBoundSeconds: Number.NaN }), { kind: 'configuration' });
  const cache = new DataCache({ staleBoundSeconds: () => Number.NaN });
  await assert.rejects(
    cache.withRevalidate('k', -1, () => 1),
    { kind: 'configuration' },
  );
  await assert.rejects(
    cache.withRevalidate('k', Number.NaN, () => 1),
    { kind: 'configuration' },
  );
  await assert.rejects(
    cache.withRevalidate('k', 1, () => 1),
    { kind: 'configuration' },
  );
  await assert.rejects(
    new DataCache().withRevalidate('\ud800', 1, () => 1),
    { kind: 'configuration' },
  );
});
