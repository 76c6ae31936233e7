import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Stack } from 'aws-cdk-lib';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import { Key } from 'aws-cdk-lib/aws-kms';
import * as s3 from 'aws-cdk-lib/aws-s3';
import type { FaceTheoryLayout } from '../src/index.js';
import { stackOf, TEMPLATES } from '../src/templates.js';
import { environmentOf, made, resource, resources, statementsOf, templateOf } from './stacks.js';

test('the table is encrypted, kept, and can be restored to any moment', () => {
  const { stack } = made();
  const [table, ...others] = Object.values(templateOf(stack).findResources('AWS::DynamoDB::Table'));
  assert.deepEqual(others, []);
  assert.deepEqual([table?.DeletionPolicy, table?.UpdateReplacePolicy], ['Retain', 'Retain']);
  const { properties } = resource(stack, 'AWS::DynamoDB::Table');
  assert.deepEqual(properties.KeySchema, [
    { AttributeName: 'pk', KeyType: 'HASH' },
    { AttributeName: 'sk', KeyType: 'RANGE' },
  ]);
  assert.deepEqual(properties.AttributeDefinitions, [
    { AttributeName: 'pk', AttributeType: 'S' },
    { AttributeName: 'sk', AttributeType: 'S' },
  ]);
  assert.deepEqual(properties.TimeToLiveSpecification, { AttributeName: 'ttl', Enabled: true });
  assert.equal(properties.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled, true);
  assert.equal(properties.DeletionProtectionEnabled, true);
  assert.deepEqual(properties.SSESpecification, { SSEEnabled: true });
  assert.equal(properties.BillingMode, 'PAY_PER_REQUEST');
});

test('the bucket is private, encrypted, kept, without versions, and without rules that delete', () => {
  const { stack } = made();
  const [bucket, ...others] = Object.values(templateOf(stack).findResources('AWS::S3::Bucket'));
  assert.deepEqual(others, []);
  assert.deepEqual([bucket?.DeletionPolicy, bucket?.UpdateReplacePolicy], ['Retain', 'Retain']);
  const { properties } = resource(stack, 'AWS::S3::Bucket');
  assert.deepEqual(properties.PublicAccessBlockConfiguration, {
    BlockPublicAcls: true,
    BlockPublicPolicy: true,
    IgnorePublicAcls: true,
    RestrictPublicBuckets: true,
  });
  assert.deepEqual(properties.BucketEncryption.ServerSideEncryptionConfiguration, [
    { ServerSideEncryptionByDefault: { SSEAlgorithm: 'AES256' } },
  ]);
  assert.equal(properties.VersioningConfiguration, undefined);
  assert.equal(properties.LifecycleConfiguration, undefined);
  const [denied] = resource(stack, 'AWS::S3::BucketPolicy').properties.PolicyDocument.Statement;
  assert.deepEqual([denied.Effect, denied.Condition], ['Deny', { Bool: { 'aws:SecureTransport': 'false' } }]);
});

test('a key of your own encrypts both, and is for these two alone', () => {
  const { stack } = made((stack) => ({
    storage: { encryptionKey: new Key(stack, 'Key', { enableKeyRotation: true }) },
  }));
  assert.equal(resource(stack, 'AWS::DynamoDB::Table').properties.SSESpecification.SSEType, 'KMS');
  const [rule] = resource(stack, 'AWS::S3::Bucket').properties.BucketEncryption
    .ServerSideEncryptionConfiguration;
  assert.deepEqual(
    [rule.ServerSideEncryptionByDefault.SSEAlgorithm, rule.BucketKeyEnabled],
    ['aws:kms', true],
  );
  for (const role of ['LeaseholdTaskRole', 'SweepTaskRole']) {
    const statement = statementsOf(stack, role).find(({ Sid }) => Sid === 'KeyOfTableAndBucket');
    assert.match(JSON.stringify(statement?.Condition), /kms:ViaService.*dynamodb\..*s3\./);
    assert.ok(statement?.actions.every((action) => !action.includes('*')));
  }
});

test('what FaceTheory keeps is taken over as it lies, and under its names', () => {
  const { stack, coordinator } = made(takesOver({ keyPrefix: '/isr-pages/' }));
  assert.deepEqual(resources(stack, 'AWS::DynamoDB::Table'), []);
  assert.deepEqual(resources(stack, 'AWS::S3::Bucket'), []);
  const environment = environmentOf(stack);
  assert.equal(environment.FACETHEORY_CACHE_TABLE_NAME, 'pages');
  assert.equal(environment.LEASEHOLD_TABLE, undefined);
  assert.equal(environment.LEASEHOLD_BUCKET, 'bodies');
  assert.equal(environment.LEASEHOLD_ENTRY_KEY, 'CACHE#{key}');
  assert.equal(environment.LEASEHOLD_S3_KEY_PREFIX, 'isr-pages');
  assert.deepEqual(coordinator.storage.faceTheoryEnvironment, {
    FACETHEORY_CACHE_TABLE_NAME: 'pages',
    APPTHEORY_CACHE_TABLE_NAME: 'pages',
    CACHE_TABLE_NAME: 'pages',
    CACHE_TABLE: 'pages',
    FACETHEORY_ISR_BUCKET: 'bodies',
    FACETHEORY_ISR_PREFIX: 'isr-pages',
  });
});

test('in a table of others, the role is kept to the partitions of the coordinator', () => {
  const { stack } = made(takesOver({ keyPrefix: 'isr-pages' }));
  const [ofTable] = statementsOf(stack, 'LeaseholdTaskRole');
  assert.deepEqual(ofTable?.Condition, {
    'ForAllValues:StringLike': { 'dynamodb:LeadingKeys': ['CACHE#*', 'LEASEHOLD#LOG'] },
  });
  const bodies = statementsOf(stack, 'LeaseholdTaskRole').find(({ Sid }) => Sid === 'BodiesOfFaceTheory');
  assert.deepEqual(bodies?.actions, ['s3:GetObject', 's3:DeleteObject']);
  assert.match(JSON.stringify(bodies?.Resource), /bodies\/isr-pages\/\*/);
});

test('where FaceTheory has its bodies must be known', () => {
  assert.throws(
    () => made(takesOver({})),
    /storage\.faceTheory\.bodyPrefixes is needed where there is no `keyPrefix`/,
  );
  assert.throws(() => made(() => ({ storage: { faceTheory: {} } })), /give `table` and `bucket`/);
  const { stack } = made(takesOver({ bodyPrefixes: ['html', 'old/html'] }));
  const bodies = statementsOf(stack, 'LeaseholdTaskRole').find(({ Sid }) => Sid === 'BodiesOfFaceTheory');
  assert.equal(bodies?.Resource.length, 2);
  assert.equal(environmentOf(stack).LEASEHOLD_S3_KEY_PREFIX, undefined);
});

test('no role may do everything, or anything to everything', () => {
  const stacks = [...Object.keys(TEMPLATES).map(stackOf), made(takesOver({ keyPrefix: 'isr-pages' })).stack];
  for (const stack of stacks) {
    const roles = resources(stack, 'AWS::IAM::Policy').map(({ id }) => id.replace(/DefaultPolicy.*/, ''));
    assert.ok(roles.length >= 5, String(roles));
    for (const statement of roles.flatMap((role) => statementsOf(stack, role))) {
      const { actions, Resource, Effect } = statement;
      assert.equal(Effect, 'Allow');
      assert.ok(!actions.some((action) => action.includes('*')), String(actions));
      // The one action that knows no resource.
      if (String(actions) !== 'ecr:GetAuthorizationToken') {
        for (const one of [Resource].flat()) {
          const text = JSON.stringify(one);
          const isOfObjects =
            actions.every((action) => action.endsWith('Object')) && /\/(isr|isr-pages)\/\*/.test(text);
          assert.ok(isOfObjects || !text.includes('*'), `${actions}: ${text}`);
        }
      }
    }
    assert.deepEqual(
      resources(stack, 'AWS::IAM::Role').filter(({ properties }) => properties.ManagedPolicyArns),
      [],
    );
  }
});

function takesOver(faceTheory: FaceTheoryLayout) {
  return (stack: Stack) => ({
    storage: {
      table: dynamodb.Table.fromTableName(stack, 'Pages', 'pages'),
      bucket: s3.Bucket.fromBucketName(stack, 'Bodies', 'bodies'),
      faceTheory,
    },
  });
}
