/**
 * Whether what was rendered is kept for everybody.
 *
 * @module
 */

import type { RenderedPage } from './rendered-page.js';
import { variesByPage } from './visitor.js';

/** What caches keep by themselves (RFC 9110, 15.1), as far as it can be a whole page. */
const KEPT_STATUSES = new Set([200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451]);

/** Why a page is for the visitor who asked, and nobody else. `undefined`: it is for everybody. */
export function whyNotKept({ status = 200, headers = [] }: RenderedPage, path: string): string | undefined {
  if (!KEPT_STATUSES.has(status)) {
    return 'status';
  }
  for (const [name, value] of headers) {
    switch (name.toLowerCase()) {
      case 'set-cookie':
        return 'set-cookie';
      case 'content-encoding':
        // Not every visitor can decode it.
        return 'content-encoding';
      case 'cache-control':
        if (/(?:^|[,\s])(?:no-store|private)(?:$|[,=\s])/i.test(value)) {
          return 'cache-control';
        }
        break;
      case 'vary':
        if (!variesByPage(value)) {
          return 'vary';
        }
        break;
      case 'location':
        if (isAboutSpelling(value, path)) {
          return 'redirection';
        }
        break;
      default:
        break;
    }
  }
  return undefined;
}

/**
 * Whether a response sends its visitor to the same page in another spelling: the spellings are one page at the coordinator, and
 * whoever comes by the other one would be sent in a circle.
 */
function isAboutSpelling(location: string, path: string): boolean {
  const to = URL.canParse(location) ? new URL(location).pathname : location.replace(/[?#].*$/, '');
  const segments = (spelling: string) => spelling.split('/').filter((segment) => segment !== '');
  return location.startsWith('//') || segments(to).join('/') === segments(path).join('/');
}
