/**
 * What callers give, parsed once where it comes in: plain JavaScript hands over whatever there is, and what is none of what was
 * asked for would otherwise be sent as something else.
 *
 * @module
 */

import { LeaseholdError } from './error.js';

/**
 * Makes of a value what it is to be, or says what is allowed in `field`.
 *
 * @throws LeaseholdError of the kind `configuration`, with the field.
 */
export type Parse<T> = (value: unknown, field: string) => T;

/** How each field of a record is parsed; no others are allowed. */
type Shape<T> = { readonly [K in keyof T]-?: Parse<T[K]> };

/**
 * An object with these fields and no others: one that is misspelt would be taken for one that is absent. `others` are looked at by
 * whoever asks for them.
 */
export function record<T extends object>(shape: Shape<T>, others: readonly string[] = []): Parse<T> {
  const names = Object.keys(shape) as (keyof T & string)[];
  const allowed: readonly string[] = [...names, ...others];
  return (value, field) => {
    const given = object(value, field);
    for (const name of Object.keys(given)) {
      if (!allowed.includes(name)) {
        throw LeaseholdError.input(`${field}.${name}`, `is no field; allowed are ${allowed.join(', ')}`);
      }
    }
    const parsed: Partial<T> = {};
    for (const name of names) {
      const part = shape[name](given[name], `${field}.${name}`);
      // What is absent stays so: it is not to hide a default.
      if (part !== undefined) {
        parsed[name] = part;
      }
    }
    return parsed as T;
  };
}

/** The one of several fields that is given, as the wire's unions are. */
type OneOf<S extends Readonly<Record<string, Parse<unknown>>>> = {
  [K in keyof S & string]: { $case: K; value: ReturnType<S[K]> };
}[keyof S & string];

/** Exactly one of these fields. */
export function only<S extends Readonly<Record<string, Parse<unknown>>>>(shape: S): Parse<OneOf<S>> {
  const names = Object.keys(shape);
  return (value, field) => {
    const given = object(value, field);
    const filled = names.filter((name) => given[name] !== undefined);
    const [name = names.find((each) => each in given)] = filled;
    const parse = name === undefined ? undefined : shape[name];
    if (!parse || filled.length > 1) {
      throw LeaseholdError.input(field, `must have exactly one of ${names.join(', ')}`);
    }
    return { $case: name, value: parse(given[name!], `${field}.${name}`) } as OneOf<S>;
  };
}

export const object: Parse<Readonly<Record<string, unknown>>> = (value, field) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw mismatch(field, 'an object', value);
  }
  return value as Readonly<Record<string, unknown>>;
};

export const text: Parse<string> = (value, field) => {
  if (typeof value !== 'string') {
    throw mismatch(field, 'text', value);
  }
  return value;
};

export const flag: Parse<boolean> = (value, field) => {
  if (typeof value !== 'boolean') {
    throw mismatch(field, 'true or false', value);
  }
  return value;
};

export const yes: Parse<true> = (value, field) => {
  if (value !== true) {
    throw mismatch(field, 'true', value);
  }
  return value;
};

export const bytes: Parse<Uint8Array> = (value, field) => {
  if (!(value instanceof Uint8Array)) {
    throw mismatch(field, 'bytes', value);
  }
  return value;
};

export const textOrBytes: Parse<string | Uint8Array> = (value, field) => {
  if (typeof value !== 'string' && !(value instanceof Uint8Array)) {
    throw mismatch(field, 'text or bytes', value);
  }
  return value;
};

export const seconds: Parse<number> = numberOf('a number of seconds, zero or more', (n) => n >= 0);
/** For how long, also without an end. */
export const bound: Parse<number> = (value, field) => (value === Infinity ? value : seconds(value, field));
export const milliseconds: Parse<number> = numberOf('a number of milliseconds, zero or more', (n) => n >= 0);
export const size: Parse<number> = numberOf('a whole number, zero or more', isCount);
/** Of a response that can be made. */
export const status: Parse<number> = numberOf(
  'a whole number from 200 to 599',
  (n) => isCount(n) && n >= 200 && n <= 599,
);

function numberOf(what: string, isAllowed: (number: number) => boolean): Parse<number> {
  return (value, field) => {
    if (typeof value !== 'number') {
      throw mismatch(field, what, value);
    }
    if (!Number.isFinite(value) || !isAllowed(value)) {
      throw LeaseholdError.input(field, `must be ${what}, not ${value}`);
    }
    return value;
  };
}

function isCount(number: number): boolean {
  return Number.isInteger(number) && number >= 0;
}

/** A number, also one without an end. */
export const amount: Parse<number> = (value, field) => {
  if (typeof value !== 'number' || !(value >= 0)) {
    throw mismatch(field, 'a number, zero or more', value);
  }
  return value;
};

export const bigint: Parse<bigint> = (value, field) => {
  if (typeof value !== 'bigint') {
    throw mismatch(field, 'a bigint', value);
  }
  return value;
};

/** What is called; with what, it is taken to know. */
export function called<F>(): Parse<F> {
  return (value, field) => {
    if (typeof value !== 'function') {
      throw mismatch(field, 'a function', value);
    }
    return value as F;
  };
}

/** An object of which only others know what it has to be. */
export function objectAs<T>(): Parse<T> {
  return (value, field) => object(value, field) as T;
}

export function optional<T>(parse: Parse<T>): Parse<T | undefined> {
  return (value, field) => (value === undefined ? undefined : parse(value, field));
}

/** One of these words. */
export function word<W extends string>(...words: readonly [W, ...W[]]): Parse<W> {
  const quoted = words.map((each) => JSON.stringify(each));
  const what = [quoted.slice(0, -1).join(', '), quoted.at(-1)].filter(Boolean).join(' or ');
  return (value, field) => {
    const found = words.find((each) => each === value);
    if (found === undefined) {
      const given = typeof value === 'string' ? JSON.stringify(value) : shown(value);
      throw LeaseholdError.input(field, `must be ${what}, not ${given}`);
    }
    return found;
  };
}

/** A list; a text is none, although it can be taken apart into letters. */
export function list<T>(parse: Parse<T>): Parse<readonly T[]> {
  return (value, field) => {
    if (!Array.isArray(value)) {
      throw mismatch(field, 'a list', value);
    }
    // By index: a hole is an item that is missing.
    return Array.from(value, (item: unknown, index) => parse(item, `${field}[${index}]`));
  };
}

/** What can be gone through item by item, such as a list or a `Map`. */
export function items<T>(parse: Parse<T>): Parse<readonly T[]> {
  return (value, field) => {
    if (typeof value !== 'object' || value === null || !(Symbol.iterator in value)) {
      throw mismatch(field, 'a list', value);
    }
    return Array.from(value as Iterable<unknown>, (item, index) => parse(item, `${field}[${index}]`));
  };
}

export function pair<A, B>(first: Parse<A>, second: Parse<B>): Parse<readonly [A, B]> {
  return (value, field) => {
    if (!Array.isArray(value) || value.length !== 2) {
      throw mismatch(field, 'a pair', value);
    }
    return [first(value[0], `${field}[0]`), second(value[1], `${field}[1]`)];
  };
}

/** An object of texts by their names. */
export const texts: Parse<Readonly<Record<string, string>>> = (value, field) =>
  Object.fromEntries(
    Object.entries(object(value, field)).map(([name, each]) => [name, text(each, `${field}.${name}`)]),
  );

function mismatch(field: string, what: string, value: unknown): LeaseholdError {
  return LeaseholdError.input(field, `must be ${what}, not ${shown(value)}`);
}

/** Only what kind of value it is: it may be a secret. */
function shown(value: unknown): string {
  if (value === null || value === undefined || typeof value === 'boolean') {
    return String(value);
  }
  if (Array.isArray(value)) {
    return 'a list';
  }
  switch (typeof value) {
    case 'string':
      return 'text';
    case 'object':
      return 'an object';
    default:
      return `a ${typeof value}`;
  }
}
