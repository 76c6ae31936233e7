// Makes src/generated anew: TypeScript from the contract, by buf and ts-proto, and the service config as a module.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const here = join(import.meta.dirname, '..');
const buf = join(here, 'node_modules/.bin/buf');
execFileSync(buf, ['generate'], {
  cwd: here,
  stdio: 'inherit',
  env: { ...process.env, PATH: `${join(here, 'node_modules/.bin')}:${process.env.PATH}` },
});
const config = readFileSync(join(here, '../../proto/leasehold/v1/service_config.json'), 'utf8');
writeFileSync(
  join(here, 'src/generated/service-config.ts'),
  `// Made from proto/leasehold/v1/service_config.json. DO NOT EDIT.\nexport const sharedServiceConfig = ${config.trim()};\n`,
);
