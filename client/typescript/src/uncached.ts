/**
 * What came out as one caller's only: what Varnish calls hit-for-miss.
 *
 * It is never committed. Were each of its callers to take the lease, they would be served one after the other in the whole fleet, and
 * those who wait would wait for what never comes. So the callers after it go on at once, without the lease, until one comes out
 * for everybody: that one cannot be committed either, but the next one takes the usual way.
 *
 * @module
 */

interface Known {
  readonly until: number;
  /** Somebody takes the usual way, to find out. */
  readonly isTried: boolean;
  /** It was for everybody, but no coordinator takes it. */
  readonly isRefused: boolean;
}

/**
 * How a caller is to go on: `usual`, under the lease; `findingOut`, under the lease too, while the others go on without it, for
 * nobody is to wait for what may not come; `atOnce`, without.
 */
export type Way = 'usual' | 'findingOut' | 'atOnce';

/** For how long it is remembered, where nobody says otherwise. */
export const UNCACHED_MS = 10_000;
/** What is beyond so many is forgotten, the oldest first: it takes the usual way. */
const ENTRIES = 4096;

/** Remembers it for a while. */
export class Uncached {
  readonly #spanMs: number;
  readonly #known = new Map<string, Known>();
  readonly #waiting = new Map<string, Set<() => void>>();

  /** @param spanMs - for so long after the last one; 0: not at all. */
  constructor(spanMs = UNCACHED_MS) {
    this.#spanMs = spanMs;
  }

  /** Whoever is told `findingOut` has to say when it is over, by {@link found}. */
  way(key: string, now: number): Way {
    const known = this.#known.get(key);
    if (!known) {
      return 'usual';
    }
    if (now < known.until || known.isTried) {
      return 'atOnce';
    }
    if (now >= known.until + this.#spanMs) {
      // Too long ago for a crowd to go on all at once.
      this.#known.delete(key);
      return 'usual';
    }
    this.#known.set(key, { ...known, isTried: true });
    return 'findingOut';
  }

  /** The turn to find out is another's. */
  found(key: string): void {
    const known = this.#known.get(key);
    if (known) {
      this.#known.set(key, { ...known, isTried: false });
    }
  }

  isKnown(key: string, now: number): boolean {
    return now < (this.#known.get(key)?.until ?? -Infinity);
  }

  /** One came out as its caller's only; or, as `isRefused` says, as one that no coordinator takes. */
  remember(key: string, now: number, isRefused = false): void {
    if (this.#spanMs <= 0) {
      return;
    }
    this.#known.delete(key);
    this.#known.set(key, { until: now + this.#spanMs, isTried: false, isRefused });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= ENTRIES) {
        break;
      }
      this.#known.delete(oldest);
    }
    for (const tell of this.#waiting.get(key) ?? []) {
      tell();
    }
  }

  /** One came out for everybody, and it is not said whether a coordinator takes it. */
  doubt(key: string): void {
    if (!this.#known.get(key)?.isRefused) {
      this.#known.delete(key);
    }
  }

  /** There is one for everybody, or who gets one has to be the coordinator's say. */
  forget(key: string): void {
    this.#known.delete(key);
  }

  clear(): void {
    this.#known.clear();
  }

  /** Tells when it is remembered of a key; `stop` ends that. */
  onceKnown(key: string, tell: () => void): { stop(): void } {
    const told = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, told.add(tell));
    const stop = () => {
      told.delete(tell);
      if (told.size === 0 && this.#waiting.get(key) === told) {
        this.#waiting.delete(key);
      }
    };
    return { stop };
  }
}
