/**
 * A way to the coordinator on which answers get lost.
 *
 * @module
 */

import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';

/** What an HTTP/2 frame of this type begins with, after its length. */
const DATA_FRAME = 0;
const FRAME_HEAD_BYTES = 9;

export class LossyLink {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #silent = new Set<Socket>();
  #toLose = 0;
  #isRefusing = false;
  lost = 0;
  connections = 0;

  private constructor(target: URL) {
    this.#server = createServer((near) => {
      if (this.#isRefusing) {
        near.destroy();
        return;
      }
      this.connections += 1;
      const far = connect(Number(target.port), target.hostname);
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.setNoDelay(true);
        socket.on('error', () => {});
        socket.on('close', () => {
          this.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      near.on('data', (bytes) => !this.#silent.has(near) && far.write(bytes));
      far.on('data', (bytes) => {
        if (this.#toLose > 0 && holdsData(bytes)) {
          this.#toLose -= 1;
          this.lost += 1;
          near.destroy();
        } else if (!this.#silent.has(far)) {
          near.write(bytes);
        }
      });
    });
  }

  /** Started, and ended with the test. */
  static async start(test: TestContext, endpoint: string): Promise<LossyLink> {
    const link = new LossyLink(new URL(endpoint));
    link.#server.listen(0, '127.0.0.1');
    await once(link.#server, 'listening');
    test.after(() => {
      link.#server.close();
      for (const socket of link.#sockets) {
        socket.destroy();
      }
    });
    return link;
  }

  get endpoint(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  }

  /** The next answers break their connection instead of arriving: the calls were applied. */
  loseAnswers(count: number): void {
    this.#toLose = count;
  }

  /** On the connections there are, nothing arrives any more; new ones are as they should be. */
  silenceConnections(): void {
    for (const socket of this.#sockets) {
      this.#silent.add(socket);
    }
  }

  /** Ends all connections, and refuses new ones. */
  refuseConnections(): void {
    this.#isRefusing = true;
    this.#server.close();
    for (const socket of this.#sockets) {
      socket.destroy();
    }
  }
}

function holdsData(bytes: Buffer): boolean {
  for (let at = 0; at + FRAME_HEAD_BYTES <= bytes.length; at += FRAME_HEAD_BYTES + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === DATA_FRAME) {
      return true;
    }
  }
  return false;
}
