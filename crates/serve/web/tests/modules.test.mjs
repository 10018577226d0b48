// What the page's modules promise, without a browser: `node --test crates/serve/web/tests/modules.test.mjs`.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';
import { estimateTokens, questionStart, withFiles } from '../attach.js';
import { highlight } from '../highlight.js';
import { parseInline, safeHref } from '../inline.js';
import { parseBlocks, StreamingMarkdown } from '../markdown.js';
import { readMath } from '../math.js';
import { sseEvents, SseParser } from '../sse.js';
import { names } from '../strings.js';
import { MessageTree, titleOf } from '../tree.js';
import { ATTACKS, MARKDOWN } from './texts.mjs';

// Places in the source depend on where reading began; everything else must not.
const plain = (blocks) => JSON.stringify(blocks, (key, value) => (key === 'start' || key === 'end' ? undefined : value));
const mathText = (node) => (node.text !== undefined ? `${node.tag}:${node.text}` : `${node.tag}(${node.children.map(mathText).join(' ')})`);
const math = (source) => mathText(readMath(source, false)).replace(/^math\(mrow\((.*)\)\)$/s, '$1');

function everyNode(nodes, visit) {
  for (const node of nodes) {
    visit(node);
    for (const inner of [node.c, node.blocks, node.items, node.head, ...(node.rows ?? [])]) {
      if (Array.isArray(inner)) everyNode(inner.flat(), visit);
    }
  }
}

test('events survive any cut of the bytes', async () => {
  const bytes = new TextEncoder().encode(': keep-alive\r\n\r\ndata: {"a":"深度🐋"}\r\n\r\ndata: one\ndata: two\n\ndata:x\r\rdata: [DONE]\n\n');
  const wanted = [{ comment: 'keep-alive' }, { data: '{"a":"深度🐋"}' }, { data: 'one\ntwo' }, { data: 'x' }, { data: '[DONE]' }];
  for (const size of [1, 2, 3, 5, 7, 1000]) {
    const body = new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const found = [];
    for await (const event of sseEvents(body)) found.push(event);
    assert.deepEqual(found, wanted, `chunks of ${size}`);
  }
});

test('an event without its empty line still counts', () => {
  const parser = new SseParser();
  assert.deepEqual(parser.push('\ufeffdata: a'), []);
  assert.deepEqual(parser.end(), [{ data: 'a' }]);
});

test('a streamed text ends as the same blocks as a whole one', () => {
  for (const text of [MARKDOWN, ATTACKS]) {
    for (const step of [1, 3, 17]) {
      const stream = new StreamingMarkdown();
      const final = [];
      let open = [];
      for (let end = step; end < text.length + step; end += step) {
        const update = stream.update(text.slice(0, end));
        final.push(...update.final);
        open = update.open;
      }
      assert.equal(plain([...final, ...open]), plain(parseBlocks(text)), `steps of ${step}`);
    }
  }
});

test('only harmless addresses become links', () => {
  const bad = ['javascript:alert(1)', 'JaVaScRiPt:x', 'java\tscript:x', ' data:text/html,x', 'vbscript:x', 'file:///etc/passwd', '//example.org', 'http:javascript', 'https://a b', 'https://a\u202eb'];
  for (const href of bad) assert.equal(safeHref(href), null, href);
  for (const href of ['https://example.org/a?b=c', 'HTTP://x.y', 'mailto:a@b.c']) assert.equal(safeHref(href), href);
  let links = 0;
  everyNode(parseBlocks(ATTACKS), (node) => {
    if (node.t !== 'link') return;
    links++;
    assert.match(node.href, /^https:\/\//);
  });
  assert.ok(links > 0);
});

test('prices are no math, math is', () => {
  const count = (text) => parseInline(text).filter((node) => node.t === 'math').length;
  for (const text of ['$5 and $6', 'from $1,000 to $2,000.', '$5-$10', 'costs 5$ or 6$', 'a \\$ b $', 'US$ 5 and US$ 6', '$5 apples and 3 pears$']) assert.equal(count(text), 0, text);
  for (const text of ['$x$', '$5x$', 'so $a+b$, then', '\\(x\\)', 'is $2^{10} = 1024$.', '$$x$$']) assert.equal(count(text), 1, text);
  assert.equal(count('`$x$`'), 0);
  assert.equal(count('The answer is \\boxed{\\frac{1}{2}}.'), 1);
  assert.equal(count('\\boxed{ never closed'), 0);
});

test('emphasis follows CommonMark, and Chinese quotes too', () => {
  const show = (nodes) => nodes.map((node) => (node.t === 'text' ? node.v : `<${node.t}>${show(node.c)}</${node.t}>`)).join('');
  for (const [text, wanted] of [
    ['**a *b* c**', '<strong>a <em>b</em> c</strong>'], ['snake_case_name', 'snake_case_name'], ['2 * 3 * 4', '2 * 3 * 4'],
    ['**“引用”**中文', '<strong>“引用”</strong>中文'], ['***x***', '<em><strong>x</strong></em>'], ['~~a~~ ~b~', '<del>a</del> ~b~'], ['**open', '**open'],
  ]) assert.equal(show(parseInline(text)), wanted);
});

test('lists, tables and code keep their shape', () => {
  const [list] = parseBlocks('3. a\n   - b\n\n     c\n4. [x] d');
  assert.equal(list.first, 3);
  assert.equal(list.items.length, 2);
  assert.equal(list.items[1].task, true);
  assert.equal(list.items[0].blocks[1].t, 'list');
  const [table] = parseBlocks('| a | b |\n|:-:|--:|\n| `x|y` | z |\n| 1 |');
  assert.deepEqual(table.align, ['center', 'right']);
  assert.equal(table.rows[0][0][0].v, 'x|y');
  assert.equal(table.rows[1].length, 2);
  const [code] = parseBlocks('````md\n```\nx\n```\n````');
  assert.equal(code.v, '```\nx\n```');
  assert.equal(parseBlocks('```py\nopen')[0].open, true);
  assert.equal(parseBlocks('In\n1986. a year').length, 1);
});

test('formulas are read as TeX does', () => {
  for (const [source, wanted] of [
    ['x_1^2', 'msubsup(mi:x mn:1 mn:2)'], ['\\frac12', 'mfrac(mn:1 mn:2)'], ['\\sqrt[3]{x}', 'mroot(mi:x mn:3)'],
    ["f''", 'msup(mi:f mo:″)'], ['\\mathbb{R}', 'mi:ℝ'], ['\\text{a b}', 'mtext:a b'], ['a \\over b', 'mfrac(mi:a mi:b)'],
    ['\\left( x \\right]', 'mrow(mo:( mi:x mo:])'], ['\\nosuch{x}', 'mtext:\\nosuch mi:x'], ['3.14', 'mn:3.14'],
    ['\\sum_{i}^{n}', 'munderover(mo:∑ mi:i mi:n)'], ['\\int_0^1', 'msubsup(mo:∫ mn:0 mn:1)'],
    ['\\begin{cases} a & b \\\\ c \\end{cases}', 'mrow(mo:{ mtable(mtr(mtd(mi:a) mtd(mi:b)) mtr(mtd(mi:c))))'],
  ]) assert.equal(math(source), wanted, source);
  assert.equal(readMath('\\boxed{42}', false).children[0].children[0].attrs.class, 'boxed');
});

test('no formula hangs, throws or names an attribute', () => {
  const parts = ['{', '}', '\\left(', '\\right', '^', '_', '&', '\\\\', '\\frac', '\\begin{matrix}', '\\end', '\\sqrt[', '\\text{$', '\\href{javascript:x}{y}', "'", '\\over', '\\hat', '%', '\\'];
  let state = 1;
  const random = (n) => { state = (state * 48_271) % 2_147_483_647; return state % n; };
  for (let round = 0; round < 2000; round++) {
    let source = '';
    for (let i = 0; i < 12; i++) source += parts[random(parts.length)] + (random(3) === 0 ? 'x' : '');
    readMath(source, true);
  }
  const allowed = /^(math|mrow|mi|mn|mo|mtext|mspace|mfrac|msqrt|mroot|msub|msup|msubsup|munder|mover|munderover|mtable|mtr|mtd|mstyle|mphantom)$/;
  const walk = (node) => {
    assert.match(node.tag, allowed);
    for (const name of Object.keys(node.attrs)) assert.doesNotMatch(name, /^on|href|style|src/);
    node.children?.forEach(walk);
  };
  walk(readMath(ATTACKS, true));
});

test('huge lines cost no square', () => {
  const began = performance.now();
  for (const part of ['*', '_', '[', '![', '$', '`', '~~', '**a ', '[a](', '\\boxed{', '<', '\\(', '*a _b ', '> ', '- ', '| a ', '|a|\n|-|\n', '  - a\n', '#', '1. ', 'a\n']) {
    parseBlocks(part.repeat(60_000 / part.length));
  }
  for (const part of ['{', '\\left(', '\\frac', 'x^', '\\begin{matrix}', '\\displaystyle ']) readMath(part.repeat(18_000 / part.length), true);
  for (const language of ['python', 'rust', 'js', 'html', 'yaml', 'sql', 'bash', 'css', 'latex']) {
    for (const part of ['"', '/', '#', '<', 'r#', '=/', ' ', 'a.', '\n']) highlight(part.repeat(20_000 / part.length), language);
  }
  assert.ok(performance.now() - began < 20_000, `${performance.now() - began} ms`);
});

test('highlighting only colours', () => {
  const code = 'fn main() { let s = r#"a"b"#; println!("{}", 0xff); } // 深\n/* open';
  for (const language of ['rust', 'python', 'js', 'html', 'nonsense', '', 'constructor']) {
    assert.equal(highlight(code, language).map(([, text]) => text).join(''), code, language);
  }
  const kinds = Object.fromEntries(highlight(code, 'rust').map(([kind, text]) => [text, kind]));
  assert.equal(kinds['r#"a"b"#'], 'string');
  assert.equal(kinds.fn, 'keyword');
});

test('branches keep their places', () => {
  const message = (id, parent) => ({ id, parent, role: 'user', content: id, meta: {} });
  const tree = new MessageTree([message('a', null), message('b', 'a'), message('c', 'a'), message('d', 'b')], 'd');
  assert.deepEqual(tree.path().map(({ id }) => id), ['a', 'b', 'd']);
  assert.deepEqual([tree.place('b').index, tree.place('b').count], [0, 2]);
  assert.ok(tree.step('b', 1));
  assert.equal(tree.head, 'c');
  assert.ok(!tree.step('c', 1));
  assert.ok(tree.step('c', -1));
  assert.equal(tree.head, 'd');
  assert.equal(new MessageTree([message('x', 'lost')], 'gone').head, 'x');
});

test('files stand before the question as DeepSeek published it', () => {
  const files = [{ name: 'a.txt', text: 'one' }, { name: 'b.txt', text: 'two' }];
  const sent = withFiles(files, 'why?');
  assert.equal(sent, '[file name]: a.txt\n[file content begin]\none\n[file content end]\n[file name]: b.txt\n[file content begin]\ntwo\n[file content end]\nwhy?');
  assert.equal(sent.slice(questionStart(files)), 'why?');
  assert.equal(estimateTokens('深度'), 2);
});

test('titles are the first words', () => {
  assert.equal(titleOf('  What\nis  this? '), 'What is this?');
  assert.ok(Array.from(titleOf('word '.repeat(40))).length <= 49);
  assert.equal(titleOf('🐋'.repeat(60)), `${'🐋'.repeat(48)}…`);
});

test('text can be read on every ground', () => {
  const css = fs.readFileSync(new URL('../theme.css', import.meta.url), 'utf8');
  const colours = (text) => Object.fromEntries([...text.matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map(([, name, value]) => [name, value]));
  const cut = css.indexOf('[data-theme="dark"]');
  const light = colours(css.slice(0, cut));
  const linear = (hex, at) => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  const bright = (hex) => 0.2126 * linear(hex, 1) + 0.7152 * linear(hex, 3) + 0.0722 * linear(hex, 5) + 0.05;
  const pairs = {
    text: 'ground side raised bubble hover code-ground tint-1 tint-2 tint-3 tint-4 tint-5 error-ground', quiet: 'ground side raised hover code-ground tint-1 tint-2',
    accent: 'ground raised hover accent-soft', 'accent-text': 'accent', warn: 'warn-ground', error: 'error-ground raised hover', ground: 'text error',
    ...Object.fromEntries(['keyword', 'string', 'number', 'comment', 'call', 'type', 'meta'].map((name) => [`hl-${name}`, 'code-ground'])),
  };
  for (const theme of [light, { ...light, ...colours(css.slice(cut)) }]) {
    for (const [text, grounds] of Object.entries(pairs)) {
      for (const ground of grounds.split(' ')) {
        const [a, b] = [bright(theme[text]), bright(theme[ground])];
        assert.ok(Math.max(a, b) / Math.min(a, b) >= 4.5, `${text} on ${ground}: ${Math.max(a, b) / Math.min(a, b)}`);
      }
    }
  }
});

test('every text of the page is in the table', () => {
  const known = new Set(names());
  const folder = new URL('../', import.meta.url);
  for (const file of fs.readdirSync(folder)) {
    if (!/\.(js|html)$/.test(file)) continue;
    const source = fs.readFileSync(new URL(file, folder), 'utf8');
    for (const [, name] of source.matchAll(/\bt\('([a-z_0-9]+)'|data-t(?:-\w+)?="([a-z_]+)"/g)) if (name) assert.ok(known.has(name), `${file}: ${name}`);
  }
  for (const name of ['error_gone', 'error_busy', 'error_context', 'error_refused', 'error_server', 'error_key', 'error_funds', 'error_page', 'temperature_hint', 'top_p_usual', 'thinking_always']) assert.ok(known.has(name), name);
});
