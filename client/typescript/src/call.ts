/**
 * One call: its attempts, its deadlines, and what is known of its effect when it fails.
 *
 * @module
 */

import {
  type Client,
  type ClientReadableStream,
  connectivityState,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { now, sleep } from './clock.js';
import { LeaseholdError } from './error.js';
import type { RandomSource } from './id.js';
import type { Lanes, Link } from './link.js';
import { backoffMs, type RetryBudget } from './retry.js';
import type { Backoff } from './service-config.js';
import type { Credentials } from './token.js';

/** What all calls of one coordinator share. */
export interface Shared {
  readonly lanes: Lanes;
  readonly budget: RetryBudget;
  readonly random: RandomSource;
  readonly maxAttempts: number;
  /** Absent: calls present no token. */
  readonly credentials?: Credentials;
}

/** How long a call may take. */
export interface Limits {
  /** One attempt. */
  readonly attemptMs: number;
  /** All of them, with the pauses. */
  readonly overallMs: number;
  /** What the coordinator may take on purpose, on top of both. A later attempt has what the earlier ones left of it. */
  readonly waitMs: number;
  /** Given up when no coordinator could be reached for so long, also where it might still wait. */
  readonly unreachableMs: number;
  readonly backoff: Backoff;
  readonly signal?: AbortSignal;
}

/** One attempt of a call. */
export interface Attempt {
  /** When it began, before anything was sent: what the coordinator's durations are counted from. */
  readonly startedAt: number;
  /** When it is given up. */
  readonly until: number;
  /** How long the coordinator may wait on purpose. */
  readonly waitMs: number;
  /** Whom it is made to, for people. */
  readonly endpoint: string;
  /** Whether there was one before it. */
  readonly isRetry: boolean;
  /** The header of that name. Absent: there is none. */
  readonly authorization: string | undefined;
}

/** The answer to a call, and when the attempt that got it began. */
export interface Answered<T> {
  readonly answer: T;
  readonly startedAt: number;
}

/** A method of the generated service. */
export interface Method<Req, Res> {
  readonly path: string;
  readonly requestSerialize: (message: Req) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Res;
}

/** Timers fire later than asked on a busy machine; only what is later than this is taken for a frozen process. */
const FROZEN_MS = 1000;

/** A call under way: counts its attempts. */
class Call {
  readonly #shared: Shared;
  readonly #endpoint: string;
  readonly #limits: Limits;
  readonly #begunAt: number;
  #deadline: number;
  #attempts = 0;
  #inDoubt = false;
  #last: LeaseholdError | undefined;
  #unreachableSince: number | undefined;
  #isRenewed = false;

  constructor(shared: Shared, endpoint: string, limits: Limits) {
    shared.budget.deposit();
    this.#shared = shared;
    this.#endpoint = endpoint;
    this.#limits = limits;
    this.#begunAt = now();
    this.#deadline = this.#begunAt + limits.overallMs + limits.waitMs;
  }

  /** The next attempt, or the end of the overall timeout. Its time begins when there is a token to present. */
  async attempt(): Promise<Attempt> {
    const { credentials } = this.#shared;
    const authorization = credentials && (credentials.atHand() ?? (await this.#token(credentials)));
    this.#limits.signal?.throwIfAborted();
    const startedAt = now();
    if (startedAt >= this.#deadline) {
      throw this.#tooLate();
    }
    this.#attempts += 1;
    const waitMs = Math.max(0, this.#limits.waitMs - (startedAt - this.#begunAt));
    const until = Math.min(startedAt + this.#limits.attemptMs + waitMs, this.#deadline);
    return { startedAt, until, waitMs, endpoint: this.#endpoint, isRetry: this.#attempts > 1, authorization };
  }

  async #token(credentials: Credentials): Promise<string> {
    try {
      return await credentials.get(Math.max(0, this.#deadline - now()), this.#limits.signal);
    } catch (error) {
      throw error instanceof LeaseholdError ? error.afterAttempts(this.#inDoubt) : error;
    }
  }

  /** Whether a call that was refused for its token or certificate may be tried at once with another one. */
  #renews(error: LeaseholdError, attempt: Attempt, renewConnection: () => boolean): boolean {
    if (!error.isUnauthenticated) {
      return false;
    }
    const { authorization } = attempt;
    const hasToken = authorization !== undefined && this.#shared.credentials?.refused(authorization);
    const may = renewConnection() || hasToken === true;
    const renews = may && !this.#isRenewed && now() < this.#deadline;
    this.#isRenewed ||= renews;
    return renews;
  }

  /** Pauses after a failed attempt, or gives the call up. `renewConnection` does so where certificates have changed. */
  async retryAfter(error: LeaseholdError, attempt: Attempt, renewConnection: () => boolean): Promise<void> {
    this.#inDoubt ||= error.mayHaveBeenApplied;
    const at = now();
    // A process that was frozen has not used the time that passed: its call is as good as new.
    const late = at - attempt.until;
    if (late > FROZEN_MS) {
      this.#deadline += late;
      this.#unreachableSince = undefined;
    }
    if (at - attempt.startedAt > this.#limits.attemptMs) {
      this.#unreachableSince = undefined;
    }
    this.#unreachableSince ??= at;
    if (this.#renews(error, attempt, renewConnection)) {
      this.#last = error;
      return;
    }
    if (!error.isRetryable) {
      throw error.afterAttempts(this.#inDoubt);
    }
    if (at >= this.#deadline) {
      this.#last = error;
      throw this.#tooLate();
    }
    if (this.#attempts >= this.#shared.maxAttempts || !this.#shared.budget.withdraw(at)) {
      throw error.afterAttempts(this.#inDoubt);
    }
    const backoff = this.#shared.random.jittered(backoffMs(this.#limits.backoff, this.#attempts));
    // A little later than asked: those that were refused together should not come back together.
    const pauseMs = (error.refusal?.retryAfterMs ?? 0) + backoff;
    this.#last = error;
    if (
      pauseMs >= this.#deadline - at ||
      at + pauseMs - this.#unreachableSince >= this.#limits.unreachableMs
    ) {
      throw this.#tooLate();
    }
    await sleep(pauseMs, this.#limits.signal);
  }

  #tooLate(): LeaseholdError {
    return LeaseholdError.deadlineExceeded(now() - this.#begunAt, this.#attempts, this.#inDoubt, this.#last);
  }
}

/** Makes attempts until one succeeds. What `once` throws that is no error of a call, such as an abort, ends it. */
export async function repeated<T>(
  shared: Shared,
  link: Link,
  limits: Limits,
  once: (client: Client, attempt: Attempt) => Promise<T>,
): Promise<Answered<T>> {
  const call = new Call(shared, link.endpoint, limits);
  for (;;) {
    const attempt = await call.attempt();
    const { generation, client } = link.client();
    try {
      await link.ready(client, generation, attempt.until - attempt.startedAt, limits.signal);
      // Another call may have replaced it since; a closed channel throws what is no error of a call.
      if (client.getChannel().getConnectivityState(false) === connectivityState.SHUTDOWN) {
        throw LeaseholdError.notSent(new Error('the connection was replaced'), link.endpoint);
      }
      return { answer: await once(client, attempt), startedAt: attempt.startedAt };
    } catch (error) {
      if (!(error instanceof LeaseholdError)) {
        throw error;
      }
      if (error.suspectsConnection) {
        link.replace(generation);
      }
      await call.retryAfter(error, attempt, () => link.renew(generation));
    }
  }
}

/** A call with one answer. `message` makes the request of each attempt, always with the same request id. */
export function unary<Req, Res>(
  shared: Shared,
  link: Link,
  limits: Limits,
  method: Method<Req, Res>,
  message: (attempt: Attempt) => Req,
): Promise<Answered<Res>> {
  return repeated(shared, link, limits, async (client, attempt) => {
    const request = method.requestSerialize(message(attempt));
    const answer = await settled<Buffer>(attempt, limits.signal, (done) =>
      client.makeUnaryRequest<Buffer, Buffer>(
        method.path,
        identity,
        identity,
        request,
        withDeadline(attempt),
        done,
      ),
    );
    return decoded(method, answer);
  });
}

/** A call with a stream of requests and one answer. `messages` makes them anew for each attempt. */
export function clientStreaming<Req, Res>(
  shared: Shared,
  link: Link,
  limits: Limits,
  method: Method<Req, Res>,
  messages: () => Iterable<Req>,
): Promise<Answered<Res>> {
  return repeated(shared, link, limits, async (client, attempt) => {
    const bytes = await settled<Buffer>(attempt, limits.signal, (done) => {
      const call = client.makeClientStreamRequest<Buffer, Buffer>(
        method.path,
        identity,
        identity,
        withDeadline(attempt),
        done,
      );
      // What goes wrong is heard from `done`; unheard, it would end the process.
      call.on('error', () => {});
      const rest = messages()[Symbol.iterator]();
      const send = () => {
        for (;;) {
          const next = rest.next();
          if (next.done) {
            call.end();
            return;
          }
          if (!call.write(method.requestSerialize(next.value))) {
            call.once('drain', send);
            return;
          }
        }
      };
      send();
      return call;
    });
    return decoded(method, bytes);
  });
}

/** The answers to a call whose answer is a stream: the first was read within the attempt, the others are read by `next`. */
export interface OpenStream<Res> {
  readonly first: Res | undefined;
  /** The next one within `silenceMs`; `undefined` at the end. */
  next(silenceMs: number, signal?: AbortSignal): Promise<Res | undefined>;
  /** Ends it. */
  cancel(): void;
  /** Its connection is bad. */
  suspect(): void;
}

/**
 * Opens a stream of answers, and waits for the first of them. Without a deadline of its own: that would end the stream,
 * which lasts as long as its reader takes.
 */
export async function serverStreaming<Req, Res>(
  shared: Shared,
  link: Link,
  limits: Limits,
  method: Method<Req, Res>,
  message: Req,
): Promise<OpenStream<Res>> {
  const opened = await repeated(shared, link, limits, async (client, attempt) => {
    const { generation } = link.client();
    const call = client.makeServerStreamRequest<Buffer, Buffer>(
      method.path,
      identity,
      identity,
      method.requestSerialize(message),
      presenting(attempt),
    );
    call.on('error', () => {});
    const messages = new Messages(
      call,
      method,
      link.endpoint,
      () => link.replace(generation),
      () => attempt.authorization !== undefined && shared.credentials?.refused(attempt.authorization),
    );
    try {
      return Object.assign(messages, { first: await messages.next(attempt.until - now(), limits.signal) });
    } catch (error) {
      messages.cancel();
      throw error;
    }
  });
  return opened.answer;
}

class Messages<Res> {
  readonly #call: ClientReadableStream<Buffer>;
  readonly #messages: AsyncIterator<Buffer>;
  readonly #method: Method<never, Res>;
  readonly #endpoint: string;
  readonly #suspect: () => void;
  readonly #refused: () => void;

  constructor(
    call: ClientReadableStream<Buffer>,
    method: Method<never, Res>,
    endpoint: string,
    suspect: () => void,
    refused: () => void,
  ) {
    this.#call = call;
    this.#messages = call[Symbol.asyncIterator]();
    this.#method = method;
    this.#endpoint = endpoint;
    this.#suspect = suspect;
    this.#refused = refused;
  }

  async next(silenceMs: number, signal?: AbortSignal): Promise<Res | undefined> {
    signal?.throwIfAborted();
    const next = this.#messages.next();
    // Whoever stops waiting leaves a promise behind; its end is of no interest any more.
    next.catch(() => {});
    const result = await new Promise<IteratorResult<Buffer>>((resolve, reject) => {
      const abort = () => reject(signal?.reason);
      const timer = setTimeout(() => reject(LeaseholdError.timedOut(silenceMs, this.#endpoint)), silenceMs);
      signal?.addEventListener('abort', abort, { once: true });
      next
        .then(resolve, (error: ServiceError) => {
          const judged = LeaseholdError.fromStatus(error, this.#endpoint);
          if (judged.isUnauthenticated) {
            this.#refused();
          }
          reject(judged);
        })
        .finally(() => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', abort);
        });
    });
    return result.done ? undefined : decoded(this.#method, result.value);
  }

  cancel(): void {
    this.#call.cancel();
  }

  suspect(): void {
    this.#suspect();
  }
}

/** Waits for the answer, until the attempt is given up. */
function settled<T>(
  attempt: Attempt,
  signal: AbortSignal | undefined,
  send: (done: (error: ServiceError | null, value?: T) => void) => { cancel(): void },
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const giveUp = (reason: unknown) => {
      finish();
      reject(reason);
      call.cancel();
    };
    const abort = () => giveUp(signal?.reason);
    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    const timer = setTimeout(
      () => giveUp(LeaseholdError.timedOut(attempt.until - attempt.startedAt, attempt.endpoint)),
      attempt.until - now(),
    );
    signal?.addEventListener('abort', abort, { once: true });
    const call = send((error, value) => {
      finish();
      if (error) {
        reject(LeaseholdError.fromStatus(error, attempt.endpoint));
      } else {
        resolve(value as T);
      }
    });
  });
}

/**
 * Who calls, and the deadline that the coordinator is to keep: a little shorter than the attempt. That it ran out of time is to be heard
 * from it, for a connection on which nothing is heard is replaced.
 */
function withDeadline(attempt: Attempt): Metadata {
  const timeoutMs = Math.max(1, attempt.until - now());
  const remoteMs = Math.max(1, Math.floor(timeoutMs - Math.min(timeoutMs / 10, 200)));
  const metadata = presenting(attempt);
  metadata.set('grpc-timeout', remoteMs < 1e8 ? `${remoteMs}m` : `${Math.floor(remoteMs / 1000)}S`);
  return metadata;
}

/** Who calls. */
function presenting({ authorization }: Attempt): Metadata {
  const metadata = new Metadata();
  if (authorization !== undefined) {
    metadata.set('authorization', authorization);
  }
  return metadata;
}

function decoded<Res>(method: Method<never, Res>, bytes: Buffer): Res {
  try {
    return method.responseDeserialize(bytes);
  } catch (error) {
    throw LeaseholdError.protocol('it does not decode', error);
  }
}

function identity(bytes: Buffer): Buffer {
  return bytes;
}
