import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { secrets, site } from './example-stack.js';
import { environmentOf, resource, resources, review, secretsOf, statementsOf, templateOf } from './stacks.js';

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

test('CloudFront waits as long as the Lambda may take, and that as long as a visitor waits for a render', () => {
  const stack = site();
  const { Timeout } = resource(stack, 'AWS::Lambda::Function', 'Render').properties;
  const { Origins } = resource(stack, 'AWS::CloudFront::Distribution').properties.DistributionConfig;
  const [timeout] = Origins.flatMap(({ CustomOriginConfig }: { CustomOriginConfig?: OriginConfig }) =>
    CustomOriginConfig ? [CustomOriginConfig.OriginReadTimeout] : [],
  );
  assert.ok(timeout >= Timeout, `${timeout} s, and ${Timeout} s`);
  const handler = readFileSync(new URL('../../example/site/handler.ts', import.meta.url), 'utf8');
  const waited = Number(/maxWaitMs: ([0-9_]+)/.exec(handler)?.[1]?.replace('_', ''));
  // With as much again for the visitor's own render, and for what is rendered behind.
  assert.ok(waited > 0 && 3 * waited <= Timeout * 1000, `${waited} ms`);
});

interface OriginConfig {
  readonly OriginReadTimeout?: number;
}

test('a deployment that fails can be taken back whole, but for what is kept', () => {
  const attributes: { Key: string; Value: string }[] = resource(
    site(),
    'AWS::ElasticLoadBalancingV2::LoadBalancer',
  ).properties.LoadBalancerAttributes;
  const isProtected = attributes.find(({ Key }) => Key === 'deletion_protection.enabled');
  assert.equal(isProtected?.Value, 'false');
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
  // Both are asked for, since a function URL came to need the second one.
  const allowed = resources(stack, 'AWS::Lambda::Permission').map(({ properties }) => [
    properties.Action,
    properties.Principal,
    properties.InvokedViaFunctionUrl,
  ]);
  assert.deepEqual(allowed.sort(), [
    ['lambda:InvokeFunction', 'cloudfront.amazonaws.com', true],
    ['lambda:InvokeFunctionUrl', 'cloudfront.amazonaws.com', undefined],
  ]);
  const { properties } = resource(stack, 'AWS::IAM::Role', 'RenderRole');
  assert.equal(properties.ManagedPolicyArns.length, 1);
  assert.equal(properties.Policies, undefined);
  assert.deepEqual(
    statementsOf(stack, 'RenderRole').map(({ actions, Resource }) => [actions, Resource]),
    [[['secretsmanager:GetSecretValue', 'secretsmanager:DescribeSecret'], secrets.renderToken]],
  );
});

test('the Lambda knows where its token is, and whom to believe', () => {
  const variables = resource(site(), 'AWS::Lambda::Function', 'Render').properties.Environment.Variables;
  assert.deepEqual(variables, {
    SITE_TENANT: 'site',
    LEASEHOLD_ENDPOINT: 'https://leasehold.internal:7420',
    LEASEHOLD_CA_PEM: 'PEM',
    LEASEHOLD_AUTH_TOKEN_SECRET_ARN: secrets.renderToken,
  });
});

test('the coordinators ask for tokens, over TLS', () => {
  const stack = site();
  const { LEASEHOLD_AUTH, LEASEHOLD_ALLOW_REMOTE } = environmentOf(stack);
  assert.deepEqual([LEASEHOLD_AUTH, LEASEHOLD_ALLOW_REMOTE], ['token', undefined]);
  assert.deepEqual(secretsOf(stack), [
    'LEASEHOLD_POLICY_TOML',
    'LEASEHOLD_TLS_CERT_PEM',
    'LEASEHOLD_TLS_KEY_PEM',
    'LEASEHOLD_TOKENS_TOML',
  ]);
  assert.equal(resource(stack, 'AWS::Route53::HostedZone').properties.Name, 'leasehold.internal.');
});

test('of each secret the template has the name, and who needs it reads it: nobody else', () => {
  const stack = site();
  const { certificate, privateKey, policy, tokens, renderToken, operatorToken } = secrets;
  const readers: Readonly<Record<string, readonly string[]>> = {
    LeaseholdTaskExecutionRole: [certificate, privateKey, policy, tokens],
    OperatorTaskExecutionRole: [operatorToken],
    RenderRole: [renderToken],
  };
  const policies = resources(stack, 'AWS::IAM::Policy').filter(({ properties }) =>
    JSON.stringify(properties.PolicyDocument).includes('secretsmanager:'),
  );
  assert.equal(policies.length, Object.keys(readers).length);
  for (const [role, read] of Object.entries(readers)) {
    const arns = statementsOf(stack, role)
      .filter(({ actions }) => actions.some((action) => action.startsWith('secretsmanager:')))
      .flatMap(({ Resource }) => Resource);
    assert.deepEqual(arns.sort(), [...read].sort(), role);
  }
  assert.deepEqual(resources(stack, 'AWS::SecretsManager::Secret'), []);
  assert.doesNotMatch(JSON.stringify(templateOf(stack).toJSON()), /\{\{resolve:/);
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
  assert.equal(endpoints.length, 6);
  for (const service of ['ecr.api', 'ecr.dkr', 'logs', 'secretsmanager', 'dynamodb', 's3']) {
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
