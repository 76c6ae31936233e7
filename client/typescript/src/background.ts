/**
 * What goes on after its caller was answered.
 *
 * @module
 */

/** Work that leaves a lease behind if the process ends before it does. */
export class Background {
  readonly #running = new Set<Promise<unknown>>();

  /** The same, but waited for by {@link idle}. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    const over = () => this.#running.delete(work);
    work.then(over, over);
    return work;
  }

  /** Until none is left, what begins meanwhile included. Never rejects. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) {
      await Promise.allSettled(this.#running);
    }
  }
}
