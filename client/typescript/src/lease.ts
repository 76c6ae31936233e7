/**
 * The right to render, in the hands of its holder.
 *
 * @module
 */

import { inspect } from 'node:util';
import { clientStreaming } from './call.js';
import { type CallOptions, type Calls, callFields, parseCallOptions } from './calls.js';
import { now, sleep } from './clock.js';
import { type EntryRef, shownEntry, toWireEntry } from './entry.js';
import { LeaseholdError } from './error.js';
import {
  type BodySource,
  type LeaseGrant,
  type LeaseRef,
  CoordinatorServiceService as Service,
  type UploadBodyRequest,
  BodyKind as WireKind,
} from './generated/leasehold/v1/coordinator.js';
import { bytes, optional, type Parse, record, size, text, textOrBytes, word } from './given.js';
import { type RequestId, SidecarToken } from './id.js';
import { type PageMetadata, parseGivenMetadata, parseStale, type StalePage, toWireMetadata } from './page.js';
import { milliseconds, required, toOptionalDuration } from './wire.js';

/** A rendered page. */
export interface NewPage {
  /** The HTML: text, which is sent as UTF-8, bytes, or what was stored before. */
  readonly html: NewBody;
  /** The hydration sidecar that belongs to it. Default: it has none. */
  readonly sidecar?: NewBody | undefined;
  /** What the renderer says of it. Default: status 200, no tags, fresh until invalidated. */
  readonly metadata?: PageMetadata | undefined;
  /**
   * The name by which `serveObject` is to find the HTML within its tenant: at most 512 bytes, ending in `.html`, new for
   * every render and never used again. Default: the coordinator names it.
   */
  readonly htmlName?: string | undefined;
  /** Likewise of the sidecar, ending in `.hydration.json`. */
  readonly sidecarName?: string | undefined;
}

/** How a body is to be uploaded. */
export type UploadOptions = CallOptions & {
  /** Default: by kind, `text/html; charset=utf-8` or `application/json`. */
  readonly contentType?: string | undefined;
  /** As `htmlName` or `sidecarName` of the page that is then committed, which has to give the same. */
  readonly name?: string | undefined;
};

/** A body that is to be committed. Whether bytes travel with the commit or ahead of it is decided by their size. */
export type NewBody = string | Uint8Array | StoredBody;

/** A body that is in the object store already, as the object that the lease names. */
export interface StoredBody {
  /** SHA-256 of the bytes: 32 bytes. */
  readonly digest: Uint8Array;
  /** Their number. */
  readonly sizeBytes: number;
}

/** Which body of a page. */
export type BodyKind = 'html' | 'sidecar';

/** What became of a wish for more time. `lost`: it is another's, has ended, or was held as long as one may be. */
export type Renewal =
  | { readonly outcome: 'renewed'; readonly remainingMs: number }
  | { readonly outcome: 'lost' };

/** What became of a lease that was given back. `notHeld`: it was not this caller's any more; nothing changed. */
export type Release = { readonly outcome: 'released' | 'notHeld' };

/** An upload or commit that came after a newer page. */
export interface Superseded {
  readonly outcome: 'superseded';
  /** The generation of the page that is current. */
  readonly currentGeneration: bigint;
}

/** An upload or commit without its lease: nothing of it was ever applied, nor will be. */
export interface Fenced {
  readonly outcome: 'fenced';
  /** The generation of the latest grant. Zero: the entry is not known. */
  readonly latestGeneration: bigint;
}

/** What became of an upload. */
export type Upload =
  | {
      readonly outcome: 'stored';
      /** As the commit is to name it. */
      readonly body: StoredBody;
      /** The object. */
      readonly object: string;
    }
  | Fenced
  | Superseded;

/** What became of a commit. */
export type Commit =
  | {
      /** The page is current: by this call or an earlier attempt of it. */
      readonly outcome: 'committed';
      /** The entity tag that the page is served with. */
      readonly etag: string;
      /** The token of its sidecar. */
      readonly sidecarToken?: SidecarToken | undefined;
      /**
       * The name of its HTML: another one than this commit gave where the body of the page before was kept, which has the same
       * bytes, or where an earlier attempt gave another. Absent: the coordinator named it.
       */
      readonly htmlName?: string | undefined;
      /** Likewise of the sidecar. */
      readonly sidecarName?: string | undefined;
    }
  | {
      /** The page is current, but was invalidated after its render began: never served as fresh. */
      readonly outcome: 'committedStale';
      /** The entity tag that the page is served with. */
      readonly etag: string;
      /** The token of its sidecar. */
      readonly sidecarToken?: SidecarToken | undefined;
      /** The invalidation was hard: the page is not served at all. */
      readonly purged: boolean;
      /** As where it is fresh. */
      readonly htmlName?: string | undefined;
      /** As where it is fresh. */
      readonly sidecarName?: string | undefined;
    }
  | Superseded
  | Fenced;

/** Until when a lease lasts, counted from before the call was sent that said so. */
interface Terms {
  readonly since: number;
  readonly deadline: number;
  readonly renewableUntil: number;
}

/** An upload gets another second for each of these. */
const SLOWEST_BYTES_PER_SECOND = 1 << 20;
const CHUNK_BYTES = 256 << 10;
/** Between two renewals, also of a lease that lasts for less. */
const RESPITE_MS = 50;
/** Of the reason of a failure, the coordinator keeps so much. */
const REASON_BYTES = 512;

/**
 * The right to render the next generation of an entry.
 *
 * It ends by {@link commit}, {@link release} or {@link fail}. Forgetting it does nothing: the entry then stays held until
 * the lease expires. Safety does not depend on the deadline that is kept here, which only says when to renew: a late
 * commit is accepted if nobody was granted the lease since, and fenced otherwise.
 *
 * `console.log` and `JSON.stringify` do not show the request id.
 */
export class Lease {
  /** The entry. */
  readonly entry: EntryRef;
  /** The fence. */
  readonly generation: bigint;
  /** Where the HTML will be stored: for workers that write to the object store themselves. Empty for an adopted lease. */
  readonly htmlObject: string;
  /** Where the sidecar will be stored. Write it before the HTML. Empty for an adopted lease. */
  readonly sidecarObject: string;
  /** The token for the sidecar's URL, to be put into the HTML. Absent for an adopted lease. */
  readonly sidecarToken: SidecarToken | undefined;
  /** The page so far, to serve while rendering. Absent: there is none that may be served. */
  readonly previous: StalePage | undefined;

  readonly #calls: Calls;
  readonly #requestId: RequestId;
  #terms: Terms;

  /** @internal */
  constructor(calls: Calls, entry: EntryRef, requestId: RequestId, since: number, grant: LeaseGrant) {
    this.#calls = calls;
    this.#requestId = requestId;
    this.#terms = terms(since, milliseconds(grant.remaining), milliseconds(grant.renewableFor));
    this.entry = entry;
    this.generation = grant.generation;
    this.htmlObject = grant.htmlObject;
    this.sidecarObject = grant.sidecarObject;
    this.sidecarToken = grant.sidecarToken === '' ? undefined : new SidecarToken(grant.sidecarToken);
    this.previous = grant.previous && parseStale(grant.previous);
  }

  /** The request id that it was acquired with: whoever knows it can commit. */
  get requestId(): RequestId {
    return this.#requestId;
  }

  /**
   * What is left of it unless renewed, in milliseconds, by this process's clock and never more than by the coordinator's.
   * Zero for a repetition of an acquire whose lease has expired.
   */
  get remainingMs(): number {
    return Math.max(0, this.#terms.deadline - now());
  }

  /** For how many milliseconds it can still be held by renewing. */
  get renewableForMs(): number {
    return Math.max(0, this.#terms.renewableUntil - now());
  }

  /**
   * Asks for `ttlMs` from now on; default: the coordinator's, 10 s.
   *
   * @throws LeaseholdError `INVALID_FIELD`; or no answer in time, and the lease may or may not last on.
   */
  async renew(ttlMs?: number, given: CallOptions = {}): Promise<Renewal> {
    const options = parseCallOptions(given, 'options');
    const message = {
      entry: toWireEntry(this.entry),
      lease: this.#toWire(),
      ttl: toOptionalDuration(ttlMs, 'ttlMs'),
    };
    const { answer, startedAt } = await this.#calls.prompt(
      'RenewLease',
      Service.renewLease,
      message,
      options,
    );
    const outcome = required(answer.outcome, 'the outcome of a renewal');
    switch (outcome.$case) {
      case 'renewed': {
        const { remaining, renewableFor } = outcome.value;
        this.#terms = terms(startedAt, milliseconds(remaining), milliseconds(renewableFor));
        return { outcome: 'renewed', remainingMs: this.remainingMs };
      }
      case 'lost':
        return { outcome: 'lost' };
    }
  }

  /**
   * Runs `render` to its end, and renews the lease meanwhile, each time for `ttlMs` (default: the coordinator's). A lease
   * that is lost does not stop it, for its page may still be of use to this very request: the commit will tell.
   *
   * @throws what `render` throws, and nothing else.
   */
  async renewWhile<T>(render: () => Promise<T> | T, ttlMs?: number): Promise<T> {
    const over = new AbortController();
    const renewing = this.#keepRenewing(ttlMs, over.signal);
    try {
      return await render();
    } finally {
      over.abort();
      await renewing;
    }
  }

  async #keepRenewing(ttlMs: number | undefined, signal: AbortSignal): Promise<void> {
    try {
      for (let earliest = 0; ; earliest = now() + RESPITE_MS) {
        // A third into it: two more renewals may fail.
        const { since, deadline } = this.#terms;
        const renewAt = Math.max(since + (deadline - since) / 3, earliest);
        await sleep(Math.max(0, renewAt - now()), signal);
        try {
          if ((await this.renew(ttlMs, { signal })).outcome === 'lost') {
            return;
          }
        } catch (error) {
          if (!(error instanceof LeaseholdError && error.isRetryable)) {
            return;
          }
        }
      }
    } catch {
      // Aborted while it slept: the render is over.
    }
  }

  /**
   * Gives it back without a page: it was not needed, and nothing is wrong.
   *
   * @throws LeaseholdError no answer in time: it may be free, and else expires.
   */
  release(options: CallOptions = {}): Promise<Release> {
    return this.#giveBack(undefined, options);
  }

  /**
   * Gives it back after a failed render. Nobody is granted the lease for a while that doubles with each failure in a
   * row; the current page stays. Operators see `reason`, of which 512 bytes are kept: it must hold no secrets.
   *
   * @throws LeaseholdError as {@link release}.
   */
  fail(reason: string, options: CallOptions = {}): Promise<Release> {
    return this.#giveBack(printable(reason) || 'unspecified', options);
  }

  async #giveBack(failure: string | undefined, given: CallOptions): Promise<Release> {
    const options = parseCallOptions(given, 'options');
    const message = { entry: toWireEntry(this.entry), lease: this.#toWire(), failure };
    const { answer } = await this.#calls.prompt('ReleaseLease', Service.releaseLease, message, options);
    return { outcome: required(answer.outcome, 'the outcome of a release').$case };
  }

  /**
   * Makes `page` the current one and ends the lease. What is acknowledged survives the crash of every coordinator. A
   * lease that expired, but that nobody was granted since, still commits.
   *
   * Bodies of more than the coordinator's `inlineLimitBytes`, together, are uploaded first: the sidecar only if it alone
   * is over the limit, as one that comes with its commit is stored with the page's tags and path.
   *
   * @throws LeaseholdError `INVALID_FIELD` (also for a status of 500 or more: that is a failed render),
   *   `OBJECT_MISSING`, `OBJECT_CONFLICT`; or no answer in time: it may have been applied, and committing again tells.
   */
  async commit(newPage: NewPage, given: CallOptions = {}): Promise<Commit> {
    const page = parseNewPage(newPage, 'page');
    const options = parseCallOptions(given, 'options');
    const metadata = page.metadata ?? {};
    const html = toBytes(page.html);
    const sidecar = page.sidecar === undefined ? undefined : toBytes(page.sidecar);
    const limit = this.#calls.settings.inlineLimitBytes;
    const isSidecarInline = inlineBytes(sidecar) <= limit;
    const isHtmlInline = inlineBytes(html) + (isSidecarInline ? inlineBytes(sidecar) : 0) <= limit;
    // In this order: a page must never be there without its sidecar.
    const sidecarSource =
      sidecar &&
      (await this.#source('sidecar', sidecar, isSidecarInline, { ...options, name: page.sidecarName }));
    if (sidecarSource && 'outcome' in sidecarSource) {
      return sidecarSource;
    }
    const { contentType } = metadata;
    const htmlOptions = { ...options, name: page.htmlName, contentType };
    const htmlSource = await this.#source('html', html, isHtmlInline, htmlOptions);
    if ('outcome' in htmlSource) {
      return htmlSource;
    }
    const message = {
      entry: toWireEntry(this.entry),
      lease: this.#toWire(),
      html: htmlSource,
      sidecar: sidecarSource,
      metadata: toWireMetadata(metadata),
    };
    const { answer } = await this.#calls.prompt('CommitPointer', Service.commitPointer, message, options);
    const outcome = required(answer.outcome, 'the outcome of a commit');
    switch (outcome.$case) {
      case 'committed':
      case 'committedStale': {
        const { etag, sidecarToken: token, htmlObjectName, sidecarObjectName } = outcome.value;
        const applied = {
          etag,
          sidecarToken: token === '' ? undefined : new SidecarToken(token),
          htmlName: htmlObjectName || undefined,
          sidecarName: sidecarObjectName || undefined,
        };
        return outcome.$case === 'committed'
          ? { outcome: 'committed', ...applied }
          : { outcome: 'committedStale', ...applied, purged: outcome.value.purged };
      }
      case 'superseded':
        return { outcome: 'superseded', currentGeneration: outcome.value.currentGeneration };
      case 'fenced':
        return { outcome: 'fenced', latestGeneration: outcome.value.latestGeneration };
    }
  }

  async #source(
    kind: BodyKind,
    body: Uint8Array | StoredBody,
    isInline: boolean,
    options: UploadOptions,
  ): Promise<BodySource | Fenced | Superseded> {
    const objectName = options.name ?? '';
    if (!(body instanceof Uint8Array)) {
      return stored(body, objectName);
    }
    if (isInline) {
      return { source: { $case: 'inline', value: asBuffer(body) }, objectName };
    }
    const upload = await this.upload(kind, body, options);
    return upload.outcome === 'stored' ? stored(upload.body, objectName) : upload;
  }

  /**
   * Stores one body ahead of the commit that names it: at most 16 MiB by default. The sidecar before the HTML.
   *
   * @throws LeaseholdError `OBJECT_CONFLICT` where other bytes were stored under this lease before, or another lease's
   *   under this name; `LIMIT_REACHED`; or no answer in time.
   */
  async upload(
    givenKind: BodyKind,
    givenBody: string | Uint8Array,
    given: UploadOptions = {},
  ): Promise<Upload> {
    const kind = parseKind(givenKind, 'kind');
    const body = textOrBytes(givenBody, 'body');
    const options = parseUploadOptions(given, 'options');
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    const head: UploadBodyRequest = {
      part: {
        $case: 'head',
        value: {
          entry: toWireEntry(this.entry),
          lease: this.#toWire(),
          kind: kind === 'html' ? WireKind.BODY_KIND_HTML : WireKind.BODY_KIND_SIDECAR,
          contentType: options.contentType ?? '',
          objectName: options.name ?? '',
        },
      },
    };
    const { shared } = this.#calls;
    const limits = this.#calls.limits('UploadBody', options, transitMs(bytes.length));
    const link = shared.lanes.enter();
    try {
      const parts = () => uploadParts(head, bytes);
      const { answer } = await clientStreaming(shared, link, limits, Service.uploadBody, parts);
      const outcome = required(answer.outcome, 'the outcome of an upload');
      switch (outcome.$case) {
        case 'uploaded': {
          const { object, digest, sizeBytes } = outcome.value;
          return { outcome: 'stored', body: { digest, sizeBytes: Number(sizeBytes) }, object };
        }
        case 'fenced':
          return { outcome: 'fenced', latestGeneration: outcome.value.latestGeneration };
        case 'superseded':
          return { outcome: 'superseded', currentGeneration: outcome.value.currentGeneration };
      }
    } finally {
      shared.lanes.leave(link);
    }
  }

  #toWire(): LeaseRef {
    return { requestId: asBuffer(this.#requestId.expose()), generation: this.generation };
  }

  toJSON(): Record<string, unknown> {
    return {
      entry: shownEntry(this.entry),
      generation: this.generation.toString(),
      remainingMs: this.remainingMs,
    };
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `Lease ${show(this.toJSON(), options)}`;
  }
}

function terms(since: number, remainingMs: number, renewableForMs: number): Terms {
  return { since, deadline: since + remainingMs, renewableUntil: since + renewableForMs };
}

/** How long so many bytes may be on their way, on top of what the answer takes. */
export function transitMs(bytes: number): number {
  return (bytes / SLOWEST_BYTES_PER_SECOND) * 1000;
}

/** How many bytes of a body go to the coordinator. */
export function bytesIn(body: NewBody | undefined): number {
  return typeof body === 'string' ? Buffer.byteLength(body) : inlineBytes(body);
}

/** The head, then the body in chunks that share its memory. */
function* uploadParts(head: UploadBodyRequest, bytes: Uint8Array): Generator<UploadBodyRequest> {
  yield head;
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
    yield { part: { $case: 'chunk', value: asBuffer(bytes.subarray(start, start + CHUNK_BYTES)) } };
  }
}

const parseKind = word('html', 'sidecar');

const parseUploadOptions = record<UploadOptions>({
  ...callFields,
  contentType: optional(text),
  name: optional(text),
});

const parseStored = record<StoredBody>({ digest: bytes, sizeBytes: size });

const parseBody: Parse<NewBody> = (value, field) =>
  typeof value === 'object' && value !== null && 'digest' in value
    ? parseStored(value, field)
    : textOrBytes(value, field);

const parseNewPage = record<NewPage>({
  html: parseBody,
  sidecar: optional(parseBody),
  metadata: optional(parseGivenMetadata),
  htmlName: optional(text),
  sidecarName: optional(text),
});

function toBytes(body: NewBody): Uint8Array | StoredBody {
  return typeof body === 'string' ? Buffer.from(body) : body;
}

function inlineBytes(body: Uint8Array | StoredBody | undefined): number {
  return body instanceof Uint8Array ? body.length : 0;
}

function stored({ digest, sizeBytes }: StoredBody, objectName: string): BodySource {
  const value = { digest: asBuffer(digest), sizeBytes: BigInt(sizeBytes) };
  return { source: { $case: 'stored', value }, objectName };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Text of the contract has no control characters; a stack trace has line feeds, and would be refused. */
function printable(text: string): string {
  const cut = Buffer.from(text.replace(/\p{Cc}+/gu, ' ').trim()).subarray(0, REASON_BYTES);
  return new TextDecoder().decode(cut).replace(/\uFFFD$/, '');
}
