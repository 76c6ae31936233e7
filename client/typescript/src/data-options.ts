/**
 * How a cache of data is configured, and what it reports.
 *
 * @module
 */

import type { BackingOff, Coordinator, CoordinatorOptions } from './coordinator.js';
import { bound, called, milliseconds, objectAs, optional, type Parse, record, size, text } from './given.js';

/** How a `DataCache` is configured. */
export interface DataCacheOptions {
  /** The coordinator, or how to make a handle on it. Default: the one on this machine. */
  readonly coordinator?: Coordinator | CoordinatorOptions | undefined;
  /**
   * Keeps the data of one application apart from that of others: 1 to 128 letters, digits, dots, dashes and underscores.
   * Default: `default`.
   */
  readonly namespace?: string | undefined;
  /** Whose, 1 to 128 bytes. Default: `default`. */
  readonly tenant?: string | undefined;
  /** The release whose data are kept apart. Invalidations reach every release. Default: none. */
  readonly deployment?: string | undefined;
  /**
   * How many seconds after its ttl a value may still be returned while it is refreshed; past it, callers wait for a
   * fetch. Default: ten times the ttl, at least a minute.
   */
  readonly staleBoundSeconds?: number | ((ttlSeconds: number) => number) | undefined;
  /**
   * How long to wait for a fetch of another caller, in milliseconds, before fetching without keeping. The coordinator
   * allows a minute. Default: 30 s.
   */
  readonly waitMs?: number | undefined;
  /**
   * How long the coordinator may take to answer, in milliseconds, before its answer is done without; where it waits for
   * another's fetch, on top of that. A commit that takes longer goes on in the background, four times as long and as the value is on
   * its way. Default: 1500.
   */
  readonly coordinatorTimeoutMs?: number | undefined;
  /**
   * How long a lease lasts without renewal, in milliseconds: a fetcher that dies delays others by no more. Default: that
   * of the coordinator, 10 s.
   */
  readonly leaseTtlMs?: number | undefined;
  /**
   * How many bytes of values to keep in this process, for when the coordinator cannot be reached, with half a KiB for each value
   * on top. Default: 16 MiB.
   */
  readonly localBytes?: number | undefined;
  /** For how long after it was last known to be current such a value is returned, in milliseconds. Default: an hour. */
  readonly localMaxAgeMs?: number | undefined;
  /**
   * For how long it is remembered that a value is none that can be kept, in milliseconds: of at most 4096 keys. Meanwhile it is
   * fetched without the lease, once at a time in this process; 0: in the whole fleet. Default: 10 s.
   */
  readonly rememberUncachedMs?: number | undefined;
  /** Hears of what no caller sees. Default: a line on `console.warn`. What it throws is dropped. */
  readonly onReport?: ((report: DataReport) => void) | undefined;
  /**
   * What operators are told of a fetch that failed, 512 bytes at most; must hold no secrets. Default: the error's message.
   */
  readonly failureReason?: ((error: unknown) => string) | undefined;
}

const parseBound: Parse<NonNullable<DataCacheOptions['staleBoundSeconds']>> = (value, field) =>
  typeof value === 'function' ? called<(ttlSeconds: number) => number>()(value, field) : bound(value, field);

/** @throws LeaseholdError of the kind `configuration` for what are no options. */
export const parseDataCacheOptions = record<DataCacheOptions>({
  coordinator: optional(objectAs<Coordinator | CoordinatorOptions>()),
  namespace: optional(text),
  tenant: optional(text),
  deployment: optional(text),
  staleBoundSeconds: optional(parseBound),
  waitMs: optional(milliseconds),
  coordinatorTimeoutMs: optional(milliseconds),
  leaseTtlMs: optional(milliseconds),
  localBytes: optional(size),
  localMaxAgeMs: optional(milliseconds),
  rememberUncachedMs: optional(milliseconds),
  onReport: optional(called<(report: DataReport) => void>()),
  failureReason: optional(called<(error: unknown) => string>()),
});

/**
 * What no caller sees:
 *
 * - `refreshFailed`: a fetch in the background failed; callers got the copy there was;
 * - `fetchFailed`: a fetch failed, and the copy there was has been returned in its place;
 * - `notKept`: a value was fetched and returned, but could not be kept;
 * - `unreachable`: the coordinator gave no answer, and was done without.
 */
export type DataReport =
  | {
      readonly type: 'refreshFailed' | 'fetchFailed' | 'notKept';
      readonly key: string;
      readonly error: unknown;
    }
  | { readonly type: 'unreachable'; readonly error: unknown };

/** A fetch failed a moment ago, in this process or another, and nobody fetches again before a pause is over. */
export class BackingOffError extends Error {
  override readonly name = 'BackingOffError';
  /** Try again after so many milliseconds. */
  readonly retryAfterMs: number;
  /** Failures in a row. */
  readonly failures: number;

  /** @internal */
  constructor({ remainingMs, failures, reason }: BackingOff) {
    super(`the last fetch failed (${reason}); nobody fetches for another ${Math.ceil(remainingMs)} ms`);
    this.retryAfterMs = remainingMs;
    this.failures = failures;
  }
}

/** The report of those who want none of their own. */
export function warn(report: DataReport): void {
  const { type, error } = report;
  const what = {
    refreshFailed: 'a refresh in the background failed',
    fetchFailed: 'a fetch failed; the previous value is returned',
    notKept: 'a value was fetched, but not kept',
    unreachable: 'the coordinator gave no answer',
  }[type];
  const key = 'key' in report ? ` key=${JSON.stringify(report.key)}` : '';
  console.warn(`leasehold: ${what}:${key} error=${error instanceof Error ? error.message : String(error)}`);
}
