/**
 * What can go wrong with a call, and what that means for its effect.
 *
 * @module
 */

import { type ServiceError, status as StatusCode } from '@grpc/grpc-js';
import type { Duration } from './generated/google/protobuf/duration.js';
import { BadRequest, ErrorInfo, RetryInfo } from './generated/google/rpc/error_details.js';
import { Status } from './generated/google/rpc/status.js';

const ERROR_DOMAIN = 'leasehold';

/** The reasons of the contract, by their names on the wire without the prefix `ERROR_REASON_`. */
export const REASONS = [
  'INVALID_FIELD',
  'TENANT_BOUNDARY',
  'OBJECT_MISSING',
  'OBJECT_CONFLICT',
  'CONSISTENCY_TOKEN_UNKNOWN',
  'SIDECAR_NOT_FOUND',
  'PAGE_NOT_FOUND',
  'LIMIT_REACHED',
  'STORE_UNAVAILABLE',
  'OUTCOME_UNKNOWN',
  'DRAINING',
  'DEADLINE',
  'STORED_DATA_CORRUPT',
  'BODY_URL_UNSUPPORTED',
  'INTERNAL',
  'OBJECT_NOT_FOUND',
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
] as const;

/**
 * Why a call was refused.
 *
 * `UNSTATED`: no reason was given; the refusal is not the coordinator's own, but its framework's or a proxy's.
 * `UNKNOWN`: one that this version does not know, or of another domain; {@link Refusal.statedReason} has it.
 */
export type Reason = (typeof REASONS)[number] | 'UNSTATED' | 'UNKNOWN';

/** A call that was answered with an error. */
export interface Refusal {
  /** The gRPC code by its name, such as `UNAVAILABLE`. Branch on `reason`, which is finer. */
  readonly code: string;
  /** Why. */
  readonly reason: Reason;
  /** The reason as it was stated. Empty where none was; with its domain where that is not the coordinator's. */
  readonly statedReason: string;
  /** For people. */
  readonly message: string;
  /** More about the reason, such as the `limit` or the `object`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What is wrong with which field of the request, by its dotted path in the wire's request. */
  readonly fields: readonly { readonly field: string; readonly description: string }[];
  /** When it is worth trying again, in milliseconds. */
  readonly retryAfterMs?: number;
}

/**
 * How a call came to have no outcome:
 *
 * - `refused`: the coordinator, or something on the way to it, refused; see {@link LeaseholdError.refusal}.
 * - `notSent`: no coordinator was reached, or there was no token to present (the reason is then `UNAUTHENTICATED`); the call was
 *   surely not sent.
 * - `broken`: the connection broke after the call may have been sent.
 * - `timedOut`: no answer in time.
 * - `deadlineExceeded`: the overall timeout passed, whatever was tried.
 * - `inDoubt`: the last attempt was surely not applied, but an earlier one may have been.
 * - `protocol`: an answer that breaks the contract.
 * - `bodyTooLarge`: a body is larger than the caller accepts.
 * - `configuration`: what the client was given is of no use, such as a malformed endpoint or a misspelt field of a scope. Nothing
 *   was sent; {@link LeaseholdError.field} says where it is.
 */
export type ErrorKind =
  | 'refused'
  | 'notSent'
  | 'broken'
  | 'timedOut'
  | 'deadlineExceeded'
  | 'inDoubt'
  | 'protocol'
  | 'bodyTooLarge'
  | 'configuration';

// Of the package, not of one of its two builds: what the CommonJS build throws is to be known by the ES module's class.
const BRAND = Symbol.for('leasehold-client.LeaseholdError');

/**
 * A call that got no outcome.
 *
 * The two questions that matter have answers: {@link isRetryable} and {@link mayHaveBeenApplied}. Calls retry by
 * themselves; an error that says it is retryable has outlasted that.
 */
export class LeaseholdError extends Error {
  override readonly name = 'LeaseholdError';

  /** How it came about. */
  readonly kind: ErrorKind;

  /**
   * What the coordinator refused last, also when the call ended for another reason. That there was no token to present is told in
   * the same way, with `source: 'client'` in its metadata.
   */
  readonly refusal?: Refusal;

  /** Where in what was given the fault is, such as `scopes[0].tag`. Of the kind `configuration`, where it is one field's. */
  readonly field?: string;

  /** Whether the same call, with the same request id, may succeed later. */
  readonly isRetryable: boolean;

  /**
   * Whether the call, if it is one that changes something, may have done so. To learn the truth, repeat it with the same
   * request id. Without meaning for calls that change nothing.
   */
  readonly mayHaveBeenApplied: boolean;

  private constructor(
    kind: ErrorKind,
    message: string,
    judged: {
      isRetryable: boolean;
      mayHaveBeenApplied: boolean;
      refusal?: Refusal;
      field?: string;
      cause?: unknown;
    },
  ) {
    super(message, judged.cause === undefined ? undefined : { cause: judged.cause });
    Object.defineProperty(this, BRAND, { value: true });
    this.kind = kind;
    if (judged.refusal) {
      this.refusal = judged.refusal;
    }
    if (judged.field !== undefined) {
      this.field = judged.field;
    }
    this.isRetryable = judged.isRetryable;
    this.mayHaveBeenApplied = judged.mayHaveBeenApplied;
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && BRAND in value;
  }

  /** The reason of {@link refusal}. */
  get reason(): Reason | undefined {
    return this.refusal?.reason;
  }

  /**
   * No coordinator could be asked, or none was able to answer: what a worker falls back from. In contrast to a
   * coordinator that understood the call and refused it.
   */
  get isOutage(): boolean {
    return this.isRetryable || this.reason === 'INTERNAL' || this.kind === 'notSent';
  }

  /** @internal */
  static refused(refusal: Refusal): LeaseholdError {
    return new LeaseholdError('refused', `refused (${shownReason(refusal)}): ${refusal.message}`, {
      isRetryable: isRetryable(refusal),
      mayHaveBeenApplied: mayHaveBeenApplied(refusal),
      refusal,
    });
  }

  /**
   * @param endpoint - who was asked, for people.
   * @internal
   */
  static notSent(cause?: Error, endpoint?: string): LeaseholdError {
    const judged = { isRetryable: true, mayHaveBeenApplied: false, cause };
    const at = endpoint === undefined ? '' : ` at ${endpoint}`;
    return new LeaseholdError('notSent', `no coordinator was reached${at}${because(cause?.message)}`, judged);
  }

  /**
   * There is no token to present: as from the coordinator, so that whoever branches on reasons needs to know one only.
   *
   * @internal
   */
  static noToken(why: string): LeaseholdError {
    const message = `there is no token to present: ${why}`;
    const refusal: Refusal = {
      code: 'UNAUTHENTICATED',
      reason: 'UNAUTHENTICATED',
      statedReason: 'UNAUTHENTICATED',
      message,
      metadata: { source: 'client' },
      fields: [],
    };
    return new LeaseholdError('notSent', `not sent (UNAUTHENTICATED): ${message}`, {
      isRetryable: false,
      mayHaveBeenApplied: false,
      refusal,
    });
  }

  /** @internal */
  static broken(cause: Error, endpoint?: string): LeaseholdError {
    const judged = { isRetryable: true, mayHaveBeenApplied: true, cause };
    const to = endpoint === undefined ? '' : ` to ${endpoint}`;
    const why = 'details' in cause ? String(cause.details) : cause.message;
    return new LeaseholdError('broken', `the connection${to} broke during the call${because(why)}`, judged);
  }

  /** @internal */
  static timedOut(afterMs: number, endpoint: string): LeaseholdError {
    const judged = { isRetryable: true, mayHaveBeenApplied: true };
    return new LeaseholdError(
      'timedOut',
      `no answer from ${endpoint} within ${Math.round(afterMs)} ms`,
      judged,
    );
  }

  /** @internal */
  static deadlineExceeded(
    limitMs: number,
    attempts: number,
    mayHaveBeenApplied: boolean,
    last?: LeaseholdError,
  ): LeaseholdError {
    const message = `not done within ${Math.round(limitMs)} ms and ${attempts} attempts${atLast(last)}`;
    const judged = { isRetryable: true, mayHaveBeenApplied, cause: last, ...refusalOf(last) };
    return new LeaseholdError('deadlineExceeded', message, judged);
  }

  /** @internal */
  static inDoubt(last: LeaseholdError): LeaseholdError {
    const judged = { isRetryable: true, mayHaveBeenApplied: true, cause: last, ...refusalOf(last) };
    return new LeaseholdError(
      'inDoubt',
      `gave up; an earlier attempt may have been applied${atLast(last)}`,
      judged,
    );
  }

  /** @internal */
  static protocol(what: string, cause?: unknown): LeaseholdError {
    const judged = { isRetryable: false, mayHaveBeenApplied: true, cause };
    return new LeaseholdError('protocol', `the answer breaks the contract: ${what}`, judged);
  }

  /** @internal */
  static bodyTooLarge(limitBytes: number): LeaseholdError {
    const judged = { isRetryable: false, mayHaveBeenApplied: false };
    return new LeaseholdError('bodyTooLarge', `the body is larger than ${limitBytes} bytes`, judged);
  }

  /** @internal */
  static configuration(message: string): LeaseholdError {
    const judged = { isRetryable: false, mayHaveBeenApplied: false };
    return new LeaseholdError('configuration', `configuration: ${message}`, judged);
  }

  /**
   * What was given in a field is not what may be there.
   *
   * @internal
   */
  static input(field: string, allowed: string): LeaseholdError {
    const judged = { isRetryable: false, mayHaveBeenApplied: false, field };
    return new LeaseholdError('configuration', `${field}: ${allowed}`, judged);
  }

  /**
   * Judges what the channel reports of a call that may have been sent.
   *
   * @internal
   */
  static fromStatus(error: ServiceError, endpoint?: string): LeaseholdError {
    // A status that came over the wire has headers with it. One that the channel made up itself has none, and says with
    // the same codes that something broke.
    const isLocal = Object.keys(error.metadata?.getMap() ?? {}).length === 0;
    return isLocal && BROKEN.has(error.code)
      ? LeaseholdError.broken(error, endpoint)
      : LeaseholdError.refused(parse(error));
  }

  /**
   * With what is known of the attempts before this one.
   *
   * @internal
   */
  afterAttempts(inDoubt: boolean): LeaseholdError {
    // A refusal for good is the coordinator's truthful answer about all attempts; but not one of whoever calls, for tokens and
    // rights end between two attempts.
    const isTruth =
      !this.isRetryable && this.reason !== 'PERMISSION_DENIED' && this.refusal?.code !== 'UNAUTHENTICATED';
    return inDoubt && !isTruth && !this.mayHaveBeenApplied ? LeaseholdError.inDoubt(this) : this;
  }

  /**
   * Whether the call was refused because of its token or certificate, and another one may help.
   *
   * @internal
   */
  get isUnauthenticated(): boolean {
    return this.kind === 'refused' && this.refusal?.code === 'UNAUTHENTICATED';
  }

  /**
   * Whether the call was refused for what names its entry, such as a path that is too long; not for whose it is.
   *
   * @internal
   */
  get isUnnameable(): boolean {
    const fields = this.reason === 'INVALID_FIELD' ? (this.refusal?.fields ?? []) : [];
    return (
      fields.length > 0 && fields.every(({ field }) => /^entry\.(?:key|path|request)(?:$|[.[])/.test(field))
    );
  }

  /**
   * Whether another connection, maybe to another coordinator, is the better place to try again.
   *
   * @internal
   */
  get suspectsConnection(): boolean {
    switch (this.kind) {
      case 'broken':
      case 'timedOut':
        return true;
      case 'refused':
        return (
          this.reason === 'DRAINING' ||
          (this.reason === 'UNSTATED' &&
            ['UNAVAILABLE', 'UNKNOWN', 'CANCELLED'].includes(this.refusal?.code ?? ''))
        );
      default:
        return false;
    }
  }
}

const BROKEN = new Set([
  StatusCode.UNAVAILABLE,
  StatusCode.CANCELLED,
  StatusCode.UNKNOWN,
  StatusCode.INTERNAL,
  StatusCode.DEADLINE_EXCEEDED,
]);

function because(why: string | undefined): string {
  return why ? `: ${why}` : '';
}

function atLast(last: LeaseholdError | undefined): string {
  return last ? `; at last: ${last.message}` : '';
}

function refusalOf(error?: LeaseholdError): { refusal?: Refusal } {
  return error?.refusal ? { refusal: error.refusal } : {};
}

function shownReason(refusal: Refusal): string {
  return refusal.reason === 'UNKNOWN' ? refusal.statedReason : refusal.reason;
}

function isRetryable(refusal: Refusal): boolean {
  switch (refusal.reason) {
    case 'LIMIT_REACHED':
    case 'STORE_UNAVAILABLE':
    case 'OUTCOME_UNKNOWN':
    case 'DRAINING':
    case 'DEADLINE':
      return true;
    case 'INVALID_FIELD':
    case 'TENANT_BOUNDARY':
    case 'OBJECT_MISSING':
    case 'OBJECT_CONFLICT':
    case 'CONSISTENCY_TOKEN_UNKNOWN':
    case 'SIDECAR_NOT_FOUND':
    case 'OBJECT_NOT_FOUND':
    case 'UNAUTHENTICATED':
    case 'PERMISSION_DENIED':
    case 'PAGE_NOT_FOUND':
    case 'STORED_DATA_CORRUPT':
    case 'BODY_URL_UNSUPPORTED':
    case 'INTERNAL':
      return false;
    case 'UNSTATED':
    case 'UNKNOWN':
      return [
        'UNAVAILABLE',
        'DEADLINE_EXCEEDED',
        'CANCELLED',
        'ABORTED',
        'RESOURCE_EXHAUSTED',
        'UNKNOWN',
      ].includes(refusal.code);
  }
}

function mayHaveBeenApplied(refusal: Refusal): boolean {
  switch (refusal.reason) {
    case 'OUTCOME_UNKNOWN':
    case 'DEADLINE':
    case 'INTERNAL':
      return true;
    case 'INVALID_FIELD':
    case 'TENANT_BOUNDARY':
    case 'OBJECT_MISSING':
    case 'OBJECT_CONFLICT':
    case 'CONSISTENCY_TOKEN_UNKNOWN':
    case 'SIDECAR_NOT_FOUND':
    case 'OBJECT_NOT_FOUND':
    case 'UNAUTHENTICATED':
    case 'PERMISSION_DENIED':
    case 'PAGE_NOT_FOUND':
    case 'LIMIT_REACHED':
    case 'STORE_UNAVAILABLE':
    case 'DRAINING':
    case 'STORED_DATA_CORRUPT':
    case 'BODY_URL_UNSUPPORTED':
      return false;
    case 'UNSTATED':
    case 'UNKNOWN':
      return ![
        'INVALID_ARGUMENT',
        'NOT_FOUND',
        'PERMISSION_DENIED',
        'UNAUTHENTICATED',
        'FAILED_PRECONDITION',
        'UNIMPLEMENTED',
      ].includes(refusal.code);
  }
}

function parse(error: ServiceError): Refusal {
  const code = StatusCode[error.code] ?? 'UNKNOWN';
  const refusal = { code, message: error.details, metadata: {}, fields: [] };
  const details = statusDetails(error);
  if (!details) {
    return { ...refusal, reason: 'UNSTATED', statedReason: '' };
  }
  const { info, badRequest, retryDelay } = details;
  const isOurs = info?.domain === ERROR_DOMAIN;
  const known = REASONS.find((reason) => isOurs && reason === info.reason);
  return {
    ...refusal,
    reason: known ?? (info ? 'UNKNOWN' : 'UNSTATED'),
    statedReason: info ? (isOurs ? info.reason : `${info.domain}/${info.reason}`) : '',
    metadata: { ...info?.metadata },
    fields: (badRequest?.fieldViolations ?? []).map(({ field, description }) => ({ field, description })),
    ...(retryDelay && { retryAfterMs: Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6 }),
  };
}

/** What the trailer `grpc-status-details-bin` says. A trailer that does not decode is as good as none. */
function statusDetails(
  error: ServiceError,
): { info?: ErrorInfo; badRequest?: BadRequest; retryDelay?: Duration } | undefined {
  const trailer = error.metadata?.get('grpc-status-details-bin')[0];
  if (!(trailer instanceof Uint8Array)) {
    return undefined;
  }
  try {
    let info: ErrorInfo | undefined;
    let badRequest: BadRequest | undefined;
    let retryDelay: Duration | undefined;
    for (const { typeUrl, value } of Status.decode(trailer).details) {
      switch (typeUrl.slice(typeUrl.lastIndexOf('/') + 1)) {
        case 'google.rpc.ErrorInfo':
          info = ErrorInfo.decode(value);
          break;
        case 'google.rpc.BadRequest':
          badRequest = BadRequest.decode(value);
          break;
        case 'google.rpc.RetryInfo':
          retryDelay = RetryInfo.decode(value).retryDelay;
          break;
      }
    }
    return { ...(info && { info }), ...(badRequest && { badRequest }), ...(retryDelay && { retryDelay }) };
  } catch {
    return undefined;
  }
}
