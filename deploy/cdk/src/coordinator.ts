import { Duration, RemovalPolicy, Token } from 'aws-cdk-lib';
import type * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import type * as elb from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import type * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as route53 from 'aws-cdk-lib/aws-route53';
import { LoadBalancerTarget } from 'aws-cdk-lib/aws-route53-targets';
import type { ISecret } from 'aws-cdk-lib/aws-secretsmanager';
import type * as sns from 'aws-cdk-lib/aws-sns';
import { Construct, DependencyGroup } from 'constructs';
import { accessVariables, type LeaseholdAccessProps } from './access.js';
import { Alarms } from './alarms.js';
import { type ApplicationBalancerProps, Balancer } from './balancer.js';
import { Operator, type OperatorOptions } from './operator.js';
import { Refused } from './refused.js';
import { own } from './settings.js';
import { LeaseholdStorage, type LeaseholdStorageProps } from './storage.js';
import { Sweep } from './sweep.js';
import { ADMIN_PORT, PORT, Task } from './task.js';

/** A fleet of coordinators. */
export interface LeaseholdCoordinatorProps {
  /** The network that the callers are in too. */
  readonly vpc: ec2.IVpc;
  /** Where the coordinators and their load balancer are. Default: the subnets that have no public addresses. */
  readonly subnets?: ec2.SubnetSelection;
  /**
   * Whether gateway endpoints of DynamoDB and S3 are added to the VPC. `false` where it has them. Default: yes, so that no request
   * to either leaves the network of AWS, or costs what a NAT gateway does.
   */
  readonly gatewayEndpoints?: boolean;
  /** The image, for arm64, with the program at `/leasehold` as its entry point. By digest or by a tag that never moves. */
  readonly image: ecs.ContainerImage;
  /** Default: a cluster of its own, with container insights. */
  readonly cluster?: ecs.ICluster;
  /** Table and bucket. Default: they are created. */
  readonly storage?: LeaseholdStorageProps;
  /** Who may call. Default: everybody whom `grantInvoke`, or `connections`, lets through, in plain text. */
  readonly access?: LeaseholdAccessProps;
  /** An application load balancer in place of the network load balancer, which passes TCP on. */
  readonly applicationBalancer?: ApplicationBalancerProps;
  /** Of each coordinator, 1024 are a processor. Default: 1024. */
  readonly cpu?: number;
  /** Of each coordinator; with the default limits it holds at most some 1.5 GiB. 2048 or more. Default: 2048. */
  readonly memoryMiB?: number;
  /** At least so many coordinators, of which any serves all. 2 or more. Default: 2. */
  readonly minTasks?: number;
  /** And at most. Default: 8. */
  readonly maxTasks?: number;
  /** `--drain-timeout`, within which a coordinator that stops finishes its calls. 1 s to 110 s. Default: 20 s. */
  readonly drainTimeout?: Duration;
  /**
   * Further settings, by the names of their variables: `LEASEHOLD_CACHE_BYTES` and the like. `LEASEHOLD_LOG` may not be quieter than
   * `info`, as alarms read the log.
   */
  readonly settings?: Readonly<Record<string, string>>;
  /** Default: a month. */
  readonly logRetention?: logs.RetentionDays;
  /**
   * Hears of every alarm, and of its end; CloudWatch is let publish to it. One that is only referred to needs a policy that does, and one
   * that is encrypted, a key of your own that CloudWatch may use. Default: the alarms are there, and nobody hears of them.
   */
  readonly alarmTopic?: sns.ITopic;
  /** Whether what crashes left in the bucket is deleted once a week. Default: yes. */
  readonly sweep?: boolean;
  /** Whether the load balancer is kept from being deleted. Default: yes. */
  readonly deletionProtection?: boolean;
}

/** What a caller is given beside the way there. */
export interface InvokeOptions {
  /**
   * The secret that has its token, and nothing else, for a function that reads it itself when it starts: it is given the ARN as
   * `LEASEHOLD_AUTH_TOKEN_SECRET_ARN`, and may read this one secret. The way to Secrets Manager is the function's own.
   * Default: it has no token to present.
   */
  readonly tokenSecret?: ISecret;
  /**
   * In place of `tokenSecret`, for a function that reads no secrets. Comes to be in the function's configuration, as
   * `LEASEHOLD_AUTH_TOKEN`, which whoever may read that can read; it is not in the template. Default: it is not there.
   */
  readonly token?: ISecret;
  /** The authority that the coordinator's certificate is of, PEM. Default: one that every system trusts. */
  readonly caPem?: string;
}

/** From the drain timeout to the kill: what the program's last moments take, and ECS. */
const AFTER_DRAIN = Duration.seconds(10);
/** What ECS waits on Fargate at most. */
const LONGEST_STOP = Duration.seconds(120);
const LEAST_MEMORY_MIB = 2048;

/** Coordinators in ECS, on one table and one bucket, behind one address. */
export class LeaseholdCoordinator extends Construct implements ec2.IConnectable {
  /** Of the load balancer: who is allowed to here may call. */
  readonly connections: ec2.Connections;
  /** `LEASEHOLD_ENDPOINT` of a caller. */
  readonly endpoint: string;
  /** Behind it are all coordinators. */
  readonly loadBalancer: elb.ApplicationLoadBalancer | elb.NetworkLoadBalancer;
  readonly storage: LeaseholdStorage;
  readonly service: ecs.FargateService;
  readonly log: logs.LogGroup;
  readonly alarms: readonly cloudwatch.Alarm[];
  readonly #props: LeaseholdCoordinatorProps;
  readonly #subnets: ec2.SubnetSelection;
  readonly #cluster: ecs.ICluster;

  constructor(scope: Construct, id: string, props: LeaseholdCoordinatorProps) {
    super(scope, id);
    const { vpc, access = {}, cpu = 1024, memoryMiB = LEAST_MEMORY_MIB, minTasks = 2, maxTasks = 8 } = props;
    const drainTimeout = props.drainTimeout ?? Duration.seconds(20);
    check(props, { memoryMiB, minTasks, maxTasks, drainTimeout });
    const subnets = props.subnets ?? withoutPublicAddresses(vpc);
    this.#props = props;
    this.#subnets = subnets;
    // What a first task needs must be there before it: else it fails, and its deployment with it.
    const ways = new DependencyGroup(vpc);
    if (props.gatewayEndpoints ?? true) {
      ways.add(...addGatewayEndpoints(this, vpc, subnets));
    }

    this.storage = new LeaseholdStorage(this, 'Storage', props.storage);
    this.log = this.#logGroup('Log', props);
    const { environment, secrets } = accessVariables(access);
    const task = new Task(this, 'Task', {
      image: props.image,
      cpu,
      memoryMiB,
      log: this.log,
      environment: own(props.settings, {
        ...this.storage.environment,
        ...environment,
        LEASEHOLD_LISTEN: `0.0.0.0:${PORT}`,
        // For the load balancer, whose health checks are all that the security group lets in there.
        LEASEHOLD_ADMIN_LISTEN: `0.0.0.0:${ADMIN_PORT}`,
        LEASEHOLD_DRAIN_TIMEOUT: `${drainTimeout.toSeconds()}s`,
        LEASEHOLD_LOG_FORMAT: 'json',
      }),
      secrets,
      stopTimeout: drainTimeout.plus(AFTER_DRAIN),
      serves: true,
    });
    this.storage.grantServe(task.role);

    const cluster =
      props.cluster ??
      new ecs.Cluster(this, 'Cluster', { vpc, containerInsightsV2: ecs.ContainerInsights.ENABLED });
    this.#cluster = cluster;
    this.service = new ecs.FargateService(this, 'Service', {
      cluster,
      taskDefinition: task.definition,
      vpcSubnets: subnets,
      assignPublicIp: false,
      securityGroups: [outwards(this, 'SecurityGroup', vpc, 'The coordinators')],
      // A new one is there before an old one goes.
      minHealthyPercent: 100,
      maxHealthyPercent: 200,
      circuitBreaker: { enable: true, rollback: true },
      availabilityZoneRebalancing: ecs.AvailabilityZoneRebalancing.ENABLED,
      healthCheckGracePeriod: Duration.seconds(120),
      propagateTags: ecs.PropagatedTagSource.SERVICE,
      enableExecuteCommand: false,
    });
    this.service.node.addDependency(task.rights, ways);
    scale(this.service.autoScaleTaskCount({ minCapacity: minTasks, maxCapacity: maxTasks }));

    const { tls } = access;
    const balancer = new Balancer(this, 'Balancer', {
      vpc,
      subnets,
      service: this.service,
      application: props.applicationBalancer,
      hasTls: tls !== undefined,
      isProtected: props.deletionProtection ?? true,
    });
    this.connections = balancer.connections;
    this.loadBalancer = balancer.loadBalancer;
    this.endpoint = this.#endpoint(props, balancer);

    let sweep: Sweep | undefined;
    if (props.sweep ?? true) {
      sweep = new Sweep(this, 'Sweep', {
        image: props.image,
        cluster,
        subnets,
        securityGroup: outwards(this, 'SweepSecurityGroup', vpc, 'The sweep'),
        log: this.#logGroup('SweepLog', props),
        storage: this.storage,
        environment: own(props.settings, { ...this.storage.environment }),
        after: this.service,
      });
    }
    this.alarms = new Alarms(this, 'Alarms', {
      service: this.service,
      minTasks,
      healthy: balancer.healthy,
      table: this.storage.table,
      log: this.log,
      sweep,
      topic: props.alarmTopic,
    }).all;
  }

  /**
   * Lets a function call the coordinator: the way there, and the variables by which the clients find it. Of rights of IAM it needs
   * that of reading its token.
   */
  grantInvoke(caller: lambda.Function, { tokenSecret, token, caPem }: InvokeOptions = {}): void {
    if (tokenSecret && token) {
      throw new Refused('grantInvoke', 'takes `tokenSecret` or `token`: leave out one');
    }
    this.#refuseIdleToken('grantInvoke', tokenSecret ?? token);
    if (!caller.isBoundToVpc) {
      throw new Refused(
        'grantInvoke',
        `is for a function in the coordinator's VPC: give '${caller.node.path}' a \`vpc\``,
      );
    }
    // From there, so that a function of another stack can refer to this one, and not also this one to that.
    caller.connections.allowToDefaultPort(this, 'calls of the coordinator');
    caller.addEnvironment('LEASEHOLD_ENDPOINT', this.endpoint);
    if (tokenSecret) {
      tokenSecret.grantRead(caller);
      caller.addEnvironment('LEASEHOLD_AUTH_TOKEN_SECRET_ARN', tokenSecret.secretArn);
    }
    if (token) {
      caller.addEnvironment('LEASEHOLD_AUTH_TOKEN', token.secretValue.unsafeUnwrap());
    }
    if (caPem !== undefined) {
      caller.addEnvironment('LEASEHOLD_CA_PEM', caPem);
    }
  }

  /** Lets a collector of metrics scrape `/metrics`, at the address of each task. What else is at that port comes with it. */
  allowMetricsFrom(collector: ec2.IConnectable): void {
    this.service.connections.allowFrom(collector, ec2.Port.tcp(ADMIN_PORT), 'metrics');
  }

  /** Lets coordinators send traces to a collector, whose URL is `LEASEHOLD_OTLP_ENDPOINT` of `settings`. Default: port 4317. */
  allowTracesTo(collector: ec2.IConnectable, port = 4317): void {
    this.service.connections.allowTo(collector, ec2.Port.tcp(port), 'traces');
  }

  /** Adds a task by which operators carry out the program's commands inside the VPC, where they are known by a token of theirs. */
  addOperator({ token, caPem }: OperatorOptions = {}): Operator {
    this.#refuseIdleToken('addOperator', token);
    const { vpc, image } = this.#props;
    const operator = new Operator(this, 'Operator', {
      image,
      cluster: this.#cluster,
      subnets: vpc.selectSubnets(this.#subnets).subnetIds,
      securityGroup: outwards(this, 'OperatorSecurityGroup', vpc, 'The commands of operators'),
      log: this.#logGroup('OperatorLog', this.#props),
      endpoint: this.endpoint,
      token,
      caPem,
    });
    this.connections.allowDefaultPortFrom(operator.securityGroup, 'commands of operators');
    return operator;
  }

  /** A coordinator that asks nobody who he is does not look at it. */
  #refuseIdleToken(method: string, token: ISecret | undefined): void {
    const { auth = 'none' } = this.#props.access ?? {};
    if (token && auth !== 'token') {
      throw new Refused(method, `was given a token, which has no effect with access.auth '${auth}'`);
    }
  }

  #endpoint({ vpc, access, applicationBalancer }: LeaseholdCoordinatorProps, { port }: Balancer): string {
    if (applicationBalancer) {
      const { hostName, zone } = applicationBalancer;
      this.#name(hostName, zone);
      return `https://${hostName}:${port}`;
    }
    const tls = access?.tls;
    if (!tls) {
      return `http://${this.loadBalancer.loadBalancerDnsName}:${port}`;
    }
    const { hostName } = tls;
    this.#name(
      hostName,
      tls.zone ?? new route53.PrivateHostedZone(this, 'Zone', { vpc, zoneName: hostName }),
    );
    return `https://${hostName}:${port}`;
  }

  #name(hostName: string, zone: route53.IHostedZone | undefined): void {
    if (zone) {
      new route53.ARecord(this, 'Name', {
        zone,
        // With its last dot, it is the whole of the name.
        recordName: `${hostName}.`,
        target: route53.RecordTarget.fromAlias(new LoadBalancerTarget(this.loadBalancer)),
      });
    }
  }

  #logGroup(id: string, { logRetention }: LeaseholdCoordinatorProps): logs.LogGroup {
    return new logs.LogGroup(this, id, {
      retention: logRetention ?? logs.RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.RETAIN,
    });
  }
}

interface Numbers {
  readonly memoryMiB: number;
  readonly minTasks: number;
  readonly maxTasks: number;
  readonly drainTimeout: Duration;
}

function check(
  props: LeaseholdCoordinatorProps,
  { memoryMiB, minTasks, maxTasks, drainTimeout }: Numbers,
): void {
  // A parameter of a template is judged by what it allows.
  const isKnown = (value: number) => !Token.isUnresolved(value);
  if (isKnown(memoryMiB) && memoryMiB < LEAST_MEMORY_MIB) {
    throw new Refused(
      'memoryMiB',
      `is ${memoryMiB}; allowed: ${LEAST_MEMORY_MIB} or more, which its caches may fill`,
    );
  }
  if (minTasks < 2) {
    throw new Refused('minTasks', `is ${minTasks}; allowed: 2 or more, so that one can go`);
  }
  if (isKnown(maxTasks) && maxTasks < minTasks) {
    throw new Refused('maxTasks', `is ${maxTasks}; allowed: minTasks (${minTasks}) or more`);
  }
  const [drain, longest] = [drainTimeout.toSeconds(), LONGEST_STOP.toSeconds() - AFTER_DRAIN.toSeconds()];
  if (drain < 1 || drain > longest) {
    throw new Refused(
      'drainTimeout',
      `is ${drain} s; allowed: 1 s to ${longest} s, after which Fargate kills`,
    );
  }
  const { access, applicationBalancer } = props;
  if (applicationBalancer && access?.auth === 'mtls') {
    throw new Refused(
      'applicationBalancer',
      "ends TLS, so that callers' certificates never arrive: leave it out for 'mtls'",
    );
  }
}

function withoutPublicAddresses(vpc: ec2.IVpc): ec2.SubnetSelection {
  const isolated = vpc.isolatedSubnets.length > 0 && vpc.privateSubnets.length === 0;
  return { subnetType: isolated ? ec2.SubnetType.PRIVATE_ISOLATED : ec2.SubnetType.PRIVATE_WITH_EGRESS };
}

function addGatewayEndpoints(
  scope: Construct,
  vpc: ec2.IVpc,
  subnets: ec2.SubnetSelection,
): ec2.GatewayVpcEndpoint[] {
  const { DYNAMODB, S3 } = ec2.GatewayVpcEndpointAwsService;
  return Object.entries({ DynamoDb: DYNAMODB, S3 }).map(
    ([id, service]) => new ec2.GatewayVpcEndpoint(scope, id, { vpc, service, subnets: [subnets] }),
  );
}

/** Nobody comes in but who is named; out, to the endpoints of AWS: DynamoDB, S3, image, log, secrets. */
function outwards(scope: Construct, id: string, vpc: ec2.IVpc, what: string): ec2.SecurityGroup {
  const group = new ec2.SecurityGroup(scope, id, { vpc, description: what, allowAllOutbound: false });
  group.addEgressRule(ec2.Peer.anyIpv4(), ec2.Port.tcp(443), 'endpoints of AWS');
  return group;
}

/** Hits cost processor only. Out fast, and in slowly: a coordinator that goes takes its memory with it. */
function scale(count: ecs.ScalableTaskCount): void {
  count.scaleOnCpuUtilization('Processor', {
    targetUtilizationPercent: 50,
    scaleOutCooldown: Duration.seconds(60),
    scaleInCooldown: Duration.minutes(10),
  });
}
