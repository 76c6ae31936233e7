import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { App } from 'aws-cdk-lib';
import { SiteStack, type SiteStackProps } from '../example/stack.js';
import { environmentOf, resource, resources, review } from './stacks.js';

const code = mkdtempSync(join(tmpdir(), 'leasehold-site-'));
writeFileSync(join(code, 'index.js'), 'exports.handler = async () => ({});');
after(() => rmSync(code, { recursive: true }));

function site(props: Partial<SiteStackProps> = {}): SiteStack {
  return new SiteStack(new App(), 'Site', {
    imageRepository: 'leasehold',
    imageTag: '1.0.0',
    code,
    ...props,
  });
}

test('pages, their hydration data and whatever changes something go to the Lambda, with the whole query', () => {
  const stack = site();
  const { DefaultCacheBehavior, Origins } = resource(stack, 'AWS::CloudFront::Distribution').properties
    .DistributionConfig;
  const origin = Origins.find(({ Id }: { Id: string }) => Id === DefaultCacheBehavior.TargetOriginId);
  assert.match(JSON.stringify(origin.DomainName), /RenderFunctionUrl/);
  assert.deepEqual(DefaultCacheBehavior.AllowedMethods, [
    'GET',
    'HEAD',
    'OPTIONS',
    'PUT',
    'PATCH',
    'POST',
    'DELETE',
  ]);
  // The policies of AWS that are named CachingDisabled and AllViewerExceptHostHeader.
  assert.equal(DefaultCacheBehavior.CachePolicyId, '4135ea2d-6df8-44a3-9df3-4b5a84be39ad');
  assert.equal(DefaultCacheBehavior.OriginRequestPolicyId, 'b689b0a8-53d0-40ab-baf2-68738e2966ac');
});

test('only files go to a bucket, and it is not that of the coordinator', () => {
  const stack = site();
  const { CacheBehaviors, Origins } = resource(stack, 'AWS::CloudFront::Distribution').properties
    .DistributionConfig;
  assert.deepEqual(
    CacheBehaviors.map(({ PathPattern }: { PathPattern: string }) => PathPattern),
    ['/assets/*'],
  );
  assert.equal(Origins.length, 2);
  const { id } = resource(stack, 'AWS::S3::Bucket', 'Storage');
  assert.ok(!JSON.stringify(Origins).includes(id));
  const readers = resources(stack, 'AWS::S3::BucketPolicy').filter(
    ({ properties }) => properties.Bucket.Ref === id,
  );
  assert.ok(!JSON.stringify(readers).includes('cloudfront'));
});

test('the Lambda is called by CloudFront alone, and has rights neither of the table nor of the bucket', () => {
  const stack = site();
  assert.equal(resource(stack, 'AWS::Lambda::Url').properties.AuthType, 'AWS_IAM');
  for (const { properties } of resources(stack, 'AWS::Lambda::Permission')) {
    assert.equal(properties.Principal, 'cloudfront.amazonaws.com');
  }
  const { properties } = resource(stack, 'AWS::IAM::Role', 'RenderRole');
  assert.equal(properties.ManagedPolicyArns.length, 1);
  assert.equal(properties.Policies, undefined);
  assert.deepEqual(
    resources(stack, 'AWS::IAM::Policy').filter(({ properties }) =>
      JSON.stringify(properties.Roles).includes('Render'),
    ),
    [],
  );
  const variables = resource(stack, 'AWS::Lambda::Function', 'Render').properties.Environment.Variables;
  assert.deepEqual(Object.keys(variables).sort(), ['LEASEHOLD_ENDPOINT', 'SITE_TENANT']);
});

test('nothing of the VPC has a way to the internet', () => {
  const stack = site();
  for (const type of [
    'AWS::EC2::InternetGateway',
    'AWS::EC2::NatGateway',
    'AWS::EC2::EIP',
    'AWS::EC2::Route',
  ]) {
    assert.deepEqual(resources(stack, type), [], type);
  }
  const endpoints = resources(stack, 'AWS::EC2::VPCEndpoint').map(({ properties }) =>
    JSON.stringify(properties.ServiceName),
  );
  assert.equal(endpoints.length, 5);
  for (const service of ['ecr.api', 'ecr.dkr', 'logs', 'dynamodb', 's3']) {
    assert.ok(
      endpoints.some((name) => name.includes(`.${service}"`)),
      service,
    );
  }
});

test('what FaceTheory keeps is taken over', () => {
  const stack = site({ faceTheory: { table: 'pages', bucket: 'bodies', prefix: 'isr-pages' } });
  assert.equal(environmentOf(stack).FACETHEORY_CACHE_TABLE_NAME, 'pages');
  assert.deepEqual(resources(stack, 'AWS::DynamoDB::Table'), []);
});

test('nothing is against the rules without a reason, and no reason is idle', () => {
  assert.deepEqual(review(site()), { found: [], idle: [] });
});
