// How one message looks: a question with its files, or an answer with its thinking, its figures and its buttons.

import { sizeText } from './attach.js';
import { copyText, h, icon, iconButton } from './dom.js';
import { ExplainView } from './explain.js';
import { MarkdownView } from './render.js';
import { number, seconds, t } from './strings.js';

/** `act` holds what buttons do: `edit regenerate continue step explain tryNow stay`. */
export function makeMessage(message, conversation, act) {
  return message.role === 'user' ? new Question(message, conversation, act) : new Answer(message, conversation, act);
}

class Question {
  constructor(message, conversation, act) {
    Object.assign(this, { message, conversation, act });
    this.element = h('article', { class: 'message question', 'aria-label': t('you') });
    this.refresh();
  }

  get text() {
    return this.message.content.slice(this.message.meta.question_at ?? 0);
  }

  refresh() {
    if (this.editing) return;
    const files = (this.message.meta.files ?? []).map((file) => h('span', { class: 'chip', role: 'listitem' }, icon('file'),
      h('span', { class: 'chip-name', text: file.name, dir: 'auto' }), h('span', { class: 'chip-size', text: sizeText(file.bytes) })));
    const text = h('div', { class: 'question-text', dir: 'auto', text: this.text });
    const bubble = h('div', { class: 'bubble' }, files.length > 0 ? h('div', { class: 'chips', role: 'list' }, ...files) : null, this.text === '' ? null : text);
    if (this.text.length > 1500 || this.text.split('\n').length > 24) fold(text, bubble);
    this.tools = h('div', { class: 'tools' }, branches(this), copyButton(() => this.text), iconButton('edit', t('edit'), () => this.edit()));
    this.element.replaceChildren(bubble, this.tools);
  }

  edit() {
    this.editing = true;
    const area = h('textarea', { class: 'edit-area', dir: 'auto', 'aria-label': t('edit'), value: this.text });
    const grow = () => {
      area.style.height = 'auto';
      area.style.height = `${Math.min(area.scrollHeight + 2, innerHeight * 0.5)}px`;
    };
    const done = (send) => {
      this.editing = false;
      const text = area.value;
      this.refresh();
      if (send && text.trim() !== '') this.act.edit(this.message.id, text);
      else this.element.querySelector('.tools button:last-child').focus();
    };
    area.addEventListener('input', grow);
    area.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Escape') {
        event.stopPropagation();
        done(false);
      } else if (event.key === 'Enter' && !event.shiftKey) {
        event.preventDefault();
        done(true);
      }
    });
    const row = h('div', { class: 'dialog-row' },
      h('button', { type: 'button', class: 'button', text: t('cancel'), on: { click: () => done(false) } }),
      h('button', { type: 'button', class: 'button primary', text: t('send'), on: { click: () => done(true) } }));
    this.element.replaceChildren(h('div', { class: 'edit-box' }, area, row));
    grow();
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

function fold(text, bubble) {
  text.classList.add('folded');
  const button = h('button', { type: 'button', class: 'text-button', text: t('show_all'), 'aria-expanded': 'false' });
  button.addEventListener('click', () => {
    const folded = text.classList.toggle('folded');
    button.textContent = t(folded ? 'show_all' : 'show_less');
    button.setAttribute('aria-expanded', String(!folded));
  });
  bubble.append(button);
}

class Answer {
  #thinkingOpen = null;
  #explain = null;
  #toolsKey = '';

  constructor(message, conversation, act) {
    Object.assign(this, { message, conversation, act });
    this.thinkingButton = h('button', { type: 'button', class: 'thinking-button', on: { click: () => this.#toggleThinking() } });
    this.thinkingText = h('div', { class: 'thinking-text markdown' });
    this.thinking = h('div', { class: 'thinking', hidden: true }, this.thinkingButton, this.thinkingText);
    this.body = h('div', { class: 'markdown answer-text' });
    this.status = h('div', { class: 'status', hidden: true });
    this.explainHost = h('div', { class: 'explain', hidden: true });
    this.tools = h('div', { class: 'tools' });
    this.element = h('article', { class: 'message answer', 'aria-label': t('answer') }, this.thinking, this.body, this.explainHost, this.status, this.tools);
    this.bodyView = new MarkdownView(this.body);
    this.thinkingView = new MarkdownView(this.thinkingText);
    this.refresh();
  }

  get answering() {
    return this.conversation.answers.get(this.message.id) ?? null;
  }

  /** Everything but the buttons of others. */
  refresh() {
    const phase = this.answering?.phase ?? 'done';
    this.element.classList.toggle('streaming', phase === 'thinking' || phase === 'answering');
    this.element.setAttribute('aria-busy', String(phase !== 'done'));
    this.grow();
    this.#showStatus(phase);
    this.#showTools(phase);
    if (this.answering === null && this.#explain !== null && !this.#explain.asking) this.#explain.end(null);
  }

  /** Only what grows. */
  grow() {
    this.#showThinking();
    this.bodyView.update(this.message.content, this.answering === null);
    // With Explain switched on, the view opens by itself once there is something to see.
    if (this.#explain === null && this.answering?.body.explain && this.conversation.explained.has(this.message.id)) this.#openExplain();
    if (this.#explain !== null && !this.#explain.asking) this.#explain.update(this.conversation.explained.get(this.message.id) ?? []);
  }

  // Open while it thinks, folded once it is done; whoever clicked decides.
  #showThinking() {
    const { reasoning, meta } = this.message;
    const thinks = this.answering?.phase === 'thinking';
    this.thinking.hidden = reasoning === '' && !thinks;
    if (this.thinking.hidden) return;
    const open = this.#thinkingOpen ?? thinks;
    const words = thinks ? t('thinking') : meta.thought_s === undefined ? t('thought') : t('thought_for', { time: seconds(meta.thought_s) });
    const key = `${open}${words}`;
    if (this.thinkingButton.dataset.key !== key) {
      this.thinkingButton.dataset.key = key;
      this.thinkingButton.replaceChildren(icon('think'), h('span', { text: words }), icon('down'));
      this.thinkingButton.setAttribute('aria-expanded', String(open));
      this.thinkingText.hidden = !open;
      this.thinking.classList.toggle('open', open);
    }
    if (open) this.thinkingView.update(reasoning, !thinks);
  }

  #toggleThinking() {
    this.#thinkingOpen = this.thinkingText.hidden;
    this.act.stay();
    this.#showThinking();
  }

  #showStatus(phase) {
    const { meta } = this.message;
    clearInterval(this.countdown);
    if (phase === 'waiting') {
      this.#status('', h('span', { class: 'dots', 'aria-hidden': 'true' }, h('i'), h('i'), h('i')), h('span', { text: t(this.answering.queued ? 'in_queue' : 'waiting') }));
    } else if (phase === 'busy') {
      const words = h('span');
      const tick = () => { words.textContent = t('busy_retry', { s: Math.max(0, Math.ceil((this.answering?.retryAt - Date.now()) / 1000)) }); };
      tick();
      this.countdown = setInterval(tick, 500);
      this.#status('warn', icon('warn'), words, textButton('try_now', () => this.answering?.tryNow()));
    } else if (phase === 'done' && meta.error !== undefined) {
      const { kind, message } = meta.error;
      this.#status('error', icon('warn'), h('div', {}, h('p', { text: t(`error_${kind}`) }), message ? h('p', { class: 'server-words', text: message }) : null),
        kind === 'context' ? null : textButton('try_again', () => this.act.regenerate(this.message.id)));
    } else if (phase === 'done' && meta.finish === 'length') {
      this.#status('', h('span', { text: t('cut') }), textButton('continue', () => this.act.continue(this.message.id)));
    } else if (phase === 'done' && meta.finish === 'insufficient_system_resource') {
      this.#status('warn', icon('warn'), h('span', { text: t('out_of_time') }), textButton('continue', () => this.act.continue(this.message.id)));
    } else if (phase === 'done' && meta.stopped) this.#status('', h('span', { text: t('stopped') }));
    else this.status.hidden = true;
  }

  #status(kind, ...children) {
    this.status.hidden = false;
    this.status.className = `status ${kind}`;
    this.status.setAttribute('role', kind === 'error' ? 'alert' : 'status');
    this.status.replaceChildren(...children.filter((child) => child !== null));
  }

  #showTools(phase) {
    const { index, count } = this.conversation.tree.place(this.message.id);
    const key = JSON.stringify([phase === 'done', index, count, this.message.meta, this.#explain !== null]);
    if (key === this.#toolsKey) return;
    this.#toolsKey = key;
    this.tools.hidden = phase !== 'done';
    const focused = this.tools.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    this.tools.replaceChildren(...[
      branches(this),
      this.message.content === '' ? null : copyButton(() => this.message.content),
      iconButton('again', t('regenerate'), () => this.act.regenerate(this.message.id), { 'data-name': 'again' }),
      this.message.content + this.message.reasoning === '' ? null
        : h('button', { type: 'button', class: 'tool-text', 'data-name': 'explain', 'aria-pressed': String(this.#explain !== null), title: t('explain_tip'), on: { click: () => this.toggleExplain() } }, icon('explain'), h('span', { text: t('explain') })),
      h('span', { class: 'figures', text: figures(this.message.meta) }),
    ].filter((child) => child !== null));
    if (focused !== null) this.tools.querySelector(`[data-name="${focused}"]`)?.focus();
  }

  toggleExplain() {
    this.act.stay();
    if (this.#explain === null) {
      this.#openExplain();
      if (this.conversation.explained.has(this.message.id)) this.refresh();
      else if (this.answering === null) this.#askAgain();
    } else {
      this.#explain.close();
      this.#explain = null;
      this.explainHost.hidden = true;
      this.explainHost.replaceChildren();
    }
    this.body.hidden = this.#explain !== null;
    this.#toolsKey = '';
    this.#showTools(this.answering?.phase ?? 'done');
  }

  #openExplain() {
    this.#explain = new ExplainView(this.explainHost, this.act.info());
    this.explainHost.hidden = false;
    this.body.hidden = true;
  }

  async #askAgain() {
    const view = this.#explain;
    view.asking = true;
    let all = [];
    let shownAt = 0;
    const grew = (tokens) => {
      all = tokens;
      // Laying out thousands of tokens anew for each of them would take all day.
      if (performance.now() - shownAt < 200) return;
      shownAt = performance.now();
      view.update(all);
    };
    const error = await this.act.explain(this.message.id, grew, view.closed);
    view.update(all);
    view.asking = false;
    view.end(error);
  }
}

// Tokens a second, time to the first token, tokens, cache hits: there for those who look.
function figures(meta) {
  const parts = [];
  if (meta.tokens_per_s !== undefined) parts.push(t('figure_speed', { n: number(meta.tokens_per_s) }));
  if (meta.first_ms !== undefined) parts.push(t('figure_first', { time: meta.first_ms < 1000 ? `${meta.first_ms} ms` : `${number(Math.round(meta.first_ms / 100) / 10)} s` }));
  if (meta.tokens !== undefined) parts.push(t('figure_tokens', { n: number(meta.tokens) }));
  if (meta.prompt_tokens) parts.push(t('figure_cached', { n: number(meta.cached_tokens ?? 0), all: number(meta.prompt_tokens) }));
  return parts.join(' · ');
}

function branches(view) {
  const { index, count } = view.conversation.tree.place(view.message.id);
  if (count < 2) return null;
  const move = (step) => () => view.act.step(view.message.id, step);
  return h('span', { class: 'branches', role: 'group', 'aria-label': t('versions') },
    iconButton('left', t('older_version'), move(-1), { disabled: index === 0 }),
    h('span', { text: `${index + 1} / ${count}` }),
    iconButton('right', t('newer_version'), move(1), { disabled: index === count - 1 }));
}

function copyButton(text) {
  const button = iconButton('copy', t('copy'), async () => {
    const copied = await copyText(text());
    button.replaceChildren(icon(copied ? 'check' : 'warn'));
    button.setAttribute('aria-label', t(copied ? 'copied' : 'copy_failed'));
    setTimeout(() => {
      button.replaceChildren(icon('copy'));
      button.setAttribute('aria-label', t('copy'));
    }, 1600);
  }, { 'data-name': 'copy' });
  return button;
}

function textButton(key, run) {
  return h('button', { type: 'button', class: 'text-button', text: t(key), on: { click: run } });
}
