/**
 * How the leases of a worker's runtime end, and what has to be waited for until they have.
 *
 * @module
 */

import type { CallOptions } from './calls.js';
import { LeaseholdError } from './error.js';
import type { Commit, Lease, NewPage } from './lease.js';
import type { Reach } from './reach.js';

/** One for each runtime: what of its work is under way, and how the leases of it come to an end. */
export class LeaseKeeper {
  readonly #reach: Reach;
  readonly #onUnreachable: (error: unknown) => void;
  readonly #running = new Set<Promise<unknown>>();

  constructor(reach: Reach, onUnreachable: (error: unknown) => void) {
    this.#reach = reach;
    this.#onUnreachable = onUnreachable;
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
   * Commits. `undefined`: it is not known to be kept, which was reported; where it surely is not, the lease is given back.
   *
   * @param onRefused - hears of what no coordinator takes, such as a tag that is too long: the page is none the worse.
   */
  async commit(
    lease: Lease,
    page: NewPage,
    onRefused: (error: unknown) => void,
  ): Promise<Commit | undefined> {
    let failure: unknown;
    const commit = async (options: CallOptions) => {
      try {
        return await lease.commit(page, options);
      } catch (error) {
        failure = error;
        throw error;
      }
    };
    let committed: Commit | undefined;
    try {
      committed = await this.#reach.ask(commit);
    } catch (error) {
      onRefused(error);
    }
    const isInDoubt = failure instanceof LeaseholdError && failure.mayHaveBeenApplied;
    if (!committed && !isInDoubt) {
      // It cannot be kept as it is: whoever comes next need not wait for this lease to expire.
      this.giveBack(lease);
    }
    return committed;
  }

  /** Gives a lease back, as failed where a reason is given; tracked, for nobody waits for it. One that is not given back expires. */
  giveBack(lease: Lease, failure?: string): void {
    const givingBack = this.#reach.ask((options) =>
      failure === undefined ? lease.release(options) : lease.fail(failure, options),
    );
    this.track(givingBack.catch(this.#onUnreachable));
  }
}
