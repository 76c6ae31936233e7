/**
 * The coordinator as a worker's runtime asks it: for a short while, and never when it is known to be down.
 *
 * @module
 */

import { Breaker, type Verdict } from './breaker.js';
import type { CallOptions } from './calls.js';
import { now } from './clock.js';
import { Coordinator, type CoordinatorOptions } from './coordinator.js';
import type { EntryRef } from './entry.js';
import { LeaseholdError } from './error.js';
import { Invalidations } from './invalidations.js';
import { transitMs } from './lease.js';
import type { Page } from './page.js';

/** What has to be done may take so many times as long as an answer that can be done without. */
const INSISTENCE = 4;
/** How long a trial may take while the coordinator is taken to be down. */
const TRIAL_TIMEOUT_MS = 300;

/** The handle that is given, or one that is made by options and is to be closed with its user. */
export function handleOn(given: Coordinator | CoordinatorOptions | undefined): {
  readonly coordinator: Coordinator;
  readonly isOwn: boolean;
} {
  // By what it can do: one of the package's other build is no instance of this one's class.
  return given && 'lookup' in given
    ? { coordinator: given, isOwn: false }
    : { coordinator: new Coordinator(given), isOwn: true };
}

export class Reach {
  readonly coordinator: Coordinator;
  readonly #timeoutMs: number;
  readonly #onUnreachable: (error: unknown) => void;
  readonly #breaker = new Breaker();
  readonly #invalidations = new Invalidations();

  constructor(coordinator: Coordinator, timeoutMs: number, onUnreachable: (error: unknown) => void) {
    this.coordinator = coordinator;
    this.#timeoutMs = timeoutMs;
    this.#onUnreachable = onUnreachable;
  }

  /** Of the newest invalidation of this process: what it wrote, it reads. */
  get token(): string | undefined {
    return this.#invalidations.token;
  }

  /**
   * Asks, unless the coordinator is taken to be down. `undefined`: there is no answer to be had, which was reported.
   *
   * @throws LeaseholdError when the caller's own input was refused.
   */
  async ask<T>(call: (options: CallOptions) => Promise<T>): Promise<T | undefined> {
    const verdict = this.#breaker.ask(now());
    if (verdict === 'no') {
      return undefined;
    }
    try {
      return await this.#attempt(call, verdict);
    } catch (error) {
      if (
        !(error instanceof LeaseholdError) ||
        error.reason === 'INVALID_FIELD' ||
        error.reason === 'TENANT_BOUNDARY' ||
        error.kind === 'configuration'
      ) {
        throw error;
      }
      this.#onUnreachable(error);
      return undefined;
    }
  }

  /**
   * Asks, and says why there is no answer.
   *
   * @throws LeaseholdError also at once, of the kind `notSent`, while the coordinator is taken to be down.
   */
  async demand<T>(call: (options: CallOptions) => Promise<T>): Promise<T> {
    const verdict = this.#breaker.ask(now());
    if (verdict === 'no') {
      throw LeaseholdError.notSent(new Error('none gave an answer a moment ago'));
    }
    return this.#attempt(call, verdict);
  }

  /**
   * Asks also where the coordinator is taken to be down, and for longer: what ends a lease is worth the attempt, and a rendered page
   * still more. `sizeBytes` may be on their way on top of that. That there was an answer tells that the coordinator is back; that
   * there was none in time tells nothing of it, for it may be a matter of the size.
   *
   * @throws LeaseholdError when there is no answer.
   */
  async insist<T>(call: (options: CallOptions) => Promise<T>, sizeBytes = 0): Promise<T> {
    const timeoutMs = INSISTENCE * this.#timeoutMs + transitMs(sizeBytes);
    const unreachableTimeoutMs = this.#timeoutMs;
    const answer = await call({ timeoutMs, attemptTimeoutMs: timeoutMs / 2, unreachableTimeoutMs });
    this.#breaker.succeeded();
    return answer;
  }

  async #attempt<T>(call: (options: CallOptions) => Promise<T>, verdict: Verdict): Promise<T> {
    const timeoutMs = verdict === 'trial' ? TRIAL_TIMEOUT_MS : this.#timeoutMs;
    // Half of it, so that a connection that fell silent leaves time for another one.
    const options = { timeoutMs, attemptTimeoutMs: timeoutMs / 2, unreachableTimeoutMs: timeoutMs };
    const { token } = this;
    try {
      const answer = await call(options);
      this.#breaker.succeeded();
      return answer;
    } catch (error) {
      if (!(error instanceof LeaseholdError)) {
        throw error;
      }
      if (error.isOutage) {
        this.#breaker.failed(now(), verdict);
      } else {
        this.#breaker.succeeded();
      }
      if (error.reason === 'CONSISTENCY_TOKEN_UNKNOWN' && token !== undefined) {
        // The store was reset: what the token stood for is gone with it.
        this.#invalidations.forget(token);
        return this.#attempt(call, 'yes');
      }
      throw error;
    }
  }

  /**
   * The bytes of a page that was asked for inline: those it came with, those that the caller knows already, or, where they fit
   * no message, those that are streamed. `undefined`: they are not to be had.
   */
  async bytesOf(
    entry: EntryRef,
    page: Page,
    known: { readonly generation?: bigint | undefined; readonly bytes: Uint8Array } | undefined,
    limitBytes: number,
  ): Promise<Uint8Array | undefined> {
    switch (page.body.delivery) {
      case 'inline':
        return page.body.bytes;
      case 'unchanged':
        return known?.generation === page.generation ? known.bytes : undefined;
      case 'tooLarge': {
        const served = await this.ask(async (options) => {
          const { current, body } = await this.coordinator.servePage(entry, {
            ...options,
            consistencyToken: this.token,
          });
          return { generation: current.page.generation, bytes: await body.collect(limitBytes) };
        });
        // Another generation's bytes would be taken for this one's.
        return served?.generation === page.generation ? served.bytes : undefined;
      }
      case 'omitted':
      case 'url':
        return undefined;
    }
  }

  /**
   * Invalidates, and keeps the token.
   *
   * @throws LeaseholdError when it could not be done.
   */
  async invalidate(call: (coordinator: Coordinator) => Promise<string>): Promise<void> {
    await this.#invalidations.make(() => call(this.coordinator));
  }
}
