/**
 * What this process knew last: for when the coordinator cannot be reached.
 *
 * @module
 */

import { now } from './clock.js';

interface Kept<T> {
  readonly value: T;
  readonly sizeBytes: number;
  /** When it was known to be current. */
  readonly keptAt: number;
}

/** The greatest age of what is served in place of the coordinator's answer, where nobody says another. */
export const LONGEST_UNHEARD_MS = 3_600_000;
/** What an entry takes besides its bytes, about: an empty one is not for nothing. */
const OVERHEAD_BYTES = 512;

/** A cache bounded by bytes, which forgets what was not used for the longest time. */
export class LastKnown<T> {
  readonly #limitBytes: number;
  readonly #maxAgeMs: number;
  readonly #onForgotten: (key: string, value: T) => void;
  readonly #entries = new Map<string, Kept<T>>();
  #sizeBytes = 0;

  /** @param onForgotten - hears of each key that is there no more. */
  constructor(
    limitBytes: number,
    maxAgeMs = LONGEST_UNHEARD_MS,
    onForgotten: (key: string, value: T) => void = () => {},
  ) {
    this.#limitBytes = limitBytes;
    this.#maxAgeMs = maxAgeMs;
    this.#onForgotten = onForgotten;
  }

  get(key: string): T | undefined {
    const entry = this.#entries.get(key);
    if (entry) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
    }
    return entry?.value;
  }

  /** The same, where it was kept not too long ago to be served without having been asked for. */
  recent(key: string): T | undefined {
    const entry = this.#entries.get(key);
    return entry && now() - entry.keptAt <= this.#maxAgeMs ? this.get(key) : undefined;
  }

  /** Keeps it, unless it is larger than the whole cache may be. `sizeBytes` is what it takes beside its key. */
  set(key: string, value: T, sizeBytes: number): void {
    this.delete(key);
    const wholeBytes = OVERHEAD_BYTES + 2 * key.length + sizeBytes;
    if (wholeBytes > this.#limitBytes) {
      return;
    }
    this.#entries.set(key, { value, sizeBytes: wholeBytes, keptAt: now() });
    this.#sizeBytes += wholeBytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#sizeBytes <= this.#limitBytes) {
        break;
      }
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry) {
      this.#entries.delete(key);
      this.#sizeBytes -= entry.sizeBytes;
      this.#onForgotten(key, entry.value);
    }
  }

  clear(): void {
    for (const key of [...this.#entries.keys()]) {
      this.delete(key);
    }
  }
}
