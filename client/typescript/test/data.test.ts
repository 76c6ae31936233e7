import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackingOffError, type Coordinator, DataCache, type DataReport } from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';
import { answering } from './interposed.js';
import { WorkerProcess } from './worker-process.js';
import type { Heard } from './workers/fetching.js';

/** A promise and what settles it. */
function gate<T = void>() {
  let open!: (value: T) => void;
  const opened = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

async function seed(
  coordinator: Coordinator,
  key: string,
  value: unknown,
  ttlSeconds: number,
): Promise<void> {
  const cache = new DataCache({ coordinator, staleBoundSeconds: 3600 });
  await cache.withRevalidate(key, ttlSeconds, () => value);
}

test('of twenty processes that ask for a missing value, one fetches it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const names = Array.from({ length: 20 }, (_, index) => `worker-${index}`);
  const workers = names.map((name) => WorkerProcess.start<Heard>(t, 'fetching', coordinator.endpoint, name));
  await Promise.all(workers.map((worker) => worker.hear('ready')));
  const fetching = workers.map(async (worker) => {
    await worker.hear('fetching');
    return worker;
  });
  for (const rejected of fetching) {
    rejected.catch(() => {});
  }
  for (const worker of workers) {
    worker.tell({ key: 'shared' });
  }
  (await Promise.race(fetching)).tell({ go: true });
  const got = await Promise.all(workers.map((worker) => worker.hear('got')));
  assert.equal(
    got.reduce((sum, { fetches }) => sum + fetches, 0),
    1,
  );
  assert.equal(new Set(got.map(({ value }) => JSON.stringify(value))).size, 1);
});

test('of many callers in one process, one fetches', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const cache = new DataCache({ coordinator: coordinator.connect() });
  let fetches = 0;
  const release = gate();
  const callers = Array.from({ length: 50 }, () =>
    cache.withRevalidate('k', 60, async () => {
      fetches += 1;
      release.open();
      return 'value';
    }),
  );
  await release.opened;
  assert.deepEqual(new Set(await Promise.all(callers)), new Set(['value']));
  assert.equal(fetches, 1);
});

test('a value comes back as JSON keeps it, to the caller that fetched it too', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const cache = new DataCache({ coordinator: coordinator.connect() });
  const fetcher = () => ({ at: new Date(0), none: undefined, text: 'ü'.repeat(10), list: [1, null] });
  const expected = { at: '1970-01-01T00:00:00.000Z', text: 'ü'.repeat(10), list: [1, null] };
  assert.deepEqual(await cache.withRevalidate<unknown>('k', 60, fetcher), expected);
  assert.deepEqual(
    await cache.withRevalidate<unknown>('k', 60, () => assert.fail('a fresh value was fetched')),
    expected,
  );
  for (const value of [null, 0, '', false]) {
    assert.equal(await cache.withRevalidate(`falsy ${value}`, 60, () => value), value);
    assert.equal(await cache.withRevalidate(`falsy ${value}`, 60, () => assert.fail('fetched')), value);
  }
});

test('a caller cannot change what the next one gets', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const cache = new DataCache({ coordinator: coordinator.connect() });
  const first = await cache.withRevalidate('k', 60, () => ({ n: 1 }));
  first.n = 2;
  assert.deepEqual(await cache.withRevalidate('k', 60, () => ({ n: 3 })), { n: 1 });
});

test('an undefined value is returned, not kept, and said to be so', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const reports: DataReport[] = [];
  const cache = new DataCache({
    coordinator: coordinator.connect(),
    onReport: (report) => reports.push(report),
  });
  assert.equal(await cache.withRevalidate('k', 60, () => undefined), undefined);
  assert.equal(await cache.withRevalidate<unknown>('k', 60, () => 'now'), 'now');
  assert.deepEqual(
    reports.map(({ type }) => type),
    ['notKept'],
  );
});

test('values larger than a message are kept and read back', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const value = 'x'.repeat(5 << 20);
  await seed(coordinator.connect(), 'large', value, 60);
  const cache = new DataCache({ coordinator: coordinator.connect() });
  assert.equal(await cache.withRevalidate('large', 60, () => assert.fail('fetched')), value);
});

test('a failed refresh in the background is caught and reported, and the copy is returned', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const reports: DataReport[] = [];
  const cache = new DataCache({
    coordinator: coordinator.connect(),
    onReport: (report) => reports.push(report),
  });
  await seed(coordinator.connect(), 'k', 'copy', 0);
  let fetches = 0;
  const failing = () => {
    fetches += 1;
    throw new Error('the source is down');
  };
  assert.equal(await cache.withRevalidate('k', 0, failing), 'copy');
  await cache.idle();
  assert.deepEqual(
    reports.map((report) => [report.type, 'key' in report && report.key, (report.error as Error).message]),
    [['refreshFailed', 'k', 'the source is down']],
  );
  // Nobody fetches until the pause is over, in this process or another.
  const other = new DataCache({ coordinator: coordinator.connect() });
  assert.equal(await cache.withRevalidate('k', 0, failing), 'copy');
  assert.equal(await other.withRevalidate('k', 0, failing), 'copy');
  await Promise.all([cache.idle(), other.idle()]);
  assert.equal(fetches, 1);
});

test('a report that throws does not reach the caller', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const onReport = () => {
    throw new Error('no log');
  };
  const cache = new DataCache({ coordinator: coordinator.connect(), onReport });
  await seed(coordinator.connect(), 'k', 'copy', 0);
  const failing = () => {
    throw new Error('the source is down');
  };
  assert.equal(await cache.withRevalidate<unknown>('k', 0, failing), 'copy');
  await cache.idle();
});

test('a stale copy is refreshed in the background, once for the whole fleet', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  await seed(coordinator.connect(), 'k', 'old', 0);
  const fetching = gate();
  const done = gate<string>();
  let fetches = 0;
  const fetcher = () => {
    fetches += 1;
    fetching.open();
    return done.opened;
  };
  const caches = [1, 2, 3].map(() => new DataCache({ coordinator: coordinator.connect() }));
  assert.equal(await caches[0]!.withRevalidate('k', 60, fetcher), 'old');
  await fetching.opened;
  for (const cache of caches) {
    assert.equal(await cache.withRevalidate('k', 60, fetcher), 'old');
  }
  done.open('new');
  await Promise.all(caches.map((cache) => cache.idle()));
  assert.equal(fetches, 1);
  for (const cache of caches) {
    assert.equal(await cache.withRevalidate('k', 60, fetcher), 'new');
  }
});

test('a copy beyond the stale bound is not returned: callers wait for a fetch', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  await seed(coordinator.connect(), 'k', 'old', 0);
  const bounded = new DataCache({ coordinator: coordinator.connect(), staleBoundSeconds: () => 0 });
  assert.equal(await bounded.withRevalidate('k', 0, () => 'new'), 'new');
  const failing = () => {
    throw new Error('the source is down');
  };
  await assert.rejects(bounded.withRevalidate('k', 0, failing), /the source is down/);
  // By default there is at least a minute.
  const lenient = new DataCache({ coordinator: coordinator.connect(), onReport: () => {} });
  assert.equal(await lenient.withRevalidate<unknown>('k', 0, failing), 'new');
  await lenient.idle();
});

test('who asks after an invalidation gets newly fetched data, in this process at once', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--tail-interval', '1s');
  const cache = new DataCache({ coordinator: coordinator.connect() });
  for (let round = 0; round < 20; round += 1) {
    assert.equal(await cache.withRevalidate('k', 60, () => `before ${round}`), `before ${round}`);
    await cache.invalidate('k');
    assert.equal(await cache.withRevalidate('k', 60, () => `after ${round}`), `after ${round}`);
    await cache.invalidate('k');
  }
});

test('who asks after an invalidation does not join a fetch from before it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const cache = new DataCache({ coordinator: coordinator.connect() });
  const fetching = gate();
  const old = gate<string>();
  const early = cache.withRevalidate('k', 60, () => {
    fetching.open();
    return old.opened;
  });
  await fetching.opened;
  await cache.invalidate('k');
  assert.equal(await cache.withRevalidate('k', 60, () => 'new'), 'new');
  old.open('old');
  // It asked before the invalidation; the successor's value counts all the same.
  assert.equal(await early, 'new');
  assert.equal(await cache.withRevalidate('k', 60, () => assert.fail('fetched')), 'new');
});

test('an invalidation does not wait for one that hangs, and what came later counts whichever is answered first', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const [asked, answers] = [gate(), gate()];
  let held = 0;
  const presented: (string | undefined)[] = [];
  const tokens: string[] = [];
  const slow = answering(handle, {
    invalidate: async (scopes, options) => {
      const token = await handle.invalidate(scopes, options);
      tokens.push(token);
      if (held++ === 0) {
        asked.open();
        await answers.opened;
      }
      return token;
    },
    lookup: (entry, options) => {
      presented.push(options?.consistencyToken);
      return handle.lookup(entry, options);
    },
  });
  const cache = new DataCache({ coordinator: slow });
  const first = cache.invalidate('first');
  await asked.opened;
  await cache.invalidate('second');
  answers.open();
  await first;
  await cache.withRevalidate('k', 60, () => 'value');
  assert.equal(tokens.length, 2);
  assert.deepEqual(new Set(presented), new Set([tokens[1]]));
});

test('who joined a fetch that another process invalidated fetches anew', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const cache = new DataCache({ coordinator: coordinator.connect() });
  const other = new DataCache({ coordinator: coordinator.connect() });
  const fetching = gate();
  const old = gate<string>();
  let fetches = 0;
  const fetcher = () => {
    fetches += 1;
    fetching.open();
    return fetches === 1 ? old.opened : 'new';
  };
  const first = cache.withRevalidate('k', 60, fetcher);
  await fetching.opened;
  await other.invalidate('k');
  const joined = cache.withRevalidate('k', 60, fetcher);
  old.open('old');
  assert.equal(await joined, 'new');
  assert.ok(['old', 'new'].includes(await first));
});

test('invalidateAll reaches its own tenant and namespace, and nothing else', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const mine = new DataCache({ coordinator: handle, tenant: 'acme', namespace: 'shop' });
  const others = [
    new DataCache({ coordinator: handle, tenant: 'acme', namespace: 'blog' }),
    new DataCache({ coordinator: handle, tenant: 'zenith', namespace: 'shop' }),
    new DataCache({ coordinator: handle }),
  ];
  for (const cache of [mine, ...others]) {
    for (const key of ['a', 'b']) {
      assert.equal(await cache.withRevalidate(key, 60, () => 'old'), 'old');
    }
  }
  const page = { key: 'acme::/about?', tenant: 'acme' };
  const acquired = await handle.acquire(page);
  assert.ok(acquired.outcome === 'granted');
  await acquired.lease.commit({ html: '<h1>About</h1>' });

  await mine.invalidateAll();
  for (const key of ['a', 'b']) {
    assert.equal(await mine.withRevalidate(key, 60, () => 'new'), 'new');
    for (const cache of others) {
      assert.equal(await cache.withRevalidate(key, 60, () => 'new'), 'old');
    }
  }
  assert.equal((await handle.lookup(page, { consistency: 'strict' })).outcome, 'fresh');
});

test('data of tenants, namespaces and releases never meet', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const caches = [
    { namespace: 'a' },
    { namespace: 'b' },
    { namespace: 'a', tenant: 'acme' },
    { namespace: 'a', deployment: 'v2' },
  ].map((options) => new DataCache({ coordinator: handle, ...options }));
  for (const [index, cache] of caches.entries()) {
    assert.equal(await cache.withRevalidate('k', 60, () => index), index);
  }
  for (const [index, cache] of caches.entries()) {
    assert.equal(await cache.withRevalidate('k', 60, () => -1), index);
  }
});

test('keys are any text, and the same for every language', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const cache = new DataCache({ coordinator: handle, tenant: 'acme', namespace: 'shop' });
  const keys = ['', ' ', 'a/b', 'a%2Fb', 'ü\n', "!'()*-._~"];
  for (const key of keys) {
    assert.equal(await cache.withRevalidate(key, 60, () => `of ${key}`), `of ${key}`);
  }
  for (const key of keys) {
    assert.equal(await cache.withRevalidate(key, 60, () => assert.fail('fetched')), `of ${key}`);
  }
  const stored = ['', '%20', 'a%2Fb', 'a%252Fb', '%C3%BC%0A', "!'()*-._~"];
  for (const key of stored) {
    const found = await handle.lookup({ tenant: 'acme', key: `acme::/~data/shop/${key}` });
    assert.ok(found.outcome === 'fresh', key);
    assert.deepEqual(
      [found.page.metadata.contentType, found.page.metadata.tags],
      ['application/json', ['~data/shop']],
    );
  }
});

test('a key that no coordinator takes is refused to its caller', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const cache = new DataCache({ coordinator: coordinator.connect() });
  await assert.rejects(
    cache.withRevalidate('k'.repeat(5000), 60, () => 1),
    { reason: 'INVALID_FIELD' },
  );
});

test('callers of a value that cannot be kept do not wait for one another', async (t) => {
  const process = await CoordinatorProcess.start(t);
  const handle = process.connect();
  const eleven = 3600 * 24 * 365 * 11;
  for (const [key, ttlSeconds, value] of [
    ['undefined', 60, undefined],
    ['eleven years', eleven, 'value'],
  ] as const) {
    let acquires = 0;
    const counting = answering(handle, {
      acquire: (...asked) => {
        acquires += 1;
        return handle.acquire(...asked);
      },
    });
    const cache = new DataCache({ coordinator: counting, onReport: () => {} });
    for (let call = 0; call < 3; call += 1) {
      assert.equal(await cache.withRevalidate(key, ttlSeconds, () => value), value);
    }
    assert.equal(acquires, 1);
  }
  const cache = new DataCache({ coordinator: handle, onReport: () => {} });
  for (const [fetched, got] of [
    [undefined, undefined],
    ['first', 'first'],
    ['kept', 'kept'],
    ['late', 'kept'],
  ]) {
    assert.equal(await cache.withRevalidate('at first undefined', 60, () => fetched), got);
  }
});

test('a ttl that no coordinator takes does not cost the value', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const reports: DataReport[] = [];
  const cache = new DataCache({
    coordinator: coordinator.connect(),
    onReport: (report) => reports.push(report),
  });
  assert.equal(await cache.withRevalidate('k', 3600 * 24 * 365 * 11, () => 'value'), 'value');
  assert.deepEqual(
    reports.map(({ type }) => type),
    ['notKept'],
  );
  assert.equal(await cache.withRevalidate('k', 60, () => 'kept'), 'kept');
});

test('a fetch that takes longer than its lease keeps it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const handle = coordinator.connect();
  const cache = new DataCache({ coordinator: handle, leaseTtlMs: 300 });
  const entry = { key: 'default::/~data/default/slow' };
  const value = await cache.withRevalidate('slow', 60, async () => {
    // As long as two leases without renewal, by what the coordinator says of them.
    const generation = await leaseOf(handle, entry);
    for (const until = performance.now() + 700; performance.now() < until; ) {
      assert.equal(await leaseOf(handle, entry), generation);
    }
    return 'value';
  });
  assert.equal(value, 'value');
  assert.equal(await cache.withRevalidate('slow', 60, () => assert.fail('not kept')), 'value');
});

async function leaseOf(coordinator: Coordinator, entry: { key: string }): Promise<bigint | undefined> {
  const found = await coordinator.lookup(entry, { consistency: 'strict' });
  return found.regeneration?.generation;
}

test('a failed fetch gives its lease back with the reason, and others hear it', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const cache = new DataCache({
    coordinator: coordinator.connect(),
    failureReason: () => 'the source is down',
  });
  const failing = () => {
    throw new TypeError('with a secret\nin it');
  };
  await assert.rejects(cache.withRevalidate('k', 60, failing), TypeError);
  const other = new DataCache({ coordinator: coordinator.connect() });
  await assert.rejects(
    other.withRevalidate('k', 60, () => 'value'),
    (error) => {
      assert.ok(error instanceof BackingOffError);
      assert.match(error.message, /the source is down/);
      assert.ok(error.retryAfterMs > 0 && error.retryAfterMs <= 60_000 && error.failures === 1);
      return true;
    },
  );
});
