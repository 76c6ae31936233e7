/**
 * FaceTheory's two store interfaces on the coordinator: {@link faceStores}.
 *
 * @packageDocumentation
 */

export type { FaceMetaRecord, FaceStrictCspPolicy } from './face-records.js';
export * from './face-stores.js';
