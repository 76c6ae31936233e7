/**
 * The client of Leasehold, the coordinator of incremental static regeneration, and the runtime that a worker embeds:
 * {@link Coordinator} for calls, {@link DataCache} for data, {@link PageServer} for pages.
 *
 * @packageDocumentation
 */

export { BodyStream } from './body.js';
export type { CallOptions } from './calls.js';
export * from './coordinator.js';
export { DataCache } from './data.js';
export { BackingOffError, type DataCacheOptions, type DataReport } from './data-options.js';
export type { EntryRef, EntryScope, NamedByKey, NamedByRequest, PageRequest } from './entry.js';
export { type ErrorKind, LeaseholdError, type Reason, type Refusal } from './error.js';
export { RequestId, SidecarToken } from './id.js';
export * from './lease.js';
export type {
  BodyDelivery,
  CurrentPage,
  FreshPage,
  Page,
  PageBody,
  PageMetadata,
  Regeneration,
  StalePage,
  StaleReason,
} from './page.js';
export * from './pages.js';
export type { RetryBudgetOptions, RetryOptions } from './retry.js';
export type { Depth, Scope, WatchFilter } from './scope.js';
export { Security, type SecurityOptions } from './security.js';
export { type ServiceConfig, serviceConfig } from './service-config.js';
export type { Token, TokenSource } from './token.js';
export * from './watch.js';
