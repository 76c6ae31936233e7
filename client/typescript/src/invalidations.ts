/**
 * The invalidations that this process made itself.
 *
 * @module
 */

/** What all calls present: whoever has invalidated sees that. Several may be under way at a time, and are answered in any order. */
export class Invalidations {
  #token: string | undefined;
  #answers = 0;

  /** Of the latest one that was answered. */
  get token(): string | undefined {
    return this.#token;
  }

  /** Makes one by `call`, which answers with its token. */
  async make(call: () => Promise<string>): Promise<void> {
    const answersBefore = this.#answers;
    const token = await call();
    // One that began when all others were answered is later than they are, even where its position is not: then the log has
    // begun anew, and the token of the old one would be refused, and nothing be seen of this one.
    const isAfterAll = answersBefore === this.#answers;
    if (isAfterAll || this.#token === undefined || isAfter(token, this.#token)) {
      this.#token = token;
    }
    this.#answers += 1;
  }

  /** A coordinator did not know it: its log is another one. Whatever was invalidated since is not concerned. */
  forget(unknown: string): void {
    if (this.#token === unknown) {
      this.#token = undefined;
    }
  }
}

/** The order of tokens that the contract promises. */
function isAfter(token: string, other: string): boolean {
  return token.length === other.length ? token > other : token.length > other.length;
}
