import { Aws, Duration } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import type * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import type * as ecs from 'aws-cdk-lib/aws-ecs';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import type * as sns from 'aws-cdk-lib/aws-sns';
import { Construct } from 'constructs';
import type { Sweep } from './sweep.js';

export interface AlarmsProps {
  readonly service: ecs.FargateService;
  readonly minTasks: number;
  readonly healthy: cloudwatch.Metric;
  readonly table: dynamodb.ITable;
  readonly log: logs.ILogGroup;
  readonly sweep: Sweep | undefined;
  readonly topic: sns.ITopic | undefined;
}

/** What of the log is counted, word for word as the program says it: the beginnings of messages. */
export const MESSAGES = {
  logUnreadable: 'invalidation log cannot be read',
  logReadable: 'invalidation log is read again',
  serving: 'serving',
  bodyGone: 'the body of the current page is gone',
} as const;
/** What the program's last words begin with, where it could not go on. */
export const LAST_WORDS = 'leasehold: ';

const { GREATER_THAN_THRESHOLD, LESS_THAN_THRESHOLD } = cloudwatch.ComparisonOperator;
const { BREACHING, IGNORE, NOT_BREACHING } = cloudwatch.TreatMissingData;

/** Each has a section of its name in the runbook. */
export class Alarms extends Construct {
  readonly all: cloudwatch.Alarm[] = [];

  readonly #topic: sns.ITopic | undefined;

  constructor(scope: Construct, id: string, props: AlarmsProps) {
    super(scope, id);
    const { service, minTasks, healthy, table, log, sweep } = props;
    this.#topic = props.topic;
    letThrough(this.#topic);

    this.#alarm('NoCoordinator', {
      what: 'No coordinator is healthy: pages are rendered without leases, or served as the workers know them',
      // Of the balancer's nodes, the one that sees the most: one that sees nobody, as it is new, says nothing of the others.
      metric: healthy.with({ statistic: cloudwatch.Stats.MAXIMUM }),
      operator: LESS_THAN_THRESHOLD,
      threshold: 1,
      of: [1, 1],
      missing: BREACHING,
    });
    this.#alarm('FewCoordinators', {
      what: 'For ten minutes, fewer coordinators are healthy than there should be at least',
      metric: healthy,
      operator: LESS_THAN_THRESHOLD,
      threshold: minTasks,
      of: [10, 10],
    });
    this.#alarm('Processor', {
      what: 'The coordinators are busy, and there are not more of them',
      metric: service.metricCpuUtilization({ period: Duration.minutes(1) }),
      threshold: 80,
      of: [15, 15],
    });
    this.#alarm('Memory', {
      what: 'A coordinator will be killed for want of memory',
      metric: service.metricMemoryUtilization({
        period: Duration.minutes(1),
        statistic: cloudwatch.Stats.MAXIMUM,
      }),
      threshold: 85,
      of: [5, 5],
    });
    const sum = { statistic: cloudwatch.Stats.SUM, period: Duration.minutes(1) };
    this.#alarm('TableThrottled', {
      what: 'DynamoDB refuses requests to the table',
      metric: new cloudwatch.MathExpression({
        expression: 'FILL(reads, 0) + FILL(writes, 0)',
        usingMetrics: {
          reads: table.metric('ReadThrottleEvents', sum),
          writes: table.metric('WriteThrottleEvents', sum),
        },
        period: Duration.minutes(1),
        label: 'throttled',
      }),
      threshold: 0,
      of: [3, 5],
    });
    const says = (message: string) => logs.FilterPattern.stringValue('$.message', '=', `${message}*`);
    const unreadable = { statistic: cloudwatch.Stats.MINIMUM, period: Duration.minutes(1) };
    // It is said once, at the beginning of an outage, and once at its end, which a start is too.
    const readable = logs.FilterPattern.any(says(MESSAGES.logReadable), says(MESSAGES.serving));
    this.#filter('LogUnreadable', 'Again', log, readable, '0');
    this.#alarm('LogUnreadable', {
      what: 'A coordinator cannot read the invalidation log: until it can, it calls nothing fresh',
      metric: this.#filter('LogUnreadable', 'Lines', log, says(MESSAGES.logUnreadable), '1').metric(
        unreadable,
      ),
      threshold: 0,
      of: [1, 1],
      missing: IGNORE,
    });
    this.#alarm('BodiesGone', {
      what: 'Something else deletes bodies: pages whose bodies are gone are rendered again',
      metric: this.#count('BodiesGone', log, says(MESSAGES.bodyGone)),
      threshold: 10,
      of: [1, 1],
    });
    this.#alarm('Errors', {
      what: 'A coordinator met what should not be',
      metric: this.#count('Errors', log, logs.FilterPattern.stringValue('$.level', '=', 'ERROR')),
      threshold: 0,
      of: [1, 1],
    });
    this.#alarm('CannotRun', {
      what: 'A coordinator could not start, or go on; its last line in the log says why',
      metric: this.#count('CannotRun', log, beginsWith(LAST_WORDS)),
      threshold: 0,
      of: [1, 1],
    });
    if (sweep) {
      this.#alarm('SweepNotStarted', {
        what: 'The sweep could not be started; what is in its queue says why',
        metric: sweep.unstarted.metricApproximateNumberOfMessagesVisible({
          statistic: cloudwatch.Stats.MAXIMUM,
          period: Duration.minutes(5),
        }),
        threshold: 0,
        of: [1, 1],
      });
      this.#alarm('SweepFailed', {
        what: 'The sweep deleted nothing, or not all; its last line in the log says why',
        metric: this.#count('SweepFailed', sweep.log, beginsWith(LAST_WORDS)),
        threshold: 0,
        of: [1, 1],
      });
    }
  }

  #alarm(id: string, rule: Rule): void {
    const { what, metric, threshold, of, operator = GREATER_THAN_THRESHOLD, missing = NOT_BREACHING } = rule;
    const alarm = new cloudwatch.Alarm(this, id, {
      alarmDescription: `${what}. What to do: deploy/README.md, ${id}.`,
      metric,
      threshold,
      comparisonOperator: operator,
      datapointsToAlarm: of[0],
      evaluationPeriods: of[1],
      treatMissingData: missing,
    });
    if (this.#topic) {
      const action = new SnsAction(this.#topic);
      alarm.addAlarmAction(action);
      alarm.addOkAction(action);
    }
    this.all.push(alarm);
  }

  /** How many lines of a log are like this, in a minute. */
  #count(id: string, log: logs.ILogGroup, pattern: logs.IFilterPattern): cloudwatch.Metric {
    const sum = { statistic: cloudwatch.Stats.SUM, period: Duration.minutes(1) };
    return this.#filter(id, 'Lines', log, pattern, '1').metric(sum);
  }

  /** A value of an alarm's metric for each line of a log that is like this. */
  #filter(
    id: string,
    what: string,
    logGroup: logs.ILogGroup,
    filterPattern: logs.IFilterPattern,
    metricValue: string,
  ): logs.MetricFilter {
    return new logs.MetricFilter(this, `${id}${what}`, {
      logGroup,
      filterPattern,
      // Two fleets in one account, or in one stack, are told apart.
      metricNamespace: `Leasehold/${Aws.STACK_NAME}`,
      metricName: `${this.node.scope?.node.id}-${id}`,
      metricValue,
    });
  }
}

/**
 * Lets CloudWatch publish to a topic. With any statement of its own, such as that of TLS, a topic loses the policy it is born with,
 * which lets in whatever acts for its account: alarms would go off, and nobody would hear of them.
 */
function letThrough(topic: sns.ITopic | undefined): void {
  topic?.addToResourcePolicy(
    new iam.PolicyStatement({
      principals: [new iam.ServicePrincipal('cloudwatch.amazonaws.com')],
      actions: ['sns:Publish'],
      resources: [topic.topicArn],
      conditions: { StringEquals: { 'aws:SourceAccount': Aws.ACCOUNT_ID } },
    }),
  );
}

/**
 * Lines that begin with these words. By an expression, as phrases are found anywhere, and every line of the coordinator has its name in it;
 * with what every expression may have: any character for the colon, and one for the blank.
 */
function beginsWith(words: string): logs.IFilterPattern {
  return logs.FilterPattern.literal(`%^${words.replace(':', '.').replace(' ', String.raw`\s`)}%`);
}

interface Rule {
  readonly what: string;
  readonly metric: cloudwatch.IMetric;
  /** Above it, unless `operator` says otherwise. */
  readonly threshold: number;
  readonly operator?: cloudwatch.ComparisonOperator;
  /** In so many of so many minutes. */
  readonly of: readonly [number, number];
  readonly missing?: cloudwatch.TreatMissingData;
}
