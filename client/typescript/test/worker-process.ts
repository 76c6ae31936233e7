/**
 * Workers in processes of their own, which do what they are told.
 *
 * @module
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const running = new Set<ChildProcess>();
// A file of tests that takes too long is ended by a signal: nothing of it stays behind.
process.once('SIGTERM', () => process.exit(1));
process.once('exit', () => {
  for (const worker of running) {
    worker.kill('SIGKILL');
  }
});

/** A process that runs one of the programs in `test/workers`. */
export class WorkerProcess<Heard extends { type: string }> {
  readonly #process: ChildProcess;
  readonly #unread: Heard[] = [];
  #wake: (() => void) | undefined;

  private constructor(process: ChildProcess) {
    this.#process = process;
    running.add(process);
    process.once('exit', () => running.delete(process));
    process.on('message', (message: Heard) => {
      this.#unread.push(message);
      this.#wake?.();
    });
    process.on('exit', () => this.#wake?.());
  }

  /** Started, and ended with the test, also when it is frozen. */
  static start<Heard extends { type: string }>(
    test: TestContext,
    program: string,
    ...args: string[]
  ): WorkerProcess<Heard> {
    const path = fileURLToPath(new URL(`./workers/${program}.js`, import.meta.url));
    const started = fork(path, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], execArgv: [] });
    test.after(async () => {
      if (started.exitCode === null && started.signalCode === null) {
        started.kill('SIGKILL');
        await once(started, 'exit');
      }
    });
    return new WorkerProcess<Heard>(started);
  }

  tell(message: object): void {
    this.#process.send(message);
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** The next message of a type; others are dropped on the way. */
  async hear<Type extends Heard['type']>(type: Type): Promise<Extract<Heard, { type: Type }>> {
    for (;;) {
      const message = this.#unread.shift();
      if (message?.type === type) {
        return message as Extract<Heard, { type: Type }>;
      }
      if (!message) {
        if (this.#process.exitCode !== null || this.#process.signalCode !== null) {
          throw new Error(`the worker ended before it said ${type}`);
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
