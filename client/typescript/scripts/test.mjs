// Compiles the tests and runs them: all, or those of the files whose names contain one of the arguments.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const here = join(import.meta.dirname, '..');
const wanted = process.argv.slice(2);
if (!existsSync(join(here, 'src/generated'))) {
  await import('./generate.mjs');
}
rmSync(join(here, 'build'), { recursive: true, force: true });
execFileSync(join(here, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.test.json'], {
  cwd: here,
  stdio: 'inherit',
});
// Before the tests, whose time is limited.
let binary = process.env.LEASEHOLD_BIN;
if (!binary) {
  const root = join(here, '../..');
  binary = join(root, 'target/release/leasehold');
  if (!existsSync(binary)) {
    const build = ['build', '--release', '--locked', '--bin', 'leasehold'];
    execFileSync('cargo', build, { cwd: root, stdio: 'inherit' });
  }
}
const files = readdirSync(join(here, 'build/test'))
  .filter((name) => name.endsWith('.test.js'))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .map((name) => join(here, 'build/test', name));
if (files.length === 0) {
  throw new Error(`no tests are called ${wanted.join(' or ')}`);
}
const options = ['--test', '--test-concurrency=2', '--test-timeout=120000', '--test-reporter=spec'];
const { status } = spawnSync(process.execPath, [...options, ...files], {
  cwd: here,
  stdio: 'inherit',
  env: { ...process.env, LEASEHOLD_BIN: binary },
});
process.exitCode = status ?? 1;
