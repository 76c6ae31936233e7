// Builds the package: generated code, the ES modules and the CommonJS modules, each with its types.
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import './generate.mjs';

const here = join(import.meta.dirname, '..');
rmSync(join(here, 'dist'), { recursive: true, force: true });
for (const config of ['tsconfig.json', 'tsconfig.cjs.json']) {
  execFileSync(join(here, 'node_modules/.bin/tsc'), ['-p', config], { cwd: here, stdio: 'inherit' });
}
// The package as a whole is of ES modules; without this, Node.js would take the CommonJS ones for such.
writeFileSync(join(here, 'dist/cjs/package.json'), '{ "type": "commonjs" }\n');
copyFileSync(
  join(here, '../../proto/leasehold/v1/service_config.json'),
  join(here, 'dist/service_config.json'),
);
copyFileSync(join(here, '../../LICENSE'), join(here, 'LICENSE'));
