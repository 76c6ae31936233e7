/**
 * The example: `npm run build-site && npx aws-cdk deploy --app 'node build/bin/example.js'`, with LEASEHOLD_IMAGE_REPOSITORY and
 * LEASEHOLD_IMAGE_TAG for the image. Where FaceTheory's variables are set, its table and bucket are taken over.
 */
import { fileURLToPath } from 'node:url';
import { App } from 'aws-cdk-lib';
import { SiteStack } from '../example/stack.js';

const {
  LEASEHOLD_IMAGE_REPOSITORY: imageRepository = 'leasehold',
  LEASEHOLD_IMAGE_TAG: imageTag,
  FACETHEORY_CACHE_TABLE_NAME: table,
  FACETHEORY_ISR_BUCKET: bucket,
  FACETHEORY_ISR_PREFIX: prefix = '',
} = process.env;
if (!imageTag) {
  throw new Error(
    'LEASEHOLD_IMAGE_TAG is not set: the tag, or the digest, of the image of the coordinator in ECR',
  );
}
const app = new App();
new SiteStack(app, 'LeaseholdSite', {
  imageRepository,
  imageTag,
  code: fileURLToPath(new URL('../../example/site/dist', import.meta.url)),
  ...(table && bucket && { faceTheory: { table, bucket, prefix } }),
});
app.synth();
