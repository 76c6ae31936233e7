/** The render Lambda of the example, as it is bundled, on a real coordinator: the program that LEASEHOLD_BIN names. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

interface Answer {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}
type Handler = (event: unknown) => Promise<Answer>;

const BUNDLE = fileURLToPath(new URL('../../example/site/dist/index.cjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'leasehold-site-'));
let coordinator: ChildProcess;
let endpoint: string;

before(async () => {
  const program = process.env.LEASEHOLD_BIN;
  assert.ok(program, 'LEASEHOLD_BIN does not name a coordinator');
  const args = ['serve', '--listen', '127.0.0.1:0', '--data-dir', join(folder, 'data')];
  coordinator = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: coordinator.stdout ?? assert.fail() })) {
    const address = /listens on (127\.0\.0\.1:\d+)/.exec(line)?.[1];
    if (address) {
      endpoint = `http://${address}`;
      return;
    }
  }
  assert.fail('the coordinator did not say where it listens');
});

after(async () => {
  coordinator.kill('SIGKILL');
  await once(coordinator, 'exit');
  rmSync(folder, { recursive: true, force: true });
});

/** A new process of the Lambda, so to speak. */
function start(at = endpoint): Handler {
  const require = createRequire(import.meta.url);
  delete require.cache[BUNDLE];
  process.env.LEASEHOLD_ENDPOINT = at;
  return require(BUNDLE).handler;
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
