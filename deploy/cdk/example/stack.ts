import { CfnOutput, Duration, RemovalPolicy, Stack, type StackProps } from 'aws-cdk-lib';
import * as cloudfront from 'aws-cdk-lib/aws-cloudfront';
import { FunctionUrlOrigin, S3BucketOrigin } from 'aws-cdk-lib/aws-cloudfront-origins';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as s3 from 'aws-cdk-lib/aws-s3';
import { type ISecret, Secret } from 'aws-cdk-lib/aws-secretsmanager';
import * as sns from 'aws-cdk-lib/aws-sns';
import type { Construct } from 'constructs';
import { acknowledge } from '../src/acknowledged.js';
import { LeaseholdCoordinator, type LeaseholdStorageProps } from '../src/index.js';

/** What the coordinator's certificate has to be for: a name that the stack makes known in its VPC, and nowhere else. */
export const HOST_NAME = 'leasehold.internal';

/**
 * Of the Lambda, and so of CloudFront, which would give up before: as long as a visitor waits for another's render (`maxWaitMs` of the
 * site), then renders, and what is rendered behind.
 */
const LONGEST_VISIT = Duration.seconds(60);

/** A site, whole: its network, its coordinators, its render Lambda, and CloudFront in front of it. */
export interface SiteStackProps extends StackProps {
  /** The repository in ECR that has the image of the coordinator. */
  readonly imageRepository: string;
  /** A tag that never moves, or a digest. */
  readonly imageTag: string;
  /** The folder with the bundled render Lambda. */
  readonly code: string;
  /** What is secret, and must be there before. */
  readonly secrets: SiteSecrets;
  /** The authority of the coordinator's certificate, PEM: whom the site and operators believe. */
  readonly caPem: string;
  /** What FaceTheory's stacks name in their environment: where given, its pages are taken over. */
  readonly faceTheory?: { readonly table: string; readonly bucket: string; readonly prefix: string };
}

/** Secrets of Secrets Manager by their whole ARNs, each with the text itself, not JSON. What is in them the stack never sees. */
export interface SiteSecrets {
  /** The coordinator's certificate with its chain, PEM, for `leasehold.internal`. */
  readonly certificate: string;
  /** Its private key, PEM. */
  readonly privateKey: string;
  /** What each principal may do, TOML. */
  readonly policy: string;
  /** The digests of the tokens, and whose they are, TOML. */
  readonly tokens: string;
  /** The token that the render Lambda presents. */
  readonly renderToken: string;
  /** The token that operators' commands present. */
  readonly operatorToken: string;
}

export class SiteStack extends Stack {
  constructor(scope: Construct, id: string, props: SiteStackProps) {
    super(scope, id, { description: 'A site over Leasehold', ...props });
    const vpc = this.#network();
    const topic = new sns.Topic(this, 'Alarms', { enforceSSL: true });
    const secret = (id: string, arn: string): ISecret => Secret.fromSecretCompleteArn(this, id, arn);
    const { secrets, caPem } = props;
    const coordinator = new LeaseholdCoordinator(this, 'Leasehold', {
      vpc,
      image: ecs.ContainerImage.fromEcrRepository(
        ecr.Repository.fromRepositoryName(this, 'Image', props.imageRepository),
        props.imageTag,
      ),
      storage: this.#storage(props.faceTheory),
      // The load balancer passes TCP on: from the caller's process to the coordinator's, a token is in TLS all the way.
      access: {
        auth: 'token',
        policy: secret('Policy', secrets.policy),
        tokens: secret('Tokens', secrets.tokens),
        tls: {
          hostName: HOST_NAME,
          certificate: secret('Certificate', secrets.certificate),
          privateKey: secret('PrivateKey', secrets.privateKey),
        },
      },
      alarmTopic: topic,
      // Where the first deployment fails, CloudFormation could not take it back. Turn it on once the site has visitors.
      deletionProtection: false,
    });

    const render = this.#render(vpc, props.code);
    coordinator.grantInvoke(render, { tokenSecret: secret('RenderToken', secrets.renderToken), caPem });
    const operator = coordinator.addOperator({
      token: secret('OperatorToken', secrets.operatorToken),
      caPem,
    });
    const url = render.addFunctionUrl({ authType: lambda.FunctionUrlAuthType.AWS_IAM });
    const distribution = this.#distribution(url);

    const outputs: Readonly<Record<string, string>> = {
      Site: `https://${distribution.distributionDomainName}/`,
      RenderFunction: render.functionName,
      AlarmTopic: topic.topicArn,
      TableName: coordinator.storage.table.tableName,
      BucketName: coordinator.storage.bucket.bucketName,
      Cluster: operator.cluster.clusterName,
      Service: coordinator.service.serviceName,
      CoordinatorLog: coordinator.log.logGroupName,
      OperatorTask: operator.definition.family,
      OperatorSubnets: operator.subnets.join(','),
      OperatorSecurityGroup: operator.securityGroup.securityGroupId,
      OperatorLog: operator.log.logGroupName,
    };
    for (const [name, value] of Object.entries(outputs)) {
      new CfnOutput(this, name, { value });
    }
  }

  /** Without any way to or from the internet: what is needed of AWS has an endpoint. */
  #network(): ec2.Vpc {
    const vpc = new ec2.Vpc(this, 'Vpc', {
      maxAzs: 2,
      natGateways: 0,
      subnetConfiguration: [{ name: 'inside', subnetType: ec2.SubnetType.PRIVATE_ISOLATED }],
      flowLogs: { rejected: { trafficType: ec2.FlowLogTrafficType.REJECT } },
    });
    const { ECR, ECR_DOCKER, CLOUDWATCH_LOGS, SECRETS_MANAGER } = ec2.InterfaceVpcEndpointAwsService;
    for (const [name, service] of Object.entries({
      Ecr: ECR,
      EcrDocker: ECR_DOCKER,
      Logs: CLOUDWATCH_LOGS,
      SecretsManager: SECRETS_MANAGER,
    })) {
      acknowledge(vpc.addInterfaceEndpoint(name, { service }), {
        'AwsSolutions-EC23': { reason: 'Open to the range of the VPC, which the rule cannot read.' },
      });
    }
    return vpc;
  }

  #storage(faceTheory: SiteStackProps['faceTheory']): LeaseholdStorageProps {
    if (!faceTheory) {
      return {};
    }
    return {
      table: dynamodb.Table.fromTableName(this, 'Table', faceTheory.table),
      bucket: s3.Bucket.fromBucketName(this, 'Bucket', faceTheory.bucket),
      faceTheory: { keyPrefix: faceTheory.prefix },
    };
  }

  #render(vpc: ec2.Vpc, code: string): lambda.Function {
    const log = new logs.LogGroup(this, 'RenderLog', {
      retention: logs.RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    const role = new iam.Role(this, 'RenderRole', {
      assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com'),
      managedPolicies: [
        iam.ManagedPolicy.fromAwsManagedPolicyName('service-role/AWSLambdaVPCAccessExecutionRole'),
      ],
    });
    acknowledge(role, {
      'AwsSolutions-IAM4': {
        findings: [
          'Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole',
        ],
        reason:
          'What every function in a VPC needs, as AWS keeps it. Its only other right is to read its own token.',
      },
    });
    return new lambda.Function(this, 'Render', {
      description: 'Renders the pages of the site',
      runtime: lambda.Runtime.NODEJS_24_X,
      architecture: lambda.Architecture.ARM_64,
      handler: 'index.handler',
      code: lambda.Code.fromAsset(code),
      role,
      vpc,
      vpcSubnets: { subnetType: ec2.SubnetType.PRIVATE_ISOLATED },
      memorySize: 1024,
      timeout: LONGEST_VISIT,
      logGroup: log,
      environment: { SITE_TENANT: 'site' },
    });
  }

  #distribution(url: lambda.FunctionUrl): cloudfront.Distribution {
    const assets = new s3.Bucket(this, 'Assets', {
      blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
      encryption: s3.BucketEncryption.S3_MANAGED,
      enforceSSL: true,
    });
    acknowledge(assets, {
      'AwsSolutions-S1': { reason: 'CloudFront alone reads it, what everybody may see.' },
    });
    const secure = {
      viewerProtocolPolicy: cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
      responseHeadersPolicy: cloudfront.ResponseHeadersPolicy.SECURITY_HEADERS,
    };
    const distribution = new cloudfront.Distribution(this, 'Distribution', {
      comment: 'A site over Leasehold',
      // Pages, their hydration data, which is asked for by a query of the page's own path, and whatever changes something.
      defaultBehavior: {
        ...secure,
        origin: FunctionUrlOrigin.withOriginAccessControl(url, { readTimeout: LONGEST_VISIT }),
        allowedMethods: cloudfront.AllowedMethods.ALLOW_ALL,
        // A copy that CloudFront keeps is one that no invalidation reaches.
        cachePolicy: cloudfront.CachePolicy.CACHING_DISABLED,
        // The whole query, and all cookies; but a function URL is not found under another host's name.
        originRequestPolicy: cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
      },
      // Files with a hash in their names. The coordinator's bucket is behind no behaviour.
      additionalBehaviors: {
        '/assets/*': {
          ...secure,
          origin: S3BucketOrigin.withOriginAccessControl(assets),
          cachePolicy: cloudfront.CachePolicy.CACHING_OPTIMIZED,
        },
      },
    });
    acknowledge(distribution, {
      'AwsSolutions-CFR1': { reason: 'An example for the whole world.' },
      'AwsSolutions-CFR2': { reason: 'Which rules a firewall has is for the site to say.' },
      'AwsSolutions-CFR3': { reason: 'Where accesses are logged, and for how long, is for the site to say.' },
      'AwsSolutions-CFR4': {
        reason: "CloudFront's own certificate; a domain of your own comes with its minimum of TLS 1.2.",
      },
    });
    return distribution;
  }
}
