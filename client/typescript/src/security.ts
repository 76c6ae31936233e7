/**
 * How a coordinator's client says who it is, and whom it believes.
 *
 * @module
 */

import { isIP } from 'node:net';
import { inspect } from 'node:util';
import { LeaseholdError } from './error.js';
import { called, optional, type Parse, record, text } from './given.js';
import { type FieldOf, Tls } from './tls.js';
import { Credentials, isToken, TOKEN_FORM, type TokenSource } from './token.js';

/**
 * How to say who calls, and whom to believe. By default: nobody, and for `https` the authorities that Node.js knows.
 *
 * Certificates in files are read anew for every new channel, and a token in a file every ten seconds and whenever it was
 * refused: both may be replaced while calls go on.
 */
export interface SecurityOptions {
  /** Believe the coordinators of these authorities only: PEM. */
  readonly caPem?: string | undefined;
  /** The same, from a file. */
  readonly caFile?: string | undefined;
  /** Present this certificate, with its chain: PEM. */
  readonly clientCertificatePem?: string | undefined;
  /** The same, from a file. */
  readonly clientCertificateFile?: string | undefined;
  /** The key of the certificate: PEM, without a passphrase. */
  readonly clientKeyPem?: string | undefined;
  /** The same, from a file. */
  readonly clientKeyFile?: string | undefined;
  /** Expect this name in the coordinator's certificate. Default: the host in the endpoint. */
  readonly serverName?: string | undefined;
  /** Present this token with every call: visible ASCII without commas. */
  readonly token?: string | undefined;
  /** Present the token in this file, without the white space around it. */
  readonly tokenFile?: string | undefined;
  /**
   * Present what this function answers. It is asked when there is no token yet, a minute before one expires or after two
   * thirds of a short life, and after one was refused; by one call at a time, for at most 10 s.
   */
  readonly tokenSource?: TokenSource | undefined;
}

type Name = keyof SecurityOptions;

const VARIABLES = {
  caFile: 'LEASEHOLD_CA',
  caPem: 'LEASEHOLD_CA_PEM',
  clientCertificateFile: 'LEASEHOLD_CLIENT_CERT',
  clientKeyFile: 'LEASEHOLD_CLIENT_KEY',
  serverName: 'LEASEHOLD_SERVER_NAME',
  token: 'LEASEHOLD_AUTH_TOKEN',
  tokenFile: 'LEASEHOLD_AUTH_TOKEN_FILE',
} as const;

/** What was given, and what its fields are called where it was given. */
interface Given {
  readonly options: SecurityOptions;
  readonly names: Readonly<Partial<Record<Name, string>>>;
}

// Of the package, not of one of its two builds: what one of them made is known to the other.
const GIVEN = Symbol.for('leasehold-client.Security');

/** The same as {@link SecurityOptions}; shows in neither `console.log` nor `JSON.stringify`. */
export class Security {
  #given: Given;

  /** @throws LeaseholdError of the kind `configuration` for what contradicts itself or cannot be meant. */
  constructor(options: SecurityOptions = {}) {
    this.#given = { options: checked(parseOptions(options, 'options'), namesIn('options')), names: {} };
  }

  /**
   * What the environment says: `LEASEHOLD_CA` (a file) or `LEASEHOLD_CA_PEM` (the text), `LEASEHOLD_CLIENT_CERT` and
   * `LEASEHOLD_CLIENT_KEY` (files), `LEASEHOLD_SERVER_NAME`, `LEASEHOLD_AUTH_TOKEN` or `LEASEHOLD_AUTH_TOKEN_FILE`. A
   * variable that is empty counts as none.
   *
   * @throws LeaseholdError of the kind `configuration` where two contradict each other, or one of a pair is missing; its
   *   `field` names the variable.
   */
  static fromEnvironment(variables: Readonly<Record<string, string | undefined>> = process.env): Security {
    const options: { -readonly [K in keyof typeof VARIABLES]?: string } = {};
    for (const name of Object.keys(VARIABLES) as (keyof typeof VARIABLES)[]) {
      const value = variables[VARIABLES[name]];
      if (value) {
        options[name] = value;
      }
    }
    const security = new Security();
    security.#given = { options: checked(options, namesIn('', VARIABLES)), names: VARIABLES };
    return security;
  }

  /** @internal */
  [GIVEN](): Given {
    return this.#given;
  }

  toString(): string {
    return 'Security(..)';
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

const parseOptions = record<SecurityOptions>({
  caPem: optional(text),
  caFile: optional(text),
  clientCertificatePem: optional(text),
  clientCertificateFile: optional(text),
  clientKeyPem: optional(text),
  clientKeyFile: optional(text),
  serverName: optional(text),
  token: optional(text),
  tokenFile: optional(text),
  tokenSource: optional(called<TokenSource>()),
});

function namesIn(field: string, names: Given['names'] = {}): FieldOf<Name> {
  return (name) => names[name] ?? `${field}.${name}`;
}

/** Options that do not contradict each other. */
function checked(options: SecurityOptions, fieldOf: FieldOf<Name>): SecurityOptions {
  const oneOf = (...names: Name[]): Name | undefined => {
    const [first, second] = names.filter((name) => options[name] !== undefined);
    if (first && second) {
      throw LeaseholdError.input(fieldOf(second), `excludes ${fieldOf(first)}; leave out one`);
    }
    return first;
  };
  oneOf('caPem', 'caFile');
  oneOf('token', 'tokenFile', 'tokenSource');
  const certificate = oneOf('clientCertificatePem', 'clientCertificateFile');
  const key = oneOf('clientKeyPem', 'clientKeyFile');
  if (certificate && !key) {
    const missing = certificate === 'clientCertificatePem' ? 'clientKeyPem' : 'clientKeyFile';
    throw LeaseholdError.input(fieldOf(missing), `is missing, which ${fieldOf(certificate)} needs`);
  }
  if (key && !certificate) {
    const missing = key === 'clientKeyPem' ? 'clientCertificatePem' : 'clientCertificateFile';
    throw LeaseholdError.input(fieldOf(missing), `is missing, which ${fieldOf(key)} needs`);
  }
  for (const name of ['caFile', 'clientCertificateFile', 'clientKeyFile', 'tokenFile'] as const) {
    // A key that is taken for a path must not show in the error of its reading.
    if (options[name] !== undefined && !/^[^\r\n]+$/.test(options[name])) {
      throw LeaseholdError.input(fieldOf(name), 'must be the path of a file');
    }
  }
  const { serverName, token } = options;
  if (
    serverName !== undefined &&
    !(isIP(serverName) || /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/i.test(serverName))
  ) {
    throw LeaseholdError.input(fieldOf('serverName'), 'must be a host name or an address, without a port');
  }
  if (token !== undefined && !isToken(token)) {
    throw LeaseholdError.input(fieldOf('token'), TOKEN_FORM);
  }
  return options;
}

/** What a coordinator's connections and calls are made with. */
export interface Access {
  /** Absent: plain text. */
  readonly tls?: Tls;
  /** Absent: calls say nothing of who makes them. */
  readonly credentials?: Credentials;
}

/** What was given, before it is known what for. */
export interface ParsedSecurity {
  /**
   * For an endpoint with or without TLS.
   *
   * @throws LeaseholdError of the kind `configuration` for what would have no effect there, and for certificates that are none.
   */
  access(isTls: boolean): Access;
}

export const parseSecurity: Parse<ParsedSecurity> = (value, field) => {
  const isMade = typeof value === 'object' && value !== null && GIVEN in value;
  const { options, names } = isMade
    ? (value as Security)[GIVEN]()
    : { options: checked(parseOptions(value, field), namesIn(field)), names: {} };
  const fieldOf = namesIn(field, names);
  return {
    access: (isTls) => {
      const token = credentialsOf(options);
      if (!isTls) {
        refuseWithoutEffect(options, fieldOf);
      }
      return { ...(isTls && { tls: new Tls(options, fieldOf) }), ...(token && { credentials: token }) };
    },
  };
};

function credentialsOf({ token, tokenFile, tokenSource }: SecurityOptions): Credentials | undefined {
  if (token !== undefined) {
    return new Credentials({ kind: 'fixed', value: token });
  }
  if (tokenFile !== undefined) {
    return new Credentials({ kind: 'file', path: tokenFile });
  }
  return tokenSource && new Credentials({ kind: 'source', ask: tokenSource });
}

const OF_TLS = [
  'caPem',
  'caFile',
  'clientCertificatePem',
  'clientCertificateFile',
  'clientKeyPem',
  'clientKeyFile',
  'serverName',
] as const;

/** Somebody who sets these believes that they guard something. */
function refuseWithoutEffect(options: SecurityOptions, fieldOf: FieldOf<Name>): void {
  for (const name of OF_TLS) {
    if (options[name] !== undefined) {
      throw LeaseholdError.input(
        fieldOf(name),
        'would have no effect without TLS; the endpoint must begin with https://',
      );
    }
  }
}
