// The worker in JavaScript of the interop test, on the TypeScript package: it does what it reads, a line of JSON each, and says
// what came of it in lines of JSON.
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Coordinator, LeaseholdError, Security, SidecarToken } from 'leasehold-client';

const LANGUAGE = 'typescript';
const PAGE_LIMIT_BYTES = 16 << 20;
const coordinator = new Coordinator({
  endpoint: process.argv[2],
  owner: LANGUAGE,
  security: Security.fromEnvironment(),
});
let renders = 0;
const ending = new AbortController();
/** What the watch has told so far, and who waits for more of it. */
const heard = { tags: [], resyncs: 0, waiting: undefined };

const actions = {
  async serve(command, key) {
    try {
      const { token, ...served } = await page(command, key);
      const sidecar = await readSidecar({ key }, token);
      say({ event: 'served', key, ...served, sidecar, sidecar_token: token.expose() });
    } catch (error) {
      say({ event: 'failed', key, why: String(error) });
    }
  },

  async hold({ ttl_ms: ttlMs }, key) {
    const acquired = await coordinator.acquire({ key }, { ttlMs });
    if (acquired.outcome === 'granted') {
      say({ event: 'holding', key, generation: Number(acquired.lease.generation) });
    } else {
      say({ event: 'failed', key, why: acquired.outcome });
    }
  },

  async invalidate({ tag }) {
    say({ event: 'invalidated', token: await coordinator.invalidate([{ tag }]) });
  },

  async watch() {
    await new Promise((started) => {
      void follow(started);
    });
    say({ event: 'watching' });
  },

  async watched({ tag }) {
    while (!heard.tags.includes(tag)) {
      await new Promise((more) => {
        heard.waiting = more;
      });
    }
    say({ event: 'watched', tags: heard.tags, resyncs: heard.resyncs });
  },

  async commit(_, { id, entry, html }) {
    const acquired = await coordinator.acquire(entryOf(entry));
    if (acquired.outcome !== 'granted') {
      say({ event: 'failed', id, why: acquired.outcome });
      return;
    }
    const { outcome, sidecarToken } = await acquired.lease.commit({ html, sidecar: html });
    if (outcome === 'committed') {
      say({ event: 'committed', id, how: 'render', html, sidecar_token: sidecarToken.expose() });
    } else {
      say({ event: 'failed', id, why: outcome });
    }
  },

  async look_up(_, { id, entry, token }) {
    const options = { consistency: 'strict', consistencyToken: token, body: 'inline' };
    const found = await coordinator.lookup(entryOf(entry), options);
    say({ event: 'found', id, html: found.outcome === 'fresh' ? pageOf(found.page).html : '' });
  },

  async sidecar(_, { id, entry, token }) {
    say({ event: 'found', id, html: await readSidecar(entryOf(entry), new SidecarToken(token)) });
  },

  async show(command, page) {
    const { id } = page;
    try {
      const { how, html, metadata } = await shown(command, entryOf(page.entry), page);
      if (html === undefined) {
        say({ event: how, id });
        return;
      }
      const digest = createHash('sha256').update(html).digest('hex');
      const { status = 200, contentType = 'text/html; charset=utf-8', headers = [] } = metadata;
      const response = { status, content_type: contentType, headers: Object.fromEntries(headers) };
      say({ event: 'shown', id, how, size: html.length, digest, ...response });
    } catch (error) {
      if (!(error instanceof NotToday)) {
        throw error;
      }
      say({ event: 'failed', id, error: error.message });
    }
  },
};

/** Notes what a watch tells, until the end. */
async function follow(started) {
  const watch = coordinator.watch([{ tenant: 'default', wholeTenant: true }], { signal: ending.signal });
  while (!ending.signal.aborted) {
    try {
      for await (const { event } of watch) {
        if (event.type === 'started') {
          started();
        } else if (event.type === 'resync') {
          heard.resyncs += 1;
        } else if (event.type === 'invalidated') {
          heard.tags.push(...event.scopes.flatMap(({ tag }) => (tag === undefined ? [] : [tag])));
          heard.waiting?.();
        }
      }
    } catch (error) {
      // Without a watch for a while; it goes on trying.
      if (!ending.signal.aborted && !error.isRetryable) {
        throw error;
      }
    }
  }
}

async function page(command, key) {
  const { token: consistencyToken, ttl_ms: ttlMs, wait_ms: waitMs, render_ms: renderMs, tag } = command;
  const found = await coordinator.lookup({ key }, { consistencyToken, body: 'inline' });
  if (found.outcome === 'fresh') {
    return { how: 'hit', ...pageOf(found.page) };
  }
  const acquired = await coordinator.acquire({ key }, { ttlMs, waitMs, consistencyToken, body: 'inline' });
  if (acquired.outcome === 'ready') {
    return { how: 'wait', ...pageOf(acquired.page) };
  }
  if (acquired.outcome !== 'granted') {
    throw new Error(`acquired: ${acquired.outcome}`);
  }
  const { lease } = acquired;
  await sleep(renderMs);
  const generation = Number(lease.generation);
  renders += 1;
  const render = `${LANGUAGE}-${renders}`;
  const html =
    `<!doctype html><h1 data-generation="${generation}" data-render="${render}" ` +
    `data-sidecar="${lease.sidecarToken.expose()}">${key}</h1>`;
  const sidecar = `{"key":"${key}","generation":${generation},"render":"${render}"}`;
  const committed = await lease.commit({ html, sidecar, metadata: { tags: [tag] } });
  if (committed.outcome !== 'committed') {
    say({ event: 'overtaken', key });
    return page(command, key);
  }
  say({ event: 'rendered', key, generation, render });
  return { how: 'render', generation, html, token: committed.sidecarToken };
}

class NotToday extends Error {}

async function shown({ ttl_ms: ttlMs }, entry, page) {
  const consistencyToken = page.token === '' ? undefined : page.token;
  const found = await coordinator.lookup(entry, { consistencyToken, body: 'inline' });
  if (found.outcome === 'fresh') {
    return { how: 'hit', ...(await whole(entry, found.page)) };
  }
  const acquired = await coordinator.acquire(entry, { ttlMs, consistencyToken, body: 'inline' });
  if (acquired.outcome === 'granted') {
    return { how: 'render', ...(await renderedUnder(acquired.lease, page)) };
  }
  if (acquired.previous === undefined) {
    return { how: acquired.outcome === 'backingOff' ? 'backing_off' : acquired.outcome };
  }
  return { how: 'stale', ...(await whole(entry, acquired.previous.page)) };
}

async function renderedUnder(lease, { id, size, status, content_type: contentType, headers, tag, failure }) {
  try {
    if (failure !== '' && failure !== 'refused') {
      throw new NotToday(`no ${id} today`);
    }
    const html = Buffer.from(id.repeat(1 + Math.floor(size / id.length)).slice(0, size));
    const said = { status: failure === '' ? status : 503, contentType: contentType || undefined, headers };
    const metadata = { ...said, tags: [tag] };
    await lease.commit({ html, metadata });
    return { html, metadata };
  } catch (error) {
    await lease.fail('the render failed');
    throw error;
  }
}

/** A page with its body, wherever that is. */
async function whole(entry, { body, metadata }) {
  if (body.delivery === 'inline') {
    return { html: body.bytes, metadata };
  }
  const served = await coordinator.servePage(entry);
  return { html: await served.body.collect(PAGE_LIMIT_BYTES), metadata: served.current.page.metadata };
}

function pageOf({ generation, body, sidecarToken }) {
  return { generation: Number(generation), html: Buffer.from(body.bytes).toString(), token: sidecarToken };
}

/** The contract's EntryRef as JSON, in this package's words. */
function entryOf({ key, request, ...scope }) {
  return request === undefined ? { key, ...scope } : { request: requestOf(request), ...scope };
}

function requestOf(request) {
  const { params = [], query = [], headers = [], cookies = [], ...rest } = request;
  const { route, ignoreCredentials, cookieVariance, cookieAllowlist } = rest;
  const pairs = (list) => list.map(({ name, value }) => [name, value]);
  const lists = (list) => list.map(({ name, values }) => [name, values]);
  const variance = {
    COOKIE_VARIANCE_ALL: 'all',
    COOKIE_VARIANCE_NONE: 'none',
    COOKIE_VARIANCE_ALLOWLIST: cookieAllowlist ?? [],
  };
  return {
    route,
    ignoreCredentials,
    params: Object.fromEntries(pairs(params)),
    query: lists(query),
    headers: lists(headers),
    cookies: pairs(cookies),
    cookieVariance: variance[cookieVariance ?? 'COOKIE_VARIANCE_ALL'],
  };
}

/** A stream that breaks off in the middle is for its reader to begin again. */
async function readSidecar(entry, token, isRepeated = false) {
  try {
    const { body } = await coordinator.serveSidecar(entry, token);
    const chunks = [];
    for await (const chunk of body) {
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString();
  } catch (error) {
    if (isRepeated || !error.isRetryable) {
      throw error;
    }
    return readSidecar(entry, token, true);
  }
}

function say(report) {
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

/** For each key or page of the command, at most `in_flight` at a time; once, where it has neither. */
async function forEach(command) {
  const subjects = (command.keys ?? command.pages ?? [undefined]).values();
  const work = async () => {
    for (const subject of subjects) {
      try {
        await actions[command.do](command, subject);
      } catch (error) {
        if (!(error instanceof LeaseholdError)) {
          throw error;
        }
        const { statedReason: reason = '', metadata = {}, fields = [] } = error.refusal ?? {};
        const paths = fields.map(({ field }) => field);
        say({ event: 'refused', id: subject?.id, reason, metadata, fields: paths, why: String(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: command.in_flight ?? 1 }, work));
}

say({ event: 'ready' });
for await (const line of createInterface({ input: process.stdin })) {
  await forEach(JSON.parse(line));
  say({ event: 'done' });
}
ending.abort();
await coordinator.close();
