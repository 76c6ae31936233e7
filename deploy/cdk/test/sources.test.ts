/** The stack, and the program that it runs: what the one sets, asks and allows must be what the other knows, says and does. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Stack } from 'aws-cdk-lib';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as s3 from 'aws-cdk-lib/aws-s3';
import { LAST_WORDS, MESSAGES } from '../src/alarms.js';
import { stackOf, TEMPLATES } from '../src/templates.js';
import {
  environmentOf,
  made,
  render,
  resource,
  resources,
  secret,
  secretsOf,
  tokenAccess,
} from './stacks.js';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

/** The Rust sources of a folder, without those of tests, by their paths in it. */
function sources(folder: string): Map<string, string> {
  const files = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' });
  const rust = files.filter((file) => file.endsWith('.rs') && !/(^|\/)(tests|testing)(\.rs$|\/)/.test(file));
  assert.ok(rust.length > 0, folder);
  return new Map(rust.map((file) => [file, readFileSync(join(ROOT, folder, file), 'utf8')]));
}

function text(folder: string): string {
  return [...sources(folder).values()].join('\n');
}

test('every variable that is set is one that the coordinator knows', () => {
  const program = text('server/leasehold/src');
  const known = new Set(
    [...program.matchAll(/"((?:LEASEHOLD|FACETHEORY)_[A-Z0-9_]+)"/g)].map(([, name]) => name),
  );
  assert.ok(known.has('LEASEHOLD_LISTEN') && known.has('FACETHEORY_CACHE_TABLE_NAME'));
  const stacks = [...Object.keys(TEMPLATES).map(stackOf), takenOver()];
  for (const stack of stacks) {
    const names = [
      ...Object.keys(environmentOf(stack)),
      ...Object.keys(environmentOf(stack, 'Sweep')),
      ...secretsOf(stack),
    ];
    const unknown = names.filter((name) => !known.has(name));
    assert.deepEqual(unknown, []);
  }
});

test('every variable that operators and callers are given is one that somebody reads', () => {
  const { stack, vpc, coordinator } = made((stack) => ({ access: tokenAccess(stack) }));
  const [token, tokenSecret] = [secret(stack, 'OfOperators'), secret(stack, 'OfSite')];
  coordinator.addOperator({ token, caPem: 'PEM' });
  const operator = 'LeaseholdOperatorTaskDefinition';
  coordinator.grantInvoke(render(stack, vpc), { tokenSecret, caPem: 'PEM' });
  const variables = resource(stack, 'AWS::Lambda::Function').properties.Environment.Variables;
  const readers: [string, readonly string[]][] = [
    [
      text('server/leasehold/src') + text('client/rust/src'),
      [...Object.keys(environmentOf(stack, operator)), ...secretsOf(stack, operator)],
    ],
    [readFileSync(join(ROOT, 'deploy/cdk/example/site/handler.ts'), 'utf8'), Object.keys(variables)],
  ];
  for (const [reader, names] of readers) {
    assert.equal(names.length, 3);
    assert.deepEqual(
      names.filter((name) => !new RegExp(`\\b${name}\\b`).test(reader)),
      [],
    );
  }
});

/** What IAM calls the right to each call of the SDK. */
const RIGHTS: Readonly<Record<string, readonly string[]>> = {
  get_item: ['dynamodb:GetItem'],
  put_item: ['dynamodb:PutItem'],
  query: ['dynamodb:Query'],
  scan: ['dynamodb:Scan'],
  // Of the log: an update of its head, and a put of the event.
  transact_write_items: ['dynamodb:PutItem', 'dynamodb:UpdateItem'],
  describe_table: ['dynamodb:DescribeTable'],
  describe_time_to_live: ['dynamodb:DescribeTimeToLive'],
  get_object: ['s3:GetObject'],
  head_object: ['s3:GetObject'],
  put_object: ['s3:PutObject'],
  delete_object: ['s3:DeleteObject'],
  delete_objects: ['s3:DeleteObject'],
  head_bucket: ['s3:ListBucket'],
  list_objects_v2: ['s3:ListBucket'],
};
/** Whatever is asked of a client, but to be made, or copied. */
const CALL = /\b(?:client|s3)\s*\.(?!build\(|clone\()([a-z][a-z0-9_]*)\(\)/g;

test('a role may do what its program calls, and nothing else', () => {
  const calls = { serve: new Set<string>(), sweep: new Set<string>() };
  for (const [file, code] of sources('server/aws/src')) {
    // For development, by whoever has more rights.
    if (file === 'init.rs') {
      continue;
    }
    const of = /^sweep(\.rs|\/)/.test(file) ? calls.sweep : calls.serve;
    for (const [, call = ''] of code.matchAll(CALL)) {
      assert.ok(RIGHTS[call], `${file}: no right is known for ${call}`);
      of.add(call);
    }
  }
  for (const stack of [made().stack, takenOver()]) {
    for (const [role, called] of [
      ['LeaseholdTaskRole', calls.serve],
      ['SweepTaskRole', calls.sweep],
    ] as const) {
      const needed = new Set([...called].flatMap((call) => RIGHTS[call] ?? []));
      assert.ok(needed.size >= 4, role);
      assert.deepEqual(actionsOf(stack, role), [...needed].sort());
    }
  }
});

test('what alarms look for in the log is what the program says', () => {
  const program = text('server/service/src') + text('server/leasehold/src');
  const { stack } = made();
  const filters = resources(stack, 'AWS::Logs::MetricFilter');
  const patterns: string[] = filters.map(({ properties }) => properties.FilterPattern);
  for (const message of Object.values(MESSAGES)) {
    // Said to the log, and not to somebody who asked.
    const said = new RegExp(`tracing::(?:info|warn|error)!\\([^;]*"${message}`);
    assert.match(program, said, message);
    assert.ok(
      patterns.some((pattern) => pattern.includes(`$.message = "${message}*"`)),
      String(patterns),
    );
  }
  assert.ok(program.includes(`eprintln!("${LAST_WORDS}{message}`));
  const ofLastWords = patterns.filter((pattern) => pattern.startsWith('%'));
  assert.equal(ofLastWords.length, 2);
  for (const pattern of ofLastWords) {
    const lastWords = new RegExp(pattern.slice(1, -1));
    assert.match(`${LAST_WORDS}the store on AWS cannot be used`, lastWords);
    assert.doesNotMatch('{"level":"INFO","message":"serving","target":"leasehold::serve"}', lastWords);
    assert.doesNotMatch('leasehold listens', lastWords);
  }
  assert.equal(environmentOf(stack).LEASEHOLD_LOG_FORMAT, 'json');
  assert.match(text('server/leasehold/src'), /\.json\(\)\.flatten_event\(true\)/);
});

test('a task outlives what it may take to drain, and its last moments', () => {
  const program = text('server/leasehold/src');
  const lastMoments = seconds(program, /LAST_MOMENTS: Duration = Duration::from_secs\((\d+)\)/);
  const lastSpans = seconds(program, /LAST_SPANS: Duration = Duration::from_secs\((\d+)\)/);
  const { stack } = made();
  const [container] = resource(stack, 'AWS::ECS::TaskDefinition', 'LeaseholdTaskDefinition').properties
    .ContainerDefinitions;
  const drain = Number.parseInt(String(environmentOf(stack).LEASEHOLD_DRAIN_TIMEOUT), 10);
  assert.ok(container.StopTimeout >= drain + lastSpans + lastMoments + 5);
  // Before it serves, it may look at table, bucket and rights for so long.
  const check = seconds(text('server/leasehold/src'), /CHECK_TIME: Duration = Duration::from_secs\((\d+)\)/);
  assert.ok(container.HealthCheck.StartPeriod >= 2 * check);
});

test('the memory of a task holds all that the defaults let it hold', () => {
  const flags = readFileSync(join(ROOT, 'server/leasehold/src/flags.rs'), 'utf8');
  const budgets = [
    'CACHE_BYTES',
    'ENTRY_BYTES',
    'LOG_BYTES',
    'MAX_UPLOAD_BYTES',
    'MAX_STREAMED_BYTES',
    'MAX_RECEIVING_BYTES',
    'MAX_UNREAD_BYTES',
  ];
  const mib = budgets.map((name) =>
    seconds(flags, new RegExp(`LEASEHOLD_${name}"[^)]*default_value = "(\\d+)MiB"`)),
  );
  const held = mib.reduce((sum, one) => sum + one, 0);
  const { Memory } = resource(made().stack, 'AWS::ECS::TaskDefinition', 'LeaseholdTaskDefinition').properties;
  assert.ok(held > 0 && held <= 0.75 * Number(Memory), `${held} MiB of ${Memory}`);
});

test('every alarm has a section in the runbook', () => {
  const runbook = readFileSync(join(ROOT, 'deploy/README.md'), 'utf8');
  const headings = [...runbook.matchAll(/^#+ `([A-Za-z]+)`$/gm)].map(([, heading]) => heading);
  const named = resources(made().stack, 'AWS::CloudWatch::Alarm').map(
    ({ properties }) => /deploy\/README\.md, ([A-Za-z]+)\.$/.exec(properties.AlarmDescription)?.[1],
  );
  assert.deepEqual(headings.sort(), named.sort());
});

function takenOver(): Stack {
  return made((stack) => ({
    storage: {
      table: dynamodb.Table.fromTableName(stack, 'Pages', 'pages'),
      bucket: s3.Bucket.fromBucketName(stack, 'Bodies', 'bodies'),
      faceTheory: { keyPrefix: 'isr-pages' },
    },
  })).stack;
}

function actionsOf(stack: Stack, role: string): string[] {
  const policies = resources(stack, 'AWS::IAM::Policy').filter(({ id }) =>
    id.includes(`${role}DefaultPolicy`),
  );
  assert.equal(policies.length, 1, role);
  // biome-ignore lint/suspicious/noExplicitAny: JSON.
  const statements: any[] = policies.flatMap(({ properties }) => properties.PolicyDocument.Statement);
  return [...new Set(statements.flatMap(({ Action }) => [Action].flat()))].sort();
}

function seconds(code: string, pattern: RegExp): number {
  const found = pattern.exec(code)?.[1];
  assert.ok(found, String(pattern));
  return Number(found);
}
