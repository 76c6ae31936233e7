/**
 * Pages: rendered once in the whole fleet, kept, and rendered again when they are out of date.
 *
 * @module
 */

import { now } from './clock.js';
import type { Acquire, Lookup } from './coordinator.js';
import type { EntryRef } from './entry.js';
import { LeaseholdError } from './error.js';
import { called, type Parse } from './given.js';
import { cacheStatus, cookiesOf, isNotModified, type PageState, queryOf, type Served } from './http.js';
import { whyNotKept } from './kept-page.js';
import { LastKnown } from './last-known.js';
import type { Commit, Lease } from './lease.js';
import { isForGood, LeaseKeeper } from './lease-keeper.js';
import type { Page, StalePage } from './page.js';
import { type PageReport, type PageServerOptions, parsePageServerOptions, warn } from './page-options.js';
import {
  cacheControl,
  isWithin,
  isWithinBounds,
  type PagePolicy,
  parsePolicy,
  staleIfErrorSeconds,
  staleWindowSeconds,
  ttlOf,
} from './page-policy.js';
import { handleOn, Reach } from './reach.js';
import {
  type Copy,
  copyOf,
  headersOf,
  keptCopyOf,
  parseRendered,
  type Render,
  type RenderedPage,
  sizeOf,
} from './rendered-page.js';
import { type Depth, parseGivenDepth, type Scope } from './scope.js';
import { Uncached } from './uncached.js';
import {
  asForEverybody,
  crossesTenants,
  isPersonal,
  nameOf,
  tenantHeadersOf,
  type VisitedPage,
} from './visitor.js';

export type { PageState } from './http.js';
export type { PageReport, PageServerOptions } from './page-options.js';
export type { PagePolicy } from './page-policy.js';
export type { Render, RenderContext, RenderedPage } from './rendered-page.js';

/** One request, and what holds for it. */
interface Visit {
  readonly request: Request;
  readonly page: VisitedPage;
  readonly entry: EntryRef;
  /** Of the entry, in this process. */
  readonly name: string;
  readonly policy: PagePolicy;
  readonly render: Render;
  /** Of the server, when the request came. */
  readonly epoch: number;
}

/** An answer in the making. */
interface Answer {
  readonly copy: Copy;
  readonly served: Served;
}

/** A request of a tenant that nobody declared, by a header that only the coordinator knows for that. */
class AcrossTenants extends Error {}

/** A render's answer that is a failure, to be passed on as it is. */
class FailedRender extends Error {
  readonly page: RenderedPage;

  constructor(page: RenderedPage) {
    super(`the render answered with status ${page.status}`);
    this.page = page;
  }
}

/** A render that failed a moment ago. */
class Paused extends Error {
  readonly retryAfterMs: number;

  constructor(reason: string, retryAfterMs: number) {
    super(`the last render failed: ${reason}`);
    this.retryAfterMs = retryAfterMs;
  }
}

/** Whose commit comes late looks at what came before it; after so many rounds its own page has to do. */
const ROUNDS = 3;
const LARGEST_PAGE_BYTES = 64 << 20;
/**
 * Serves pages by incremental static regeneration, over the `Request` and `Response` of the web platform, whatever the
 * framework. Of one page, one render runs at a time in the whole fleet. An outage of the coordinator never makes an error of a
 * page that could be rendered.
 */
export class PageServer implements AsyncDisposable {
  readonly #reach: Reach;
  readonly #options: PageServerOptions;
  readonly #ownsCoordinator: boolean;
  readonly #lastKnown: LastKnown<Copy>;
  readonly #uncached: Uncached;
  /** What is regenerated in the background: once at a time for each page. */
  readonly #regenerating = new Set<string>();
  readonly #leases: LeaseKeeper;
  /** Raised by every invalidation: what was asked for before one is not remembered after it. */
  #epoch = 0;

  /** @throws LeaseholdError of the kind `configuration` for a malformed endpoint. */
  constructor(given: PageServerOptions = {}) {
    const options = parsePageServerOptions(given, 'options');
    const { coordinator } = options;
    this.#options = options;
    const onUnreachable = (error: unknown) => this.#report({ type: 'unreachable', error });
    const { failureReason, coordinatorTimeoutMs: patienceMs = 1500 } = options;
    const handle = handleOn(coordinator);
    this.#ownsCoordinator = handle.isOwn;
    this.#reach = new Reach(handle.coordinator, patienceMs, onUnreachable);
    this.#leases = new LeaseKeeper(this.#reach, { patienceMs, onUnreachable, failureReason });
    this.#uncached = new Uncached(options.rememberUncachedMs);
    this.#lastKnown = new LastKnown(options.localBytes ?? 32 << 20, options.localMaxAgeMs);
  }

  /**
   * Answers a request with its page. The header `x-isr-state` says how: `hit`, fresh; `miss`, rendered and kept; `wait-hit`,
   * rendered by another meanwhile; `stale`, the previous page; `stale-metadata-error`, the last page that this process knows, as
   * the coordinator could not be asked; `bypass`, rendered and not kept. A request that is neither GET nor HEAD is a `bypass`.
   *
   * A render that fails, without a page to serve in its place: what it threw is thrown, and what it answered is answered, with
   * `no-store`. While nobody renders because a render failed a moment ago: 503 with `Retry-After`. A request of a tenant, where none
   * was declared: 400.
   *
   * @throws LeaseholdError of the kind `configuration` for a policy that is none, and for what `render` answers with that is no
   *   page, `INVALID_FIELD` for a tenant or deployment that no coordinator takes; what `render` throws, where the policy has no page
   *   to serve in its place.
   */
  async servePage(request: Request, policy: PagePolicy, render: Render): Promise<Response> {
    const visit = this.#visit(request, policy, render);
    // The coordinator would refuse it too, if it could be asked.
    if (isReading(request) && crossesTenants(visit.page, this.#options.tenant)) {
      return this.#refuseTenant(visit);
    }
    try {
      return this.#respond(
        visit,
        await (isReading(request) ? this.#answer(visit) : this.#bypass(visit, 'method')),
      );
    } catch (error) {
      if (error instanceof FailedRender) {
        return this.#respond(visit, {
          copy: copyOf(error.page),
          served: { state: 'bypass', detail: 'render-failed' },
        });
      }
      if (error instanceof Paused) {
        const headers = {
          'retry-after': String(Math.max(1, Math.ceil(error.retryAfterMs / 1000))),
          'cache-control': 'no-store',
        };
        return new Response('Service Unavailable', { status: 503, headers });
      }
      if (error instanceof AcrossTenants) {
        return this.#refuseTenant(visit);
      }
      throw error;
    }
  }

  /**
   * Declares pages out of date, and presents the token with every later request of this process, which forgets its own copies.
   * Change the data first, then invalidate.
   *
   * @param scopes - 1 to 100. Their `tenant` is not that of this server unless they say so.
   * @throws LeaseholdError when the coordinator gave no answer; it may have been applied, and is harmless to repeat.
   */
  async invalidate(scopes: readonly Scope[], depth: Depth = 'soft'): Promise<void> {
    parseGivenDepth(depth, 'depth');
    this.#forget();
    try {
      await this.#reach.invalidate((coordinator) => coordinator.invalidate(scopes, { depth }));
    } finally {
      // Once more: what was asked for meanwhile may have been answered from before.
      this.#forget();
    }
  }

  #forget(): void {
    this.#epoch += 1;
    this.#lastKnown.clear();
    this.#uncached.clear();
  }

  /**
   * Waits for whatever has a lease, in the background too, until that is committed or given back: before a process ends, or a
   * Lambda is frozen. Never rejects.
   */
  idle(): Promise<void> {
    return this.#leases.idle();
  }

  /**
   * Waits as {@link idle} does, and closes the connections if they are its own. Visitors who wait for another's render are answered
   * as if the coordinator could not be reached.
   */
  async close(): Promise<void> {
    await this.#leases.close();
    if (this.#ownsCoordinator) {
      this.#reach.coordinator.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #visit(givenRequest: Request, givenPolicy: PagePolicy, givenRender: Render): Visit {
    const request = parseRequest(givenRequest, 'request');
    const policy = parsePolicy(givenPolicy, 'policy');
    const render = called<Render>()(givenRender, 'render');
    const { tenant, deployment } = this.#options;
    const url = new URL(request.url);
    const cookies = cookiesOf(request.headers.get('cookie'));
    const page = {
      route: url.pathname,
      query: queryOf(url.searchParams),
      headers: Array.from(request.headers, ([name, value]) => [name, [value]] as const),
      cookies,
      ...policy.page,
    };
    const entry = { tenant, deployment, path: url.pathname, request: page };
    return { request, page, entry, name: nameOf(page), policy, render, epoch: this.#epoch };
  }

  async #answer(visit: Visit): Promise<Answer> {
    const known = this.#lastKnown.get(visit.name);
    let found: Lookup | undefined;
    try {
      found = await this.#reach.ask((options) =>
        this.#reach.coordinator.lookup(visit.entry, {
          ...options,
          consistencyToken: this.#reach.token,
          body: 'inline',
          knownGeneration: known?.generation,
        }),
      );
    } catch (error) {
      if (error instanceof LeaseholdError && error.isUnnameable) {
        // What a visitor has asked for, and the site may have an answer to.
        this.#reportOf(visit, 'unreachable', error);
        return this.#bypass(visit, 'unnameable');
      }
      if (error instanceof LeaseholdError && error.reason === 'TENANT_BOUNDARY') {
        throw new AcrossTenants();
      }
      throw error;
    }
    if (!found) {
      return this.#withoutCoordinator(visit);
    }
    if (found.outcome === 'missing') {
      this.#lastKnown.delete(visit.name);
      return this.#regenerate(visit, undefined);
    }
    const copy = await this.#read(visit, found.page, known);
    if (!copy) {
      return this.#regenerate(visit, undefined);
    }
    if (found.outcome === 'fresh') {
      this.#uncached.forget(visit.name);
      return { copy, served: { state: 'hit', ttlMs: found.freshForMs } };
    }
    if (isWithin(visit.policy, copy, staleWindowSeconds(visit.policy))) {
      if (!found.regeneration && !this.#uncached.isKnown(visit.name, now())) {
        this.#regenerateInBackground(visit);
      }
      return stale(visit, copy);
    }
    return this.#regenerate(visit, copy);
  }

  /** `undefined`: its bytes are not to be had. */
  async #read(visit: Visit, page: Page, known?: Copy): Promise<Copy | undefined> {
    const bytes = await this.#reach.bytesOf(visit.entry, page, known, LARGEST_PAGE_BYTES);
    if (!bytes) {
      return undefined;
    }
    const copy = keptCopyOf(page, bytes);
    this.#remember(visit, copy);
    return copy;
  }

  #remember(visit: Visit, copy: Copy): void {
    const known = this.#lastKnown.get(visit.name);
    const isOlder = (known?.generation ?? 0n) > (copy.generation ?? 0n);
    if (visit.epoch === this.#epoch && !isOlder) {
      this.#lastKnown.set(visit.name, copy, sizeOf(copy));
    }
  }

  async #withoutCoordinator(visit: Visit): Promise<Answer> {
    const copy = this.#lastKnown.recent(visit.name);
    const detail = 'coordinator-unreachable';
    if (!copy) {
      return this.#bypass(visit, detail);
    }
    return { copy, served: { state: 'stale-metadata-error', ttlMs: ttlOf(visit.policy, copy), detail } };
  }

  /** `previous` is the page so far, which may be too old to serve. */
  async #regenerate(visit: Visit, previous: Copy | undefined): Promise<Answer> {
    const way = this.#uncached.way(visit.name, now());
    if (way === 'atOnce') {
      return this.#atOnce(visit, previous);
    }
    try {
      return await this.#inTurn(visit, previous);
    } finally {
      if (way === 'findingOut') {
        this.#uncached.found(visit.name);
      }
    }
  }

  /** For one visitor only, as those before. */
  async #atOnce(visit: Visit, previous: Copy | undefined): Promise<Answer> {
    try {
      const answer = await this.#bypass(visit);
      if (answer.copy.status >= 500) {
        throw new FailedRender(answer.page);
      }
      return answer;
    } catch (error) {
      // It is for the coordinator to say who tries again, and when.
      this.#uncached.forget(visit.name);
      return this.#inPlaceOf(error, visit, previous);
    }
  }

  /** One render in the whole fleet. */
  async #inTurn(visit: Visit, previous: Copy | undefined): Promise<Answer> {
    const { policy } = visit;
    // Where nothing stale may be served, all who do not wait would render.
    const servesStale = policy.onContention === 'serve-stale' && previous && isWithinBounds(policy, previous);
    const waitMs = servesStale ? 0 : (policy.maxWaitMs ?? 30_000);
    const wasStale = previous !== undefined;
    for (let round = 1; round <= ROUNDS; round += 1) {
      const acquired = await this.#acquire(visit, waitMs);
      if (acquired === 'needless') {
        return this.#atOnce(visit, previous);
      }
      switch (acquired?.outcome) {
        case undefined:
          return this.#withoutCoordinator(visit);
        case 'granted':
          return this.#leases.track(this.#renderUnder(visit, acquired.lease, wasStale, previous));
        case 'ready': {
          this.#uncached.forget(visit.name);
          const copy = await this.#read(visit, acquired.page);
          if (copy) {
            return { copy, served: { state: waitMs > 0 ? 'wait-hit' : 'hit', wasStale } };
          }
          break;
        }
        case 'held': {
          const copy = previous ?? (await this.#previous(visit, acquired.previous));
          return copy && isWithinBounds(policy, copy)
            ? stale(visit, copy)
            : this.#bypass(visit, 'contention');
        }
        case 'backingOff': {
          const copy = previous ?? (await this.#previous(visit, acquired.previous));
          return this.#inPlaceOf(new Paused(acquired.reason, acquired.remainingMs), visit, copy);
        }
        case 'ended':
          break;
      }
    }
    return this.#bypass(visit, 'contention');
  }

  /** `needless`: what it would wait for is no page. */
  async #acquire(visit: Visit, waitMs: number): Promise<Acquire | 'needless' | undefined> {
    if (this.#uncached.isKnown(visit.name, now())) {
      return 'needless';
    }
    const needless = new AbortController();
    const known = this.#uncached.onceKnown(visit.name, () => needless.abort());
    try {
      const wish = { ttlMs: visit.policy.leaseTtlMs, waitMs, body: 'inline' as const };
      const ends = { gone: visit.request.signal, needless: needless.signal };
      const acquired = await this.#leases.acquire(visit.entry, wish, ends);
      return acquired ?? (needless.signal.aborted ? 'needless' : undefined);
    } finally {
      known.stop();
    }
  }

  async #previous(visit: Visit, previous: StalePage | undefined): Promise<Copy | undefined> {
    return previous && this.#read(visit, previous.page);
  }

  async #renderUnder(
    visit: Visit,
    lease: Lease,
    wasStale: boolean,
    previous: Copy | undefined,
  ): Promise<Answer> {
    const { request, policy } = visit;
    const begun = now();
    let page: RenderedPage;
    let copy: Copy;
    let detail: string | undefined;
    try {
      page = await lease.renewWhile(() => rendered(visit, lease), policy.leaseTtlMs);
      if ((page.status ?? 200) >= 500) {
        throw new FailedRender(page);
      }
      copy = { ...copyOf(page), bornAt: begun, generation: lease.generation };
      detail = whyNotKept(page, new URL(request.url).pathname);
    } catch (error) {
      if (request.signal.aborted) {
        // Who went away did not find the page broken: nobody else has to pause for that.
        void this.#leases.giveBack(lease);
      } else {
        void this.#leases.fail(lease, error);
      }
      return this.#inPlaceOf(error, visit, previous ?? (await this.#previous(visit, lease.previous)));
    }
    if (detail !== undefined) {
      // Before the lease is given back: else whoever waits here for it would be the next one to be granted it.
      this.#rememberUncached(visit);
      void this.#leases.giveBack(lease);
      return { copy, served: { state: 'bypass', detail } };
    }
    const committed = await this.#commit(visit, lease, page, now() - begun);
    switch (committed?.outcome) {
      case 'committed':
        this.#remember(visit, { ...copy, etag: committed.etag });
        return { copy: { ...copy, etag: committed.etag }, served: { state: 'miss', wasStale } };
      case 'committedStale':
        // An invalidation came after the render had begun: nobody else is to keep this.
        if (committed.purged) {
          this.#lastKnown.delete(visit.name);
        }
        return { copy, served: { state: 'bypass', detail: 'invalidated' } };
      case undefined:
        return { copy, served: { state: 'bypass', detail: 'not-kept' } };
      case 'superseded':
      case 'fenced':
        // This process slept, and another took over: its page counts, as soon as it is there.
        return (
          (await this.#successor(visit, lease.generation)) ?? {
            copy,
            served: { state: 'bypass', detail: 'overtaken' },
          }
        );
    }
  }

  /** `undefined`: there is none that is newer, or it is not to be had. */
  async #successor(visit: Visit, generation: bigint): Promise<Answer | undefined> {
    const found = await this.#reach.ask((options) =>
      this.#reach.coordinator.lookup(visit.entry, {
        ...options,
        consistency: 'strict',
        consistencyToken: this.#reach.token,
        body: 'inline',
      }),
    );
    if (!found || found.outcome === 'missing' || found.page.generation <= generation) {
      return undefined;
    }
    const copy = await this.#read(visit, found.page);
    if (!copy) {
      return undefined;
    }
    return found.outcome === 'fresh' ? { copy, served: { state: 'wait-hit' } } : stale(visit, copy);
  }

  async #commit(
    visit: Visit,
    lease: Lease,
    page: RenderedPage,
    renderTimeMs: number,
  ): Promise<Commit | undefined> {
    const { mode, revalidateSeconds } = visit.policy;
    const errorSeconds = staleIfErrorSeconds(visit.policy);
    const metadata = {
      status: page.status,
      contentType: page.contentType,
      headers: headersOf(page),
      tags: page.tags,
      renderTimeMs,
      ...(revalidateSeconds !== undefined && { revalidateMs: revalidateSeconds * 1000 }),
      ...(mode === 'stale-while-revalidate' && {
        staleWhileRevalidateMs: staleWindowSeconds(visit.policy) * 1000,
      }),
      ...(errorSeconds !== undefined && { staleIfErrorMs: errorSeconds * 1000 }),
    };
    const { html, sidecar } = page;
    return this.#leases.commit(lease, { html, sidecar, metadata }, visit.policy.leaseTtlMs, (error) => {
      if (isForGood(error)) {
        this.#rememberUncached(visit, true);
      }
      this.#reportOf(visit, 'notKept', error);
    });
  }

  /** The previous page in place of a failed render, where the policy allows. */
  #inPlaceOf(error: unknown, visit: Visit, previous: Copy | undefined): Answer {
    const { policy } = visit;
    const isAllowed = policy.onFailure !== 'error';
    if (!previous || !isAllowed || !isWithin(policy, previous, staleIfErrorSeconds(policy) ?? Infinity)) {
      throw error;
    }
    if (!(error instanceof Paused)) {
      this.#reportOf(visit, 'renderFailed', error);
    }
    return stale(visit, previous, error instanceof Paused ? 'backing-off' : 'render-failed');
  }

  #regenerateInBackground(visit: Visit): void {
    if (this.#regenerating.has(visit.name)) {
      return;
    }
    this.#regenerating.add(visit.name);
    const running = this.#regenerated(visit)
      .catch((error: unknown) => this.#reportOf(visit, 'renderFailed', error))
      .finally(() => this.#regenerating.delete(visit.name));
    this.#leases.track(running);
  }

  async #regenerated(visit: Visit): Promise<void> {
    // The visitor has its answer; whatever becomes of it, the page is for others.
    const request = new Request(visit.request, { signal: null });
    const policy = { ...visit.policy, onFailure: 'error' as const };
    const acquired = await this.#leases.acquire(visit.entry, { ttlMs: policy.leaseTtlMs });
    if (acquired?.outcome === 'granted') {
      await this.#renderUnder({ ...visit, request, policy }, acquired.lease, true, undefined);
    }
  }

  /** A page that nobody keeps; for its own sake, where no other reason is given. */
  async #bypass(visit: Visit, reason?: string): Promise<Answer & { readonly page: RenderedPage }> {
    const page = await rendered(visit);
    const copy = copyOf(page);
    const why = whyNotKept(page, new URL(visit.request.url).pathname);
    if (isReading(visit.request) && copy.status < 500) {
      if (why === undefined) {
        this.#uncached.doubt(visit.name);
      } else {
        this.#rememberUncached(visit);
      }
    }
    return { page, copy, served: { state: 'bypass', detail: reason ?? why ?? 'uncached' } };
  }

  /** Not from a render that an invalidation has overtaken. */
  #rememberUncached(visit: Visit, isRefused = false): void {
    if (visit.epoch === this.#epoch) {
      this.#uncached.remember(visit.name, now(), isRefused);
    }
  }

  /** As in every language. Any visitor can ask so: it is no error of the site's. */
  #refuseTenant({ request }: Visit): Response {
    const headers = {
      'content-type': 'text/plain; charset=utf-8',
      'cache-control': 'no-store',
      'cache-status': cacheStatus({ state: 'bypass', detail: 'tenant-boundary' }),
      [this.#options.stateHeader ?? 'x-isr-state']: 'bypass' satisfies PageState,
    };
    const text = 'This site serves no tenants.\n';
    return new Response(request.method === 'HEAD' ? null : text, { status: 400, headers });
  }

  #respond(visit: Visit, { copy, served }: Answer): Response {
    const headers = new Headers();
    for (const [name, value] of copy.headers) {
      headers.append(name, value);
    }
    headers.set('content-type', copy.contentType);
    headers.set('etag', copy.etag);
    headers.set('cache-control', cacheControl(visit.policy, served.state, isPersonal(visit.page)));
    headers.set('cache-status', cacheStatus(served));
    headers.set(this.#options.stateHeader ?? 'x-isr-state', served.state satisfies PageState);
    for (const name of tenantHeadersOf(visit.page)) {
      headers.append('vary', name);
    }
    const age = copy.generation === undefined ? 0 : Math.floor((now() - copy.bornAt) / 1000);
    if (age > 0 && served.state !== 'miss' && served.state !== 'bypass') {
      headers.set('age', String(age));
    }
    if (
      isReading(visit.request) &&
      copy.status === 200 &&
      isNotModified(visit.request.headers.get('if-none-match'), copy.etag)
    ) {
      headers.delete('content-type');
      return new Response(null, { status: 304, headers });
    }
    const isEmpty = copy.status === 205;
    if (copy.status !== 204 && copy.status !== 304) {
      headers.set('content-length', isEmpty ? '0' : String(copy.bytes.length));
    }
    const hasBody = visit.request.method !== 'HEAD' && ![204, 205, 304].includes(copy.status);
    return new Response(hasBody ? Buffer.from(copy.bytes) : null, { status: copy.status, headers });
  }

  #reportOf(visit: Visit, type: PageReport['type'], error: unknown): void {
    this.#report({ type, route: visit.page.route, error });
  }

  #report(report: PageReport): void {
    try {
      (this.#options.onReport ?? warn)(report);
    } catch {
      // A report that cannot be made must not turn a page into an error.
    }
  }
}

function isReading({ method }: Request): boolean {
  return method === 'GET' || method === 'HEAD';
}

/** What is asked of the render: a page for everybody whom it is the same for, if it is one that is kept. */
function toRender({ request, page }: Visit): Request {
  return isReading(request) ? asForEverybody(request, page) : request;
}

async function rendered(visit: Visit, lease?: Lease): Promise<RenderedPage> {
  const page = await visit.render({ request: toRender(visit), lease });
  return parseRendered(page, 'page');
}

/** By what it can do: of a framework's own, it is no instance of this process's class. */
const parseRequest: Parse<Request> = (value, field) => {
  const { headers, url } = (value ?? {}) as Partial<Request>;
  if (typeof url !== 'string' || typeof headers?.get !== 'function' || !URL.canParse(url)) {
    throw LeaseholdError.input(field, 'must be a Request of the web platform, with a whole URL');
  }
  return value as Request;
};

function stale(visit: Visit, copy: Copy, detail?: string): Answer {
  return { copy, served: { state: 'stale', ttlMs: Math.min(ttlOf(visit.policy, copy) ?? -1, -1), detail } };
}
