import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cookiesOf } from '../src/http.js';
import {
  type Coordinator,
  LeaseholdError,
  type PagePolicy,
  PageServer,
  type PageServerOptions,
  type RenderedPage,
} from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';
import { answering } from './interposed.js';

const blocking: PagePolicy = { mode: 'blocking', revalidateSeconds: 3600 };
const forEverybody = { ignoreCredentials: true, cookieVariance: ['lang'] };

const serverOn = (coordinator: Coordinator, options: PageServerOptions = {}) =>
  new PageServer({ coordinator, onReport: () => {}, ...options });

const stateOf = (response: Response) => response.headers.get('x-isr-state');

const get = (path: string, headers: Record<string, string> = {}) =>
  new Request(`http://site${path}`, { headers });

const down = async () => Promise.reject(LeaseholdError.notSent());

test("a page of one visitor is no shared cache's", async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const server = serverOn(coordinator.connect());
  const swr: PagePolicy = { ...blocking, mode: 'stale-while-revalidate' };
  const table: [Record<string, string>, NonNullable<PagePolicy['page']>, boolean][] = [
    [{ cookie: 'sid=1' }, {}, true],
    [{ authorization: 'Bearer a' }, {}, true],
    [{ 'x-api-key': 'a' }, {}, true],
    [{ accept: '*/*' }, {}, false],
    [{ cookie: 'sid=1', authorization: 'Bearer a' }, forEverybody, false],
    [{ cookie: 'sid=1; lang=de' }, forEverybody, true],
    [{ cookie: 'sid=1' }, { cookieVariance: 'none' }, false],
  ];
  for (const [row, [headers, page, isPersonal]] of table.entries()) {
    for (const policy of [blocking, swr]) {
      for (const state of ['miss', 'hit']) {
        const path = `/${policy.mode}/${row}`;
        const render = () => ({ html: 'x' });
        const response = await server.servePage(get(path, headers), { ...policy, page }, render);
        assert.equal(stateOf(response), state);
        const control = response.headers.get('cache-control');
        assert.equal(control === 'private, no-store', isPersonal, `${row}: ${control}`);
      }
    }
  }
});

test('who renders for everybody sees neither who asked, nor what that one has already', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const asked = {
    cookie: 'sid=1; lang=de',
    authorization: 'Bearer a',
    'accept-encoding': 'gzip',
    'if-none-match': '"x"',
    'if-modified-since': 'Sat, 21 Nov 2026 13:06:17 GMT',
    range: 'bytes=0-1',
    accept: 'text/html',
  };
  const policy = { ...blocking, page: forEverybody };
  const seen: unknown[] = [];
  const render = ({ request }: { request: Request }) => {
    seen.push([request.method, request.url, Object.fromEntries(request.headers)]);
    return { html: 'page' };
  };
  const head = new Request('http://site/a?b=1', { method: 'HEAD', headers: asked });
  const first = await serverOn(handle).servePage(head, policy, render);
  assert.deepEqual([stateOf(first), await first.text()], ['miss', '']);
  const second = await serverOn(handle).servePage(get('/a?b=1', { cookie: 'lang=de' }), policy, render);
  assert.deepEqual([stateOf(second), await second.text()], ['hit', 'page']);
  const without = serverOn(answering(handle, { lookup: down }));
  assert.equal(stateOf(await without.servePage(head, policy, render)), 'bypass');
  const expected = ['GET', 'http://site/a?b=1', { cookie: 'lang=de', accept: 'text/html' }];
  assert.deepEqual(seen, [expected, expected]);
});

test('a cookie without a name, which makes a page no other one, is not shown to who renders it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  for (const [row, [cookie, page, shown]] of (
    [
      ['=session=mallory', {}, null],
      ['=session=mallory; lang=de', {}, 'lang=de'],
      ['lang=de; =1; = 2;session', {}, 'lang=de; session'],
      ['=session=mallory; lang=de', forEverybody, 'lang=de'],
    ] as const
  ).entries()) {
    for (const lookup of [handle.lookup.bind(handle), down]) {
      const server = serverOn(answering(handle, { lookup }));
      let seen: string | null = 'nothing';
      await server.servePage(get(`/${row}`, { cookie }), { ...blocking, page }, ({ request }) => {
        seen = request.headers.get('cookie');
        return { html: 'page' };
      });
      assert.equal(seen, shown, cookie);
    }
  }
});

test('who renders for everybody sees no more of the query than makes the page another one', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const route = { route: '/p/{id}', params: { id: '1' } };
  for (const [page, query, shown] of [
    [{ ...route, query: [] }, '?utm=mallory', ''],
    [{ ...route, query: [['a', ['1', 'ü&']]] }, '?a=1&utm=mallory&a=%C3%BC%26', '?a=1&a=%C3%BC%26'],
    [route, '?utm=mallory&b', '?utm=mallory&b'],
    [{}, '?a=%41', '?a=%41'],
  ] as const) {
    for (const lookup of [handle.lookup.bind(handle), down]) {
      const server = serverOn(answering(handle, { lookup }));
      let seen = '';
      const asked = get(`/p/1${query}`, { accept: 'text/html' });
      await server.servePage(asked, { ...blocking, revalidateSeconds: 0, page }, ({ request }) => {
        assert.deepEqual([request.method, request.headers.get('accept')], ['GET', 'text/html']);
        seen = request.url;
        return { html: 'page' };
      });
      assert.equal(seen, `http://site/p/1${shown}`);
    }
  }
});

test('headers that make a page no other one have no copy of their own', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const server = serverOn(coordinator.connect());
  const visit = (number: number) => {
    const headers = { 'x-request-id': `${number}`, 'x-forwarded-for': `10.0.0.${number}` };
    return server.servePage(get('/a', headers), blocking, () => ({ html: 'page' }));
  };
  assert.equal(stateOf(await visit(1)), 'miss');
  await coordinator.kill();
  assert.equal(stateOf(await visit(2)), 'stale-metadata-error');
});

test("a tenant's page is no other tenant's for caches, where a header names the tenant", async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const server = serverOn(coordinator.connect(), { tenant: 'acme' });
  const render = () => ({ html: 'page', headers: [['vary', 'accept-encoding']] as const });
  for (const [headers, vary] of [
    [{}, 'accept-encoding'],
    [{ 'x-tenant-id': ' ' }, 'accept-encoding'],
    [{ 'X-Tenant-Id': 'acme' }, 'accept-encoding, x-tenant-id'],
    [
      { 'x-facetheory-tenant': 'acme', 'x-tenant-id': 'acme' },
      'accept-encoding, x-tenant-id, x-facetheory-tenant',
    ],
  ] as const) {
    for (const request of [get('/a', headers), get('/a', { ...headers, 'if-none-match': '*' })]) {
      assert.equal((await server.servePage(request, blocking, render)).headers.get('vary'), vary);
    }
  }
});

test('what a render says of its own age is neither kept nor passed on', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const server = serverOn(coordinator.connect());
  const headers = [
    ['Date', 'Sat, 21 Nov 2026 13:06:17 GMT'],
    ['Age', '5000'],
    ['Expires', '0'],
    ['X-Other', 'a'],
  ] as const;
  for (const state of ['miss', 'hit']) {
    const response = await server.servePage(get('/a'), blocking, () => ({ html: 'page', headers }));
    const shown = ['date', 'age', 'expires', 'x-other'].map((name) => response.headers.get(name));
    assert.deepEqual([stateOf(response), ...shown], [state, null, null, null, 'a']);
  }
});

test('a header that a worker of another kind kept, and no response can carry, does not cost the page', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const acquired = await handle.acquire({ path: '/a', request: { route: '/a' } });
  assert.ok(acquired.outcome === 'granted');
  const headers = [
    ['x-title', '日本語'],
    ['x-other', 'a'],
    ['age', '5000'],
  ] as const;
  await acquired.lease.commit({ html: 'page', metadata: { headers, contentType: 'text/plain' } });
  const response = await serverOn(handle).servePage(get('/a'), blocking, () => assert.fail('rendered'));
  assert.deepEqual([stateOf(response), await response.text()], ['hit', 'page']);
  const shown = ['x-title', 'x-other', 'age'].map((name) => response.headers.get(name));
  assert.deepEqual(shown, [null, 'a', null]);
});

test('a status without a body comes without one', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const server = serverOn(coordinator.connect());
  for (const [status, state, length] of [
    [204, 'miss', null],
    [205, 'bypass', '0'],
    [304, 'bypass', null],
  ] as const) {
    const response = await server.servePage(get(`/${status}`), blocking, () => ({ html: 'x', status }));
    assert.deepEqual([response.status, stateOf(response), await response.text()], [status, state, '']);
    assert.equal(response.headers.get('content-length'), length);
  }
});

test('a response for one visitor is served to that one only', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const server = serverOn(coordinator.connect());
  const witness = coordinator.connect();
  const headers = (name: string, value: string): RenderedPage => ({ html: 'x', headers: [[name, value]] });
  const table: [RenderedPage, string][] = [
    [headers('Set-Cookie', 'a=1'), 'set-cookie'],
    [headers('Content-Encoding', 'gzip'), 'content-encoding'],
    [headers('Cache-Control', 'no-store'), 'cache-control'],
    [headers('Cache-Control', 'max-age=60, Private="x"'), 'cache-control'],
    [headers('Vary', 'Accept-Language'), 'vary'],
    [headers('Vary', 'cookie, Origin'), 'vary'],
    [headers('Vary', '*'), 'vary'],
    [{ html: 'x', status: 206 }, 'status'],
    [{ html: 'x', status: 302 }, 'status'],
    [{ html: 'x', status: 403 }, 'status'],
  ];
  for (const [row, [page, detail]] of table.entries()) {
    const path = `/${row}`;
    for (let visit = 0; visit < 2; visit += 1) {
      const response = await server.servePage(get(path), blocking, () => page);
      assert.deepEqual(
        [response.status, stateOf(response), response.headers.get('cache-control')],
        [page.status ?? 200, 'bypass', 'no-store'],
        detail,
      );
      assert.equal(response.headers.get('cache-status'), `leasehold; fwd=bypass; detail=${detail}`);
    }
    assert.equal((await witness.lookup({ path, request: { route: path } })).outcome, 'missing');
  }
  for (const [name, value] of [
    ['Cache-Control', 'max-age=60'],
    ['Cache-Control', 'max-age=60, no-cache'],
    ['Cache-Control', 'x-private-ish'],
    ['Vary', 'Accept-Encoding'],
    // The render is shown no others than make the page another one.
    ['Vary', 'cookie,  Authorization , x-api-key'],
    ['Vary', 'x-tenant-id, x-facetheory-tenant'],
    ['Vary', ''],
  ] as const) {
    const response = await server.servePage(get(`/kept/${name}/${value.length}`), blocking, () =>
      headers(name, value),
    );
    assert.equal(stateOf(response), 'miss', `${name}: ${value}`);
  }
});

test('a redirection to another spelling of the same page is not kept', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  for (const [asked, location, state] of [
    ['/p/', '/p', 'bypass'],
    ['/p', '/p/', 'bypass'],
    ['/p', '/p/?a=1', 'bypass'],
    ['/p', 'https://example.com/p/', 'bypass'],
    ['/p', '//elsewhere.example/p', 'bypass'],
    ['/p', '/q', 'miss'],
  ] as const) {
    const render = () => ({ html: '', status: 308, headers: [['location', location]] as const });
    const response = await serverOn(handle).servePage(get(asked), blocking, render);
    assert.deepEqual([response.status, stateOf(response)], [308, state], `${asked} to ${location}`);
  }
});

test('a request for a tenant that nobody declared is refused without the coordinator too', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = answering(coordinator.connect(), { lookup: down });
  const render = () => ({ html: 'x' });
  for (const name of ['X-Tenant-Id', 'x-facetheory-tenant']) {
    const request = get('/a', { [name]: 'acme' });
    for (const tenant of [undefined, '']) {
      const response = await serverOn(handle, { tenant }).servePage(request, blocking, render);
      assert.deepEqual([response.status, await response.text()], [400, 'This site serves no tenants.\n']);
    }
    const declared = await serverOn(handle, { tenant: 'acme' }).servePage(request, blocking, render);
    assert.equal(stateOf(declared), 'bypass');
  }
});

test('cookies that count are told apart as the coordinator does', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const server = serverOn(handle);
  const policy = { ...blocking, page: { cookieVariance: [' lang'] } };
  const visit = (of: PageServer, lang: string) =>
    of.servePage(get('/a', { cookie: `lang=${lang}; =1` }), policy, () => ({ html: lang }));
  assert.equal(stateOf(await visit(server, 'de')), 'miss');
  assert.equal(stateOf(await visit(server, 'en')), 'miss');
  await coordinator.kill();
  for (const lang of ['de', 'en']) {
    const known = await visit(server, lang);
    assert.deepEqual([stateOf(known), await known.text()], ['stale-metadata-error', lang]);
  }
  assert.deepEqual(cookiesOf('a=1; =2; c'), [
    ['a', '1'],
    ['c', ''],
  ]);
});

test('an answer says how old its page is, and one that is stale is asked for again', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const render = () => ({ html: 'x' });
  const seconds = { revalidateSeconds: 60, staleWhileRevalidateSeconds: 600 };
  const swr: PagePolicy = { mode: 'stale-while-revalidate', ...seconds };
  const first = await serverOn(handle).servePage(get('/a'), swr, render);
  assert.equal(first.headers.get('age'), null);
  assert.equal(first.headers.get('cache-control'), 's-maxage=60, stale-while-revalidate=600');
  let ageMs = 20_500;
  const aged = answering(handle, {
    lookup: async (entry, options) => {
      const found = await handle.lookup(entry, options);
      assert.ok(found.outcome === 'fresh');
      const page = { ...found.page, ageMs };
      const regeneration = { owner: 'another', generation: 2n, remainingMs: 1 };
      return ageMs < 60_000
        ? { ...found, page }
        : { outcome: 'stale', freshness: 'stale', page, reason: 'expired', regeneration };
    },
  });
  const fresh = await serverOn(aged).servePage(get('/a', { 'if-none-match': '*' }), swr, render);
  assert.equal(fresh.status, 304);
  assert.equal(fresh.headers.get('age'), '20');
  assert.equal(fresh.headers.get('content-type'), null);
  assert.equal(fresh.headers.get('cache-control'), 's-maxage=60, stale-while-revalidate=600');
  ageMs = 100_500;
  const stale = await serverOn(aged).servePage(get('/a'), swr, render);
  assert.deepEqual([stateOf(stale), stale.headers.get('age')], ['stale', '100']);
  assert.equal(stale.headers.get('cache-control'), 's-maxage=0, stale-while-revalidate=600');
});

const forOne: RenderedPage = { html: 'for one', headers: [['set-cookie', 'a=1']] };

/** Resolves when so many have come, and rejects where they do not. */
function gathering(count: number) {
  let missing = count;
  let complete = () => {};
  const gathered = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${missing} did not come`)), 10_000);
    complete = () => {
      clearTimeout(timer);
      resolve();
    };
  });
  gathered.catch(() => {});
  const come = () => {
    missing -= 1;
    if (missing === 0) {
      complete();
    }
  };
  return { gathered, come };
}

/** A handle that tells when it is asked for a lease, and how often it was. */
function countingAcquires(handle: Coordinator, told = () => {}) {
  const count = { acquires: 0 };
  const coordinator = answering(handle, {
    acquire: (...asked) => {
      count.acquires += 1;
      told();
      return handle.acquire(...asked);
    },
  });
  return { count, coordinator };
}

test('visitors of a page that is for each of them only do not wait for one another', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const [asked, others] = [gathering(10), gathering(9)];
  const { count, coordinator } = countingAcquires(process.connect(), asked.come);
  const server = serverOn(coordinator);
  let renders = 0;
  const render = async () => {
    renders += 1;
    if (renders === 1) {
      // By then, all others want the lease too.
      await asked.gathered;
    } else {
      others.come();
      // Each is under way before any is over.
      await others.gathered;
    }
    return forOne;
  };
  const visits = Array.from({ length: 10 }, () => server.servePage(get('/a'), blocking, render));
  for (const response of await Promise.all(visits)) {
    assert.deepEqual([stateOf(response), await response.text()], ['bypass', 'for one']);
  }
  assert.equal(stateOf(await server.servePage(get('/a'), blocking, () => forOne)), 'bypass');
  assert.deepEqual([renders, count.acquires], [10, 10]);
});

test('once a page comes out for everybody, visitors wait for one render of it again', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const { count, coordinator } = countingAcquires(process.connect());
  const server = serverOn(coordinator);
  const forAll: RenderedPage = { html: 'for all' };
  for (const [page, state, acquires] of [
    [forOne, 'bypass', 1],
    [forOne, 'bypass', 1],
    [forAll, 'bypass', 1],
    [forAll, 'miss', 2],
    [forOne, 'hit', 2],
  ] as const) {
    const response = await server.servePage(get('/a'), blocking, () => page);
    assert.deepEqual([stateOf(response), count.acquires], [state, acquires]);
    if (acquires === 1) {
      assert.equal(response.headers.get('cache-control'), 'no-store');
    }
  }
});

test('it is not remembered of a page that it was for one visitor where nobody wants that, nor after an invalidation', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const { count, coordinator } = countingAcquires(process.connect());
  for (const rememberUncachedMs of [0, undefined]) {
    count.acquires = 0;
    const server = serverOn(coordinator, { rememberUncachedMs });
    const visit = () => server.servePage(get(`/${rememberUncachedMs}`), blocking, () => forOne);
    await visit();
    await server.idle();
    await visit();
    assert.equal(count.acquires, rememberUncachedMs === 0 ? 2 : 1);
    await server.idle();
    await server.invalidate([{ tag: 'docs' }]);
    await visit();
    assert.equal(count.acquires, rememberUncachedMs === 0 ? 3 : 2);
  }
});

test('a page that no coordinator keeps does not take the lease each time', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const { count, coordinator } = countingAcquires(process.connect());
  const server = serverOn(coordinator);
  const many = Array.from({ length: 40 }, (_, number) => [`x-${number}`, 'a'] as const);
  for (const [row, page] of [
    { html: 'x', tags: ['t'.repeat(300)] },
    { html: 'x', headers: many },
  ].entries()) {
    count.acquires = 0;
    for (let visit = 0; visit < 3; visit += 1) {
      const response = await server.servePage(get(`/${row}`), blocking, () => page);
      assert.deepEqual([stateOf(response), await response.text()], ['bypass', 'x']);
    }
    assert.equal(count.acquires, 1);
  }
});

test('a render that fails without a lease is answered as any other, and the next one has it', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const { count, coordinator } = countingAcquires(process.connect());
  const server = serverOn(coordinator);
  const stale: PagePolicy = { mode: 'blocking', revalidateSeconds: 0, staleIfErrorSeconds: 3600 };
  const broken = () => {
    throw new Error('the template is broken');
  };
  const visit = (path: string, render: () => RenderedPage) => server.servePage(get(path), stale, render);
  assert.equal(stateOf(await visit('/known', () => ({ html: 'old' }))), 'miss');
  for (const path of ['/known', '/unknown']) {
    for (const failing of [broken, () => ({ html: 'sorry', status: 500 })]) {
      assert.equal(stateOf(await visit(path, () => forOne)), 'bypass');
      await server.idle();
      count.acquires = 0;
      if (path === '/known') {
        const response = await visit(path, failing);
        assert.deepEqual([stateOf(response), await response.text()], ['stale', 'old']);
      } else if (failing === broken) {
        await assert.rejects(visit(path, failing), /the template is broken/);
      } else {
        assert.equal((await visit(path, failing)).status, 500);
      }
      assert.equal(count.acquires, 0);
      assert.equal(stateOf(await visit(path, () => forOne)), 'bypass');
      await server.idle();
      assert.equal(count.acquires, 1);
      await server.invalidate([{ tag: 'docs' }]);
    }
  }
});

test('a visitor who goes away while he waits is not rendered for, and leaves no lease behind', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const witness = process.connect();
  const entry = { path: '/a', request: { route: '/a' } };
  const held = await witness.acquire(entry, { ttlMs: 120_000 });
  assert.ok(held.outcome === 'granted');
  const asked = gathering(1);
  const server = serverOn(countingAcquires(process.connect(), asked.come).coordinator);
  const abort = new AbortController();
  const request = new Request('http://site/a', { signal: abort.signal });
  const visit = server.servePage(request, blocking, () => assert.fail('rendered'));
  await asked.gathered;
  abort.abort(new Error('gone'));
  await assert.rejects(visit, /gone/);
  await held.lease.release();
  await server.idle();
  assert.equal((await witness.acquire(entry, { waitMs: 5000 })).outcome, 'granted');
});

test('a lease that was granted to a visitor who has gone by then is given back', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const handle = process.connect();
  const abort = new AbortController();
  let acquires = 0;
  const late = answering(handle, {
    acquire: async (entry, { signal: _, ...options } = {}) => {
      const acquired = await handle.acquire(entry, options);
      acquires += 1;
      if (acquires === 1) {
        abort.abort(new Error('gone'));
        throw abort.signal.reason;
      }
      return acquired;
    },
  });
  const server = serverOn(late);
  const request = new Request('http://site/a', { signal: abort.signal });
  await assert.rejects(
    server.servePage(request, blocking, () => assert.fail('rendered')),
    /gone/,
  );
  await server.idle();
  assert.equal((await handle.acquire({ path: '/a', request: { route: '/a' } })).outcome, 'granted');
});

test('a request that no coordinator has a name for is rendered', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const reports: string[] = [];
  const server = serverOn(process.connect(), { onReport: ({ type }) => reports.push(type) });
  const names = Array.from({ length: 300 }, (_, number) => `q${number}=1`).join('&');
  const cookie = Array.from({ length: 300 }, (_, number) => `c${number}=1`).join('; ');
  for (const request of [get(`/${'a'.repeat(3000)}`), get(`/a?${names}`), get('/a', { cookie })]) {
    for (const mode of ['blocking', 'stale-while-revalidate'] as const) {
      const response = await server.servePage(request, { ...blocking, mode }, () => ({ html: 'page' }));
      assert.deepEqual([stateOf(response), await response.text()], ['bypass', 'page']);
      assert.equal(response.headers.get('cache-status'), 'leasehold; fwd=bypass; detail=unnameable');
    }
  }
  const params = { slug: 'a'.repeat(5000) };
  const policy = { ...blocking, page: { route: '/{slug}', params } };
  assert.equal(stateOf(await server.servePage(get('/a'), policy, () => ({ html: 'page' }))), 'bypass');
  assert.deepEqual(new Set(reports), new Set(['unreachable']));
  // Whose it is is not the visitor's choice.
  const misconfigured = serverOn(process.connect(), { tenant: 'a'.repeat(200) });
  await assert.rejects(
    misconfigured.servePage(get('/a'), blocking, () => ({ html: 'page' })),
    { reason: 'INVALID_FIELD' },
  );
});
