/**
 * A real coordinator, in a process and a folder of its own.
 *
 * @module
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Coordinator, type CoordinatorOptions } from '../src/index.js';

/** `scripts/test.mjs` sees to it that there is one. */
function binary(): string {
  const named = process.env.LEASEHOLD_BIN;
  if (!named) {
    throw new Error('LEASEHOLD_BIN does not name a coordinator');
  }
  return named;
}

const running = new Set<ChildProcess>();
// A file of tests that takes too long is ended by a signal: nothing of it stays behind.
process.once('SIGTERM', () => process.exit(1));
process.once('exit', () => {
  for (const coordinator of running) {
    coordinator.kill('SIGKILL');
  }
});

export class CoordinatorProcess {
  readonly #flags: readonly string[];
  readonly #folder = mkdtempSync(join(tmpdir(), 'leasehold-test-'));
  #address = '127.0.0.1:0';
  #process: ChildProcess | undefined;
  #handles: Coordinator[] = [];

  private constructor(flags: readonly string[]) {
    this.#flags = flags;
  }

  /** Started, and ended with the test. */
  static async start(test: TestContext, ...flags: string[]): Promise<CoordinatorProcess> {
    const coordinator = new CoordinatorProcess(flags);
    test.after(async () => {
      for (const handle of coordinator.#handles) {
        handle.close();
      }
      await coordinator.kill();
      rmSync(coordinator.#folder, { recursive: true, force: true });
    });
    await coordinator.restart();
    return coordinator;
  }

  get endpoint(): string {
    return `${this.#flags.includes('--tls-cert') ? 'https' : 'http'}://${this.#address}`;
  }

  /** A handle of its own, closed with the test. */
  connect(options: CoordinatorOptions = {}): Coordinator {
    const handle = new Coordinator({ endpoint: this.endpoint, ...options });
    this.#handles.push(handle);
    return handle;
  }

  /** Again, on the same port and with the same data. Resolves when it takes calls. */
  async restart(): Promise<void> {
    await this.kill();
    const args = [
      'serve',
      '--listen',
      this.#address,
      '--data-dir',
      join(this.#folder, 'data'),
      ...this.#flags,
    ];
    const started = spawn(binary(), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = started;
    running.add(started);
    started.once('exit', () => running.delete(started));
    let said = '';
    started.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const address = await new Promise<string>((resolve, reject) => {
      let heard = '';
      started.once('error', reject);
      started.once('exit', () => reject(new Error(`the coordinator did not start: ${said}`)));
      started.stdout.setEncoding('utf8').on('data', (text: string) => {
        heard += text;
        const found = /listens on (127\.0\.0\.1:\d+)/.exec(heard)?.[1];
        if (found) {
          resolve(found);
        }
      });
    });
    this.#address = address;
  }

  /** Without a chance to say goodbye. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** With word to its clients. */
  async drain(): Promise<void> {
    await this.#end('SIGTERM');
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const ended = this.#process;
    this.#process = undefined;
    if (ended && ended.exitCode === null && ended.signalCode === null) {
      ended.kill(signal);
      await once(ended, 'exit');
    }
  }
}
