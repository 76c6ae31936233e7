/**
 * The token that says who calls: where it comes from, and when another one is asked for.
 *
 * @module
 */

import { readFile } from 'node:fs/promises';
import { now } from './clock.js';
import { LeaseholdError } from './error.js';
import { milliseconds, optional, record, text } from './given.js';

/** A token that says who calls. */
export interface Token {
  /** What goes into the header `authorization` after `Bearer `: visible ASCII without commas. */
  readonly value: string;
  /** It is over so many milliseconds after it was asked for. Absent: it holds until it is refused. */
  readonly expiresInMs?: number | undefined;
}

/** Answers with a token. */
export type TokenSource = () => Token | Promise<Token>;

/** Where a token comes from. */
export type TokenPlace =
  | { readonly kind: 'fixed'; readonly value: string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'source'; readonly ask: TokenSource };

/** What a token has to be. */
export const TOKEN_FORM = 'must be visible ASCII without commas, and not empty';

export function isToken(value: string): boolean {
  return /^[!-+\--~]+$/.test(value);
}

/** A token that expires is asked for anew so long before its end; one of a short life, after two thirds of it. */
const RENEWED_BEFORE_MS = 60_000;
/** A file of a token is read anew so often. */
const FILE_READ_INTERVAL_MS = 10_000;
/** How long getting a token may take. */
const TOKEN_TIMEOUT_MS = 10_000;
/** A source that failed while the token so far still holds is left alone for so long. */
const PAUSE_MS = 1000;

const parseToken = record<Token>({ value: text, expiresInMs: optional(milliseconds) });

interface Kept {
  /** The whole header. */
  readonly header: string;
  /** From then on another one is asked for. */
  renewAt: number;
  /** From then on it is not presented. */
  readonly endsAt: number;
}

/** The token in use, for all connections of one coordinator. */
export class Credentials {
  readonly #place: TokenPlace;
  #kept: Kept | undefined;
  /** What whoever needs a token waits for: the source is asked by one at a time. */
  #asking: Promise<string> | undefined;

  constructor(place: TokenPlace) {
    this.#place = place;
  }

  /** The header to present, where it need not be waited for. */
  atHand(): string | undefined {
    const kept = this.#kept;
    if (!kept || now() >= kept.endsAt) {
      return undefined;
    }
    if (now() >= kept.renewAt) {
      // It still holds: that the source is slow or down must not delay calls yet.
      this.#shareAsking().catch(() => {});
    }
    return kept.header;
  }

  /**
   * The header to present, waited for at most so long.
   *
   * @throws LeaseholdError `UNAUTHENTICATED` when there is no token to be had, or the signal's reason.
   */
  get(timeoutMs: number, signal?: AbortSignal): Promise<string> {
    const asking = this.#shareAsking();
    // Whoever stops waiting leaves it to others.
    asking.catch(() => {});
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const abort = () => reject(signal?.reason);
      const timer = setTimeout(() => reject(unanswered(timeoutMs)), timeoutMs);
      signal?.addEventListener('abort', abort, { once: true });
      asking.then(resolve, reject).finally(() => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
      });
    });
  }

  /**
   * Forgets the token that was refused, unless another one has taken its place.
   *
   * @returns whether there may be another one.
   */
  refused(header: string): boolean {
    if (this.#place.kind === 'fixed') {
      return false;
    }
    if (this.#kept?.header === header) {
      this.#kept = undefined;
    }
    return true;
  }

  #shareAsking(): Promise<string> {
    this.#asking ??= this.#renew().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #renew(): Promise<string> {
    const askedAt = now();
    const before = this.#kept;
    try {
      const { value, expiresInMs: lifeMs = Number.POSITIVE_INFINITY } = await timely(this.#ask());
      if (!isToken(value)) {
        throw LeaseholdError.noToken(`it ${TOKEN_FORM}`);
      }
      const header = `Bearer ${value}`;
      const endsAt = askedAt + lifeMs;
      const renewAt =
        this.#place.kind === 'file'
          ? endsAt
          : askedAt + Math.max(lifeMs - RENEWED_BEFORE_MS, (lifeMs / 3) * 2);
      this.#kept = { header, renewAt, endsAt };
      return header;
    } catch (error) {
      if (before) {
        before.renewAt = now() + PAUSE_MS;
      }
      throw error;
    }
  }

  async #ask(): Promise<Token> {
    const place = this.#place;
    switch (place.kind) {
      case 'fixed':
        return { value: place.value };
      case 'file':
        try {
          const value = (await readFile(place.path, 'utf8')).trim();
          return { value, expiresInMs: FILE_READ_INTERVAL_MS };
        } catch (error) {
          // Without the path: a token that is taken for one must not show.
          throw LeaseholdError.noToken(`its file cannot be read: ${codeOf(error)}`);
        }
      case 'source': {
        let answer: Token;
        try {
          answer = await place.ask();
        } catch (error) {
          // Without the error itself: those of HTTP clients hold the request, with what it was authorized by.
          const why = error instanceof Error ? error.message : 'it threw what is no error';
          throw LeaseholdError.noToken(`its source failed: ${why}`);
        }
        try {
          return parseToken(answer, 'token');
        } catch (error) {
          throw LeaseholdError.noToken(`its source gave none: ${(error as LeaseholdError).message}`);
        }
      }
    }
  }
}

/** What the system calls it, such as `ENOENT`. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
}

function unanswered(afterMs: number): LeaseholdError {
  return LeaseholdError.noToken(`its source did not answer within ${Math.round(afterMs)} ms`);
}

function timely<T>(answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    // Whoever waits has a timer of his own: this one keeps no process alive.
    const timer = setTimeout(() => reject(unanswered(TOKEN_TIMEOUT_MS)), TOKEN_TIMEOUT_MS).unref();
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
