/**
 * Commits and invalidations as they happen.
 *
 * @module
 */

import { type OpenStream, serverStreaming } from './call.js';
import type { Calls } from './calls.js';
import { now, sleep } from './clock.js';
import { LeaseholdError } from './error.js';
import {
  CoordinatorServiceService as Service,
  type WatchResponse,
  type WatchFilter as WireFilter,
  ResyncReason as WireResync,
} from './generated/leasehold/v1/coordinator.js';
import { objectAs, optional, record, text } from './given.js';
import type { Link } from './link.js';
import { backoffMs } from './retry.js';
import { type Depth, parseDepth, parseScope, type Scope } from './scope.js';
import { date, nonEmpty, required } from './wire.js';

/** How a watch is to be made. */
export interface WatchOptions {
  /** Goes on after the message that carried this token, also of another process. Default: begins now. */
  readonly resumeToken?: string | undefined;
  /** Ends the watch; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

const parseOptions = record<WatchOptions>({
  resumeToken: optional(text),
  signal: optional(objectAs<AbortSignal>()),
});

/** Something that happened, and where the watch stands after it. */
export interface WatchMessage {
  /** Present it to go on after this message, also in another process. Opaque; not a secret. */
  readonly resumeToken: string;
  /** What happened. */
  readonly event: WatchEvent;
}

/**
 * Something that happened:
 *
 * - `started`: the watch stands; everything from here on comes. Also each time that it stands again;
 * - `resync`: events were missed: look up what matters;
 * - `committed`: a page became current;
 * - `invalidated`: pages were invalidated;
 * - `progress`: nothing happened for a while.
 */
export type WatchEvent =
  | { readonly type: 'started' | 'progress' }
  | { readonly type: 'resync'; readonly reason: ResyncReason }
  | ({ readonly type: 'committed' } & PageCommitted)
  | ({ readonly type: 'invalidated' } & PagesInvalidated);

/**
 * Why a watch has a gap. `otherRun`: the resume token is of another coordinator, or of another run of it; `tooOld`: what came
 * after it is no longer kept; `slow`: this watcher read too slowly; `other`: one that this version does not know.
 */
export type ResyncReason = 'otherRun' | 'tooOld' | 'slow' | 'other';

/** A page that became current. */
export interface PageCommitted {
  /** Whose. */
  readonly tenant: string;
  /** Of which release. Absent: none. */
  readonly deployment?: string | undefined;
  /** Its key. */
  readonly key: string;
  /** Its generation. */
  readonly generation: bigint;
  /** Its tags. */
  readonly tags: readonly string[];
  /** An invalidation overtook it: it is not fresh. */
  readonly stale: boolean;
}

/** Pages that were invalidated. */
export interface PagesInvalidated {
  /** The scopes, as far as they concern what is watched. */
  readonly scopes: readonly Scope[];
  /** How deep. */
  readonly depth: Depth;
  /** When, by the coordinator's clock: for people. */
  readonly at?: Date | undefined;
  /** Present it to see pages as of this invalidation. */
  readonly consistencyToken: string;
}

interface Open {
  readonly stream: OpenStream<WatchResponse>;
  readonly link: Link;
  /** Read while it was opened, and not passed on yet. */
  unread: WatchResponse | undefined;
}

/** A coordinator says every 15 s, by default, that it is there. */
const SILENCE_MS = 60_000;

/**
 * A watch. Reconnects by itself, and goes on where it stood; where it cannot, an event of type `resync` says so.
 *
 * An error that is retryable says that there has been no watch for the overall timeout: iterate again to go on trying.
 * Leaving a `for await` ends the watch.
 */
export class Watch implements AsyncIterableIterator<WatchMessage>, AsyncDisposable {
  readonly #calls: Calls;
  readonly #filters: WireFilter[];
  readonly #signal: AbortSignal | undefined;
  /** Of what is under way, by the caller's signal or by {@link return}. */
  readonly #ending = new AbortController();
  #resumeToken: string | undefined;
  #open: Open | undefined;
  /** In a row. */
  #failures = 0;
  #askedPauseMs = 0;
  /** Refused for its token or certificate, and opened again at once, since it last brought something. */
  #isRenewed = false;
  #over = false;

  /** @internal */
  constructor(calls: Calls, filters: WireFilter[], options: WatchOptions) {
    const { signal, resumeToken } = parseOptions(options, 'options');
    this.#calls = calls;
    this.#filters = filters;
    this.#signal = signal;
    this.#resumeToken = resumeToken;
  }

  /** Where the watch stands: to go on from there in another process. */
  get resumeToken(): string | undefined {
    return this.#resumeToken;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /**
   * The next message.
   *
   * @throws LeaseholdError when there has been no watch for the overall timeout, or will not be one.
   */
  async next(): Promise<IteratorResult<WatchMessage, undefined>> {
    const abort = () => this.#ending.abort(this.#signal?.reason);
    if (this.#signal?.aborted) {
      abort();
    }
    this.#signal?.addEventListener('abort', abort, { once: true });
    try {
      return await this.#next();
    } finally {
      this.#signal?.removeEventListener('abort', abort);
    }
  }

  async #next(): Promise<IteratorResult<WatchMessage, undefined>> {
    const deadline = now() + this.#calls.limits('Watch', {}).overallMs;
    while (!this.#over) {
      try {
        return { done: false, value: await this.#step() };
      } catch (error) {
        if (this.#over) {
          break;
        }
        const wasOpen = this.#open !== undefined;
        const isUnauthenticated = error instanceof LeaseholdError && error.isUnauthenticated;
        this.#leave((stream) => {
          if (!isUnauthenticated) {
            stream.suspect();
          }
        });
        // Whoever opens it again presents what can be had by then. What was refused when it was opened has had that chance.
        if (wasOpen && isUnauthenticated && !this.#isRenewed) {
          this.#isRenewed = true;
          continue;
        }
        if (!(error instanceof LeaseholdError)) {
          this.#over = true;
          throw error;
        }
        this.#failures += 1;
        this.#askedPauseMs = error.refusal?.retryAfterMs ?? 0;
        this.#over ||= !error.isRetryable;
        if (this.#over || now() >= deadline) {
          throw error;
        }
      }
    }
    return { done: true, value: undefined };
  }

  /** Ends the watch. */
  async return(): Promise<IteratorResult<WatchMessage, undefined>> {
    this.#over = true;
    // Also what connects at the moment: nobody would end it later.
    this.#ending.abort();
    this.#leave();
    return { done: true, value: undefined };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** Connects where need be, and reads one message. */
  async #step(): Promise<WatchMessage> {
    this.#open ??= await this.#connect();
    if (this.#over) {
      // Ended when it had just connected.
      this.#leave();
      throw new Error('the watch is over');
    }
    const { stream } = this.#open;
    const message = this.#open.unread ?? (await stream.next(SILENCE_MS, this.#ending.signal));
    this.#open.unread = undefined;
    if (!message) {
      throw LeaseholdError.broken(new Error('the coordinator ended the watch'));
    }
    this.#resumeToken = nonEmpty(message.resumeToken) ?? this.#resumeToken;
    const event = parseEvent(message);
    if (event.type !== 'started') {
      this.#failures = 0;
      this.#isRenewed = false;
    }
    return { resumeToken: message.resumeToken, event };
  }

  async #connect(): Promise<Open> {
    const { shared } = this.#calls;
    const limits = this.#calls.limits('Watch', { signal: this.#ending.signal });
    if (this.#failures > 0) {
      const pause = shared.random.jittered(backoffMs(limits.backoff, this.#failures));
      await sleep(this.#askedPauseMs + pause, this.#ending.signal);
    }
    const link = shared.lanes.enter();
    try {
      const message = { filters: this.#filters, resumeToken: this.#resumeToken ?? '' };
      const stream = await serverStreaming(shared, link, limits, Service.watch, message);
      return { stream, link, unread: required(stream.first, 'the first message of a watch') };
    } catch (error) {
      shared.lanes.leave(link);
      throw error;
    }
  }

  #leave(before: (stream: OpenStream<WatchResponse>) => void = () => {}): void {
    if (this.#open) {
      before(this.#open.stream);
      this.#open.stream.cancel();
      this.#calls.shared.lanes.leave(this.#open.link);
      this.#open = undefined;
    }
  }
}

function parseEvent({ event }: WatchResponse): WatchEvent {
  const wire = required(event, 'the event of a watch');
  switch (wire.$case) {
    case 'started':
    case 'progress':
      return { type: wire.$case };
    case 'resync':
      return { type: 'resync', reason: parseResync(wire.value.reason) };
    case 'committed': {
      const { tenant, deployment, key, generation, tags, stale } = wire.value;
      return { type: 'committed', tenant, deployment: nonEmpty(deployment), key, generation, tags, stale };
    }
    case 'invalidated': {
      const { scopes, depth, at, consistencyToken } = wire.value;
      return {
        type: 'invalidated',
        scopes: scopes.map(parseScope),
        depth: parseDepth(depth),
        at: date(at),
        consistencyToken,
      };
    }
    case 'ended':
      throw LeaseholdError.broken(new Error('the coordinator goes down'));
  }
}

function parseResync(reason: WireResync): ResyncReason {
  switch (reason) {
    case WireResync.RESYNC_REASON_OTHER_RUN:
      return 'otherRun';
    case WireResync.RESYNC_REASON_TOO_OLD:
      return 'tooOld';
    case WireResync.RESYNC_REASON_SLOW:
      return 'slow';
    default:
      return 'other';
  }
}
