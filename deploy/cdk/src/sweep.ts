import { Duration } from 'aws-cdk-lib';
import type * as ec2 from 'aws-cdk-lib/aws-ec2';
import type * as ecs from 'aws-cdk-lib/aws-ecs';
import type * as logs from 'aws-cdk-lib/aws-logs';
import * as scheduler from 'aws-cdk-lib/aws-scheduler';
import { EcsRunFargateTask } from 'aws-cdk-lib/aws-scheduler-targets';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { Construct, type IDependable } from 'constructs';
import { acknowledge } from './acknowledged.js';
import type { LeaseholdStorage } from './storage.js';
import { Task } from './task.js';

export interface SweepProps {
  readonly image: ecs.ContainerImage;
  readonly cluster: ecs.ICluster;
  readonly subnets: ec2.SubnetSelection;
  readonly securityGroup: ec2.ISecurityGroup;
  readonly log: logs.ILogGroup;
  readonly storage: LeaseholdStorage;
  readonly environment: Readonly<Record<string, string>>;
  /** What has to be there before the first sweep. */
  readonly after: IDependable;
}

/** Once a week: deletes bodies that no entry needs, which crashes left. By a role of its own, as it alone may scan the table. */
export class Sweep extends Construct {
  readonly log: logs.ILogGroup;
  /** Where one ends up that could not be started. */
  readonly unstarted: sqs.IQueue;

  constructor(scope: Construct, id: string, props: SweepProps) {
    super(scope, id);
    const { cluster, subnets, securityGroup, storage } = props;
    this.log = props.log;
    const task = new Task(this, 'Task', {
      image: props.image,
      // It holds some 100 bytes per entry.
      cpu: 512,
      memoryMiB: 1024,
      log: props.log,
      environment: props.environment,
      command: ['sweep', '--delete'],
      stopTimeout: Duration.seconds(30),
      serves: false,
    });
    storage.grantSweep(task.role);
    this.unstarted = new sqs.Queue(this, 'Unstarted', {
      encryption: sqs.QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: Duration.days(14),
    });
    acknowledge(this.unstarted, {
      'AwsSolutions-SQS3': { reason: 'It is the queue of what could not be delivered.' },
    });
    const schedule = new scheduler.Schedule(this, 'Schedule', {
      description: 'Deletes bodies that no entry of Leasehold needs',
      schedule: scheduler.ScheduleExpression.rate(Duration.days(7)),
      target: new EcsRunFargateTask(cluster, {
        taskDefinition: task.definition,
        vpcSubnets: subnets,
        securityGroups: [securityGroup],
        assignPublicIp: false,
        // What it did not do, the next one does.
        retryAttempts: 2,
        maxEventAge: Duration.hours(1),
        deadLetterQueue: this.unstarted,
      }),
    });
    // The first sweep is at once.
    schedule.node.addDependency(task.rights, props.after);
  }
}
