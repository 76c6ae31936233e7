/**
 * The bodies of FaceTheory's pages in this process: those that wait for their commit, and those that were read or committed.
 *
 * @module
 */

import { createHash } from 'node:crypto';
import { now } from './clock.js';
import { LastKnown, LONGEST_UNHEARD_MS } from './last-known.js';
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
  readonly #names = new Folders<string>();
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
    this.#names.add([folderIn(name)], name);
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
      this.#names.delete([folderIn(name)], name);
      this.#sizeBytes -= body.bytes.length;
    }
  }

  /** Those of one key: FaceTheory puts them into a folder of that key's. */
  deleteOf(cacheKey: string): void {
    for (const name of this.#names.of(folderOf(cacheKey))) {
      this.delete(name);
    }
  }

  clear(): void {
    for (const name of this.#bodies.keys()) {
      this.delete(name);
    }
  }
}

interface Copy extends FaceBody {
  readonly folders: readonly string[];
  /** When it was last known that its page had not been purged. */
  vouchedAt: number;
}

/** A body that was asked for, or committed, and is to be kept. */
export interface Coming {
  readonly name: string;
  readonly folders: readonly string[];
  readonly since: number;
  /** Since it was asked for. */
  isPurged: boolean;
}

/** For so long, the word that a page is not purged is as good as a new one: the coordinator's own staleness bound. */
const VOUCHED_MS = 2000;

/**
 * Bodies by their names, which never stand for anything else. What may not be served any more is forgotten as soon as this process
 * learns of it, and asked for again where it has not heard of its page for a while.
 */
export class CommittedBodies {
  readonly #bodies: LastKnown<Copy>;
  readonly #maxAgeMs: number;
  readonly #names = new Folders<string>();
  readonly #coming = new Folders<Coming>();

  /** @param maxAgeMs - for so long after it was last vouched for, a body is served in an outage. */
  constructor(limitBytes: number, maxAgeMs = LONGEST_UNHEARD_MS) {
    this.#maxAgeMs = maxAgeMs;
    this.#bodies = new LastKnown(limitBytes, maxAgeMs, (name, { folders }) =>
      this.#names.delete(folders, name),
    );
  }

  /** Makes a note of now, until {@link end}: what is purged after it was asked for must not be kept. */
  begin(name: string, cacheKey: string | undefined): Coming {
    const folders = cacheKey === undefined ? [folderIn(name)] : [folderIn(name), folderOf(cacheKey)];
    const coming = { name, folders, since: now(), isPurged: false };
    this.#coming.add(folders, coming);
    return coming;
  }

  /** It is there. */
  keep(coming: Coming, { bytes, etag }: FaceBody): void {
    const { name, folders, since, isPurged } = coming;
    if (!isPurged) {
      this.#bodies.set(name, { bytes, etag, folders, vouchedAt: since }, bytes.length);
      if (this.#bodies.get(name)) {
        this.#names.add(folders, name);
      }
    }
  }

  /** It is there, or will not come. */
  end(coming: Coming): void {
    this.#coming.delete(coming.folders, coming);
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
    return this.#within(name, this.#maxAgeMs);
  }

  /** One that may be served. */
  vouched(name: string): FaceBody | undefined {
    return this.#within(name, VOUCHED_MS);
  }

  #within(name: string, ms: number): FaceBody | undefined {
    const copy = this.#bodies.get(name);
    return copy && now() - copy.vouchedAt < ms ? copy : undefined;
  }

  delete(name: string): void {
    this.#bodies.delete(name);
  }

  /** The page of this key was purged. */
  purge(cacheKey: string): void {
    for (const coming of this.#coming.of(folderOf(cacheKey))) {
      coming.isPurged = true;
    }
    this.deleteOf(cacheKey);
  }

  deleteOf(cacheKey: string): void {
    for (const name of this.#names.of(folderOf(cacheKey))) {
      this.#bodies.delete(name);
    }
  }

  clear(): void {
    this.#bodies.clear();
  }
}

/** What is in which folders: to find what is of one key without a look at everything else. */
class Folders<T> {
  readonly #members = new Map<string, Set<T>>();

  add(folders: readonly string[], member: T): void {
    for (const folder of folders) {
      const members = this.#members.get(folder) ?? new Set();
      this.#members.set(folder, members.add(member));
    }
  }

  delete(folders: readonly string[], member: T): void {
    for (const folder of folders) {
      const members = this.#members.get(folder);
      members?.delete(member);
      if (members?.size === 0) {
        this.#members.delete(folder);
      }
    }
  }

  /** A list of its own: what is found may be deleted on the way. */
  of(folder: string): readonly T[] {
    return Array.from(this.#members.get(folder) ?? []);
  }
}

/** The folder of a key, as FaceTheory names it. */
function folderOf(cacheKey: string): string {
  return createHash('sha256').update(cacheKey).digest('hex').slice(0, 24);
}

/** The folder that a name is in. */
function folderIn(name: string): string {
  return name.split('/').at(-2) ?? '';
}

/** The name of the sidecar that belongs to a page, as FaceTheory makes it. */
export function sidecarNameOf(htmlName: string): string {
  return `${htmlName.replace(/\.html$/, '')}.hydration.json`;
}
