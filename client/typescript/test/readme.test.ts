import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Coordinator } from '../src/index.js';
import { CoordinatorProcess } from './coordinator-process.js';

const here = import.meta.dirname;
const README = readFileSync(join(here, '../../README.md'), 'utf8');
const BLOCKS = Array.from(README.matchAll(/^```js\n(.*?)^```$/gms), ([, block]) => String(block));

function folder(test: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'leasehold-readme-'));
  test.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** The one block that has this in it, with what it imports found here. */
function block(marked: string): string {
  const [found, ...others] = BLOCKS.filter((each) => each.includes(marked));
  assert.ok(found && others.length === 0, marked);
  const client = JSON.stringify(pathToFileURL(join(here, '../src/index.js')).href);
  return found.replace("'leasehold-client'", client);
}

test('every example of the README is JavaScript to this Node.js', (t) => {
  const at = folder(t);
  assert.ok(BLOCKS.length >= 6, `${BLOCKS.length}`);
  for (const [index, each] of BLOCKS.entries()) {
    const path = join(at, `${index}.mjs`);
    writeFileSync(path, each);
    execFileSync(process.execPath, ['--check', path], { stdio: 'pipe' });
  }
});

test('the site of the README answers under node:http, and pages have the keys that the README says', async (t) => {
  const coordinator = await CoordinatorProcess.start(t);
  const at = folder(t);
  const site = block('export default').replace('http://127.0.0.1:7420', coordinator.endpoint);
  writeFileSync(join(at, 'site.mjs'), site);
  const listening = /^server\.listen\(.*\);$/m;
  const serving = block('createServer(');
  assert.match(serving, listening);
  writeFileSync(join(at, 'server.mjs'), serving.replace(listening, 'export { server };'));
  const { server }: { server: Server } = await import(pathToFileURL(join(at, 'server.mjs')).href);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const visit = async (path: string, options: RequestInit = {}) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, options);
    return [response.status, response.headers.get('x-isr-state'), await response.text()];
  };
  assert.deepEqual(await visit('/about'), [200, 'miss', '<h1>About</h1>']);
  assert.deepEqual(await visit('/about'), [200, 'hit', '<h1>About</h1>']);
  assert.deepEqual(await visit('/about', { method: 'HEAD' }), [200, 'hit', '']);
  assert.deepEqual(await visit('/about', { method: 'POST', body: 'a=1' }), [200, 'bypass', '<h1>About</h1>']);
  const key = /`(acme::\/about\?)`/.exec(README)?.[1];
  assert.ok(key);
  const coming = new Coordinator(coordinator.endpoint);
  t.after(() => coming.close());
  assert.equal((await coming.lookup({ tenant: 'acme', key })).outcome, 'fresh');
  const longer = /`(acme::\/blog.*?)`/.exec(README)?.[1];
  assert.ok(longer);
  const named = { route: '/blog/{slug}', params: { slug: 'first' }, query: [['page', ['2']]] as const };
  const acquired = await coming.acquire({ tenant: 'acme', request: named });
  assert.ok(acquired.outcome === 'granted');
  await acquired.lease.commit({ html: 'page' });
  assert.equal((await coming.lookup({ tenant: 'acme', key: longer })).outcome, 'fresh');
});
