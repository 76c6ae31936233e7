/** Writes the templates for those who do not use CDK, into `templates`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { TEMPLATES, templateOf } from '../src/templates.js';

mkdirSync(new URL('../../templates/', import.meta.url), { recursive: true });
for (const name of Object.keys(TEMPLATES)) {
  writeFileSync(new URL(`../../templates/${name}`, import.meta.url), templateOf(name));
  console.log(`templates/${name}`);
}
