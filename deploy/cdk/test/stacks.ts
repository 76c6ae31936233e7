import assert from 'node:assert/strict';
import { App, Stack, type StackProps, Validations } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { Secret } from 'aws-cdk-lib/aws-secretsmanager';
import { AwsSolutionsChecks, NagRuleCompliance, type NagRuleResult } from 'cdk-nag';
import type { IConstruct } from 'constructs';
import { LeaseholdCoordinator, type LeaseholdCoordinatorProps } from '../src/index.js';

/** A coordinator in a stack of its own, and what CloudFormation would be given of it. */
export interface Made {
  readonly stack: Stack;
  readonly vpc: ec2.Vpc;
  readonly coordinator: LeaseholdCoordinator;
}

export function made(
  props: (stack: Stack) => Partial<LeaseholdCoordinatorProps> = () => ({}),
  app = new App(),
  stackProps: StackProps = {},
): Made {
  const stack = new Stack(app, 'Leasehold', stackProps);
  const vpc = new ec2.Vpc(stack, 'Vpc', {
    natGateways: 0,
    subnetConfiguration: [{ name: 'inside', subnetType: ec2.SubnetType.PRIVATE_ISOLATED }],
  });
  const coordinator = new LeaseholdCoordinator(stack, 'Leasehold', {
    vpc,
    image: image(stack),
    ...props(stack),
  });
  return { stack, vpc, coordinator };
}

export function image(stack: Stack): ecs.ContainerImage {
  return ecs.ContainerImage.fromEcrRepository(
    ecr.Repository.fromRepositoryName(stack, 'Image', 'leasehold'),
    '1.0.0',
  );
}

export function secret(stack: Stack, name: string): Secret {
  return new Secret(stack, name);
}

/** Coordinators that ask for tokens, and what belongs to that. */
export function tokenAccess(stack: Stack) {
  return {
    auth: 'token' as const,
    policy: secret(stack, 'Policy'),
    tokens: secret(stack, 'Tokens'),
    tls: {
      hostName: 'leasehold.internal',
      certificate: secret(stack, 'Pem'),
      privateKey: secret(stack, 'Key'),
    },
  };
}

/** A function that renders. */
export function render(stack: Stack, vpc?: ec2.IVpc): lambda.Function {
  return new lambda.Function(stack, 'Render', {
    runtime: lambda.Runtime.NODEJS_22_X,
    handler: 'index.handler',
    code: lambda.Code.fromInline('exports.handler = async () => ({})'),
    ...(vpc && { vpc, vpcSubnets: { subnetType: ec2.SubnetType.PRIVATE_ISOLATED } }),
  });
}

/** One resource of a template. */
export interface Resource {
  readonly id: string;
  // biome-ignore lint/suspicious/noExplicitAny: a template is JSON, and a test that reads what is not there fails.
  readonly properties: any;
}

/** A stack is synthesised once: it is read when all is in it. */
const synthesised = new WeakMap<Stack, Template>();

export function templateOf(stack: Stack): Template {
  const template = synthesised.get(stack) ?? Template.fromStack(stack);
  synthesised.set(stack, template);
  return template;
}

/** The resources of a type. */
export function resources(stack: Stack, type: string): Resource[] {
  const found = templateOf(stack).findResources(type);
  return Object.entries(found).map(([id, { Properties }]) => ({ id, properties: Properties }));
}

/** The one resource of a type whose logical id contains a text. */
export function resource(stack: Stack, type: string, part = ''): Resource {
  const found = resources(stack, type).filter(({ id }) => id.includes(part));
  const [one] = found;
  if (!one || found.length > 1) {
    throw new Error(`${found.length} resources of type ${type} with '${part}' in their name`);
  }
  return one;
}

/** All that CloudFormation makes before a resource: what it depends on, or names, and what these do. */
export function madeBefore(stack: Stack, id: string, found = new Set<string>()): Set<string> {
  const { Resources } = templateOf(stack).toJSON();
  const text = JSON.stringify(Resources[id]);
  for (const other of Object.keys(Resources).filter((other) => text.includes(`"${other}"`))) {
    if (!found.has(other)) {
      madeBefore(stack, other, found.add(other));
    }
  }
  return found;
}

/** What the container of a task is told. */
export function environmentOf(stack: Stack, part = 'LeaseholdTaskDefinition'): Record<string, unknown> {
  const [container] = resource(stack, 'AWS::ECS::TaskDefinition', part).properties.ContainerDefinitions;
  const pairs: { Name: string; Value: unknown }[] = container.Environment;
  return Object.fromEntries(pairs.map(({ Name, Value }) => [Name, Value]));
}

/** The names of the variables that hold secrets. */
export function secretsOf(stack: Stack, part = 'LeaseholdTaskDefinition'): string[] {
  const { properties } = resource(stack, 'AWS::ECS::TaskDefinition', part);
  const secrets: { Name: string }[] = properties.ContainerDefinitions[0].Secrets ?? [];
  return secrets.map(({ Name }) => Name).sort();
}

/** What the policy of a role allows; none: nothing. */
export function statementsOf(stack: Stack, role: string): Statement[] {
  const policies = resources(stack, 'AWS::IAM::Policy').filter(({ id }) =>
    id.includes(`${role}DefaultPolicy`),
  );
  assert.ok(policies.length <= 1, role);
  // biome-ignore lint/suspicious/noExplicitAny: JSON.
  const statements: any[] = policies.flatMap(({ properties }) => properties.PolicyDocument.Statement);
  return statements.map((statement) => ({ ...statement, actions: [statement.Action].flat() }));
}

export interface Statement {
  readonly Sid?: string;
  readonly Effect: string;
  readonly actions: string[];
  // biome-ignore lint/suspicious/noExplicitAny: JSON.
  readonly Resource: any;
  readonly Condition?: unknown;
}

/** What cdk-nag finds in a stack: what nobody has acknowledged, and acknowledgements of what is not there. */
export function review(stack: Stack): { found: string[]; idle: string[] } {
  const used = new Set<string>();
  class Recording extends AwsSolutionsChecks {
    // biome-ignore lint/suspicious/noExplicitAny: not declared, and there is no other way to hear of it.
    protected override applyRule(params: any): void {
      const rule = `AwsSolutions-${params.ruleSuffixOverride ?? params.rule.name}`;
      const ids = found(rule, () => params.rule(params.node));
      for (let at: IConstruct | undefined = params.node; at; at = at.node.scope) {
        const given = acknowledgedAt(at);
        for (const id of ids.filter((id) => given.includes(id))) {
          used.add(`${at.node.path} ${id}`);
        }
      }
      super.applyRule(params);
    }
  }
  const { violations } = new Recording().validateScope(stack);
  const open = violations.flatMap(({ ruleName, violatingResources }) =>
    violatingResources.map(({ constructPath }) => `${constructPath} ${ruleName}`),
  );
  const given = stack.node.findAll().flatMap((at) => acknowledgedAt(at).map((id) => `${at.node.path} ${id}`));
  // CDK itself acknowledges rules of others.
  return { found: open, idle: given.filter((one) => one.includes(' AwsSolutions-') && !used.has(one)) };
}

/** What a rule finds; one that cannot judge finds something too. */
function found(rule: string, judge: () => NagRuleResult): string[] {
  try {
    const result = judge();
    if (Array.isArray(result)) {
      return result.map((finding) => `${rule}[${finding}]`);
    }
    return result === NagRuleCompliance.NON_COMPLIANT ? [rule] : [];
  } catch {
    return [rule];
  }
}

function acknowledgedAt(construct: IConstruct): string[] {
  const entries = construct.node.metadata.filter(
    ({ type }) => type === Validations.ACKNOWLEDGED_RULES_METADATA_KEY,
  );
  return entries.flatMap(({ data }) => Object.keys(data)).map((id) => id.replace(/^annotation::/i, ''));
}
