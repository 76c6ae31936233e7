/**
 * What is declared out of date, and what is watched.
 *
 * @module
 */

import { LeaseholdError } from './error.js';
import {
  InvalidationDepth as WireDepth,
  type WatchFilter as WireFilter,
  type InvalidationScope as WireScope,
} from './generated/leasehold/v1/coordinator.js';
import { list, only, optional, type Parse, record, text, word, yes } from './given.js';
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

const all: Parse<Record<never, never>> = (value, field) => {
  yes(value, field);
  return {};
};

const WATCHED = { wholeTenant: all, tag: text, key: text };
const INVALIDATED = {
  everything: all,
  wholeTenant: all,
  deployment: text,
  pathPrefix: text,
  tag: text,
  key: text,
};

const parseFilterTarget = only(WATCHED);
const parseTarget = only(INVALIDATED);
const tenantBeside = (targets: object) =>
  record<{ tenant?: string | undefined }>({ tenant: optional(text) }, Object.keys(targets));
const parseTenant = tenantBeside(INVALIDATED);
const parseFilterTenant = tenantBeside(WATCHED);

const parseGivenScope: Parse<WireScope> = (given, field) => {
  const { tenant = '' } = parseTenant(given, field);
  const scope = parseTarget(given, field);
  if (scope.$case === 'everything' && tenant !== '') {
    throw LeaseholdError.input(
      `${field}.tenant`,
      'must be absent where everything is meant, of every tenant',
    );
  }
  return { tenant, scope };
};

const parseGivenFilter: Parse<WireFilter> = (given, field) => {
  const { tenant = '' } = parseFilterTenant(given, field);
  return { tenant, filter: parseFilterTarget(given, field) };
};

/**
 * @throws LeaseholdError of the kind `configuration` for what are no scopes.
 * @internal
 */
export function toWireScopes(scopes: readonly Scope[]): WireScope[] {
  return [...list(parseGivenScope)(scopes, 'scopes')];
}

/**
 * @throws LeaseholdError of the kind `configuration` for what are no filters.
 * @internal
 */
export function toWireFilters(filters: readonly WatchFilter[]): WireFilter[] {
  return [...list(parseGivenFilter)(filters, 'filters')];
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
export const parseGivenDepth = word('soft', 'hard');

/** @internal */
export function toWireDepth(depth: Depth): WireDepth {
  return depth === 'hard' ? WireDepth.INVALIDATION_DEPTH_HARD : WireDepth.INVALIDATION_DEPTH_SOFT;
}

/** @internal */
export function parseDepth(depth: WireDepth): Depth {
  return depth === WireDepth.INVALIDATION_DEPTH_HARD ? 'hard' : 'soft';
}
