/**
 * A framework in small that keeps its pages as FaceTheory does: it calls the two stores in the same order, judges freshness by its
 * own clock, polls while another renders, names bodies in the same way, and always gives its lease back.
 *
 * @module
 */

import { createHash, randomUUID } from 'node:crypto';

/** What FaceTheory asks of its stores, as it declares it: that the package's own fit is checked by the compiler. */
export interface MetaRecord {
  cacheKey: string;
  htmlPointer: string | null;
  generatedAt: number;
  revalidateSeconds: number;
  status: number;
  contentType: string;
  contentSecurityPolicy?: string | null;
  strictCspPolicy?: StrictCspPolicy | null;
  etag: string | null;
  leaseOwner: string | null;
  leaseToken: string | null;
  leaseExpiresAt: number;
}

interface StrictCspPolicy {
  inlineScripts?: false | undefined;
  inlineStyles?: false | undefined;
}

interface LeaseInput {
  cacheKey: string;
  leaseOwner: string;
  leaseToken: string;
}

export interface MetaStore {
  get: (cacheKey: string) => Promise<MetaRecord | null>;
  tryAcquireLease: (input: {
    cacheKey: string;
    leaseOwner: string;
    nowMs: number;
    leaseDurationMs: number;
    fallbackRevalidateSeconds: number;
  }) => Promise<{ acquired: boolean; record: MetaRecord; leaseToken: string | null }>;
  commitGeneration: (
    input: LeaseInput & {
      htmlPointer: string;
      generatedAt: number;
      revalidateSeconds: number;
      status: number;
      contentType: string;
      contentSecurityPolicy?: string | null;
      strictCspPolicy?: StrictCspPolicy | null;
      etag?: string | null;
    },
  ) => Promise<void>;
  releaseLease: (input: LeaseInput) => Promise<void>;
}

export interface HtmlStore {
  read: (
    key: string,
  ) => Promise<{ body: Uint8Array; etag?: string | null; metadata?: Record<string, string> } | null>;
  write: (input: {
    key: string;
    body: Uint8Array;
    contentType?: string;
    cacheControl?: string | null;
    metadata?: Record<string, string>;
  }) => Promise<{ etag?: string | null }>;
}

export interface Stores {
  readonly metaStore: MetaStore;
  readonly htmlStore: HtmlStore;
}

export interface Face {
  readonly revalidateSeconds: number;
  /** Renders the page; `dataUrl` is where the sidecar will be, if there is one. */
  readonly render: (dataUrl: string) => Promise<FaceRendering> | FaceRendering;
}

export interface FaceRendering {
  readonly html: string | Uint8Array;
  readonly data?: unknown;
  readonly status?: number;
  readonly contentType?: string;
  readonly csp?: string;
  readonly strictCsp?: StrictCspPolicy;
  readonly etag?: string;
}

export interface FaceAnswer {
  readonly state: 'miss' | 'hit' | 'stale' | 'wait-hit' | 'stale-metadata-error' | 'sidecar' | 'not-found';
  readonly body: string;
  readonly status: number;
  readonly contentType?: string;
  readonly csp?: string | null;
  readonly strictCsp?: StrictCspPolicy | null;
  readonly etag?: string | null;
}

export interface FaceAppOptions {
  readonly now?: () => number;
  readonly leaseDurationMs?: number;
  readonly waitMs?: number;
  readonly onContention?: 'wait' | 'serve-stale';
  readonly onFailure?: 'serve-stale' | 'error';
}

const SIDECAR_PARAM = '__sidecar=';
const HTML = 'text/html; charset=utf-8';

export class FaceApp {
  readonly stores: Stores;
  readonly #options: FaceAppOptions;
  readonly #lastKnown = new Map<string, MetaRecord>();

  constructor(stores: Stores, options: FaceAppOptions = {}) {
    this.stores = stores;
    this.#options = options;
  }

  /** Answers the request for the page of this key, or for its sidecar, where `url` has a token. */
  async serve(cacheKey: string, face: Face, url = ''): Promise<FaceAnswer> {
    if (url.includes(SIDECAR_PARAM)) {
      return this.#sidecar(cacheKey, url);
    }
    const { metaStore } = this.stores;
    const at = this.#now();
    let existing: MetaRecord | null = null;
    try {
      existing = this.#remember(await metaStore.get(cacheKey));
    } catch (error) {
      return this.#withoutRecords(this.#lastKnown.get(cacheKey), error);
    }
    if (existing && isFresh(existing, at)) {
      const hit = await this.#stored(existing, 'hit');
      if (hit) {
        return hit;
      }
    }
    const leaseOwner = randomUUID();
    const acquire = () =>
      metaStore.tryAcquireLease({
        cacheKey,
        leaseOwner,
        nowMs: this.#now(),
        leaseDurationMs: this.#options.leaseDurationMs ?? 5000,
        fallbackRevalidateSeconds: face.revalidateSeconds,
      });
    let previous = existing;
    for (const isRetry of [false, true]) {
      try {
        const { acquired, record, leaseToken } = await acquire();
        this.#remember(record);
        previous ??= record;
        if (acquired && leaseToken) {
          return await this.#regenerate(cacheKey, face, leaseOwner, leaseToken, previous);
        }
        if (!isRetry && (this.#options.onContention ?? 'wait') === 'wait') {
          const waited = await this.#waitForNewer(cacheKey, previous.generatedAt);
          const answer = waited && (await this.#stored(waited, 'wait-hit'));
          if (answer) {
            return answer;
          }
        }
      } catch (error) {
        if (error instanceof RenderError) {
          throw error.cause;
        }
        return this.#withoutRecords(previous ?? this.#lastKnown.get(cacheKey), error);
      }
    }
    const stale = await this.#stored(previous, 'stale');
    if (stale) {
      return stale;
    }
    throw new Error('the lock is busy');
  }

  /** The record that it would go by in an outage. */
  lastKnown(cacheKey: string): MetaRecord | undefined {
    return this.#lastKnown.get(cacheKey);
  }

  async #regenerate(
    cacheKey: string,
    face: Face,
    leaseOwner: string,
    leaseToken: string,
    previous: MetaRecord,
  ): Promise<FaceAnswer> {
    const { metaStore, htmlStore } = this.stores;
    const { revalidateSeconds } = face;
    const generatedAt = this.#now();
    const stem = `isr/${digestOf(cacheKey)}/${generatedAt}-${randomUUID()}`;
    const htmlPointer = `${stem}.html`;
    const sidecarName = `${stem}.hydration.json`;
    try {
      const token = Buffer.from(sidecarName).toString('base64url');
      const rendering = await face.render(`/page?${SIDECAR_PARAM}${token}`);
      const { status = 200, contentType = HTML, csp, strictCsp, data } = rendering;
      if (status >= 500) {
        throw new Error(`the render answered with ${status}`);
      }
      if (data !== undefined) {
        const body = Buffer.from(`${JSON.stringify(data)}\n`);
        await htmlStore.write({
          key: sidecarName,
          body,
          contentType: 'application/json',
          cacheControl: 'no-store',
        });
      }
      const body = typeof rendering.html === 'string' ? Buffer.from(rendering.html) : rendering.html;
      const metadata = { 'facetheory-status': String(status), 'facetheory-content-type': contentType };
      const written = await htmlStore.write({ key: htmlPointer, body, contentType, metadata });
      const etag = rendering.etag ?? written.etag ?? null;
      await metaStore.commitGeneration({
        cacheKey,
        leaseOwner,
        leaseToken,
        htmlPointer,
        generatedAt,
        revalidateSeconds,
        status,
        contentType,
        ...(csp !== undefined && { contentSecurityPolicy: csp }),
        ...(strictCsp !== undefined && { strictCspPolicy: strictCsp }),
        ...(etag !== null && { etag }),
      });
      const record = {
        ...previous,
        cacheKey,
        htmlPointer,
        generatedAt,
        revalidateSeconds,
        status,
        contentType,
      };
      this.#remember({
        ...record,
        contentSecurityPolicy: csp ?? null,
        strictCspPolicy: strictCsp ?? null,
        etag,
      });
      return { ...answerOf({ ...record, etag }, body), state: 'miss' };
    } catch (error) {
      if ((this.#options.onFailure ?? 'serve-stale') === 'serve-stale') {
        const stale = await this.#stored(previous, 'stale');
        if (stale) {
          return stale;
        }
      }
      throw new RenderError(error);
    } finally {
      await metaStore.releaseLease({ cacheKey, leaseOwner, leaseToken });
    }
  }

  async #waitForNewer(cacheKey: string, previousGeneratedAt: number): Promise<MetaRecord | undefined> {
    const deadline = this.#now() + (this.#options.waitMs ?? 7000);
    while (this.#now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 25));
      const record = this.#remember(await this.stores.metaStore.get(cacheKey));
      if (record?.htmlPointer && (record.generatedAt > previousGeneratedAt || isFresh(record, this.#now()))) {
        return record;
      }
    }
    return undefined;
  }

  async #sidecar(cacheKey: string, url: string): Promise<FaceAnswer> {
    const token = url.slice(url.indexOf(SIDECAR_PARAM) + SIDECAR_PARAM.length);
    const name = Buffer.from(token, 'base64url').toString();
    const isBound = name.split('/')[1] === digestOf(cacheKey);
    const found = isBound ? await this.stores.htmlStore.read(name) : null;
    return found
      ? { state: 'sidecar', body: Buffer.from(found.body).toString(), status: 200, etag: found.etag ?? null }
      : { state: 'not-found', body: '', status: 404 };
  }

  async #withoutRecords(record: MetaRecord | null | undefined, error: unknown): Promise<FaceAnswer> {
    const stale =
      (this.#options.onFailure ?? 'serve-stale') === 'serve-stale' &&
      record &&
      (await this.#stored(record, 'stale-metadata-error'));
    if (stale) {
      return stale;
    }
    throw error;
  }

  async #stored(record: MetaRecord | null, state: FaceAnswer['state']): Promise<FaceAnswer | undefined> {
    const found = record?.htmlPointer ? await this.stores.htmlStore.read(record.htmlPointer) : null;
    return record && found ? { ...answerOf(record, found.body), state } : undefined;
  }

  #remember<T extends MetaRecord | null>(record: T): T {
    if (record?.htmlPointer) {
      this.#lastKnown.set(record.cacheKey, record);
    }
    return record;
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }
}

/** What a render threw, told apart from what a store threw before it. */
class RenderError extends Error {
  constructor(cause: unknown) {
    super('the render failed', { cause });
  }
}

/** By the clock of whoever asks. */
export function isFresh(record: MetaRecord, now: number): boolean {
  return record.htmlPointer !== null && now < record.generatedAt + record.revalidateSeconds * 1000;
}

function answerOf(record: MetaRecord, body: Uint8Array): Omit<FaceAnswer, 'state'> {
  const { status, contentType, contentSecurityPolicy, strictCspPolicy, etag } = record;
  return {
    body: Buffer.from(body).toString(),
    status,
    contentType,
    csp: contentSecurityPolicy ?? null,
    strictCsp: strictCspPolicy ?? null,
    etag,
  };
}

function digestOf(cacheKey: string): string {
  return createHash('sha256').update(cacheKey).digest('hex').slice(0, 24);
}
