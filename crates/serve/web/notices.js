// What the page says about itself: toasts, the banner of a lost server, questions, and words for screen readers.

import { h, iconButton } from './dom.js';
import { t } from './strings.js';

const TOAST_MS = 6000;

/** A short message, with a button if there is something to undo. Returns what closes it. */
export function toast(text, { action = null, run = null, gone = null, ms = TOAST_MS } = {}) {
  const host = document.getElementById('toasts');
  let timer = 0;
  let open = true;
  const close = (undone) => {
    if (!open) return;
    open = false;
    clearTimeout(timer);
    box.remove();
    if (undone) run?.();
    else gone?.();
  };
  const box = h('div', { class: 'toast' }, h('span', { text }),
    action === null ? null : h('button', { type: 'button', class: 'text-button', text: action, on: { click: () => close(true) } }),
    iconButton('close', t('close'), () => close(false)));
  const arm = () => { timer = setTimeout(() => close(false), ms); };
  // Whoever is about to press the button gets the time to.
  box.addEventListener('mouseenter', () => clearTimeout(timer));
  box.addEventListener('focusin', () => clearTimeout(timer));
  box.addEventListener('mouseleave', arm);
  box.addEventListener('focusout', arm);
  host.append(box);
  while (host.children.length > 3) host.firstElementChild.remove();
  arm();
  return () => close(false);
}

/** Says something to screen readers only. */
export function say(text) {
  const host = document.getElementById('spoken');
  host.textContent = '';
  requestAnimationFrame(() => { host.textContent = text; });
}

/** The line below the title; null hides it. */
export function banner(text, { action = null, run = null, kind = 'error' } = {}) {
  const host = document.getElementById('banner');
  host.hidden = text === null;
  host.className = `banner banner-${kind}`;
  if (text === null) host.replaceChildren();
  else host.replaceChildren(h('span', { text }), action === null ? '' : h('button', { type: 'button', class: 'text-button', text: action, on: { click: run } }));
}

/** A dialog with a form. `build` gets the place for its content; resolves with what `result` gives, or null. */
export function ask({ title, build, confirm, result, danger = false }) {
  return new Promise((resolve) => {
    const body = h('div', { class: 'dialog-body' });
    const form = h('form', { method: 'dialog' },
      h('h2', { text: title, id: 'dialog-title' }), body,
      h('div', { class: 'dialog-row' },
        h('button', { type: 'button', class: 'button', text: t('cancel'), on: { click: () => dialog.close('') } }),
        h('button', { type: 'submit', class: danger ? 'button danger' : 'button primary', text: confirm, value: 'yes' })));
    const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'dialog-title' }, form);
    build(body);
    closeOnBackdrop(dialog);
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue === 'yes' ? result() : null);
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A click beside a dialog closes it. */
export function closeOnBackdrop(dialog) {
  dialog.addEventListener('mousedown', (event) => {
    if (event.target !== dialog) return;
    const box = dialog.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) dialog.close('');
  });
}

/** A menu below a button. `entries` are `{label, run, danger}`. */
export function menu(button, entries) {
  document.querySelector('.menu')?.remove();
  const items = entries.map(({ label, run, danger }) => h('button', {
    type: 'button', role: 'menuitem', tabindex: '-1', class: danger ? 'danger' : '', text: label,
    on: { click: () => { close(); run(); } },
  }));
  const box = h('div', { class: 'menu', role: 'menu' }, ...items);
  const outside = (event) => { if (!box.contains(event.target) && !button.contains(event.target)) close(false); };
  const close = (back = true) => {
    box.remove();
    button.setAttribute('aria-expanded', 'false');
    document.removeEventListener('pointerdown', outside, true);
    if (back) button.focus();
  };
  box.addEventListener('keydown', (event) => {
    const at = items.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) items[(at + step + items.length) % items.length].focus();
    else if (event.key === 'Home') items[0].focus();
    else if (event.key === 'End') items[items.length - 1].focus();
    else if (event.key === 'Escape' || event.key === 'Tab') close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.body.append(box);
  const place = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = box;
  box.style.left = `${Math.max(8, Math.min(place.left, innerWidth - width - 8))}px`;
  box.style.top = `${place.bottom + height + 8 > innerHeight ? place.top - height - 4 : place.bottom + 4}px`;
  button.setAttribute('aria-expanded', 'true');
  document.addEventListener('pointerdown', outside, true);
  items[0].focus();
}
