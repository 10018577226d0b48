// Nodes of Markdown and math become elements. This is the only place where a model's words meet the page.

import { copyText, h, icon, mathElement } from './dom.js';
import { highlight } from './highlight.js';
import { parseBlocks, StreamingMarkdown } from './markdown.js';
import { readMath } from './math.js';
import { t } from './strings.js';

const MAX_CHARS = 400_000;

/** Shows a growing text in `host`. Finished blocks are never touched again. */
export class MarkdownView {
  #stream = new StreamingMarkdown();
  #open = [];
  #seen = '';
  #whole = false;

  constructor(host) {
    this.host = host;
  }

  /** `whole` says that nothing more comes, so that an unfinished formula is set as it is. */
  update(text, whole = false) {
    if (text === this.#seen && whole === this.#whole) return;
    this.#seen = text;
    this.#whole = whole;
    if (text.length > MAX_CHARS) return this.#plain(text);
    const { final, open } = this.#stream.update(text);
    if (whole) for (const block of open) block.open = false;
    if (final.length === 0 && this.#growCode(open)) return;
    for (const { element } of this.#open) element.remove();
    for (const block of final) this.host.append(renderBlock(block));
    this.#open = open.map((block) => ({ block, element: renderBlock(block) }));
    this.host.append(...this.#open.map(({ element }) => element));
  }

  // A code block that only grows keeps its frame, so that its button and its scroll position stay.
  #growCode(open) {
    const [last] = this.#open;
    if (open.length !== 1 || this.#open.length !== 1 || open[0].t !== 'code' || last.block.t !== 'code' || last.block.lang !== open[0].lang) return false;
    last.element.querySelector('code').replaceChildren(...codePieces(open[0]));
    last.block = open[0];
    return true;
  }

  // Nobody reads this much; it must only not hang the page.
  #plain(text) {
    this.host.replaceChildren(h('pre', { class: 'huge', text }));
    this.#open = [];
    this.#stream = new StreamingMarkdown();
  }
}

/** The whole text at once. */
export function renderMarkdown(text) {
  if (text.length > MAX_CHARS) return [h('pre', { class: 'huge', text })];
  return parseBlocks(text).map(renderBlock);
}

function renderBlock(block) {
  switch (block.t) {
    // Headings of an answer stand below those of the page.
    case 'heading': return h(`h${Math.min(6, block.level + 1)}`, { class: `level-${block.level}` }, ...renderInline(block.c));
    case 'code': return renderCode(block);
    // Half a formula is shown as it stands, quietly, until it can be set.
    case 'math': return block.open ? h('div', { class: 'math-pending', text: block.v.trim() }) : h('div', { class: 'math-block', tabindex: '0', role: 'group', 'aria-label': t('formula') }, renderMath(block.v, true));
    case 'quote': return h('blockquote', {}, ...block.blocks.map(renderBlock));
    case 'list': return renderList(block);
    case 'table': return renderTable(block);
    case 'rule': return h('hr');
    default: return h('p', { dir: 'auto' }, ...renderInline(block.c));
  }
}

function renderList(list) {
  const items = list.items.map((item) => {
    const tight = !list.loose;
    const children = item.blocks.flatMap((block) => (tight && block.t === 'paragraph' ? renderInline(block.c) : [renderBlock(block)]));
    if (item.task === null) return h('li', { dir: 'auto' }, ...children);
    const box = h('span', { class: item.task ? 'task done' : 'task', role: 'img', 'aria-label': t(item.task ? 'done' : 'to_do') });
    return h('li', { class: 'task-item', dir: 'auto' }, box, h('div', {}, ...children));
  });
  const start = list.ordered && list.first !== 1 ? { start: list.first } : {};
  return h(list.ordered ? 'ol' : 'ul', start, ...items);
}

function renderTable(table) {
  const cell = (tag) => (nodes, column) => h(tag, { class: table.align[column] === null ? null : `to-${table.align[column]}` }, ...renderInline(nodes));
  const head = h('thead', {}, h('tr', {}, ...table.head.map(cell('th'))));
  const body = h('tbody', {}, ...table.rows.map((row) => h('tr', {}, ...row.map(cell('td')))));
  return h('div', { class: 'table-frame', tabindex: '0', role: 'region', 'aria-label': t('table') }, h('table', {}, head, body));
}

function renderCode(block) {
  const label = h('span', { text: t('copy') });
  const button = h('button', { type: 'button', class: 'code-copy' }, icon('copy'), label);
  const code = h('code', {}, ...codePieces(block));
  button.addEventListener('click', async () => {
    label.textContent = t(await copyText(code.textContent) ? 'copied' : 'copy_failed');
    setTimeout(() => { label.textContent = t('copy'); }, 1600);
  });
  const head = h('div', { class: 'code-head' }, h('span', { class: 'code-lang', text: block.lang || t('code') }), button);
  return h('div', { class: 'code', dir: 'ltr' }, head, h('pre', { tabindex: '0', 'aria-label': t('code') }, code));
}

function codePieces(block) {
  return highlight(block.v, block.lang).map(([kind, text]) => (kind === null ? text : h('span', { class: `hl-${kind}`, text })));
}

function renderInline(nodes) {
  return nodes.map((node) => {
    switch (node.t) {
      case 'text': return node.v;
      case 'code': return h('code', { text: node.v });
      case 'math': return renderMath(node.v, node.display);
      case 'break': return h('br');
      case 'link': return renderLink(node);
      default: return h(node.t, {}, ...renderInline(node.c));
    }
  });
}

function renderLink(node) {
  const words = renderInline(node.c);
  const props = { href: node.href, target: '_blank', rel: 'noopener noreferrer nofollow', title: node.href };
  // Pictures are never fetched: that would tell their server who reads what.
  if (node.image) return h('a', { ...props, class: 'picture-link' }, icon('file'), ...(words.length > 0 ? words : [node.href]));
  return h('a', props, ...words);
}

/** A formula as MathML. */
export function renderMath(source, display) {
  return mathDom(readMath(source, display));
}

function mathDom(node) {
  const element = mathElement(node.tag);
  for (const [name, value] of Object.entries(node.attrs)) element.setAttribute(name, value);
  if (node.text !== undefined) element.textContent = node.text;
  else element.append(...node.children.map(mathDom));
  return element;
}
