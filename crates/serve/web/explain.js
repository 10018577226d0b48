// The Explain view: every token of an answer tinted by how likely it was, with its alternatives and its experts.

import { h } from './dom.js';
import { countVisits, heatMap, percent, tokenGrid } from './experts.js';
import { t } from './strings.js';

// Probabilities from which a token counts as less surprising, and so gets a fainter tint.
const STEPS = [0.9, 0.7, 0.45, 0.2, 0.05];
const UNSURE = 0.45;
const N_UNSURE = 8;
let views = 0;

/** Shows tokens `{text, logprob, top, experts, thinking}` in `host`; made for thousands of them. */
export class ExplainView {
  ended = false;
  asking = false;
  #tokens = [];
  #spans = [];
  #active = -1;
  #pinned = false;
  #section = null;
  #abort = new AbortController();
  #id = `x${views++}`;

  constructor(host, info) {
    Object.assign(this, { host, info });
    this.note = h('p', { class: 'explain-note', role: 'status', text: t('explaining') });
    this.text = h('div', { class: 'tokens', role: 'listbox', tabindex: '0', 'aria-label': t('tokens_label'), dir: 'auto' });
    this.card = h('div', { class: 'card', hidden: true });
    this.summary = h('div', { class: 'explain-summary' });
    const legend = h('div', { class: 'legend', 'aria-hidden': 'true' }, h('span', { text: t('sure') }),
      ...[0, 1, 2, 3, 4, 5].map((step) => h('i', { class: `p${step}` })), h('span', { text: t('surprised') }));
    host.replaceChildren(h('div', { class: 'explain-head' }, legend, h('span', { class: 'explain-keys', text: t('explain_keys') })),
      this.note, h('div', { class: 'tokens-frame' }, this.text, this.card), this.summary);
    this.#listen();
  }

  /** Aborted once the view is closed. */
  get closed() {
    return this.#abort.signal;
  }

  /** Shows tokens that came since the last call. */
  update(tokens) {
    if (tokens.length < this.#tokens.length) return;
    const fresh = tokens.slice(this.#spans.length);
    this.#tokens = tokens;
    let part = document.createDocumentFragment();
    for (const token of fresh) {
      if (this.#section === null || this.#section.thinking !== Boolean(token.thinking)) {
        this.#section?.element.append(part);
        part = document.createDocumentFragment();
        this.#begin(Boolean(token.thinking));
      }
      const span = h('span', { class: tint(token), role: 'option', id: `${this.#id}-${this.#spans.length}`, text: visible(token.text) });
      span.dataset.at = this.#spans.length;
      this.#spans.push(span);
      part.append(span);
    }
    this.#section?.element.append(part);
    if (this.#tokens.length > 0) this.note.hidden = true;
  }

  /** No more tokens come. `error` says why, if something went wrong. */
  end(error) {
    if (this.ended) return;
    this.ended = true;
    this.note.hidden = error === null && this.#tokens.length > 0;
    if (error !== null) this.note.textContent = error.kind === 'differs' ? t('explain_differs') : `${t('explain_failed')} ${error.message}`;
    else if (this.#tokens.length === 0) this.note.textContent = t('explain_nothing');
    this.#summarise();
  }

  close() {
    this.#abort.abort();
  }

  #begin(thinking) {
    const element = h('div', { class: thinking ? 'token-part thinking-part' : 'token-part', role: 'presentation' });
    if (thinking) this.text.append(h('div', { class: 'part-name', role: 'presentation', text: t('thinking_part') }));
    this.text.append(element);
    this.#section = { thinking, element };
  }

  #listen() {
    const at = (event) => {
      const span = event.target.closest?.('[data-at]');
      return span === null || span === undefined ? -1 : Number(span.dataset.at);
    };
    this.text.addEventListener('pointermove', (event) => {
      // Text that scrolls below a resting pointer is not pointed at.
      if (event.movementX === 0 && event.movementY === 0) return;
      const found = at(event);
      if (found === this.#active) return;
      if (found >= 0 && !this.#pinned) this.#show(found);
    });
    this.text.addEventListener('click', (event) => {
      const found = at(event);
      this.#pinned = found >= 0 && !(this.#pinned && found === this.#active);
      if (found >= 0) this.#show(found);
    });
    this.text.addEventListener('pointerleave', () => { if (!this.#pinned && document.activeElement !== this.text) this.#hide(); });
    this.text.addEventListener('focus', () => { if (this.#active < 0 && this.#spans.length > 0 && this.text.matches(':focus-visible')) this.#show(0); });
    this.text.addEventListener('blur', () => { if (!this.#pinned) this.#hide(); });
    addEventListener('repaint', () => { if (this.ended) this.#summarise(); }, { signal: this.closed });
    this.text.addEventListener('keydown', (event) => this.#key(event));
  }

  #key(event) {
    const last = this.#spans.length - 1;
    const from = Math.max(0, this.#active);
    const moves = {
      ArrowRight: () => Math.min(last, this.#active + 1), ArrowLeft: () => Math.max(0, from - 1),
      ArrowDown: () => this.#line(from, 1), ArrowUp: () => this.#line(from, -1), Home: () => 0, End: () => last,
      n: () => this.#unsure(from, 1), p: () => this.#unsure(from, -1),
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape' && !this.card.hidden) {
      this.#pinned = false;
      this.#hide();
    } else if (Object.hasOwn(moves, event.key) && last >= 0) {
      this.#pinned = true;
      this.#show(moves[event.key]());
      this.#spans[this.#active].scrollIntoView({ block: 'nearest' });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // The token above or below: the nearest one in the next line.
  #line(from, step) {
    const box = this.#spans[from].getBoundingClientRect();
    let best = from;
    let top = null;
    for (let at = from + step; at >= 0 && at < this.#spans.length; at += step) {
      const other = this.#spans[at].getBoundingClientRect();
      if (Math.abs(other.top - box.top) < box.height / 2) continue;
      if (top === null) top = other.top;
      if (Math.abs(other.top - top) > 4) break;
      best = at;
      if (step > 0 ? other.right > box.left : other.left <= box.left) break;
    }
    return best;
  }

  #unsure(from, step) {
    for (let at = from + step; at >= 0 && at < this.#tokens.length; at += step) {
      if (probability(this.#tokens[at]) < UNSURE) return at;
    }
    return from;
  }

  #show(at) {
    this.#spans[this.#active]?.classList.remove('active');
    this.#spans[this.#active]?.removeAttribute('aria-selected');
    this.#active = at;
    const span = this.#spans[at];
    const token = this.#tokens[at];
    span.classList.add('active');
    span.setAttribute('aria-selected', 'true');
    span.setAttribute('aria-label', spoken(token));
    this.text.setAttribute('aria-activedescendant', span.id);
    this.card.replaceChildren(...this.#cardOf(token, at));
    this.card.hidden = false;
    this.#place(span);
  }

  #hide() {
    this.#spans[this.#active]?.classList.remove('active');
    this.#active = -1;
    this.text.removeAttribute('aria-activedescendant');
    this.card.hidden = true;
  }

  // Below the token, or above it where there is no room; never outside the column.
  #place(span) {
    const frame = this.text.parentElement.getBoundingClientRect();
    const box = span.getClientRects()[0] ?? span.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.card;
    const below = box.bottom + 10 + height < innerHeight - 90 || box.top - 10 - height < 60;
    this.card.style.left = `${Math.max(0, Math.min(box.left - frame.left - 20, frame.width - width))}px`;
    this.card.style.top = `${below ? box.bottom - frame.top + 8 : box.top - frame.top - height - 8}px`;
  }

  #cardOf(token, at) {
    const chosen = { id: token.id, text: token.text, logprob: token.logprob };
    const top = token.top ?? [];
    const rows = top.some((other) => other.id === token.id) ? top : [...top, chosen];
    const rank = top.findIndex((other) => other.id === token.id);
    const bars = rows.map((other) => {
      const share = probability(other);
      const bar = h('span', { class: 'bar' }, h('i'));
      bar.firstChild.style.width = `${Math.max(0.5, share * 100)}%`;
      return h('li', { class: other.id === token.id ? 'alternative chosen' : 'alternative' }, h('code', { text: shown(other.text) }), bar, h('span', { class: 'share', text: percent(share) }));
    });
    const facts = t(rank === 0 ? 'first_choice' : rank > 0 ? 'nth_choice' : 'unlikely_choice', { n: rank + 1, top: top.length });
    const parts = [
      h('div', { class: 'card-head' }, h('code', { text: shown(token.text) }), h('strong', { text: token.logprob === null || token.logprob === undefined ? '–' : percent(probability(token)) })),
      h('p', { class: 'card-facts', text: `${facts} · ${t('token_number', { n: at + 1, id: token.id })}` }),
      h('ul', { class: 'alternatives' }, ...bars),
    ];
    const shape = this.info.experts;
    if (shape !== null && token.experts?.length === shape.layers.length * shape.num_experts_per_tok) {
      parts.push(h('p', { class: 'card-name', text: t('grid_name', { k: shape.num_experts_per_tok, n: shape.n_routed_experts }) }), tokenGrid(token.experts, shape));
    }
    return parts;
  }

  #summarise() {
    const scored = this.#tokens.filter((token) => typeof token.logprob === 'number');
    if (scored.length === 0) return;
    const mean = scored.reduce((sum, token) => sum + token.logprob, 0) / scored.length;
    const first = scored.filter((token) => token.top?.[0]?.id === token.id).length;
    const unsure = this.#tokens.map((token, at) => ({ token, at })).filter(({ token }) => probability(token) < UNSURE)
      .sort((a, b) => probability(a.token) - probability(b.token)).slice(0, N_UNSURE);
    const chips = unsure.map(({ token, at }) => h('button', { type: 'button', class: `token-chip ${tint(token)}`, on: { click: () => this.#go(at) } }, h('code', { text: shown(token.text) }), h('span', { text: percent(probability(token)) })));
    this.summary.replaceChildren(
      h('p', { text: t('explain_summary', { n: scored.length, mean: percent(Math.exp(mean)), first: percent(first / scored.length) }) }),
      chips.length > 0 ? h('div', { class: 'unsure' }, h('span', { text: t('least_sure') }), ...chips) : '');
    const shape = this.info.experts;
    if (shape === null) return;
    const visits = countVisits(this.#tokens, shape);
    if (visits.traced > 0) this.summary.append(h('h3', { text: t('experts_title', { n: visits.traced }) }), heatMap(visits, shape, this.host.clientWidth));
  }

  #go(at) {
    this.#pinned = true;
    this.text.focus({ preventScroll: true });
    this.#spans[at].scrollIntoView({ block: 'center' });
    this.#show(at);
  }
}

function probability(token) {
  return typeof token.logprob === 'number' ? Math.exp(token.logprob) : 0;
}

function tint(token) {
  if (typeof token.logprob !== 'number') return 'token unknown';
  const share = probability(token);
  const step = STEPS.findIndex((limit) => share >= limit);
  return `token p${step < 0 ? STEPS.length : step}`;
}

// A line break keeps breaking the line, but is seen; a token without text is seen too.
function visible(text) {
  return text === '' ? '◌' : text.replace(/\n/g, '⏎\n').replace(/[\u202a-\u202e\u2066-\u2069]/g, '◌');
}

function shown(text) {
  return text === '' ? '◌' : text.replace(/\n/g, '⏎').replace(/ /g, '␣').replace(/\t/g, '⇥').replace(/[\u202a-\u202e\u2066-\u2069]/g, '◌');
}

function spoken(token) {
  const name = token.text.trim() === '' ? t(token.text.includes('\n') ? 'line_break' : 'a_space') : token.text;
  const others = (token.top ?? []).filter((other) => other.id !== token.id).slice(0, 2).map((other) => `${other.text} ${percent(probability(other))}`).join(', ');
  return `${name}, ${percent(probability(token))}${others === '' ? '' : `; ${t('instead_of')} ${others}`}`;
}

