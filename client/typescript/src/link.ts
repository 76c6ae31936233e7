/**
 * Connections to the coordinator, and how a bad one is replaced.
 *
 * @module
 */

import {
  type ChannelCredentials,
  Client,
  connectivityState,
  credentials,
  type ServiceError,
} from '@grpc/grpc-js';
import { now } from './clock.js';
import { LeaseholdError } from './error.js';
import type { Tls } from './tls.js';

/** How connections are made and watched over. */
export interface ConnectionSettings {
  /** As it was given, for people. */
  readonly endpoint: string;
  /** Such as `dns:///127.0.0.1:7420`. */
  readonly target: string;
  /** Absent: plain text. */
  readonly tls?: Tls;
  readonly connectTimeoutMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly maxReceivedBytes: number;
  readonly maxSentBytes: number;
}

/** Where an endpoint such as `https://10.0.0.7:7420` leads to. */
export interface Place {
  /** What the channel takes, such as `dns:///10.0.0.7:7420`. */
  readonly target: string;
  readonly isTls: boolean;
}

/** @throws LeaseholdError of the kind `configuration` unless it is `http://` or `https://`, a host and a port. */
export function parseEndpoint(endpoint: string): Place {
  let url: URL;
  try {
    url = new URL(endpoint);
  } catch {
    throw LeaseholdError.configuration(`endpoint ${JSON.stringify(endpoint)}: not a URL`);
  }
  const isTls = url.protocol === 'https:';
  if (!isTls && url.protocol !== 'http:') {
    throw LeaseholdError.configuration(
      `endpoint ${JSON.stringify(endpoint)}: must begin with http:// or https://`,
    );
  }
  if (
    url.username ||
    url.password ||
    (url.pathname !== '/' && url.pathname !== '') ||
    url.search ||
    url.hash
  ) {
    throw LeaseholdError.configuration('endpoint: only a host and a port may follow http:// or https://');
  }
  return { target: `dns:///${url.hostname}:${url.port || (isTls ? '443' : '80')}`, isTls };
}

/**
 * One connection at a time. A stock channel keeps using a black-holed connection until keepalive finds it dead; this one
 * is replaced by whoever finds it bad, once.
 */
export class Link {
  readonly #settings: ConnectionSettings;
  #generation = 0;
  #client: Client | undefined;
  /** What the channel in use was made with. */
  #credentials: ChannelCredentials | undefined;
  /** Calls that occupy it for long. */
  load = 0;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
  }

  /** Whom it leads to, for people. */
  get endpoint(): string {
    return this.#settings.endpoint;
  }

  /** The channel in use and its generation, to report it by. */
  client(): { generation: number; client: Client } {
    if (!this.#client) {
      this.#credentials = this.#settings.tls?.credentials() ?? credentials.createInsecure();
      this.#client = connect(this.#settings, this.#credentials);
    }
    return { generation: this.#generation, client: this.#client };
  }

  /** The channel of this generation is bad. Of all that report it, the first replaces it; calls in flight on it go on. */
  replace(generation: number): void {
    if (this.#generation === generation) {
      this.close();
    }
  }

  /**
   * Replaces the channel of this generation, where certificates have changed since it was made.
   *
   * @returns whether there is another one in its place, be it by whoever came first.
   */
  renew(generation: number): boolean {
    const { tls } = this.#settings;
    if (tls && this.#generation === generation && tls.credentials() !== this.#credentials) {
      this.close();
    }
    return this.#generation !== generation;
  }

  close(): void {
    this.#generation += 1;
    this.#client?.close();
    this.#client = undefined;
  }

  /**
   * Waits until the channel is connected, so that what fails before is known not to have been sent.
   *
   * Refused connections are tried again by the channel, with pauses of its own: were it replaced each time, every
   * caller would knock by itself at a coordinator that is starting.
   *
   * @throws LeaseholdError of the kind `notSent`.
   */
  async ready(client: Client, generation: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const { endpoint } = this.#settings;
    const channel = client.getChannel();
    let state = channel.getConnectivityState(true);
    if (state === connectivityState.READY) {
      return;
    }
    const until = now() + Math.min(timeoutMs, this.#settings.connectTimeoutMs);
    for (;;) {
      switch (state) {
        case connectivityState.READY:
          return;
        case connectivityState.TRANSIENT_FAILURE: {
          // Certificates are the likeliest reason, and which of them it is, nobody could guess.
          const why = this.#settings.tls && (await reasonOf(client));
          this.renew(generation);
          throw LeaseholdError.notSent(why, endpoint);
        }
        case connectivityState.SHUTDOWN:
          throw LeaseholdError.notSent(new Error('the connection was replaced'), endpoint);
        default: {
          const isChanged = await changed(channel, state, until - now(), signal);
          signal?.throwIfAborted();
          if (!isChanged) {
            this.replace(generation);
            throw LeaseholdError.notSent(new Error('the connection took too long'), endpoint);
          }
          state = channel.getConnectivityState(true);
        }
      }
    }
  }
}

const HEALTH = '/grpc.health.v1.Health/Check';
/** It is told at once, unless there is a connection by now that says nothing. */
const REASON_TIMEOUT_MS = 1000;

/** Why a channel is not connected: only a call is told. It asks after the health, should there be a connection by now. */
function reasonOf(client: Client): Promise<Error | undefined> {
  return new Promise((resolve) => {
    const same = (bytes: Buffer) => bytes;
    const told = (error: ServiceError | null) => {
      clearTimeout(timer);
      const why = /Last error: (.*)/s.exec(error?.details ?? '')?.[1];
      resolve(why === undefined ? undefined : new Error(why));
    };
    const timer = setTimeout(() => call?.cancel(), REASON_TIMEOUT_MS);
    let call: { cancel(): void } | undefined;
    try {
      call = client.makeUnaryRequest(HEALTH, same, same, Buffer.alloc(0), told);
    } catch {
      // It was replaced, and is closed.
      told(null);
    }
  });
}

/** Whether the state is another one within the time; the wall clock that the channel itself would go by may be set back. */
function changed(
  channel: ReturnType<Client['getChannel']>,
  state: connectivityState,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (isChanged: boolean) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      resolve(isChanged);
    };
    const abort = () => settle(false);
    const timer = setTimeout(abort, timeoutMs);
    signal?.addEventListener('abort', abort, { once: true });
    channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, (error) => settle(!error));
  });
}

function connect(settings: ConnectionSettings, secured: ChannelCredentials): Client {
  const serverName = settings.tls?.serverName;
  return new Client(settings.target, secured, {
    ...(serverName !== undefined && { 'grpc.ssl_target_name_override': serverName }),
    'grpc.keepalive_time_ms': settings.keepaliveIntervalMs,
    'grpc.keepalive_timeout_ms': settings.keepaliveTimeoutMs,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': settings.maxReceivedBytes,
    'grpc.max_send_message_length': settings.maxSentBytes,
    // Otherwise channels share their connections, and a new channel gets the bad one that it is to replace.
    'grpc.use_local_subchannel_pool': 1,
    // The coordinator is back within a second; the channel's own default would look again only after up to two minutes.
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 250,
    // Attempts are made here, where it is known which of them may have been applied, and where an acquire can say that
    // it is repeated.
    'grpc.enable_retries': 0,
    'grpc.service_config_disable_resolution': 1,
    // The coordinator is inside; what HTTP_PROXY names is for what is outside.
    'grpc.enable_http_proxy': 0,
  });
}

/** Waiting calls on one connection: well below what servers allow. */
const WAITERS_PER_LINK = 90;
/** Beyond so many connections, waiters share what there is. */
const WAITING_LINKS = 64;

/**
 * The connections of one coordinator: one for calls that are answered promptly, and others for calls that wait.
 *
 * A server allows a limited number of calls at a time on one connection. Were waiters to share it with the commit that
 * they wait for, they would keep it out until the last one has timed out.
 */
export class Lanes {
  readonly prompt: Link;
  readonly #settings: ConnectionSettings;
  readonly #waiting: Link[] = [];

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    this.prompt = new Link(settings);
  }

  /** A place for a call that waits, to be given back with {@link leave}. */
  enter(): Link {
    let link = this.#waiting.find((candidate) => candidate.load < WAITERS_PER_LINK);
    if (!link && this.#waiting.length < WAITING_LINKS) {
      link = new Link(this.#settings);
      this.#waiting.push(link);
    }
    link ??= this.#waiting.reduce((least, candidate) => (candidate.load < least.load ? candidate : least));
    link.load += 1;
    return link;
  }

  leave(link: Link): void {
    link.load -= 1;
  }

  close(): void {
    for (const link of [this.prompt, ...this.#waiting]) {
      link.close();
    }
  }
}
