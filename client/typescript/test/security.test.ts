import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Coordinator, LeaseholdError, Security, type SecurityOptions } from '../src/index.js';
import { close, invalidateAll, withRevalidate } from '../src/isr.js';
import { Authority, type Certified } from './certificates.js';
import { CoordinatorProcess } from './coordinator-process.js';

const RENDERER = 'the-token-of-the-renderer-of-acme';
const NEXT = 'the-next-token-of-the-renderer-of-acme';
const READER = 'the-token-of-the-reader-of-acme';
const STRANGER = 'the-token-of-whom-no-rule-is-for';
const STRANGER_TO_ALL = 'a-token-that-nobody-knows-here';
const SPIFFE = 'URI:spiffe://shop/acme/render';

const POLICY = `
[[rule]]
principal = "render-{tenant}"
tenant = "{tenant}"
rights = ["read", "render", "invalidate"]
[[rule]]
principal = "spiffe://shop/{tenant}/render"
tenant = "{tenant}"
rights = ["read", "render", "invalidate"]
[[rule]]
principal = "reader"
tenants = ["acme"]
rights = ["read"]
`;

const tokens = (...pairs: [principal: string, secret: string][]) =>
  pairs
    .map(([principal, secret]) => `[[token]]\nprincipal = "${principal}"\nsecret = "${secret}"\n`)
    .join('');

/** Files for a coordinator and its callers. */
class Files {
  readonly #folder = mkdtempSync(join(tmpdir(), 'leasehold-security-'));

  constructor(t: TestContext) {
    t.after(() => rmSync(this.#folder, { recursive: true, force: true }));
    this.write('policy.toml', POLICY);
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  /** In one step, as whoever rotates files does: nobody reads half of one. */
  write(name: string, text: string): string {
    writeFileSync(this.path('new'), text);
    renameSync(this.path('new'), this.path(name));
    return this.path(name);
  }

  certified(name: string, { certificate, key }: Certified): void {
    this.write(`${name}.key`, key);
    this.write(`${name}.pem`, certificate);
  }

  /** With these flags, in which `@` stands for the folder of the files. */
  start(t: TestContext, flags: string): Promise<CoordinatorProcess> {
    const words = `--reload-interval 100ms ${flags}`.split(' ');
    return CoordinatorProcess.start(t, ...words.map((word) => word.replace('@', this.#folder)));
  }
}

async function byToken(t: TestContext): Promise<{ files: Files; coordinator: CoordinatorProcess }> {
  const files = new Files(t);
  files.write('tokens.toml', tokens(['render-acme', RENDERER], ['reader', READER], ['stranger', STRANGER]));
  const coordinator = await files.start(t, '--auth token --policy @/policy.toml --tokens @/tokens.toml');
  return { files, coordinator };
}

const TLS = '--tls-cert @/server.pem --tls-key @/server.key';
const ENTRY = { tenant: 'acme', key: 'page' };

/** What comes of a lookup and of an acquire: nothing, or why not. */
async function tried(handle: Coordinator): Promise<(string | undefined)[]> {
  const why = async (call: Promise<unknown>) => {
    try {
      await call;
      return undefined;
    } catch (error) {
      assert.ok(error instanceof LeaseholdError && error.reason, String(error));
      assert.equal(error.mayHaveBeenApplied, false);
      return error.reason;
    }
  };
  const rendered = async () => {
    const acquired = await handle.acquire(ENTRY, { ttlMs: 100 });
    if (acquired.outcome === 'granted') {
      await acquired.lease.release();
    }
  };
  return [await why(handle.lookup(ENTRY)), await why(rendered())];
}

const MAY_BOTH = [undefined, undefined];
const MAY_READ = [undefined, 'PERMISSION_DENIED'];
const DENIED = ['PERMISSION_DENIED', 'PERMISSION_DENIED'];
const UNKNOWN = ['UNAUTHENTICATED', 'UNAUTHENTICATED'];

/** For callers of whom nothing comes: tried once, and not given up because the machine is busy. */
const ONCE = { retry: { maxAttempts: 1 }, connectTimeoutMs: 15_000, attemptTimeoutMs: 15_000 };

/** Resolves when that is what comes of it. */
async function becomes(handle: Coordinator, expected: (string | undefined)[]): Promise<void> {
  while (JSON.stringify(await tried(handle)) !== JSON.stringify(expected)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** That there is no connection, and that the error says why. */
async function cannotConnect(handle: Coordinator, why: RegExp): Promise<void> {
  await assert.rejects(handle.lookup(ENTRY), (error) => {
    assert.ok(error instanceof LeaseholdError);
    assert.deepEqual([error.reason, error.isRetryable], [undefined, true], error.message);
    assert.match(error.message, why);
    return true;
  });
}

test('callers may do what their token says', async (t) => {
  const { coordinator } = await byToken(t);
  const table: [SecurityOptions, (string | undefined)[]][] = [
    [{}, UNKNOWN],
    [{ token: STRANGER_TO_ALL }, UNKNOWN],
    [{ token: STRANGER }, DENIED],
    [{ token: READER }, MAY_READ],
    [{ token: RENDERER }, MAY_BOTH],
    [{ tokenSource: async () => ({ value: RENDERER, expiresInMs: 60_000 }) }, MAY_BOTH],
  ];
  for (const [security, expected] of table) {
    assert.deepEqual(await tried(coordinator.connect({ security })), expected);
    assert.deepEqual(await tried(coordinator.connect({ security: new Security(security) })), expected);
  }
});

test('a token that was refused is renewed by its file and by its function, for calls, bodies and watches', async (t) => {
  const { files, coordinator } = await byToken(t);
  const tokenFile = files.write('token', `${RENDERER}\n`);
  let asked = 0;
  const tokenSource = async () => {
    asked += 1;
    return { value: asked === 1 ? RENDERER : NEXT };
  };
  const both = [{ tokenFile }, { tokenSource }].map((security) => coordinator.connect({ security }));
  for (const handle of both) {
    assert.deepEqual(await tried(handle), MAY_BOTH);
  }
  assert.equal(asked, 1);
  const watches = both.map((handle) => handle.watch([{ tenant: 'acme', wholeTenant: true }]));
  for (const watch of watches) {
    assert.equal((await watch.next()).value?.event.type, 'started');
  }
  files.write('token', NEXT);
  files.write('tokens.toml', tokens(['render-acme', NEXT], ['reader', READER]));
  await becomes(coordinator.connect({ security: { token: RENDERER } }), UNKNOWN);
  const html = 'x'.repeat(4 << 20);
  for (const [index, handle] of both.entries()) {
    const key = `page-${index}`;
    const acquired = await handle.acquire({ tenant: 'acme', key });
    assert.ok(acquired.outcome === 'granted');
    assert.equal((await acquired.lease.commit({ html })).outcome, 'committed');
    const served = await handle.servePage({ tenant: 'acme', key });
    assert.equal((await served.body.collect(html.length)).length, html.length);
  }
  assert.equal(asked, 2);
  for (const watch of watches) {
    const seen = new Set<string>();
    for await (const { event } of watch) {
      if (event.type === 'committed') {
        seen.add(event.key);
      }
      if (event.type === 'resync' || seen.size === 2) {
        break;
      }
    }
    await watch.return();
  }
  assert.equal(asked, 2);
});

test('a stream and an upload that are refused at first are opened with another token', async (t) => {
  const { files, coordinator } = await byToken(t);
  const given = [STRANGER_TO_ALL];
  // Asked for every call.
  const tokenSource = () => ({ value: given.shift() ?? RENDERER, expiresInMs: 0 });
  const renderer = coordinator.connect({ security: { token: RENDERER } });
  const acquired = await renderer.acquire(ENTRY);
  assert.ok(acquired.outcome === 'granted');
  await acquired.lease.commit({ html: 'page' });
  const served = await coordinator.connect({ security: { tokenSource } }).servePage(ENTRY);
  assert.equal(Buffer.from(await served.body.collect(100)).toString(), 'page');
  given.unshift(STRANGER_TO_ALL);
  const watching = coordinator.connect({ security: { tokenSource } });
  await using watch = watching.watch([{ tenant: 'acme', wholeTenant: true }]);
  assert.equal((await watch.next()).value?.event.type, 'started');
  assert.equal(given.length, 0);
  const uploading = await watching.acquire({ tenant: 'acme', key: 'large' });
  assert.ok(uploading.outcome === 'granted');
  given.unshift(STRANGER_TO_ALL);
  const html = 'x'.repeat(4 << 20);
  assert.equal((await uploading.lease.commit({ html })).outcome, 'committed');
  assert.equal(given.length, 0);
  // Whose tokens all are refused is told so.
  const refused = coordinator.connect({ security: { tokenFile: files.write('wrong', STRANGER_TO_ALL) } });
  await assert.rejects(refused.watch([{ wholeTenant: true }]).next(), { reason: 'UNAUTHENTICATED' });
});

test('with TLS, a coordinator is believed by its authority and its name', async (t) => {
  const [authority, foreign] = [new Authority(t), new Authority(t)];
  const files = new Files(t);
  files.certified('server', authority.certify('DNS:localhost', 'IP:127.0.0.1', 'DNS:coordinator.shop'));
  const coordinator = await files.start(t, TLS);
  const byName = coordinator.endpoint.replace('127.0.0.1', 'localhost');
  const caFile = files.write('ca.pem', authority.pem);
  const right: [SecurityOptions, endpoint: string][] = [
    [{ caFile }, byName],
    [{ caPem: authority.pem }, coordinator.endpoint],
    [{ caPem: `${foreign.pem}${authority.pem}`, serverName: 'coordinator.shop' }, byName],
  ];
  for (const [security, endpoint] of right) {
    assert.deepEqual(await tried(coordinator.connect({ endpoint, security })), MAY_BOTH);
  }
  const wrong: [SecurityOptions, why: RegExp][] = [
    [{ caPem: foreign.pem }, /certificate/],
    [{}, /certificate/],
    [{ caFile, serverName: 'elsewhere.shop' }, /elsewhere\.shop.*altnames/],
  ];
  for (const [security, why] of wrong) {
    await cannotConnect(coordinator.connect({ endpoint: byName, ...ONCE, security }), why);
  }
  const plain = coordinator.connect({ endpoint: byName.replace('https', 'http'), ...ONCE });
  await assert.rejects(plain.lookup(ENTRY), { isRetryable: true });
});

test('no environment variable has a coordinator believed that is not', async (t) => {
  const files = new Files(t);
  files.certified('server', new Authority(t).certify('DNS:localhost', 'IP:127.0.0.1'));
  const coordinator = await files.start(t, TLS);
  const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  t.after(() => {
    delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    if (before !== undefined) {
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
    }
  });
  await cannotConnect(coordinator.connect(ONCE), /certificate/);
});

test('callers may do what their certificate says, and certificates are replaced under a handle', async (t) => {
  const [old, next] = [new Authority(t), new Authority(t)];
  const files = new Files(t);
  const install = (authority: Authority) => {
    files.certified('server', authority.certify('IP:127.0.0.1'));
    files.certified('client', authority.certify(SPIFFE));
    files.write('ca.pem', authority.pem);
  };
  install(old);
  const flags = `--auth mtls --policy @/policy.toml ${TLS} --tls-client-ca @/ca.pem`;
  const coordinator = await files.start(t, flags);
  const presenting = ({ certificate, key }: Certified, caPem = old.pem) =>
    coordinator.connect({
      security: { caPem, clientCertificatePem: certificate, clientKeyPem: key },
      ...ONCE,
    });
  assert.deepEqual(await tried(presenting(old.certify(SPIFFE))), MAY_BOTH);
  assert.deepEqual(await tried(presenting(old.certify('DNS:reader'))), MAY_READ);
  assert.deepEqual(await tried(presenting(old.certify('URI:spiffe://shop/globex/render'))), DENIED);
  const refused = [
    presenting(next.certify(SPIFFE)),
    coordinator.connect({ security: { caPem: old.pem }, ...ONCE }),
  ];
  for (const handle of refused) {
    await cannotConnect(handle, /./);
  }
  const lasting = coordinator.connect({
    security: {
      caFile: files.path('ca.pem'),
      clientCertificateFile: files.path('client.pem'),
      clientKeyFile: files.path('client.key'),
    },
  });
  assert.deepEqual(await tried(lasting), MAY_BOTH);
  install(next);
  await coordinator.restart();
  assert.deepEqual(await tried(lasting), MAY_BOTH);
  await cannotConnect(presenting(old.certify(SPIFFE), next.pem), /./);
  // What cannot be used any more changes nothing.
  files.write('client.key', 'half a key');
  lasting.close();
  assert.deepEqual(await tried(lasting), MAY_BOTH);
});

test('the environment says who and whom', async (t) => {
  const authority = new Authority(t);
  const files = new Files(t);
  files.certified('server', authority.certify('DNS:coordinator.shop'));
  files.write('tokens.toml', tokens(['render-acme', RENDERER]));
  const coordinator = await files.start(
    t,
    `--auth token --policy @/policy.toml --tokens @/tokens.toml ${TLS}`,
  );
  const [ca, token] = [files.write('ca.pem', authority.pem), files.write('token', RENDERER)];
  const name = { LEASEHOLD_SERVER_NAME: 'coordinator.shop' };
  for (const variables of [
    { ...name, LEASEHOLD_CA: ca, LEASEHOLD_AUTH_TOKEN: RENDERER, LEASEHOLD_AUTH_TOKEN_FILE: '' },
    { ...name, LEASEHOLD_CA: '', LEASEHOLD_CA_PEM: authority.pem, LEASEHOLD_AUTH_TOKEN_FILE: token },
  ]) {
    const security = Security.fromEnvironment(variables);
    assert.deepEqual(await tried(coordinator.connect({ security })), MAY_BOTH);
  }
  const own = {
    ...name,
    LEASEHOLD_CA: ca,
    LEASEHOLD_AUTH_TOKEN: RENDERER,
    LEASEHOLD_ENDPOINT: coordinator.endpoint,
    LEASEHOLD_TENANT: 'acme',
  };
  Object.assign(process.env, own);
  t.after(async () => {
    await close();
    for (const variable of Object.keys(own)) {
      delete process.env[variable];
    }
  });
  assert.equal(await withRevalidate('k', 60, () => 'value'), 'value');
  await invalidateAll();
});
