/**
 * What FaceTheory knows of a page, and how it is told that a page is fresh or stale although it judges by its own clock.
 *
 * @module
 */

import type { CurrentPage, PageMetadata, Regeneration } from './page.js';
import { DEFAULT_CONTENT_TYPE, STRICT_CSP_HEADER } from './rendered-page.js';

/** What a document must not hold: `false` for what its policy forbids. */
export interface FaceStrictCspPolicy {
  inlineScripts?: false | undefined;
  inlineStyles?: false | undefined;
}

/** What FaceTheory knows of a page. */
export interface FaceMetaRecord {
  cacheKey: string;
  /** The name of its HTML. `null`: there is no page. */
  htmlPointer: string | null;
  /**
   * When its render began, in milliseconds by the worker's clock. Of a page that is not fresh, a moment long ago, later for newer
   * pages: FaceTheory then calls it stale whatever the worker's clock says, and a visitor who waits sees that a newer one came.
   */
  generatedAt: number;
  revalidateSeconds: number;
  status: number;
  contentType: string;
  contentSecurityPolicy?: string | null;
  strictCspPolicy?: FaceStrictCspPolicy | null;
  etag: string | null;
  /** Who renders it now. */
  leaseOwner: string | null;
  /** Always `null`: it is a secret of its holder, who is given it beside the record. */
  leaseToken: string | null;
  /** In milliseconds by the worker's clock. Zero: nobody holds a lease, and none is withheld. */
  leaseExpiresAt: number;
}

/** The longest that a page can be fresh: ten years. */
const LONGEST_REVALIDATE_MS = 10 * 365 * 24 * 3600 * 1000;
/** So far back that no clock calls fresh what is stale, not even one that begins at zero. */
const LONG_AGO = -1e15;
/** FaceTheory's own, for a page that says nothing. */
const DEFAULT_REVALIDATE_SECONDS = 60;
const CSP_HEADER = 'content-security-policy';
const LONGEST_ETAG_BYTES = 256;

/** A page that is there. */
export function recordOf(cacheKey: string, current: CurrentPage, now: number): FaceMetaRecord {
  const { page } = current;
  const { metadata } = page;
  const revalidateMs = metadata.revalidateMs ?? LONGEST_REVALIDATE_MS;
  const header = (name: string) => metadata.headers?.find(([other]) => other === name)?.[1] ?? null;
  return {
    ...emptyRecord(cacheKey, revalidateMs / 1000),
    htmlPointer: page.htmlName ?? nameOfUnnamed(cacheKey, page.generation),
    generatedAt:
      current.freshness === 'fresh'
        ? bornAt(page.generatedAt?.getTime(), revalidateMs, now)
        : LONG_AGO + Number(page.generation),
    status: metadata.status ?? 200,
    contentType: metadata.contentType ?? DEFAULT_CONTENT_TYPE,
    contentSecurityPolicy: header(CSP_HEADER),
    strictCspPolicy: parseStrictCsp(header(STRICT_CSP_HEADER)),
    etag: metadata.etag ?? null,
  };
}

/** A key without a page. */
export function emptyRecord(
  cacheKey: string,
  revalidateSeconds = DEFAULT_REVALIDATE_SECONDS,
): FaceMetaRecord {
  return {
    cacheKey,
    htmlPointer: null,
    generatedAt: LONG_AGO,
    revalidateSeconds,
    status: 200,
    contentType: DEFAULT_CONTENT_TYPE,
    contentSecurityPolicy: null,
    strictCspPolicy: null,
    etag: null,
    leaseOwner: null,
    leaseToken: null,
    leaseExpiresAt: 0,
  };
}

/** The same, while somebody renders. */
export function underLease(
  record: FaceMetaRecord,
  regeneration: Pick<Regeneration, 'owner' | 'remainingMs'> | undefined,
  now: number,
): FaceMetaRecord {
  return regeneration
    ? { ...record, leaseOwner: regeneration.owner, leaseExpiresAt: now + regeneration.remainingMs }
    : record;
}

/** What a commit says of its page, as the coordinator keeps it. */
export function metadataOf(page: {
  readonly revalidateSeconds: number;
  readonly status: number;
  readonly contentType: string;
  readonly contentSecurityPolicy?: string | null | undefined;
  readonly strictCspPolicy?: FaceStrictCspPolicy | null | undefined;
  readonly etag?: string | null | undefined;
}): PageMetadata {
  const strictCsp = shownStrictCsp(page.strictCspPolicy);
  const headers: [name: string, value: string][] = [];
  if (page.contentSecurityPolicy) {
    headers.push([CSP_HEADER, page.contentSecurityPolicy]);
  }
  if (strictCsp) {
    headers.push([STRICT_CSP_HEADER, strictCsp]);
  }
  return {
    status: page.status,
    contentType: page.contentType,
    headers,
    // What is none is not kept with the page: the coordinator makes one, and the page is none the worse.
    etag: page.etag && isEntityTag(page.etag) ? page.etag : undefined,
    revalidateMs: Math.min(Math.max(0, page.revalidateSeconds * 1000), LONGEST_REVALIDATE_MS),
  };
}

/** Where no worker named the HTML, such as one that runs no FaceTheory: found by its page. No name of a worker ends so. */
const UNNAMED = '#page';

function nameOfUnnamed(cacheKey: string, generation: bigint): string {
  return `${generation}:${cacheKey}${UNNAMED}`;
}

/** The page that such a name stands for. */
export function parseUnnamed(name: string): { cacheKey: string; generation: bigint } | undefined {
  const [, generation, cacheKey] = /^(\d+):(.+)#page$/s.exec(name) ?? [];
  return generation && cacheKey ? { cacheKey, generation: BigInt(generation) } : undefined;
}

/** As the coordinator says, where FaceTheory then calls it fresh; else now. */
function bornAt(generatedAt: number | undefined, revalidateMs: number, now: number): number {
  return generatedAt !== undefined && now < generatedAt + revalidateMs ? generatedAt : now;
}

function shownStrictCsp(policy: FaceStrictCspPolicy | null | undefined): string {
  const forbidden = [];
  if (policy?.inlineScripts === false) {
    forbidden.push('scripts');
  }
  if (policy?.inlineStyles === false) {
    forbidden.push('styles');
  }
  return forbidden.join(' ');
}

function parseStrictCsp(header: string | null): FaceStrictCspPolicy | null {
  if (header === null) {
    return null;
  }
  const forbidden = header.split(' ');
  return {
    ...(forbidden.includes('scripts') && { inlineScripts: false as const }),
    ...(forbidden.includes('styles') && { inlineStyles: false as const }),
  };
}

/** RFC 9110, section 8.8.3. */
function isEntityTag(text: string): boolean {
  return Buffer.byteLength(text) <= LONGEST_ETAG_BYTES && /^(W\/)?"[\x21\x23-\x7e]*"$/.test(text);
}
