import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DataCache } from '../src/index.js';
import { close, configure, idle, invalidate, invalidateAll, withRevalidate } from '../src/isr.js';
import { CoordinatorProcess } from './coordinator-process.js';

test('plain functions share one cache, which the environment configures', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  process.env.LEASEHOLD_ENDPOINT = coordinator.endpoint;
  process.env.LEASEHOLD_TENANT = 'acme';
  process.env.LEASEHOLD_NAMESPACE = 'shop';
  t.after(close);
  assert.equal(await withRevalidate('a', 60, async () => 'old'), 'old');
  assert.equal(await withRevalidate('b', 60, () => 'old'), 'old');
  const other = new DataCache({ coordinator: coordinator.connect(), tenant: 'acme', namespace: 'shop' });
  assert.equal(await other.withRevalidate('a', 60, () => 'new'), 'old');
  await invalidate('a');
  assert.equal(await withRevalidate('a', 60, () => 'new'), 'new');
  assert.equal(await withRevalidate('b', 60, () => 'new'), 'old');
  await invalidateAll();
  assert.equal(await withRevalidate('a', 60, () => 'newer'), 'newer');
  await idle();
  assert.throws(() => configure({}), { kind: 'configuration' });
});

test('plain functions can be configured before they are used', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  await close();
  configure({ coordinator: coordinator.connect(), namespace: 'configured' });
  t.after(close);
  assert.equal(await withRevalidate('a', 60, () => 'value'), 'value');
  const other = new DataCache({ coordinator: coordinator.connect(), namespace: 'configured' });
  assert.equal(await other.withRevalidate('a', 60, () => assert.fail('fetched')), 'value');
});
