import { App } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { LeaseholdStack, type LeaseholdStackProps } from './stack.js';

/** What is committed in `templates`, and how it is made. */
export const TEMPLATES: Readonly<Record<string, LeaseholdStackProps>> = {
  'leasehold.template.json': { hasTokens: false },
  'leasehold-tls-tokens.template.json': { hasTokens: true },
};

/** The stack of a template. */
export function stackOf(name: string): LeaseholdStack {
  const props = TEMPLATES[name];
  if (!props) {
    throw new Error(`there is no template '${name}'; there are: ${Object.keys(TEMPLATES).join(', ')}`);
  }
  // Without what would tell which machine, and which version of CDK, made it.
  return new LeaseholdStack(new App({ analyticsReporting: false }), 'Leasehold', props);
}

/** A template, as it is committed. */
export function templateOf(name: string): string {
  return `${laidOut(Template.fromStack(stackOf(name)).toJSON(), '')}\n`;
}

const LINE_WIDTH = 128;

/** JSON, in which what fits into a line is in one: CloudFormation counts the blanks of a file too. */
function laidOut(value: unknown, indent: string): string {
  const line = JSON.stringify(value);
  if (indent.length + line.length <= LINE_WIDTH || typeof value !== 'object' || value === null) {
    return line;
  }
  const deeper = `${indent} `;
  const [open, close, parts] = Array.isArray(value)
    ? ['[', ']', value.map((one) => laidOut(one, deeper))]
    : [
        '{',
        '}',
        Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${laidOut(one, deeper)}`),
      ];
  return `${open}\n${deeper}${parts.join(`,\n${deeper}`)}\n${indent}${close}`;
}
