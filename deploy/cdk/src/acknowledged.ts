import { Validations } from 'aws-cdk-lib';
import type { IConstruct } from 'constructs';

/** Why a rule of cdk-nag does not hold somewhere. */
export interface Acknowledged {
  /** For whoever reviews it. */
  readonly reason: string;
  /** Those of a rule that finds several things; without them, the rule as a whole. */
  readonly findings?: readonly string[];
}

/** Acknowledges what rules of cdk-nag find at a construct, and below it. */
export function acknowledge(construct: IConstruct, rules: Readonly<Record<string, Acknowledged>>): void {
  for (const [rule, { reason, findings }] of Object.entries(rules)) {
    const ids = findings ? findings.map((finding) => `${rule}[${finding}]`) : [rule];
    Validations.of(construct).acknowledge(...ids.map((id) => ({ id, reason })));
  }
}
