// Markdown blocks: text in, plain nodes out. While an answer streams, only its last block is read again.

import { parseInline } from './inline.js';

const MAX_DEPTH = 24;
const BULLET = /^( {0,3})([-*+•])(?:( +)(.*)|()())$/;
const ORDERED = /^( {0,3})(\d{1,9})([.)])(?:( +)(.*)|()())$/;
const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const MATH_OPEN = /^\s*(\$\$|\\\[)(.*)$/;
const TABLE_RULE = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

/**
 * Blocks with the places `start` and `end` of their source. Kinds: `heading {level, c}`, `paragraph {c}`,
 * `code {lang, v, open}`, `math {v, open}`, `quote {blocks}`, `list {ordered, first, loose, items}`,
 * `table {align, head, rows}` and `rule`. An item is `{task, blocks}`, a cell a list of inline nodes.
 */
export function parseBlocks(text) {
  return new BlockParser(text.split('\n'), 0).run();
}

/** Reads a growing text: `update` gives blocks that are final now, and those that may still change. */
export class StreamingMarkdown {
  #done = 0;

  update(text) {
    const lines = text.slice(this.#done).split('\n');
    const blocks = new BlockParser(lines, 0).run();
    // A block is final once another one begins below it in a line that is whole: half a line can still
    // turn out to belong to what is above it.
    let final = 0;
    for (let i = blocks.length - 1; i > 0 && final === 0; i--) {
      if (blocks[i].start < lines.length - 1) final = i;
    }
    if (final > 0) {
      let skipped = 0;
      for (let line = 0; line < blocks[final].start; line++) skipped += lines[line].length + 1;
      this.#done += skipped;
    }
    return { final: blocks.slice(0, final), open: blocks.slice(final) };
  }
}

class BlockParser {
  constructor(lines, depth) {
    this.lines = lines;
    this.depth = depth;
    this.at = 0;
    this.blocks = [];
  }

  run() {
    while (this.at < this.lines.length) {
      if (isBlank(this.lines[this.at])) this.at++;
      else this.block();
    }
    return this.blocks;
  }

  block() {
    const start = this.at;
    const line = expandTabs(this.lines[start]);
    const block = this.fence(line) ?? this.math(line) ?? this.heading(line) ?? this.rule(line)
      ?? (this.depth < MAX_DEPTH ? this.quote(line) ?? this.list(line) : null)
      ?? this.table() ?? this.paragraph();
    block.start = start;
    block.end = this.at;
    this.blocks.push(block);
  }

  fence(line) {
    const found = FENCE.exec(line);
    if (found === null || (found[2][0] === '`' && found[3].includes('`'))) return null;
    const [, indent, marks, info] = found;
    const close = new RegExp(`^ {0,3}${marks[0] === '`' ? '`' : '~'}{${marks.length},}\\s*$`);
    const body = [];
    this.at++;
    let open = true;
    while (this.at < this.lines.length) {
      const next = this.lines[this.at++];
      if (close.test(next)) {
        open = false;
        break;
      }
      body.push(stripIndent(next, indent.length));
    }
    const lang = info.trim().split(/[\s{,]/)[0].slice(0, 40);
    return { t: 'code', lang, v: body.join('\n'), open };
  }

  math(line) {
    const found = MATH_OPEN.exec(line);
    if (found === null) return null;
    const closer = found[1] === '$$' ? '$$' : '\\]';
    const one = found[2].indexOf(closer);
    if (one >= 0) {
      // More text behind the formula makes it a part of a paragraph.
      if (!/^[\s.,;]*$/.test(found[2].slice(one + 2)) || found[2].slice(0, one).trim() === '') return null;
      this.at++;
      return { t: 'math', v: found[2].slice(0, one), open: false };
    }
    const body = [found[2]];
    for (let at = this.at + 1; at < this.lines.length && at < this.at + 200; at++) {
      const close = this.lines[at].indexOf(closer);
      if (close >= 0) {
        if (!/^[\s.,;]*$/.test(this.lines[at].slice(close + 2))) return null;
        body.push(this.lines[at].slice(0, close));
        this.at = at + 1;
        return { t: 'math', v: body.join('\n'), open: false };
      }
      // A blank line inside a formula happens; two, or the end of the text, mean that it is none (yet).
      if (isBlank(this.lines[at]) && isBlank(this.lines[at + 1] ?? 'x')) return null;
      body.push(this.lines[at]);
    }
    if (this.depth > 0 || body.join('').trim() === '' && body.length > 3) return null;
    if (this.at + body.length < this.lines.length) return null;
    this.at = this.lines.length;
    return { t: 'math', v: body.join('\n'), open: true };
  }

  heading(line) {
    const found = HEADING.exec(line);
    if (found === null) return null;
    this.at++;
    return { t: 'heading', level: found[1].length, c: parseInline(found[2] ?? '') };
  }

  rule(line) {
    if (!RULE.test(line)) return null;
    this.at++;
    return { t: 'rule' };
  }

  quote(line) {
    if (!/^ {0,3}>/.test(line)) return null;
    const body = [];
    while (this.at < this.lines.length) {
      const next = this.lines[this.at];
      const found = /^ {0,3}> ?(.*)$/.exec(next);
      if (found !== null) body.push(found[1]);
      else if (isBlank(next) || this.interrupts(next) || body[body.length - 1] === '') break;
      else body.push(next);
      this.at++;
    }
    return { t: 'quote', blocks: new BlockParser(body, this.depth + 1).run() };
  }

  list(line) {
    const first = marker(line);
    if (first === null) return null;
    const list = { t: 'list', ordered: first.ordered, first: first.number, loose: false, items: [] };
    while (this.at < this.lines.length) {
      const found = marker(expandTabs(this.lines[this.at]));
      if (found === null || found.kind !== first.kind || (list.items.length > 0 && RULE.test(this.lines[this.at]))) break;
      list.items.push(this.item(found, list));
      let next = this.at;
      while (next < this.lines.length && isBlank(this.lines[next])) next++;
      const follows = next < this.lines.length ? marker(expandTabs(this.lines[next])) : null;
      if (follows === null || follows.kind !== first.kind) break;
      if (next > this.at) list.loose = true;
      this.at = next;
    }
    return list;
  }

  item(found, list) {
    const body = [found.text];
    this.at++;
    while (this.at < this.lines.length) {
      const line = expandTabs(this.lines[this.at]);
      if (isBlank(line)) {
        // A blank line stays inside the item only if what follows is indented enough to be its content.
        let next = this.at + 1;
        while (next < this.lines.length && isBlank(this.lines[next])) next++;
        if (next >= this.lines.length || indentOf(expandTabs(this.lines[next])) < Math.min(found.width, 4)) break;
        if (marker(dedent(expandTabs(this.lines[next]), found.width)) === null) list.loose = true;
        for (; this.at < next; this.at++) body.push('');
        continue;
      }
      const indent = indentOf(line);
      if (indent >= found.width) body.push(stripIndent(line, found.width));
      else if (indent >= 2 && indent > found.indent && marker(line.trimStart()) !== null) body.push(line.trimStart());
      else if (marker(line) !== null || this.interrupts(line)) break;
      else if (body[body.length - 1] === '') break;
      else body.push(line.trimStart());
      this.at++;
    }
    const task = /^\[([ xX])\]\s+(.*)$/.exec(body[0]);
    if (task !== null) body[0] = task[2];
    return { task: task === null ? null : task[1] !== ' ', blocks: new BlockParser(body, this.depth + 1).run() };
  }

  table() {
    const rule = this.lines[this.at + 1];
    if (rule === undefined || !this.lines[this.at].includes('|') || !rule.includes('-') || !TABLE_RULE.test(rule)) return null;
    const head = cells(this.lines[this.at]);
    const align = cells(rule).map((cell) => {
      const left = cell.startsWith(':');
      return cell.endsWith(':') ? (left ? 'center' : 'right') : left ? 'left' : null;
    });
    if (head.length !== align.length || head.length > 100) return null;
    const rows = [];
    this.at += 2;
    while (this.at < this.lines.length && !isBlank(this.lines[this.at])) {
      const line = this.lines[this.at];
      if (!line.includes('|') && this.interrupts(line)) break;
      const row = cells(line).slice(0, head.length);
      while (row.length < head.length) row.push('');
      rows.push(row.map(parseInline));
      this.at++;
    }
    return { t: 'table', align, head: head.map(parseInline), rows };
  }

  paragraph() {
    const body = [this.lines[this.at++].trimStart()];
    let level = 0;
    while (this.at < this.lines.length) {
      const line = this.lines[this.at];
      if (isBlank(line)) break;
      const under = /^ {0,3}(=+|-{2,})\s*$/.exec(line);
      if (under !== null) {
        level = under[1][0] === '=' ? 1 : 2;
        this.at++;
        break;
      }
      if (this.interrupts(line) || this.beginsTable()) break;
      body.push(line.trimStart());
      this.at++;
    }
    const c = parseInline(body.join('\n').replace(/\s+$/, ''));
    return level > 0 ? { t: 'heading', level, c } : { t: 'paragraph', c };
  }

  beginsTable() {
    const rule = this.lines[this.at + 1];
    if (rule === undefined || !this.lines[this.at].includes('|') || !rule.includes('|') || !TABLE_RULE.test(rule)) return false;
    return cells(this.lines[this.at]).length === cells(rule).length;
  }

  // Whether a line ends the paragraph above it. Only a list that begins with 1 does, as years and prices
  // stand at beginnings of lines too.
  interrupts(line) {
    if (FENCE.test(line) || /^ {0,3}#{1,6}(\s|$)/.test(line) || RULE.test(line) || /^ {0,3}>/.test(line)) return true;
    if (/^\s*(\$\$|\\\[)\s*$/.test(line) || /^\s*(\\\[.*\\\]|\$\$.*\$\$)[\s.,;]*$/.test(line)) return true;
    const found = marker(line);
    return found !== null && found.text !== '' && (!found.ordered || found.number === 1);
  }
}

// The bullet or number that a line begins with, and how far its content is indented.
function marker(line) {
  const bullet = BULLET.exec(line);
  if (bullet !== null && !RULE.test(line)) {
    const space = bullet[3] ?? ' ';
    const text = (space.length > 4 ? space.slice(1) : '') + (bullet[4] ?? '');
    const indent = bullet[1].length;
    return { ordered: false, kind: bullet[2], number: 0, indent, width: indent + 1 + (space.length > 4 ? 1 : space.length), text };
  }
  const ordered = ORDERED.exec(line);
  if (ordered === null) return null;
  const space = ordered[4] ?? ' ';
  const indent = ordered[1].length;
  const width = indent + ordered[2].length + 1 + (space.length > 4 ? 1 : space.length);
  return { ordered: true, kind: ordered[3], number: Number(ordered[2]), indent, width, text: ordered[5] ?? '' };
}

// Cells of a table's line. Bars in code or behind a backslash do not separate.
function cells(line) {
  let text = line.trim();
  if (text.startsWith('|')) text = text.slice(1);
  const out = [];
  let cell = '';
  let code = false;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (c === '\\' && text[at + 1] === '|') {
      cell += '|';
      at++;
    } else if (c === '|' && !code) {
      out.push(cell.trim());
      cell = '';
    } else {
      if (c === '`') code = !code && text.indexOf('`', at + 1) > 0;
      cell += c;
    }
  }
  if (cell.trim() !== '' || out.length === 0) out.push(cell.trim());
  return out;
}

function isBlank(line) {
  return /^\s*$/.test(line);
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}

function dedent(line, width) {
  return line.slice(Math.min(width, indentOf(line)));
}

function stripIndent(line, width) {
  const plain = line.startsWith('\t') || /^ *\t/.test(line) ? expandTabs(line) : line;
  return dedent(plain, width);
}

function expandTabs(line) {
  return line.includes('\t') ? line.replace(/^[ \t]+/, (space) => space.replace(/\t/g, '    ')) : line;
}
