/**
 * The example: `npm run build-site && npx aws-cdk deploy --app 'node build/bin/example.js'`, with LEASEHOLD_IMAGE_REPOSITORY and
 * LEASEHOLD_IMAGE_TAG for the image, a variable for the ARN of each secret, and LEASEHOLD_CA for the file with the authority. Where
 * FaceTheory's variables are set, its table and bucket are taken over.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { App } from 'aws-cdk-lib';
import { SiteStack } from '../example/stack.js';

function needed(name: string, what: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set: ${what}`);
  }
  return value;
}

const {
  LEASEHOLD_IMAGE_REPOSITORY: imageRepository = 'leasehold',
  FACETHEORY_CACHE_TABLE_NAME: table,
  FACETHEORY_ISR_BUCKET: bucket,
  FACETHEORY_ISR_PREFIX: prefix = '',
} = process.env;
const app = new App();
new SiteStack(app, 'LeaseholdSite', {
  imageRepository,
  imageTag: needed('LEASEHOLD_IMAGE_TAG', 'the tag, or the digest, of the image of the coordinator in ECR'),
  code: fileURLToPath(new URL('../../example/site/dist', import.meta.url)),
  secrets: {
    certificate: needed('LEASEHOLD_CERTIFICATE_ARN', "the secret with the coordinator's certificate, PEM"),
    privateKey: needed('LEASEHOLD_PRIVATE_KEY_ARN', 'the secret with the key of the certificate, PEM'),
    policy: needed('LEASEHOLD_POLICY_ARN', 'the secret with the policy, TOML'),
    tokens: needed('LEASEHOLD_TOKENS_ARN', 'the secret with the digests of the tokens, TOML'),
    renderToken: needed('LEASEHOLD_RENDER_TOKEN_ARN', "the secret with the render Lambda's token"),
    operatorToken: needed('LEASEHOLD_OPERATOR_TOKEN_ARN', "the secret with the operators' token"),
  },
  caPem: readFileSync(needed('LEASEHOLD_CA', 'the file with the authority of the certificate, PEM'), 'utf8'),
  ...(table && bucket && { faceTheory: { table, bucket, prefix } }),
});
app.synth();
