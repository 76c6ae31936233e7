import {
  CfnCondition,
  CfnOutput,
  CfnParameter,
  type CfnParameterProps,
  CfnWaitConditionHandle,
  DefaultStackSynthesizer,
  Fn,
  Stack,
} from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import { type ISecret, Secret } from 'aws-cdk-lib/aws-secretsmanager';
import * as sns from 'aws-cdk-lib/aws-sns';
import type { Construct } from 'constructs';
import type { LeaseholdAccessProps } from './access.js';
import { LeaseholdCoordinator } from './coordinator.js';

export interface LeaseholdStackProps {
  /** Whether the coordinator speaks TLS and asks its callers for tokens, both from secrets that are named. */
  readonly hasTokens: boolean;
}

/** The coordinator for those who do not use CDK: in a VPC that is there, everything else by parameters. */
export class LeaseholdStack extends Stack {
  constructor(scope: Construct, id: string, { hasTokens }: LeaseholdStackProps) {
    super(scope, id, {
      description: 'Leasehold, the coordinator of incremental static regeneration',
      // Needs no bootstrap: it holds no files.
      synthesizer: new DefaultStackSynthesizer({ generateBootstrapVersionRule: false }),
    });
    const parameter = (name: string, type: string, description: string) =>
      new CfnParameter(this, name, { type, description }).valueAsString;
    const subnet = 'AWS::EC2::Subnet::Id';
    const vpc = ec2.Vpc.fromVpcAttributes(this, 'Vpc', {
      vpcId: parameter('VpcId', 'AWS::EC2::VPC::Id', 'The VPC of the callers'),
      availabilityZones: [0, 1].map((zone) => Fn.select(zone, Fn.getAzs())),
      privateSubnetIds: [
        parameter(
          'SubnetA',
          subnet,
          'A private subnet, with a way to ECR, CloudWatch Logs and Secrets Manager',
        ),
        parameter('SubnetB', subnet, 'Such a subnet of another zone'),
      ],
    });
    const endpoints = this.#gatewayEndpoints(vpc);
    const repository = parameter('ImageRepository', 'String', 'The repository in ECR that has the image');
    const tag = parameter('ImageTag', 'String', 'The tag of the image, one that never moves');
    const number = (name: string, props: CfnParameterProps) =>
      new CfnParameter(this, name, { type: 'Number', ...props }).valueAsNumber;
    const memoryMiB = number('MemoryMiB', {
      default: '2048',
      allowedValues: [2, 3, 4, 5, 6, 7, 8].map((gib) => `${1024 * gib}`),
      description: 'Of each coordinator, which has one processor; a third above all its budgets',
    });
    const maxTasks = number('MaxTasks', {
      default: 8,
      minValue: 2,
      description: 'At most so many coordinators; at least two',
    });
    const topic = new sns.Topic(this, 'AlarmTopic', {
      displayName: 'Alarms of Leasehold',
      // Not encrypted by a key of AWS's: CloudWatch could not publish to it. What is in it are names and numbers.
      enforceSSL: true,
    });
    const coordinator = new LeaseholdCoordinator(this, 'Leasehold', {
      vpc,
      gatewayEndpoints: false,
      image: ecs.ContainerImage.fromEcrRepository(
        ecr.Repository.fromRepositoryName(this, 'Repository', repository),
        tag,
      ),
      access: hasTokens ? this.#tokens(parameter) : {},
      memoryMiB,
      maxTasks,
      alarmTopic: topic,
    });
    coordinator.service.node.addDependency(endpoints);
    const callers = new ec2.SecurityGroup(this, 'Callers', {
      vpc,
      description: 'For functions and tasks that call the coordinator, beside their own',
      allowAllOutbound: false,
    });
    coordinator.connections.allowDefaultPortFrom(callers, 'calls of the coordinator');

    const output = (name: string, value: string, description: string) =>
      new CfnOutput(this, name, { value, description });
    output('Endpoint', coordinator.endpoint, 'LEASEHOLD_ENDPOINT of callers');
    output(
      'CallersSecurityGroup',
      callers.securityGroupId,
      'For functions and tasks that call the coordinator',
    );
    output('Alarms', topic.topicArn, 'To subscribe to');
    output('Cluster', coordinator.service.cluster.clusterName, 'Of the coordinators');
    output('Service', coordinator.service.serviceName, 'The coordinators');
    output('CoordinatorLog', coordinator.log.logGroupName, 'What they say');
    output('TableName', coordinator.storage.table.tableName, 'Entries and invalidation log');
    output('BucketName', coordinator.storage.bucket.bucketName, 'Bodies');
  }

  /** Where there are none yet: a route table takes one of each service. */
  #gatewayEndpoints(vpc: ec2.IVpc): CfnWaitConditionHandle {
    const routeTables = new CfnParameter(this, 'RouteTables', {
      type: 'CommaDelimitedList',
      default: '',
      description: 'The route tables of the subnets, if they have no gateway endpoints of DynamoDB and S3',
    }).valueAsList;
    const condition = new CfnCondition(this, 'NeedsGatewayEndpoints', {
      expression: Fn.conditionNot(Fn.conditionEquals(Fn.join('', routeTables), '')),
    });
    // Nothing may depend on what may not be there, but on this, which names what is.
    const there = new CfnWaitConditionHandle(this, 'GatewayEndpoints');
    for (const [id, service] of Object.entries({ DynamoDbEndpoint: 'dynamodb', S3Endpoint: 's3' })) {
      const endpoint = new ec2.CfnVPCEndpoint(this, id, {
        vpcId: vpc.vpcId,
        vpcEndpointType: 'Gateway',
        serviceName: `com.amazonaws.${this.region}.${service}`,
        routeTableIds: routeTables,
      });
      endpoint.cfnOptions.condition = condition;
      there.addMetadata(id, Fn.conditionIf(condition.logicalId, endpoint.ref, ''));
    }
    return there;
  }

  #tokens(parameter: (name: string, type: string, description: string) => string): LeaseholdAccessProps {
    const secret = (name: string, what: string): ISecret =>
      Secret.fromSecretCompleteArn(
        this,
        name,
        parameter(`${name}Arn`, 'String', `The ARN of the secret with ${what}`),
      );
    return {
      auth: 'token',
      policy: secret('Policy', 'the policy, TOML'),
      tokens: secret('Tokens', 'the tokens of the callers, TOML'),
      tls: {
        hostName: parameter(
          'HostName',
          'String',
          'The name that callers use, and that the certificate is for',
        ),
        certificate: secret('Certificate', 'the certificate with its chain, PEM'),
        privateKey: secret('PrivateKey', 'the private key of the certificate, PEM'),
      },
    };
  }
}
