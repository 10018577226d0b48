// Where questions are written: a field that grows, files, switches, and the button that sends or stops.

import { FileRefused, estimateTokens, readTextFile, sizeText } from './attach.js';
import { h, icon, iconButton } from './dom.js';
import { draftOf, keepDraft } from './draft.js';
import { toast } from './notices.js';
import { number, t } from './strings.js';

export class Composer {
  files = [];
  #conversation = null;
  #running = false;
  #timer = 0;

  /** `on` has `send(question, files)`, `stop()`, `editLast()` and `mode(name, value)`. */
  constructor({ info, mode, on }) {
    Object.assign(this, { info, mode, on });
    this.form = document.getElementById('composer');
    this.area = document.getElementById('question');
    this.chips = document.getElementById('chips');
    this.#build();
    this.#listen();
    this.#drops();
  }

  open(conversation) {
    this.#conversation = conversation;
    this.area.value = draftOf(conversation.id);
    this.files = [];
    this.#showFiles();
    this.#grow();
  }

  focus() {
    // On a phone this would raise the keyboard over what is to be read.
    if (matchMedia('(hover: hover)').matches) this.area.focus({ preventScroll: true });
  }

  fill(text) {
    this.area.value = text;
    this.#grow();
    this.area.focus();
  }

  /** What could not be sent stands in the field again. */
  restore(question, files) {
    this.files = files;
    this.#showFiles();
    this.fill(question);
  }

  running(running) {
    if (this.#running !== running) {
      this.#running = running;
      const label = t(running ? 'stop' : 'send');
      this.button.replaceChildren(icon(running ? 'stop' : 'send'));
      this.button.title = label;
      this.button.setAttribute('aria-label', label);
      this.button.classList.toggle('stop', running);
    }
    this.#enable();
  }

  #build() {
    this.picker = h('input', { type: 'file', multiple: true, class: 'off-screen', tabindex: '-1', 'aria-hidden': 'true' });
    this.picker.addEventListener('change', () => {
      this.#take([...this.picker.files]);
      this.picker.value = '';
    });
    this.button = h('button', { type: 'submit', class: 'send', 'aria-label': t('send'), title: t('send') }, icon('send'));
    this.size = h('span', { class: 'size-note' });
    const row = document.getElementById('composer-row');
    row.replaceChildren(iconButton('attach', t('attach'), () => this.picker.click()), this.picker, ...this.#switches(), h('span', { class: 'grow' }), this.size, this.button);
  }

  #switches() {
    const out = [];
    if (this.info.thinking !== 'never') {
      const locked = this.info.thinking === 'always';
      out.push(this.#switch('thinking', 'think', t('deepthink'), t(locked ? 'deepthink_locked' : 'deepthink_tip'), locked));
    }
    out.push(this.#switch('explain', 'explain', t('explain'), t('explain_switch_tip'), false));
    return out;
  }

  #switch(name, picture, label, tip, locked) {
    const on = locked || this.mode[name];
    const button = h('button', { type: 'button', class: 'switch', role: 'switch', 'aria-checked': String(on), 'aria-disabled': locked ? 'true' : null, title: tip }, icon(picture), h('span', { text: label }));
    button.addEventListener('click', () => {
      if (locked) return toast(tip);
      this.mode[name] = !this.mode[name];
      button.setAttribute('aria-checked', String(this.mode[name]));
      this.on.mode(name, this.mode[name]);
    });
    return button;
  }

  #listen() {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#running) this.on.stop();
      else this.#send();
    });
    this.area.addEventListener('input', () => {
      this.#grow();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#keep(), 300);
    });
    this.area.addEventListener('keydown', (event) => {
      // 229 is what some input methods still send instead of `isComposing`.
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === 'Enter' && !event.shiftKey && !event.altKey) {
        event.preventDefault();
        if (!this.#running) this.#send();
      } else if (event.key === 'ArrowUp' && this.area.value === '' && !this.#running) {
        event.preventDefault();
        this.on.editLast();
      }
    });
    this.area.addEventListener('paste', (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      this.#take(files);
    });
    addEventListener('pagehide', () => this.#keep());
    // A click on the frame is meant for the field.
    this.form.addEventListener('mousedown', (event) => {
      if (event.target.closest('button, textarea, .chip') !== null) return;
      event.preventDefault();
      this.area.focus();
    });
  }

  #drops() {
    const veil = document.getElementById('drop');
    const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
    let depth = 0;
    addEventListener('dragenter', (event) => {
      if (!holdsFiles(event)) return;
      depth++;
      veil.hidden = false;
    });
    addEventListener('dragleave', () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) veil.hidden = true;
    });
    addEventListener('dragover', (event) => { if (holdsFiles(event)) event.preventDefault(); });
    addEventListener('drop', (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      depth = 0;
      veil.hidden = true;
      this.#take([...event.dataTransfer.files]);
    });
  }

  async #take(files) {
    for (const file of files) {
      try {
        this.files.push(await readTextFile(file, this.files));
      } catch (error) {
        toast(error instanceof FileRefused ? t(error.reason, error.values) : t('file_unreadable', { name: file.name }));
      }
    }
    this.#showFiles();
    this.area.focus();
  }

  #showFiles() {
    this.chips.hidden = this.files.length === 0;
    this.chips.replaceChildren(...this.files.map((file, i) => h('span', { class: 'chip', role: 'listitem' }, icon('file'),
      h('span', { class: 'chip-name', text: file.name, dir: 'auto' }),
      h('span', { class: 'chip-size', text: `${sizeText(file.bytes)} · ${t('about_tokens', { n: number(file.tokens) })}` }),
      iconButton('close', t('remove_file', { name: file.name }), () => {
        this.files.splice(i, 1);
        this.#showFiles();
        this.area.focus();
      }))));
    this.#enable();
  }

  #send() {
    const question = this.area.value.trim();
    if (question === '' && this.files.length === 0) return;
    const { files } = this;
    this.area.value = '';
    this.files = [];
    clearTimeout(this.#timer);
    keepDraft(this.#conversation.id, '');
    this.#showFiles();
    this.#grow();
    this.on.send(question, files);
  }

  #keep() {
    if (this.#conversation !== null) keepDraft(this.#conversation.id, this.area.value);
  }

  #grow() {
    this.area.style.height = 'auto';
    this.area.style.height = `${Math.min(this.area.scrollHeight, Math.max(120, innerHeight * 0.4))}px`;
    this.#enable();
  }

  #enable() {
    const empty = this.area.value.trim() === '' && this.files.length === 0;
    this.button.disabled = empty && !this.#running;
    const tokens = estimateTokens(this.area.value) + this.files.reduce((sum, file) => sum + file.tokens, 0);
    // Only where it is worth a thought.
    const much = this.info.context !== null && tokens > this.info.context * 0.25;
    this.size.textContent = much ? t('size_note', { n: number(tokens), all: number(this.info.context) }) : '';
    this.size.classList.toggle('warn', this.info.context !== null && tokens > this.info.context);
  }
}
