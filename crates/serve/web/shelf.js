// Where conversations are kept: on the server, or in this tab if the server keeps none.

import { ApiError, request, requestJson } from './api.js';
import { newId } from './tree.js';

const RETRY_MS = [1000, 3000, 10_000, 30_000];

/** Conversations on the server. Messages are saved in order, and again if the server was away. */
export class ServerShelf {
  kept = true;
  #waiting = [];
  #running = false;
  #failures = 0;

  /** `saved(ok, error)` tells whether saving works; an error says that something will never be saved. */
  constructor(saved) {
    this.saved = saved;
  }

  list(query = '', signal) {
    return requestJson(`api/conversations${query === '' ? '' : `?q=${encodeURIComponent(query)}`}`, { signal });
  }

  create(title) {
    return requestJson('api/conversations', { method: 'POST', body: { title } });
  }

  load(id) {
    return requestJson(`api/conversations/${encodeURIComponent(id)}`);
  }

  rename(id, title) {
    return request(`api/conversations/${encodeURIComponent(id)}`, { method: 'PATCH', body: { title } });
  }

  remove(id, leaving = false) {
    return request(`api/conversations/${encodeURIComponent(id)}`, { method: 'DELETE', keepalive: leaving });
  }

  async export(id, format) {
    return (await request(`api/conversations/${encodeURIComponent(id)}/export?format=${format}`)).blob();
  }

  saveMessage(id, message) {
    const { parent, role, content, reasoning, meta } = message;
    const path = `api/conversations/${encodeURIComponent(id)}/messages/${encodeURIComponent(message.id)}`;
    this.#later(path, { method: 'PUT', body: { parent, role, content, reasoning: reasoning || null, meta } });
  }

  saveHead(id, head) {
    this.#later(`api/conversations/${encodeURIComponent(id)}`, { method: 'PATCH', body: { head } });
  }

  #later(path, options) {
    // Only the newest state of a message matters; its place stays, as others may need it first.
    const waiting = this.#waiting.find((job) => !job.running && job.path === path && job.options.method === options.method);
    const last = this.#waiting[this.#waiting.length - 1];
    if (waiting !== undefined && (options.method === 'PUT' || waiting === last)) waiting.options = options;
    else this.#waiting.push({ path, options, running: false });
    this.#flush();
  }

  async #flush() {
    if (this.#running) return;
    this.#running = true;
    while (this.#waiting.length > 0) {
      const job = this.#waiting[0];
      job.running = true;
      try {
        await request(job.path, job.options);
        this.#failures = 0;
        this.saved(true);
      } catch (error) {
        job.running = false;
        const hopeless = error instanceof ApiError && error.status >= 400 && error.status < 500 && ![401, 408, 429].includes(error.status);
        this.saved(false, hopeless ? error : null);
        if (!hopeless) {
          setTimeout(() => this.#flush(), RETRY_MS[Math.min(this.#failures++, RETRY_MS.length - 1)]);
          break;
        }
      }
      this.#waiting.shift();
    }
    this.#running = false;
  }
}

/** Conversations in memory: gone with the tab. */
export class TabShelf {
  kept = false;
  #all = new Map();

  async list(query = '') {
    const wanted = query.toLowerCase();
    const found = [...this.#all.values()].filter((one) => one.title.toLowerCase().includes(wanted)
      || [...one.messages.values()].some((message) => message.content.toLowerCase().includes(wanted)));
    return found.map(({ id, title, updated_at }) => ({ id, title, updated_at })).sort((a, b) => b.updated_at - a.updated_at);
  }

  async create(title) {
    const one = { id: newId(), title, head: null, messages: new Map(), updated_at: Date.now() / 1000 };
    this.#all.set(one.id, one);
    return one;
  }

  async load(id) {
    const one = this.#all.get(id);
    if (one === undefined) throw new ApiError(404, 'no such conversation');
    return { ...one, messages: [...one.messages.values()] };
  }

  async rename(id, title) {
    this.#all.get(id).title = title;
  }

  async remove(id) {
    this.#all.delete(id);
  }

  async export(id, format) {
    const one = await this.load(id);
    return new Blob([format === 'json' ? JSON.stringify(one, null, 2) : markdownOf(one)], { type: 'text/plain' });
  }

  saveMessage(id, message) {
    const one = this.#all.get(id);
    if (one === undefined) return;
    one.messages.set(message.id, message);
    one.updated_at = Date.now() / 1000;
  }

  saveHead(id, head) {
    const one = this.#all.get(id);
    if (one !== undefined) one.head = head;
  }
}

function markdownOf(one) {
  const turns = one.messages.map(({ role, content }) => `## ${role}\n\n${content}\n`);
  return `# ${one.title}\n\n${turns.join('\n')}`;
}
