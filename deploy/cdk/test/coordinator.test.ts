import assert from 'node:assert/strict';
import { test } from 'node:test';
import { App, Duration, Stack } from 'aws-cdk-lib';
import { Match } from 'aws-cdk-lib/assertions';
import { Certificate } from 'aws-cdk-lib/aws-certificatemanager';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import { PrivateHostedZone } from 'aws-cdk-lib/aws-route53';
import { Topic } from 'aws-cdk-lib/aws-sns';
import { stackOf, TEMPLATES } from '../src/templates.js';
import { site } from './example-stack.js';
import {
  environmentOf,
  made,
  madeBefore,
  type Resource,
  render,
  resource,
  resources,
  secret,
  secretsOf,
  statementsOf,
  templateOf,
  tokenAccess,
} from './stacks.js';

const ECS_TASK = 'AWS::ECS::TaskDefinition';
const TARGETS = 'AWS::ElasticLoadBalancingV2::TargetGroup';
const BALANCER = 'AWS::ElasticLoadBalancingV2::LoadBalancer';

function attributesOf({ properties }: Resource, name: string): Record<string, string> {
  const pairs: { Key: string; Value: string }[] = properties[name];
  return Object.fromEntries(pairs.map(({ Key, Value }) => [Key, Value]));
}

function certificate(stack: Stack) {
  return Certificate.fromCertificateArn(
    stack,
    'Certificate',
    'arn:aws:acm:eu-west-1:123456789012:certificate/1',
  );
}

test('a task is for ARM64, as nobody, without capabilities, on a file system that it cannot write to', () => {
  const { stack } = made();
  for (const { properties } of resources(stack, ECS_TASK)) {
    assert.deepEqual(properties.RuntimePlatform, {
      CpuArchitecture: 'ARM64',
      OperatingSystemFamily: 'LINUX',
    });
    const [container, ...others] = properties.ContainerDefinitions;
    assert.deepEqual(others, []);
    assert.equal(container.User, '65532:65532');
    assert.equal(container.ReadonlyRootFilesystem, true);
    assert.equal(container.Privileged, false);
    assert.deepEqual(container.LinuxParameters, { Capabilities: { Drop: ['ALL'] } });
    assert.equal(container.EntryPoint, undefined);
    assert.equal(container.LogConfiguration.Options.mode, 'non-blocking');
  }
});

test('the container is healthy when the program says so', () => {
  const { stack } = made();
  const [container] = resource(stack, ECS_TASK, 'LeaseholdTaskDefinition').properties.ContainerDefinitions;
  assert.equal(container.Command, undefined);
  assert.deepEqual(container.HealthCheck.Command, [
    'CMD',
    '/leasehold',
    'healthcheck',
    '--admin',
    'http://127.0.0.1:7421',
  ]);
  assert.ok(
    container.HealthCheck.StartPeriod >= 60 && container.HealthCheck.Timeout < container.HealthCheck.Interval,
  );
});

test('no task has a public address, and no load balancer either', () => {
  for (const { stack } of [
    made(),
    made((stack) => ({
      applicationBalancer: { certificate: certificate(stack), hostName: 'leasehold.example.com' },
    })),
  ]) {
    const service = resource(stack, 'AWS::ECS::Service').properties;
    assert.equal(service.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp, 'DISABLED');
    const schedule = resource(stack, 'AWS::Scheduler::Schedule').properties;
    const { NetworkConfiguration } = schedule.Target.EcsParameters;
    assert.equal(NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp, 'DISABLED');
    assert.equal(resource(stack, BALANCER).properties.Scheme, 'internal');
  }
});

test('the load balancer passes TCP on, to targets that say that they are ready', () => {
  const { stack } = made();
  assert.equal(resource(stack, BALANCER).properties.Type, 'network');
  const listener = resource(stack, 'AWS::ElasticLoadBalancingV2::Listener').properties;
  assert.deepEqual([listener.Protocol, listener.Port], ['TCP', 7420]);
  const targets = resource(stack, TARGETS);
  const { properties } = targets;
  assert.deepEqual([properties.Protocol, properties.Port, properties.TargetType], ['TCP', 7420, 'ip']);
  assert.deepEqual(
    [
      properties.HealthCheckProtocol,
      properties.HealthCheckPort,
      properties.HealthCheckPath,
      properties.Matcher,
    ],
    ['HTTP', '7421', '/readyz', { HttpCode: '200' }],
  );
  const [container] = resource(stack, ECS_TASK, 'LeaseholdTaskDefinition').properties.ContainerDefinitions;
  const ports: { ContainerPort: number }[] = container.PortMappings;
  assert.deepEqual(
    ports.map(({ ContainerPort }) => ContainerPort),
    [7420, 7421],
  );
});

test('an application load balancer speaks gRPC with its targets, and takes OK alone for healthy', () => {
  const { stack, coordinator } = made((stack) => ({
    applicationBalancer: { certificate: certificate(stack), hostName: 'leasehold.example.com' },
  }));
  const { properties } = resource(stack, TARGETS);
  assert.deepEqual([properties.Protocol, properties.ProtocolVersion], ['HTTP', 'GRPC']);
  assert.deepEqual(properties.Matcher, { GrpcCode: '0' });
  assert.equal(properties.HealthCheckPath, '/grpc.health.v1.Health/Check');
  const listener = resource(stack, 'AWS::ElasticLoadBalancingV2::Listener').properties;
  assert.deepEqual([listener.Protocol, listener.Port], ['HTTPS', 443]);
  const attributes = attributesOf(resource(stack, BALANCER), 'LoadBalancerAttributes');
  assert.equal(attributes['routing.http.drop_invalid_header_fields.enabled'], 'true');
  // The longest silence of a watch is a quarter of a minute; of a stream of lookups there is none.
  assert.ok(Number(attributes['idle_timeout.timeout_seconds']) >= 60);
  assert.equal(coordinator.endpoint, 'https://leasehold.example.com:443');
});

test('nobody is cut off: out of the load balancer first, then drained, then killed', () => {
  for (const [drainSeconds, stopSeconds] of [
    [20, 30],
    [110, 120],
  ] as const) {
    const { stack } = made(() => ({ drainTimeout: Duration.seconds(drainSeconds) }));
    const [container] = resource(stack, ECS_TASK, 'LeaseholdTaskDefinition').properties.ContainerDefinitions;
    assert.equal(environmentOf(stack).LEASEHOLD_DRAIN_TIMEOUT, `${drainSeconds}s`);
    assert.equal(container.StopTimeout, stopSeconds);
    const attributes = attributesOf(resource(stack, TARGETS), 'TargetGroupAttributes');
    assert.ok(Number(attributes['deregistration_delay.timeout_seconds']) >= 60);
    assert.equal(attributes['deregistration_delay.connection_termination.enabled'], 'false');
  }
});

test('a deployment keeps all that serve, and one that fails is taken back', () => {
  const { stack } = made();
  const { DeploymentConfiguration, EnableExecuteCommand, DesiredCount } = resource(
    stack,
    'AWS::ECS::Service',
  ).properties;
  assert.equal(DeploymentConfiguration.MinimumHealthyPercent, 100);
  assert.equal(DeploymentConfiguration.MaximumPercent, 200);
  assert.deepEqual(DeploymentConfiguration.DeploymentCircuitBreaker, { Enable: true, Rollback: true });
  assert.equal(EnableExecuteCommand, false);
  // A number here would undo at every deployment what the scaling did.
  assert.equal(DesiredCount, undefined);
});

test('there are two coordinators at least, and more where they are busy', () => {
  const { stack } = made(() => ({ minTasks: 3, maxTasks: 12 }));
  const { properties } = resource(stack, 'AWS::ApplicationAutoScaling::ScalableTarget');
  assert.deepEqual([properties.MinCapacity, properties.MaxCapacity], [3, 12]);
  const policy = resource(stack, 'AWS::ApplicationAutoScaling::ScalingPolicy').properties;
  const { PredefinedMetricSpecification, TargetValue } = policy.TargetTrackingScalingPolicyConfiguration;
  assert.equal(PredefinedMetricSpecification.PredefinedMetricType, 'ECSServiceAverageCPUUtilization');
  assert.equal(TargetValue, 50);
});

test('DynamoDB and S3 are reached without leaving the network of AWS', () => {
  const { stack } = made();
  const services = resources(stack, 'AWS::EC2::VPCEndpoint').map(({ properties }) => {
    assert.equal(properties.VpcEndpointType, 'Gateway');
    assert.ok(properties.RouteTableIds.length > 0);
    return JSON.stringify(properties.ServiceName).match(/\.(dynamodb|s3)"/)?.[1];
  });
  assert.deepEqual(services.sort(), ['dynamodb', 's3']);
  assert.deepEqual(resources(made(() => ({ gatewayEndpoints: false })).stack, 'AWS::EC2::VPCEndpoint'), []);
});

test('a first task finds its rights and the way to AWS, and the first sweep a table that is served', () => {
  const stacks = [made().stack, site(), ...Object.keys(TEMPLATES).map(stackOf)];
  for (const stack of stacks) {
    const policies = resources(stack, 'AWS::IAM::Policy').map(({ id }) => id);
    const service = resource(stack, 'AWS::ECS::Service').id;
    const ofService = madeBefore(stack, service);
    const ofSweep = madeBefore(stack, resource(stack, 'AWS::Scheduler::Schedule').id);
    for (const role of ['TaskRole', 'TaskExecutionRole']) {
      assert.ok(ofService.has(found(policies, `^Leasehold${role}DefaultPolicy`)), role);
      assert.ok(ofSweep.has(found(policies, `^LeaseholdSweep${role}DefaultPolicy`)), role);
    }
    assert.ok(ofSweep.has(service));
    const endpoints = resources(stack, 'AWS::EC2::VPCEndpoint').map(({ id }) => id);
    assert.ok(endpoints.length >= 2);
    assert.deepEqual(
      endpoints.filter((id) => !ofService.has(id)),
      [],
    );
  }
});

function found(ids: readonly string[], pattern: string): string {
  return ids.find((id) => new RegExp(pattern).test(id)) ?? assert.fail(`${pattern} in ${ids}`);
}

test('logs are kept for as long as is said, and not for ever', () => {
  const { stack } = made();
  const groups = resources(stack, 'AWS::Logs::LogGroup');
  assert.equal(groups.length, 2);
  for (const { properties } of groups) {
    assert.equal(properties.RetentionInDays, 30);
  }
});

test('only who is allowed to comes in', () => {
  const { stack } = made();
  const groups = resources(stack, 'AWS::EC2::SecurityGroup');
  for (const { properties } of groups) {
    assert.equal(properties.SecurityGroupIngress, undefined);
    // With a rule that is a resource of its own, CloudFormation leaves out the one that lets everything out.
    for (const { IpProtocol, FromPort, ToPort, CidrIp } of properties.SecurityGroupEgress ?? []) {
      assert.ok(IpProtocol === 'tcp' && FromPort === 443 && ToPort === 443, CidrIp);
    }
  }
  const outwards = resources(stack, 'AWS::EC2::SecurityGroupEgress').map(
    ({ properties }) => properties.GroupId,
  );
  for (const { id, properties } of groups) {
    const isRestricted =
      properties.SecurityGroupEgress || outwards.some((group) => group['Fn::GetAtt'][0] === id);
    assert.ok(isRestricted, id);
  }
  const balancer = { 'Fn::GetAtt': [groups.find(({ id }) => id.includes('Balancer'))?.id, 'GroupId'] };
  const ingress = resources(stack, 'AWS::EC2::SecurityGroupIngress').map(({ properties }) => {
    const { FromPort, ToPort, SourceSecurityGroupId } = properties;
    assert.deepEqual(SourceSecurityGroupId, balancer);
    assert.equal(FromPort, ToPort);
    return FromPort;
  });
  assert.deepEqual(ingress.sort(), [7420, 7421]);
});

test('a function of the VPC is given the way there, and where it is', () => {
  const { stack, vpc, coordinator } = made();
  coordinator.grantInvoke(render(stack, vpc));
  const { Variables } = resource(stack, 'AWS::Lambda::Function').properties.Environment;
  const { id } = resource(stack, BALANCER);
  assert.deepEqual(Variables, {
    LEASEHOLD_ENDPOINT: {
      'Fn::Join': ['', ['http://', { 'Fn::GetAtt': [id, 'DNSName'] }, ':7420']],
    },
  });
  templateOf(stack).hasResourceProperties('AWS::EC2::SecurityGroupIngress', {
    FromPort: 7420,
    ToPort: 7420,
    SourceSecurityGroupId: { 'Fn::GetAtt': [Match.stringLikeRegexp('Render'), 'GroupId'] },
    GroupId: { 'Fn::GetAtt': [Match.stringLikeRegexp('Balancer'), 'GroupId'] },
  });
});

test('a function is told where its token is, and may read this one secret', () => {
  const { stack, vpc, coordinator } = made((stack) => ({ access: tokenAccess(stack) }));
  const tokenSecret = secret(stack, 'OfRender');
  coordinator.grantInvoke(render(stack, vpc), { tokenSecret, caPem: 'PEM' });
  const token = { Ref: resource(stack, 'AWS::SecretsManager::Secret', 'OfRender').id };
  assert.deepEqual(resource(stack, 'AWS::Lambda::Function').properties.Environment.Variables, {
    LEASEHOLD_ENDPOINT: 'https://leasehold.internal:7420',
    LEASEHOLD_AUTH_TOKEN_SECRET_ARN: token,
    LEASEHOLD_CA_PEM: 'PEM',
  });
  assert.deepEqual(
    statementsOf(stack, 'RenderServiceRole').map(({ actions, Resource }) => [actions, Resource]),
    [[['secretsmanager:GetSecretValue', 'secretsmanager:DescribeSecret'], token]],
  );
  assert.doesNotMatch(JSON.stringify(templateOf(stack).toJSON()), /\{\{resolve:secretsmanager:/);
});

test('a function that reads no secrets has its token in its configuration, and not in the template', () => {
  const { stack, vpc, coordinator } = made((stack) => ({ access: tokenAccess(stack) }));
  coordinator.grantInvoke(render(stack, vpc), { token: secret(stack, 'Token') });
  const { Variables } = resource(stack, 'AWS::Lambda::Function').properties.Environment;
  assert.deepEqual(Object.keys(Variables).sort(), ['LEASEHOLD_AUTH_TOKEN', 'LEASEHOLD_ENDPOINT']);
  assert.match(JSON.stringify(Variables.LEASEHOLD_AUTH_TOKEN), /\{\{resolve:secretsmanager:/);
  assert.deepEqual(statementsOf(stack, 'RenderServiceRole'), []);
});

test('operators carry out commands inside the VPC, by a token of theirs, and may do nothing else', () => {
  const { stack, coordinator } = made((stack) => ({ access: tokenAccess(stack) }));
  const operator = coordinator.addOperator({ token: secret(stack, 'OfOperators'), caPem: 'PEM' });
  assert.ok(operator.subnets.length > 0);
  const task = 'LeaseholdOperatorTaskDefinition';
  assert.deepEqual(environmentOf(stack, task), {
    LEASEHOLD_ENDPOINT: coordinator.endpoint,
    LEASEHOLD_CA_PEM: 'PEM',
  });
  assert.deepEqual(secretsOf(stack, task), ['LEASEHOLD_AUTH_TOKEN']);
  const [container] = resource(stack, ECS_TASK, task).properties.ContainerDefinitions;
  assert.deepEqual(container.Command, ['help']);
  assert.deepEqual(statementsOf(stack, 'OperatorTaskRole'), []);
  const read = statementsOf(stack, 'OperatorTaskExecutionRole').filter(({ actions }) =>
    actions.some((action) => action.startsWith('secretsmanager:')),
  );
  assert.deepEqual(
    read.map(({ Resource }) => Resource),
    [{ Ref: resource(stack, 'AWS::SecretsManager::Secret', 'OfOperators').id }],
  );
  templateOf(stack).hasResourceProperties('AWS::EC2::SecurityGroupIngress', {
    FromPort: 7420,
    ToPort: 7420,
    SourceSecurityGroupId: { 'Fn::GetAtt': [Match.stringLikeRegexp('OperatorSecurityGroup'), 'GroupId'] },
    GroupId: { 'Fn::GetAtt': [Match.stringLikeRegexp('Balancer'), 'GroupId'] },
  });
});

test('a token that nobody looks at, or two of one caller, are refused', () => {
  const { stack, vpc, coordinator } = made();
  const token = secret(stack, 'Token');
  const caller = render(stack, vpc);
  const idle = /was given a token, which has no effect with access\.auth 'none'/;
  assert.throws(() => coordinator.grantInvoke(caller, { token }), idle);
  assert.throws(() => coordinator.grantInvoke(caller, { tokenSecret: token }), idle);
  assert.throws(() => coordinator.addOperator({ token }), idle);
  assert.throws(
    () => coordinator.grantInvoke(caller, { token, tokenSecret: token }),
    /grantInvoke takes `tokenSecret` or `token`: leave out one/,
  );
});

test('a function may be of another stack', () => {
  const app = new App();
  const { stack, vpc, coordinator } = made(undefined, app);
  const site = new Stack(app, 'Site');
  coordinator.grantInvoke(render(site, vpc));
  app.synth();
  assert.deepEqual(stack.dependencies, []);
  assert.equal(resources(site, 'AWS::EC2::SecurityGroupIngress').length, 1);
});

test('a function that is in no VPC is refused, with what to do', () => {
  const { stack, coordinator } = made();
  assert.throws(
    () => coordinator.grantInvoke(render(stack)),
    /grantInvoke is for a function in the coordinator's VPC: give '.*Render' a `vpc`/,
  );
});

test('metrics are for the collector that is named', () => {
  const { stack, vpc, coordinator } = made();
  coordinator.allowMetricsFrom(new ec2.SecurityGroup(stack, 'Collector', { vpc }));
  templateOf(stack).hasResourceProperties('AWS::EC2::SecurityGroupIngress', {
    FromPort: 7421,
    SourceSecurityGroupId: { 'Fn::GetAtt': [Match.stringLikeRegexp('Collector'), 'GroupId'] },
  });
});

test('traces leave for the collector that is named, and for nobody else', () => {
  const { stack, vpc, coordinator } = made(() => ({
    settings: { LEASEHOLD_OTLP_ENDPOINT: 'http://collector.internal:4317' },
  }));
  const collector = new ec2.SecurityGroup(stack, 'Collector', { vpc });
  coordinator.allowTracesTo(collector);
  const group = { 'Fn::GetAtt': [Match.stringLikeRegexp('^LeaseholdSecurityGroup'), 'GroupId'] };
  const ofCollector = { 'Fn::GetAtt': [Match.stringLikeRegexp('^Collector'), 'GroupId'] };
  const ports = { FromPort: 4317, ToPort: 4317 };
  templateOf(stack).hasResourceProperties('AWS::EC2::SecurityGroupEgress', {
    ...ports,
    GroupId: group,
    DestinationSecurityGroupId: ofCollector,
  });
  templateOf(stack).hasResourceProperties('AWS::EC2::SecurityGroupIngress', {
    ...ports,
    GroupId: ofCollector,
    SourceSecurityGroupId: group,
  });
});

test('an application load balancer is found by its name, in a zone that is given', () => {
  const hostName = 'leasehold.example.com';
  const balancer = (stack: Stack) => ({ certificate: certificate(stack), hostName });
  const { stack } = made((stack) => {
    const zone = new PrivateHostedZone(stack, 'Zone', {
      vpc: new ec2.Vpc(stack, 'Other'),
      zoneName: 'example.com',
    });
    return { applicationBalancer: { ...balancer(stack), zone } };
  });
  const { Name, AliasTarget } = resource(stack, 'AWS::Route53::RecordSet').properties;
  assert.equal(Name, `${hostName}.`);
  assert.match(JSON.stringify(AliasTarget.DNSName), new RegExp(resource(stack, BALANCER).id));
  // Else whoever is in charge of the name puts it there.
  const without = made((stack) => ({ applicationBalancer: balancer(stack) }));
  const dnsName = without.stack.resolve(without.coordinator.loadBalancer.loadBalancerDnsName);
  assert.deepEqual(dnsName, { 'Fn::GetAtt': [resource(without.stack, BALANCER).id, 'DNSName'] });
  assert.deepEqual(resources(without.stack, 'AWS::Route53::RecordSet'), []);
});

test('every alarm says what to do, and is heard of, as is its end', () => {
  const { stack, coordinator } = made((stack) => ({ alarmTopic: new Topic(stack, 'Topic') }));
  const alarms = resources(stack, 'AWS::CloudWatch::Alarm');
  assert.deepEqual([alarms.length, coordinator.alarms.length], [11, 11]);
  const topic = [{ Ref: resource(stack, 'AWS::SNS::Topic').id }];
  for (const { properties } of alarms) {
    assert.deepEqual([properties.AlarmActions, properties.OKActions], [topic, topic]);
    assert.match(properties.AlarmDescription, /\. What to do: deploy\/README\.md, [A-Z][A-Za-z]+\.$/);
  }
});

test('the alarm of the invalidation log lasts until a coordinator reads it again', () => {
  const { stack } = made();
  const alarm = resource(stack, 'AWS::CloudWatch::Alarm', 'LogUnreadable').properties;
  assert.deepEqual([alarm.TreatMissingData, alarm.Statistic, alarm.Threshold], ['ignore', 'Minimum', 0]);
  const filters = resources(stack, 'AWS::Logs::MetricFilter').filter(({ id }) =>
    id.includes('LogUnreadable'),
  );
  const values = filters.map(({ properties: { FilterPattern, MetricTransformations } }) => {
    const [{ MetricName, MetricNamespace, MetricValue }] = MetricTransformations;
    assert.deepEqual([MetricName, MetricNamespace], [alarm.MetricName, alarm.Namespace]);
    return [MetricValue, FilterPattern.includes('cannot be read')];
  });
  assert.deepEqual(values.sort(), [
    ['0', false],
    ['1', true],
  ]);
});

test('nobody is alarmed by one node of the balancer that sees no coordinator', () => {
  const { Statistic, TreatMissingData } = resource(
    made().stack,
    'AWS::CloudWatch::Alarm',
    'NoCoordinator',
  ).properties;
  assert.deepEqual([Statistic, TreatMissingData], ['Maximum', 'breaching']);
});

test('a sweep that could not be started is told of', () => {
  const { stack } = made();
  const queue = { 'Fn::GetAtt': [resource(stack, 'AWS::SQS::Queue').id, 'Arn'] };
  const schedule = resource(stack, 'AWS::Scheduler::Schedule').properties;
  assert.deepEqual(schedule.Target.DeadLetterConfig, { Arn: queue });
  assert.ok(
    resources(stack, 'AWS::IAM::Policy').some(({ properties }) =>
      properties.PolicyDocument.Statement.some(
        ({ Action, Resource }: { Action: unknown; Resource: unknown }) =>
          Action === 'sqs:SendMessage' && JSON.stringify(Resource) === JSON.stringify(queue),
      ),
    ),
  );
  const { Dimensions, Threshold } = resource(stack, 'AWS::CloudWatch::Alarm', 'SweepNotStarted').properties;
  const QueueName = { 'Fn::GetAtt': [queue['Fn::GetAtt'][0], 'QueueName'] };
  assert.deepEqual([Dimensions, Threshold], [[{ Name: 'QueueName', Value: QueueName }], 0]);
});

test('the sweep is run once a week, and deletes', () => {
  const { stack } = made();
  assert.equal(resource(stack, 'AWS::Scheduler::Schedule').properties.ScheduleExpression, 'rate(7 days)');
  const [container] = resource(stack, ECS_TASK, 'Sweep').properties.ContainerDefinitions;
  assert.deepEqual(container.Command, ['sweep', '--delete']);
  const { LEASEHOLD_ALLOW_REMOTE, LEASEHOLD_LISTEN, ...where } = environmentOf(stack);
  const ofSweep = environmentOf(stack, 'Sweep');
  for (const name of Object.keys(ofSweep)) {
    assert.deepEqual(ofSweep[name], where[name], name);
  }
  assert.ok('LEASEHOLD_TABLE' in ofSweep && 'LEASEHOLD_BUCKET' in ofSweep);
  assert.deepEqual(resources(made(() => ({ sweep: false })).stack, 'AWS::Scheduler::Schedule'), []);
});

test('what a fleet must share is told to the sweep too', () => {
  const { stack } = made(() => ({ settings: { LEASEHOLD_DELETION_GRACE: '2h' } }));
  assert.equal(environmentOf(stack).LEASEHOLD_DELETION_GRACE, '2h');
  assert.equal(environmentOf(stack, 'Sweep').LEASEHOLD_DELETION_GRACE, '2h');
});

test('a log that says more, or less of others, is taken', () => {
  for (const log of [
    'info',
    'DEBUG',
    'info,h2=off',
    'leasehold=info',
    'warn,leasehold=debug',
    'trace,aws_config=error',
  ]) {
    const settings = { LEASEHOLD_LOG: log };
    assert.equal(environmentOf(made(() => ({ settings })).stack).LEASEHOLD_LOG, log);
  }
});

test('properties that make no sense are refused by their names', () => {
  const mtls = (stack: Stack) => ({
    auth: 'mtls' as const,
    policy: secret(stack, 'Policy'),
    tls: {
      hostName: 'leasehold.example.com',
      certificate: secret(stack, 'Pem'),
      privateKey: secret(stack, 'Key'),
      clientCa: secret(stack, 'Ca'),
    },
  });
  const table: [Parameters<typeof made>[0], RegExp][] = [
    [() => ({ memoryMiB: 1024 }), /^Refused: memoryMiB is 1024; allowed: 2048 or more/],
    [() => ({ minTasks: 1 }), /^Refused: minTasks is 1; allowed: 2 or more/],
    [() => ({ minTasks: 5, maxTasks: 4 }), /^Refused: maxTasks is 4; allowed: minTasks \(5\) or more/],
    [
      () => ({ drainTimeout: Duration.seconds(111) }),
      /^Refused: drainTimeout is 111 s; allowed: 1 s to 110 s/,
    ],
    [
      () => ({ settings: { CACHE_BYTES: '1GiB' } }),
      /^Refused: settings\.CACHE_BYTES is no variable of the coordinator/,
    ],
    [
      () => ({ settings: { LEASEHOLD_LISTEN: '[::]:1' } }),
      /^Refused: settings\.LEASEHOLD_LISTEN is set by a property/,
    ],
    ...[
      'warn',
      'off',
      '1',
      'info,leasehold_service=warn',
      'leasehold::serve=info',
      'h2=debug',
      'info,l=off',
    ].map((log): (typeof table)[number] => [
      () => ({ settings: { LEASEHOLD_LOG: log } }),
      /^Refused: settings\.LEASEHOLD_LOG is '.+'; allowed: info, debug or trace, .*: alarms read the log/,
    ]),
    [
      () => ({ settings: { LEASEHOLD_TOKENS_TOML: 'x' } }),
      /^Refused: settings\.LEASEHOLD_TOKENS_TOML is set by a property/,
    ],
    [
      (stack) => ({
        access: mtls(stack),
        applicationBalancer: { certificate: certificate(stack), hostName: 'leasehold.example.com' },
      }),
      /^Refused: applicationBalancer ends TLS/,
    ],
  ];
  for (const [props, why] of table) {
    assert.throws(
      () => made(props),
      (error) => why.test(String(error)) || assert.fail(String(error)),
    );
  }
});
