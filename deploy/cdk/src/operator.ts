import { Duration } from 'aws-cdk-lib';
import type * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import type * as logs from 'aws-cdk-lib/aws-logs';
import type { ISecret } from 'aws-cdk-lib/aws-secretsmanager';
import { Construct } from 'constructs';
import { Task } from './task.js';

/** Who the commands are, and whom they believe. */
export interface OperatorOptions {
  /** The secret that has their token, and nothing else. Needed with `access.auth` `token`. Default: they have none. */
  readonly token?: ISecret;
  /** The authority that the coordinator's certificate is of, PEM. Default: one that every system trusts. */
  readonly caPem?: string;
}

export interface OperatorProps {
  readonly image: ecs.ContainerImage;
  readonly cluster: ecs.ICluster;
  readonly subnets: readonly string[];
  readonly securityGroup: ec2.ISecurityGroup;
  readonly log: logs.ILogGroup;
  readonly endpoint: string;
  readonly token: ISecret | undefined;
  readonly caPem: string | undefined;
}

/**
 * The program's own commands inside the VPC: a task that nobody runs but by hand, `aws ecs run-task`, with a command in place of
 * its own. Its role may do nothing; whoever may run it does what the token's principal may.
 */
export class Operator extends Construct {
  readonly cluster: ecs.ICluster;
  readonly definition: ecs.FargateTaskDefinition;
  /** Where it may run: any of these. */
  readonly subnets: readonly string[];
  /** Lets it to the coordinators, and to the endpoints of AWS. */
  readonly securityGroup: ec2.ISecurityGroup;
  /** What the commands print: stream `leasehold/leasehold/<id of the task>`. */
  readonly log: logs.ILogGroup;

  constructor(scope: Construct, id: string, props: OperatorProps) {
    super(scope, id);
    const { token, caPem } = props;
    this.cluster = props.cluster;
    this.subnets = props.subnets;
    this.securityGroup = props.securityGroup;
    this.log = props.log;
    this.definition = new Task(this, 'Task', {
      image: props.image,
      cpu: 256,
      memoryMiB: 512,
      log: props.log,
      environment: {
        LEASEHOLD_ENDPOINT: props.endpoint,
        ...(caPem !== undefined && { LEASEHOLD_CA_PEM: caPem }),
      },
      ...(token && { secrets: { LEASEHOLD_AUTH_TOKEN: ecs.Secret.fromSecretsManager(token) } }),
      // Without a command it would serve.
      command: ['help'],
      stopTimeout: Duration.seconds(30),
      serves: false,
    }).definition;
  }
}
