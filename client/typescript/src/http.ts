/**
 * What HTTP is told of a page: who may keep it, where it came from, and whether the client has it already.
 *
 * @module
 */

/** How a response came about. */
export type PageState = 'miss' | 'hit' | 'wait-hit' | 'stale' | 'stale-metadata-error' | 'bypass';

/** How a page was had, for `Cache-Status` (RFC 9211). */
export interface Served {
  readonly state: PageState;
  /** How long it stays fresh in milliseconds; negative: since when it is not. Absent: no such time. */
  readonly ttlMs?: number | undefined;
  /** There was a page, but it was not fresh. */
  readonly wasStale?: boolean | undefined;
  /** Why it was not kept, or is not verified. */
  readonly detail?: string | undefined;
}

/** The value of `Cache-Status`. */
export function cacheStatus({ state, ttlMs, wasStale, detail }: Served): string {
  const forwarded = wasStale ? 'fwd=stale' : 'fwd=miss';
  // A page that is stale has been so for a while, if only for a part of a second.
  const seconds =
    ttlMs === undefined
      ? undefined
      : ttlMs < 0
        ? Math.min(-1, Math.ceil(ttlMs / 1000))
        : Math.floor(ttlMs / 1000);
  const ttl = seconds === undefined ? '' : `; ttl=${seconds}`;
  const why = detail === undefined ? '' : `; detail=${detail}`;
  switch (state) {
    case 'miss':
      return `leasehold; ${forwarded}; stored`;
    case 'wait-hit':
      return `leasehold; ${forwarded}; collapsed`;
    case 'hit':
    case 'stale':
    case 'stale-metadata-error':
      return `leasehold; hit${ttl}${why}`;
    case 'bypass':
      return `leasehold; fwd=bypass${why}`;
  }
}

/** Whether `If-None-Match` names this entity tag: weak comparison, lists, and `*` (RFC 9110, 13.1.2). */
export function isNotModified(ifNoneMatch: string | null, etag: string): boolean {
  if (ifNoneMatch === null) {
    return false;
  }
  if (ifNoneMatch.trim() === '*') {
    return true;
  }
  const opaque = etag.replace(/^W\//, '');
  // By tags, not by commas: an entity tag may hold one.
  return Array.from(ifNoneMatch.matchAll(/(?:W\/)?("[^"]*")/g), ([, tag]) => tag).includes(opaque);
}

/** The cookies of a request, in their order. */
export function cookiesOf(header: string | null): [name: string, value: string][] {
  const pairs = (header ?? '').split(';').map((pair) => pair.trim());
  return pairs
    .filter((pair) => pair !== '')
    .map((pair): [string, string] => {
      const at = pair.indexOf('=');
      return at < 0 ? [pair, ''] : [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
    })
    .filter(([name]) => name !== '');
}

/** The query, each name with its values in their order. */
export function queryOf(params: URLSearchParams): [name: string, values: string[]][] {
  return [...new Set(params.keys())].map((name) => [name, params.getAll(name)]);
}
