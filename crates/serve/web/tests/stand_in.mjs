// A server that stands in for the real one: the page's files, conversations in memory, and scripted answers.
//
// What a question holds decides what happens: `everything`, `attacks`, `refused`, `too long`, `busy`, `cut`, `break`,
// `die`. Anything else is answered in a sentence.

import fs from 'node:fs';
import http from 'node:http';
import { ATTACKS, MARKDOWN } from './texts.mjs';

const FOLDER = new URL('../', import.meta.url);
const KINDS = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
// The same as in `page.rs`.
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const INFO = {
  version: '0.0.0', needs_key: false, key_accepted: true, model: 'stand-in', chat: true, thinking: 'switch', context_tokens: 4096,
  defaults: { temperature: 0.6, top_p: 0.95, top_k: 0, min_p: 0, repetition_penalty: 1, max_tokens: null },
  experts: { layers: Array.from({ length: 26 }, (_, i) => i + 1), n_routed_experts: 64, num_experts_per_tok: 6 },
};

/** Starts it on a free port. `state` is there to be changed: `down`, `key`, `delay_ms`, `conversations`, `asked`. */
export async function standIn() {
  const state = { down: false, key: null, delay_ms: 1, conversations: new Map(), asked: [], busy: 0, made: 0 };
  const server = http.createServer((request, response) => answer(state, request, response).catch(() => response.destroy()));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { state, url: `http://127.0.0.1:${server.address().port}/`, close: () => { server.closeAllConnections(); server.close(); } };
}

async function answer(state, request, response) {
  const { pathname: path, searchParams } = new URL(request.url, 'http://x');
  let text = '';
  for await (const part of request) text += part;
  const body = text === '' ? {} : JSON.parse(text);
  if (path === '/' || path.startsWith('/assets/')) return file(path === '/' ? 'index.html' : path.slice(8), response);
  if (state.down) return request.socket.destroy();
  if (path === '/health') return json(response, { status: 'ok' });
  if (state.key !== null && request.headers.authorization !== `Bearer ${state.key}`) {
    if (path === '/api/info') return json(response, { version: '0.0.0', needs_key: true, key_accepted: false });
    return refuse(response, 401, 'no such key', 'invalid_api_key');
  }
  if (path === '/api/info') return json(response, { ...INFO, needs_key: state.key !== null });
  if (path.startsWith('/api/conversations')) return conversations(state, path, searchParams, request.method, body, response);
  if (path.endsWith('/chat/completions')) return chat(state, path, body, response);
  return refuse(response, 404, 'no such route');
}

function file(name, response) {
  const url = new URL(name, FOLDER);
  if (!/^[\w.]+$/.test(name) || !fs.existsSync(url)) return refuse(response, 404, 'no such file');
  response.writeHead(200, { 'Content-Type': `${KINDS[name.split('.').pop()]}; charset=utf-8`, 'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff' });
  response.end(fs.readFileSync(url));
}

function conversations(state, path, query, method, body, response) {
  const [, , , id, what, message] = path.split('/');
  const now = Math.floor(Date.now() / 1000);
  const short = ({ id: one, title, updated_at }) => ({ id: one, title, updated_at });
  if (id === undefined && method === 'POST') {
    const made = { id: `c${++state.made}`, title: body.title ?? '', head: null, messages: [], updated_at: now };
    state.conversations.set(made.id, made);
    return json(response, short(made), 201);
  }
  if (id === undefined) {
    const q = (query.get('q') ?? '').toLowerCase();
    const found = [...state.conversations.values()].filter(({ title, messages }) => [title, ...messages.map(({ content }) => content)].some((one) => one.toLowerCase().includes(q)));
    return json(response, found.reverse().map(short));
  }
  const one = state.conversations.get(id);
  if (one === undefined) return refuse(response, 404, 'no such conversation');
  if (what === 'messages') {
    if (body.parent !== null && !one.messages.some(({ id: known }) => known === body.parent)) return refuse(response, 400, 'no such parent');
    const kept = { id: message, ...body, created_at: now };
    const place = one.messages.findIndex((other) => other.id === message);
    one.messages.splice(place < 0 ? one.messages.length : place, 1, kept);
    one.updated_at = now;
    return json(response, kept);
  }
  if (what === 'export') {
    response.writeHead(200, { 'Content-Type': 'text/markdown' });
    return response.end(`# ${one.title}\n`);
  }
  if (method === 'DELETE') {
    state.conversations.delete(id);
    return response.writeHead(204).end();
  }
  if (method === 'PATCH' && body.head !== undefined && !one.messages.some(({ id: known }) => known === body.head)) return refuse(response, 400, 'no such message');
  if (method === 'PATCH') Object.assign(one, body);
  return json(response, one);
}

async function chat(state, path, body, response) {
  state.asked.push({ path, body });
  const question = body.messages.filter(({ role }) => role === 'user').pop()?.content ?? '';
  const goesOn = body.messages[body.messages.length - 1].prefix === true;
  if (question.includes('refused')) return refuse(response, 422, '`temperature` is 9, expected 0 to 2');
  if (question.includes('too long')) return refuse(response, 400, 'the prompt has 5000 tokens, the model takes 4096', 'context_length_exceeded');
  if (question.includes('busy') && state.busy++ < 1) return refuse(response, 503, 'the queue is full', null, { 'Retry-After': '2' });
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  const said = new Script(state, body, response);
  response.write(': keep-alive\n\n');
  if (body.thinking?.type === 'enabled' && !goesOn) await said.tokens('reasoning_content', 'The user asks.\n\nSo $x = 1$, and I will say so.');
  const text = goesOn ? 'and this is the rest.' : question.includes('everything') ? MARKDOWN : question.includes('attacks') ? ATTACKS
    : `A short answer to “${question.slice(-60)}”, seed ${body.seed}.`;
  const cut = question.includes('cut') && !goesOn ? 4 : question.includes('break') || question.includes('die') ? 6 : Infinity;
  await said.tokens('content', text, cut);
  if (response.destroyed) return;
  if (question.includes('die')) return response.destroy();
  if (question.includes('break')) {
    response.write(`data: ${JSON.stringify({ error: { message: 'the engine failed', type: 'server_error', param: null, code: null } })}\n\n`);
    return response.end();
  }
  said.chunk({}, { finish_reason: cut < Infinity ? 'length' : 'stop' });
  const usage = { prompt_tokens: 128, prompt_cache_hit_tokens: 64, prompt_cache_miss_tokens: 64, completion_tokens: said.count, total_tokens: 128 + said.count };
  response.write(`data: ${JSON.stringify({ choices: [], usage })}\n\ndata: [DONE]\n\n`);
  response.end();
}

// Writes an answer token by token, with made-up scores where they are asked for.
class Script {
  count = 0;

  constructor(state, body, response) {
    Object.assign(this, { state, body, response });
    this.random = body.seed % 2_147_483_647 || 1;
  }

  chunk(delta, more = {}) {
    this.response.write(`data: ${JSON.stringify({ object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: null, ...more }], usage: null })}\n\n`);
  }

  async tokens(key, text, most = Infinity) {
    for (const token of (text.match(/\s?[\p{L}\d]{1,6}|\s?[^\p{L}\d\s]|\s+/gu) ?? []).slice(0, most)) {
      if (this.response.destroyed) return;
      this.chunk({ [key]: token }, this.body.explain ? { explain: [this.scores(token)] } : {});
      // A few at a time, or long texts would take all day.
      if (++this.count % 4 === 0) await new Promise((resolve) => { setTimeout(resolve, this.state.delay_ms); });
    }
  }

  scores(text) {
    const share = this.draw() < 0.7 ? 0.9 + this.draw() * 0.1 : 0.02 + this.draw() * 0.9;
    const others = [' the', ' a', '\n', ' so'].map((other, i) => ({ id: i, text: other, logprob: Math.log((1 - share) / 2 ** (i + 1) + 1e-6) }));
    const token = { id: 1000 + this.count, text, logprob: Math.log(share) };
    const experts = INFO.experts.layers.flatMap((layer) => {
      const visited = new Set();
      while (visited.size < 6) visited.add((Math.floor(64 * this.draw() ** 2) + layer * 5) % 64);
      return [...visited];
    });
    return { ...token, top: [token, ...others].sort((a, b) => b.logprob - a.logprob), experts };
  }

  draw() {
    this.random = (this.random * 48_271) % 2_147_483_647;
    return this.random / 2_147_483_647;
  }
}

function json(response, value, status = 200) {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(value));
}

function refuse(response, status, message, code = null, headers = {}) {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
  response.end(JSON.stringify({ error: { message, type: 'invalid_request_error', param: null, code } }));
}
