/**
 * Keeps an outage of the coordinator from costing every request a timeout.
 *
 * @module
 */

const FAILURES_TO_OPEN = 3;
const FIRST_PAUSE_MS = 100;
/** At most so long after the coordinator is back, it is asked again. */
const LONGEST_PAUSE_MS = 500;

/** Whether to ask. `trial`: once, to learn whether the coordinator is back; others are told `no` meanwhile. */
export type Verdict = 'yes' | 'trial' | 'no';

/** A circuit breaker: after a few failures in a row, calls are not tried for a short while. */
export class Breaker {
  #failures = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #pausedUntil = 0;

  /** Whether the coordinator is to be asked at `now`. Whoever is told to must report how it went. */
  ask(now: number): Verdict {
    if (this.#failures < FAILURES_TO_OPEN) {
      return 'yes';
    }
    if (now < this.#pausedUntil) {
      return 'no';
    }
    // A trial of which nothing is heard delays the next one by no more than this.
    this.#pausedUntil = now + LONGEST_PAUSE_MS;
    return 'trial';
  }

  /** The coordinator answered, be it with a refusal. */
  succeeded(): void {
    this.#failures = 0;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  /** No coordinator could be reached, or none was able to answer; `verdict` is what the caller had been told. */
  failed(now: number, verdict: Verdict): void {
    this.#failures += 1;
    // Many calls fail together when an outage begins: only trials tell that it lasts.
    if (verdict === 'trial') {
      this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
    }
    if (verdict === 'trial' || this.#failures === FAILURES_TO_OPEN) {
      this.#pausedUntil = now + this.#pauseMs;
    }
  }
}
