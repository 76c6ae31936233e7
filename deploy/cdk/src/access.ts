import * as ecs from 'aws-cdk-lib/aws-ecs';
import type * as route53 from 'aws-cdk-lib/aws-route53';
import type { ISecret } from 'aws-cdk-lib/aws-secretsmanager';
import { Refused } from './refused.js';

/** Who may call the coordinator, and how it proves who it is. Nothing of it is in the template but names of secrets. */
export interface LeaseholdAccessProps {
  /**
   * How callers prove who they are. `token` and `mtls` need `tls`. Default: `none`: whoever the security group lets
   * through can read, replace and purge every page.
   */
  readonly auth?: 'none' | 'token' | 'mtls';
  /** With `token` and `mtls`: the policy, TOML. */
  readonly policy?: ISecret;
  /** With `token`: the tokens, TOML. */
  readonly tokens?: ISecret;
  /** What the coordinator speaks TLS with. Default: plain text, which the security groups keep to those who may. */
  readonly tls?: LeaseholdTlsProps;
}

/** TLS of the coordinator itself: a network load balancer passes it through. */
export interface LeaseholdTlsProps {
  /** The name that callers use, and that the certificate is for. */
  readonly hostName: string;
  /**
   * A zone of your own to put the name into, where callers find it. Default: a private zone of just this name, for the
   * coordinator's VPC.
   */
  readonly zone?: route53.IHostedZone;
  /** The certificate with its chain, PEM. */
  readonly certificate: ISecret;
  /** Its private key, PEM. */
  readonly privateKey: ISecret;
  /** With `mtls`: the authority that callers' certificates are of, PEM. */
  readonly clientCa?: ISecret;
}

/** Of a coordinator: variables, and those that hold secrets. */
export interface AccessVariables {
  readonly environment: Readonly<Record<string, string>>;
  readonly secrets: Readonly<Record<string, ecs.Secret>>;
}

/** What the coordinator is told of who may call it. */
export function accessVariables(access: LeaseholdAccessProps): AccessVariables {
  const { auth = 'none', policy, tokens, tls } = access;
  if (auth !== 'none' && !tls) {
    throw new Refused(
      'access.tls',
      `is needed with access.auth '${auth}': a token in plain text is anybody's`,
    );
  }
  needs('access.policy', policy, auth !== 'none', auth);
  needs('access.tokens', tokens, auth === 'token', auth);
  needs('access.tls.clientCa', tls?.clientCa, auth === 'mtls', auth);
  const secrets: Record<string, ISecret | undefined> = {
    LEASEHOLD_POLICY_TOML: policy,
    LEASEHOLD_TOKENS_TOML: tokens,
    LEASEHOLD_TLS_CERT_PEM: tls?.certificate,
    LEASEHOLD_TLS_KEY_PEM: tls?.privateKey,
    LEASEHOLD_TLS_CLIENT_CA_PEM: tls?.clientCa,
  };
  const given = Object.entries(secrets).flatMap(([name, secret]) =>
    secret ? [[name, secret] as const] : [],
  );
  return {
    environment: {
      // The second word that the coordinator wants before it answers other machines that prove nothing.
      ...(auth === 'none' ? { LEASEHOLD_ALLOW_REMOTE: 'true' } : { LEASEHOLD_AUTH: auth }),
    },
    secrets: Object.fromEntries(given.map(([name, secret]) => [name, ecs.Secret.fromSecretsManager(secret)])),
  };
}

function needs(property: string, given: ISecret | undefined, needed: boolean, auth: string): void {
  if (needed && !given) {
    throw new Refused(property, `is needed with access.auth '${auth}'`);
  }
  if (given && !needed) {
    throw new Refused(property, `has no effect with access.auth '${auth}': leave it out, or choose another`);
  }
}
