/** The render Lambda of the example, as it is bundled, on a real coordinator: the program that LEASEHOLD_BIN names. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';

interface Answer {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}
type Handler = (event: unknown) => Promise<Answer>;

const BUNDLE = fileURLToPath(new URL('../../example/site/dist/index.cjs', import.meta.url));
const SECRETS = fileURLToPath(new URL('../../example/secrets', import.meta.url));
const SECRET_ARN = 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:leasehold/render-token-AbCdEf';
const PROGRAM = process.env.LEASEHOLD_BIN;
const folder = mkdtempSync(join(tmpdir(), 'leasehold-site-'));
const running: ChildProcess[] = [];
let endpoint: string;

before(async () => {
  endpoint = `http://${await coordinate('open')}`;
});

after(async () => {
  for (const coordinator of running) {
    coordinator.kill('SIGKILL');
    await once(coordinator, 'exit');
  }
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a coordinator, and says where it listens. */
async function coordinate(name: string, environment: Readonly<Record<string, string>> = {}): Promise<string> {
  assert.ok(PROGRAM, 'LEASEHOLD_BIN does not name a coordinator');
  const args = ['serve', '--listen', '127.0.0.1:0', '--data-dir', join(folder, name)];
  const coordinator = spawn(PROGRAM, args, {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(coordinator);
  for await (const line of createInterface({ input: coordinator.stdout ?? assert.fail() })) {
    const address = /listens on (127\.0\.0\.1:\d+)/.exec(line)?.[1];
    if (address) {
      return address;
    }
  }
  return assert.fail('the coordinator did not say where it listens');
}

/** A new process of the Lambda, so to speak. */
function start(at = endpoint, environment: Readonly<Record<string, string>> = {}): Handler {
  const require = createRequire(import.meta.url);
  delete require.cache[BUNDLE];
  const given: Readonly<Record<string, string>> = { ...environment, LEASEHOLD_ENDPOINT: at };
  Object.assign(process.env, given);
  try {
    return require(BUNDLE).handler;
  } finally {
    for (const name of Object.keys(given)) {
      delete process.env[name];
    }
  }
}

/** What the coordinators of the example are given, as a script makes it, but for this machine. */
function made(name: string): (file: string) => string {
  const into = join(folder, name);
  execFileSync(SECRETS, [into, 'localhost'], { stdio: 'pipe' });
  return (file) => readFileSync(join(into, file), 'utf8');
}

/** A coordinator that asks for tokens, with its secrets in the variables that the stack puts them into. */
async function coordinateWithTokens(name: string, secretOf: (file: string) => string): Promise<string> {
  const address = await coordinate(name, {
    LEASEHOLD_AUTH: 'token',
    LEASEHOLD_POLICY_TOML: secretOf('policy.toml'),
    LEASEHOLD_TOKENS_TOML: secretOf('tokens.toml'),
    LEASEHOLD_TLS_CERT_PEM: secretOf('certificate.pem'),
    LEASEHOLD_TLS_KEY_PEM: secretOf('private-key.pem'),
  });
  return address.replace(/^[^:]+/, 'https://localhost');
}

/** Those of the site that are not everybody's. */
function variables(secretOf: (file: string) => string): Readonly<Record<string, string>> {
  return { LEASEHOLD_CA_PEM: secretOf('ca.pem'), LEASEHOLD_AUTH_TOKEN_SECRET_ARN: SECRET_ARN };
}

/** Secrets Manager, in so far as the site asks it: answers with these values of the one secret, the last one for ever. */
async function secretsManager(test: TestContext, ...values: string[]) {
  const asked: string[] = [];
  const server = createServer(async (request, response) => {
    const { SecretId } = JSON.parse(Buffer.concat(await request.toArray()).toString());
    asked.push(`${request.headers['x-amz-target']} ${SecretId}`);
    const value = values.length > 1 ? values.shift() : values[0];
    response.setHeader('content-type', 'application/x-amz-json-1.1');
    response.end(JSON.stringify({ ARN: SecretId, SecretString: value }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  // Read when it is asked, and not when the site is loaded.
  const ofLambda: Readonly<Record<string, string>> = {
    AWS_ENDPOINT_URL_SECRETS_MANAGER: `http://127.0.0.1:${port}`,
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'AKID',
    AWS_SECRET_ACCESS_KEY: 'secret',
  };
  Object.assign(process.env, ofLambda);
  test.after(() => {
    for (const name of Object.keys(ofLambda)) {
      delete process.env[name];
    }
    server.closeAllConnections();
    server.close();
  });
  return asked;
}

let signatures = 0;

/** As CloudFront has it ask a function URL, which signs every request anew. */
function get(rawPath: string, more: { query?: string; method?: string; body?: string } = {}) {
  signatures += 1;
  return {
    version: '2.0',
    rawPath,
    rawQueryString: more.query ?? '',
    headers: {
      host: 'abcdefgh.lambda-url.eu-west-1.on.aws',
      authorization: `AWS4-HMAC-SHA256 Credential=AKID/eu-west-1/lambda/aws4_request, Signature=${signatures}`,
      'x-amz-security-token': `token ${signatures}`,
      'x-amz-date': '20261122T000000Z',
    },
    requestContext: { http: { method: more.method ?? 'GET', path: rawPath } },
    ...(more.body !== undefined && { body: more.body }),
    isBase64Encoded: false,
  };
}

function text({ body }: Answer): string {
  return Buffer.from(body, 'base64').toString();
}

test('a page is rendered once, whoever signed for it, and whatever its query', async () => {
  const [one, another] = [start(), start()];
  const first = await one(get('/posts/once'));
  assert.deepEqual([first.statusCode, first.headers['x-isr-state']], [200, 'miss']);
  for (const handler of [one, another]) {
    const again = await handler(get('/posts/once', { query: 'utm_source=elsewhere' }));
    assert.deepEqual([again.headers['x-isr-state'], text(again)], ['hit', text(first)]);
  }
});

test('an editor declares pages out of date', async () => {
  const handler = start();
  const before = await handler(get('/posts/edited'));
  assert.deepEqual(await handler({ invalidate: ['post:edited'] }), { invalidated: 1 });
  const stale = await handler(get('/posts/edited'));
  assert.deepEqual([stale.headers['x-isr-state'], text(stale)], ['stale', text(before)]);
  // Rendered in the background, which has ended with the call.
  const fresh = await handler(get('/posts/edited'));
  assert.equal(fresh.headers['x-isr-state'], 'hit');
  assert.notEqual(text(fresh), text(before));
});

test('what is no page is answered, and not kept', async () => {
  const handler = start();
  assert.equal((await handler(get('/nothing-here'))).statusCode, 404);
  const posted = await handler(get('/posts/once', { method: 'POST', body: 'a=b' }));
  assert.deepEqual(
    [posted.statusCode, posted.headers.allow, posted.headers['cache-control']],
    [405, 'GET, HEAD', 'no-store'],
  );
});

test('without a coordinator, pages are rendered all the same', async () => {
  const handler = start('http://127.0.0.1:1');
  const page = await handler(get('/posts/once'));
  assert.deepEqual([page.statusCode, page.headers['x-isr-state']], [200, 'bypass']);
});

/** A visitor does not wait for a coordinator, or a token, that takes longer than usual: on a busy machine, either may. */
async function reached(handler: Handler): Promise<void> {
  for (let visit = 0; visit < 20; visit += 1) {
    const { headers } = await handler(get('/'));
    if (headers['x-isr-state'] !== 'bypass') {
      return;
    }
  }
  assert.fail('the coordinator is never reached');
}

const GET_SECRET = `secretsmanager.GetSecretValue ${SECRET_ARN}`;

test('the token is read from its one secret, once, and presented over TLS', async (test) => {
  const secretOf = made('secrets');
  const asked = await secretsManager(test, secretOf('render-token'));
  const at = await coordinateWithTokens('asks', secretOf);
  const handler = start(at, variables(secretOf));
  await reached(handler);
  const states = [];
  for (const path of ['/posts/guarded', '/posts/guarded', '/posts/other']) {
    states.push((await handler(get(path))).headers['x-isr-state']);
  }
  assert.deepEqual(states, ['miss', 'hit', 'miss']);
  assert.deepEqual(await handler({ invalidate: ['posts'] }), { invalidated: 1 });
  assert.deepEqual(asked, [GET_SECRET]);
});

test('a token that was replaced is read anew when the coordinator refuses the one before', async (test) => {
  const secretOf = made('secrets-replaced');
  const before = made('secrets-before')('render-token');
  const asked = await secretsManager(test, before, `${secretOf('render-token')}\n`);
  const at = await coordinateWithTokens('replaced', secretOf);
  await reached(start(at, variables(secretOf)));
  assert.deepEqual(asked, [GET_SECRET, GET_SECRET]);
});

test('without a token that the coordinator knows, pages are rendered all the same, and not kept', async (test) => {
  const secretOf = made('secrets-unknown');
  await secretsManager(test, 'a-token-of-nobody');
  const at = await coordinateWithTokens('unknown', secretOf);
  const handler = start(at, variables(secretOf));
  for (const _ of [1, 2]) {
    const page = await handler(get('/posts/guarded'));
    assert.deepEqual([page.statusCode, page.headers['x-isr-state']], [200, 'bypass']);
  }
});

test("operators' commands are known by their token, and make the first page", async () => {
  const secretOf = made('secrets-operator');
  const at = await coordinateWithTokens('operator', secretOf);
  const leasehold = (args: string[], token: string) => {
    const environment = {
      LEASEHOLD_ENDPOINT: at,
      LEASEHOLD_CA_PEM: secretOf('ca.pem'),
      LEASEHOLD_AUTH_TOKEN: token,
    };
    const ended = spawnSync(PROGRAM ?? '', [...args, '--timeout', '60s'], {
      env: { ...process.env, ...environment },
      encoding: 'utf8',
    });
    return { status: ended.status, said: ended.stdout + ended.stderr };
  };
  const token = secretOf('operator-token');
  const lookup = ['lookup', 'first', '--tenant', 'site'];
  const missing = leasehold(lookup, token);
  assert.equal(missing.status, 3, missing.said);
  const commit = ['commit', 'first', '--tenant', 'site', '--html', '/proc/version', '--revalidate', '60s'];
  const committed = leasehold(commit, token);
  assert.equal(committed.status, 0, committed.said);
  const found = leasehold(lookup, token);
  assert.deepEqual([found.status, /fresh/.test(found.said)], [0, true], found.said);
  // What the render Lambda is known by is for its tenant alone.
  const refused = leasehold(['lookup', 'first', '--tenant', 'other'], secretOf('render-token'));
  assert.deepEqual([refused.status, /PERMISSION_DENIED/.test(refused.said)], [1, true], refused.said);
});
