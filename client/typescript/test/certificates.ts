/**
 * Certificates, made by `openssl`.
 *
 * @module
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A certificate and its key: PEM. */
export interface Certified {
  readonly certificate: string;
  readonly key: string;
}

/** Signs certificates. */
export class Authority {
  readonly pem: string;
  readonly #folder: string;

  constructor(test: TestContext) {
    this.#folder = mkdtempSync(join(tmpdir(), 'leasehold-authority-'));
    test.after(() => rmSync(this.#folder, { recursive: true, force: true }));
    this.pem = this.#make('authority', 'basicConstraints = critical, CA:TRUE', []).certificate;
  }

  /** `names` such as `DNS:localhost`, `IP:127.0.0.1` or `URI:spiffe://shop/acme`. */
  certify(...names: string[]): Certified {
    const signed = ['-CA', this.#path('authority.pem'), '-CAkey', this.#path('authority.key')];
    return this.#make('certified', `subjectAltName = ${names.join(', ')}`, signed);
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }

  #make(name: string, extension: string, signed: string[]): Certified {
    const [settings, certificate, key] = ['cnf', 'pem', 'key'].map((end) => this.#path(`${name}.${end}`));
    writeFileSync(settings!, `[req]\ndistinguished_name = dn\n[dn]\n[extensions]\n${extension}\n`);
    const made = ['-config', settings!, '-extensions', 'extensions', '-out', certificate!, '-keyout', key!];
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc'];
    const args = ['req', '-x509', '-days', '2', '-subj', `/CN=${name}`, ...curve, ...made, ...signed];
    execFileSync('openssl', args, { stdio: 'pipe' });
    return { certificate: readFileSync(certificate!, 'utf8'), key: readFileSync(key!, 'utf8') };
  }
}
