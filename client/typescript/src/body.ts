/**
 * Bodies in chunks.
 *
 * @module
 */

import type { Limits, OpenStream } from './call.js';
import { LeaseholdError } from './error.js';

/** A message of a stream that begins with a head and goes on with chunks. */
interface Part {
  part?: { $case: 'chunk'; value: Uint8Array } | { $case: 'head' } | undefined;
}

/**
 * A body in chunks, in order. Ends with an error when the connection breaks, or when no chunk came within the attempt
 * timeout: what has been passed on by then cannot be taken back, so it is not retried. Leaving a `for await` ends it.
 */
export class BodyStream implements AsyncIterableIterator<Uint8Array> {
  readonly #stream: OpenStream<Part>;
  readonly #limits: Limits;
  readonly #leave: () => void;
  #over = false;

  /** @internal */
  constructor(stream: OpenStream<Part>, limits: Limits, leave: () => void) {
    this.#stream = stream;
    this.#limits = limits;
    this.#leave = leave;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /**
   * The next chunk.
   *
   * @throws LeaseholdError when the connection breaks or falls silent.
   */
  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#over) {
      return { done: true, value: undefined };
    }
    try {
      const message = await this.#stream.next(this.#limits.attemptMs, this.#limits.signal);
      if (!message) {
        return await this.return();
      }
      if (message.part?.$case !== 'chunk') {
        throw LeaseholdError.protocol('a chunk of a body is missing');
      }
      return { done: false, value: message.part.value };
    } catch (error) {
      await this.return();
      throw error;
    }
  }

  /** Ends it. */
  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (!this.#over) {
      this.#over = true;
      this.#stream.cancel();
      this.#leave();
    }
    return { done: true, value: undefined };
  }

  /**
   * All of it.
   *
   * @throws LeaseholdError of the kind `bodyTooLarge` beyond `limitBytes`; and what the stream ends with.
   */
  async collect(limitBytes: number): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const chunk of this) {
      sizeBytes += chunk.length;
      if (sizeBytes > limitBytes) {
        throw LeaseholdError.bodyTooLarge(limitBytes);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }
}
