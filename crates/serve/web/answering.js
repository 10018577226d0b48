// One answer on its way: asks, tries again when the server is busy, measures, and writes into its message.

import { ApiError, streamChat } from './api.js';

const MAX_TRIES = 8;
const SAVE_EVERY_MS = 5000;

/**
 * Phases: `waiting` (nothing came yet), `busy` (the server said later; `retryAt` says when), `thinking`,
 * `answering`, `done`. Listeners `changed`, `grew`, `explained` and `save` are set by whoever starts it.
 */
export class Answering {
  phase = 'waiting';
  retryAt = 0;
  queued = false;
  listeners = { changed() {}, grew() {}, explained() {}, save() {} };
  #abort = new AbortController();
  #wake = null;

  constructor(message, body, path = 'v1/chat/completions') {
    this.message = message;
    this.body = body;
    this.path = path;
  }

  /** Runs to the end; never throws. What went wrong stands in `message.meta.error`. */
  async run() {
    const { meta } = this.message;
    delete meta.error;
    delete meta.finish;
    delete meta.stopped;
    for (let tries = 1; ; tries++) {
      try {
        await this.#once();
      } catch (error) {
        if (this.#abort.signal.aborted) meta.stopped = true;
        else if (this.#isBusy(error) && tries < MAX_TRIES) {
          await this.#rest(error.retryAfter ?? Math.min(30, 2 ** tries));
          if (!this.#abort.signal.aborted) continue;
          meta.stopped = true;
        } else meta.error = errorOf(error);
      }
      break;
    }
    this.#endThinking();
    this.phase = 'done';
    this.listeners.save();
    this.listeners.changed();
  }

  /** Ends it; the server stops with it. */
  stop() {
    this.#abort.abort();
    this.#wake?.();
  }

  /** Ends a wait. */
  tryNow() {
    this.#wake?.();
  }

  // Only before the first word: an answer cannot be begun twice in one place.
  #isBusy(error) {
    return error instanceof ApiError && (error.status === 429 || error.status === 503) && this.phase === 'waiting';
  }

  async #rest(seconds) {
    this.#to('busy');
    this.retryAt = Date.now() + seconds * 1000;
    this.listeners.changed();
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
    this.#to('waiting');
  }

  async #once() {
    const { message } = this;
    this.began = performance.now();
    this.firstAt = null;
    this.thinkingFrom = null;
    this.thoughtBefore = message.meta.thought_s ?? 0;
    this.tokensBefore = message.meta.tokens ?? 0;
    let saved = this.began;
    for await (const piece of streamChat(this.body, { path: this.path, signal: this.#abort.signal })) {
      if (piece.waiting) {
        if (!this.queued) {
          this.queued = true;
          this.listeners.changed();
        }
        continue;
      }
      if (piece.reasoning !== undefined) this.#reason(piece.reasoning);
      if (piece.content !== undefined) this.#answer(piece.content);
      if (piece.explain !== undefined) this.listeners.explained(piece.explain, piece.thinking || this.phase === 'thinking');
      if (piece.usage !== undefined) this.#account(piece.usage);
      if (piece.finish !== undefined) message.meta.finish = piece.finish;
      const now = performance.now();
      if (now - saved > SAVE_EVERY_MS) {
        saved = now;
        this.listeners.save();
      }
    }
  }

  #reason(text) {
    this.#first();
    if (this.thinkingFrom === null) this.thinkingFrom = performance.now();
    this.message.reasoning += text;
    this.#to('thinking');
    this.listeners.grew();
  }

  #answer(text) {
    this.#first();
    this.#endThinking();
    // The first line of an answer is often empty, above all behind thinking.
    this.message.content += this.message.content === '' ? text.replace(/^\s*\n/, '') : text;
    this.#to('answering');
    this.listeners.grew();
  }

  #first() {
    if (this.firstAt !== null) return;
    this.firstAt = performance.now();
    this.message.meta.first_ms ??= Math.round(this.firstAt - this.began);
  }

  #to(phase) {
    if (this.phase === phase) return;
    this.phase = phase;
    this.listeners.changed();
  }

  #endThinking() {
    if (this.thinkingFrom === null) return;
    this.message.meta.thought_s = Math.max(1, Math.round(this.thoughtBefore + (performance.now() - this.thinkingFrom) / 1000));
    this.thinkingFrom = null;
  }

  #account(usage) {
    const { meta } = this.message;
    const seconds = (performance.now() - (this.firstAt ?? this.began)) / 1000;
    const tokens = usage.completion_tokens ?? 0;
    meta.tokens = this.tokensBefore + tokens;
    meta.prompt_tokens = usage.prompt_tokens ?? 0;
    meta.cached_tokens = usage.prompt_cache_hit_tokens ?? usage.prompt_tokens_details?.cached_tokens ?? 0;
    if (tokens > 1 && seconds > 0) meta.tokens_per_s = Math.round((tokens - 1) / seconds * 10) / 10;
  }
}

// What is kept of an error, so that it still reads right after a reload.
function errorOf(error) {
  if (!(error instanceof ApiError)) return { kind: 'page', message: String(error.message ?? error) };
  const kind = error.status === 0 ? 'gone'
    : error.status === 401 ? 'key'
      : error.status === 402 ? 'funds'
        : error.status === 429 || error.status === 503 ? 'busy'
          : error.code === 'context_length_exceeded' ? 'context'
            : error.status >= 500 ? 'server' : 'refused';
  return { kind, message: error.message, param: error.param };
}
