import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CoordinatorProcess } from './coordinator-process.js';
import { WorkerProcess } from './worker-process.js';
import type { Heard } from './workers/freezing.js';
import type { Heard as Interrupted } from './workers/interrupted.js';

const FROZEN_MS = 10_000;
const KINDS = ['lookup', 'commit', 'data', 'lookup'] as const;

for (const [connections, flags] of [
  [
    'that the coordinator has given up meanwhile',
    ['--keepalive-interval', '1s', '--keepalive-timeout', '1s'],
  ],
  ['that the coordinator still holds', ['--keepalive-interval', '1h']],
] as const) {
  test(`of twenty workers that were frozen for ten seconds, on connections ${connections}, every one's first call succeeds`, async (t) => {
    const coordinator = await CoordinatorProcess.start(t, ...flags);
    const workers = Array.from({ length: 20 }, (_, index) =>
      WorkerProcess.start<Heard>(t, 'freezing', coordinator.endpoint, KINDS[index % 4]!, `worker-${index}`),
    );
    await Promise.all(workers.map((worker) => worker.hear('ready')));
    for (const worker of workers) {
      worker.signal('SIGSTOP');
    }
    await sleep(FROZEN_MS);
    for (const worker of workers) {
      worker.signal('SIGCONT');
    }
    const thawed = await Promise.all(workers.map((worker) => worker.hear('thawed')));
    assert.deepEqual(
      thawed.map(({ error }) => error),
      workers.map(() => ''),
    );
    t.diagnostic(`slowest: ${Math.round(Math.max(...thawed.map(({ ms }) => ms)))} ms`);
  });
}

test('a call that a freeze interrupts has not used up its time', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const workers = Array.from({ length: 5 }, () =>
    WorkerProcess.start<Interrupted>(t, 'interrupted', coordinator.endpoint),
  );
  await Promise.all(workers.map((worker) => worker.hear('ready')));
  // So that no answer comes before the workers are frozen.
  coordinator.signal('SIGSTOP');
  for (const worker of workers) {
    worker.tell({ call: true });
  }
  await Promise.all(workers.map((worker) => worker.hear('calling')));
  for (const worker of workers) {
    worker.signal('SIGSTOP');
  }
  coordinator.signal('SIGCONT');
  await sleep(FROZEN_MS);
  for (const worker of workers) {
    worker.signal('SIGCONT');
  }
  const answered = await Promise.all(workers.map((worker) => worker.hear('answered')));
  assert.deepEqual(
    answered.map(({ error }) => error),
    workers.map(() => ''),
  );
});
