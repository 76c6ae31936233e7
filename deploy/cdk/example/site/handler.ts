/**
 * A site in a Lambda: behind a function URL, which CloudFront signs its requests to, and invoked by whoever edits the site, who may
 * declare pages out of date: `{ "invalidate": ["posts"] }`.
 */
import { type PagePolicy, PageServer, type RenderedPage } from 'leasehold-client';
import { tokenIn } from './token.js';

/** What a function URL hands over, and takes: in so far as a site needs it. */
export interface UrlEvent {
  readonly rawPath: string;
  readonly rawQueryString: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly cookies?: readonly string[];
  readonly body?: string;
  readonly isBase64Encoded: boolean;
  readonly requestContext: { readonly http: { readonly method: string } };
}

export interface UrlResult {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly cookies: readonly string[];
  readonly body: string;
  readonly isBase64Encoded: true;
}

/** What an editor hands over. A function URL makes no such event, so that no visitor can. */
export interface Edited {
  /** Tags. */
  readonly invalidate: readonly string[];
}

const {
  SITE_TENANT: tenant = 'site',
  LEASEHOLD_ENDPOINT: endpoint = 'http://127.0.0.1:7420',
  LEASEHOLD_CA_PEM: caPem,
  LEASEHOLD_AUTH_TOKEN_SECRET_ARN: tokenSecret,
} = process.env;
// Once for each process, so that its connection lives from call to call; also after it was frozen.
const pages = new PageServer({
  tenant,
  coordinator: {
    endpoint,
    security: { caPem, tokenSource: tokenSecret ? tokenIn(tokenSecret) : undefined },
  },
});

const POLICY: PagePolicy = {
  mode: 'stale-while-revalidate',
  revalidateSeconds: 60,
  staleWhileRevalidateSeconds: 600,
  // Of the minute that the Lambda and CloudFront have: there must be time left to render.
  maxWaitMs: 10_000,
  // Of this site, a page is the same whatever the query and the cookies.
  page: { query: [], cookieVariance: 'none' },
};

export async function handler(event: UrlEvent | Edited): Promise<UrlResult | { invalidated: number }> {
  try {
    if ('invalidate' in event) {
      await pages.invalidate(event.invalidate.map((tag) => ({ tenant, tag })));
      return { invalidated: event.invalidate.length };
    }
    return await resultOf(await pages.servePage(requestOf(event), POLICY, ({ request }) => render(request)));
  } finally {
    // What is rendered behind a stale page would be frozen with the process, and its lease with it. So whoever is given
    // a stale page waits for the next one.
    await pages.idle();
  }
}

function render({ method, url }: Request): RenderedPage {
  const { pathname } = new URL(url);
  if (method !== 'GET') {
    return {
      html: 'Method Not Allowed',
      status: 405,
      contentType: 'text/plain',
      headers: [['allow', 'GET, HEAD']],
    };
  }
  const post = /^\/posts\/([a-z0-9-]+)$/.exec(pathname)?.[1];
  if (pathname !== '/' && !post) {
    return { html: '<h1>Not found</h1>', status: 404 };
  }
  const title = post ? `Post ${post}` : 'Home';
  const html = `<!doctype html><title>${title}</title><h1>${title}</h1><p>Rendered at ${new Date().toISOString()}</p>`;
  return { html, tags: post ? ['posts', `post:${post}`] : ['posts'] };
}

/**
 * What CloudFront signs a request with is CloudFront's, another one each time, and no credential of the visitor's: with it, every
 * visit would be to a page of its own.
 */
function isOfTheSignature(name: string): boolean {
  return name === 'authorization' || name.startsWith('x-amz-');
}

function requestOf({
  rawPath,
  rawQueryString,
  headers,
  cookies = [],
  body,
  isBase64Encoded,
  requestContext,
}: UrlEvent) {
  const { method } = requestContext.http;
  const url = new URL(`https://site.invalid${rawPath}${rawQueryString && `?${rawQueryString}`}`);
  const names = Object.entries(headers).filter(([name]) => !isOfTheSignature(name.toLowerCase()));
  const request = {
    method,
    headers: new Headers([...names, ...cookies.map((one): [string, string] => ['cookie', one])]),
  };
  const isReading = method === 'GET' || method === 'HEAD';
  return new Request(
    url,
    isReading || body === undefined
      ? request
      : { ...request, body: Buffer.from(body, isBase64Encoded ? 'base64' : 'utf8') },
  );
}

async function resultOf(response: Response): Promise<UrlResult> {
  const headers = Object.fromEntries([...response.headers].filter(([name]) => name !== 'set-cookie'));
  return {
    statusCode: response.status,
    headers,
    cookies: response.headers.getSetCookie(),
    body: Buffer.from(await response.arrayBuffer()).toString('base64'),
    isBase64Encoded: true,
  };
}
