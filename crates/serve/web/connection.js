// A server that is gone: says so, asks `/health` now and then, and says when it is back.

import { request } from './api.js';
import { banner, say } from './notices.js';
import { t } from './strings.js';

const WAITS_S = [1, 2, 4, 8, 15, 30];

export class Connection {
  #lost = false;
  #timer = 0;
  #tries = 0;

  /** `restored` runs once the server answers again. */
  constructor(restored) {
    this.restored = restored;
    addEventListener('online', () => { if (this.#lost) this.#check(); });
  }

  get isLost() {
    return this.#lost;
  }

  lost() {
    if (this.#lost) return;
    this.#lost = true;
    this.#tries = 0;
    say(t('server_gone'));
    this.#wait();
  }

  #wait() {
    let left = WAITS_S[Math.min(this.#tries++, WAITS_S.length - 1)];
    const tick = () => {
      if (left <= 0) return this.#check();
      banner(`${t('server_gone')} ${t('next_try', { s: left })}`, { action: t('try_now'), run: () => this.#check() });
      left--;
      this.#timer = setTimeout(tick, 1000);
    };
    tick();
  }

  async #check() {
    clearTimeout(this.#timer);
    try {
      await request('health', { signal: AbortSignal.timeout(5000) });
    } catch (error) {
      // A server that refuses is a server that is there. One that loads or stops says 503.
      if (!(error.status > 0) || error.status >= 500) return this.#wait();
    }
    this.#lost = false;
    banner(null);
    say(t('server_back'));
    this.restored();
  }
}
