/**
 * The handle that calls are made on.
 *
 * @module
 */

import { BodyStream } from './body.js';
import { serverStreaming, unary } from './call.js';
import { type CallOptions, Calls, callFields, parseCallOptions } from './calls.js';
import { now } from './clock.js';
import { type EntryRef, toWireEntry } from './entry.js';
import { LeaseholdError } from './error.js';
import {
  HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from './generated/grpc/health/v1/health.js';
import {
  type AcquireLeaseResponse,
  type LookupResponse,
  CoordinatorServiceService as Service,
  Consistency as WireConsistency,
  BodyKind as WireKind,
  MissingReason as WireMissing,
} from './generated/leasehold/v1/coordinator.js';
import { bigint, flag, objectAs, optional, record, size, milliseconds as span, text, word } from './given.js';
import { RandomSource, RequestId, type SidecarToken } from './id.js';
import { type BodyKind, Lease } from './lease.js';
import { Lanes, type Link, parseEndpoint } from './link.js';
import {
  type BodyDelivery,
  type CurrentPage,
  type FreshPage,
  parseDelivery,
  parseFresh,
  parseRegeneration,
  parseStale,
  type Regeneration,
  type StalePage,
  toWireDelivery,
} from './page.js';
import { parseRetryOptions, RetryBudget, type RetryOptions } from './retry.js';
import {
  type Depth,
  parseGivenDepth,
  type Scope,
  toWireDepth,
  toWireFilters,
  toWireScopes,
  type WatchFilter,
} from './scope.js';
import { type ParsedSecurity, parseSecurity, type Security, type SecurityOptions } from './security.js';
import { type ServiceConfig, serviceConfig } from './service-config.js';
import { Watch, type WatchOptions } from './watch.js';
import { milliseconds, required, toDuration, toOptionalDuration } from './wire.js';

/** Where a coordinator on this machine listens by default. */
export const DEFAULT_ENDPOINT = 'http://127.0.0.1:7420';

/** How a {@link Coordinator} is configured. */
export interface CoordinatorOptions {
  /** The coordinator, or what balances between several; with `https://` by TLS. Default: {@link DEFAULT_ENDPOINT}. */
  readonly endpoint?: string | undefined;
  /** Who calls, and whom to believe. Default: nobody, and for `https://` the authorities that Node.js knows. */
  readonly security?: Security | SecurityOptions | undefined;
  /** The name that leases are acquired under, for people: a worker's, 1 to 256 bytes. Default: `leasehold-client`. */
  readonly owner?: string | undefined;
  /** How long one attempt of a call may take, in milliseconds; where it waits, on top of that. Default: 5 s. */
  readonly attemptTimeoutMs?: number | undefined;
  /**
   * How long a call may take with all its attempts, in milliseconds; where it waits, on top of that. Default: that of the
   * service config, 20 s.
   */
  readonly timeoutMs?: number | undefined;
  /** How long a connection may take to be made, in milliseconds. Default: 2 s. */
  readonly connectTimeoutMs?: number | undefined;
  /** After so many milliseconds of silence the coordinator is asked for a sign of life. Default: 10 s. */
  readonly keepaliveIntervalMs?: number | undefined;
  /** After so many milliseconds without that sign the connection is given up. Default: 5 s. */
  readonly keepaliveTimeoutMs?: number | undefined;
  /** The largest message to receive, in bytes. Default: 4 MiB, like the coordinator's. */
  readonly maxReceivedBytes?: number | undefined;
  /** The largest message to send, in bytes. Default: 4 MiB, like the coordinator's. */
  readonly maxSentBytes?: number | undefined;
  /**
   * HTML and sidecar of more than so many bytes together are uploaded ahead of their commit. Default: 3 MiB, the most
   * that a coordinator takes inline by default.
   */
  readonly inlineLimitBytes?: number | undefined;
  /** How calls are repeated. */
  readonly retry?: RetryOptions | undefined;
  /** What timeouts and pauses are by default. Default: the one that all languages share, {@link serviceConfig}. */
  readonly serviceConfig?: ServiceConfig | undefined;
}

const parseOptions = record<Omit<CoordinatorOptions, 'security'> & { security?: ParsedSecurity | undefined }>(
  {
    endpoint: optional(text),
    security: optional(parseSecurity),
    owner: optional(text),
    attemptTimeoutMs: optional(span),
    timeoutMs: optional(span),
    connectTimeoutMs: optional(span),
    keepaliveIntervalMs: optional(span),
    keepaliveTimeoutMs: optional(span),
    maxReceivedBytes: optional(size),
    maxSentBytes: optional(size),
    inlineLimitBytes: optional(size),
    retry: optional(parseRetryOptions),
    serviceConfig: optional(objectAs<ServiceConfig>()),
  },
);

/** How a lookup is to be made. */
export interface LookupOptions extends CallOptions {
  /**
   * How current the answer must be. `bounded`: at most one tail interval (200 ms) behind the invalidations, which costs
   * the store nothing when warm; `strict`: reads the log and the entry first. Default: `bounded`.
   */
  readonly consistency?: 'bounded' | 'strict' | undefined;
  /** From {@link Coordinator.invalidate}: the answer takes that invalidation into account, and waits where need be. */
  readonly consistencyToken?: string | undefined;
  /** Whether to send the HTML along. Default: no. */
  readonly body?: BodyDelivery | undefined;
  /** The generation that the caller has a copy of: its body is left out. */
  readonly knownGeneration?: bigint | undefined;
}

const consistencyToken = optional(text);
const consistency = optional(word('bounded', 'strict'));
const readFields = {
  ...callFields,
  consistencyToken,
  body: optional(parseDelivery),
  knownGeneration: optional(bigint),
};
const parseLookupOptions = record<LookupOptions>({ ...readFields, consistency });

/** What is current, and who renders the entry now. */
export type Lookup = {
  /** Absent: nobody, as far as the coordinator that was asked knows. */
  readonly regeneration?: Regeneration | undefined;
} & (
  | ({ readonly outcome: 'fresh' } & FreshPage)
  | ({ readonly outcome: 'stale' } & StalePage)
  | { readonly outcome: 'missing'; readonly reason: MissingReason }
);

/**
 * Why there is no page: `neverRendered`, or not regenerated for the whole retention; `purged` by a hard invalidation;
 * `bodyGone`, its stored body is gone, which heals by being rendered again; `other`, one that this version does not know.
 */
export type MissingReason = 'neverRendered' | 'purged' | 'bodyGone' | 'other';

/** How a lease is to be acquired. */
export interface AcquireOptions extends CallOptions {
  /** How long the lease is to last without renewal, in milliseconds: 100 to the coordinator's limit (5 min). Default: 10 s. */
  readonly ttlMs?: number | undefined;
  /**
   * How long to wait, in milliseconds, when another holds the lease, for its page or for the lease to fall free. Cut down
   * to the coordinator's limit (60 s). Default: no wait.
   */
  readonly waitMs?: number | undefined;
  /** As in {@link LookupOptions}. */
  readonly consistencyToken?: string | undefined;
  /** Whether to send the HTML along with a page that is ready, or of the previous page. Default: no. */
  readonly body?: BodyDelivery | undefined;
  /** As in {@link LookupOptions}. */
  readonly knownGeneration?: bigint | undefined;
  /** The name to acquire it under. Default: the coordinator's `owner`. */
  readonly owner?: string | undefined;
  /** The identity of this attempt to render. Default: a new one. */
  readonly requestId?: RequestId | undefined;
  /** Whether a call with this `requestId` may have been made before. Default: yes, where one is given. */
  readonly isRepetition?: boolean | undefined;
}

const parseAcquireOptions = record<AcquireOptions>({
  ...readFields,
  ttlMs: optional(span),
  waitMs: optional(span),
  owner: optional(text),
  requestId: optional(objectAs<RequestId>()),
  isRepetition: optional(flag),
});

/** What became of the wish to render. */
export type Acquire =
  /** Render the page. */
  | { readonly outcome: 'granted'; readonly lease: Lease }
  /** Nothing to do: here is the page. Fresh; or, after a wait, the one that was regenerated meanwhile. */
  | ({ readonly outcome: 'ready' } & CurrentPage)
  /** Another renders, and still did so when the wait was over. `previous` absent: there is no page that may be served. */
  | {
      readonly outcome: 'held';
      readonly regeneration: Regeneration;
      readonly previous?: StalePage | undefined;
    }
  /** The last render failed; nobody is granted the lease for a while. */
  | ({ readonly outcome: 'backingOff' } & BackingOff)
  /** The lease of this very request id was committed or released before. */
  | { readonly outcome: 'ended' };

/** A pause after a failed render. */
export interface BackingOff {
  /** Ask again after so many milliseconds. */
  readonly remainingMs: number;
  /** Failures in a row. */
  readonly failures: number;
  /** What the last worker said. */
  readonly reason: string;
  /** The page so far. Absent: there is none that may be served. */
  readonly previous?: StalePage | undefined;
}

/** How an invalidation is to be made. */
export interface InvalidateOptions extends CallOptions {
  /** How deep. Default: `soft`. */
  readonly depth?: Depth | undefined;
  /** The identity of this intent: to repeat a call of which the outcome is unknown as one and the same. Default: new. */
  readonly requestId?: RequestId | undefined;
}

const parseInvalidateOptions = record<InvalidateOptions>({
  ...callFields,
  depth: optional(parseGivenDepth),
  requestId: optional(objectAs<RequestId>()),
});

/** How a page is to be streamed. */
export type ServePageOptions = CallOptions & Pick<LookupOptions, 'consistency' | 'consistencyToken'>;

/** How a body is to be streamed that is asked for by its token or by its name. */
export type ServeBodyOptions = CallOptions & Pick<LookupOptions, 'consistencyToken'>;

const parseServePageOptions = record<ServePageOptions>({ ...callFields, consistency, consistencyToken });
const parseServeBodyOptions = record<ServeBodyOptions>({ ...callFields, consistencyToken });

/** A page and its HTML. */
export interface ServedPage {
  /** What is current, without its body. */
  readonly current: CurrentPage;
  /** The HTML. */
  readonly body: BodyStream;
}

/** A hydration sidecar. */
export interface ServedSidecar {
  /** Its content type. */
  readonly contentType: string;
  /** Its length. */
  readonly sizeBytes: number;
  /** Its bytes. */
  readonly body: BodyStream;
}

/** A body that was read by the name that its worker gave it. */
export interface ServedObject {
  /** Which body of its page. */
  readonly kind: BodyKind;
  /** Its content type. */
  readonly contentType: string;
  /** Its length. */
  readonly sizeBytes: number;
  /** SHA-256 of its bytes. */
  readonly digest: Uint8Array;
  /** Its bytes. */
  readonly body: BodyStream;
}

/**
 * What the coordinator says of its health. `notServing`: it is starting, going down, or cut off from its store;
 * `unknown`: it does not say.
 */
export type Health = 'serving' | 'notServing' | 'unknown';

/**
 * A handle on the coordinator. Make one, and share it: calls share its connections and its retry budget.
 *
 * Every call retries by itself, within its timeouts and the retry budget, and replaces a connection that broke or fell
 * silent. Connections are made when they are needed: the constructor fails only for a malformed endpoint, and a
 * coordinator that is down shows as an error of the calls. An idle connection keeps no process alive.
 */
export class Coordinator implements AsyncDisposable {
  readonly #calls: Calls;

  /**
   * @param options - an endpoint such as `http://10.0.0.7:7420`, or all options.
   * @throws LeaseholdError of the kind `configuration` for a malformed endpoint or service config, and for a security that cannot
   *   be used.
   */
  constructor(options: string | CoordinatorOptions = {}) {
    const given = parseOptions(typeof options === 'string' ? { endpoint: options } : options, 'options');
    const config = given.serviceConfig ?? serviceConfig;
    const budget = {
      burst: given.retry?.budget?.burst ?? config.retryThrottling?.maxTokens ?? 1000,
      perSecond: given.retry?.budget?.perSecond ?? 50,
      perCall: given.retry?.budget?.perCall ?? config.retryThrottling?.tokenRatio ?? 0.2,
    };
    const { endpoint = DEFAULT_ENDPOINT } = given;
    const { target, isTls } = parseEndpoint(endpoint);
    const { tls, credentials } = (given.security ?? parseSecurity({}, 'options.security')).access(isTls);
    const lanes = new Lanes({
      endpoint,
      target,
      ...(tls && { tls }),
      connectTimeoutMs: given.connectTimeoutMs ?? 2000,
      keepaliveIntervalMs: given.keepaliveIntervalMs ?? 10_000,
      keepaliveTimeoutMs: given.keepaliveTimeoutMs ?? 5000,
      maxReceivedBytes: given.maxReceivedBytes ?? 4 << 20,
      maxSentBytes: given.maxSentBytes ?? 4 << 20,
    });
    const shared = {
      lanes,
      budget: new RetryBudget(budget, now()),
      random: new RandomSource(),
      maxAttempts: given.retry?.maxAttempts ?? 100,
      ...(credentials && { credentials }),
    };
    this.#calls = new Calls(shared, {
      serviceConfig: config,
      attemptTimeoutMs: given.attemptTimeoutMs ?? 5000,
      timeoutMs: given.timeoutMs,
      initialBackoffMs: given.retry?.initialBackoffMs,
      maxBackoffMs: given.retry?.maxBackoffMs,
      inlineLimitBytes: given.inlineLimitBytes ?? 3 << 20,
      owner: given.owner ?? 'leasehold-client',
    });
    // What a malformed config would otherwise make of the first call.
    this.#calls.limits('AcquireLease', {});
  }

  /**
   * Tells what is current for an entry. Changes nothing.
   *
   * @throws LeaseholdError `INVALID_FIELD`, `TENANT_BOUNDARY`, `CONSISTENCY_TOKEN_UNKNOWN`, `BODY_URL_UNSUPPORTED`; or
   *   no answer in time.
   */
  async lookup(entry: EntryRef, given: LookupOptions = {}): Promise<Lookup> {
    const options = parseLookupOptions(given, 'options');
    const message = {
      entry: toWireEntry(entry),
      consistency: toWireConsistency(options.consistency),
      consistencyToken: options.consistencyToken ?? '',
      body: toWireDelivery(options.body),
      knownGeneration: options.knownGeneration,
      explain: false,
    };
    const { answer } = await this.#calls.prompt('Lookup', Service.lookup, message, options);
    return parseLookup(answer);
  }

  /**
   * Asks for the right to render the next generation of an entry. Of all callers at a time, one is granted it.
   *
   * @throws LeaseholdError `INVALID_FIELD`, `TENANT_BOUNDARY`, `CONSISTENCY_TOKEN_UNKNOWN`, `LIMIT_REACHED` beyond all
   *   retries; or no answer in time: what was granted meanwhile, unheard, expires after its ttl.
   */
  async acquire(entry: EntryRef, given: AcquireOptions = {}): Promise<Acquire> {
    const options = parseAcquireOptions(given, 'options');
    const { lanes } = this.#calls.shared;
    const waitMs = options.waitMs ?? 0;
    const requestId = options.requestId ?? RequestId.random();
    const request = {
      entry: toWireEntry(entry),
      requestId: Buffer.from(requestId.expose()),
      owner: options.owner ?? this.#calls.settings.owner,
      ttl: toOptionalDuration(options.ttlMs, 'ttlMs'),
      wait: toDuration(waitMs, 'waitMs'),
      consistencyToken: options.consistencyToken ?? '',
      body: toWireDelivery(options.body),
      knownGeneration: options.knownGeneration,
      // Whoever names an id may have sent it before.
      retry: options.isRepetition ?? options.requestId !== undefined,
    };
    const limits = this.#calls.limits('AcquireLease', options, waitMs);
    const link = waitMs > 0 ? lanes.enter() : lanes.prompt;
    try {
      const { answer, startedAt } = await unary(
        this.#calls.shared,
        link,
        limits,
        Service.acquireLease,
        (attempt) => ({
          ...request,
          wait: attempt.waitMs > 0 ? toDuration(attempt.waitMs, 'waitMs') : undefined,
          retry: request.retry || attempt.isRetry,
        }),
      );
      return this.#parseAcquire(answer, entry, requestId, startedAt);
    } finally {
      if (waitMs > 0) {
        lanes.leave(link);
      }
    }
  }

  #parseAcquire(
    answer: AcquireLeaseResponse,
    entry: EntryRef,
    requestId: RequestId,
    startedAt: number,
  ): Acquire {
    const outcome = required(answer.outcome, 'the outcome of an acquire');
    switch (outcome.$case) {
      case 'granted':
        return {
          outcome: 'granted',
          lease: new Lease(this.#calls, entry, requestId, startedAt, outcome.value),
        };
      case 'ready': {
        const page = required(outcome.value.page, 'the page that is ready');
        return {
          outcome: 'ready',
          ...(page.$case === 'fresh' ? parseFresh(page.value) : parseStale(page.value)),
        };
      }
      case 'held': {
        const { regeneration, previous } = outcome.value;
        return {
          outcome: 'held',
          regeneration: parseRegeneration(required(regeneration, 'the holder of a lease')),
          previous: previous && parseStale(previous),
        };
      }
      case 'backingOff': {
        const { remaining, failures, reason, previous } = outcome.value;
        return {
          outcome: 'backingOff',
          remainingMs: milliseconds(remaining),
          failures,
          reason,
          previous: previous && parseStale(previous),
        };
      }
      case 'ended':
        return { outcome: 'ended' };
    }
  }

  /**
   * The lease of an acquire that was granted elsewhere, such as in a process that has died. What the grant said of times
   * and objects is not known; nothing is asked until a call is made on it.
   *
   * @throws LeaseholdError of the kind `configuration` for what names no entry.
   */
  adoptLease(entry: EntryRef, requestId: RequestId, generation: bigint): Lease {
    toWireEntry(entry);
    return new Lease(this.#calls, entry, requestId, now(), {
      generation,
      remaining: undefined,
      renewableFor: undefined,
      htmlObject: '',
      sidecarObject: '',
      sidecarToken: '',
      previous: undefined,
    });
  }

  /**
   * Declares pages out of date, however many: 1 to 100 scopes, of 128 KiB in all. Change the data first, then invalidate.
   * Once this is answered, no page whose render began before the call is served as fresh: at once to calls that present
   * the token, within the staleness bound (2 s) to all others.
   *
   * @returns the consistency token. Opaque; not a secret.
   * @throws LeaseholdError `INVALID_FIELD`; or no answer in time, in which case it may have been applied, and is harmless
   *   to repeat.
   */
  async invalidate(scopes: readonly Scope[], given: InvalidateOptions = {}): Promise<string> {
    const options = parseInvalidateOptions(given, 'options');
    const message = {
      requestId: Buffer.from((options.requestId ?? RequestId.random()).expose()),
      scopes: toWireScopes(scopes),
      depth: toWireDepth(options.depth ?? 'soft'),
    };
    const { answer } = await this.#calls.prompt('Invalidate', Service.invalidate, message, options);
    return answer.consistencyToken;
  }

  /**
   * Watches commits and invalidations: 1 to 100 filters; an event that concerns several of them comes once. Nothing is
   * sent until the first message is asked for.
   *
   * @throws LeaseholdError of the kind `configuration` for what are no filters.
   */
  watch(filters: readonly WatchFilter[], options: WatchOptions = {}): Watch {
    return new Watch(this.#calls, toWireFilters(filters), options);
  }

  /**
   * Streams the current page, fresh or stale, however large.
   *
   * @throws LeaseholdError `PAGE_NOT_FOUND` where there is none; as {@link lookup}; or no answer in time.
   */
  async servePage(entry: EntryRef, given: ServePageOptions = {}): Promise<ServedPage> {
    const options = parseServePageOptions(given, 'options');
    const message = {
      entry: toWireEntry(entry),
      consistency: toWireConsistency(options.consistency),
      consistencyToken: options.consistencyToken ?? '',
    };
    const limits = this.#calls.limits('ServePage', options);
    const [stream, link] = await this.#open((link) =>
      serverStreaming(this.#calls.shared, link, limits, Service.servePage, message),
    );
    const body = new BodyStream(stream, limits, () => this.#calls.shared.lanes.leave(link));
    if (stream.first?.part?.$case !== 'head') {
      await body.return();
      throw LeaseholdError.protocol('the head of a page is missing');
    }
    const page = required(stream.first.part.value.page, 'the page in a head');
    return { current: page.$case === 'fresh' ? parseFresh(page.value) : parseStale(page.value), body };
  }

  /**
   * Streams a hydration sidecar by the token in its page's URL; `entry` is what the request for it resolves to. Also that
   * of an older generation, for as long as it is stored.
   *
   * @throws LeaseholdError `SIDECAR_NOT_FOUND`, whatever is wrong with the token; `TENANT_BOUNDARY`;
   *   `CONSISTENCY_TOKEN_UNKNOWN`; or no answer in time.
   */
  async serveSidecar(
    entry: EntryRef,
    token: SidecarToken,
    given: ServeBodyOptions = {},
  ): Promise<ServedSidecar> {
    const options = parseServeBodyOptions(given, 'options');
    const message = {
      entry: toWireEntry(entry),
      sidecarToken: token.expose(),
      consistencyToken: options.consistencyToken ?? '',
    };
    const limits = this.#calls.limits('ServeSidecar', options);
    const [stream, link] = await this.#open((link) =>
      serverStreaming(this.#calls.shared, link, limits, Service.serveSidecar, message),
    );
    const body = new BodyStream(stream, limits, () => this.#calls.shared.lanes.leave(link));
    if (stream.first?.part?.$case !== 'head') {
      await body.return();
      throw LeaseholdError.protocol('the head of a sidecar is missing');
    }
    const { contentType, sizeBytes } = stream.first.part.value;
    return { contentType, sizeBytes: Number(sizeBytes), body };
  }

  /**
   * Streams a body by the name that its worker gave it: `htmlName`, `sidecarName` of a {@link NewPage}. Also that of an
   * older generation, for as long as it is stored. An empty `tenant` is `default`. Never by a name that comes from a
   * browser: whoever knows a name is given the body, whichever variant of a page it is of.
   *
   * @throws LeaseholdError `OBJECT_NOT_FOUND`, whatever is wrong with the name; `CONSISTENCY_TOKEN_UNKNOWN`; or no answer in
   *   time.
   */
  async serveObject(tenant: string, name: string, given: ServeBodyOptions = {}): Promise<ServedObject> {
    const options = parseServeBodyOptions(given, 'options');
    const limits = this.#calls.limits('ServeObject', options);
    const message = { tenant, objectName: name, consistencyToken: options.consistencyToken ?? '' };
    const [stream, link] = await this.#open((link) =>
      serverStreaming(this.#calls.shared, link, limits, Service.serveObject, message),
    );
    const body = new BodyStream(stream, limits, () => this.#calls.shared.lanes.leave(link));
    const head = stream.first?.part?.$case === 'head' ? stream.first.part.value : undefined;
    const kind = head && kindOf(head.kind);
    if (!head || !kind) {
      await body.return();
      throw LeaseholdError.protocol('the head of an object is missing, or of no kind');
    }
    const { contentType, sizeBytes, digest } = head;
    return { kind, contentType, sizeBytes: Number(sizeBytes), digest, body };
  }

  async #open<T>(open: (link: Link) => Promise<T>): Promise<[T, Link]> {
    const { lanes } = this.#calls.shared;
    const link = lanes.enter();
    try {
      return [await open(link), link];
    } catch (error) {
      lanes.leave(link);
      throw error;
    }
  }

  /**
   * Asks for the coordinator's health, by `grpc.health.v1`.
   *
   * @throws LeaseholdError when none was reached in time.
   */
  async health(given: CallOptions = {}): Promise<Health> {
    const options = parseCallOptions(given, 'options');
    const { answer } = await this.#calls.prompt('Lookup', HealthService.check, { service: '' }, options);
    switch (answer.status) {
      case ServingStatus.SERVING:
        return 'serving';
      case ServingStatus.NOT_SERVING:
        return 'notServing';
      default:
        return 'unknown';
    }
  }

  /** Closes the connections. Calls in progress go on; later ones connect anew. */
  close(): void {
    this.#calls.shared.lanes.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

function kindOf(kind: WireKind): BodyKind | undefined {
  switch (kind) {
    case WireKind.BODY_KIND_HTML:
      return 'html';
    case WireKind.BODY_KIND_SIDECAR:
      return 'sidecar';
    default:
      return undefined;
  }
}

function toWireConsistency(consistency: LookupOptions['consistency'] = 'bounded'): WireConsistency {
  return consistency === 'strict' ? WireConsistency.CONSISTENCY_STRICT : WireConsistency.CONSISTENCY_BOUNDED;
}

function parseLookup({ outcome, regeneration: wire }: LookupResponse): Lookup {
  const regeneration = wire && parseRegeneration(wire);
  const answer = required(outcome, 'the outcome of a lookup');
  switch (answer.$case) {
    case 'fresh':
      return { outcome: 'fresh', ...parseFresh(answer.value), regeneration };
    case 'stale':
      return { outcome: 'stale', ...parseStale(answer.value), regeneration };
    case 'missing':
      return { outcome: 'missing', reason: parseMissing(answer.value.reason), regeneration };
  }
}

function parseMissing(reason: WireMissing): MissingReason {
  switch (reason) {
    case WireMissing.MISSING_REASON_NEVER_RENDERED:
      return 'neverRendered';
    case WireMissing.MISSING_REASON_PURGED:
      return 'purged';
    case WireMissing.MISSING_REASON_BODY_GONE:
      return 'bodyGone';
    default:
      return 'other';
  }
}
