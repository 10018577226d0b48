// Light, dark, or as the system likes.

import { read, write } from './api.js';

const KEY = 'fathom.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

export function theme() {
  const wanted = read(KEY);
  return wanted === 'light' || wanted === 'dark' ? wanted : 'auto';
}

export function setTheme(wanted) {
  write(KEY, wanted === 'auto' ? null : wanted);
  apply();
}

/** Follows the system from now on. */
export function followSystem() {
  system.addEventListener('change', apply);
}

function apply() {
  const wanted = theme();
  const dark = wanted === 'dark' || (wanted === 'auto' && system.matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  // Canvases do not follow CSS.
  dispatchEvent(new Event('repaint'));
}
