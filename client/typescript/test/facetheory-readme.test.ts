import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { FaceMetaStore } from '../src/facetheory.js';
import { CoordinatorProcess } from './coordinator-process.js';
import type { createFaceApp } from './create-face-app.js';

const here = import.meta.dirname;
const PACKAGE = join(here, '../..');

test('the example of the README renders once, is a hit from then on, and is rendered again when invalidated', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  process.env.LEASEHOLD_ENDPOINT = coordinator.endpoint;
  const readme = readFileSync(join(PACKAGE, 'README.md'), 'utf8');
  const example = /^## FaceTheory\n.*?^```js\n(.*?)^```$/ms.exec(readme)?.[1];
  assert.ok(example);
  const at = (file: string) => JSON.stringify(pathToFileURL(join(here, file)).href);
  const runnable = example
    .replace("'@theory-cloud/facetheory'", at('create-face-app.js'))
    .replace("'leasehold-client/facetheory'", at('../src/facetheory.js'));
  const folder = mkdtempSync(join(tmpdir(), 'leasehold-example-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'example.mjs');
  writeFileSync(path, runnable);
  const { app, metaStore, close }: Example = await import(pathToFileURL(path).href);
  const visit = async () => {
    const { headers, body } = await app.handle({ method: 'GET', path: '/about' });
    return [headers['x-facetheory-isr']?.[0], Buffer.from(body).toString()];
  };
  assert.deepEqual(await visit(), ['miss', '<h1>About</h1>']);
  assert.deepEqual(await visit(), ['hit', '<h1>About</h1>']);
  // As the comment in it says.
  const key = /metaStore\.invalidate\('(.*)'\)/.exec(example)?.[1];
  await metaStore.invalidate(String(key));
  assert.deepEqual(await visit(), ['miss', '<h1>About</h1>']);
  await close();
});

interface Example {
  app: ReturnType<typeof createFaceApp>;
  metaStore: FaceMetaStore;
  close: () => Promise<void>;
}
