/** Whether somebody hears of an alarm: what it takes for CloudWatch to be let through to the topic. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Stack } from 'aws-cdk-lib';
import { Topic } from 'aws-cdk-lib/aws-sns';
import { stackOf, TEMPLATES } from '../src/templates.js';
import { site } from './example-stack.js';
import { made, resources } from './stacks.js';

const stacks: Readonly<Record<string, () => Stack>> = {
  'the example': site,
  'a stack with a topic that anybody may reach without TLS': () =>
    made((stack) => ({ alarmTopic: new Topic(stack, 'Topic') })).stack,
  'a stack with a topic that is for TLS alone': () =>
    made((stack) => ({ alarmTopic: new Topic(stack, 'Topic', { enforceSSL: true }) })).stack,
  ...Object.fromEntries(Object.keys(TEMPLATES).map((name) => [name, () => stackOf(name)])),
};

for (const [name, make] of Object.entries(stacks)) {
  test(`in ${name}, CloudWatch may publish what every alarm says, for this account alone`, () => {
    const stack = make();
    const alarms = resources(stack, 'AWS::CloudWatch::Alarm');
    assert.ok(alarms.length >= 11);
    for (const { id, properties } of alarms) {
      for (const topic of [...properties.AlarmActions, ...properties.OKActions]) {
        assert.deepEqual(publishers(stack, topic), ['cloudwatch.amazonaws.com'], id);
      }
    }
  });
}

/** The services that the policy of a topic lets publish, on behalf of nobody but its own account. */
function publishers(stack: Stack, topic: unknown): string[] {
  const policies = resources(stack, 'AWS::SNS::TopicPolicy').filter(
    ({ properties }) => JSON.stringify(properties.Topics) === JSON.stringify([topic]),
  );
  // biome-ignore lint/suspicious/noExplicitAny: JSON.
  const statements: any[] = policies.flatMap(({ properties }) => properties.PolicyDocument.Statement);
  const ofThisAccount = { StringEquals: { 'aws:SourceAccount': { Ref: 'AWS::AccountId' } } };
  return statements
    .filter(({ Effect, Action }) => Effect === 'Allow' && Action === 'sns:Publish')
    .map(({ Principal, Resource, Condition }) => {
      assert.deepEqual([Resource, Condition], [topic, ofThisAccount]);
      return Principal.Service;
    });
}
