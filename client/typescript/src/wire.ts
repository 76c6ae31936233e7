/**
 * What the wire's types have in common, parsed once at the edge.
 *
 * @module
 */

import { LeaseholdError } from './error.js';
import type { Duration } from './generated/google/protobuf/duration.js';
import type { Timestamp } from './generated/google/protobuf/timestamp.js';

/** What the contract says is always there. */
export function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) {
    throw LeaseholdError.protocol(`${what} is missing`);
  }
  return value;
}

/** Milliseconds, with fractions. An absent duration is none. */
export function milliseconds(duration: Duration | undefined): number {
  if (duration === undefined) {
    return 0;
  }
  if (duration.seconds < 0n || duration.nanos < 0) {
    throw LeaseholdError.protocol('a duration is negative');
  }
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** The same, where an absent one means something else than none. */
export function optionalMilliseconds(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : milliseconds(duration);
}

/**
 * @throws LeaseholdError of the kind `configuration` for what is no duration: an infinite one would reach the wire as
 * none, and mean something else there.
 */
export function toDuration(ms: number, name: string): Duration {
  if (!Number.isFinite(ms) || ms < 0) {
    throw LeaseholdError.configuration(`${name}: ${ms} is not a duration`);
  }
  const nanos = Math.round((ms % 1000) * 1e6);
  const carried = nanos === 1e9;
  return { seconds: BigInt(Math.floor(ms / 1000) + (carried ? 1 : 0)), nanos: carried ? 0 : nanos };
}

/** The same, where there may be none. */
export function toOptionalDuration(ms: number | undefined, name: string): Duration | undefined {
  return ms === undefined ? undefined : toDuration(ms, name);
}

/** For people. */
export function date(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp && new Date(Number(timestamp.seconds) * 1000 + timestamp.nanos / 1e6);
}

/** The wire says "none" by the empty text. */
export function nonEmpty(text: string): string | undefined {
  return text === '' ? undefined : text;
}
