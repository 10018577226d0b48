// What was typed but not sent survives a reload, for each conversation.

import { read, write } from './api.js';

const KEY = 'fathom.drafts';
const MAX_DRAFTS = 50;

export function draftOf(id) {
  const drafts = all();
  return Object.hasOwn(drafts, id ?? 'new') ? String(drafts[id ?? 'new']) : '';
}

export function keepDraft(id, text) {
  const drafts = all();
  delete drafts[id ?? 'new'];
  if (text.trim() !== '') drafts[id ?? 'new'] = text.slice(0, 100_000);
  const names = Object.keys(drafts);
  for (const name of names.slice(0, Math.max(0, names.length - MAX_DRAFTS))) delete drafts[name];
  write(KEY, JSON.stringify(drafts));
}

function all() {
  try {
    return JSON.parse(read(KEY) ?? '{}') ?? {};
  } catch {
    return {};
  }
}
