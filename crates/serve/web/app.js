// The page as a whole: reads where it is, puts the parts together, and knows the keys.

import { loadInfo, read, storeKey, storedKey, write } from './api.js';
import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { Connection } from './connection.js';
import { h, icon, iconButton, mark } from './dom.js';
import { ask, banner, menu, say, toast } from './notices.js';
import { Follower } from './scroll.js';
import { openSettings } from './settings.js';
import { ServerShelf, TabShelf } from './shelf.js';
import { Sidebar } from './sidebar.js';
import { setTexts, t } from './strings.js';
import { followSystem } from './theme.js';
import { Thread } from './thread.js';

const at = (id) => document.getElementById(id);
const narrow = matchMedia('(max-width: 760px)');
const mode = { thinking: read('fathom.thinking') === '1', explain: read('fathom.explain') === '1' };

let info;
let chat;
let composer;
let sidebar;
let thread;
let shelf = new ServerShelf((ok, error) => (ok ? closeUnsaved?.() : unsaved(error)));
let closeUnsaved = null;

const connection = new Connection(() => {
  if (chat === undefined) begin();
  else sidebar.load();
});

const follower = new Follower(at('scroller'), at('thread'), (atEnd) => { at('to-bottom').hidden = atEnd; });

frame();
followSystem();
begin();

// Asks the server what it is, as often as it takes.
async function begin() {
  try {
    info = await loadInfo();
    if (info.needsKey && info.keyAccepted === false) return askKey(begin);
    if (shelf.kept) await shelf.list().catch(useTab);
  } catch (error) {
    if (error.status === 401) return askKey(begin);
    return connection.lost();
  }
  start();
}

function start() {
  const act = {
    edit: (id, text) => chat.edit(id, text),
    regenerate: (id) => chat.regenerate(id),
    continue: (id) => chat.continue(id),
    step: (id, step) => chat.step(id, step),
    explain: (id, grew, signal) => chat.explain(id, grew, signal),
    info: () => info,
    stay: () => follower.stay(),
  };
  thread = new Thread(at('thread'), act, follower);
  sidebar = new Sidebar(shelf, { failed, removed, renamed });
  chat = new Chat({ info, shelf, mode, view: { opened, changed, grew, created, answered, shelfFailed: useTab } });
  composer = new Composer({ info, mode, on: {
    send: (question, files) => {
      follower.toEnd();
      chat.send(question, files).catch((error) => {
        composer.restore(question, files);
        failed(error);
      });
    },
    stop: () => chat.stop(),
    editLast: () => thread.lastQuestion()?.edit(),
    mode: (name, value) => write(`fathom.${name}`, value ? '1' : '0'),
  } });
  at('model-name').textContent = info.model;
  if (!info.chat) toast(t('no_chat'), { ms: 30_000 });
  sidebar.load();
  addEventListener('hashchange', route);
  route();
}

async function route() {
  const found = /^#\/c\/([\w-]{1,80})$/.exec(location.hash);
  try {
    await chat.open(found === null ? null : found[1]);
  } catch (error) {
    if (error.status !== 404) return failed(error);
    toast(t('no_such_conversation'));
    location.replace('#/');
  }
  if (narrow.matches) showSidebar(false);
}

// What the conversation tells the page.

function opened(conversation) {
  thread.open(conversation);
  composer.open(conversation);
  changed(conversation);
  sidebar.select(conversation.id);
  follower.toEnd();
  composer.focus();
}

function changed(conversation) {
  if (conversation !== chat.current) return;
  const empty = conversation.tree.head === null;
  at('app').classList.toggle('empty', empty);
  at('welcome').hidden = !empty;
  at('title').textContent = empty ? '' : conversation.title;
  document.title = empty || conversation.title === '' ? 'Fathom' : `${conversation.title} · Fathom`;
  at('conversation-menu').hidden = conversation.id === null;
  thread.changed();
  const answering = conversation.running();
  composer.running(answering !== null);
  if (answering !== null) saidPhase(answering.phase);
}

let lastPhase = '';
function saidPhase(phase) {
  if (phase === lastPhase) return;
  lastPhase = phase;
  if (phase === 'thinking') say(t('thinking'));
  else if (phase === 'waiting') say(t('waiting'));
}

function grew(conversation, id) {
  if (conversation === chat.current) thread.grew(id);
}

function created(conversation) {
  // Quietly: the conversation is already open.
  if (conversation === chat.current) history.replaceState(null, '', `#/c/${conversation.id}`);
  sidebar.touch(conversation);
  sidebar.select(chat.current.id);
  changed(conversation);
}

function answered(conversation, message) {
  lastPhase = '';
  sidebar.touch(conversation);
  const { error } = message.meta;
  if (error?.kind === 'gone') connection.lost();
  if (error?.kind === 'key') askKey(() => chat.regenerate(message.id));
  // The whole answer at once: word by word would never let a screen reader finish.
  if (conversation === chat.current && error === undefined) say(`${t('answer')}: ${message.content.slice(0, 600)}`);
}

function removed(id) {
  if (chat.current.id !== id) return;
  chat.stop();
  location.hash = '#/';
}

function renamed(id, title) {
  if (chat.current.id !== id) return;
  chat.current.title = title;
  changed(chat.current);
}

// What goes wrong.

function failed(error) {
  if (error.status === 0) connection.lost();
  else if (error.status === 401) askKey(() => sidebar.load());
  else toast(`${t('error_refused')} ${error.message}`);
}

function unsaved(error) {
  if (error !== null) return toast(`${t('error_refused')} ${error.message}`, { ms: 15_000 });
  closeUnsaved ??= toast(t('not_saved'), { ms: 3_600_000, gone: () => { closeUnsaved = null; } });
}

// Without the server's shelf everything works, but only in this tab.
function useTab(error) {
  // Who cannot be reached, or asks for a key, may well keep conversations.
  if (error.status === 0 || error.status === 401) throw error;
  shelf = new TabShelf();
  if (chat !== undefined) {
    chat.shelf = shelf;
    sidebar.shelf = shelf;
  }
  toast(t('only_in_tab'), { ms: 15_000 });
  return null;
}

let asking = false;
async function askKey(then) {
  if (asking) return;
  asking = true;
  const field = h('input', { class: 'field', type: 'password', autocomplete: 'off', 'aria-label': t('key'), value: storedKey() ?? '' });
  const key = await ask({
    title: t('key_title'), confirm: t('save'), result: () => field.value.trim(),
    build: (body) => { body.append(h('p', { text: t(storedKey() === null ? 'key_words' : 'key_wrong') }), field); queueMicrotask(() => field.focus()); },
  });
  asking = false;
  if (key === null) return banner(t('key_title'), { action: t('key'), run: () => askKey(then) });
  banner(null);
  storeKey(key);
  then();
}

// The frame: what is there before the server has said anything.

function frame() {
  setTexts(document);
  at('mark').append(mark());
  at('new-chat').append(icon('plus'), h('span', { text: t('new_chat') }), h('kbd', { text: /Mac|iP/.test(navigator.platform) ? '⌘K' : 'Ctrl K' }));
  at('new-chat').addEventListener('click', () => { if (location.hash === '#/' || location.hash === '') composer?.focus(); });
  const toggle = iconButton('side', t('sidebar'), () => showSidebar(at('app').classList.contains('no-sidebar')), { id: 'side-toggle', 'aria-controls': 'sidebar' });
  const create = iconButton('plus', t('new_chat'), newChat, { id: 'new-small' });
  at('topbar-start').append(toggle, create);
  const more = iconButton('more', t('actions'), () => menu(more, sidebar.actions(chat.current.id)), { id: 'conversation-menu', 'aria-haspopup': 'menu', hidden: true });
  at('topbar-end').append(h('span', { class: 'model-name', id: 'model-name' }), more, iconButton('settings', t('settings'), settings));
  at('sidebar-foot').append(footButton('settings', t('settings'), settings), footButton('keys', t('keys'), keys));
  at('to-bottom').append(icon('bottom'));
  at('to-bottom').setAttribute('aria-label', t('to_bottom'));
  at('to-bottom').addEventListener('click', () => follower.toEnd(true));
  at('shade').addEventListener('click', () => showSidebar(false));
  at('search-box').prepend(icon('search'));
  welcome();
  showSidebar(!narrow.matches && read('fathom.sidebar') !== '0', false);
  narrow.addEventListener('change', () => showSidebar(!narrow.matches, false));
  addEventListener('keydown', shortcut);
  requestAnimationFrame(() => at('app').classList.add('ready'));
}

function footButton(name, label, run) {
  return h('button', { type: 'button', class: 'foot-button', on: { click: run } }, icon(name), h('span', { text: label }));
}

function welcome() {
  const ideas = ['idea_1', 'idea_2', 'idea_3', 'idea_4'].map((key) => h('button', { type: 'button', class: 'idea', text: t(key), on: { click: () => composer?.fill(t(key)) } }));
  at('welcome').hidden = location.hash.startsWith('#/c/');
  at('app').classList.toggle('empty', !at('welcome').hidden);
  at('welcome').append(mark(), h('h2', { text: t('welcome') }), h('div', { class: 'ideas' }, ...ideas));
}

function showSidebar(open, remember = true) {
  at('app').classList.toggle('no-sidebar', !open);
  at('sidebar').inert = !open;
  at('shade').hidden = !(open && narrow.matches);
  at('side-toggle').setAttribute('aria-expanded', String(open));
  if (remember && !narrow.matches) write('fathom.sidebar', open ? '1' : '0');
  if (open && narrow.matches) at('new-chat').focus({ preventScroll: true });
}

function settings() {
  if (chat === undefined || document.querySelector('dialog[open]') !== null) return;
  const { current } = chat;
  openSettings({ info, settings: current.settings, needsKey: info.needsKey, changed: () => {}, keyChanged: () => sidebar.load() });
}

function newChat() {
  if (location.hash === '#/' || location.hash === '') composer?.focus();
  else location.hash = '#/';
}

const KEYS = [['Ctrl K', 'new_chat'], ['Ctrl Shift F', 'search'], ['Ctrl Shift S', 'sidebar'], ['Esc', 'stop'], ['/', 'ask'], ['↑', 'edit_last'], ['Enter', 'send'], ['Shift Enter', 'new_line'], ['Ctrl Shift C', 'copy_last'], ['?', 'keys']];

function keys() {
  if (document.querySelector('dialog[open]') !== null) return;
  const rows = KEYS.flatMap(([key, name]) => [h('dt', {}, ...key.split(' ').map((part) => h('kbd', { text: part }))), h('dd', { text: t(name) })]);
  const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'keys-title' }, h('form', { method: 'dialog' }, h('h2', { id: 'keys-title', text: t('keys') }),
    h('dl', { class: 'keys' }, ...rows), h('div', { class: 'dialog-row' }, h('button', { class: 'button primary', text: t('close') }))));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function shortcut(event) {
  if (event.isComposing || event.defaultPrevented) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  const typing = event.target.closest?.('input, textarea, select, dialog, [role=listbox]') !== null;
  if (control && !event.shiftKey && key === 'k') newChat();
  else if (control && event.shiftKey && key === 'f') {
    showSidebar(true);
    at('search').focus();
  } else if (control && event.shiftKey && key === 's') showSidebar(at('app').classList.contains('no-sidebar'));
  else if (control && event.shiftKey && key === 'c') document.querySelector('.message.last [data-name=copy]')?.click();
  else if (event.key === 'Escape' && document.querySelector('dialog[open]') === null) {
    if (narrow.matches && !at('app').classList.contains('no-sidebar')) showSidebar(false);
    else if (chat?.current.running()) chat.stop();
    else return;
  } else if (!typing && !control && key === '/') at('question').focus();
  else if (!typing && !control && key === '?') keys();
  else return;
  event.preventDefault();
}
