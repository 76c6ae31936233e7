/**
 * Stands for FaceTheory's package in the example of the README: `createFaceApp` as far as the example needs it.
 *
 * @module
 */

import { FaceApp, type FaceRendering, type Stores } from './face-app.js';

interface FaceModule {
  route: string;
  mode: 'isr';
  revalidateSeconds: number;
  render: () => FaceRendering;
}

export interface FaceAppConfig {
  faces: FaceModule[];
  isr: Stores;
}

export function createFaceApp({ faces, isr }: FaceAppConfig) {
  const app = new FaceApp(isr);
  return {
    async handle({ path }: { method: string; path: string }) {
      const face = faces.find(({ route }) => route === path);
      if (!face) {
        throw new Error(`no face is at ${path}`);
      }
      const { state, status, body } = await app.serve(`default::${path}?`, face);
      const headers: Record<string, string[]> = { 'x-facetheory-isr': [state] };
      return { status, headers, body: Buffer.from(body) };
    },
  };
}
