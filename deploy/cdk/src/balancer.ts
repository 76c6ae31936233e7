import { Duration } from 'aws-cdk-lib';
import type * as acm from 'aws-cdk-lib/aws-certificatemanager';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import type * as ecs from 'aws-cdk-lib/aws-ecs';
import * as elb from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import type * as route53 from 'aws-cdk-lib/aws-route53';
import type * as s3 from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import { acknowledge } from './acknowledged.js';
import { ADMIN_PORT, CONTAINER, PORT } from './task.js';

/** An application load balancer, which ends TLS: for those who cannot do without one. */
export interface ApplicationBalancerProps {
  /** gRPC takes a listener with TLS. */
  readonly certificate: acm.ICertificate;
  /** The name that the certificate is for, and that callers find the load balancer by. */
  readonly hostName: string;
  /**
   * A zone of your own to put the name into, where callers find it. Default: the name is put nowhere: see to it that it leads to the
   * `loadBalancer` of the coordinator.
   */
  readonly zone?: route53.IHostedZone;
  /** Where accesses are logged. Default: nowhere. */
  readonly accessLogs?: s3.IBucket;
}

export interface BalancerProps {
  readonly vpc: ec2.IVpc;
  readonly subnets: ec2.SubnetSelection;
  readonly service: ecs.FargateService;
  readonly application: ApplicationBalancerProps | undefined;
  /** Whether the coordinator itself speaks TLS. */
  readonly hasTls: boolean;
  readonly isProtected: boolean;
}

/**
 * New calls come to a target for some time after it was deregistered, as the balancer's nodes hear of it one by one. ECS sends
 * SIGTERM only after this, so that whoever is told to go elsewhere does not come back.
 */
const DEREGISTRATION = Duration.seconds(60);
/** Between two questions; two good answers make a target healthy, three bad ones take it out. */
const CHECK_INTERVAL = Duration.seconds(10);

/** The one address of all coordinators, for those inside the VPC. */
export class Balancer extends Construct implements ec2.IConnectable {
  readonly connections: ec2.Connections;
  readonly loadBalancer: elb.ApplicationLoadBalancer | elb.NetworkLoadBalancer;
  readonly port: number;
  /** Targets that are healthy, or not. */
  readonly healthy: cloudwatch.Metric;

  constructor(scope: Construct, id: string, props: BalancerProps) {
    super(scope, id);
    const { vpc, service, application } = props;
    this.port = application ? 443 : PORT;
    const securityGroup = new ec2.SecurityGroup(this, 'SecurityGroup', {
      vpc,
      description: 'Those who may call the coordinator are let in here',
      allowAllOutbound: false,
    });
    this.connections = new ec2.Connections({
      securityGroups: [securityGroup],
      defaultPort: ec2.Port.tcp(this.port),
    });
    service.connections.allowFrom(securityGroup, ec2.Port.tcp(PORT), 'calls');
    const made = application
      ? this.#application(props, application, securityGroup)
      : this.#network(props, securityGroup);
    this.loadBalancer = made.loadBalancer;
    this.healthy = made.healthy;
  }

  #network({ vpc, subnets, service, isProtected }: BalancerProps, securityGroup: ec2.SecurityGroup) {
    const loadBalancer = new elb.NetworkLoadBalancer(this, 'Network', {
      vpc,
      vpcSubnets: subnets,
      internetFacing: false,
      securityGroups: [securityGroup],
      deletionProtection: isProtected,
      // Two coordinators in three zones: without it a zone has an address, and nobody behind it.
      crossZoneEnabled: true,
    });
    acknowledge(loadBalancer, {
      'AwsSolutions-ELB2': {
        reason: 'A network load balancer logs connections of TLS listeners only; this one passes TCP on.',
      },
    });
    // The port of calls accepts connections before there is anybody to answer them; this one says when there is.
    service.connections.allowFrom(securityGroup, ec2.Port.tcp(ADMIN_PORT), 'health checks');
    const targets = new elb.NetworkTargetGroup(this, 'Targets', {
      vpc,
      port: PORT,
      protocol: elb.Protocol.TCP,
      targetType: elb.TargetType.IP,
      targets: [service.loadBalancerTarget({ containerName: CONTAINER, containerPort: PORT })],
      preserveClientIp: false,
      deregistrationDelay: DEREGISTRATION,
      // The coordinator ends them itself, each after its last call, once SIGTERM has come.
      connectionTermination: false,
      healthCheck: {
        protocol: elb.Protocol.HTTP,
        port: `${ADMIN_PORT}`,
        path: '/readyz',
        healthyHttpCodes: '200',
        interval: CHECK_INTERVAL,
        timeout: Duration.seconds(5),
        healthyThresholdCount: 2,
        unhealthyThresholdCount: 3,
      },
    });
    loadBalancer.addListener('Calls', {
      port: PORT,
      protocol: elb.Protocol.TCP,
      defaultTargetGroups: [targets],
    });
    const healthy = targets.metrics.healthyHostCount({
      statistic: cloudwatch.Stats.MINIMUM,
      period: Duration.minutes(1),
    });
    return { loadBalancer, healthy };
  }

  #application(
    { vpc, subnets, service, hasTls, isProtected }: BalancerProps,
    { certificate, accessLogs }: ApplicationBalancerProps,
    securityGroup: ec2.SecurityGroup,
  ) {
    const loadBalancer = new elb.ApplicationLoadBalancer(this, 'Application', {
      vpc,
      vpcSubnets: subnets,
      internetFacing: false,
      securityGroup,
      deletionProtection: isProtected,
      dropInvalidHeaderFields: true,
      // Streams of lookups and watches rest; they are asked every 20 s whether they live, but not by the balancer's measure.
      idleTimeout: Duration.minutes(10),
    });
    if (accessLogs) {
      loadBalancer.logAccessLogs(accessLogs);
    } else {
      acknowledge(loadBalancer, {
        'AwsSolutions-ELB2': {
          reason:
            'Whoever wants accesses on record names a bucket for them; calls are counted by the coordinator.',
        },
      });
    }
    const targets = new elb.ApplicationTargetGroup(this, 'Targets', {
      vpc,
      port: PORT,
      protocol: hasTls ? elb.ApplicationProtocol.HTTPS : elb.ApplicationProtocol.HTTP,
      protocolVersion: elb.ApplicationProtocolVersion.GRPC,
      targetType: elb.TargetType.IP,
      targets: [service.loadBalancerTarget({ containerName: CONTAINER, containerPort: PORT })],
      deregistrationDelay: DEREGISTRATION,
      healthCheck: {
        // Of gRPC targets a balancer sees the status of the call only, and it is OK whatever the answer says: this shows that
        // the coordinator answers. That it is ready is judged by the container's own check.
        path: '/grpc.health.v1.Health/Check',
        healthyGrpcCodes: '0',
        interval: CHECK_INTERVAL,
        timeout: Duration.seconds(5),
        healthyThresholdCount: 2,
        unhealthyThresholdCount: 3,
      },
    });
    loadBalancer.addListener('Calls', {
      port: this.port,
      protocol: elb.ApplicationProtocol.HTTPS,
      certificates: [certificate],
      sslPolicy: elb.SslPolicy.RECOMMENDED_TLS,
      defaultTargetGroups: [targets],
      open: false,
    });
    const healthy = targets.metrics.healthyHostCount({
      statistic: cloudwatch.Stats.MINIMUM,
      period: Duration.minutes(1),
    });
    return { loadBalancer, healthy };
  }
}
