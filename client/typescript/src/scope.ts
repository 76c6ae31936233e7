/**
 * What is declared out of date, and what is watched.
 *
 * @module
 */

import {
  InvalidationDepth as WireDepth,
  type WatchFilter as WireFilter,
  type InvalidationScope as WireScope,
} from './generated/leasehold/v1/coordinator.js';
import { nonEmpty, required } from './wire.js';

/**
 * What an invalidation is about: exactly one of the fields beside `tenant`.
 *
 * - `everything`: every entry of every tenant; without `tenant`;
 * - `wholeTenant`: every entry of the tenant;
 * - `deployment`: every entry of this release;
 * - `pathPrefix`: every page at this path or below it, by whole segments; begins with a slash;
 * - `tag`: every page with this tag;
 * - `key`: the entry of this key, in every release.
 *
 * `tenant` defaults to `default`.
 */
export type Scope =
  | { readonly everything: true }
  | { readonly tenant?: string | undefined; readonly wholeTenant: true }
  | { readonly tenant?: string | undefined; readonly deployment: string }
  | { readonly tenant?: string | undefined; readonly pathPrefix: string }
  | { readonly tenant?: string | undefined; readonly tag: string }
  | { readonly tenant?: string | undefined; readonly key: string };

/** How deep an invalidation goes. `soft`: pages stay servable as stale. `hard`: they are purged. */
export type Depth = 'soft' | 'hard';

/** What to watch: all of a tenant, pages with a tag, or the entry of a key. `tenant` defaults to `default`. */
export type WatchFilter =
  | { readonly tenant?: string | undefined; readonly wholeTenant: true }
  | { readonly tenant?: string | undefined; readonly tag: string }
  | { readonly tenant?: string | undefined; readonly key: string };

/** @internal */
export function toWireScope(scope: Scope): WireScope {
  if ('everything' in scope) {
    return { tenant: '', scope: { $case: 'everything', value: {} } };
  }
  return { tenant: scope.tenant ?? '', scope: targetOf(scope) };
}

function targetOf(scope: Exclude<Scope, { everything: true }>): NonNullable<WireScope['scope']> {
  if ('wholeTenant' in scope) {
    return { $case: 'wholeTenant', value: {} };
  }
  if ('deployment' in scope) {
    return { $case: 'deployment', value: scope.deployment };
  }
  if ('pathPrefix' in scope) {
    return { $case: 'pathPrefix', value: scope.pathPrefix };
  }
  return 'tag' in scope ? { $case: 'tag', value: scope.tag } : { $case: 'key', value: scope.key };
}

/** @internal */
export function parseScope(wire: WireScope): Scope {
  const tenant = nonEmpty(wire.tenant);
  const scope = required(wire.scope, 'the scope of an invalidation');
  switch (scope.$case) {
    case 'everything':
      return { everything: true };
    case 'wholeTenant':
      return { tenant, wholeTenant: true };
    case 'deployment':
      return { tenant, deployment: scope.value };
    case 'pathPrefix':
      return { tenant, pathPrefix: scope.value };
    case 'tag':
      return { tenant, tag: scope.value };
    case 'key':
      return { tenant, key: scope.value };
  }
}

/** @internal */
export function toWireDepth(depth: Depth): WireDepth {
  return depth === 'hard' ? WireDepth.INVALIDATION_DEPTH_HARD : WireDepth.INVALIDATION_DEPTH_SOFT;
}

/** @internal */
export function parseDepth(depth: WireDepth): Depth {
  return depth === WireDepth.INVALIDATION_DEPTH_HARD ? 'hard' : 'soft';
}

/** @internal */
export function toWireFilter(filter: WatchFilter): WireFilter {
  const tenant = filter.tenant ?? '';
  if ('wholeTenant' in filter) {
    return { tenant, filter: { $case: 'wholeTenant', value: {} } };
  }
  return 'tag' in filter
    ? { tenant, filter: { $case: 'tag', value: filter.tag } }
    : { tenant, filter: { $case: 'key', value: filter.key } };
}
