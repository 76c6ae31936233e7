import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Coordinator,
  DataCache,
  LeaseholdError,
  type PagePolicy,
  PageServer,
  type PageServerOptions,
  type Refusal,
  type RenderedPage,
} from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';
import { answering, leasing } from './interposed.js';

/** As stale as can be from the beginning, and served for an hour where the render fails. */
const stalePolicy: PagePolicy = { mode: 'blocking', revalidateSeconds: 0, staleIfErrorSeconds: 3600 };
const blocking: PagePolicy = { mode: 'blocking', revalidateSeconds: 3600 };

const serverOn = (coordinator: Coordinator, options: PageServerOptions = {}) =>
  new PageServer({ coordinator, onReport: () => {}, ...options });

const stateOf = (response: Response) => response.headers.get('x-isr-state');

const request = new Request('http://site/a');
const entry = { path: '/a', request: { route: '/a' } };

const rendering = (html: string) => () => ({ html, tags: ['docs'] });

function refusal(reason: Refusal['reason'], code: string): LeaseholdError {
  return LeaseholdError.refused({
    code,
    reason,
    statedReason: reason,
    message: 'no',
    metadata: {},
    fields: [],
  });
}

/** What does not come before it is let. */
function gate() {
  let open = () => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open };
}

/** A handle that can be cut off. */
function cuttable(handle: Coordinator) {
  const lookup = handle.lookup.bind(handle);
  let isCut = false;
  const coordinator = answering(handle, {
    lookup: async (...asked) => (isCut ? Promise.reject(LeaseholdError.notSent()) : lookup(...asked)),
  });
  const cut = () => {
    isCut = true;
  };
  const mend = () => {
    isCut = false;
  };
  return { coordinator, cut, mend };
}

test('a page that was purged while its successor was rendered is known no more', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const { coordinator, cut } = cuttable(process.connect());
  const server = serverOn(coordinator);
  const witness = process.connect();
  assert.equal(stateOf(await server.servePage(request, stalePolicy, rendering('old'))), 'miss');
  const purged = await server.servePage(request, stalePolicy, async () => {
    await witness.invalidate([{ tag: 'docs' }], { depth: 'hard' });
    return { html: 'purged', tags: ['docs'] };
  });
  assert.deepEqual([stateOf(purged), purged.headers.get('cache-control')], ['bypass', 'no-store']);
  cut();
  assert.equal(stateOf(await server.servePage(request, stalePolicy, rendering('new'))), 'bypass');
});

test('a value that was purged while its successor was fetched is known no more', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const { coordinator, cut } = cuttable(process.connect());
  const cache = new DataCache({ coordinator, staleBoundSeconds: (ttl) => ttl, onReport: () => {} });
  const other = new DataCache({ coordinator: process.connect() });
  assert.equal(await cache.withRevalidate('k', 0, () => 'old'), 'old');
  const fetched = await cache.withRevalidate('k', 0, async () => {
    await other.invalidate('k');
    return 'purged';
  });
  assert.equal(fetched, 'purged');
  cut();
  // Within this one's bound, it would be good enough.
  assert.equal(await cache.withRevalidate('k', 3600, () => 'new'), 'new');
});

test('what a process invalidates it forgets at once, and what it asked for before does not come back', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const handle = process.connect();
  for (const depth of ['soft', 'hard'] as const) {
    const asked = gate();
    const { coordinator, cut } = cuttable(
      answering(handle, {
        invalidate: async (...invalidation) => {
          asked.open();
          await rendered.passed;
          return handle.invalidate(...invalidation);
        },
      }),
    );
    const server = serverOn(coordinator);
    const [begun, rendered] = [gate(), gate()];
    const at = (path: string) => new Request(`http://site/${depth}/${path}`);
    await server.servePage(at('known'), blocking, rendering('old'));
    const rendering1 = server.servePage(at('rendered'), blocking, async () => {
      begun.open();
      await rendered.passed;
      return { html: 'old' };
    });
    await begun.passed;
    const invalidating = server.invalidate([{ tag: 'docs' }], depth);
    await asked.passed;
    cut();
    const early = await server.servePage(at('known'), blocking, rendering('new'));
    assert.deepEqual([stateOf(early), await early.text()], ['bypass', 'new'], depth);
    rendered.open();
    await Promise.all([invalidating, rendering1]);
    assert.equal(
      stateOf(await server.servePage(at('rendered'), blocking, rendering('new'))),
      'bypass',
      depth,
    );
  }
});

test('an older page that comes late is not known in place of a newer one', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const handle = process.connect();
  const [asked, released] = [gate(), gate()];
  let isFirst = true;
  const { coordinator, cut } = cuttable(
    answering(handle, {
      lookup: async (...lookup) => {
        const found = await handle.lookup(...lookup);
        if (isFirst) {
          isFirst = false;
          asked.open();
          await released.passed;
        }
        return found;
      },
    }),
  );
  await serverOn(handle).servePage(request, blocking, rendering('old'));
  const server = serverOn(coordinator);
  const late = server.servePage(request, blocking, rendering('unasked'));
  await asked.passed;
  const consistencyToken = await handle.invalidate([{ tag: 'docs' }]);
  const acquired = await handle.acquire(entry, { consistencyToken });
  assert.ok(acquired.outcome === 'granted');
  await acquired.lease.commit({ html: 'new' });
  assert.equal(await (await server.servePage(request, blocking, rendering('unasked'))).text(), 'new');
  released.open();
  assert.equal(await (await late).text(), 'old');
  cut();
  const known = await server.servePage(request, blocking, rendering('unasked'));
  assert.deepEqual([stateOf(known), await known.text()], ['stale-metadata-error', 'new']);
});

test('what cannot be committed does not keep its lease', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const witness = process.connect();
  const errors = [
    refusal('INVALID_FIELD', 'INVALID_ARGUMENT'),
    refusal('OBJECT_CONFLICT', 'FAILED_PRECONDITION'),
    LeaseholdError.notSent(),
  ];
  for (const [index, error] of errors.entries()) {
    const failing = leasing(process.connect(), () => ({ commit: () => Promise.reject(error) }));
    const path = `/${index}`;
    const server = serverOn(failing);
    const response = await server.servePage(new Request(`http://site${path}`), blocking, rendering('page'));
    assert.deepEqual([stateOf(response), await response.text()], ['bypass', 'page']);
    await server.idle();
    const page = await witness.acquire({ path, request: { route: path } });
    assert.equal(page.outcome, 'granted', String(error));
    const cache = new DataCache({ coordinator: failing, onReport: () => {} });
    assert.equal(await cache.withRevalidate(String(index), 60, () => 'value'), 'value');
    await cache.idle();
    const value = await witness.acquire({ key: `default::/~data/default/${index}` });
    assert.equal(value.outcome, 'granted', String(error));
  }
});

test('a lease that cannot be given back costs nobody any time', { timeout: 30_000 }, async (t) => {
  const process = await CoordinatorProcess.start(t);
  const over = gate();
  const silent = async () => {
    await over.passed;
    return { outcome: 'released' as const };
  };
  const handle = leasing(process.connect(), () => ({ fail: silent, release: silent }));
  const server = serverOn(handle);
  const cache = new DataCache({ coordinator: handle, onReport: () => {} });
  const failing = () => {
    throw new Error('no database');
  };
  const at = (path: string) => new Request(`http://site/${path}`);
  await assert.rejects(server.servePage(at('fails'), blocking, failing), /no database/);
  const uncached = () => ({ html: 'mine', headers: [['set-cookie', 'a=1']] as const });
  assert.equal(stateOf(await server.servePage(at('mine'), blocking, uncached)), 'bypass');
  await assert.rejects(cache.withRevalidate('fails', 60, failing), /no database/);
  assert.equal(await cache.withRevalidate('undefined', 60, () => undefined), undefined);
  over.open();
  await Promise.all([server.idle(), cache.idle()]);
});

test('who is overtaken serves the newer page, or else its own', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const handle = process.connect();
  let path = '';
  const successor = async () => {
    const named = { path, request: { route: path } };
    const consistencyToken = await handle.invalidate([{ tag: 'docs' }]);
    const acquired = await handle.acquire(named, { consistencyToken });
    assert.ok(acquired.outcome === 'granted');
    await acquired.lease.commit({ html: 'newer' });
  };
  const nobody = async () => {};
  for (const [row, [before, meanwhile, outcome, expected]] of (
    [
      [true, successor, 'superseded', ['wait-hit', 'newer']],
      // The one before its own.
      [true, nobody, 'fenced', ['bypass', 'rendered']],
      [false, nobody, 'fenced', ['bypass', 'rendered']],
      [false, nobody, 'superseded', ['bypass', 'rendered']],
    ] as const
  ).entries()) {
    path = `/${row}`;
    const asked = new Request(`http://site${path}`);
    if (before) {
      await serverOn(handle).servePage(asked, stalePolicy, rendering('old'));
    }
    const late =
      outcome === 'superseded'
        ? ({ outcome, currentGeneration: 100n } as const)
        : ({ outcome, latestGeneration: 100n } as const);
    const overtaken = leasing(handle, () => ({
      commit: async () => {
        await meanwhile();
        return late;
      },
    }));
    let renders = 0;
    const response = await serverOn(overtaken).servePage(asked, stalePolicy, () => {
      renders += 1;
      return { html: 'rendered', tags: ['docs'] };
    });
    assert.deepEqual([stateOf(response), await response.text()], expected, String(row));
    assert.equal(renders, 1);
  }
});

test('what the coordinator cannot tell of one page is no outage', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const handle = process.connect();
  let isCorrupt = true;
  const corrupt = () => Promise.reject(refusal('STORED_DATA_CORRUPT', 'DATA_LOSS'));
  const lookup = handle.lookup.bind(handle);
  const server = serverOn(
    answering(handle, { lookup: (...asked) => (isCorrupt ? corrupt() : lookup(...asked)) }),
  );
  for (let visit = 0; visit < 5; visit += 1) {
    assert.equal(stateOf(await server.servePage(request, blocking, rendering('page'))), 'bypass');
  }
  isCorrupt = false;
  assert.equal(stateOf(await server.servePage(request, blocking, rendering('page'))), 'miss');
});

test('a page beyond its bounds is not served while another renders either', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const handle = process.connect();
  const swr: PagePolicy = { mode: 'stale-while-revalidate', revalidateSeconds: 0, maxWaitMs: 0 };
  await serverOn(handle).servePage(request, stalePolicy, rendering('old'));
  assert.equal((await handle.acquire(entry, { ttlMs: 120_000 })).outcome, 'granted');
  for (const [policy, expected] of [
    [{ ...swr, staleWhileRevalidateSeconds: 0, staleIfErrorSeconds: 0 }, 'bypass'],
    [{ ...swr, staleWhileRevalidateSeconds: 0, staleIfErrorSeconds: 3600 }, 'stale'],
    [{ ...swr, staleWhileRevalidateSeconds: 3600, staleIfErrorSeconds: 0 }, 'stale'],
    [{ ...stalePolicy, maxWaitMs: 0, staleIfErrorSeconds: 0 }, 'stale'],
  ] as const) {
    const response = await serverOn(handle).servePage(request, policy, rendering('rendered'));
    assert.equal(stateOf(response), expected, JSON.stringify(policy));
  }
});

test('a server that is closed has committed what it rendered', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const server = new PageServer({ coordinator: { endpoint: process.endpoint }, onReport: () => {} });
  const [begun, over] = [gate(), gate()];
  const serving = server.servePage(request, blocking, async () => {
    begun.open();
    await over.passed;
    return { html: 'page' };
  });
  await begun.passed;
  const closing = server.close();
  over.open();
  await closing;
  assert.equal((await process.connect().lookup(entry)).outcome, 'fresh');
  assert.equal(stateOf(await serving), 'miss');
});

test('what ends a lease is tried also where others found the coordinator silent a moment ago', async (t) => {
  const process = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const witness = process.connect();
  for (const isFailing of [false, true]) {
    const { coordinator, cut, mend } = cuttable(process.connect());
    const server = serverOn(coordinator);
    const cache = new DataCache({ coordinator, onReport: () => {} });
    const others = {
      page: () => server.servePage(new Request('http://site/other'), blocking, rendering('other')),
      value: () => cache.withRevalidate('other', 60, () => 'other'),
    };
    /** Runs into an outage as long as anybody else's, which ends before this render does. */
    const amidOutageOf = (other: () => Promise<unknown>) => async () => {
      cut();
      for (let visit = 0; visit < 3; visit += 1) {
        await other();
      }
      mend();
      if (isFailing) {
        throw new Error('the template is broken');
      }
      return { html: 'page' };
    };
    const path = `/${isFailing}`;
    for (const [named, work, expected] of [
      [
        { path, request: { route: path } },
        async () => {
          const asked = new Request(`http://site${path}`);
          return stateOf(await server.servePage(asked, blocking, amidOutageOf(others.page)));
        },
        'miss',
      ],
      [
        { key: `default::/~data/default/${isFailing}` },
        async () => (await cache.withRevalidate(`${isFailing}`, 60, amidOutageOf(others.value))).html,
        'page',
      ],
    ] as const) {
      if (isFailing) {
        await assert.rejects(work(), /the template is broken/);
      } else {
        assert.equal(await work(), expected);
      }
      await Promise.all([server.idle(), cache.idle()]);
      assert.equal((await witness.acquire(named)).outcome, isFailing ? 'backingOff' : 'ready');
    }
  }
});

test('a page that could not be kept is reported', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const lost = LeaseholdError.notSent();
  const failing = leasing(process.connect(), () => ({ commit: () => Promise.reject(lost) }));
  const reports: unknown[] = [];
  const onReport = (report: unknown) => reports.push(report);
  const server = serverOn(failing, { onReport });
  assert.equal(stateOf(await server.servePage(request, blocking, rendering('page'))), 'bypass');
  const cache = new DataCache({ coordinator: failing, onReport });
  assert.equal(await cache.withRevalidate('k', 60, () => 'value'), 'value');
  assert.deepEqual(reports, [
    { type: 'notKept', route: new URL(request.url).pathname, error: lost },
    { type: 'notKept', key: 'k', error: lost },
  ]);
});

test('a commit that takes long keeps its lease, costs its visitor little, and is no outage', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const witness = process.connect();
  const committing = gate();
  const slow = leasing(process.connect(), (lease) => ({
    commit: async (...page) => {
      await committing.passed;
      return lease.commit(...page);
    },
  }));
  const server = serverOn(slow, { coordinatorTimeoutMs: 1000 });
  const cache = new DataCache({ coordinator: slow, coordinatorTimeoutMs: 1000, leaseTtlMs: 1000 });
  const policy = { ...blocking, leaseTtlMs: 1000 };
  const paths = ['/1', '/2', '/3', '/4'];
  const visits = paths.map((path) =>
    server.servePage(new Request(`http://site${path}`), policy, rendering('page')),
  );
  const value = cache.withRevalidate('k', 60, () => 'value');
  for (const response of await Promise.all(visits)) {
    assert.deepEqual([stateOf(response), await response.text()], ['bypass', 'page']);
  }
  assert.equal(await value, 'value');
  const entries = [
    ...paths.map((path) => ({ path, request: { route: path } })),
    { key: 'default::/~data/default/k' },
  ];
  const holders = () =>
    Promise.all(
      entries.map(async (each) => {
        const { regeneration } = await witness.lookup(each, { consistency: 'strict' });
        return regeneration?.generation;
      }),
    );
  const granted = await holders();
  assert.ok(granted.every((generation) => generation !== undefined));
  // As long as two leases without renewal, by what the coordinator says of them.
  for (const until = performance.now() + 2000; performance.now() < until; ) {
    assert.deepEqual(await holders(), granted);
  }
  committing.open();
  await Promise.all([server.idle(), cache.idle()]);
  for (const each of entries) {
    assert.equal((await witness.lookup(each, { consistency: 'strict' })).outcome, 'fresh');
  }
  const hit = await server.servePage(new Request('http://site/1'), policy, rendering('unasked'));
  assert.equal(stateOf(hit), 'hit');
});

test('a commit that fails when its visitor waits no more leaves no lease behind', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const committing = gate();
  const failing = leasing(process.connect(), () => ({
    commit: async () => {
      await committing.passed;
      throw LeaseholdError.notSent();
    },
  }));
  const server = serverOn(failing, { coordinatorTimeoutMs: 1000 });
  const response = await server.servePage(request, { ...blocking, leaseTtlMs: 120_000 }, rendering('page'));
  assert.equal(stateOf(response), 'bypass');
  committing.open();
  await server.idle();
  assert.equal((await process.connect().acquire(entry)).outcome, 'granted');
});

test('the larger a page is, the longer its commit may take', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const limits: number[] = [];
  const handle = leasing(process.connect(), (lease) => ({
    commit: (page, options) => {
      limits.push(options?.timeoutMs ?? 0);
      return lease.commit(page, options);
    },
  }));
  const server = serverOn(handle);
  for (const [path, mebibytes] of [
    ['/small', 0],
    ['/large', 4],
  ] as const) {
    const half = Buffer.alloc(mebibytes << 19, 'x');
    const response = await server.servePage(new Request(`http://site${path}`), blocking, () => ({
      html: half,
      sidecar: half,
    }));
    assert.ok(['miss', 'bypass'].includes(String(stateOf(response))));
  }
  await server.idle();
  assert.equal(limits[1]! - limits[0]!, 4000);
});

test('whatever a render answers with, its lease ends', async (t) => {
  const process = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const witness = process.connect();
  const server = serverOn(process.connect());
  const answers: Record<string, unknown> = {
    nothing: undefined,
    'no-html': {},
    'number-for-html': { html: 1 },
    'object-for-headers': { html: 'x', headers: {} },
    'malformed-header': { html: 'x', headers: [['a b', 'c']] },
    'header-that-cannot-be-sent': { html: 'x', headers: [['x-title', '日本語']] },
    'no-status': { html: 'x', status: 99 },
    'no-status-either': { html: 'x', status: 2.5 },
    'number-for-tags': { html: 'x', tags: 1 },
  };
  for (const [name, answer] of Object.entries(answers)) {
    const path = `/${name}`;
    const asked = new Request(`http://site${path}`);
    await assert.rejects(
      server.servePage(asked, blocking, () => answer as RenderedPage),
      Error,
      name,
    );
    await server.idle();
    const { outcome } = await witness.acquire({ path, request: { route: path } });
    assert.equal(outcome, 'backingOff', name);
  }
  const tags = Array.from({ length: 65 }, (_, number) => `tag ${number}`);
  const unkept = await server.servePage(request, blocking, () => ({ html: 'x', tags }));
  assert.deepEqual([stateOf(unkept), await unkept.text()], ['bypass', 'x']);
  await server.idle();
  assert.equal((await witness.acquire(entry)).outcome, 'granted');
});

test('who cannot say why a render failed hides neither its error nor the previous page', async (t) => {
  const process = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const witness = process.connect();
  const failing = () => {
    throw new Error('with a secret in it');
  };
  const reasons: Record<string, (() => string) | undefined> = {
    throws: () => {
      throw new Error('no reason');
    },
    number: () => 1 as unknown as string,
  };
  for (const [name, failureReason] of Object.entries(reasons)) {
    const options = { coordinator: process.connect(), failureReason, onReport: () => {} };
    const server = new PageServer(options);
    const cache = new DataCache(options);
    const path = `/${name}`;
    const visit = (render: () => RenderedPage) =>
      server.servePage(new Request(`http://site${path}`), stalePolicy, render);
    await assert.rejects(
      server.servePage(new Request(`http://site${path}/new`), stalePolicy, failing),
      /with a secret/,
    );
    assert.equal(stateOf(await visit(rendering('old'))), 'miss');
    assert.equal(stateOf(await visit(failing)), 'stale');
    await assert.rejects(cache.withRevalidate(name, 60, failing), /with a secret/);
    await Promise.all([server.idle(), cache.idle()]);
    for (const named of [
      { path: `${path}/new`, request: { route: `${path}/new` } },
      { path, request: { route: path } },
      { key: `default::/~data/default/${name}` },
    ]) {
      const acquired = await witness.acquire(named);
      assert.ok(acquired.outcome === 'backingOff', acquired.outcome);
      assert.equal(acquired.reason, name === 'throws' ? 'unspecified' : '1');
    }
  }
});

test('who waits for another when a runtime is closed goes on without the coordinator', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const witness = process.connect();
  const value = { key: 'default::/~data/default/k' };
  for (const named of [entry, value]) {
    assert.equal((await witness.acquire(named, { ttlMs: 120_000 })).outcome, 'granted');
  }
  const asked = { page: gate(), value: gate() };
  const telling = (told: () => void) => {
    const handle = process.connect();
    return answering(handle, {
      acquire: (...wish) => {
        told();
        return handle.acquire(...wish);
      },
    });
  };
  const server = serverOn(telling(asked.page.open));
  const cache = new DataCache({ coordinator: telling(asked.value.open), onReport: () => {} });
  const visit = server.servePage(request, blocking, rendering('page'));
  const wish = cache.withRevalidate('k', 60, () => 'value');
  await Promise.all([asked.page.passed, asked.value.passed]);
  const begun = performance.now();
  await Promise.all([server.close(), cache.close()]);
  assert.deepEqual([stateOf(await visit), await wish], ['bypass', 'value']);
  assert.ok(performance.now() - begun < 15_000);
});
