// What a user of any module system and of any TypeScript setting would trip over, looked for in the packed package.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const here = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'leasehold-pack-'));
const run = (program, ...args) =>
  execFileSync(join(here, 'node_modules/.bin', program), args, { cwd: here, stdio: 'inherit' });
try {
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: here,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [tarball] = readdirSync(folder);
  run('publint', join(folder, tarball), '--strict');
  // Of resolvers before Node.js 12, which know no `exports`, subpaths cannot be asked for; Node.js 20 is needed anyway.
  run('attw', join(folder, tarball), '--profile', 'node16', '--exclude-entrypoints', 'service_config.json');
} finally {
  rmSync(folder, { recursive: true, force: true });
}
