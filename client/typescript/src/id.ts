/**
 * Ids that this package makes, and secrets that must not end in a log.
 *
 * @module
 */

import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';

const REQUEST_ID_BYTES = 16;

/**
 * The identity of one intent: 16 random bytes, new for every intent, the same for every repetition of its call.
 *
 * That of an acquire becomes the token of the lease: whoever knows it can commit. It is therefore a secret, and shows
 * in neither `console.log` nor `JSON.stringify`.
 */
export class RequestId {
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** A new one: for a call that another process is to repeat, should this one die. */
  static random(): RequestId {
    return new RequestId(randomBytes(REQUEST_ID_BYTES));
  }

  /**
   * One that was made before, here or elsewhere.
   *
   * @throws RangeError unless there are 16 bytes.
   */
  static from(bytes: Uint8Array): RequestId {
    if (bytes.length !== REQUEST_ID_BYTES) {
      throw new RangeError(`a request id has ${REQUEST_ID_BYTES} bytes, not ${bytes.length}`);
    }
    return new RequestId(Uint8Array.from(bytes));
  }

  /** A copy of the secret itself, to hand it to another process. Keep it out of logs. */
  expose(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  toString(): string {
    return 'RequestId(..)';
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

/**
 * Names a hydration sidecar in the URL that its page's HTML holds. Whoever knows it can read the sidecar, if the page's
 * entry resolves for them too: it shows in neither `console.log` nor `JSON.stringify`.
 */
export class SidecarToken {
  readonly #text: string;

  /** As it was received, for instance in a URL. */
  constructor(text: string) {
    this.#text = text;
  }

  /** The token itself, to be put into a URL. */
  expose(): string {
    return this.#text;
  }

  toString(): string {
    return 'SidecarToken(..)';
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

/** Random values, from a source that is given at construction. */
export class RandomSource {
  readonly #uniform: () => number;

  /** @param uniform - answers with a number from 0 to below 1. */
  constructor(uniform: () => number = Math.random) {
    this.#uniform = uniform;
  }

  /** A random part, at least half, of a span: callers that failed together do not come back together. */
  jittered(spanMs: number): number {
    return spanMs * (0.5 + this.#uniform() / 2);
  }
}
