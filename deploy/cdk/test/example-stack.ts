/** The example, with secrets that nobody has, and a site that is not bundled. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { App } from 'aws-cdk-lib';
import { SiteStack, type SiteStackProps } from '../example/stack.js';

const arn = (name: string) => `arn:aws:secretsmanager:eu-west-1:123456789012:secret:leasehold/${name}-AbCdEf`;
export const secrets = {
  certificate: arn('certificate'),
  privateKey: arn('private-key'),
  policy: arn('policy'),
  tokens: arn('tokens'),
  renderToken: arn('render-token'),
  operatorToken: arn('operator-token'),
};

const code = mkdtempSync(join(tmpdir(), 'leasehold-site-'));
writeFileSync(join(code, 'index.js'), 'exports.handler = async () => ({});');
after(() => rmSync(code, { recursive: true }));

export function site(props: Partial<SiteStackProps> = {}): SiteStack {
  return new SiteStack(new App(), 'Site', {
    imageRepository: 'leasehold',
    imageTag: '1.0.0',
    code,
    secrets,
    caPem: 'PEM',
    ...props,
  });
}
