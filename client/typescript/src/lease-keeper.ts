/**
 * How a worker's runtime comes by its leases, how these end, and what has to be waited for until they have.
 *
 * @module
 */

import type { CallOptions } from './calls.js';
import { sleep } from './clock.js';
import type { Acquire, AcquireOptions } from './coordinator.js';
import type { EntryRef } from './entry.js';
import { LeaseholdError } from './error.js';
import { RequestId } from './id.js';
import { bytesIn, type Commit, type Lease, type NewPage } from './lease.js';
import type { Reach } from './reach.js';

/** How the leases of a runtime end. */
export interface LeaseKeeping {
  /** For how long that is waited for, in milliseconds. */
  readonly patienceMs: number;
  /** Hears of what could not be given back. */
  readonly onUnreachable: (error: unknown) => void;
  /** What operators are told of a failure. Default: the error's message. */
  readonly failureReason?: ((error: unknown) => string) | undefined;
}

/** What a lease is asked for with. */
type Wish = Pick<AcquireOptions, 'ttlMs' | 'waitMs' | 'body'>;

/** What ends the wish for a lease. */
export interface Ends {
  /** Who wished for it went away. */
  readonly gone?: AbortSignal | undefined;
  /** It is needed no more, while another holds it. */
  readonly needless?: AbortSignal | undefined;
}

/** One for each runtime: what of its work is under way, how it comes by its leases, and how these come to an end. */
export class LeaseKeeper {
  readonly #reach: Reach;
  readonly #keeping: LeaseKeeping;
  readonly #running = new Set<Promise<unknown>>();
  /** What ends the wait of each who waits for a lease. */
  readonly #waiting = new Set<AbortController>();
  #isClosed = false;

  constructor(reach: Reach, keeping: LeaseKeeping) {
    this.#reach = reach;
    this.#keeping = keeping;
  }

  /** The same, but waited for by {@link idle}: work that leaves a lease behind if the process ends before it does. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    const over = () => this.#running.delete(work);
    work.then(over, over);
    return work;
  }

  /** Until no work is left, what begins meanwhile included. Never rejects. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) {
      await Promise.allSettled(this.#running);
    }
  }

  /** Wakes those who wait for a lease, and waits as {@link idle} does. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const waiting of this.#waiting) {
      waiting.abort();
    }
    await this.idle();
  }

  /**
   * Asks for the right to render an entry. `undefined`: there is no answer to be had, or none is waited for any more, because it is
   * needless or the runtime is closed.
   *
   * Who goes away, here or with the runtime, leaves no lease behind that was granted unheard.
   *
   * @throws what `gone` is aborted with; LeaseholdError when the caller's own input was refused.
   */
  async acquire(entry: EntryRef, wish: Wish, { gone, needless }: Ends = {}): Promise<Acquire | undefined> {
    gone?.throwIfAborted();
    if (this.#isClosed) {
      return undefined;
    }
    const requestId = RequestId.random();
    const waiting = new AbortController();
    const end = () => waiting.abort();
    this.#waiting.add(waiting);
    gone?.addEventListener('abort', end);
    needless?.addEventListener('abort', end);
    try {
      return await this.#reach.ask((options) =>
        this.#reach.coordinator.acquire(entry, {
          ...options,
          ...wish,
          consistencyToken: this.#reach.token,
          requestId,
          isRepetition: false,
          signal: waiting.signal,
        }),
      );
    } catch (error) {
      if (!waiting.signal.aborted) {
        throw error;
      }
      if (gone?.aborted || this.#isClosed) {
        this.track(this.#takeBack(entry, requestId));
      }
      gone?.throwIfAborted();
      return undefined;
    } finally {
      this.#waiting.delete(waiting);
      gone?.removeEventListener('abort', end);
      needless?.removeEventListener('abort', end);
    }
  }

  /** What was granted to a call that nobody waited for any more is known by its request id. */
  async #takeBack(entry: EntryRef, requestId: RequestId): Promise<void> {
    try {
      const acquired = await this.#reach.insist((options) =>
        this.#reach.coordinator.acquire(entry, { ...options, requestId }),
      );
      if (acquired.outcome === 'granted') {
        await this.#reach.insist((options) => acquired.lease.release(options));
      }
    } catch (error) {
      this.#keeping.onUnreachable(error);
    }
  }

  /**
   * Commits, under a lease that is renewed for `ttlMs` each time until that is answered. `undefined`: it is not known to be kept.
   * Whoever it was rendered for waits no longer than for any answer; the commit goes on by itself after that, however long the
   * body is on its way.
   *
   * @param onNotKept - hears why the page will surely not be kept, or may not be, before its lease is given back: the page is none
   *   the worse.
   */
  async commit(
    lease: Lease,
    page: NewPage,
    ttlMs: number | undefined,
    onNotKept: (error: unknown) => void,
  ): Promise<Commit | undefined> {
    return this.#patiently(this.track(this.#committed(lease, page, ttlMs, onNotKept)));
  }

  /** What came of it as far as that is known in time; it goes on by itself. */
  async #patiently<T>(work: Promise<T>): Promise<T | undefined> {
    const over = new AbortController();
    const patience = sleep(this.#keeping.patienceMs, over.signal).catch(() => {});
    try {
      return await Promise.race([work, patience.then(() => undefined)]);
    } finally {
      over.abort();
    }
  }

  /** Never rejects. */
  async #committed(
    lease: Lease,
    page: NewPage,
    ttlMs: number | undefined,
    onNotKept: (error: unknown) => void,
  ): Promise<Commit | undefined> {
    try {
      const commit = () =>
        this.#reach.insist(
          (options) => lease.commit(page, options),
          bytesIn(page.html) + bytesIn(page.sidecar),
        );
      return await lease.renewWhile(commit, ttlMs);
    } catch (error) {
      onNotKept(error);
      if (!(error instanceof LeaseholdError && error.mayHaveBeenApplied)) {
        // It cannot be kept as it is: whoever comes next need not wait for this lease to expire.
        void this.giveBack(lease);
      }
      return undefined;
    }
  }

  /**
   * Gives a lease back. Resolves when that is done, or has taken as long as any answer: it goes on by itself, and nobody has to wait
   * for it. One that is not given back expires. Never rejects.
   */
  giveBack(lease: Lease): Promise<void> {
    return this.#ended((options) => lease.release(options));
  }

  /** The same, after a render that failed. */
  fail(lease: Lease, error: unknown): Promise<void> {
    const reason = this.#reasonOf(error);
    return this.#ended((options) => lease.fail(reason, options));
  }

  async #ended(call: (options: CallOptions) => Promise<unknown>): Promise<void> {
    await this.#patiently(this.track(this.#reach.insist(call).catch(this.#keeping.onUnreachable)));
  }

  #reasonOf(error: unknown): string {
    const { failureReason } = this.#keeping;
    try {
      return String(failureReason ? failureReason(error) : error instanceof Error ? error.message : error);
    } catch {
      // Who cannot say why does not want operators to read the error's own words.
      return '';
    }
  }
}

/** Whether what could not be kept will not be the next time either: it is what no coordinator takes. */
export function isForGood(error: unknown): boolean {
  return (
    !(error instanceof LeaseholdError) || error.reason === 'INVALID_FIELD' || error.kind === 'configuration'
  );
}
