/**
 * A coordinator of which some answers are a test's own.
 *
 * @module
 */

import type { Coordinator, Lease } from '../src/index.js';

/** `target`, with these of its methods in place of its own. */
function interposed<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      const answered = Reflect.get(own, name) ?? Reflect.get(target, name, target);
      return typeof answered === 'function' ? answered.bind(target) : answered;
    },
  });
}

/** A handle that answers by `own`, and else as the coordinator does. */
export function answering(handle: Coordinator, own: Partial<Coordinator>): Coordinator {
  return interposed(handle, own);
}

/** A handle whose leases answer by `own`, and else as the coordinator does. */
export function leasing(
  handle: Coordinator,
  own: (lease: Lease) => Partial<Lease>,
  others: Partial<Coordinator> = {},
): Coordinator {
  const acquire: Coordinator['acquire'] = async (entry, options) => {
    const acquired = await handle.acquire(entry, options);
    return acquired.outcome === 'granted'
      ? { ...acquired, lease: interposed(acquired.lease, own(acquired.lease)) }
      : acquired;
  };
  return interposed(handle, { acquire, ...others });
}
