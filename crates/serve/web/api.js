// The server's interface: requests with the key, errors with what the server said, answers as streams.

import { sseEvents } from './sse.js';

const KEY = 'fathom.key';

/** A request that failed. `status` 0 means that nobody answered. */
export class ApiError extends Error {
  constructor(status, message, { code = null, param = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

/** The key is kept by this browser and sent to this server only. */
export function storedKey() {
  return read(KEY);
}

export function storeKey(key) {
  write(KEY, key === '' ? null : key);
}

/** `localStorage` throws where it is switched off. */
export function read(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function write(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // What cannot be remembered is asked again.
  }
}

/** One request. Throws `ApiError` unless the status is 2xx. */
export async function request(path, { method = 'GET', body, signal, keepalive = false } = {}) {
  const headers = {};
  const key = storedKey();
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method, headers, signal, keepalive, cache: 'no-store', body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, error.message);
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

export async function requestJson(path, options) {
  const response = await request(path, options);
  const text = await response.text();
  try {
    return text === '' ? null : JSON.parse(text);
  } catch {
    throw new ApiError(response.status, 'the answer is no JSON');
  }
}

async function refusalOf(response) {
  const text = await response.text().catch(() => '');
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    error = { message: text.slice(0, 500) };
  }
  return new ApiError(response.status, error.message || response.statusText || `HTTP ${response.status}`, {
    code: error.code ?? null, param: error.param ?? null, retryAfter: secondsOf(response.headers.get('Retry-After')),
  });
}

function secondsOf(header) {
  if (header === null) return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, Math.min(600, Math.ceil(seconds)));
  const until = Date.parse(header) - Date.now();
  return Number.isFinite(until) ? Math.max(0, Math.min(600, Math.ceil(until / 1000))) : null;
}

/**
 * The pieces of one streamed answer: `{reasoning}`, `{content}`, `{explain, thinking}`, `{usage}`, `{finish}` and
 * `{waiting}` for signs of life. Throws `ApiError` for refusals and for errors inside the stream.
 */
export async function* streamChat(body, { path, signal }) {
  const response = await request(path, { method: 'POST', body, signal });
  let finished = false;
  try {
    for await (const event of sseEvents(response.body)) {
      if (event.comment !== undefined) yield { waiting: true };
      else if (event.data === '[DONE]') return;
      else for (const piece of piecesOf(JSON.parse(event.data))) {
        if (piece.finish !== undefined) finished = true;
        yield piece;
      }
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === 'AbortError') throw error;
    throw new ApiError(0, error.message);
  }
  // A connection that just ends is no end of an answer.
  if (!finished) throw new ApiError(0, 'the connection ended before the answer');
}

function* piecesOf(chunk) {
  if (chunk.error !== undefined && chunk.error !== null) {
    const { message = '', code = null, param = null } = chunk.error;
    throw new ApiError(500, message, { code, param });
  }
  const choice = chunk.choices?.[0];
  if (choice !== undefined) {
    const { reasoning_content: reasoning, content } = choice.delta ?? {};
    if (reasoning) yield { reasoning };
    if (content) yield { content };
    if (Array.isArray(choice.explain) && choice.explain.length > 0) {
      yield { explain: choice.explain, thinking: typeof reasoning === 'string' && typeof content !== 'string' };
    }
    if (choice.finish_reason) yield { finish: choice.finish_reason };
  }
  if (chunk.usage) yield { usage: chunk.usage };
}

/** What the page needs to know of the server, with defaults for what it does not say. */
export async function loadInfo() {
  const info = await requestJson('api/info');
  const model = typeof info.model === 'object' && info.model !== null ? info.model : info;
  return {
    model: model.name ?? model.id ?? info.model ?? 'model',
    version: info.version ?? '',
    thinking: ['always', 'switch'].includes(model.thinking) ? model.thinking : 'never',
    context: model.context_tokens ?? model.context ?? null,
    defaults: model.defaults ?? info.defaults ?? {},
    experts: model.experts ?? null,
    chat: model.chat !== false,
    needsKey: Boolean(info.needs_key ?? info.keys ?? false),
    keyAccepted: info.key_accepted ?? true,
  };
}
