/**
 * FaceTheory's two stores of pages, on the coordinator.
 *
 * @module
 */

import { now } from './clock.js';
import type { Coordinator, CoordinatorOptions, Lookup } from './coordinator.js';
import type { EntryRef } from './entry.js';
import { LeaseholdError } from './error.js';
import { CommittedBodies, type FaceBody, sidecarNameOf, UncommittedBodies } from './face-bodies.js';
import {
  emptyRecord,
  type FaceMetaRecord,
  type FaceStrictCspPolicy,
  metadataOf,
  parseUnnamed,
  recordOf,
  underLease,
} from './face-records.js';
import { called, flag, milliseconds, objectAs, optional, record, size, text } from './given.js';
import { RequestId } from './id.js';
import { LastKnown } from './last-known.js';
import { bytesIn, type Lease } from './lease.js';
import { LeaseKeeper } from './lease-keeper.js';
import type { CurrentPage } from './page.js';
import { handleOn, Reach } from './reach.js';
import { etagOf } from './rendered-page.js';

/** How {@link faceStores} are configured. */
export interface FaceStoresOptions {
  /** The coordinator, or how to make a handle on it. Default: the one on this machine. */
  readonly coordinator?: Coordinator | CoordinatorOptions | undefined;
  /** Whose pages, 1 to 128 bytes. Default: `default`. */
  readonly tenant?: string | undefined;
  /** The release whose pages are kept apart. Default: none. */
  readonly deployment?: string | undefined;
  /**
   * What else the page of a key is invalidated by, beside its key: its URL path, and tags. Called often, and must always say the
   * same path of a key. Default: nothing.
   */
  readonly labels?: ((cacheKey: string) => FaceLabels) | undefined;
  /** The clock that FaceTheory is given as `now`, where it is given one. Default: `Date.now`. */
  readonly now?: (() => number) | undefined;
  /** Whether a lease is renewed while its page is rendered, so that a slow render is not overtaken. Default: yes. */
  readonly renewLeases?: boolean | undefined;
  /**
   * Whether a lease that is given back without a commit counts as a failed render, after which nobody renders the page for a while
   * that doubles with each failure in a row. Default: no, as in FaceTheory's own stores: the next visitor renders again.
   */
  readonly backOff?: boolean | undefined;
  /**
   * How long the coordinator may take to answer, in milliseconds, before the call fails; where a lease is given back, and for a
   * commit and each of its uploads, four times as long, and as the bytes are on their way. Default: 1500.
   */
  readonly coordinatorTimeoutMs?: number | undefined;
  /** How many bytes may be written and wait for their commit; a write beyond it fails. Default: 64 MiB. */
  readonly uncommittedBytes?: number | undefined;
  /** How long what was written waits for its commit, in milliseconds. Default: ten minutes. */
  readonly uncommittedMs?: number | undefined;
  /**
   * How many bytes of bodies to keep in this process, so that a hit does not fetch them, and for when the coordinator cannot be
   * reached, with half a KiB for each body on top. Default: 32 MiB.
   */
  readonly localBytes?: number | undefined;
  /**
   * For how long after its page was last known to be servable such a body is served while the coordinator cannot be reached, in
   * milliseconds. Default: an hour.
   */
  readonly localMaxAgeMs?: number | undefined;
  /** Hears of what no caller sees. Default: a line on `console.warn`. What it throws is dropped. */
  readonly onReport?: ((report: FaceReport) => void) | undefined;
}

const parseOptions = record<FaceStoresOptions>({
  coordinator: optional(objectAs<Coordinator | CoordinatorOptions>()),
  tenant: optional(text),
  deployment: optional(text),
  labels: optional(called<(cacheKey: string) => FaceLabels>()),
  now: optional(called<() => number>()),
  renewLeases: optional(flag),
  backOff: optional(flag),
  coordinatorTimeoutMs: optional(milliseconds),
  uncommittedBytes: optional(size),
  uncommittedMs: optional(milliseconds),
  localBytes: optional(size),
  localMaxAgeMs: optional(milliseconds),
  onReport: optional(called<(report: FaceReport) => void>()),
});

/** What a page is invalidated by, beside its key. */
export interface FaceLabels {
  /** Its URL path, absolute, at most 2048 bytes. */
  readonly path?: string | undefined;
  /** At most 64, of 1 to 256 bytes. */
  readonly tags?: readonly string[] | undefined;
}

/** What no caller sees: `notReleased`, a lease could not be given back. It then delays others until it expires. */
export interface FaceReport {
  readonly type: 'notReleased';
  readonly error: unknown;
}

/**
 * FaceTheory's store of records. Its calls reject with a `LeaseholdError` when the coordinator gives no answer.
 *
 * A key that the coordinator has no name for, because it is too long, is one of which nothing is kept: everybody is granted its
 * lease, and its commit keeps nothing.
 */
export interface FaceMetaStore {
  /** What is current. `null`: there is nothing, or it was purged. */
  get(cacheKey: string): Promise<FaceMetaRecord | null>;
  /** Declares the page of a key out of date, in every release: it is served as stale until it was rendered again. */
  invalidate(cacheKey: string): Promise<void>;
  tryAcquireLease(input: FaceAcquireInput): Promise<FaceAcquired>;
  /**
   * Makes what was written to the other store the current page, with its sidecar.
   *
   * @throws LeaseLostError where another was granted the lease since: the previous page stays.
   */
  commitGeneration(input: FaceCommitInput): Promise<void>;
  /** Gives a lease back that has not ended by a commit, and drops what was written. Never rejects. */
  releaseLease(input: FaceReleaseInput): Promise<void>;
}

/** FaceTheory's store of HTML and hydration sidecars. */
export interface FaceHtmlStore {
  /**
   * What was written or committed under this name. `null`: nothing, or it was purged.
   *
   * Its metadata are those of the record: a body that did not change keeps its name when its page's status does.
   */
  read(key: string): Promise<{ body: Uint8Array; etag?: string } | null>;
  /**
   * Keeps a body in this process until its commit.
   *
   * @throws RangeError beyond the limit of `uncommittedBytes`.
   */
  write(input: FaceWriteInput): Promise<{ etag?: string }>;
}

export interface FaceAcquireInput {
  cacheKey: string;
  leaseOwner: string;
  nowMs: number;
  leaseDurationMs: number;
  fallbackRevalidateSeconds: number;
}

export interface FaceAcquired {
  acquired: boolean;
  record: FaceMetaRecord;
  /** A secret: whoever knows it can commit. */
  leaseToken: string | null;
}

export interface FaceCommitInput {
  cacheKey: string;
  leaseOwner: string;
  leaseToken: string;
  htmlPointer: string;
  /** Not looked at: a page is as old as its lease, by the coordinator's clock. */
  generatedAt: number;
  revalidateSeconds: number;
  status: number;
  contentType: string;
  contentSecurityPolicy?: string | null;
  strictCspPolicy?: FaceStrictCspPolicy | null;
  etag?: string | null;
}

export interface FaceReleaseInput {
  cacheKey: string;
  leaseOwner: string;
  leaseToken: string;
}

export interface FaceWriteInput {
  key: string;
  body: Uint8Array;
  contentType?: string;
  cacheControl?: string | null;
  metadata?: Record<string, string>;
}

/** The two stores, for each other only: what is written to one is committed by the other. */
export interface FaceStores extends AsyncDisposable {
  readonly metaStore: FaceMetaStore;
  readonly htmlStore: FaceHtmlStore;
  /** Gives back the leases that are held, and closes the connections if they are its own. */
  close(): Promise<void>;
}

/** A commit under a lease that is another's by now, or has ended. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';

  /** @internal */
  constructor(how: string) {
    super(`the lease is lost: ${how}`);
  }
}

/** A lease that this process holds. */
interface Held {
  readonly cacheKey: string;
  readonly leaseOwner: string;
  /** `undefined`: no coordinator has a name for its key, and nothing is kept of it. */
  readonly lease: Lease | undefined;
  /** Ends its renewal. */
  readonly end: () => void;
}

/** A lookup that several callers share. */
interface Shared {
  readonly found: Promise<Lookup>;
  readonly sentAt: number;
}

/** What a name stands for. */
interface Named {
  readonly cacheKey: string;
  readonly generation: bigint;
}

const SHORTEST_LEASE_MS = 100;
const LONGEST_LEASE_MS = 300_000;
const LARGEST_BODY_BYTES = 64 << 20;
const NAMES_BYTES = 4 << 20;
/**
 * For so long, an answer that a page is not fresh serves everybody. Every visitor who waits asks each 25 ms: together they then
 * cost the coordinator as much as two of them, however many they are.
 */
const SHARED_MS = 20;

/**
 * FaceTheory's two stores on the coordinator: `createFaceApp({ isr: faceStores(...) })` renders each page once in the whole fleet.
 *
 * @throws LeaseholdError of the kind `configuration` for a malformed endpoint.
 */
export function faceStores(options: FaceStoresOptions = {}): FaceStores {
  const stores = new Stores(parseOptions(options, 'options'));
  return {
    metaStore: {
      get: (cacheKey) => stores.get(cacheKey),
      invalidate: (cacheKey) => stores.invalidate(cacheKey),
      tryAcquireLease: (input) => stores.tryAcquireLease(input),
      commitGeneration: (input) => stores.commitGeneration(input),
      releaseLease: (input) => stores.releaseLease(input),
    },
    htmlStore: {
      read: (key) => stores.read(key),
      write: (input) => stores.write(input),
    },
    close: () => stores.close(),
    [Symbol.asyncDispose]: () => stores.close(),
  };
}

class Stores {
  readonly #options: FaceStoresOptions;
  readonly #reach: Reach;
  readonly #ownsCoordinator: boolean;
  readonly #leases: LeaseKeeper;
  readonly #uncommitted: UncommittedBodies;
  readonly #committed: CommittedBodies;
  readonly #named = new LastKnown<Named>(NAMES_BYTES);
  readonly #held = new Map<string, Held>();
  readonly #lookups = new Map<string, Shared>();
  readonly #reading = new Map<string, Promise<FaceBody | undefined>>();

  constructor(options: FaceStoresOptions) {
    const { coordinator } = options;
    this.#options = options;
    const handle = handleOn(coordinator);
    this.#ownsCoordinator = handle.isOwn;
    this.#reach = new Reach(handle.coordinator, this.#timeoutMs, () => {});
    this.#leases = new LeaseKeeper(this.#reach, {
      patienceMs: this.#timeoutMs,
      onUnreachable: (error) => this.#report({ type: 'notReleased', error }),
    });
    this.#uncommitted = new UncommittedBodies(
      options.uncommittedBytes ?? 64 << 20,
      options.uncommittedMs ?? 600_000,
    );
    this.#committed = new CommittedBodies(options.localBytes ?? 32 << 20, options.localMaxAgeMs);
  }

  async get(cacheKey: string): Promise<FaceMetaRecord | null> {
    text(cacheKey, 'cacheKey');
    const found = await orUnnameable(this.#lookup(cacheKey));
    if (found === 'unnameable') {
      return null;
    }
    const at = this.#now();
    if (found.outcome !== 'missing') {
      this.#vouchFor(cacheKey, found);
      return underLease(recordOf(cacheKey, found, at), found.regeneration, at);
    }
    if (found.reason !== 'neverRendered') {
      this.#committed.purge(cacheKey);
      return null;
    }
    return found.regeneration ? underLease(emptyRecord(cacheKey), found.regeneration, at) : null;
  }

  #lookup(cacheKey: string): Promise<Lookup> {
    const shared = this.#lookups.get(cacheKey);
    if (shared) {
      return shared.found;
    }
    const found = this.#reach.demand((options) =>
      this.#reach.coordinator.lookup(this.#entry(cacheKey), {
        ...options,
        consistencyToken: this.#reach.token,
      }),
    );
    const begun = { found, sentAt: now() };
    const forget = () => {
      if (this.#lookups.get(cacheKey) === begun) {
        this.#lookups.delete(cacheKey);
      }
    };
    this.#lookups.set(cacheKey, begun);
    found.then(({ outcome }) => {
      if (outcome === 'fresh') {
        forget();
      } else {
        setTimeout(forget, Math.max(0, begun.sentAt + SHARED_MS - now())).unref();
      }
    }, forget);
    return found;
  }

  async invalidate(cacheKey: string): Promise<void> {
    text(cacheKey, 'cacheKey');
    const { tenant } = this.#options;
    try {
      await this.#reach.invalidate((coordinator) => coordinator.invalidate([{ tenant, key: cacheKey }]));
    } finally {
      // What was asked before does not know of it.
      this.#lookups.delete(cacheKey);
    }
  }

  async tryAcquireLease(input: FaceAcquireInput): Promise<FaceAcquired> {
    const { cacheKey, leaseOwner, nowMs, fallbackRevalidateSeconds } = input;
    const ttlMs = Math.min(Math.max(SHORTEST_LEASE_MS, input.leaseDurationMs), LONGEST_LEASE_MS);
    const acquired = await orUnnameable(
      this.#reach.demand((options) =>
        this.#reach.coordinator.acquire(this.#entry(cacheKey), {
          ...options,
          ttlMs,
          consistencyToken: this.#reach.token,
          owner: leaseOwner || undefined,
        }),
      ),
    );
    this.#lookups.delete(cacheKey);
    if (acquired === 'unnameable') {
      const holder = { owner: leaseOwner, remainingMs: ttlMs };
      const record = underLease(emptyRecord(cacheKey, fallbackRevalidateSeconds), holder, nowMs);
      return { acquired: true, record, leaseToken: this.#holdNothing(input) };
    }
    const recordFor = (current: CurrentPage | undefined): FaceMetaRecord => {
      if (current) {
        this.#vouchFor(cacheKey, current);
        return recordOf(cacheKey, current, this.#now());
      }
      this.#committed.deleteOf(cacheKey);
      return emptyRecord(cacheKey, fallbackRevalidateSeconds);
    };
    const notAcquired = (record: FaceMetaRecord) => ({ acquired: false, record, leaseToken: null });
    switch (acquired.outcome) {
      case 'granted': {
        const { lease } = acquired;
        const holder = { owner: leaseOwner, remainingMs: lease.remainingMs };
        return {
          acquired: true,
          record: underLease(recordFor(lease.previous), holder, nowMs),
          leaseToken: this.#hold(input, lease, ttlMs),
        };
      }
      case 'ready':
        return notAcquired(recordFor(acquired));
      case 'held':
        return notAcquired(underLease(recordFor(acquired.previous), acquired.regeneration, this.#now()));
      case 'backingOff': {
        const leaseExpiresAt = this.#now() + acquired.remainingMs;
        return notAcquired({ ...recordFor(acquired.previous), leaseExpiresAt });
      }
      case 'ended':
        throw LeaseholdError.protocol('a lease ended before it was granted');
    }
  }

  #hold({ cacheKey, leaseOwner }: FaceAcquireInput, lease: Lease, ttlMs: number): string {
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    if (this.#options.renewLeases ?? true) {
      void lease.renewWhile(() => ended, ttlMs);
    }
    const leaseToken = tokenOf(lease.requestId, lease.generation);
    this.#held.set(leaseToken, { cacheKey, leaseOwner, lease, end });
    return leaseToken;
  }

  /** For a page that is rendered for its visitor only: how long its key is may be that one's choice, and no fault of the page's. */
  #holdNothing({ cacheKey, leaseOwner }: FaceAcquireInput): string {
    const leaseToken = tokenOf(RequestId.random(), 0n);
    this.#held.set(leaseToken, { cacheKey, leaseOwner, lease: undefined, end: () => {} });
    return leaseToken;
  }

  #heldAs({ cacheKey, leaseOwner, leaseToken }: FaceReleaseInput): Held | undefined {
    const held = this.#held.get(leaseToken);
    return held?.cacheKey === cacheKey && held.leaseOwner === leaseOwner ? held : undefined;
  }

  async commitGeneration(input: FaceCommitInput): Promise<void> {
    const { cacheKey, leaseToken, htmlPointer } = input;
    const held = this.#heldAs(input);
    if (!held) {
      throw new LeaseLostError('it was not granted to this process, or it has ended');
    }
    const html = this.#uncommitted.get(htmlPointer);
    if (!html) {
      throw new Error(
        'the HTML of this commit was not written to the store that belongs to this one, or too long ago',
      );
    }
    const sidecarName = sidecarNameOf(htmlPointer);
    const { lease } = held;
    if (!lease) {
      this.#end(leaseToken, held);
      this.#uncommitted.delete(htmlPointer);
      this.#uncommitted.delete(sidecarName);
      return;
    }
    const sidecar = this.#uncommitted.get(sidecarName);
    const bodies = [
      { coming: this.#committed.begin(htmlPointer, cacheKey), body: html },
      ...(sidecar ? [{ coming: this.#committed.begin(sidecarName, cacheKey), body: sidecar }] : []),
    ];
    try {
      const page = {
        html: html.bytes,
        htmlName: htmlPointer,
        ...(sidecar && { sidecar: sidecar.bytes, sidecarName }),
        metadata: { ...metadataOf(input), ...this.#options.labels?.(cacheKey) },
      };
      const sizeBytes = bytesIn(page.html) + bytesIn(page.sidecar);
      const committed = await this.#reach.insist((options) => lease.commit(page, options), sizeBytes);
      this.#lookups.delete(cacheKey);
      this.#end(leaseToken, held);
      this.#uncommitted.delete(htmlPointer);
      this.#uncommitted.delete(sidecarName);
      switch (committed.outcome) {
        case 'committedStale':
        case 'committed':
          if (committed.outcome === 'committed' || !committed.purged) {
            for (const { coming, body } of bodies) {
              this.#committed.keep(coming, body);
            }
          }
          return;
        case 'superseded':
          throw new LeaseLostError('a newer page is current');
        case 'fenced':
          throw new LeaseLostError('another was granted it since, or it was given back');
      }
    } finally {
      for (const { coming } of bodies) {
        this.#committed.end(coming);
      }
    }
  }

  async releaseLease(input: FaceReleaseInput): Promise<void> {
    const held = this.#heldAs(input);
    if (held) {
      await this.#release(input.leaseToken, held, this.#options.backOff === true);
    }
  }

  async #release(leaseToken: string, held: Held, isFailed: boolean): Promise<void> {
    const { lease } = held;
    this.#end(leaseToken, held);
    if (!lease) {
      return;
    }
    await (isFailed ? this.#leases.fail(lease, 'no page was committed') : this.#leases.giveBack(lease));
    this.#lookups.delete(held.cacheKey);
  }

  #end(leaseToken: string, held: Held): void {
    held.end();
    this.#held.delete(leaseToken);
    // Which of several renders of one key wrote what, nobody can say.
    if (!Array.from(this.#held.values()).some(({ cacheKey }) => cacheKey === held.cacheKey)) {
      this.#uncommitted.deleteOf(held.cacheKey);
    }
  }

  async write({ key, body }: FaceWriteInput): Promise<{ etag?: string }> {
    const { etag } = this.#uncommitted.write(key, body);
    return { etag };
  }

  async read(name: string): Promise<{ body: Uint8Array; etag?: string } | null> {
    const found =
      this.#uncommitted.get(name) ?? this.#committed.vouched(name) ?? (await this.#readShared(name));
    return found ? { body: Uint8Array.from(found.bytes), etag: found.etag } : null;
  }

  async #readShared(name: string): Promise<FaceBody | undefined> {
    const reading = this.#reading.get(name) ?? this.#readFromCoordinator(name);
    this.#reading.set(name, reading);
    try {
      return await reading;
    } catch (error) {
      const copy = this.#committed.get(name);
      if (copy && error instanceof LeaseholdError && error.isOutage) {
        return copy;
      }
      throw error;
    } finally {
      this.#reading.delete(name);
    }
  }

  async #readFromCoordinator(name: string): Promise<FaceBody | undefined> {
    const named = this.#named.get(name) ?? parseUnnamed(name);
    const coming = this.#committed.begin(name, named?.cacheKey);
    try {
      const bytes =
        (parseUnnamed(name) ? undefined : await this.#bytesByName(name)) ??
        // Where the coordinator does not find the body of its current page, it learns so by this, and has it rendered again.
        (named && (await this.#bytesByPage(named)));
      if (!bytes) {
        this.#committed.delete(name);
        return undefined;
      }
      const body = { bytes, etag: etagOf(bytes) };
      this.#committed.keep(coming, body);
      return body;
    } finally {
      this.#committed.end(coming);
    }
  }

  #bytesByName(name: string): Promise<Uint8Array | undefined> {
    return this.#reach.demand(async (options) => {
      try {
        const served = await this.#reach.coordinator.serveObject(this.#options.tenant ?? '', name, {
          ...options,
          consistencyToken: this.#reach.token,
        });
        return await served.body.collect(LARGEST_BODY_BYTES);
      } catch (error) {
        if (error instanceof LeaseholdError && error.reason === 'OBJECT_NOT_FOUND') {
          return undefined;
        }
        throw error;
      }
    });
  }

  #bytesByPage({ cacheKey, generation }: Named): Promise<Uint8Array | undefined> {
    return this.#reach.demand(async (options) => {
      try {
        const { current, body } = await this.#reach.coordinator.servePage(this.#entry(cacheKey), {
          ...options,
          consistencyToken: this.#reach.token,
        });
        if (current.page.generation === generation) {
          return await body.collect(LARGEST_BODY_BYTES);
        }
        await body.return();
        return undefined;
      } catch (error) {
        if (error instanceof LeaseholdError && error.reason === 'PAGE_NOT_FOUND') {
          return undefined;
        }
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    // To be closed is no fault of the renders under way.
    const held = Array.from(this.#held);
    await Promise.all(held.map(([leaseToken, each]) => this.#release(leaseToken, each, false)));
    await this.#leases.idle();
    this.#uncommitted.clear();
    this.#committed.clear();
    if (this.#ownsCoordinator) {
      this.#reach.coordinator.close();
    }
  }

  /** A page may be served: so may its bodies. */
  #vouchFor(cacheKey: string, { page }: CurrentPage): void {
    const { generation, htmlName, sidecarName } = page;
    if (htmlName !== undefined) {
      this.#named.set(htmlName, { cacheKey, generation }, cacheKey.length);
      this.#committed.vouchFor(htmlName);
    } else {
      this.#committed.vouchFor(recordOf(cacheKey, { freshness: 'fresh', page }, 0).htmlPointer ?? '');
    }
    if (sidecarName !== undefined) {
      this.#committed.vouchFor(sidecarName);
    }
  }

  #entry(cacheKey: string): EntryRef {
    const { tenant, deployment, labels } = this.#options;
    return { tenant, deployment, path: labels?.(cacheKey).path, key: cacheKey };
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  get #timeoutMs(): number {
    return this.#options.coordinatorTimeoutMs ?? 1500;
  }

  #report(report: FaceReport): void {
    try {
      (this.#options.onReport ?? warn)(report);
    } catch {
      // A report that cannot be made must not turn a page into an error.
    }
  }
}

/** What came of a call, unless no coordinator has a name for its entry. */
async function orUnnameable<T>(call: Promise<T>): Promise<T | 'unnameable'> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof LeaseholdError && error.isUnnameable) {
      return 'unnameable';
    }
    throw error;
  }
}

function tokenOf(requestId: RequestId, generation: bigint): string {
  return `${Buffer.from(requestId.expose()).toString('base64url')}.${generation}`;
}

function warn({ error }: FaceReport): void {
  const shown = error instanceof Error ? error.message : String(error);
  console.warn(
    `leasehold: a lease could not be given back, and delays others until it expires: error=${shown}`,
  );
}
