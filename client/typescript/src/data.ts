/**
 * Cached data: fetched once in the whole fleet, kept for a while, refreshed in the background.
 *
 * @module
 */

import { now } from './clock.js';
import {
  BackingOffError,
  type DataCacheOptions,
  type DataReport,
  parseDataCacheOptions,
  warn,
} from './data-options.js';
import type { EntryRef } from './entry.js';
import { LeaseholdError } from './error.js';
import { bound, called, seconds, text } from './given.js';
import { LastKnown } from './last-known.js';
import type { Commit, Lease } from './lease.js';
import { isForGood, LeaseKeeper } from './lease-keeper.js';
import type { Page } from './page.js';
import { handleOn, Reach } from './reach.js';
import type { Scope } from './scope.js';
import { Uncached } from './uncached.js';

/** A value as it is stored, and since when. */
interface Copy {
  readonly bytes: Uint8Array;
  readonly generation: bigint;
  readonly bornAt: number;
  /** How long it was to be fresh. */
  readonly ttlMs: number;
}

/** One caller's wish. */
interface Wish {
  readonly key: string;
  readonly entry: EntryRef;
  readonly ttlMs: number;
  readonly boundMs: number;
  readonly fetch: () => unknown;
}

/** What a fetch came to. */
interface Fetched {
  /** `undefined`: the fetcher's value was. */
  readonly bytes: Uint8Array | undefined;
  /** Invalidated since the fetch began: of no use to those who asked after that. */
  readonly overtaken: boolean;
}

type Seen =
  | { readonly state: 'fresh'; readonly copy: Copy }
  | { readonly state: 'stale'; readonly copy: Copy; readonly isBeingRefreshed: boolean }
  | { readonly state: 'missing' | 'unreachable' };

/** Whose commit comes late looks at what came before it; after so many rounds its own value has to do. */
const ROUNDS = 4;
const LARGEST_VALUE_BYTES = 16 << 20;
/** Pauses that are remembered, so that not every stale hit asks for a lease that nobody gets. */
const REMEMBERED_PAUSES = 10_000;

/**
 * Cached data. Values are whatever `JSON` keeps: every caller gets a copy that went through it, also the one that fetched,
 * so that a hit and a miss look the same.
 *
 * Of one key, one fetch runs at a time in the whole fleet. What this process invalidated, it never sees again.
 */
export class DataCache implements AsyncDisposable {
  readonly #reach: Reach;
  readonly #options: DataCacheOptions;
  readonly #namespace: string;
  readonly #ownsCoordinator: boolean;
  readonly #lastKnown: LastKnown<Copy>;
  readonly #uncached: Uncached;
  readonly #fetching = new Map<string, Promise<Fetched>>();
  /** What is refreshed in the background: once at a time for each key. */
  readonly #refreshing = new Set<string>();
  readonly #leases: LeaseKeeper;
  readonly #pausedUntil = new Map<string, number>();
  /** Raised by every invalidation: what was asked for before one is not remembered after it. */
  #epoch = 0;

  /** @throws LeaseholdError of the kind `configuration` for a malformed namespace or endpoint. */
  constructor(given: DataCacheOptions = {}) {
    const options = parseDataCacheOptions(given, 'options');
    const { coordinator, namespace = 'default' } = options;
    if (!/^[\w.-]{1,128}$/.test(namespace)) {
      throw LeaseholdError.configuration(
        `namespace ${JSON.stringify(namespace)}: 1 to 128 letters, digits, dots, dashes and underscores`,
      );
    }
    this.#options = options;
    this.#namespace = namespace;
    const onUnreachable = (error: unknown) => this.#report({ type: 'unreachable', error });
    const { failureReason, coordinatorTimeoutMs: patienceMs = 1500 } = options;
    const handle = handleOn(coordinator);
    this.#ownsCoordinator = handle.isOwn;
    this.#reach = new Reach(handle.coordinator, patienceMs, onUnreachable);
    this.#leases = new LeaseKeeper(this.#reach, { patienceMs, onUnreachable, failureReason });
    this.#uncached = new Uncached(options.rememberUncachedMs);
    this.#lastKnown = new LastKnown(options.localBytes ?? 16 << 20, options.localMaxAgeMs);
  }

  /**
   * The value of `key`: fresh, it is returned; stale, it is returned and refreshed in the background; missing, or stale
   * beyond the bound, it is fetched, or waited for where another fetches it.
   *
   * @param key - any text of at most some 4000 bytes, percent-encoded as by `encodeURIComponent`.
   * @param ttlSeconds - how long a fetched value is fresh, counted from before the fetch; 0: never.
   * @throws what `fetcher` throws, where there is no copy within the bound; {@link BackingOffError} where it threw a moment
   *   ago; LeaseholdError of the kind `configuration` for a ttl, key or fetcher that is none, `INVALID_FIELD` for a key that is
   *   too long.
   */
  async withRevalidate<T>(key: string, ttlSeconds: number, fetcher: () => Promise<T> | T): Promise<T> {
    const wish = this.#wish(key, ttlSeconds, fetcher);
    for (let round = 1; ; round += 1) {
      const seen = await this.#look(wish, 'bounded');
      switch (seen.state) {
        case 'fresh':
          return decode(seen.copy.bytes);
        case 'stale':
          if (!seen.isBeingRefreshed) {
            this.#refresh(wish);
          }
          return decode(seen.copy.bytes);
        case 'unreachable':
          return decode((await this.#withoutCoordinator(wish)).bytes);
        case 'missing': {
          const joined = this.#fetching.get(key);
          const fetched = await (joined ?? this.#sharing(wish, () => this.#fetchInFleet(wish)));
          // Whoever fetched has a value that is newer than its call; whoever joined may not.
          if (!joined || !fetched.overtaken || round === ROUNDS) {
            return decode(fetched.bytes);
          }
        }
      }
    }
  }

  /**
   * Declares the value of a key out of date, everywhere: who asks next gets newly fetched data, and nobody sees the old
   * value: this process from now on, others within the coordinator's staleness bound (2 s; 200 ms in normal operation).
   * Change the data first, then invalidate.
   *
   * @throws LeaseholdError when the coordinator gave no answer; it may have been applied, and is harmless to repeat.
   */
  async invalidate(key: string): Promise<void> {
    await this.#invalidated([{ key: this.#storedKey(key) }], () => {
      this.#lastKnown.delete(key);
      this.#fetching.delete(key);
      this.#pausedUntil.delete(key);
      this.#uncached.forget(key);
    });
  }

  /**
   * The same for all values of this tenant and namespace, and of nothing else.
   *
   * @throws LeaseholdError as {@link invalidate}.
   */
  async invalidateAll(): Promise<void> {
    await this.#invalidated([{ tag: this.#tag() }], () => {
      this.#lastKnown.clear();
      this.#fetching.clear();
      this.#pausedUntil.clear();
      this.#uncached.clear();
    });
  }

  /**
   * Waits for whatever has a lease, in the background too, until that is committed or given back: before a process ends, or a
   * Lambda is frozen. Never rejects.
   */
  idle(): Promise<void> {
    return this.#leases.idle();
  }

  /**
   * Waits as {@link idle} does, and closes the connections if they are its own. Callers who wait for another's fetch go on as if the
   * coordinator could not be reached.
   */
  async close(): Promise<void> {
    await this.#leases.close();
    if (this.#ownsCoordinator) {
      this.#reach.coordinator.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #wish(key: string, ttlSeconds: number, fetch: () => unknown): Wish {
    const { tenant, deployment, staleBoundSeconds: chosen } = this.#options;
    seconds(ttlSeconds, 'ttlSeconds');
    called()(fetch, 'fetcher');
    const boundSeconds =
      typeof chosen === 'function'
        ? bound(chosen(ttlSeconds), 'staleBoundSeconds')
        : (chosen ?? Math.max(10 * ttlSeconds, 60));
    const entry = { key: this.#storedKey(key), tenant, deployment };
    return { key, entry, ttlMs: ttlSeconds * 1000, boundMs: boundSeconds * 1000, fetch };
  }

  /**
   * The same in every language, so that workers in any of them share their data. Begins as derived keys do, and has no question
   * mark, which each of those has: no page's key is ever the same.
   */
  #storedKey(key: string): string {
    const { tenant } = this.#options;
    return `${tenant || 'default'}::/${this.#tag()}/${encoded(key)}`;
  }

  #tag(): string {
    return `~data/${this.#namespace}`;
  }

  async #invalidated(
    targets: readonly ({ key: string } | { tag: string })[],
    forget: () => void,
  ): Promise<void> {
    const { tenant } = this.#options;
    const scopes: Scope[] = targets.map((target) => ({ tenant, ...target }));
    const forgotten = () => {
      this.#epoch += 1;
      forget();
    };
    forgotten();
    try {
      await this.#reach.invalidate((coordinator) => coordinator.invalidate(scopes, { depth: 'hard' }));
    } finally {
      // Once more: what was asked for meanwhile may have been answered from before.
      forgotten();
    }
  }

  async #look(wish: Wish, consistency: 'bounded' | 'strict'): Promise<Seen> {
    const epoch = this.#epoch;
    const known = this.#lastKnown.get(wish.key);
    const found = await this.#reach.ask((options) =>
      this.#reach.coordinator.lookup(wish.entry, {
        ...options,
        consistency,
        consistencyToken: this.#reach.token,
        body: 'inline',
        knownGeneration: known?.generation,
      }),
    );
    if (!found) {
      return { state: 'unreachable' };
    }
    if (found.outcome === 'missing') {
      this.#lastKnown.delete(wish.key);
      return { state: 'missing' };
    }
    const copy = await this.#copyOf(wish, found.page, known);
    if (!copy) {
      return { state: 'missing' };
    }
    this.#remember(wish.key, copy, epoch);
    if (found.outcome === 'fresh') {
      this.#uncached.forget(wish.key);
      return { state: 'fresh', copy };
    }
    return isWithinBound(wish, copy)
      ? { state: 'stale', copy, isBeingRefreshed: found.regeneration !== undefined }
      : { state: 'missing' };
  }

  /** `undefined`: its bytes are not to be had, or are no JSON. */
  async #copyOf(wish: Wish, page: Page, known?: Copy): Promise<Copy | undefined> {
    const bytes = await this.#reach.bytesOf(wish.entry, page, known, LARGEST_VALUE_BYTES);
    if (!bytes || !isJson(bytes)) {
      return undefined;
    }
    const ttlMs = page.metadata.revalidateMs ?? wish.ttlMs;
    return { bytes, generation: page.generation, bornAt: now() - page.ageMs, ttlMs };
  }

  #remember(key: string, copy: Copy, epoch: number): void {
    const isOlder = (this.#lastKnown.get(key)?.generation ?? 0n) > copy.generation;
    if (epoch === this.#epoch && !isOlder) {
      this.#lastKnown.set(key, copy, copy.bytes.length);
    }
  }

  /** Runs a fetch that callers of the same key may join. */
  async #sharing(wish: Wish, fetch: () => Promise<Fetched>): Promise<Fetched> {
    const running = fetch();
    this.#fetching.set(wish.key, running);
    try {
      return await running;
    } finally {
      if (this.#fetching.get(wish.key) === running) {
        this.#fetching.delete(wish.key);
      }
    }
  }

  /** The last known value, or one that is fetched and not kept. */
  async #withoutCoordinator(wish: Wish): Promise<Fetched> {
    const copy = this.#lastKnown.recent(wish.key);
    if (copy && isWithinBound(wish, copy)) {
      return { bytes: copy.bytes, overtaken: false };
    }
    return this.#fetching.get(wish.key) ?? this.#sharing(wish, () => this.#fetchUnkept(wish));
  }

  async #fetchUnkept(wish: Wish): Promise<Fetched> {
    const epoch = this.#epoch;
    try {
      const bytes = encode(await wish.fetch());
      if (bytes) {
        this.#uncached.doubt(wish.key);
      } else {
        this.#rememberUncached(wish, epoch);
      }
      return { bytes, overtaken: false };
    } catch (error) {
      // It is for the coordinator to say who tries again, and when.
      this.#uncached.forget(wish.key);
      throw error;
    }
  }

  #rememberUncached({ key }: Wish, epoch: number, isRefused = false): void {
    if (epoch === this.#epoch) {
      this.#uncached.remember(key, now(), isRefused);
    }
  }

  /** One fetch in the whole fleet, for which all others wait; unless it came to nothing that can be kept a moment ago. */
  async #fetchInFleet(wish: Wish): Promise<Fetched> {
    const way = this.#uncached.way(wish.key, now());
    if (way === 'atOnce') {
      return this.#fetchUnkept(wish);
    }
    try {
      return await this.#fetchInTurn(wish);
    } finally {
      if (way === 'findingOut') {
        this.#uncached.found(wish.key);
      }
    }
  }

  async #fetchInTurn(wish: Wish): Promise<Fetched> {
    const { leaseTtlMs: ttlMs, waitMs = 30_000 } = this.#options;
    for (let round = 1; round <= ROUNDS; round += 1) {
      const epoch = this.#epoch;
      const acquired = await this.#leases.acquire(wish.entry, { ttlMs, waitMs, body: 'inline' });
      switch (acquired?.outcome) {
        case undefined:
          return this.#fetchUnkept(wish);
        case 'granted': {
          const fetching = this.#fetchUnderLease(wish, acquired.lease, epoch);
          const fetched = await this.#leases.track(fetching);
          if (fetched) {
            return fetched;
          }
          break;
        }
        case 'ready': {
          const copy = await this.#copyOf(wish, acquired.page);
          if (copy) {
            this.#remember(wish.key, copy, epoch);
            return { bytes: copy.bytes, overtaken: false };
          }
          break;
        }
        case 'held': {
          const copy = await this.#previous(wish, acquired.previous?.page);
          return copy ? { bytes: copy.bytes, overtaken: false } : this.#fetchUnkept(wish);
        }
        case 'backingOff': {
          const copy = await this.#previous(wish, acquired.previous?.page);
          if (!copy) {
            throw new BackingOffError(acquired);
          }
          return { bytes: copy.bytes, overtaken: false };
        }
        case 'ended':
          break;
      }
    }
    return this.#fetchUnkept(wish);
  }

  async #previous(wish: Wish, page: Page | undefined): Promise<Copy | undefined> {
    const copy = page && (await this.#copyOf(wish, page));
    return copy && isWithinBound(wish, copy) ? copy : undefined;
  }

  /** `undefined`: the lease was lost meanwhile, and what its successor made is not to be had yet. */
  async #fetchUnderLease(wish: Wish, lease: Lease, epoch: number): Promise<Fetched | undefined> {
    const bornAt = now();
    let bytes: Uint8Array | undefined;
    try {
      bytes = encode(await lease.renewWhile(wish.fetch, this.#options.leaseTtlMs));
    } catch (error) {
      void this.#leases.fail(lease, error);
      const copy = await this.#previous(wish, lease.previous?.page);
      if (!copy) {
        throw error;
      }
      this.#report({ type: 'fetchFailed', key: wish.key, error });
      return { bytes: copy.bytes, overtaken: false };
    }
    if (!bytes) {
      this.#rememberUncached(wish, epoch);
      void this.#leases.giveBack(lease);
      this.#report({ type: 'notKept', key: wish.key, error: new TypeError('the value is undefined') });
      return { bytes, overtaken: false };
    }
    const committed = await this.#commit(wish, lease, bytes, epoch);
    switch (committed?.outcome) {
      case undefined:
      case 'committed':
        this.#remember(wish.key, { bytes, generation: lease.generation, bornAt, ttlMs: wish.ttlMs }, epoch);
        return { bytes, overtaken: false };
      case 'committedStale':
        if (committed.purged) {
          this.#lastKnown.delete(wish.key);
        }
        return { bytes, overtaken: true };
      case 'superseded':
      case 'fenced': {
        // The successor's value counts.
        const seen = await this.#look(wish, 'strict');
        return 'copy' in seen ? { bytes: seen.copy.bytes, overtaken: false } : undefined;
      }
    }
  }

  async #commit(wish: Wish, lease: Lease, bytes: Uint8Array, epoch: number): Promise<Commit | undefined> {
    const metadata = {
      contentType: 'application/json',
      revalidateMs: wish.ttlMs,
      ...(Number.isFinite(wish.boundMs) && {
        staleWhileRevalidateMs: wish.boundMs,
        staleIfErrorMs: wish.boundMs,
      }),
      tags: [this.#tag()],
    };
    return this.#leases.commit(lease, { html: bytes, metadata }, this.#options.leaseTtlMs, (error) => {
      if (isForGood(error)) {
        this.#rememberUncached(wish, epoch, true);
      }
      this.#report({ type: 'notKept', key: wish.key, error });
    });
  }

  /** In the background: nobody waits for it, and nobody sees it fail but who reads the reports. */
  #refresh(wish: Wish): void {
    const { key } = wish;
    const isVain = this.#uncached.isKnown(key, now()) || now() < (this.#pausedUntil.get(key) ?? 0);
    if (this.#refreshing.has(key) || isVain) {
      return;
    }
    this.#refreshing.add(key);
    const running = this.#refreshed(wish)
      .catch((error: unknown) => this.#report({ type: 'refreshFailed', key, error }))
      .finally(() => this.#refreshing.delete(key));
    this.#leases.track(running);
  }

  async #refreshed(wish: Wish): Promise<void> {
    const epoch = this.#epoch;
    const acquired = await this.#leases.acquire(wish.entry, { ttlMs: this.#options.leaseTtlMs });
    switch (acquired?.outcome) {
      case 'granted':
        this.#pausedUntil.delete(wish.key);
        await this.#fetchUnderLease(wish, acquired.lease, epoch);
        break;
      case 'backingOff':
        if (this.#pausedUntil.size >= REMEMBERED_PAUSES) {
          this.#pausedUntil.clear();
        }
        this.#pausedUntil.set(wish.key, now() + acquired.remainingMs);
        break;
      default:
        // Another does it, has done it, or nobody can.
        break;
    }
  }

  #report(report: DataReport): void {
    try {
      (this.#options.onReport ?? warn)(report);
    } catch {
      // A report that cannot be made must not turn a value into an error.
    }
  }
}

function isWithinBound({ boundMs }: Wish, { bornAt, ttlMs }: Copy): boolean {
  return now() - bornAt <= ttlMs + boundMs;
}

/** Half of a surrogate pair is no text: it has no bytes that a key could be made of. */
function encoded(key: string): string {
  try {
    return encodeURIComponent(text(key, 'key'));
  } catch (error) {
    throw error instanceof URIError ? LeaseholdError.input('key', 'must be well-formed text') : error;
  }
}

/** `undefined` for what JSON has no text for: `undefined` and functions. */
function encode(value: unknown): Uint8Array | undefined {
  const json = JSON.stringify(value) as string | undefined;
  return json === undefined ? undefined : Buffer.from(json);
}

function decode<T>(bytes: Uint8Array | undefined): T {
  return (bytes && JSON.parse(new TextDecoder().decode(bytes))) as T;
}

function isJson(bytes: Uint8Array): boolean {
  try {
    decode(bytes);
    return true;
  } catch {
    return false;
  }
}
