// The list of conversations: by day, searchable, each with its menu.

import { h, iconButton } from './dom.js';
import { ask, menu, toast } from './notices.js';
import { dayName, t } from './strings.js';

const SEARCH_MS = 200;

export class Sidebar {
  #all = [];
  #gone = new Map();
  #current = null;
  #query = '';
  #abort = null;
  #timer = 0;

  /** `on` has `failed(error)`, `removed(id)` and `renamed(id, title)`. */
  constructor(shelf, on) {
    Object.assign(this, { shelf, on });
    this.host = document.getElementById('list');
    this.search = document.getElementById('search');
    this.search.addEventListener('input', () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => {
        this.#query = this.search.value.trim();
        this.load();
      }, SEARCH_MS);
    });
    this.search.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.search.value !== '') {
        event.stopPropagation();
        this.search.value = '';
        this.#query = '';
        this.load();
      }
    });
    this.host.addEventListener('keydown', (event) => this.#move(event));
    // Who leaves with a toast still open meant it.
    addEventListener('pagehide', () => { for (const remove of this.#gone.values()) remove(true); });
  }

  async load() {
    this.#abort?.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    try {
      const all = await this.shelf.list(this.#query, signal);
      if (signal.aborted) return;
      this.#all = all;
      this.#show();
    } catch (error) {
      if (!signal.aborted) this.on.failed(error);
    }
  }

  select(id) {
    this.#current = id;
    for (const link of this.host.querySelectorAll('a')) mark(link, link.dataset.id === id);
  }

  /** A conversation was made or answered: it stands on top. */
  touch({ id, title }) {
    this.#all = [{ id, title, updated_at: Date.now() / 1000 }, ...this.#all.filter((one) => one.id !== id)];
    if (this.#query === '') this.#show();
    this.select(this.#current);
  }

  titleOf(id) {
    return this.#all.find((one) => one.id === id)?.title ?? '';
  }

  async rename(id) {
    const field = h('input', { class: 'field', type: 'text', maxlength: '200', value: this.titleOf(id), 'aria-label': t('title') });
    const title = await ask({ title: t('rename_title'), confirm: t('rename'), build: (body) => { body.append(field); queueMicrotask(() => field.select()); }, result: () => field.value.trim() });
    if (title === null || title === '') return;
    try {
      await this.shelf.rename(id, title);
      this.#all = this.#all.map((one) => (one.id === id ? { ...one, title } : one));
      this.#show();
      this.on.renamed(id, title);
    } catch (error) {
      this.on.failed(error);
    }
  }

  // It disappears at once, but the server hears of it only when nobody wants it back.
  remove(id) {
    const title = this.titleOf(id);
    const remove = (leaving = false) => {
      if (!this.#gone.delete(id)) return;
      this.#all = this.#all.filter((one) => one.id !== id);
      this.shelf.remove(id, leaving)?.catch((error) => {
        this.on.failed(error);
        this.load();
      });
    };
    this.#gone.set(id, remove);
    this.#show();
    this.on.removed(id);
    toast(t('deleted', { title }), {
      action: t('undo'),
      run: () => {
        this.#gone.delete(id);
        this.#show();
        location.hash = `#/c/${id}`;
      },
      gone: () => remove(),
    });
  }

  async export(id, format) {
    try {
      const blob = await this.shelf.export(id, format);
      const name = this.titleOf(id).replace(/[\\/:*?"<>|\u0000-\u001f]+/g, ' ').trim().slice(0, 80) || 'conversation';
      const link = h('a', { href: URL.createObjectURL(blob), download: `${name}.${format === 'json' ? 'json' : 'md'}` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    } catch (error) {
      this.on.failed(error);
    }
  }

  actions(id) {
    return [
      { label: t('rename'), run: () => this.rename(id) },
      { label: t('export_markdown'), run: () => this.export(id, 'markdown') },
      { label: t('export_json'), run: () => this.export(id, 'json') },
      { label: t('delete'), run: () => this.remove(id), danger: true },
    ];
  }

  #show() {
    const shown = this.#all.filter(({ id }) => !this.#gone.has(id));
    const groups = new Map();
    for (const one of shown) {
      const day = dayName(one.updated_at * 1000);
      if (!groups.has(day)) groups.set(day, []);
      groups.get(day).push(one);
    }
    const sections = [...groups].map(([day, ones]) => h('section', {}, h('h2', { text: day }), h('ul', {}, ...ones.map((one) => this.#row(one)))));
    const empty = h('p', { class: 'list-empty', text: t(this.#query === '' ? 'no_conversations' : 'nothing_found') });
    this.host.replaceChildren(...(shown.length > 0 ? sections : [empty]));
    this.select(this.#current);
  }

  #row({ id, title }) {
    const link = h('a', { href: `#/c/${id}`, 'data-id': id, title, dir: 'auto', text: title || t('untitled') });
    const more = iconButton('more', t('actions_for', { title }), () => menu(more, this.actions(id)), { 'aria-haspopup': 'menu', 'aria-expanded': 'false', class: 'row-more' });
    link.addEventListener('keydown', (event) => {
      if (event.key === 'F2') this.rename(id);
      else if (event.key === 'Delete') this.remove(id);
    });
    return h('li', {}, link, more);
  }

  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined || event.target.tagName !== 'A') return;
    event.preventDefault();
    const links = [...this.host.querySelectorAll('a')];
    links[links.indexOf(event.target) + step]?.focus();
  }
}

function mark(link, current) {
  if (current) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
}
