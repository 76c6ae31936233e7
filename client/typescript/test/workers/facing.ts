/**
 * A worker that serves one page to many visitors at a time, and says when all of them have asked whether to render it.
 *
 * @module
 */

import { once } from 'node:events';
import { type FaceMetaStore, faceStores } from '../../src/facetheory.js';
import { type FaceAnswer, FaceApp } from '../face-app.js';

export type Heard =
  | { type: 'ready' }
  | { type: 'asked'; holdsLease: boolean }
  | { type: 'served'; answers: FaceAnswer[]; renders: number };

const [endpoint, name] = process.argv.slice(2);
const say = (message: Heard) => process.send?.(message);
const stores = faceStores({ coordinator: { ...(endpoint && { endpoint }), owner: String(name) } });
let visitors = 0;
let asked = 0;
let holdsLease = false;
const metaStore: FaceMetaStore = {
  ...stores.metaStore,
  tryAcquireLease: async (input) => {
    const acquired = await stores.metaStore.tryAcquireLease(input);
    asked += 1;
    holdsLease ||= acquired.acquired;
    if (asked === visitors) {
      say({ type: 'asked', holdsLease });
    }
    return acquired;
  },
};
const app = new FaceApp({ ...stores, metaStore });

let renders = 0;
process.on('message', async (message: { key?: string; visitors?: number }) => {
  const { key } = message;
  if (key === undefined) {
    return;
  }
  visitors = message.visitors ?? 1;
  const face = {
    revalidateSeconds: 3600,
    render: async () => {
      renders += 1;
      await once(process, 'message');
      return { html: `rendered by ${name}` };
    },
  };
  const answers = await Promise.all(Array.from({ length: visitors }, () => app.serve(key, face)));
  say({ type: 'served', answers, renders });
});
say({ type: 'ready' });
