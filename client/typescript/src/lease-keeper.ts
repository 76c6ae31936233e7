/**
 * How the leases of a worker's runtime end, and what has to be waited for until they have.
 *
 * @module
 */

import { sleep } from './clock.js';
import { LeaseholdError } from './error.js';
import { bytesIn, type Commit, type Lease, type NewPage } from './lease.js';
import type { Reach } from './reach.js';

/** How the leases of a runtime end. */
export interface LeaseKeeping {
  /** For how long a commit is waited for, in milliseconds. */
  readonly patienceMs: number;
  /** Hears of what could not be given back. */
  readonly onUnreachable: (error: unknown) => void;
  /** What operators are told of a failure. Default: the error's message. */
  readonly failureReason: ((error: unknown) => string) | undefined;
}

/** One for each runtime: what of its work is under way, and how the leases of it come to an end. */
export class LeaseKeeper {
  readonly #reach: Reach;
  readonly #keeping: LeaseKeeping;
  readonly #running = new Set<Promise<unknown>>();

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
    const committing = this.track(this.#committed(lease, page, ttlMs, onNotKept));
    const over = new AbortController();
    const patience = sleep(this.#keeping.patienceMs, over.signal).catch(() => undefined);
    try {
      return await Promise.race([committing, patience.then(() => undefined)]);
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
        this.giveBack(lease);
      }
      return undefined;
    }
  }

  /** Gives a lease back; tracked, for nobody waits for it. One that is not given back expires. */
  giveBack(lease: Lease): void {
    const givingBack = this.#reach.insist((options) => lease.release(options));
    this.track(givingBack.catch(this.#keeping.onUnreachable));
  }

  /** The same, after a render that failed. */
  fail(lease: Lease, error: unknown): void {
    const reason = this.#reasonOf(error);
    const givingBack = this.#reach.insist((options) => lease.fail(reason, options));
    this.track(givingBack.catch(this.#keeping.onUnreachable));
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
