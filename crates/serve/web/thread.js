// The messages that are shown: only what changed is made anew, and growing answers are drawn at most once a frame.

import { h } from './dom.js';
import { makeMessage } from './message.js';
import { t } from './strings.js';

const SHOWN_AT_FIRST = 40;
const SHOWN_MORE = 40;

export class Thread {
  #views = [];
  #conversation = null;
  #from = 0;
  #dirty = new Set();
  #frame = 0;
  #restUntil = 0;

  constructor(host, act, follower) {
    Object.assign(this, { host, act, follower });
    this.more = h('button', { type: 'button', class: 'text-button show-more', on: { click: () => this.#showMore() } });
  }

  /** Shows another conversation from its newest message on. */
  open(conversation) {
    for (const view of this.#views) view.element.remove();
    this.#views = [];
    this.#conversation = conversation;
    this.#from = Math.max(0, conversation.tree.path().length - SHOWN_AT_FIRST);
    this.changed();
  }

  /** The path or the state of messages changed. */
  changed() {
    const path = this.#conversation.tree.path();
    if (path.length <= this.#from) this.#from = Math.max(0, path.length - SHOWN_AT_FIRST);
    const shown = path.slice(this.#from);
    let same = 0;
    while (same < this.#views.length && same < shown.length && this.#views[same].message === shown[same]) same++;
    for (const view of this.#views.splice(same)) view.element.remove();
    for (const view of this.#views) view.refresh();
    for (const message of shown.slice(same)) {
      const view = makeMessage(message, this.#conversation, this.act);
      this.#views.push(view);
      this.host.append(view.element);
    }
    this.#views.forEach((view, i) => view.element.classList.toggle('last', i === this.#views.length - 1));
    this.more.textContent = t('show_earlier', { n: this.#from });
    if (this.#from > 0) this.host.prepend(this.more);
    else this.more.remove();
    this.follower.settle();
  }

  /** A message grew. */
  grew(id) {
    this.#dirty.add(id);
    if (this.#frame === 0) this.#frame = requestAnimationFrame((now) => this.#draw(now));
  }

  lastQuestion() {
    return this.#views.findLast((view) => view.message.role === 'user') ?? null;
  }

  viewOf(id) {
    return this.#views.find((view) => view.message.id === id) ?? null;
  }

  // Drawing takes at most about a quarter of the time, however long the answer and slow the machine.
  #draw(now) {
    this.#frame = 0;
    if (now < this.#restUntil) {
      this.#frame = requestAnimationFrame((later) => this.#draw(later));
      return;
    }
    const began = performance.now();
    for (const id of this.#dirty) this.viewOf(id)?.grow?.();
    this.#dirty.clear();
    this.follower.settle();
    this.#restUntil = now + Math.min(2500, (performance.now() - began) * 4);
  }

  #showMore() {
    const before = this.follower.scroller.scrollHeight - this.follower.scroller.scrollTop;
    this.follower.stay();
    const path = this.#conversation.tree.path();
    const from = Math.max(0, this.#from - SHOWN_MORE);
    const views = path.slice(from, this.#from).map((message) => makeMessage(message, this.#conversation, this.act));
    this.#from = from;
    this.more.after(...views.map((view) => view.element));
    this.#views.unshift(...views);
    this.changed();
    // What was being read stays where it was.
    this.follower.scroller.scrollTop = this.follower.scroller.scrollHeight - before;
    views[0]?.element.querySelector('button')?.focus({ preventScroll: true });
  }
}
