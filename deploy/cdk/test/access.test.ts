import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Stack } from 'aws-cdk-lib';
import type { LeaseholdAccessProps } from '../src/index.js';
import { environmentOf, made, resource, secret, secretsOf, statementsOf, tokenAccess } from './stacks.js';

function tls(stack: Stack) {
  return {
    hostName: 'leasehold.internal',
    certificate: secret(stack, 'Pem'),
    privateKey: secret(stack, 'Key'),
  };
}

test('without a word about access, the coordinator is told that other machines may reach it', () => {
  const { stack } = made();
  assert.equal(environmentOf(stack).LEASEHOLD_ALLOW_REMOTE, 'true');
  assert.equal(environmentOf(stack).LEASEHOLD_AUTH, undefined);
  assert.deepEqual(secretsOf(stack), []);
});

test('with tokens, it is not; all that is secret comes from Secrets Manager', () => {
  const { stack, coordinator } = made((stack) => ({ access: tokenAccess(stack) }));
  assert.equal(environmentOf(stack).LEASEHOLD_AUTH, 'token');
  assert.equal(environmentOf(stack).LEASEHOLD_ALLOW_REMOTE, undefined);
  assert.deepEqual(secretsOf(stack), [
    'LEASEHOLD_POLICY_TOML',
    'LEASEHOLD_TLS_CERT_PEM',
    'LEASEHOLD_TLS_KEY_PEM',
    'LEASEHOLD_TOKENS_TOML',
  ]);
  assert.equal(coordinator.endpoint, 'https://leasehold.internal:7420');
  assert.deepEqual(secretsReadBy(stack, 'LeaseholdTaskExecutionRole').length, 4);
  assert.deepEqual(secretsReadBy(stack, 'LeaseholdTaskRole'), []);
  assert.deepEqual(secretsReadBy(stack, 'SweepTaskExecutionRole'), []);
});

test('callers find the name of the certificate inside the VPC', () => {
  const { stack } = made((stack) => ({ access: { tls: tls(stack) } }));
  const zone = resource(stack, 'AWS::Route53::HostedZone');
  assert.equal(zone.properties.Name, 'leasehold.internal.');
  assert.equal(zone.properties.VPCs.length, 1);
  const record = resource(stack, 'AWS::Route53::RecordSet').properties;
  assert.deepEqual([record.Name, record.Type], ['leasehold.internal.', 'A']);
  assert.match(JSON.stringify(record.AliasTarget.DNSName), /Balancer/);
});

test('certificates of callers are asked for with mtls', () => {
  const { stack } = made((stack) => ({
    access: {
      auth: 'mtls',
      policy: secret(stack, 'Policy'),
      tls: { ...tls(stack), clientCa: secret(stack, 'Ca') },
    },
  }));
  assert.equal(environmentOf(stack).LEASEHOLD_AUTH, 'mtls');
  assert.ok(secretsOf(stack).includes('LEASEHOLD_TLS_CLIENT_CA_PEM'));
  assert.ok(!secretsOf(stack).includes('LEASEHOLD_TOKENS_TOML'));
});

test('what belongs together, and is not, is refused by its name', () => {
  const table: [(stack: Stack) => LeaseholdAccessProps, RegExp][] = [
    [
      (stack) => ({ auth: 'token', tokens: secret(stack, 'Tokens') }),
      /access\.tls is needed with access\.auth 'token'/,
    ],
    [
      (stack) => ({ auth: 'token', policy: secret(stack, 'Policy'), tls: tls(stack) }),
      /access\.tokens is needed/,
    ],
    [
      (stack) => ({ auth: 'token', tokens: secret(stack, 'Tokens'), tls: tls(stack) }),
      /access\.policy is needed/,
    ],
    [
      (stack) => ({ auth: 'mtls', policy: secret(stack, 'Policy'), tls: tls(stack) }),
      /access\.tls\.clientCa is needed/,
    ],
    [
      (stack) => ({ policy: secret(stack, 'Policy') }),
      /access\.policy has no effect with access\.auth 'none'/,
    ],
    [
      (stack) => ({ tls: { ...tls(stack), clientCa: secret(stack, 'Ca') } }),
      /access\.tls\.clientCa has no effect/,
    ],
  ];
  for (const [access, why] of table) {
    assert.throws(() => made((stack) => ({ access: access(stack) })), why);
  }
});

function secretsReadBy(stack: Stack, role: string): unknown[] {
  const statements = statementsOf(stack, role);
  assert.ok(statements.length > 0, role);
  return statements.filter(({ actions }) => actions.includes('secretsmanager:GetSecretValue'));
}
