/**
 * The bodies of FaceTheory's pages in this process: those that wait for their commit, and those that were read or committed.
 *
 * @module
 */

import { createHash } from 'node:crypto';
import { now } from './clock.js';
import { LastKnown } from './last-known.js';
import { etagOf } from './rendered-page.js';

/** A body and its entity tag. */
export interface FaceBody {
  readonly bytes: Uint8Array;
  readonly etag: string;
}

/** Bodies that were written and not yet committed. Bounded in bytes and in time. */
export class UncommittedBodies {
  readonly #limitBytes: number;
  readonly #keptMs: number;
  readonly #bodies = new Map<string, FaceBody & { readonly forgotten: NodeJS.Timeout }>();
  #sizeBytes = 0;

  constructor(limitBytes: number, keptMs: number) {
    this.#limitBytes = limitBytes;
    this.#keptMs = keptMs;
  }

  /**
   * Keeps a copy.
   *
   * @throws RangeError beyond the limit: nothing was kept.
   */
  write(name: string, body: Uint8Array): FaceBody {
    this.delete(name);
    if (this.#sizeBytes + body.length > this.#limitBytes) {
      throw new RangeError(
        `a body of ${body.length} bytes cannot be kept until its commit: ${this.#sizeBytes} bytes wait for theirs, ` +
          `and uncommittedBytes allows ${this.#limitBytes}`,
      );
    }
    const forgotten = setTimeout(() => this.delete(name), this.#keptMs);
    forgotten.unref();
    const kept = { bytes: Buffer.from(body), etag: etagOf(body), forgotten };
    this.#bodies.set(name, kept);
    this.#sizeBytes += body.length;
    return kept;
  }

  get(name: string): FaceBody | undefined {
    return this.#bodies.get(name);
  }

  delete(name: string): void {
    const body = this.#bodies.get(name);
    if (body) {
      clearTimeout(body.forgotten);
      this.#bodies.delete(name);
      this.#sizeBytes -= body.bytes.length;
    }
  }

  /** Those of one key: FaceTheory puts them into a folder of that key's. */
  deleteOf(cacheKey: string): void {
    const folder = folderOf(cacheKey);
    for (const name of this.#bodies.keys()) {
      if (isIn(folder, name)) {
        this.delete(name);
      }
    }
  }

  clear(): void {
    for (const name of this.#bodies.keys()) {
      this.delete(name);
    }
  }
}

interface Copy extends FaceBody {
  readonly cacheKey: string | undefined;
  /** When it was last known that its page had not been purged. */
  vouchedAt: number;
}

/** For so long, the word that a page is not purged is as good as a new one: the coordinator's own staleness bound. */
const VOUCHED_MS = 2000;

/**
 * Bodies by their names, which never stand for anything else. What may not be served any more is forgotten as soon as this process
 * learns of it, and asked for again where it has not heard of its page for a while.
 */
export class CommittedBodies {
  readonly #bodies: LastKnown<Copy>;
  #purges = 0;

  constructor(limitBytes: number) {
    this.#bodies = new LastKnown(limitBytes);
  }

  /** Makes a note of now, for {@link keep}: what was purged after it was asked for must not be kept. */
  begin(): { readonly at: number; readonly purges: number } {
    return { at: now(), purges: this.#purges };
  }

  keep(
    name: string,
    { bytes, etag }: FaceBody,
    cacheKey: string | undefined,
    begun: ReturnType<CommittedBodies['begin']>,
  ): void {
    if (begun.purges === this.#purges) {
      this.#bodies.set(name, { bytes, etag, cacheKey, vouchedAt: begun.at }, bytes.length);
    }
  }

  /** Its page was just named as one that may be served. */
  vouchFor(name: string): void {
    const copy = this.#bodies.get(name);
    if (copy) {
      copy.vouchedAt = now();
    }
  }

  /** Without its page having been asked for: for an outage. */
  get(name: string): FaceBody | undefined {
    return this.#bodies.get(name);
  }

  /** One that may be served. */
  vouched(name: string): FaceBody | undefined {
    const copy = this.#bodies.get(name);
    return copy && now() - copy.vouchedAt < VOUCHED_MS ? copy : undefined;
  }

  delete(name: string): void {
    this.#bodies.delete(name);
  }

  /** The page of this key was purged. */
  purge(cacheKey: string): void {
    this.#purges += 1;
    this.deleteOf(cacheKey);
  }

  deleteOf(cacheKey: string): void {
    const folder = folderOf(cacheKey);
    this.#bodies.deleteIf((copy, name) => copy.cacheKey === cacheKey || isIn(folder, name));
  }

  clear(): void {
    this.#bodies.clear();
  }
}

/** The folder of a key, as FaceTheory names it. */
function folderOf(cacheKey: string): string {
  return createHash('sha256').update(cacheKey).digest('hex').slice(0, 24);
}

function isIn(folder: string, name: string): boolean {
  return name.split('/').at(-2) === folder;
}

/** The name of the sidecar that belongs to a page, as FaceTheory makes it. */
export function sidecarNameOf(htmlName: string): string {
  return `${htmlName.replace(/\.html$/, '')}.hydration.json`;
}
