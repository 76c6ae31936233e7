/**
 * How an entry is named: by a ready key, or by the request that it answers.
 *
 * @module
 */

import { LeaseholdError } from './error.js';
import {
  type EntryRef as WireEntry,
  type PageRequest as WireRequest,
  CookieVariance as WireVariance,
} from './generated/leasehold/v1/coordinator.js';
import { flag, items, list, only, optional, type Parse, pair, record, text, texts } from './given.js';

/** Names an entry. */
export type EntryRef = EntryScope & (NamedByKey | NamedByRequest);

/** Where an entry belongs. */
export interface EntryScope {
  /**
   * Whose, 1 to 128 bytes. Declaring it also settles what a tenant boundary header on the request would leave open.
   * Default: `default`.
   */
  readonly tenant?: string | undefined;
  /** The release whose pages are kept apart, 1 to 128 bytes. Default: none. */
  readonly deployment?: string | undefined;
  /**
   * The page's URL path, absolute, at most 2048 bytes: what invalidations of a path prefix go by. Default: the route of
   * the request with its parameters filled in, where that is certain.
   */
  readonly path?: string | undefined;
}

/** By a ready key. */
export interface NamedByKey {
  /** 1 to 4096 bytes. */
  readonly key: string;
  readonly request?: undefined;
}

/** By a request: the coordinator derives the key, the same for every language. */
export interface NamedByRequest {
  readonly request: PageRequest;
  readonly key?: undefined;
}

/**
 * A request for a page, as far as its cache key depends on it.
 *
 * Whoever passes on all headers and cookies of a request gets a key that keeps its variants apart, and the check that no
 * tenant boundary header goes unnoticed.
 */
export interface PageRequest {
  /** The route pattern that matched, such as `/blog/{slug}`; at most 2048 bytes. */
  readonly route: string;
  /** Route parameters. At most 64. */
  readonly params?: Readonly<Record<string, string>> | undefined;
  /** The decoded query: each name with its values in their order. At most 256 names. */
  readonly query?: Iterable<readonly [name: string, values: readonly string[]]> | undefined;
  /** Headers with their values. At most 256 names. Only credentials and tenant boundary headers are looked at. */
  readonly headers?: Iterable<readonly [name: string, values: readonly string[]]> | undefined;
  /** Cookies. At most 256. */
  readonly cookies?: Iterable<readonly [name: string, value: string]> | undefined;
  /** The page is the same for everybody, whatever credentials a request carries. Default: it is not. */
  readonly ignoreCredentials?: boolean | undefined;
  /** Which cookies make a page another one: all, none, or those of these names (1 to 256). Default: all. */
  readonly cookieVariance?: 'all' | 'none' | readonly string[] | undefined;
}

const cookieVariance: Parse<NonNullable<PageRequest['cookieVariance']>> = (value, field) => {
  if (value === 'all' || value === 'none') {
    return value;
  }
  if (!Array.isArray(value)) {
    throw LeaseholdError.input(field, 'must be "all", "none", or a list of names');
  }
  return list(text)(value, field);
};

/** What a page depends on, as its policy says it. */
export const pageFields = {
  params: optional(texts),
  query: optional(items(pair(text, list(text)))),
  ignoreCredentials: optional(flag),
  cookieVariance: optional(cookieVariance),
};

const parseRequest = record<PageRequest>({
  route: text,
  ...pageFields,
  headers: optional(items(pair(text, list(text)))),
  cookies: optional(items(pair(text, text))),
});

const parseName = only({
  key: text,
  request: (value, field) => toWireRequest(parseRequest(value, field)),
});

const parseScope = record<EntryScope>(
  { tenant: optional(text), deployment: optional(text), path: optional(text) },
  ['key', 'request'],
);

/**
 * @throws LeaseholdError of the kind `configuration` for what names no entry.
 * @internal
 */
export function toWireEntry(entry: EntryRef): WireEntry {
  const { tenant = '', deployment = '', path = '' } = parseScope(entry, 'entry');
  return { tenant, deployment, path, name: parseName(entry, 'entry') };
}

/**
 * What may be shown of an entry: the tenant, the release, the path, and the key or the route; never headers, cookies or
 * the query.
 *
 * @internal
 */
export function shownEntry({
  tenant,
  deployment,
  path,
  key,
  request,
}: EntryRef): Record<string, string | undefined> {
  return { tenant, deployment, path, ...(request === undefined ? { key } : { route: request.route }) };
}

function toWireRequest(request: PageRequest): WireRequest {
  const { route, params, query, headers, cookies, ignoreCredentials, cookieVariance = 'all' } = request;
  const isAllowlist = typeof cookieVariance !== 'string';
  return {
    route,
    params: Object.entries(params ?? {}).map(([name, value]) => ({ name, value })),
    query: Array.from(query ?? [], ([name, values]) => ({ name, values: [...values] })),
    headers: Array.from(headers ?? [], ([name, values]) => ({ name, values: [...values] })),
    cookies: Array.from(cookies ?? [], ([name, value]) => ({ name, value })),
    ignoreCredentials: ignoreCredentials ?? false,
    cookieVariance: isAllowlist
      ? WireVariance.COOKIE_VARIANCE_ALLOWLIST
      : cookieVariance === 'all'
        ? WireVariance.COOKIE_VARIANCE_ALL
        : WireVariance.COOKIE_VARIANCE_NONE,
    cookieAllowlist: isAllowlist ? [...cookieVariance] : [],
  };
}
