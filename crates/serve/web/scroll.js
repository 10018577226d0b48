// Follows a growing answer to its end, unless the reader has gone elsewhere.

const NEAR = 32;

export class Follower {
  #follows = true;
  #last = 0;

  /** `changed(atEnd)` is told when the reader leaves the end or comes back. */
  constructor(scroller, content, changed) {
    this.scroller = scroller;
    this.changed = changed;
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    scroller.addEventListener('wheel', (event) => { if (event.deltaY < 0) this.#leave(); }, { passive: true });
    const observer = new ResizeObserver(() => this.settle());
    observer.observe(content);
    observer.observe(scroller);
  }

  get distance() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  /** Call after the content has grown. */
  settle() {
    if (this.#follows) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#last = this.scroller.scrollTop;
    this.changed(this.distance < NEAR);
  }

  toEnd(smooth = false) {
    this.#follows = true;
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: smooth && !calm ? 'smooth' : 'instant' });
  }

  /** The reader looks at something that is about to change its size. */
  stay() {
    this.#leave();
  }

  #leave() {
    if (this.distance > 0 || this.scroller.scrollTop > 0) this.#follows = false;
  }

  #scrolled() {
    const { scrollTop } = this.scroller;
    // Content that shrinks scrolls too, but it ends at the end; only a reader ends above it.
    if (scrollTop < this.#last - 1 && this.distance > 2) this.#follows = false;
    if (this.distance < 2) this.#follows = true;
    this.#last = scrollTop;
    this.changed(this.distance < NEAR);
  }
}
