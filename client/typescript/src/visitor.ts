/**
 * What of a request makes its page another one, and what of it whoever renders for everybody gets to see.
 *
 * @module
 */

import { createHash } from 'node:crypto';
import type { PageRequest } from './entry.js';

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
export function nameOf(page: VisitedPage, tenant?: string): string {
  const { route, params, query, headers, cookies } = page;
  // Without a declared tenant, any of these may be a tenant boundary, which only the coordinator knows.
  const isBoundary = (name: string) => !isDeclared(tenant) && name.startsWith('x-');
  const parts = [
    route,
    Object.entries(params ?? {}),
    Array.from(query ?? []),
    headers.filter(([name]) => isCountedCredential(page, name) || isBoundary(name)),
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
  const marks = ([name, values]: readonly [string, readonly string[]]) =>
    TENANT_HEADERS.includes(name) && values.some(isFilled);
  return !isDeclared(tenant) && page.headers.some(marks);
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
    return pair.trim() !== '' && isCountedCookie(page, name);
  });
  headers.delete('cookie');
  if (counted.length > 0) {
    headers.set('cookie', counted.map((pair) => pair.trim()).join('; '));
  }
  return new Request(request, { method: 'GET', headers });
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
