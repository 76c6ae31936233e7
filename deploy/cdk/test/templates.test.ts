import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { TEMPLATES, templateOf } from '../src/templates.js';

const FOLDER = new URL('../../templates/', import.meta.url);

for (const name of Object.keys(TEMPLATES)) {
  test(`${name} is as it is made`, () => {
    const committed = readFileSync(new URL(name, FOLDER), 'utf8');
    assert.ok(
      committed === templateOf(name),
      `templates/${name} is out of date: npm run template, and commit it`,
    );
  });

  test(`${name} needs nothing that is not in it`, () => {
    const template = JSON.parse(templateOf(name));
    const text = JSON.stringify(template);
    assert.doesNotMatch(text, /cdk-hnb659fds|cdk-bootstrap|BootstrapVersion|AssetParameters/);
    assert.ok(
      text.length < 51_200,
      `${text.length} characters: more than CloudFormation takes without a bucket`,
    );
    for (const { Description } of Object.values<{ Description?: string }>(template.Parameters)) {
      assert.ok(Description);
    }
  });
}

test('there is no template that nobody makes', () => {
  assert.deepEqual(readdirSync(FOLDER).sort(), Object.keys(TEMPLATES).sort());
});
