import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faceStores } from '../src/facetheory.js';
import { Coordinator, DataCache, LeaseholdError, type PagePolicy, PageServer } from '../src/index.js';

// Nobody listens there: what is sent all the same comes back as an outage, and not as a fault of the caller's.
const NOWHERE = { endpoint: 'http://127.0.0.1:1', timeoutMs: 100 };

// biome-ignore lint/suspicious/noExplicitAny: what plain JavaScript may hand over
type Anything = any;

/** That nothing is sent, and that the error names the field and says what is allowed. */
async function refuses(call: () => unknown, field: string, allowed: RegExp): Promise<void> {
  await assert.rejects(
    async () => call(),
    (error) => {
      assert.ok(error instanceof LeaseholdError, `${field}: ${error}`);
      assert.deepEqual([error.kind, error.field], ['configuration', field], error.message);
      assert.deepEqual([error.isRetryable, error.mayHaveBeenApplied], [false, false]);
      assert.ok(error.message.startsWith(`${field}: `), error.message);
      assert.match(error.message, allowed);
      return true;
    },
  );
}

test('a scope that names nothing, or in another way than scopes do, is refused before anything is sent', async () => {
  await using coordinator = new Coordinator(NOWHERE);
  await using pages = new PageServer({ coordinator });
  const refused: [scopes: Anything, field: string, allowed: RegExp][] = [
    [[{ tags: 'docs' }], 'scopes[0].tags', /is no field; allowed are .*tag/],
    [[{}], 'scopes[0]', /exactly one of .*tag/],
    [[{ tenant: 'acme' }], 'scopes[0]', /exactly one of .*tag/],
    [[{ key: 'a', tag: 'b' }], 'scopes[0]', /exactly one of .*tag/],
    [[{ tag: undefined }], 'scopes[0].tag', /must be text, not undefined/],
    [[{ tag: 'docs' }, { tag: null }], 'scopes[1].tag', /must be text, not null/],
    [[{ tag: ['docs'] }], 'scopes[0].tag', /must be text, not a list/],
    [[{ key: 7 }], 'scopes[0].key', /must be text, not a number/],
    [[{ tenant: 7, key: 'a' }], 'scopes[0].tenant', /must be text, not a number/],
    [[{ wholeTenant: false }], 'scopes[0].wholeTenant', /must be true, not false/],
    [[{ everything: 'yes' }], 'scopes[0].everything', /must be true, not text/],
    [[{ tenant: 'acme', everything: true }], 'scopes[0].tenant', /everything/],
    ['docs', 'scopes', /must be a list, not text/],
    [['docs'], 'scopes[0]', /must be an object, not text/],
    [[null], 'scopes[0]', /must be an object, not null/],
    [{ tag: 'docs' }, 'scopes', /must be a list, not an object/],
    [undefined, 'scopes', /must be a list, not undefined/],
  ];
  for (const [scopes, field, allowed] of refused) {
    await refuses(() => coordinator.invalidate(scopes), field, allowed);
    await refuses(() => pages.invalidate(scopes), field, allowed);
  }
  const depth = 'hrad' as Anything;
  await refuses(() => pages.invalidate([{ tag: 'docs' }], depth), 'depth', /"soft" or "hard", not "hrad"/);
});

test('a filter of a watch is refused where it is given', async () => {
  await using coordinator = new Coordinator(NOWHERE);
  const refused: [filters: Anything, field: string, allowed: RegExp][] = [
    [[{ tags: 'docs' }], 'filters[0].tags', /is no field; allowed are .*tag/],
    [[{ pathPrefix: '/a' }], 'filters[0].pathPrefix', /is no field/],
    [[{}], 'filters[0]', /exactly one of .*wholeTenant/],
    [[{ wholeTenant: false }], 'filters[0].wholeTenant', /must be true/],
    ['docs', 'filters', /must be a list/],
  ];
  for (const [filters, field, allowed] of refused) {
    await refuses(() => coordinator.watch(filters), field, allowed);
  }
});

test('what is no entry is refused by every call that takes one', async () => {
  await using coordinator = new Coordinator(NOWHERE);
  const request = { route: '/a' };
  const refused: [entry: Anything, field: string, allowed: RegExp][] = [
    ['kbin', 'entry', /must be an object, not text/],
    [undefined, 'entry', /must be an object, not undefined/],
    [{}, 'entry', /exactly one of key, request/],
    [{ key: 'a', request }, 'entry', /exactly one of key, request/],
    [{ kye: 'a' }, 'entry.kye', /is no field; allowed are .*key/],
    [{ key: ['a'] }, 'entry.key', /must be text, not a list/],
    [{ key: 'a', tenant: null }, 'entry.tenant', /must be text, not null/],
    [{ request: '/a' }, 'entry.request', /must be an object, not text/],
    [{ request: {} }, 'entry.request.route', /must be text, not undefined/],
    [{ request: { ...request, parms: {} } }, 'entry.request.parms', /is no field/],
    [{ request: { ...request, params: { slug: 7 } } }, 'entry.request.params.slug', /must be text/],
    [{ request: { ...request, query: [['q', 'abc']] } }, 'entry.request.query[0][1]', /must be a list/],
    [{ request: { ...request, query: 'q=1' } }, 'entry.request.query', /must be a list/],
    [{ request: { ...request, headers: [['a', [7]]] } }, 'entry.request.headers[0][1][0]', /must be text/],
    [{ request: { ...request, cookies: ['sid=1'] } }, 'entry.request.cookies[0]', /must be a pair/],
    [{ request: { ...request, cookieVariance: 'sid' } }, 'entry.request.cookieVariance', /"all", "none"/],
    [{ request: { ...request, ignoreCredentials: 1 } }, 'entry.request.ignoreCredentials', /true or false/],
  ];
  for (const [entry, field, allowed] of refused) {
    await refuses(() => coordinator.lookup(entry), field, allowed);
    await refuses(() => coordinator.acquire(entry), field, allowed);
    await refuses(() => coordinator.servePage(entry), field, allowed);
    await refuses(() => coordinator.adoptLease(entry, {} as Anything, 1n), field, allowed);
  }
});

test('an error about an entry shows nothing of its headers, cookies and query', async () => {
  await using coordinator = new Coordinator(NOWHERE);
  for (const of of ['headers', 'cookies', 'query']) {
    const entry: Anything = { request: { route: '/a', [of]: [['name', { secret: 's3cret' }], 's3cret'] } };
    await assert.rejects(coordinator.lookup(entry), (error: Error) => !error.message.includes('s3cret'));
  }
});

test('a lookup that is asked for in a way there is none of is refused', async () => {
  await using coordinator = new Coordinator(NOWHERE);
  const lookup = (options: Anything) => () => coordinator.lookup({ key: 'a' }, options);
  await refuses(
    lookup({ consistency: 'strong' }),
    'options.consistency',
    /"bounded" or "strict", not "strong"/,
  );
  await refuses(lookup({ body: true }), 'options.body', /"none", "inline" or "url", not true/);
});

test('a page that is none is not committed', async () => {
  await using coordinator = new Coordinator(NOWHERE);
  const lease = coordinator.adoptLease({ key: 'a' }, {} as Anything, 1n);
  const html = 'page';
  const refused: [page: Anything, field: string, allowed: RegExp][] = [
    ['page', 'page', /must be an object, not text/],
    [{}, 'page.html', /must be text or bytes/],
    [{ html, tags: ['docs'] }, 'page.tags', /is no field; allowed are .*metadata/],
    [{ html, metadata: { tags: 'docs' } }, 'page.metadata.tags', /must be a list, not text/],
    [{ html, metadata: { tags: [undefined, 5] } }, 'page.metadata.tags[0]', /must be text, not undefined/],
    [{ html, metadata: { revalidate: 60 } }, 'page.metadata.revalidate', /is no field; .*revalidateMs/],
    [{ html, metadata: { revalidateMs: '60' } }, 'page.metadata.revalidateMs', /number of milliseconds/],
    [{ html, metadata: { headers: { 'x-a': '1' } } }, 'page.metadata.headers', /must be a list/],
  ];
  for (const [page, field, allowed] of refused) {
    await refuses(() => lease.commit(page), field, allowed);
  }
});

test('a policy that is none is refused, whatever the page', async () => {
  await using server = new PageServer({ coordinator: NOWHERE });
  const request = new Request('http://site/a');
  const render = () => assert.fail('it is rendered');
  const blocking: PagePolicy = { mode: 'blocking' };
  const refused: [policy: Anything, field: string, allowed: RegExp][] = [
    [undefined, 'policy', /must be an object, not undefined/],
    [{}, 'policy.mode', /"blocking" or "stale-while-revalidate", not undefined/],
    [{ mode: 'swr' }, 'policy.mode', /"blocking" or "stale-while-revalidate", not "swr"/],
    [{ ...blocking, revalidate: 60 }, 'policy.revalidate', /is no field; allowed are .*revalidateSeconds/],
    [{ ...blocking, revalidateSeconds: '60' }, 'policy.revalidateSeconds', /number of seconds.*not text/],
    [{ ...blocking, revalidateSeconds: -4 }, 'policy.revalidateSeconds', /zero or more, not -4/],
    [{ ...blocking, staleIfErrorSeconds: Number.NaN }, 'policy.staleIfErrorSeconds', /not NaN/],
    [{ ...blocking, staleWhileRevalidateSeconds: null }, 'policy.staleWhileRevalidateSeconds', /not null/],
    [{ ...blocking, maxWaitMs: '1' }, 'policy.maxWaitMs', /number of milliseconds/],
    [{ ...blocking, leaseTtlMs: -1 }, 'policy.leaseTtlMs', /zero or more/],
    [{ ...blocking, onContention: 'stale' }, 'policy.onContention', /"wait" or "serve-stale"/],
    [{ ...blocking, onFailure: 'throw' }, 'policy.onFailure', /"serve-stale" or "error"/],
    [{ ...blocking, page: '/a' }, 'policy.page', /must be an object/],
    [{ ...blocking, page: { cookieVariance: 'sid' } }, 'policy.page.cookieVariance', /"all", "none"/],
    [{ ...blocking, page: { headers: [] } }, 'policy.page.headers', /is no field/],
  ];
  for (const [policy, field, allowed] of refused) {
    await refuses(() => server.servePage(request, policy, render), field, allowed);
  }
  await refuses(
    () => server.servePage(request, blocking, '<p>' as Anything),
    'render',
    /a function, not text/,
  );
  await refuses(() => server.servePage({ url: '/a' } as Anything, blocking, render), 'request', /a Request/);
});

test('what a render answers with is taken for a failed render where it is no page', async () => {
  await using server = new PageServer({ coordinator: NOWHERE, onReport: () => {} });
  const html = 'page';
  const refused: [page: Anything, field: string, allowed: RegExp][] = [
    [undefined, 'page', /must be an object, not undefined/],
    ['page', 'page', /must be an object, not text/],
    [{}, 'page.html', /must be text or bytes, not undefined/],
    [{ html, tag: ['docs'] }, 'page.tag', /is no field; allowed are .*tags/],
    [{ html, tags: 'docs' }, 'page.tags', /must be a list, not text/],
    [{ html, tags: [undefined, 5] }, 'page.tags[0]', /must be text, not undefined/],
    [{ html, tags: ['docs', 5] }, 'page.tags[1]', /must be text, not a number/],
    [{ html, headers: { 'x-a': 1 } }, 'page.headers', /must be a list, not an object/],
    [{ html, headers: [['x-a', 1]] }, 'page.headers[0][1]', /must be text, not a number/],
    [{ html, headers: ['x-a: 1'] }, 'page.headers[0]', /must be a pair/],
    [{ html, status: '200' }, 'page.status', /200 to 599, not text/],
    [{ html, status: 99 }, 'page.status', /200 to 599, not 99/],
    [{ html, contentType: 1 }, 'page.contentType', /must be text/],
    [{ html, sidecar: {} }, 'page.sidecar', /must be text or bytes, not an object/],
  ];
  for (const [page, field, allowed] of refused) {
    const asked = new Request('http://site/a');
    await refuses(() => server.servePage(asked, { mode: 'blocking' }, () => page), field, allowed);
  }
});

test('a key of data, its ttl and its fetcher are refused where they are none', async () => {
  await using cache = new DataCache({ coordinator: NOWHERE });
  const fetcher = () => assert.fail('it is fetched');
  const refused: [key: Anything, ttl: Anything, fetcher: Anything, field: string, allowed: RegExp][] = [
    [undefined, 60, fetcher, 'key', /must be text, not undefined/],
    [['a'], 60, fetcher, 'key', /must be text, not a list/],
    ['\ud800', 60, fetcher, 'key', /must be well-formed text/],
    ['k', '60', fetcher, 'ttlSeconds', /number of seconds, zero or more, not text/],
    ['k', undefined, fetcher, 'ttlSeconds', /number of seconds/],
    ['k', -1, fetcher, 'ttlSeconds', /zero or more, not -1/],
    ['k', 60, undefined, 'fetcher', /a function, not undefined/],
  ];
  for (const [key, ttl, fetch, field, allowed] of refused) {
    await refuses(() => cache.withRevalidate(key, ttl, fetch), field, allowed);
  }
  await refuses(() => cache.invalidate(undefined as Anything), 'key', /must be text, not undefined/);
});

test("a key of FaceTheory's that is none is refused", async () => {
  await using stores = faceStores({ coordinator: NOWHERE });
  const nothing = undefined as Anything;
  await refuses(() => stores.metaStore.get(nothing), 'cacheKey', /must be text, not undefined/);
  await refuses(() => stores.metaStore.invalidate(nothing), 'cacheKey', /must be text, not undefined/);
});

test('an option that is none is refused by whatever is made with it', async () => {
  const refused: [make: (options: Anything) => unknown, options: Anything, field: string, allowed: RegExp][] =
    [
      [makeCoordinator, { endpont: 'http://a:1' }, 'options.endpont', /is no field; allowed are endpoint/],
      [makeCoordinator, { endpoint: 7 }, 'options.endpoint', /must be text/],
      [makeCoordinator, { timeoutMs: '1' }, 'options.timeoutMs', /number of milliseconds/],
      [makeCoordinator, { timeoutMs: Number.POSITIVE_INFINITY }, 'options.timeoutMs', /not Infinity/],
      [makeCoordinator, { maxSentBytes: 1.5 }, 'options.maxSentBytes', /whole number/],
      [makeCoordinator, { retry: { attempts: 3 } }, 'options.retry.attempts', /is no field; .*maxAttempts/],
      [makeCoordinator, { retry: { budget: { burst: '1' } } }, 'options.retry.budget.burst', /a number/],
      [makeCache, { coordinator: 'http://a:1' }, 'options.coordinator', /must be an object, not text/],
      [makeCache, { coordinator: { endpont: 'a' } }, 'options.endpont', /is no field/],
      [makeCache, { namespace: 7 }, 'options.namespace', /must be text/],
      [makeCache, { tennant: 'acme' }, 'options.tennant', /is no field; .*tenant/],
      [makeCache, { staleBoundSeconds: '60' }, 'options.staleBoundSeconds', /number of seconds/],
      [makeCache, { onReport: 'warn' }, 'options.onReport', /a function/],
      [makePages, { tenant: null }, 'options.tenant', /must be text, not null/],
      [makePages, { tenants: ['acme'] }, 'options.tenants', /is no field; .*tenant/],
      [makePages, { localBytes: '1' }, 'options.localBytes', /whole number/],
      [faceStores, { backoff: true }, 'options.backoff', /is no field; .*backOff/],
      [faceStores, { backOff: 'yes' }, 'options.backOff', /true or false/],
      [faceStores, 'http://a:1', 'options', /must be an object/],
    ];
  for (const [make, options, field, allowed] of refused) {
    await refuses(() => make(options), field, allowed);
  }
});

const makeCoordinator = (options: Anything) => new Coordinator(options);
const makeCache = (options: Anything) => new DataCache(options);
const makePages = (options: Anything) => new PageServer(options);

test('an option of a call that is none is refused before anything is sent', async () => {
  await using coordinator = new Coordinator(NOWHERE);
  const entry = { key: 'a' };
  const lease = coordinator.adoptLease(entry, {} as Anything, 1n);
  const refused: [call: (options: Anything) => unknown, options: Anything, field: string, allowed: RegExp][] =
    [
      [(each) => coordinator.lookup(entry, each), { token: 't' }, 'options.token', /consistencyToken/],
      [
        (each) => coordinator.lookup(entry, each),
        { knownGeneration: 1 },
        'options.knownGeneration',
        /bigint/,
      ],
      [(each) => coordinator.acquire(entry, each), { wait: 1 }, 'options.wait', /is no field; .*waitMs/],
      [(each) => coordinator.acquire(entry, each), { waitMs: '1' }, 'options.waitMs', /of milliseconds/],
      [(each) => coordinator.invalidate([entry], each), { hard: true }, 'options.hard', /no field; .*depth/],
      [
        (each) => coordinator.invalidate([entry], each),
        { depth: 'hrad' },
        'options.depth',
        /"soft" or "hard"/,
      ],
      [(each) => coordinator.invalidate([entry], each), 'hard', 'options', /must be an object, not text/],
      [(each) => coordinator.watch([entry], each), { token: 't' }, 'options.token', /resumeToken/],
      [(each) => coordinator.servePage(entry, each), { timeout: 1 }, 'options.timeout', /timeoutMs/],
      [(each) => lease.commit({ html: 'page' }, each), { timeout: 1 }, 'options.timeout', /timeoutMs/],
    ];
  for (const [call, options, field, allowed] of refused) {
    await refuses(() => call(options), field, allowed);
  }
});
