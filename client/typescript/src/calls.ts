/**
 * The calls of one coordinator: what they share, and how long each may take.
 *
 * @module
 */

import { type Answered, type Limits, type Method, type Shared, unary } from './call.js';
import { milliseconds, objectAs, optional, record } from './given.js';
import { type Backoff, methodTerms, type ServiceConfig } from './service-config.js';

/** How one call is to be made. */
export interface CallOptions {
  /**
   * Ends the call; it then rejects with the signal's reason. Whether a call that changes something was applied is
   * unknown.
   */
  readonly signal?: AbortSignal | undefined;
  /**
   * How long the call may take with all its attempts, in milliseconds; where it waits, on top of that. Default: that of
   * the coordinator's `timeoutMs`, else that of the service config, 20 s.
   */
  readonly timeoutMs?: number | undefined;
  /** How long one attempt may take, in milliseconds; where it waits, on top of that. Default: the coordinator's, 5 s. */
  readonly attemptTimeoutMs?: number | undefined;
  /**
   * Given up when no coordinator could be reached for so many milliseconds, also where the call might still wait.
   * Default: what `timeoutMs` is.
   */
  readonly unreachableTimeoutMs?: number | undefined;
}

/** How options that all calls have are parsed. */
export const callFields = {
  signal: optional(objectAs<AbortSignal>()),
  timeoutMs: optional(milliseconds),
  attemptTimeoutMs: optional(milliseconds),
  unreachableTimeoutMs: optional(milliseconds),
};

/** @throws LeaseholdError of the kind `configuration` for what are no options. */
export const parseCallOptions = record<CallOptions>(callFields);

/** The methods of `leasehold.v1.CoordinatorService`, by their names in the service config. */
export type MethodName =
  | 'Lookup'
  | 'AcquireLease'
  | 'RenewLease'
  | 'ReleaseLease'
  | 'CommitPointer'
  | 'UploadBody'
  | 'ServeSidecar'
  | 'ServeObject'
  | 'ServePage'
  | 'Invalidate'
  | 'Watch';

export interface CallSettings {
  readonly serviceConfig: ServiceConfig;
  readonly attemptTimeoutMs: number;
  readonly timeoutMs: number | undefined;
  readonly initialBackoffMs: number | undefined;
  readonly maxBackoffMs: number | undefined;
  readonly inlineLimitBytes: number;
  readonly owner: string;
}

const DEFAULT_BACKOFF: Backoff = { initialMs: 25, maxMs: 1000, multiplier: 2 };
const DEFAULT_TIMEOUT_MS = 20_000;

export class Calls {
  readonly shared: Shared;
  readonly settings: CallSettings;

  constructor(shared: Shared, settings: CallSettings) {
    this.shared = shared;
    this.settings = settings;
  }

  limits(method: MethodName, options: CallOptions, waitMs = 0): Limits {
    const terms = methodTerms(this.settings.serviceConfig, method);
    // What a call may take that does not wait. The method's own timeout bounds the whole, with the wait.
    const prompt = methodTerms(this.settings.serviceConfig, 'Lookup');
    const chosen = options.timeoutMs ?? this.settings.timeoutMs;
    const promptMs = chosen ?? prompt.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const wholeMs = Math.min(
      promptMs + waitMs,
      chosen === undefined ? (terms.timeoutMs ?? Infinity) : Infinity,
    );
    const backoff = terms.backoff ?? prompt.backoff ?? DEFAULT_BACKOFF;
    return {
      attemptMs: options.attemptTimeoutMs ?? this.settings.attemptTimeoutMs,
      overallMs: Math.max(0, wholeMs - waitMs),
      waitMs,
      unreachableMs: options.unreachableTimeoutMs ?? promptMs,
      backoff: {
        initialMs: this.settings.initialBackoffMs ?? backoff.initialMs,
        maxMs: this.settings.maxBackoffMs ?? backoff.maxMs,
        multiplier: backoff.multiplier,
      },
      ...(options.signal && { signal: options.signal }),
    };
  }

  /** A call that is answered promptly. */
  prompt<Req, Res>(
    name: MethodName,
    method: Method<Req, Res>,
    message: Req,
    options: CallOptions,
  ): Promise<Answered<Res>> {
    return unary(this.shared, this.shared.lanes.prompt, this.limits(name, options), method, () => message);
  }
}
