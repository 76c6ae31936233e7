export type { LeaseholdAccessProps, LeaseholdTlsProps } from './access.js';
export type { ApplicationBalancerProps } from './balancer.js';
export { type InvokeOptions, LeaseholdCoordinator, type LeaseholdCoordinatorProps } from './coordinator.js';
export { Operator, type OperatorOptions } from './operator.js';
export { Refused } from './refused.js';
export { type FaceTheoryLayout, LeaseholdStorage, type LeaseholdStorageProps } from './storage.js';
