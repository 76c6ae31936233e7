import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Certificate } from 'aws-cdk-lib/aws-certificatemanager';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as s3 from 'aws-cdk-lib/aws-s3';
import { stackOf, TEMPLATES } from '../src/templates.js';
import { made, review } from './stacks.js';

/** What the stacks of these tests have beside the coordinator. */
const OF_THE_TEST = /\/(Vpc|Certificate)\//;

for (const name of Object.keys(TEMPLATES)) {
  test(`nothing in ${name} is against the rules without a reason, and no reason is idle`, () => {
    assert.deepEqual(review(stackOf(name)), { found: [], idle: [] });
  });
}

test('nor where FaceTheory is taken over, nor behind an application load balancer', () => {
  const { stack } = made((stack) => ({
    storage: {
      table: dynamodb.Table.fromTableName(stack, 'Pages', 'pages'),
      bucket: s3.Bucket.fromBucketName(stack, 'Bodies', 'bodies'),
      faceTheory: { keyPrefix: 'isr-pages' },
    },
    applicationBalancer: {
      certificate: Certificate.fromCertificateArn(
        stack,
        'Certificate',
        'arn:aws:acm:eu-west-1:123456789012:certificate/1',
      ),
      hostName: 'leasehold.example.com',
    },
  }));
  const { found, idle } = review(stack);
  assert.deepEqual([found.filter((one) => !OF_THE_TEST.test(one)), idle], [[], []]);
});
