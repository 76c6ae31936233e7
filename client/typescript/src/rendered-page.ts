/**
 * What a render answers with, as it is served and remembered.
 *
 * @module
 */

import { createHash } from 'node:crypto';
import { now } from './clock.js';
import { list, optional, pair, record, status, text, textOrBytes } from './given.js';
import type { Lease } from './lease.js';
import type { Page } from './page.js';

/** What a render is given. */
export interface RenderContext {
  /**
   * The request that is answered; of a render in the background, the one that found the page stale. Of a GET or HEAD, as it
   * is for everybody: a GET, without conditions and ranges, and without the credentials, the cookies and the parts of the query
   * that the page does not depend on.
   */
  readonly request: Request;
  /** The right to render, with the token for the sidecar's URL. Absent: the page will not be kept. */
  readonly lease?: Lease | undefined;
}

/** What a render answers with. A status of 500 or more is a failed render. */
export interface RenderedPage {
  readonly html: string | Uint8Array;
  /** The hydration sidecar that belongs to it. */
  readonly sidecar?: string | Uint8Array | undefined;
  /** Default: 200. What caches do not keep by themselves, such as 302 or 403, is not kept. */
  readonly status?: number | undefined;
  /** Default: `text/html; charset=utf-8`. */
  readonly contentType?: string | undefined;
  /**
   * Further response headers. With `set-cookie`, `content-encoding`, a `cache-control` of `no-store` or `private`, or a `vary` by
   * what makes the page no other one, such as `accept-language`, a page is not kept; nor is one whose `location` is its own path
   * in another spelling.
   */
  readonly headers?: readonly (readonly [name: string, value: string])[] | undefined;
  /** Labels to invalidate it by. At most 64, of 1 to 256 bytes. */
  readonly tags?: readonly string[] | undefined;
}

/** Renders a page. */
export type Render = (context: RenderContext) => Promise<RenderedPage> | RenderedPage;

/** A page as it is served. */
export interface Copy {
  readonly bytes: Uint8Array;
  readonly status: number;
  readonly contentType: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly etag: string;
  readonly generation?: bigint | undefined;
  readonly bornAt: number;
}

/** What a copy takes in memory, about. */
export function sizeOf({ bytes, headers }: Copy): number {
  return headers.reduce((sum, [name, value]) => sum + name.length + value.length, bytes.length);
}

/** How the names of headers begin that are for other clients, and for no visitor. */
export const CLIENTS_HEADERS = 'leasehold-';
/** The header that keeps with a page what FaceTheory checks of it before it serves it. */
export const STRICT_CSP_HEADER = `${CLIENTS_HEADERS}strict-csp`;
export const DEFAULT_CONTENT_TYPE = 'text/html; charset=utf-8';
/** Of the connection or of this very response, not of the page. */
const NOT_OF_THE_PAGE = new Set([
  'age',
  'cache-control',
  'connection',
  'content-length',
  'content-type',
  'date',
  'etag',
  'expires',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** @throws LeaseholdError of the kind `configuration` for what is no page. */
export const parseRendered = record<RenderedPage>({
  html: textOrBytes,
  sidecar: optional(textOrBytes),
  status: optional(status),
  contentType: optional(text),
  headers: optional(list(pair(text, text))),
  tags: optional(list(text)),
});

/** @throws TypeError for headers that no response can carry. */
export function copyOf(page: RenderedPage): Copy {
  const bytes = typeof page.html === 'string' ? Buffer.from(page.html) : page.html;
  const { status = 200, contentType = DEFAULT_CONTENT_TYPE } = page;
  const headers = headersOf(page);
  // Whoever was served it from then on would hear of it, were it kept.
  new Headers([
    ['content-type', contentType],
    ...headers.map(([name, value]): [string, string] => [name, value]),
  ]);
  return { bytes, status, contentType, headers, etag: etagOf(bytes), bornAt: now() };
}

/** A page that the coordinator keeps, whoever's worker it is from: what no response can carry is left out. */
export function keptCopyOf(page: Page, bytes: Uint8Array): Copy {
  const { metadata, generation, ageMs } = page;
  const { status = 200, contentType = DEFAULT_CONTENT_TYPE, etag = etagOf(bytes) } = metadata;
  const isOfThePage = (name: string) => !NOT_OF_THE_PAGE.has(name) && !name.startsWith(CLIENTS_HEADERS);
  return {
    bytes,
    status,
    contentType: isCarried('content-type', contentType) ? contentType : DEFAULT_CONTENT_TYPE,
    headers: (metadata.headers ?? []).filter(([name, value]) => isOfThePage(name) && isCarried(name, value)),
    etag: isCarried('etag', etag) ? etag : etagOf(bytes),
    generation,
    bornAt: now() - ageMs,
  };
}

/** Whether a response can carry a header: there is text that it cannot. */
function isCarried(name: string, value: string): boolean {
  try {
    return new Headers([[name, value]]).has(name);
  } catch {
    return false;
  }
}

export function headersOf(page: RenderedPage): readonly (readonly [name: string, value: string])[] {
  return (page.headers ?? []).filter(([name]) => !NOT_OF_THE_PAGE.has(name.toLowerCase()));
}

/** As the coordinator makes it, so that a page which could not be kept has the entity tag that it would have had. */
export function etagOf(bytes: Uint8Array): string {
  return `"${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}"`;
}
