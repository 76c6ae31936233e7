/**
 * When to try again, and when an outage has had enough of us.
 *
 * @module
 */

import { amount, milliseconds, optional, record } from './given.js';
import type { Backoff } from './service-config.js';

/** How calls are repeated. Every call can be: those that change something carry a request id. */
export interface RetryOptions {
  /**
   * At most so many attempts of one call, the first included. Default: 100, which leaves it to the timeouts and to the
   * budget.
   */
  maxAttempts?: number | undefined;
  /**
   * The pause before the second attempt in milliseconds, of which a random half to whole is taken; each one after is
   * longer, by the factor in the service config. Default: that of the service config, 25 ms.
   */
  initialBackoffMs?: number | undefined;
  /**
   * No pause is longer, in milliseconds, unless the coordinator asks for it. Default: that of the service config, 1 s.
   */
  maxBackoffMs?: number | undefined;
  /** How many retries all calls of one coordinator share. */
  budget?: RetryBudgetOptions | undefined;
}

/** A bucket of retries. Without it, an outage makes every call `maxAttempts` calls, which keeps it going. */
export interface RetryBudgetOptions {
  /** What the bucket holds, and begins with. Default: `maxTokens` of the service config, 1000. */
  burst?: number | undefined;
  /** What flows in with time. Default: 50. */
  perSecond?: number | undefined;
  /** What flows in with every call, whatever becomes of it. Default: `tokenRatio` of the service config, 0.2. */
  perCall?: number | undefined;
}

export const parseRetryOptions = record<RetryOptions>({
  maxAttempts: optional(amount),
  initialBackoffMs: optional(milliseconds),
  maxBackoffMs: optional(milliseconds),
  budget: optional(
    record<RetryBudgetOptions>({
      burst: optional(amount),
      perSecond: optional(amount),
      perCall: optional(amount),
    }),
  ),
});

type Bucket = { readonly [K in keyof RetryBudgetOptions]-?: number };

/** Before jitter: the pause after so many failed attempts, in milliseconds. */
export function backoffMs(backoff: Backoff, failedAttempts: number): number {
  return Math.min(backoff.initialMs * backoff.multiplier ** Math.max(0, failedAttempts - 1), backoff.maxMs);
}

/** The bucket in use. */
export class RetryBudget {
  readonly #limits: Bucket;
  #tokens: number;
  #at: number;

  constructor(limits: Bucket, now: number) {
    this.#limits = limits;
    this.#tokens = limits.burst;
    this.#at = now;
  }

  /** A call begins. */
  deposit(): void {
    this.#tokens = Math.min(this.#tokens + this.#limits.perCall, this.#limits.burst);
  }

  /** Whether a retry is in the budget, which is then one less. */
  withdraw(now: number): boolean {
    const income = (Math.max(0, now - this.#at) / 1000) * this.#limits.perSecond;
    this.#tokens = Math.min(this.#tokens + income, this.#limits.burst);
    this.#at = now;
    const granted = this.#tokens >= 1;
    if (granted) {
      this.#tokens -= 1;
    }
    return granted;
  }
}
