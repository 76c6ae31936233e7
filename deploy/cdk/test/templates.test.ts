import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { Template } from 'aws-cdk-lib/assertions';
import { stackOf, TEMPLATES, templateOf } from '../src/templates.js';
import { resource } from './stacks.js';

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
    const text = templateOf(name);
    const template = JSON.parse(text);
    assert.doesNotMatch(text, /cdk-hnb659fds|cdk-bootstrap|BootstrapVersion|AssetParameters/);
    for (const { Description } of Object.values<{ Description?: string }>(template.Parameters)) {
      assert.ok(Description);
    }
  });
}

for (const name of Object.keys(TEMPLATES)) {
  test(`${name} is sent as it is: CloudFormation takes no larger one without a bucket`, () => {
    const { size } = statSync(new URL(name, FOLDER));
    assert.ok(size <= 51_200, `${size} bytes`);
    const { Resources } = JSON.parse(readFileSync(new URL(name, FOLDER), 'utf8'));
    assert.deepEqual(Resources, Template.fromStack(stackOf(name)).toJSON().Resources);
  });
}

for (const name of Object.keys(TEMPLATES)) {
  test(`${name} lets the runbook be followed: more memory, more coordinators, and where they are`, () => {
    const { Parameters, Outputs } = Template.fromStack(stackOf(name)).toJSON();
    const task = resource(stackOf(name), 'AWS::ECS::TaskDefinition', 'LeaseholdTaskDefinition').properties;
    const scaling = resource(stackOf(name), 'AWS::ApplicationAutoScaling::ScalableTarget').properties;
    assert.deepEqual([task.Memory, scaling.MaxCapacity], [{ Ref: 'MemoryMiB' }, { Ref: 'MaxTasks' }]);
    // What Fargate has beside one processor.
    assert.deepEqual(
      Parameters.MemoryMiB.AllowedValues.map(Number),
      [2048, 3072, 4096, 5120, 6144, 7168, 8192],
    );
    assert.equal(task.Cpu, '1024');
    assert.equal(Parameters.MaxTasks.MinValue, scaling.MinCapacity);
    assert.deepEqual(
      ['Cluster', 'Service', 'CoordinatorLog'].filter((output) => !Outputs[output]),
      [],
    );
  });
}

test('there is no template that nobody makes', () => {
  assert.deepEqual(readdirSync(FOLDER).sort(), Object.keys(TEMPLATES).sort());
});
