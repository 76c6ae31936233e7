/**
 * How long calls take and how they are repeated, by the service config that all languages share.
 *
 * @module
 */

import { LeaseholdError } from './error.js';
import { sharedServiceConfig } from './generated/service-config.js';

/** A gRPC service config, as far as it is read here. */
export interface ServiceConfig {
  /** How many retries all calls share. */
  readonly retryThrottling?: { readonly maxTokens: number; readonly tokenRatio: number };
  /** What holds for which methods. */
  readonly methodConfig: readonly {
    readonly name: readonly { readonly service: string; readonly method?: string }[];
    /** Seconds, such as `20s`. */
    readonly timeout?: string;
    readonly retryPolicy?: {
      readonly maxAttempts: number;
      /** Seconds, such as `0.025s`. */
      readonly initialBackoff: string;
      /** Seconds, such as `1s`. */
      readonly maxBackoff: string;
      readonly backoffMultiplier: number;
      readonly retryableStatusCodes: readonly string[];
    };
  }[];
}

/** The service config of `leasehold.v1.CoordinatorService`, for those who call it by generated stubs of their own. */
export const serviceConfig: ServiceConfig = sharedServiceConfig;

/** The pauses between attempts of a method. */
export interface Backoff {
  readonly initialMs: number;
  readonly maxMs: number;
  readonly multiplier: number;
}

/** What a service config says of one method. */
export interface MethodTerms {
  /** For all attempts together. Absent: none. */
  readonly timeoutMs?: number;
  /** Absent: the method is not to be repeated without change. */
  readonly backoff?: Backoff;
}

const SERVICE = 'leasehold.v1.CoordinatorService';

/**
 * What `config` says of a method of the coordinator.
 *
 * @throws LeaseholdError of the kind `configuration` for a malformed duration.
 */
export function methodTerms(config: ServiceConfig, method: string): MethodTerms {
  const found =
    config.methodConfig.find((entry) =>
      entry.name.some((name) => name.service === SERVICE && name.method === method),
    ) ??
    config.methodConfig.find((entry) => entry.name.some((name) => name.service === SERVICE && !name.method));
  const policy = found?.retryPolicy;
  return {
    ...(found?.timeout !== undefined && { timeoutMs: milliseconds(found.timeout) }),
    ...(policy && {
      backoff: {
        initialMs: milliseconds(policy.initialBackoff),
        maxMs: milliseconds(policy.maxBackoff),
        multiplier: policy.backoffMultiplier,
      },
    }),
  };
}

function milliseconds(duration: string): number {
  const seconds = /^(\d+(?:\.\d+)?)s$/.exec(duration)?.[1];
  if (seconds === undefined) {
    throw LeaseholdError.configuration(`a duration of the service config: ${JSON.stringify(duration)}`);
  }
  return Number(seconds) * 1000;
}
