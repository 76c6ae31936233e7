import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { type handleUnaryCall, Server, ServerCredentials, status } from '@grpc/grpc-js';
import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../src/generated/grpc/health/v1/health.js';
import { Coordinator, LeaseholdError, Security, type SecurityOptions, type Token } from '../src/index.js';
import { Authority } from './certificates.js';

const SECRET = 'xyzzy-a-secret';

/** Something that answers after its health, and keeps what it was presented with. */
async function listening(t: TestContext, isAccepted: (header: string | undefined) => boolean = () => true) {
  const presented: (string | undefined)[] = [];
  const server = new Server();
  const check: handleUnaryCall<HealthCheckRequest, HealthCheckResponse> = (call, answer) => {
    const header = call.metadata.get('authorization')[0]?.toString();
    presented.push(header);
    if (isAccepted(header)) {
      answer(null, { status: ServingStatus.SERVING });
    } else {
      answer({ code: status.UNAUTHENTICATED, details: 'who is it?' });
    }
  };
  server.addService(HealthService, { check });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  t.after(() => server.forceShutdown());
  const connect = (security: SecurityOptions, options = {}) => {
    const handle = new Coordinator({ endpoint: `http://127.0.0.1:${port}`, security, ...options });
    t.after(() => handle.close());
    return handle;
  };
  return { presented, connect };
}

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'leasehold-token-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** A clock that stands still where it is not set forward: a busy machine must not make of it what is shown. */
function clock(t: TestContext) {
  const startedAt = performance.now();
  const ahead = { ms: 0 };
  t.mock.method(performance, 'now', () => startedAt + ahead.ms);
  return ahead;
}

test('a call that is refused is tried once more where there may be another token', async (t) => {
  const { presented, connect } = await listening(t, () => false);
  const at = join(folder(t), 'token');
  writeFileSync(at, 'b');
  let count = 0;
  const table: [SecurityOptions, presented: (string | undefined)[]][] = [
    [{}, [undefined]],
    [{ token: 'a' }, ['Bearer a']],
    [{ tokenFile: at }, ['Bearer b', 'Bearer b']],
    [{ tokenSource: () => ({ value: `c${count++}` }) }, ['Bearer c0', 'Bearer c1']],
  ];
  for (const [security, expected] of table) {
    presented.length = 0;
    await assert.rejects(connect(security).health(), {
      kind: 'refused',
      isRetryable: false,
      mayHaveBeenApplied: false,
    });
    assert.deepEqual(presented, expected);
  }
});

test('a source is asked once for all calls that need a token, and only when they do', async (t) => {
  const { connect } = await listening(t);
  let asked = 0;
  let answer: (token: Token) => void = () => {};
  const handle = connect({
    tokenSource: () => {
      asked += 1;
      return new Promise((resolve) => (answer = resolve));
    },
  });
  assert.equal(asked, 0);
  const ending = new AbortController();
  const left = handle.health({ signal: ending.signal });
  const calls = Array.from({ length: 20 }, () => handle.health());
  ending.abort(new Error('gone'));
  await assert.rejects(left, { message: 'gone' });
  answer({ value: 'a' });
  await Promise.all(calls);
  await handle.health();
  assert.equal(asked, 1);
});

test('a token is renewed before its end: a minute, or a third of a short life', async (t) => {
  const { presented, connect } = await listening(t);
  const ahead = clock(t);
  for (const [lifeMs, keptForMs, renewedAfterMs] of [
    [600_000, 539_999, 540_000],
    [30_000, 19_999, 20_000],
  ] as const) {
    presented.length = 0;
    ahead.ms = 0;
    let count = 0;
    const unanswered: (() => void)[] = [];
    const handle = connect({
      tokenSource: async () => {
        if (count > 0) {
          await new Promise<void>((resolve) => unanswered.push(resolve));
        }
        return { value: `t${count++}`, expiresInMs: lifeMs };
      },
    });
    await handle.health();
    ahead.ms = keptForMs;
    await handle.health();
    assert.equal(unanswered.length, 0);
    ahead.ms = renewedAfterMs;
    // It still holds: nobody waits for the next one.
    await handle.health();
    assert.equal(unanswered.length, 1);
    unanswered.pop()?.();
    await new Promise(setImmediate);
    await handle.health();
    // Over, it is not presented any more.
    ahead.ms = renewedAfterMs + 2 * lifeMs;
    const waiting = handle.health();
    await new Promise(setImmediate);
    assert.equal(unanswered.length, 1);
    unanswered.pop()?.();
    await waiting;
    assert.deepEqual(presented, ['Bearer t0', 'Bearer t0', 'Bearer t0', 'Bearer t1', 'Bearer t2']);
  }
});

test('while a token holds, its source may fail', async (t) => {
  const { presented, connect } = await listening(t);
  const ahead = clock(t);
  let asked = 0;
  const handle = connect({
    tokenSource: () => {
      asked += 1;
      if (asked > 1) {
        throw new Error('down');
      }
      return { value: 'a', expiresInMs: 600_000 };
    },
  });
  await handle.health();
  ahead.ms = 550_000;
  await handle.health();
  await new Promise(setImmediate);
  // Left alone for a second.
  await handle.health();
  assert.equal(asked, 2);
  ahead.ms = 551_000;
  await handle.health();
  assert.equal(asked, 3);
  ahead.ms = 600_000;
  await assert.rejects(handle.health(), { reason: 'UNAUTHENTICATED', message: /down/ });
  assert.deepEqual(presented, Array(4).fill('Bearer a'));
});

test('a file of a token is read anew every ten seconds', async (t) => {
  const { presented, connect } = await listening(t);
  const ahead = clock(t);
  const tokenFile = join(folder(t), 'token');
  const handle = connect({ tokenFile });
  for (const [text, atMs] of [
    [' a\n', 0],
    ['b', 9999],
    ['c', 10_000],
  ] as const) {
    writeFileSync(tokenFile, text);
    ahead.ms = atMs;
    await handle.health();
  }
  assert.deepEqual(presented, ['Bearer a', 'Bearer a', 'Bearer c']);
});

test('a call without a token to present is not sent', async (t) => {
  const { presented, connect } = await listening(t);
  // biome-ignore lint/suspicious/noExplicitAny: what plain JavaScript may answer
  const answering = (answer: any) => ({ tokenSource: async () => answer });
  const table: [SecurityOptions, why: RegExp, timeoutMs?: number][] = [
    [{ tokenFile: join(folder(t), SECRET) }, /its file cannot be read: ENOENT/],
    [{ tokenSource: () => Promise.reject(new Error('no network')) }, /its source failed: no network/],
    [{ tokenSource: () => new Promise(() => {}) }, /did not answer within \d+ ms/, 50],
    [answering({ value: `${SECRET},` }), /visible ASCII without commas/],
    [answering({ value: '' }), /not empty/],
    [answering(SECRET), /token: must be an object, not text/],
    [answering({ value: SECRET, expiresInMs: -1 }), /token\.expiresInMs: must be/],
    [{ tokenSource: () => Promise.reject(SECRET) }, /what is no error/],
  ];
  for (const [security, why, timeoutMs] of table) {
    await assert.rejects(connect(security, { timeoutMs }).health(), (error) => {
      assert.ok(error instanceof LeaseholdError);
      assert.deepEqual(
        [error.reason, error.refusal?.code, error.refusal?.metadata],
        ['UNAUTHENTICATED', 'UNAUTHENTICATED', { source: 'client' }],
      );
      assert.deepEqual(
        [error.kind, error.mayHaveBeenApplied, error.isRetryable, error.isOutage],
        ['notSent', false, false, true],
      );
      assert.match(error.message, why);
      assert.doesNotMatch(inspect(error, { depth: null, showHidden: true }), new RegExp(SECRET));
      return true;
    });
  }
  assert.deepEqual(presented, []);
});

test('a source that hangs is given up after ten seconds', async (t) => {
  const { connect } = await listening(t);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const asked = new EventTarget();
  const begun = once(asked, 'asked');
  const tokenSource = () => {
    asked.dispatchEvent(new Event('asked'));
    return new Promise<Token>(() => {});
  };
  const call = assert.rejects(connect({ tokenSource }).health(), { message: /within 10000 ms/ });
  await begun;
  t.mock.timers.tick(10_000);
  await call;
});

test('a security that contradicts itself or would have no effect is refused with its field', (t) => {
  const authority = new Authority(t);
  const { certificate, key } = authority.certify('DNS:a');
  const other = authority.certify('DNS:b');
  const missing = join(folder(t), 'missing');
  const [plain, tls] = ['http://127.0.0.1:1', 'https://127.0.0.1:1'];
  const own = { clientCertificatePem: certificate, clientKeyPem: key };
  // biome-ignore lint/suspicious/noExplicitAny: what plain JavaScript may hand over
  const table: [endpoint: string, security: any, field: string, allowed: RegExp][] = [
    [plain, { caPem: authority.pem }, 'caPem', /no effect.*https/],
    [plain, { caFile: 'a' }, 'caFile', /no effect.*https/],
    [plain, own, 'clientCertificatePem', /no effect.*https/],
    [plain, { serverName: 'a' }, 'serverName', /no effect.*https/],
    [tls, { caPem: 'a', caFile: 'a' }, 'caFile', /excludes options.security.caPem/],
    [tls, { clientCertificatePem: certificate }, 'clientKeyPem', /is missing/],
    [tls, { clientKeyFile: 'a' }, 'clientCertificateFile', /is missing/],
    [tls, { caPem: SECRET }, 'caPem', /PEM/],
    [tls, { caPem: authority.pem.replace(/M/g, '!') }, 'caPem', /cannot be read/],
    [tls, { caFile: missing }, 'caFile', /ENOENT/],
    [tls, { caFile: '' }, 'caFile', /path of a file/],
    [tls, { clientCertificatePem: certificate, clientKeyPem: SECRET }, 'clientKeyPem', /PEM/],
    [tls, { clientCertificatePem: certificate, clientKeyFile: key }, 'clientKeyFile', /path of a file/],
    [tls, { clientCertificatePem: certificate, clientKeyPem: other.key }, 'clientKeyPem', /not the key/],
    [tls, { serverName: 'a:1' }, 'serverName', /host name/],
    [plain, { token: 'a', tokenFile: 'a' }, 'tokenFile', /excludes options.security.token;/],
    [plain, { tokenFile: 'a', tokenSource: () => {} }, 'tokenSource', /excludes/],
    [plain, { tokenSource: SECRET }, 'tokenSource', /must be a function, not text/],
    [plain, { tokne: SECRET }, 'tokne', /is no field/],
    ...['', 'a b', 'a\nb', 'a,b', 'é'].map(
      (token) => [plain, { token }, 'token', /visible ASCII without commas/] as const,
    ),
  ].map(([endpoint, security, field, allowed]) => [endpoint, security, field, allowed] as never);
  for (const [endpoint, security, field, allowed] of table) {
    assert.throws(
      () => new Coordinator({ endpoint, security }),
      (error) => {
        assert.ok(error instanceof LeaseholdError, String(error));
        assert.deepEqual([error.kind, error.field], ['configuration', `options.security.${field}`]);
        assert.match(error.message, allowed);
        assert.ok(!error.message.includes(SECRET) && !error.message.includes('PRIVATE KEY'), error.message);
        return true;
      },
    );
  }
});

test('what the environment contradicts itself in is named by its variable', () => {
  const table: [Record<string, string>, field: string][] = [
    [{ LEASEHOLD_CA: 'a', LEASEHOLD_CA_PEM: SECRET }, 'LEASEHOLD_CA'],
    [{ LEASEHOLD_AUTH_TOKEN: SECRET, LEASEHOLD_AUTH_TOKEN_FILE: 'b' }, 'LEASEHOLD_AUTH_TOKEN_FILE'],
    [{ LEASEHOLD_AUTH_TOKEN: `${SECRET},` }, 'LEASEHOLD_AUTH_TOKEN'],
    [{ LEASEHOLD_CLIENT_CERT: 'a' }, 'LEASEHOLD_CLIENT_KEY'],
    [{ LEASEHOLD_CLIENT_KEY: 'a', LEASEHOLD_CLIENT_CERT: '' }, 'LEASEHOLD_CLIENT_CERT'],
    [{ LEASEHOLD_CA: 'a' }, 'LEASEHOLD_CA'],
  ];
  for (const [variables, field] of table) {
    assert.throws(
      () => new Coordinator({ security: Security.fromEnvironment(variables) }),
      (error) => {
        assert.ok(error instanceof LeaseholdError, String(error));
        assert.deepEqual([error.kind, error.field], ['configuration', field]);
        assert.ok(!error.message.includes(SECRET), error.message);
        return true;
      },
    );
  }
  new Coordinator({ security: Security.fromEnvironment({}) }).close();
});

test('nothing that is secret shows', async (t) => {
  const { connect } = await listening(t, () => false);
  const security = new Security({ token: SECRET });
  const handle = new Coordinator({ endpoint: 'http://127.0.0.1:1', security });
  t.after(() => handle.close());
  const error = await connect({ tokenSource: () => ({ value: SECRET }) })
    .health()
    .catch((error) => error);
  for (const each of [security, handle, error]) {
    const shown = [`${each}`, JSON.stringify(each), inspect(each, { depth: null, showHidden: true })];
    assert.doesNotMatch(shown.join(' '), new RegExp(SECRET));
  }
});

test('what is refused for whose it is says nothing of earlier attempts', () => {
  const refused = (reason: 'UNAUTHENTICATED' | 'PERMISSION_DENIED' | 'INVALID_FIELD') =>
    LeaseholdError.refused({
      code: reason,
      reason,
      statedReason: reason,
      message: '',
      metadata: {},
      fields: [],
    });
  for (const [error, mayHaveBeenApplied] of [
    [refused('UNAUTHENTICATED'), true],
    [refused('PERMISSION_DENIED'), true],
    [LeaseholdError.noToken('none'), true],
    [refused('INVALID_FIELD'), false],
  ] as const) {
    assert.equal(error.afterAttempts(true).mayHaveBeenApplied, mayHaveBeenApplied);
    assert.equal(error.afterAttempts(false), error);
  }
});
