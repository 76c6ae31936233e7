/**
 * Pages: what is current, what a renderer says of it, and how fresh it is.
 *
 * @module
 */

import { inspect } from 'node:util';
import {
  BodyDelivery as WireDelivery,
  type FreshPage as WireFresh,
  type PageMetadata as WireMetadata,
  type Page as WirePage,
  type Regeneration as WireRegeneration,
  type StalePage as WireStale,
  StaleReason as WireStaleReason,
} from './generated/leasehold/v1/coordinator.js';
import { list, optional, pair, record, size, milliseconds as span, text, word } from './given.js';
import { SidecarToken } from './id.js';
import { date, milliseconds, nonEmpty, optionalMilliseconds, required, toOptionalDuration } from './wire.js';

/** A page that is current. */
export interface Page {
  /** The generation of the lease that it was committed under. Newer pages of an entry have higher ones. */
  readonly generation: bigint;
  /** What its renderer said of it. */
  readonly metadata: PageMetadata;
  /** When its render began, by the coordinator's clock: for people. */
  readonly generatedAt?: Date | undefined;
  /** How long ago that was when the coordinator answered, in milliseconds. */
  readonly ageMs: number;
  /** The HTML, where it was asked for. */
  readonly body: PageBody;
  /** The HTML's length. Zero where the digest is empty. */
  readonly sizeBytes: number;
  /** SHA-256 of the HTML. Empty where it is not known: of a page that another system wrote into the same table. */
  readonly digest: Uint8Array;
  /** For the URL of its hydration sidecar. Absent: it has none. */
  readonly sidecarToken?: SidecarToken | undefined;
  /**
   * The name that its worker gave to the HTML. Absent: the coordinator named it. Of a page whose body did not change, the
   * name of the earlier commit stays.
   */
  readonly htmlName?: string | undefined;
  /** Likewise of the sidecar. */
  readonly sidecarName?: string | undefined;
}

/**
 * The HTML of a {@link Page}, or why it is not there:
 *
 * - `omitted`: it was not asked for;
 * - `inline`: the bytes;
 * - `url`: a URL to fetch it from, for a few minutes. It grants access: it does not show in `console.log`;
 * - `unchanged`: the caller has this generation already;
 * - `tooLarge`: it does not fit a message: fetch it by `servePage`.
 */
export type PageBody =
  | { readonly delivery: 'omitted' | 'unchanged' | 'tooLarge' }
  | { readonly delivery: 'inline'; readonly bytes: Uint8Array }
  | { readonly delivery: 'url'; readonly url: string };

/** Whether and how the HTML comes along with an answer. `url`: only where the object store serves URLs. */
export type BodyDelivery = 'none' | 'inline' | 'url';

/** What a renderer says of its page. */
export interface PageMetadata {
  /** The response's status, 200 to 499. Default: 200. */
  readonly status?: number | undefined;
  /** 1 to 256 bytes. Default in a commit: `text/html; charset=utf-8`. */
  readonly contentType?: string | undefined;
  /** Further response headers. At most 32, of 8192 bytes in all. */
  readonly headers?: readonly (readonly [name: string, value: string])[] | undefined;
  /** The entity tag, with its quotes, at most 256 bytes. Default in a commit: made from the digest. */
  readonly etag?: string | undefined;
  /**
   * Fresh for so many milliseconds, counted from the grant of its lease; at most ten years. Default: until invalidated.
   * Zero: never.
   */
  readonly revalidateMs?: number | undefined;
  /** Servable for so many milliseconds after that, while it is regenerated. Default: not said. */
  readonly staleWhileRevalidateMs?: number | undefined;
  /** Servable for so many milliseconds after `revalidateMs`, when regeneration fails. Default: not said. */
  readonly staleIfErrorMs?: number | undefined;
  /** Labels to invalidate it by. At most 64, of 1 to 256 bytes. */
  readonly tags?: readonly string[] | undefined;
  /** Its URL path. Default in a commit: that of the entry. */
  readonly path?: string | undefined;
  /** How long the render took, in milliseconds. */
  readonly renderTimeMs?: number | undefined;
}

/** A page that may be served without a second thought. */
export interface FreshPage {
  readonly freshness: 'fresh';
  readonly page: Page;
  /** How long it stays so, in milliseconds, unless invalidated. Absent: until invalidated. */
  readonly freshForMs?: number | undefined;
}

/** A page that may be served where stale pages are accepted. */
export interface StalePage {
  readonly freshness: 'stale';
  readonly page: Page;
  /** Why it is stale. */
  readonly reason: StaleReason;
  /** What is left of its stale-while-revalidate window in milliseconds, 0 when it is over. Absent: it names none. */
  readonly staleWhileRevalidateForMs?: number | undefined;
  /** What is left of its stale-if-error window in milliseconds, 0 when it is over. Absent: it names none. */
  readonly staleIfErrorForMs?: number | undefined;
}

/** A page that is there, fresh or stale. */
export type CurrentPage = FreshPage | StalePage;

/**
 * Why a page is stale: `expired`, older than its `revalidateMs`; `invalidated` after its render began; `unverified`, because
 * the coordinator has not been able to read the invalidation log for longer than the staleness bound; `other`, one that
 * this version does not know.
 */
export type StaleReason = 'expired' | 'invalidated' | 'unverified' | 'other';

/** A running regeneration. */
export interface Regeneration {
  /** Who renders, by its own word. */
  readonly owner: string;
  /** The generation that it may commit. */
  readonly generation: bigint;
  /** After so many milliseconds another may be granted the lease, unless it is renewed. */
  readonly remainingMs: number;
}

/** @internal */
export const parseDelivery = word('none', 'inline', 'url');

/** @internal */
export function toWireDelivery(delivery: BodyDelivery = 'none'): WireDelivery {
  switch (delivery) {
    case 'none':
      return WireDelivery.BODY_DELIVERY_NONE;
    case 'inline':
      return WireDelivery.BODY_DELIVERY_INLINE;
    case 'url':
      return WireDelivery.BODY_DELIVERY_URL;
  }
}

/** @internal */
export function parseFresh({ page, freshFor }: WireFresh): FreshPage {
  return {
    freshness: 'fresh',
    page: parsePage(required(page, 'a page')),
    freshForMs: optionalMilliseconds(freshFor),
  };
}

/** @internal */
export function parseStale({ page, reason, staleWhileRevalidateFor, staleIfErrorFor }: WireStale): StalePage {
  return {
    freshness: 'stale',
    page: parsePage(required(page, 'a page')),
    reason: parseStaleReason(reason),
    staleWhileRevalidateForMs: optionalMilliseconds(staleWhileRevalidateFor),
    staleIfErrorForMs: optionalMilliseconds(staleIfErrorFor),
  };
}

/** @internal */
export function parseRegeneration({ owner, generation, remaining }: WireRegeneration): Regeneration {
  return { owner, generation, remainingMs: milliseconds(remaining) };
}

/** @internal */
export const parseGivenMetadata = record<PageMetadata>({
  status: optional(size),
  contentType: optional(text),
  headers: optional(list(pair(text, text))),
  etag: optional(text),
  revalidateMs: optional(span),
  staleWhileRevalidateMs: optional(span),
  staleIfErrorMs: optional(span),
  tags: optional(list(text)),
  path: optional(text),
  renderTimeMs: optional(span),
});

/** @internal */
export function toWireMetadata(metadata: PageMetadata): WireMetadata {
  const { status, contentType, headers, etag, revalidateMs, staleWhileRevalidateMs } = metadata;
  const { staleIfErrorMs, tags, path, renderTimeMs } = metadata;
  return {
    status: status ?? 200,
    contentType: contentType ?? '',
    headers: (headers ?? []).map(([name, value]) => ({ name, value })),
    etag: etag ?? '',
    revalidate: toOptionalDuration(revalidateMs, 'revalidateMs'),
    staleWhileRevalidate: toOptionalDuration(staleWhileRevalidateMs, 'staleWhileRevalidateMs'),
    staleIfError: toOptionalDuration(staleIfErrorMs, 'staleIfErrorMs'),
    tags: [...(tags ?? [])],
    path: path ?? '',
    renderTime: toOptionalDuration(renderTimeMs, 'renderTimeMs'),
  };
}

function parseStaleReason(reason: WireStaleReason): StaleReason {
  switch (reason) {
    case WireStaleReason.STALE_REASON_EXPIRED:
      return 'expired';
    case WireStaleReason.STALE_REASON_INVALIDATED:
      return 'invalidated';
    case WireStaleReason.STALE_REASON_UNVERIFIED:
      return 'unverified';
    default:
      return 'other';
  }
}

/** @internal */
export function parsePage(wire: WirePage): Page {
  const { generation, metadata, generatedAt, age, sizeBytes, digest, sidecarToken } = wire;
  return {
    generation,
    metadata: parseMetadata(metadata),
    generatedAt: date(generatedAt),
    ageMs: milliseconds(age),
    body: parseBody(wire),
    sizeBytes: Number(sizeBytes),
    digest,
    sidecarToken: sidecarToken === '' ? undefined : new SidecarToken(sidecarToken),
    htmlName: wire.htmlObjectName || undefined,
    sidecarName: wire.sidecarObjectName || undefined,
  };
}

function parseBody({ body, bodyUnchanged, bodyTooLarge }: WirePage): PageBody {
  switch (body?.$case) {
    case 'inline':
      return { delivery: 'inline', bytes: body.value };
    case 'url':
      return new BodyUrl(body.value);
    case undefined:
      return { delivery: bodyUnchanged ? 'unchanged' : bodyTooLarge ? 'tooLarge' : 'omitted' };
  }
}

class BodyUrl {
  readonly delivery = 'url';
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  get url(): string {
    return this.#url;
  }

  [inspect.custom](): string {
    return "{ delivery: 'url', url: '..' }";
  }
}

function parseMetadata(wire: WireMetadata | undefined): PageMetadata {
  if (wire === undefined) {
    return { status: 200, headers: [], tags: [] };
  }
  const { status, contentType, headers, etag, revalidate, staleWhileRevalidate, staleIfError, tags, path } =
    wire;
  return {
    status: status || 200,
    contentType: nonEmpty(contentType),
    headers: headers.map(({ name, value }) => [name, value] as const),
    etag: nonEmpty(etag),
    revalidateMs: optionalMilliseconds(revalidate),
    staleWhileRevalidateMs: optionalMilliseconds(staleWhileRevalidate),
    staleIfErrorMs: optionalMilliseconds(staleIfError),
    tags,
    path: nonEmpty(path),
    renderTimeMs: optionalMilliseconds(wire.renderTime),
  };
}
