// Markdown inside a paragraph: emphasis, code, links, math. Text in, plain nodes out; the page makes DOM of them.

const PUNCTUATION = /[!-/:-@[-`{-~]/;
const MAX_MATH = 4000;
const SECURE = 'https:';

/**
 * Nodes are `{t: 'text', v}`, `{t: 'code', v}`, `{t: 'math', v, display}`, `{t: 'break'}`,
 * `{t: 'link', href, image, c}` and `{t: 'strong' | 'em' | 'del', c}`. Addresses that are not harmless are left as text.
 */
export function parseInline(text) {
  return new InlineParser(text).run();
}

/** A web or mail address, or null. Only these schemes are ever put into a link. */
export function safeHref(raw) {
  // Browsers drop control characters and spaces from a scheme, so they may not stand in ours at all.
  const href = raw.trim();
  if (/[\u0000-\u0020\u007f\u202a-\u202e\u2066-\u2069]/.test(href)) return null;
  return /^(https?:\/\/[^/]|mailto:[^/])/i.test(href) ? href : null;
}

class InlineParser {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.nodes = [];
    this.pending = '';
    this.brackets = [];
    // Searches that found nothing are not repeated, or a line of openers would cost its square.
    this.missing = new Map();
  }

  run() {
    while (this.at < this.text.length) this.step();
    this.flush();
    return pairDelimiters(this.nodes);
  }

  step() {
    const c = this.text[this.at];
    switch (c) {
      case '\\': return this.escape();
      case '`': return this.code() || this.take(this.runLength('`'));
      case '$': return this.dollar() || this.take(1);
      case '*': case '_': case '~': return this.delimiter(c);
      case '!': return this.text[this.at + 1] === '[' ? this.open(2, true) : this.take(1);
      case '[': return this.open(1, false);
      case ']': return this.close();
      case '<': return this.angle() || this.take(1);
      case '\n': return this.newline();
      case '&': return this.entity() || this.take(1);
      case 'h': case 'H': case 'w': case 'W': return this.bareLink() || this.take(1);
      default: return this.plain();
    }
  }

  take(count) {
    this.pending += this.text.slice(this.at, this.at + count);
    this.at += count;
    return true;
  }

  plain() {
    const special = /[\\`$*_~![\]<\n&hHwW]/g;
    special.lastIndex = this.at + 1;
    const found = special.exec(this.text);
    return this.take((found === null ? this.text.length : found.index) - this.at);
  }

  flush() {
    if (this.pending !== '') this.nodes.push({ t: 'text', v: this.pending });
    this.pending = '';
  }

  push(node, next) {
    this.flush();
    this.nodes.push(node);
    this.at = next;
    return true;
  }

  find(needle, from) {
    const none = this.missing.get(needle);
    if (none !== undefined && from >= none) return -1;
    const found = this.text.indexOf(needle, from);
    if (found < 0) this.missing.set(needle, from);
    return found;
  }

  runLength(c) {
    let end = this.at;
    while (this.text[end] === c) end++;
    return end - this.at;
  }

  escape() {
    const next = this.text[this.at + 1];
    if (next === '(' || next === '[') {
      const close = this.find(next === '(' ? '\\)' : '\\]', this.at + 2);
      if (close > 0 && close - this.at < MAX_MATH) {
        const v = this.text.slice(this.at + 2, close);
        // `\[1\]` is how some models write a citation; math has more to it.
        if (v.trim() !== '' && !(next === '[' && /^\d+$/.test(v))) {
          return this.push({ t: 'math', v, display: next === '[' }, close + 2);
        }
      }
    }
    // Models trained on answers in boxes write them without dollars.
    if (this.text.startsWith('\\boxed{', this.at)) {
      const end = closingBrace(this.text, this.at + 6);
      if (end > 0) return this.push({ t: 'math', v: this.text.slice(this.at, end), display: false }, end);
    }
    if (next === '\n') return this.push({ t: 'break' }, this.at + 2);
    if (next !== undefined && PUNCTUATION.test(next)) {
      this.pending += next;
      this.at += 2;
      return true;
    }
    return this.take(1);
  }

  code() {
    const ticks = this.runLength('`');
    const fence = '`'.repeat(Math.min(ticks, 64));
    let close = this.at + ticks;
    for (;;) {
      close = this.find(fence, close);
      if (close < 0) return false;
      let end = close + ticks;
      while (this.text[end] === '`') end++;
      if (end - close === ticks) break;
      close = end;
    }
    let v = this.text.slice(this.at + ticks, close).replace(/\n/g, ' ');
    if (v.startsWith(' ') && v.endsWith(' ') && v.trim() !== '') v = v.slice(1, -1);
    return this.push({ t: 'code', v }, close + ticks);
  }

  dollar() {
    const { text, at } = this;
    if (text[at + 1] === '$') {
      const close = this.find('$$', at + 2);
      if (close < 0 || close - at > MAX_MATH || text.slice(at + 2, close).trim() === '') return false;
      return this.push({ t: 'math', v: text.slice(at + 2, close), display: true }, close + 2);
    }
    const close = closingDollar(text, at);
    if (close < 0) return false;
    return this.push({ t: 'math', v: text.slice(at + 1, close), display: false }, close + 1);
  }

  delimiter(c) {
    const count = this.runLength(c);
    if (c === '~' && count !== 2) return this.take(count);
    const before = this.at === 0 ? ' ' : this.text[this.at - 1];
    const after = this.text[this.at + count] ?? ' ';
    let open = !/\s/.test(after);
    let close = !/\s/.test(before);
    if (c === '_') {
      // Underscores inside words are names, not emphasis.
      const wordBefore = /[\p{L}\p{N}]/u.test(before);
      const wordAfter = /[\p{L}\p{N}]/u.test(after);
      if (open && close && wordBefore && wordAfter) open = close = false;
      else if (wordBefore) open = false;
      else if (wordAfter) close = false;
    } else if (open && close) {
      // Between a quote and a space-less letter both are possible; ASCII text follows CommonMark, CJK text needs both.
      const pointBefore = PUNCTUATION.test(before);
      const pointAfter = PUNCTUATION.test(after);
      if (pointAfter && !pointBefore && isLatin(before)) open = false;
      if (pointBefore && !pointAfter && isLatin(after)) close = false;
    }
    return this.push({ t: 'mark', c, count, open, close }, this.at + count);
  }

  open(length, image) {
    this.push({ t: 'text', v: this.text.slice(this.at, this.at + length) }, this.at + length);
    if (this.brackets.length < 256) this.brackets.push({ index: this.nodes.length - 1, image });
    return true;
  }

  close() {
    const bracket = this.brackets.pop();
    const target = bracket === undefined ? null : linkTarget(this.text, this.at + 1);
    if (target === null) return this.take(1);
    const href = safeHref(target.href);
    this.flush();
    const inside = pairDelimiters(this.nodes.slice(bracket.index + 1));
    if (href === null || (!bracket.image && holdsLink(inside))) return this.take(1);
    this.nodes.length = bracket.index;
    if (!bracket.image) this.brackets = this.brackets.filter((other) => other.image);
    return this.push({ t: 'link', href, image: bracket.image, c: inside }, target.end);
  }

  angle() {
    const found = /^<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/i.exec(this.text.slice(this.at, this.at + 2010));
    if (found !== null) {
      const href = safeHref(found[1]);
      if (href === null) return false;
      return this.push({ t: 'link', href, image: false, c: [{ t: 'text', v: found[1] }] }, this.at + found[0].length);
    }
    // The one HTML tag that models mean as Markdown, in cells of tables.
    const br = /^<br\s{0,4}\/?>/i.exec(this.text.slice(this.at, this.at + 10));
    return br !== null && this.push({ t: 'break' }, this.at + br[0].length);
  }

  newline() {
    const hard = this.pending.endsWith('  ');
    if (this.pending.endsWith(' ')) this.pending = this.pending.trimEnd();
    if (hard) return this.push({ t: 'break' }, this.at + 1);
    this.pending += '\n';
    this.at += 1;
    return true;
  }

  entity() {
    const found = /^&(amp|lt|gt|quot|nbsp|#39);/.exec(this.text.slice(this.at, this.at + 7));
    if (found === null) return false;
    this.pending += { amp: '&', lt: '<', gt: '>', quot: '"', nbsp: '\u00a0', '#39': "'" }[found[1]];
    this.at += found[0].length;
    return true;
  }

  bareLink() {
    if (this.at > 0 && /[\p{L}\p{N}_/]/u.test(this.text[this.at - 1])) return false;
    if (this.brackets.length > 0) return false;
    const found = /^(?:https?:\/\/|www\.)[^\s<>"'`*|\\^{}\u3000-\u303f\uff00-\uffef]{2,2000}/i.exec(this.text.slice(this.at, this.at + 2010));
    if (found === null) return false;
    let v = found[0].replace(/[.,;:!?_~]+$/, '');
    // A closing parenthesis belongs to the sentence unless the address opened one.
    while (v.endsWith(')') && v.split(')').length > v.split('(').length) v = v.slice(0, -1);
    v = v.replace(/\]+$/, '');
    const href = safeHref(/^www/i.test(v) ? `${SECURE}//${v}` : v);
    return href !== null && this.push({ t: 'link', href, image: false, c: [{ t: 'text', v }] }, this.at + v.length);
  }
}

function isLatin(c) {
  return /[\p{L}\p{N}]/u.test(c) && c.charCodeAt(0) < 0x2e80;
}

function holdsLink(nodes) {
  return nodes.some((node) => (node.t === 'link' && !node.image) || (node.c !== undefined && typeof node.c !== 'string' && holdsLink(node.c)));
}

// The dollar that closes the one at `open`, or -1. Prices are no math: Pandoc's rules and one of our own.
function closingDollar(text, open) {
  const first = text[open + 1];
  if (first === undefined || /\s/.test(first)) return -1;
  const limit = Math.min(text.length, open + 1000);
  for (let at = open + 1; at < limit; at++) {
    const c = text[at];
    if (c === '\\') at++;
    else if (c === '`' || (c === '\n' && text[at + 1] === '\n')) return -1;
    else if (c === '$') {
      const price = /\d/.test(text[at + 1] ?? '');
      if (/\s/.test(text[at - 1]) || price) {
        if (/\d/.test(first)) return -1;
        continue;
      }
      const inside = text.slice(open + 1, at);
      const prose = /^\d[\d.,]*[kKmMbB]?\s+[a-z]{2,}/.test(inside) && !/[\\^_=]/.test(inside);
      return prose ? -1 : at;
    }
  }
  return -1;
}

// Where the brace that opens at `open` is closed, behind it, or -1.
function closingBrace(text, open) {
  let depth = 0;
  for (let at = open; at < Math.min(text.length, open + 500); at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '{') depth++;
    else if (text[at] === '}' && --depth === 0) return at + 1;
  }
  return -1;
}

// `(address "title")` behind a bracket. Addresses may hold balanced parentheses.
function linkTarget(text, start) {
  if (text[start] !== '(') return null;
  let at = start + 1;
  const limit = Math.min(text.length, start + 4000);
  while (at < limit && /\s/.test(text[at])) at++;
  let href = '';
  if (text[at] === '<') {
    const end = text.indexOf('>', at);
    if (end < 0 || end > limit) return null;
    href = text.slice(at + 1, end);
    at = end + 1;
  } else {
    let depth = 0;
    const from = at;
    for (; at < limit; at++) {
      const c = text[at];
      if (c === '(' && depth++ > 30) return null;
      if (c === ')' && depth-- === 0) break;
      if (/\s/.test(c)) break;
    }
    href = text.slice(from, at);
  }
  const rest = /^\s*(?:"[^"]{0,500}"|'[^']{0,500}')?\s*\)/.exec(text.slice(at, at + 600));
  return rest === null ? null : { href, end: at + rest[0].length };
}

// CommonMark's way of pairing runs of `*`, `_` and `~~`; runs that find no partner become text.
function pairDelimiters(nodes) {
  const out = [];
  const openers = [];
  for (const node of nodes) {
    out.push(node);
    if (node.t !== 'mark') continue;
    const mark = node;
    while (mark.close && mark.count > 0) {
      const found = findOpener(openers, mark);
      if (found < 0) break;
      openers.length = found + 1;
      wrap(out, openers, mark);
    }
    if (mark.count > 0 && mark.open) openers.push(mark);
    if (openers.length > 1000) openers.shift();
  }
  return mergeText(out.map((node) => (node.t === 'mark' ? { t: 'text', v: node.c.repeat(node.count) } : node)));
}

function findOpener(openers, mark) {
  for (let i = openers.length - 1; i >= 0 && i > openers.length - 50; i--) {
    const open = openers[i];
    if (open.c !== mark.c || (open.c === '~' && open.count !== mark.count)) continue;
    // The rule of three keeps `**a*b**` together.
    if ((open.close || mark.open) && (open.count + mark.count) % 3 === 0 && (open.count % 3 !== 0 || mark.count % 3 !== 0)) continue;
    return i;
  }
  return -1;
}

function wrap(out, openers, mark) {
  const open = openers[openers.length - 1];
  const used = mark.c === '~' ? 2 : open.count >= 2 && mark.count >= 2 ? 2 : 1;
  const from = out.lastIndexOf(open);
  const last = out.pop();
  const inside = out.splice(from + 1).map((node) => (node.t === 'mark' ? { t: 'text', v: node.c.repeat(node.count) } : node));
  open.count -= used;
  mark.count -= used;
  if (open.count === 0) {
    out.pop();
    openers.pop();
  }
  out.push({ t: mark.c === '~' ? 'del' : used === 2 ? 'strong' : 'em', c: mergeText(inside) }, last);
}

function mergeText(nodes) {
  const out = [];
  for (const node of nodes) {
    const last = out[out.length - 1];
    if (node.t === 'text' && last !== undefined && last.t === 'text') out[out.length - 1] = { t: 'text', v: last.v + node.v };
    else if (node.t !== 'text' || node.v !== '') out.push(node);
  }
  return out;
}
