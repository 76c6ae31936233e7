/**
 * How pages are kept up to date, and what that means for one that is there.
 *
 * @module
 */

import { now } from './clock.js';
import { type PageRequest, pageFields } from './entry.js';
import { milliseconds, optional, record, seconds, text, word } from './given.js';
import type { PageState } from './http.js';
import type { Copy } from './rendered-page.js';

/** How a page is kept up to date. */
export interface PagePolicy {
  /**
   * `blocking`: who finds a page stale waits for the new one. `stale-while-revalidate`: within the window it gets the stale
   * one, and one render runs in the background.
   */
  readonly mode: 'blocking' | 'stale-while-revalidate';
  /** How many seconds a page is fresh. Default: until invalidated. */
  readonly revalidateSeconds?: number | undefined;
  /** The window, in seconds after `revalidateSeconds`. Default: 60. */
  readonly staleWhileRevalidateSeconds?: number | undefined;
  /** For how many seconds after `revalidateSeconds` a failed render is answered with it. Default: `revalidateSeconds`. */
  readonly staleIfErrorSeconds?: number | undefined;
  /** When another renders: `wait` for its page, or `serve-stale` where there is a page that may be served. Default: `wait`. */
  readonly onContention?: 'wait' | 'serve-stale' | undefined;
  /** How long to wait at most, in milliseconds. The coordinator allows a minute. Default: 30 s. */
  readonly maxWaitMs?: number | undefined;
  /** When the render fails: `serve-stale`, where there is a page within the bound, or `error`. Default: `serve-stale`. */
  readonly onFailure?: 'serve-stale' | 'error' | undefined;
  /**
   * How long a lease lasts without renewal, in milliseconds; it is renewed until the page is rendered and committed. Default: that
   * of the coordinator, 10 s.
   */
  readonly leaseTtlMs?: number | undefined;
  /**
   * The route pattern that matched and its parameters, and on what else the page depends. Default: the path is the route, and
   * query, credentials and cookies make a page another one.
   */
  readonly page?:
    | Partial<Pick<PageRequest, 'route' | 'params' | 'query' | 'ignoreCredentials' | 'cookieVariance'>>
    | undefined;
}

/** @throws LeaseholdError of the kind `configuration` for what is no policy. */
export const parsePolicy = record<PagePolicy>({
  mode: word('blocking', 'stale-while-revalidate'),
  revalidateSeconds: optional(seconds),
  staleWhileRevalidateSeconds: optional(seconds),
  staleIfErrorSeconds: optional(seconds),
  onContention: optional(word('wait', 'serve-stale')),
  maxWaitMs: optional(milliseconds),
  onFailure: optional(word('serve-stale', 'error')),
  leaseTtlMs: optional(milliseconds),
  page: optional(record<NonNullable<PagePolicy['page']>>({ route: optional(text), ...pageFields })),
});

export function cacheControl(policy: PagePolicy, state: PageState, isPersonal: boolean): string {
  if (state === 'bypass') {
    return 'no-store';
  }
  if (isPersonal) {
    // A shared cache knows its URL only, and would show it to everybody.
    return 'private, no-store';
  }
  const { mode, revalidateSeconds } = policy;
  if (mode === 'blocking') {
    const ifError =
      revalidateSeconds === undefined ? '' : ` stale-if-error=${Math.floor(revalidateSeconds)},`;
    return `public, max-age=0, s-maxage=0,${ifError} must-revalidate`;
  }
  // Until invalidated is no time that a cache on the way could keep to; and what is stale is asked for again.
  const isFresh = state === 'miss' || state === 'hit' || state === 'wait-hit';
  return `s-maxage=${isFresh ? Math.floor(revalidateSeconds ?? 0) : 0}, stale-while-revalidate=${Math.floor(staleWindowSeconds(policy))}`;
}

export function staleWindowSeconds(policy: PagePolicy): number {
  return policy.mode === 'blocking' ? -1 : (policy.staleWhileRevalidateSeconds ?? 60);
}

export function staleIfErrorSeconds(policy: PagePolicy): number | undefined {
  return policy.staleIfErrorSeconds ?? policy.revalidateSeconds;
}

/**
 * Whether a page may be served while another renders the next one. Who waits for that by policy has no bound for what comes
 * instead; who is served stale pages has.
 */
export function isWithinBounds(policy: PagePolicy, copy: Copy): boolean {
  return (
    policy.mode === 'blocking' ||
    isWithin(policy, copy, staleWindowSeconds(policy)) ||
    isWithin(policy, copy, staleIfErrorSeconds(policy) ?? Infinity)
  );
}

/** Whether a page is stale for no longer than so many seconds. */
export function isWithin(policy: PagePolicy, copy: Copy, seconds: number): boolean {
  if (seconds < 0) {
    return false;
  }
  return now() - copy.bornAt <= ((policy.revalidateSeconds ?? Infinity) + seconds) * 1000;
}

export function ttlOf(policy: PagePolicy, copy: Copy): number | undefined {
  return policy.revalidateSeconds === undefined
    ? undefined
    : copy.bornAt + policy.revalidateSeconds * 1000 - now();
}
