import { Duration } from 'aws-cdk-lib';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as logs from 'aws-cdk-lib/aws-logs';
import { Construct, DependencyGroup, type IDependable } from 'constructs';
import { acknowledge } from './acknowledged.js';

/** Where the coordinator answers calls. */
export const PORT = 7420;
/** Where it says how it is, to those who look after it. */
export const ADMIN_PORT = 7421;
/** The one container of a task. */
export const CONTAINER = 'leasehold';
/** Nobody's: the program owns no file and needs none. */
const USER = '65532:65532';

export interface TaskProps {
  readonly image: ecs.ContainerImage;
  readonly cpu: number;
  readonly memoryMiB: number;
  readonly log: logs.ILogGroup;
  readonly environment: Readonly<Record<string, string>>;
  readonly secrets?: Readonly<Record<string, ecs.Secret>>;
  /** Arguments of the program. Default: it serves. */
  readonly command?: readonly string[];
  /** From SIGTERM until it is killed. */
  readonly stopTimeout: Duration;
  /** Whether it answers calls, so that it can be asked how it is. */
  readonly serves: boolean;
}

/** The program in a container: static, without a shell, as nobody, on a file system that it cannot write to. */
export class Task extends Construct {
  readonly definition: ecs.FargateTaskDefinition;
  readonly role: iam.Role;
  /** What has to be there before such a task is started: else it cannot be, or may do nothing. */
  readonly rights: IDependable;

  constructor(scope: Construct, id: string, props: TaskProps) {
    super(scope, id);
    const { log } = props;
    const byTasks = new iam.ServicePrincipal('ecs-tasks.amazonaws.com');
    this.role = new iam.Role(this, 'Role', { assumedBy: byTasks, description: 'What Leasehold does' });
    const executionRole = new iam.Role(this, 'ExecutionRole', {
      assumedBy: byTasks,
      description: 'What ECS does to start Leasehold: image, log, secrets',
    });
    acknowledge(executionRole, {
      'AwsSolutions-IAM5': {
        findings: ['Resource::*'],
        reason:
          'ecr:GetAuthorizationToken knows no resource. What can be pulled with it is a right of its own.',
      },
    });
    this.rights = new DependencyGroup(this.role, executionRole);
    this.definition = new ecs.FargateTaskDefinition(this, 'Definition', {
      cpu: props.cpu,
      memoryLimitMiB: props.memoryMiB,
      runtimePlatform: {
        cpuArchitecture: ecs.CpuArchitecture.ARM64,
        operatingSystemFamily: ecs.OperatingSystemFamily.LINUX,
      },
      taskRole: this.role,
      executionRole,
    });
    acknowledge(this.definition, {
      'AwsSolutions-ECS2': {
        reason:
          'Settings of the coordinator, which are to be seen. What is secret comes from Secrets Manager.',
      },
    });
    const linuxParameters = new ecs.LinuxParameters(this, 'Linux');
    linuxParameters.dropCapabilities(ecs.Capability.ALL);
    this.definition.addContainer('Container', {
      containerName: CONTAINER,
      image: props.image,
      ...(props.command && { command: [...props.command] }),
      environment: { ...props.environment },
      ...(props.secrets && { secrets: { ...props.secrets } }),
      user: USER,
      readonlyRootFilesystem: true,
      privileged: false,
      linuxParameters,
      stopTimeout: props.stopTimeout,
      logging: ecs.LogDrivers.awsLogs({
        logGroup: log,
        streamPrefix: CONTAINER,
        // A log service that does not answer must not hold up calls.
        mode: ecs.AwsLogDriverMode.NON_BLOCKING,
      }),
      ...(props.serves && {
        portMappings: [
          { name: 'calls', containerPort: PORT },
          { name: 'admin', containerPort: ADMIN_PORT },
        ],
        healthCheck: {
          command: ['CMD', '/leasehold', 'healthcheck', '--admin', `http://127.0.0.1:${ADMIN_PORT}`],
          interval: Duration.seconds(10),
          timeout: Duration.seconds(5),
          retries: 3,
          // It looks at table, bucket and rights, and reads the invalidation log, before it serves.
          startPeriod: Duration.seconds(120),
        },
      }),
    });
  }
}
