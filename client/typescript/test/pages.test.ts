import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cacheStatus, cookiesOf, isNotModified } from '../src/http.js';
import {
  type Coordinator,
  type PagePolicy,
  type PageReport,
  PageServer,
  type PageServerOptions,
  type RenderedPage,
} from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';
import { answering } from './interposed.js';

const HOUR = 3600;

function serverOn(coordinator: Coordinator, options: PageServerOptions = {}) {
  const reports: PageReport[] = [];
  const onReport = (report: PageReport) => reports.push(report);
  return { reports, server: new PageServer({ coordinator, onReport, ...options }) };
}

const stateOf = (response: Response) => response.headers.get('x-isr-state');

const get = (path: string, headers: Record<string, string> = {}) =>
  new Request(`http://site${path}`, { headers });

const blocking: PagePolicy = { mode: 'blocking', revalidateSeconds: HOUR };

interface Policy {
  mode: PagePolicy['mode'];
  onContention: 'wait' | 'serve-stale';
  onFailure: 'serve-stale' | 'error';
  render: 'succeeds' | 'fails';
}

const POLICIES: Policy[] = (['blocking', 'stale-while-revalidate'] as const).flatMap((mode) =>
  (['wait', 'serve-stale'] as const).flatMap((onContention) =>
    (['serve-stale', 'error'] as const).flatMap((onFailure) =>
      (['succeeds', 'fails'] as const).map((render) => ({ mode, onContention, onFailure, render })),
    ),
  ),
);

/** The state header, `503`, or `thrown`. */
type Result = string;

interface Row {
  state: string;
  expected: (policy: Policy) => Result;
  page?: 'fresh' | 'stale';
  lease?: 'held' | 'failed' | 'committed meanwhile';
  /** Of the policy, in seconds. Default: an hour. */
  window?: number;
  staleIfError?: number;
  isDown?: boolean;
  isKnown?: boolean;
}

interface Cell {
  name: string;
  row: Row;
  policy: Policy;
  run: () => Promise<Result>;
  reports: readonly PageReport[];
  renders: () => number;
}

const ifItRenders = (result: Result) => (policy: Policy) =>
  policy.render === 'succeeds' ? result : 'thrown';

const ifItRendersOrServesStale = ({ onFailure, render }: Policy) =>
  render === 'succeeds' ? 'miss' : onFailure === 'serve-stale' ? 'stale' : 'thrown';

const TABLE: Row[] = [
  { state: 'fresh', page: 'fresh', expected: () => 'hit' },
  {
    state: 'stale',
    page: 'stale',
    expected: (policy) =>
      policy.mode === 'stale-while-revalidate' ? 'stale' : ifItRendersOrServesStale(policy),
  },
  { state: 'stale beyond its window', page: 'stale', window: 0, expected: ifItRendersOrServesStale },
  {
    state: 'stale beyond what errors allow',
    page: 'stale',
    window: 0,
    staleIfError: 0,
    expected: ifItRenders('miss'),
  },
  { state: 'missing', expected: ifItRenders('miss') },
  { state: 'held, over nothing', lease: 'held', expected: ifItRenders('bypass') },
  { state: 'held, over a stale page', page: 'stale', lease: 'held', expected: () => 'stale' },
  {
    state: 'rendered by another, over a stale page',
    page: 'stale',
    lease: 'committed meanwhile',
    // Who is served what is there does not wait, but is given what has come.
    expected: ({ mode, onContention }) =>
      mode === 'stale-while-revalidate' ? 'stale' : onContention === 'wait' ? 'wait-hit' : 'hit',
  },
  {
    state: 'rendered by another, over a page that is too old to serve',
    page: 'stale',
    lease: 'committed meanwhile',
    window: 0,
    staleIfError: 0,
    // Nothing would become of who does not wait but a render of his own.
    expected: ({ mode, onContention }) =>
      mode === 'blocking' && onContention === 'serve-stale' ? 'hit' : 'wait-hit',
  },
  {
    state: 'rendered by another, over nothing',
    lease: 'committed meanwhile',
    expected: () => 'wait-hit',
  },
  { state: 'backing off, over nothing', lease: 'failed', expected: () => '503' },
  {
    state: 'backing off, over a stale page',
    page: 'stale',
    lease: 'failed',
    expected: ({ mode, onFailure }) => (mode === 'blocking' && onFailure === 'error' ? '503' : 'stale'),
  },
  {
    state: 'backing off, over a page beyond what errors allow',
    page: 'stale',
    lease: 'failed',
    window: 0,
    staleIfError: 0,
    expected: () => '503',
  },
  {
    state: 'coordinator down, a page known here',
    page: 'stale',
    isKnown: true,
    isDown: true,
    expected: () => 'stale-metadata-error',
  },
  {
    state: 'coordinator down, nothing known here',
    page: 'stale',
    isDown: true,
    expected: ifItRenders('bypass'),
  },
];

/** `Cache-Control` and `Cache-Status` of a page in this state. */
function expectedHeaders(row: Row, { mode }: Policy, state: Result) {
  const { page, isDown, lease, window = HOUR } = row;
  const revalidate = page === 'fresh' ? HOUR : 0;
  const isStale = state.startsWith('stale');
  const control =
    state === 'bypass'
      ? 'no-store'
      : mode === 'blocking'
        ? `public, max-age=0, s-maxage=0, stale-if-error=${revalidate}, must-revalidate`
        : `s-maxage=${isStale ? 0 : revalidate}, stale-while-revalidate=${window}`;
  const isWithinWindow = mode === 'stale-while-revalidate' && window > 0;
  const isInPlaceOfARender = !isWithinWindow && lease !== 'held';
  const why = lease === 'failed' ? 'backing-off' : 'render-failed';
  const forwarded = page ? 'fwd=stale' : 'fwd=miss';
  const status: Record<Result, string> = {
    hit: page === 'fresh' ? 'hit; ttl=_' : 'hit',
    miss: `${forwarded}; stored`,
    'wait-hit': `${forwarded}; collapsed`,
    stale: isInPlaceOfARender ? `hit; ttl=-_; detail=${why}` : 'hit; ttl=-_',
    'stale-metadata-error': 'hit; ttl=-_; detail=coordinator-unreachable',
    bypass: `fwd=bypass; detail=${isDown ? 'coordinator-unreachable' : 'contention'}`,
  };
  return [control, `leasehold; ${status[state]}`];
}

test('every state of a page, under every policy', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const other = serverOn(coordinator.connect()).server;
  const leases = coordinator.connect();
  const cells: Cell[] = [];
  for (const row of TABLE) {
    for (const [column, policy] of POLICIES.entries()) {
      const name = `${row.state}: ${Object.values(policy).join(', ')}`;
      const path = `/${row.state.replaceAll(/\W+/g, '-')}/${column}`;
      const seconds = {
        revalidateSeconds: row.page === 'fresh' ? HOUR : 0,
        staleWhileRevalidateSeconds: row.window ?? HOUR,
        staleIfErrorSeconds: row.staleIfError ?? HOUR,
      };
      let meanwhile = async () => {};
      const handle = coordinator.connect();
      const asking = answering(handle, {
        acquire: async (...asked) => {
          await meanwhile();
          return handle.acquire(...asked);
        },
      });
      const { server, reports } = serverOn(asking);
      if (row.page) {
        const seeding = row.isKnown ? server : other;
        const seeded = await seeding.servePage(get(path), { mode: 'blocking', ...seconds }, () => ({
          html: 'old',
        }));
        assert.equal(stateOf(seeded), 'miss', name);
      }
      if (row.lease) {
        const acquired = await leases.acquire({ path, request: { route: path } }, { ttlMs: 120_000 });
        assert.ok(acquired.outcome === 'granted', name);
        const { lease } = acquired;
        if (row.lease === 'failed') {
          await lease.fail('an earlier render');
        } else if (row.lease === 'committed meanwhile') {
          meanwhile = async () => void (await lease.commit({ html: "another's" }));
        }
      }
      let renders = 0;
      const run = async (): Promise<Result> => {
        const { render, ...rest } = policy;
        const full = { ...rest, ...seconds, maxWaitMs: 50 };
        try {
          const response = await server.servePage(get(path), full, (): RenderedPage => {
            renders += 1;
            if (render === 'fails') {
              throw new Error('the template is broken');
            }
            return { html: 'new' };
          });
          const result = response.status === 200 ? String(stateOf(response)) : String(response.status);
          const isNew = ['miss', 'bypass'].includes(result);
          const isAnothers = row.lease === 'committed meanwhile' && result !== 'stale';
          if (response.status === 200) {
            assert.equal(await response.text(), isNew ? 'new' : isAnothers ? "another's" : 'old', name);
            const status = response.headers.get('cache-status')?.replace(/(ttl=-?)\d+/, '$1_');
            const shown = [response.headers.get('cache-control'), status];
            assert.deepEqual(shown, expectedHeaders(row, policy, result), name);
          } else {
            assert.ok(Number(response.headers.get('retry-after')) > 0, name);
            assert.equal(response.headers.get('cache-control'), 'no-store', name);
          }
          return result;
        } catch (error) {
          assert.match(String(error), /the template is broken/, name);
          return 'thrown';
        } finally {
          await server.idle();
        }
      };
      cells.push({ name, row, policy, run, reports, renders: () => renders });
    }
  }
  const judge = async ({ name, row, policy, run, reports, renders }: Cell) => {
    const expected = row.expected(policy);
    assert.equal(await run(), expected, name);
    const isOfARender = ['miss', 'bypass', 'thrown'].includes(expected);
    const isTried = isOfARender || row.state.startsWith('stale');
    assert.equal(renders(), isTried ? 1 : 0, name);
    const types = [...new Set(reports.map(({ type }) => type))];
    const isHidden = row.state.startsWith('stale') && policy.render === 'fails' && expected === 'stale';
    assert.deepEqual(types, row.isDown ? ['unreachable'] : isHidden ? ['renderFailed'] : [], name);
  };
  for (const cell of cells.filter(({ row }) => !row.isDown)) {
    await judge(cell);
  }
  await coordinator.kill();
  await Promise.all(cells.filter(({ row }) => row.isDown).map(judge));
});

test('of many workers that are asked for a missing page, one renders it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  let renders = 0;
  const responses = await Promise.all(
    Array.from({ length: 10 }, () =>
      serverOn(coordinator.connect()).server.servePage(get('/a'), blocking, () => {
        renders += 1;
        return { html: 'page' };
      }),
    ),
  );
  assert.equal(renders, 1);
  const states = responses.map(stateOf);
  assert.equal(states.filter((state) => state === 'miss').length, 1);
  assert.ok(
    states.every((state) => ['miss', 'wait-hit', 'hit'].includes(String(state))),
    states.join(),
  );
});

test('a page comes with its headers, and says who may keep it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { server } = serverOn(coordinator.connect(), { stateHeader: 'x-state' });
  const policy: PagePolicy = {
    mode: 'stale-while-revalidate',
    revalidateSeconds: 60,
    staleWhileRevalidateSeconds: 30,
  };
  const render = () => ({
    html: '<h1>x</h1>',
    status: 404,
    contentType: 'text/plain',
    headers: [
      ['Content-Security-Policy', "default-src 'self'"],
      ['Cache-Control', 'max-age=5'],
    ] as const,
  });
  const first = await server.servePage(get('/a?b=1'), policy, render);
  const second = await server.servePage(get('/a?b=1'), policy, () => assert.fail('rendered'));
  for (const [response, state, status] of [
    [first, 'miss', 'leasehold; fwd=miss; stored'],
    [second, 'hit', 'leasehold; hit; ttl=__'],
  ] as const) {
    const shown = response.headers.get('cache-status')?.replace(/=[1-5]\d$/, '=__');
    assert.deepEqual([response.status, response.headers.get('x-state'), shown], [404, state, status]);
    assert.equal(response.headers.get('cache-control'), 's-maxage=60, stale-while-revalidate=30');
    assert.equal(response.headers.get('content-security-policy'), "default-src 'self'");
    assert.equal(response.headers.get('content-type'), 'text/plain');
    assert.equal(await response.text(), '<h1>x</h1>');
  }
  assert.equal(first.headers.get('etag'), second.headers.get('etag'));
  const fixed = await server.servePage(get('/b'), blocking, () => ({ html: 'x' }));
  assert.equal(
    fixed.headers.get('cache-control'),
    'public, max-age=0, s-maxage=0, stale-if-error=3600, must-revalidate',
  );
});

test('who has the page already is told so', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { server } = serverOn(coordinator.connect());
  const render = () => ({ html: 'page' });
  const etag = String((await server.servePage(get('/a'), blocking, render)).headers.get('etag'));
  const known = await server.servePage(
    get('/a', { 'if-none-match': `"other", W/${etag}` }),
    blocking,
    render,
  );
  assert.deepEqual([known.status, await known.text(), known.headers.get('etag')], [304, '', etag]);
  const head = await server.servePage(new Request('http://site/a', { method: 'HEAD' }), blocking, render);
  assert.deepEqual([head.status, await head.text(), head.headers.get('content-length')], [200, '', '4']);
});

test('visitors with other credentials or cookies get other pages, also while the coordinator is down', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { server } = serverOn(coordinator.connect(), { tenant: 'acme' });
  const visitors: Record<string, string>[] = [
    {},
    { cookie: 'sid=1' },
    { cookie: 'sid=2' },
    { authorization: 'Bearer a' },
    { authorization: 'Bearer b' },
  ];
  const visit = async (index: number) => {
    const response = await server.servePage(get('/a', visitors[index]), blocking, () => ({
      html: `for ${index}`,
    }));
    return [stateOf(response), await response.text()];
  };
  for (const [index] of visitors.entries()) {
    assert.deepEqual(await visit(index), ['miss', `for ${index}`]);
  }
  await coordinator.kill();
  for (const [index] of visitors.entries()) {
    assert.deepEqual(await visit(index), ['stale-metadata-error', `for ${index}`]);
  }
  const stranger = await server.servePage(get('/a', { cookie: 'sid=3' }), blocking, () => ({ html: 'new' }));
  assert.deepEqual([stateOf(stranger), await stranger.text()], ['bypass', 'new']);
});

test('a request of a tenant that was not declared is answered with 400, also by a header that only the coordinator knows', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--tenant-header', 'x-shop');
  const { server } = serverOn(coordinator.connect());
  for (const name of ['x-tenant-id', 'x-shop']) {
    const request = get('/a', { [name]: 'acme' });
    const response = await server.servePage(request, blocking, () => assert.fail('it is rendered'));
    assert.deepEqual([response.status, await response.text()], [400, 'This site serves no tenants.\n'], name);
    assert.deepEqual(Object.fromEntries(response.headers), {
      'cache-control': 'no-store',
      'cache-status': 'leasehold; fwd=bypass; detail=tenant-boundary',
      'content-type': 'text/plain; charset=utf-8',
      'x-isr-state': 'bypass',
    });
  }
  const head = new Request('http://site/a', { method: 'HEAD', headers: { 'x-tenant-id': 'acme' } });
  const response = await server.servePage(head, blocking, () => assert.fail('it is rendered'));
  assert.deepEqual([response.status, response.body], [400, null]);
});

test("a render's own call of a tenant that was not declared is its failure, and not its visitor's", async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const { server } = serverOn(handle);
  const headers = [['x-tenant-id', ['acme']]] as const;
  const render = async () => {
    await handle.lookup({ request: { route: '/other', headers } });
    return { html: 'x' };
  };
  await assert.rejects(server.servePage(get('/a'), blocking, render), { reason: 'TENANT_BOUNDARY' });
});

test('what is of one visitor only is not kept: cookies, other methods, failures', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { server } = serverOn(coordinator.connect());
  const headers = [['set-cookie', 'sid=1']] as const;
  for (let visit = 0; visit < 2; visit += 1) {
    const response = await server.servePage(get('/cookie'), blocking, () => ({ html: 'x', headers }));
    assert.deepEqual([stateOf(response), response.headers.get('cache-control')], ['bypass', 'no-store']);
    assert.deepEqual(response.headers.getSetCookie(), ['sid=1']);
  }
  const post = new Request('http://site/post', { method: 'POST', body: 'x' });
  const posted = await server.servePage(post, blocking, async ({ request }) => ({
    html: await request.text(),
  }));
  assert.deepEqual([stateOf(posted), await posted.text()], ['bypass', 'x']);
  const failed = await server.servePage(get('/500'), blocking, () => ({ html: 'sorry', status: 502 }));
  assert.deepEqual(
    [failed.status, await failed.text(), failed.headers.get('cache-control')],
    [502, 'sorry', 'no-store'],
  );
  const paused = await server.servePage(get('/500'), blocking, () => assert.fail('rendered'));
  assert.equal(paused.status, 503);
});

test('a visitor who goes away makes nobody else pause', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const { server } = serverOn(coordinator.connect());
  const abort = new AbortController();
  const request = new Request('http://site/a', { signal: abort.signal });
  const cancelled = server.servePage(request, blocking, () => {
    abort.abort(new Error('gone'));
    throw abort.signal.reason;
  });
  await assert.rejects(cancelled, /gone/);
  assert.equal(stateOf(await server.servePage(get('/a'), blocking, () => ({ html: 'x' }))), 'miss');
});

test('an invalidation is seen at once by the process that made it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--tail-interval', '1s');
  const { server } = serverOn(coordinator.connect());
  for (let round = 0; round < 10; round += 1) {
    const html = `page ${round}`;
    const response = await server.servePage(get('/a'), blocking, () => ({ html, tags: ['docs'] }));
    assert.deepEqual([stateOf(response), await response.text()], ['miss', html]);
    await server.invalidate([{ tag: 'docs' }], round % 2 === 0 ? 'hard' : 'soft');
  }
});

test('a page that an invalidation overtook is kept by nobody', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const { server } = serverOn(coordinator.connect());
  const witness = coordinator.connect();
  const response = await server.servePage(get('/a'), blocking, async () => {
    await witness.invalidate([{ tag: 'docs' }]);
    return { html: 'old', tags: ['docs'] };
  });
  assert.deepEqual([stateOf(response), response.headers.get('cache-control')], ['bypass', 'no-store']);
});

test('entity tags are compared weakly, in lists, and by a star', () => {
  const table: [string | null, boolean][] = [
    [null, false],
    ['*', true],
    ['"a"', true],
    ['W/"a"', true],
    ['"b", W/"a"', true],
    ['"b"', false],
    ['"b,a"', false],
    ['a', false],
    ['', false],
  ];
  for (const [header, expected] of table) {
    assert.equal(isNotModified(header, '"a"'), expected, String(header));
    assert.equal(isNotModified(header, 'W/"a"'), expected, String(header));
  }
});

test('Cache-Status says how a page was had', () => {
  assert.equal(cacheStatus({ state: 'hit' }), 'leasehold; hit');
  assert.equal(cacheStatus({ state: 'hit', ttlMs: 1999 }), 'leasehold; hit; ttl=1');
  assert.equal(cacheStatus({ state: 'stale', ttlMs: -20 }), 'leasehold; hit; ttl=-1');
  assert.equal(cacheStatus({ state: 'stale', ttlMs: -2500 }), 'leasehold; hit; ttl=-2');
  assert.equal(cacheStatus({ state: 'miss', wasStale: true }), 'leasehold; fwd=stale; stored');
  assert.equal(cacheStatus({ state: 'wait-hit' }), 'leasehold; fwd=miss; collapsed');
  assert.equal(
    cacheStatus({ state: 'bypass', detail: 'contention' }),
    'leasehold; fwd=bypass; detail=contention',
  );
});

test('cookies are read as browsers send them', () => {
  assert.deepEqual(cookiesOf('a=1; b=2=3;c; ;'), [
    ['a', '1'],
    ['b', '2=3'],
    ['c', ''],
  ]);
  assert.deepEqual(cookiesOf(null), []);
});

test('what is reported by default names the page by its route, and nothing that tells visitors apart', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const server = new PageServer({ coordinator: coordinator.connect() });
  const lines: string[] = [];
  t.mock.method(console, 'warn', (line: string) => lines.push(line));
  const page = { route: '/blog/{slug}', params: { slug: 'first' } };
  const policy: PagePolicy = { mode: 'blocking', revalidateSeconds: 0, staleIfErrorSeconds: HOUR, page };
  const secrets = { cookie: 'sid=s3cret', authorization: 'Bearer s3cret' };
  const request = get('/blog/first?q=s3cret', secrets);
  assert.equal(stateOf(await server.servePage(request, policy, () => ({ html: 'old' }))), 'miss');
  const tags = Array.from({ length: 65 }, (_, number) => `tag ${number}`);
  assert.equal(stateOf(await server.servePage(request, policy, () => ({ html: 'new', tags }))), 'bypass');
  await server.idle();
  const other = { ...policy, page: { ...page, query: [] } };
  assert.equal(stateOf(await server.servePage(request, other, () => ({ html: 'old' }))), 'miss');
  const failing = () => {
    throw new Error('the template is broken');
  };
  assert.equal(stateOf(await server.servePage(request, other, failing)), 'stale');
  await server.close();
  assert.equal(lines.length, 2, lines.join('\n'));
  assert.match(
    lines[0]!,
    /^leasehold: a page was rendered, but not kept: route="\/blog\/\{slug\}" error=refused/,
  );
  assert.equal(
    lines[1],
    'leasehold: a render failed; the previous page is served: route="/blog/{slug}" error=the template is broken',
  );
  assert.doesNotMatch(lines.join(), /s3cret/);
});
