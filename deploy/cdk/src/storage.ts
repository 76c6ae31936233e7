import { ArnFormat, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as kms from 'aws-cdk-lib/aws-kms';
import * as s3 from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import { acknowledge } from './acknowledged.js';
import { Refused } from './refused.js';

/** Where the coordinators keep entries, invalidation log and bodies. */
export interface LeaseholdStorageProps {
  /**
   * A table that is there, with the partition key `pk`, the sort key `sk` (both strings) and the time to live on `ttl`.
   * The role is kept to the partition keys that the coordinator has in it. Default: one is created, and kept when the
   * stack is deleted.
   */
  readonly table?: dynamodb.ITable;
  /**
   * A bucket that is there: private, unversioned, without a lifecycle rule on `objectPrefix`. Default: one is created,
   * and kept when the stack is deleted.
   */
  readonly bucket?: s3.IBucket;
  /** The key of your own that table and bucket are encrypted with. Default: those of DynamoDB and S3. */
  readonly encryptionKey?: kms.IKey;
  /** `--entry-key`. Default: `TENANT#{tenant}#CACHE#{digest}`; with `faceTheory`, `CACHE#{key}`. */
  readonly entryKey?: string;
  /** `--log-key`. Default: `LEASEHOLD#LOG`. */
  readonly logKey?: string;
  /** `--object-prefix`, under which the coordinator writes. Default: `isr`. */
  readonly objectPrefix?: string;
  /** Given where FaceTheory keeps, or kept, its pages in `table` and `bucket`: they go on being served. */
  readonly faceTheory?: FaceTheoryLayout;
}

/** How FaceTheory laid out what is taken over. */
export interface FaceTheoryLayout {
  /** `keyPrefix` of its `S3HtmlStore`, which its stacks have in `FACETHEORY_ISR_PREFIX`. Default: none. */
  readonly keyPrefix?: string;
  /**
   * The prefixes in the bucket under which its bodies are, which the coordinator reads, and deletes once they are
   * superseded. Default: `keyPrefix`; where there is none, they have to be named.
   */
  readonly bodyPrefixes?: readonly string[];
}

const TABLE_NAMES = [
  'FACETHEORY_CACHE_TABLE_NAME',
  'APPTHEORY_CACHE_TABLE_NAME',
  'CACHE_TABLE_NAME',
  'CACHE_TABLE',
] as const;

/** Table and bucket, what the coordinator is told of them, and what it may do with them. */
export class LeaseholdStorage extends Construct {
  readonly table: dynamodb.ITable;
  readonly bucket: s3.IBucket;
  /** The variables by which a coordinator, and a sweep, know where everything is. */
  readonly environment: Readonly<Record<string, string>>;
  /** The same under the names that FaceTheory's stacks give to their functions. */
  readonly faceTheoryEnvironment: Readonly<Record<string, string>>;

  readonly #encryptionKey: kms.IKey | undefined;
  readonly #objectPrefix: string;
  readonly #foreignPrefixes: readonly string[];
  readonly #partitions: readonly string[] | undefined;

  constructor(scope: Construct, id: string, props: LeaseholdStorageProps = {}) {
    super(scope, id);
    const { faceTheory, encryptionKey, logKey = 'LEASEHOLD#LOG', objectPrefix = 'isr' } = props;
    if (faceTheory && !(props.table && props.bucket)) {
      throw new Refused(
        'storage.faceTheory',
        'is for a table and a bucket that are there: give `table` and `bucket`',
      );
    }
    const entryKey = props.entryKey ?? (faceTheory ? 'CACHE#{key}' : 'TENANT#{tenant}#CACHE#{digest}');
    const keyPrefix = trimmed(faceTheory?.keyPrefix ?? '');
    this.#encryptionKey = encryptionKey;
    this.#objectPrefix = trimmed(objectPrefix);
    this.#foreignPrefixes = foreignPrefixes(faceTheory, keyPrefix);
    // Others may have rows in a table that was there before.
    this.#partitions = props.table && [partitionsOf(entryKey), logKey];
    this.table = props.table ?? this.#createTable();
    this.bucket = props.bucket ?? this.#createBucket();

    const { tableName } = this.table;
    const { bucketName } = this.bucket;
    this.environment = {
      LEASEHOLD_STORE: 'aws',
      // The coordinator knows FaceTheory's name for it too.
      [faceTheory ? 'FACETHEORY_CACHE_TABLE_NAME' : 'LEASEHOLD_TABLE']: tableName,
      LEASEHOLD_BUCKET: bucketName,
      LEASEHOLD_REGION: Stack.of(this).region,
      LEASEHOLD_ENTRY_KEY: entryKey,
      LEASEHOLD_LOG_KEY: logKey,
      LEASEHOLD_OBJECT_PREFIX: this.#objectPrefix,
      ...(keyPrefix && { LEASEHOLD_S3_KEY_PREFIX: keyPrefix }),
    };
    this.faceTheoryEnvironment = {
      ...Object.fromEntries(TABLE_NAMES.map((name) => [name, tableName])),
      FACETHEORY_ISR_BUCKET: bucketName,
      FACETHEORY_ISR_PREFIX: keyPrefix,
    };
  }

  /** What a coordinator does with them: its preflight asks for each of these, and for nothing else. */
  grantServe(role: iam.Role): void {
    role.addToPolicy(
      new iam.PolicyStatement({
        sid: 'EntriesAndLog',
        actions: ['dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:UpdateItem', 'dynamodb:Query'],
        resources: [this.table.tableArn],
        ...(this.#partitions && {
          conditions: { 'ForAllValues:StringLike': { 'dynamodb:LeadingKeys': this.#partitions } },
        }),
      }),
    );
    role.addToPolicy(
      new iam.PolicyStatement({
        sid: 'Preflight',
        actions: ['dynamodb:DescribeTable', 'dynamodb:DescribeTimeToLive'],
        resources: [this.table.tableArn],
      }),
    );
    this.#grantObjects(role, ['s3:GetObject', 's3:PutObject', 's3:DeleteObject']);
    this.#grantKey(role);
  }

  /** What a sweep does with them. It reads the whole table, and writes nothing. */
  grantSweep(role: iam.Role): void {
    role.addToPolicy(
      new iam.PolicyStatement({
        sid: 'Entries',
        actions: ['dynamodb:Scan'],
        resources: [this.table.tableArn],
      }),
    );
    this.#grantObjects(role, ['s3:GetObject', 's3:DeleteObject']);
    this.#grantKey(role);
  }

  #grantObjects(role: iam.Role, actions: string[]): void {
    role.addToPolicy(
      new iam.PolicyStatement({
        sid: 'Bodies',
        actions,
        resources: [this.#objectsUnder(this.#objectPrefix)],
      }),
    );
    if (this.#foreignPrefixes.length > 0) {
      role.addToPolicy(
        new iam.PolicyStatement({
          sid: 'BodiesOfFaceTheory',
          actions: actions.filter((action) => action !== 's3:PutObject'),
          resources: this.#foreignPrefixes.map((prefix) => this.#objectsUnder(prefix)),
        }),
      );
    }
    // Without a condition on prefixes: to who may not list, S3 calls an object that is not there forbidden.
    role.addToPolicy(
      new iam.PolicyStatement({
        sid: 'Bucket',
        actions: ['s3:ListBucket'],
        resources: [this.bucket.bucketArn],
      }),
    );
    const objects = [this.#objectPrefix, ...this.#foreignPrefixes];
    acknowledge(role, {
      'AwsSolutions-IAM5': {
        findings: objects.map((prefix) => this.#findingOf(prefix)),
        reason:
          'Bodies have names that are made for each of them; the prefix is what the coordinator is kept to.',
      },
    });
  }

  #grantKey(role: iam.Role): void {
    if (!this.#encryptionKey) {
      return;
    }
    const stack = Stack.of(this);
    role.addToPolicy(
      new iam.PolicyStatement({
        sid: 'KeyOfTableAndBucket',
        actions: ['kms:Decrypt', 'kms:Encrypt', 'kms:GenerateDataKey', 'kms:DescribeKey'],
        resources: [this.#encryptionKey.keyArn],
        conditions: {
          StringEquals: {
            'kms:ViaService': ['dynamodb', 's3'].map(
              (service) => `${service}.${stack.region}.${stack.urlSuffix}`,
            ),
          },
        },
      }),
    );
  }

  #objectsUnder(prefix: string): string {
    return this.bucket.arnForObjects(prefix ? `${prefix}/*` : '*');
  }

  /** As cdk-nag names it. */
  #findingOf(prefix: string): string {
    const stack = Stack.of(this);
    const objects = prefix ? `${prefix}/*` : '*';
    const created = this.bucket.node.defaultChild as s3.CfnBucket | undefined;
    if (created && this.bucket instanceof s3.Bucket) {
      return `Resource::<${stack.getLogicalId(created)}.Arn>/${objects}`;
    }
    const arn = stack.splitArn(this.bucket.bucketArn, ArnFormat.NO_RESOURCE_NAME);
    return `Resource::arn:<AWS::Partition>:s3:::${arn.resource}/${objects}`;
  }

  #createTable(): dynamodb.Table {
    const text = dynamodb.AttributeType.STRING;
    return new dynamodb.Table(this, 'Table', {
      partitionKey: { name: 'pk', type: text },
      sortKey: { name: 'sk', type: text },
      timeToLiveAttribute: 'ttl',
      billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      deletionProtection: true,
      removalPolicy: RemovalPolicy.RETAIN,
      ...(this.#encryptionKey
        ? { encryption: dynamodb.TableEncryption.CUSTOMER_MANAGED, encryptionKey: this.#encryptionKey }
        : { encryption: dynamodb.TableEncryption.AWS_MANAGED }),
    });
  }

  #createBucket(): s3.Bucket {
    const bucket = new s3.Bucket(this, 'Bucket', {
      blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
      objectOwnership: s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
      enforceSSL: true,
      minimumTLSVersion: 1.2,
      // Superseded bodies are deleted by the coordinator an hour later: versions would keep each of them for good.
      versioned: false,
      removalPolicy: RemovalPolicy.RETAIN,
      ...(this.#encryptionKey
        ? {
            encryption: s3.BucketEncryption.KMS,
            encryptionKey: this.#encryptionKey,
            // One request to KMS for many objects.
            bucketKeyEnabled: true,
          }
        : { encryption: s3.BucketEncryption.S3_MANAGED }),
    });
    acknowledge(bucket, {
      'AwsSolutions-S1': {
        reason:
          'Bodies can be rendered again at any time, and every request is one of the coordinator, which logs what fails. ' +
          'Where accesses must be on record: data events of CloudTrail.',
      },
    });
    return bucket;
  }
}

/** Every partition key that a template can make. */
function partitionsOf(template: string): string {
  return template.replace(/\{[a-z]+\}/g, '*');
}

function foreignPrefixes(faceTheory: FaceTheoryLayout | undefined, keyPrefix: string): readonly string[] {
  if (!faceTheory) {
    return [];
  }
  const prefixes = (faceTheory.bodyPrefixes ?? (keyPrefix ? [keyPrefix] : [])).map(trimmed).filter(Boolean);
  if (prefixes.length === 0) {
    throw new Refused(
      'storage.faceTheory.bodyPrefixes',
      'is needed where there is no `keyPrefix`: the prefixes under which its bodies are in the bucket',
    );
  }
  return prefixes;
}

function trimmed(prefix: string): string {
  return prefix.trim().replace(/^\/+|\/+$/g, '');
}
