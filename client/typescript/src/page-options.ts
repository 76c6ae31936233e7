/**
 * How a server of pages is configured, and what it reports.
 *
 * @module
 */

import type { Coordinator, CoordinatorOptions } from './coordinator.js';
import { called, milliseconds, objectAs, optional, record, size, text } from './given.js';

/** How a `PageServer` is configured. */
export interface PageServerOptions {
  /** The coordinator, or how to make a handle on it. Default: the one on this machine. */
  readonly coordinator?: Coordinator | CoordinatorOptions | undefined;
  /** Whose pages, 1 to 128 bytes. Default: `default`, and requests with a tenant boundary header are refused. */
  readonly tenant?: string | undefined;
  /** The release whose pages are kept apart. Default: none. */
  readonly deployment?: string | undefined;
  /** The response header that names the state. Default: `x-isr-state`. */
  readonly stateHeader?: string | undefined;
  /**
   * How long the coordinator may take to answer, in milliseconds, before its answer is done without; where it waits for
   * another's render, on top of that. A commit that takes longer goes on in the background, four times as long and as the page is on
   * its way; who asked for the page is served it as `bypass`. Default: 1500.
   */
  readonly coordinatorTimeoutMs?: number | undefined;
  /**
   * How many bytes of pages to keep in this process, for when the coordinator cannot be reached, with half a KiB for each page on
   * top of what it is made of. Default: 32 MiB.
   */
  readonly localBytes?: number | undefined;
  /** For how long after it was last known to be current such a page is served, in milliseconds. Default: an hour. */
  readonly localMaxAgeMs?: number | undefined;
  /**
   * For how long it is remembered that a page came out as one visitor's only, or that no coordinator keeps it, in milliseconds: of
   * at most 4096 pages. Meanwhile it is rendered without the lease, for all who ask at once; 0: each takes the lease, and all others
   * wait. Default: 10 s.
   */
  readonly rememberUncachedMs?: number | undefined;
  /** Hears of what no visitor sees. Default: a line on `console.warn`. What it throws is dropped. */
  readonly onReport?: ((report: PageReport) => void) | undefined;
  /**
   * What operators are told of a render that failed, 512 bytes at most; must hold no secrets. Default: the error's message.
   */
  readonly failureReason?: ((error: unknown) => string) | undefined;
}

/** @throws LeaseholdError of the kind `configuration` for what are no options. */
export const parsePageServerOptions = record<PageServerOptions>({
  coordinator: optional(objectAs<Coordinator | CoordinatorOptions>()),
  tenant: optional(text),
  deployment: optional(text),
  stateHeader: optional(text),
  coordinatorTimeoutMs: optional(milliseconds),
  localBytes: optional(size),
  localMaxAgeMs: optional(milliseconds),
  rememberUncachedMs: optional(milliseconds),
  onReport: optional(called<(report: PageReport) => void>()),
  failureReason: optional(called<(error: unknown) => string>()),
});

/**
 * What no visitor sees: `renderFailed`, and the previous page was served; `notKept`, a page was rendered and served, but could
 * not be kept; `unreachable`, the coordinator gave no answer, or has no name for what a visitor asked for, and was done without.
 */
export interface PageReport {
  readonly type: 'renderFailed' | 'notKept' | 'unreachable';
  /** The page's route: by default its path. Never the query, credentials or cookies. Absent: it is about no page. */
  readonly route?: string | undefined;
  readonly error: unknown;
}

const SHOWN_ROUTE = 256;

/** The report of those who want none of their own. */
export function warn({ type, route, error }: PageReport): void {
  const what = {
    renderFailed: 'a render failed; the previous page is served',
    notKept: 'a page was rendered, but not kept',
    unreachable: 'the coordinator gave no answer',
  }[type];
  // A path may be as long as a visitor likes.
  const page = route === undefined ? '' : ` route=${JSON.stringify(route.slice(0, SHOWN_ROUTE))}`;
  console.warn(`leasehold: ${what}:${page} error=${error instanceof Error ? error.message : String(error)}`);
}
