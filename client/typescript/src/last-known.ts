/**
 * What this process knew last: for when the coordinator cannot be reached.
 *
 * @module
 */

/** A cache bounded by bytes, which forgets what was not used for the longest time. */
export class LastKnown<T> {
  readonly #limitBytes: number;
  readonly #entries = new Map<string, { readonly value: T; readonly sizeBytes: number }>();
  #sizeBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get(key: string): T | undefined {
    const entry = this.#entries.get(key);
    if (entry) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
    }
    return entry?.value;
  }

  /** Keeps it, unless it is larger than the whole cache may be. */
  set(key: string, value: T, sizeBytes: number): void {
    this.delete(key);
    if (sizeBytes > this.#limitBytes) {
      return;
    }
    this.#entries.set(key, { value, sizeBytes });
    this.#sizeBytes += sizeBytes;
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
    }
  }

  deleteIf(isUnwanted: (value: T, key: string) => boolean): void {
    for (const [key, { value }] of this.#entries) {
      if (isUnwanted(value, key)) {
        this.delete(key);
      }
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#sizeBytes = 0;
  }
}
