/**
 * `withRevalidate`, `invalidate` and `invalidateAll` as plain functions: a drop-in for caches that live in one process.
 *
 * They share one {@link DataCache}, which is made when it is first used, by {@link configure} or from the environment:
 * `LEASEHOLD_ENDPOINT` (default `http://127.0.0.1:7420`), `LEASEHOLD_TENANT` and `LEASEHOLD_NAMESPACE` (both `default`), and
 * what {@link Security.fromEnvironment} reads.
 *
 * @module
 */

import { DataCache } from './data.js';
import type { DataCacheOptions } from './data-options.js';
import { LeaseholdError } from './error.js';
import { Security } from './security.js';

interface State {
  options?: DataCacheOptions | undefined;
  shared?: DataCache | undefined;
}

// Of the process, not of one of the package's two builds: what one of them invalidated, the other would still return.
const KEY = Symbol.for('leasehold-client.isr');
const holder = globalThis as { [KEY]?: State };
holder[KEY] ??= {};
const state: State = holder[KEY];

/**
 * Says how the shared cache is to be made. Call it before anything else.
 *
 * @throws LeaseholdError of the kind `configuration` when the cache is in use already.
 */
export function configure(given: DataCacheOptions): void {
  if (state.shared) {
    throw LeaseholdError.configuration('the cache is in use already');
  }
  state.options = given;
}

/** As {@link DataCache.withRevalidate}. */
export function withRevalidate<T>(
  key: string,
  ttlSeconds: number,
  fetcher: () => Promise<T> | T,
): Promise<T> {
  return cache().withRevalidate(key, ttlSeconds, fetcher);
}

/** As {@link DataCache.invalidate}. */
export function invalidate(key: string): Promise<void> {
  return cache().invalidate(key);
}

/** As {@link DataCache.invalidateAll}. */
export function invalidateAll(): Promise<void> {
  return cache().invalidateAll();
}

/** As {@link DataCache.idle}. */
export async function idle(): Promise<void> {
  await state.shared?.idle();
}

/** Closes the shared cache. Whoever uses it again gets a new one. */
export async function close(): Promise<void> {
  const closed = state.shared;
  state.shared = undefined;
  await closed?.close();
}

function cache(): DataCache {
  state.shared ??= new DataCache(state.options ?? fromEnvironment());
  return state.shared;
}

function fromEnvironment(): DataCacheOptions {
  const {
    LEASEHOLD_ENDPOINT: endpoint,
    LEASEHOLD_TENANT: tenant,
    LEASEHOLD_NAMESPACE: namespace,
  } = process.env;
  return {
    coordinator: { endpoint: endpoint || undefined, security: Security.fromEnvironment() },
    tenant: tenant || undefined,
    namespace: namespace || undefined,
  };
}
