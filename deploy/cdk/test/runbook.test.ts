/** What the README of this folder has people paste into a shell, in so far as it can be tried without AWS. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { site } from './example-stack.js';
import { templateOf } from './stacks.js';

const HERE = fileURLToPath(new URL('../../', import.meta.url));
const RUNBOOK = readFileSync(join(HERE, '../README.md'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'leasehold-runbook-'));
after(() => rmSync(folder, { recursive: true }));

function all(pattern: RegExp, text = RUNBOOK): string[] {
  const found = [...text.matchAll(pattern)].map(([, one = '']) => one);
  assert.ok(found.length > 0, String(pattern));
  return [...new Set(found)].sort();
}

test('every output that is asked for is one of the example', () => {
  const outputs = Object.keys(templateOf(site()).findOutputs('*'));
  assert.deepEqual(
    all(/\(output ([A-Za-z]+)\)/g).filter((name) => !outputs.includes(name)),
    [],
  );
});

test('every variable that the example needs is set', () => {
  const program = readFileSync(join(HERE, 'bin/example.ts'), 'utf8');
  const needed = all(/needed\('([A-Z_]+)'/g, program);
  const exported = RUNBOOK.split('\n').filter((line) => line.startsWith('export '));
  assert.deepEqual(
    needed.filter((name) => !exported.some((line) => line.includes(` ${name}=`))),
    [],
  );
});

test('what becomes a secret is what is made, but for the authority', () => {
  const made = join(folder, 'made');
  execFileSync(join(HERE, 'example/secrets'), [made], { stdio: 'pipe' });
  for (const list of all(/^for name in ([a-z. -]+); do$/gm)) {
    assert.deepEqual(
      list.split(' ').sort(),
      readdirSync(made).filter((name) => name !== 'ca.pem'),
    );
  }
  assert.deepEqual(
    all(/\(arn ([a-z.-]+)\)/g),
    readdirSync(made).filter((name) => name !== 'ca.pem'),
  );
});

/** What each command of `aws` cannot do without, or means something else without, if it is to be pasted. */
const OPTIONS: Readonly<Record<string, string>> = {
  'application-autoscaling register-scalable-target':
    '--service-namespace --scalable-dimension --resource-id',
  'cloudformation delete-stack': '--stack-name',
  'cloudformation deploy': '--stack-name --template-file --capabilities',
  'cloudformation describe-stack-events': '--stack-name',
  'cloudformation describe-stacks': '--stack-name',
  'cloudformation list-stack-resources': '--stack-name',
  'cloudformation wait stack-delete-complete': '--stack-name',
  'cloudwatch get-metric-statistics':
    '--namespace --metric-name --dimensions --start-time --end-time --period --statistics',
  'cloudwatch set-alarm-state': '--alarm-name --state-value --state-reason',
  'dynamodb delete-table': '--table-name',
  'dynamodb update-table': '--table-name',
  'dynamodb wait table-exists': '--table-name',
  'ecr create-repository': '--repository-name',
  'ecr delete-repository': '--repository-name --force',
  'ecr get-login-password': '',
  'ecs describe-services': '--cluster --services',
  'ecs describe-tasks': '--cluster --tasks',
  'ecs run-task': '--cluster --launch-type --task-definition --network-configuration',
  'ecs update-service': '--cluster --service',
  'ecs wait services-stable': '--cluster --services',
  'ecs wait tasks-stopped': '--cluster --tasks',
  'elbv2 modify-load-balancer-attributes': '--load-balancer-arn --attributes',
  'lambda invoke': '--function-name --payload',
  'logs delete-log-group': '--log-group-name',
  'logs describe-log-groups': '--log-group-name-prefix',
  'logs get-log-events': '--log-group-name --log-stream-name',
  's3 rb': '--force',
  'secretsmanager create-secret': '--name --secret-string',
  'secretsmanager delete-secret': '--secret-id',
  'secretsmanager describe-secret': '--secret-id',
  'secretsmanager put-secret-value': '--secret-id --secret-string',
  'sns subscribe': '--topic-arn --protocol --notification-endpoint',
  'sqs purge-queue': '--queue-url',
  'sts get-caller-identity': '',
};

test('every command of aws has the options that it cannot do without', () => {
  const text = RUNBOOK.replaceAll(/\\\n */g, '');
  const command =
    /\baws ((?:[a-z0-9-]+ wait|[a-z0-9]+(?:-[a-z]+)*) [a-z0-9-]+)((?:(?! aws |\$\(aws )[^`\n])*)/g;
  const wrong = [...text.matchAll(command)].flatMap(([, name = '', options = '']) => {
    // One that is only named.
    if (!/ --/.test(options)) {
      return [];
    }
    const needed = OPTIONS[name];
    if (needed === undefined) {
      return [`aws ${name}: what it needs is not known here`];
    }
    const given = options.match(/ --[a-z-]+/g)?.map((option) => option.trim()) ?? [];
    return needed
      .split(' ')
      .filter((option) => option && !given.includes(option))
      .map((option) => `aws ${name}: ${option}`);
  });
  assert.deepEqual(wrong, []);
  const named = new Set([...text.matchAll(command)].map(([, name]) => name));
  assert.deepEqual(
    Object.keys(OPTIONS).filter((name) => !named.has(name)),
    [],
  );
});

const mayBeSkipped =
  spawnSync('jq', ['--version']).status !== 0 &&
  process.env.LEASEHOLD_REQUIRE_ALL !== '1' &&
  'jq is not installed';

/** The commands of `aws` that a pasted function calls, with their arguments; `aws` answers what it is told to. */
function pasted(functions: readonly RegExp[], line: string): { status: number | null; calls: string[][] } {
  const bin = mkdtempSync(join(folder, 'bin-'));
  const calls = join(bin, 'calls');
  mkdirSync(join(bin, 'path'));
  const aws = `#!/usr/bin/env bash
jq -cn '$ARGS.positional' --args -- "$@" >>'${calls}'
case "$1 $2" in
    'cloudformation describe-stacks') sed -E "s/.*OutputKey=='([A-Za-z]+)'.*/the-\\1/" <<<"$6" ;;
    'ecs run-task') echo arn:aws:ecs:eu-west-1:123456789012:task/cluster/0123 ;;
    'ecs describe-tasks') echo 3 ;;
esac
`;
  writeFileSync(join(bin, 'path/aws'), aws, { mode: 0o755 });
  const texts = functions.map((one) => one.exec(RUNBOOK)?.[0] ?? assert.fail(String(one)));
  const script = ['set -eu', ...texts, line].join('\n');
  const { status } = spawnSync('bash', ['-c', script], {
    env: {
      PATH: `${join(bin, 'path')}:${process.env.PATH}`,
      ...{ CLUSTER: 'cluster', SWEEP_TASK: 'sweep', SUBNET: 'subnet', SWEEP_GROUP: 'a', CALLERS_GROUP: 'b' },
      ...{ SWEEP_LOG: 'log', ENDPOINT: 'http://leasehold.internal:7420' },
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const lines = readFileSync(calls, 'utf8').trim().split('\n');
  return { status, calls: lines.map((one) => JSON.parse(one)) };
}

function overridesOf(calls: string[][]) {
  const run = calls.find(([service, command]) => service === 'ecs' && command === 'run-task') ?? [];
  return { run, overrides: JSON.parse(run[run.indexOf('--overrides') + 1] ?? 'null') };
}

const COMMAND = ['lookup', 'site::/?', '--tenant', 'site'];
const LINE = "leasehold lookup 'site::/?' --tenant site";

test("a command is handed to the operators' task as it is, and its exit code back", {
  skip: mayBeSkipped,
}, () => {
  const functions = [/^output\(\) \{.*?^\}$/ms, /^leasehold\(\) \{\n {4}local cluster.*?^\}$/ms];
  const { status, calls } = pasted(functions, LINE);
  assert.equal(status, 3);
  const { run, overrides } = overridesOf(calls);
  assert.deepEqual(overrides, { containerOverrides: [{ name: 'leasehold', command: COMMAND }] });
  assert.equal(run[run.indexOf('--task-definition') + 1], 'the-OperatorTask');
  assert.equal(
    run[run.indexOf('--network-configuration') + 1],
    'awsvpcConfiguration={subnets=[the-OperatorSubnets],securityGroups=[the-OperatorSecurityGroup]}',
  );
  const log = calls.find(([service]) => service === 'logs') ?? [];
  assert.equal(log[log.indexOf('--log-stream-name') + 1], 'leasehold/leasehold/0123');
});

test('and to the task of the sweep, with where the coordinator is', { skip: mayBeSkipped }, () => {
  const { status, calls } = pasted([/^leasehold\(\) \{\n {4}local task.*?^\}$/ms], LINE);
  assert.equal(status, 3);
  const environment = [{ name: 'LEASEHOLD_ENDPOINT', value: 'http://leasehold.internal:7420' }];
  assert.deepEqual(overridesOf(calls).overrides, {
    containerOverrides: [{ name: 'leasehold', command: COMMAND, environment }],
  });
});
