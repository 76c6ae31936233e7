/**
 * Whom a connection believes, and which certificate it presents.
 *
 * @module
 */

import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import { LeaseholdError } from './error.js';
import { codeOf } from './token.js';

/** What a field is called where it was given. */
export type FieldOf<Name extends string> = (name: Name) => string;

/** What TLS is configured with. Of each pair of text and file there is one at most. */
export interface TlsSettings {
  readonly caPem?: string | undefined;
  readonly caFile?: string | undefined;
  readonly clientCertificatePem?: string | undefined;
  readonly clientCertificateFile?: string | undefined;
  readonly clientKeyPem?: string | undefined;
  readonly clientKeyFile?: string | undefined;
  readonly serverName?: string | undefined;
}

/** What the settings come to, once files are read. */
interface Pems {
  readonly ca: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
}

/** TLS as texts and files have it. */
export class Tls {
  readonly #settings: TlsSettings;
  readonly #fieldOf: FieldOf<keyof TlsSettings>;
  #read: Pems;
  #credentials: ChannelCredentials;

  /** @throws LeaseholdError of the kind `configuration` for what cannot be read, and for certificates that are none. */
  constructor(settings: TlsSettings, fieldOf: FieldOf<keyof TlsSettings>) {
    this.#settings = settings;
    this.#fieldOf = fieldOf;
    this.#read = this.#pems();
    this.#credentials = this.#made(this.#read);
  }

  /** Absent: the host in the endpoint. */
  get serverName(): string | undefined {
    return this.#settings.serverName;
  }

  /** As the files have it now; the same object while they have not changed. */
  credentials(): ChannelCredentials {
    try {
      const pems = this.#pems();
      const { ca, certificate, key } = this.#read;
      if (pems.ca !== ca || pems.certificate !== certificate || pems.key !== key) {
        this.#credentials = this.#made(pems);
        this.#read = pems;
      }
    } catch {
      // In the middle of being replaced, perhaps: those of before are as good as before.
    }
    return this.#credentials;
  }

  #pems(): Pems {
    return {
      ca: this.#pem('caPem', 'caFile'),
      certificate: this.#pem('clientCertificatePem', 'clientCertificateFile'),
      key: this.#pem('clientKeyPem', 'clientKeyFile'),
    };
  }

  #pem(text: keyof TlsSettings, file: keyof TlsSettings): string | undefined {
    const path = this.#settings[file];
    if (path === undefined) {
      return this.#settings[text];
    }
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      throw LeaseholdError.input(this.#fieldOf(file), `cannot read ${path}: ${codeOf(error)}`);
    }
  }

  #given(text: keyof TlsSettings, file: keyof TlsSettings): string {
    return this.#fieldOf(this.#settings[file] === undefined ? text : file);
  }

  #made({ ca, certificate, key }: Pems): ChannelCredentials {
    // A text without certificates would be taken for one that believes nobody, and show as an outage.
    if (ca !== undefined) {
      certificates(ca, this.#given('caPem', 'caFile'));
    }
    if (certificate !== undefined && key !== undefined) {
      const [own] = certificates(certificate, this.#given('clientCertificatePem', 'clientCertificateFile'));
      const field = this.#given('clientKeyPem', 'clientKeyFile');
      if (!own?.checkPrivateKey(privateKey(key, field))) {
        throw LeaseholdError.input(field, 'is not the key of the certificate');
      }
    }
    const bytes = (pem: string | undefined) => (pem === undefined ? null : Buffer.from(pem));
    // Said, because a variable of the environment would otherwise have Node.js believe everybody.
    return credentials.createSsl(bytes(ca), bytes(key), bytes(certificate), { rejectUnauthorized: true });
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs;

function certificates(pem: string, field: string): X509Certificate[] {
  const found = pem.match(CERTIFICATE) ?? [];
  if (found.length === 0) {
    throw LeaseholdError.input(field, 'has no certificate; it must be PEM');
  }
  return found.map((each, index) => {
    try {
      return new X509Certificate(each);
    } catch {
      throw LeaseholdError.input(field, `certificate ${index + 1} of ${found.length} cannot be read`);
    }
  });
}

function privateKey(pem: string, field: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw LeaseholdError.input(field, 'has no private key; it must be PEM, without a passphrase');
  }
}
