import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackingOffError, type Coordinator, DataCache, type DataReport } from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';

/** What `withRevalidate` came to: the copy there was, what was fetched, the fetcher's error, or word of an earlier one. */
type Result = 'copy' | 'fetched' | 'failed' | 'backing off';

interface Row {
  state: string;
  /** In the order of {@link POLICIES}. */
  results: [Result, Result, Result, Result];
  /** Makes the state, by another worker. */
  prepare: (other: Coordinator, key: string) => Promise<void>;
  /** What the caller's own process knows before. */
  acquaint?: boolean;
  isDown?: boolean;
}

const POLICIES = [
  { bound: 'within the bound', staleBoundSeconds: 3600, fetch: 'succeeds' },
  { bound: 'within the bound', staleBoundSeconds: 3600, fetch: 'fails' },
  { bound: 'beyond the bound', staleBoundSeconds: 0, fetch: 'succeeds' },
  { bound: 'beyond the bound', staleBoundSeconds: 0, fetch: 'fails' },
] as const;

interface Cell {
  name: string;
  row: Row;
  expected: Result;
  run: () => Promise<Result>;
  reports: readonly DataReport[];
  fetches: () => number;
}

const entryOf = (key: string) => ({ key: `default::/~data/default/${key}` });

async function nothing(): Promise<void> {}

async function freshCopy(other: Coordinator, key: string): Promise<void> {
  assert.equal(await new DataCache({ coordinator: other }).withRevalidate(key, 3600, () => 'copy'), 'copy');
}

async function staleCopy(other: Coordinator, key: string): Promise<void> {
  assert.equal(await new DataCache({ coordinator: other }).withRevalidate(key, 0, () => 'copy'), 'copy');
}

async function held(other: Coordinator, key: string) {
  const acquired = await other.acquire(entryOf(key), { ttlMs: 120_000 });
  assert.ok(acquired.outcome === 'granted');
  return acquired.lease;
}

const TABLE: Row[] = [
  { state: 'fresh', results: ['copy', 'copy', 'copy', 'copy'], prepare: freshCopy },
  { state: 'stale', results: ['copy', 'copy', 'fetched', 'failed'], prepare: staleCopy },
  { state: 'missing', results: ['fetched', 'failed', 'fetched', 'failed'], prepare: nothing },
  {
    state: 'held, over nothing',
    results: ['fetched', 'failed', 'fetched', 'failed'],
    prepare: async (other, key) => void (await held(other, key)),
  },
  {
    state: 'held, over a stale copy',
    results: ['copy', 'copy', 'fetched', 'failed'],
    prepare: async (other, key) => {
      await staleCopy(other, key);
      await held(other, key);
    },
  },
  {
    state: 'backing off, over nothing',
    results: ['backing off', 'backing off', 'backing off', 'backing off'],
    prepare: async (other, key) => void (await (await held(other, key)).fail('an earlier fetch')),
  },
  {
    state: 'backing off, over a stale copy',
    results: ['copy', 'copy', 'backing off', 'backing off'],
    prepare: async (other, key) => {
      await staleCopy(other, key);
      await (await held(other, key)).fail('an earlier fetch');
    },
  },
  {
    state: 'coordinator down, a copy known here',
    results: ['copy', 'copy', 'fetched', 'failed'],
    prepare: staleCopy,
    acquaint: true,
    isDown: true,
  },
  {
    state: 'coordinator down, nothing known here',
    results: ['fetched', 'failed', 'fetched', 'failed'],
    prepare: staleCopy,
    isDown: true,
  },
];

test('every state of a value, under every policy', async (t) => {
  const coordinator = await CoordinatorProcess.start(t, '--backoff-base', '60s');
  const cells = TABLE.flatMap((row) => POLICIES.map((policy, column) => ({ row, policy, column })));
  const prepared: Cell[] = [];
  for (const { row, policy, column } of cells) {
    const name = `${row.state}, ${policy.bound}, the fetch ${policy.fetch}`;
    const key = name.replaceAll(/\W+/g, '-');
    const reports: DataReport[] = [];
    const cache = new DataCache({
      coordinator: coordinator.connect(),
      staleBoundSeconds: policy.staleBoundSeconds,
      waitMs: 50,
      onReport: (report) => reports.push(report),
    });
    if (row.acquaint) {
      assert.equal(await cache.withRevalidate(key, 0, () => 'copy'), 'copy');
    } else {
      await row.prepare(coordinator.connect(), key);
    }
    let fetches = 0;
    const run = async (): Promise<Result> => {
      try {
        return await cache.withRevalidate<Result>(key, 0, () => {
          fetches += 1;
          if (policy.fetch === 'fails') {
            throw new Error('failed');
          }
          return 'fetched';
        });
      } catch (error) {
        return error instanceof BackingOffError ? 'backing off' : ((error as Error).message as Result);
      } finally {
        await cache.idle();
      }
    };
    prepared.push({ name, row, expected: row.results[column]!, run, reports, fetches: () => fetches });
  }
  const judge = async ({ name, row, expected, run, reports, fetches }: Cell) => {
    assert.equal(await run(), expected, name);
    const inBackground = row.state === 'stale' && expected === 'copy';
    assert.equal(fetches(), expected === 'fetched' || expected === 'failed' || inBackground ? 1 : 0, name);
    const types = new Set(reports.map(({ type }) => type));
    // What the caller did not see was reported, and nothing else.
    const isRefreshFailed = inBackground && name.endsWith('fails');
    const isUnreachable = row.isDown === true;
    assert.deepEqual(
      [types.has('refreshFailed'), types.has('unreachable')],
      [isRefreshFailed, isUnreachable],
      name,
    );
    assert.equal(types.size, Number(isRefreshFailed) + Number(isUnreachable), name);
  };
  for (const cell of prepared.filter(({ row }) => !row.isDown)) {
    await judge(cell);
  }
  await coordinator.kill();
  await Promise.all(prepared.filter(({ row }) => row.isDown).map(judge));
});
