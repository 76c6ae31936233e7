/**
 * What of a request makes its page another one, and what of it whoever renders for everybody gets to see.
 *
 * @module
 */

import { createHash } from 'node:crypto';
import type { PageRequest } from './entry.js';
import { queryOf } from './http.js';

/** A request as it is named at the coordinator, with all its headers. */
export type VisitedPage = PageRequest & {
  readonly headers: readonly (readonly [name: string, values: readonly string[]])[];
};

/** What tells visitors apart, beside cookies. */
const CREDENTIALS = ['authorization', 'proxy-authorization', 'x-api-key', 'x-amz-security-token'];
/** What marks a tenant's boundary, whatever else a coordinator is told to take for that. */
const TENANT_HEADERS = ['x-tenant-id', 'x-facetheory-tenant'];
/** What a visitor has already, wants a part of, or can decode: of no concern to others. */
const OF_ONE_VISITOR = [
  'accept-encoding',
  'content-length',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'range',
  'transfer-encoding',
];

/**
 * What a page is remembered by in this process. Whatever may make it another visitor's page is in it: too much costs a copy,
 * too little shows somebody another's page.
 */
export function nameOf(page: VisitedPage): string {
  const { route, params, query, headers, cookies } = page;
  const parts = [
    route,
    Object.entries(params ?? {}),
    Array.from(query ?? []),
    headers.filter(([name]) => isCountedCredential(page, name) || TENANT_HEADERS.includes(name)),
    Array.from(cookies ?? []).filter(([name]) => isCountedCookie(page, name)),
  ];
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64');
}

/** Whether a page is one visitor's: no shared cache may keep it, for that knows its URL only. */
export function isPersonal(page: VisitedPage): boolean {
  const hasCredentials = page.headers.some(
    ([name, values]) => isCountedCredential(page, name) && values.some(isFilled),
  );
  return hasCredentials || Array.from(page.cookies ?? []).some(([name]) => isCountedCookie(page, name));
}

/** Whether a request was meant for a tenant that nobody has declared. */
export function crossesTenants(page: VisitedPage, tenant?: string): boolean {
  return !isDeclared(tenant) && tenantHeadersOf(page).length > 0;
}

/** The headers by which a request names its tenant, and by which a shared cache has to tell pages apart that have one URL. */
export function tenantHeadersOf({ headers }: VisitedPage): readonly string[] {
  const isFilledIn = (name: string) =>
    headers.some(([each, values]) => each === name && values.some(isFilled));
  return TENANT_HEADERS.filter(isFilledIn);
}

/** Whether what a response varies by is all in the name of its page, or not shown to who renders it. */
export function variesByPage(vary: string): boolean {
  const inPage = [...CREDENTIALS, ...TENANT_HEADERS, ...OF_ONE_VISITOR, 'cookie', ''];
  return vary.split(',').every((name) => inPage.includes(name.trim().toLowerCase()));
}

/** The request as it is rendered for all whom its page is the same for. */
export function asForEverybody(request: Request, page: VisitedPage): Request {
  const headers = new Headers(request.headers);
  const isHidden = (name: string) => CREDENTIALS.includes(name) && !isCountedCredential(page, name);
  for (const name of [...OF_ONE_VISITOR, ...CREDENTIALS.filter(isHidden)]) {
    headers.delete(name);
  }
  const counted = (headers.get('cookie') ?? '').split(';').filter((pair) => {
    const [name = ''] = pair.split('=');
    // One without a name makes a page no other one, whichever cookies count.
    return isFilled(name) && isCountedCookie(page, name);
  });
  headers.delete('cookie');
  if (counted.length > 0) {
    headers.set('cookie', counted.map((pair) => pair.trim()).join('; '));
  }
  const asked = new URL(request.url);
  const query = Array.from(page.query ?? [], ([name, values]) => [name, [...values]] as const);
  if (JSON.stringify(query) === JSON.stringify(queryOf(asked.searchParams))) {
    return new Request(request, { method: 'GET', headers });
  }
  const pairs = query.flatMap(([name, values]) => values.map((value): [string, string] => [name, value]));
  asked.search = new URLSearchParams(pairs).toString();
  return new Request(asked, { method: 'GET', headers, signal: request.signal });
}

function isCountedCredential({ ignoreCredentials }: VisitedPage, name: string): boolean {
  return !ignoreCredentials && CREDENTIALS.includes(name);
}

/** As the coordinator compares names: without the white space around them. */
function isCountedCookie({ cookieVariance = 'all' }: VisitedPage, name: string): boolean {
  return typeof cookieVariance === 'string'
    ? cookieVariance === 'all'
    : cookieVariance.some((counted) => counted.trim() === name.trim());
}

function isDeclared(tenant: string | undefined): boolean {
  return tenant !== undefined && isFilled(tenant);
}

function isFilled(text: string): boolean {
  return text.trim() !== '';
}
