/** Bundles the site for its Lambda, with the client of this repository, which has to be built: `dist/index.cjs`. */
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

await build({
  entryPoints: [here('handler.ts')],
  outfile: here('dist/index.cjs'),
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node22',
  alias: { 'leasehold-client': here('../../../../client/typescript/dist/cjs/index.js') },
  logLevel: 'warning',
});
