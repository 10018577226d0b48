// LaTeX math to MathML: a small reader that never fails. What it does not know is shown as it was written.

import {
  ACCENTS, ALPHABET_COMMANDS, DELIMITERS, FUNCTIONS, LARGE, LETTERS, LIMIT_FUNCTIONS, OPERATORS, SIDE_LIMITS, SPACES,
  UNDER_ACCENTS, inAlphabet,
} from './symbols.js';
import { fenced, leaf, node, row, unknown } from './math_nodes.js';
import { readEnvironment } from './math_table.js';

const MAX_CHARS = 20_000;
const MAX_DEPTH = 60;
const TOKEN = /\\(?:[A-Za-z]+\*?|[\s\S])|[ \t\r\n]+|\d+(?:[.,]\d+)*|%[^\n]*\n?|[\s\S]/gu;
const STYLES = { displaystyle: ['true', '0'], textstyle: ['false', '0'], scriptstyle: ['false', '1'], scriptscriptstyle: ['false', '2'] };
const BIG = { big: 1.2, bigl: 1.2, bigr: 1.2, bigm: 1.2, Big: 1.8, Bigl: 1.8, Bigr: 1.8, Bigm: 1.8, bigg: 2.4, biggl: 2.4, biggr: 2.4, Bigg: 3, Biggl: 3, Biggr: 3, biggm: 2.4, Biggm: 3 };

/** MathML as plain nodes `{tag, attrs, children | text}` under one `math` node. */
export function readMath(source, display) {
  const attrs = { display: display ? 'block' : 'inline', alttext: source.trim() };
  if (source.length > MAX_CHARS) return node('math', attrs, [leaf('mtext', source)]);
  const reader = new MathReader(source);
  const rows = reader.lines();
  return node('math', attrs, [node('mrow', {}, rows)]);
}

/** Reads tokens into nodes. Public for tables, which read their cells with it. */
export class MathReader {
  constructor(source, depth = 0) {
    this.tokens = source.match(TOKEN)?.filter((token) => !token.startsWith('%')) ?? [];
    this.at = 0;
    this.depth = depth;
    this.alphabet = null;
  }

  peek() {
    this.skipSpace();
    return this.tokens[this.at];
  }

  next() {
    this.skipSpace();
    return this.tokens[this.at++];
  }

  skipSpace() {
    while (this.at < this.tokens.length && /^\s/.test(this.tokens[this.at])) this.at++;
  }

  // The whole source. `\\` outside a table breaks the line, as people write it.
  lines() {
    const rows = [[]];
    while (this.at < this.tokens.length) {
      rows[rows.length - 1].push(...this.until((token) => token === '\\\\' || token === '\\newline'));
      if (this.at >= this.tokens.length) break;
      const token = this.next();
      if (token === '\\\\' || token === '\\newline') rows.push([]);
      // A closing brace or a stray `&` that nothing opened.
      else if (token !== undefined && token !== '&') rows[rows.length - 1].push(unknown(token));
    }
    const filled = rows.filter((one) => one.length > 0);
    if (filled.length <= 1) return filled[0] ?? [];
    const cells = filled.map((one) => node('mtr', {}, [node('mtd', { class: 'cell-left' }, one)]));
    return [node('mtable', { displaystyle: 'true', class: 'lines' }, cells)];
  }

  /** Nodes up to, not including, a token that closes something or that `stop` names. */
  until(stop) {
    const out = [];
    if (this.depth >= MAX_DEPTH) return [this.atom()].filter((one) => one !== null);
    for (let token = this.peek(); token !== undefined; token = this.peek()) {
      if (token === '}' || token === '&' || token === '\\right' || token === '\\end' || stop(token)) break;
      if (token.startsWith('\\') && Object.hasOwn(STYLES, token.slice(1))) {
        const style = STYLES[token.slice(1)];
        this.at++;
        this.depth++;
        out.push(node('mstyle', { displaystyle: style[0], scriptlevel: style[1] }, this.until(stop)));
        this.depth--;
        break;
      }
      const infix = { '\\over': null, '\\choose': '0', '\\atop': '0' };
      if (Object.hasOwn(infix, token)) {
        this.at++;
        this.depth++;
        const fraction = node('mfrac', infix[token] === null ? {} : { linethickness: '0' }, [row(out.splice(0)), row(this.until(stop))]);
        this.depth--;
        out.push(token === '\\choose' ? fenced('(', [fraction], ')') : fraction);
        break;
      }
      const atom = this.atom();
      if (atom !== null) out.push(this.scripts(atom));
    }
    return out;
  }

  /** What a command takes: a group, a command, or one character. */
  argument() {
    const token = this.peek();
    if (token === undefined || token === '}' || token === '&') return node('mrow', {}, []);
    if (/^\d\d/.test(token)) {
      // `\frac12` takes digits one by one.
      this.tokens[this.at] = token.slice(1);
      return leaf('mn', token[0]);
    }
    return this.atom() ?? node('mrow', {}, []);
  }

  /** `[…]` behind a command, or null. */
  option() {
    if (this.peek() !== '[') return null;
    this.at++;
    const inside = this.until((token) => token === ']');
    if (this.peek() === ']') this.at++;
    return row(inside);
  }

  /** The text in braces, as it stands. */
  rawArgument() {
    if (this.peek() !== '{') return this.next() ?? '';
    this.at++;
    let depth = 1;
    let text = '';
    while (this.at < this.tokens.length) {
      const token = this.tokens[this.at++];
      if (token === '{') depth++;
      else if (token === '}' && --depth === 0) break;
      text += token;
    }
    return text;
  }

  /** One character, command or group. What is nested too deeply is shown as it was written. */
  atom() {
    if (this.depth >= MAX_DEPTH) {
      const rest = this.tokens.slice(this.at).join('');
      this.at = this.tokens.length;
      return unknown(rest);
    }
    this.depth++;
    const atom = this.readAtom();
    this.depth--;
    return atom;
  }

  readAtom() {
    const token = this.next();
    if (token === '{') {
      const alphabet = this.alphabet;
      const inside = this.until(() => false);
      if (this.peek() === '}') this.at++;
      this.alphabet = alphabet;
      return row(inside);
    }
    if (token === '^' || token === '_') {
      this.at--;
      return node('mrow', {}, []);
    }
    if (token.startsWith('\\')) return this.command(token);
    return this.character(token);
  }

  character(token) {
    if (token === '~') return space(0.25);
    if (token === "'") {
      this.at--;
      return node('mrow', {}, []);
    }
    if (/^\d/.test(token)) return leaf('mn', this.styled(token));
    if (/^[\p{L}\p{M}]/u.test(token)) return this.letter(token);
    if (token === '-') return leaf('mo', '−');
    if (token === '*') return leaf('mo', '∗');
    if (token === ':') return leaf('mo', ':', { lspace: '0.2222em', rspace: '0.2222em' });
    if ('()[]|/'.includes(token)) return leaf('mo', token, { stretchy: 'false', ...(token === '|' ? { lspace: '0', rspace: '0' } : {}) });
    if (token === ',' || token === ';') return leaf('mo', token, { separator: 'true' });
    if ('.?"`@#'.includes(token)) return leaf('mtext', token);
    return leaf('mo', token);
  }

  letter(c) {
    if (c.codePointAt(0) > 0x2e80) return leaf('mtext', c);
    if (this.alphabet === 'upright') return leaf('mi', c, { mathvariant: 'normal' });
    return leaf('mi', this.styled(c));
  }

  styled(text) {
    if (this.alphabet === null || this.alphabet === 'upright') return text;
    return Array.from(text, (c) => inAlphabet(c, this.alphabet)).join('');
  }

  // Superscripts, subscripts and primes behind an atom, in any order.
  scripts(base) {
    let below = null;
    let above = [];
    let limits = base.limits ?? null;
    for (let token = this.peek(); token !== undefined; token = this.peek()) {
      if (token === '\\limits' || token === '\\nolimits') {
        limits = token === '\\limits' ? 'always' : null;
        this.at++;
      } else if (token === "'") {
        this.at++;
        let count = 1;
        while (this.peek() === "'" && count < 9) {
          this.at++;
          count++;
        }
        above.push(leaf('mo', ['′', '″', '‴'][count - 1] ?? '′'.repeat(count), { lspace: '0', rspace: '0' }));
      } else if (token === '^') {
        this.at++;
        above.push(this.argument());
      } else if (token === '_' && below === null) {
        this.at++;
        below = this.argument();
      } else break;
    }
    if (below === null && above.length === 0) return base;
    const over = above.length > 0 ? row(above) : null;
    const [sub, sup, both] = limits === null ? ['msub', 'msup', 'msubsup'] : ['munder', 'mover', 'munderover'];
    const core = limits === 'always' && base.tag === 'mo' ? leaf('mo', base.text, { ...base.attrs, movablelimits: 'false' }) : base;
    if (below !== null && over !== null) return node(both, {}, [core, below, over]);
    return below !== null ? node(sub, {}, [core, below]) : node(sup, {}, [core, over]);
  }

  command(token) {
    const name = token.slice(1);
    if (SPACES.has(name) || /^\s$/.test(name)) return space(SPACES.get(name) ?? 0.25);
    if (LETTERS.has(name)) return this.namedLetter(name);
    if (LARGE.has(name)) return { ...leaf('mo', LARGE.get(name), { largeop: 'true', movablelimits: 'true' }), limits: SIDE_LIMITS.has(name) ? null : 'display' };
    if (FUNCTIONS.has(name)) return this.functionName(name === 'argmax' || name === 'argmin' ? `arg ${name.slice(3)}` : name, LIMIT_FUNCTIONS.has(name));
    if (OPERATORS.has(name)) return leaf('mo', OPERATORS.get(name), name === 'colon' ? { lspace: '0', rspace: '0.2222em' } : {});
    if (DELIMITERS.has(token)) return leaf('mo', DELIMITERS.get(token), { stretchy: 'false' });
    if (ALPHABET_COMMANDS.has(name.replace('*', ''))) return this.inAlphabetOf(name);
    if (ACCENTS.has(name) || UNDER_ACCENTS.has(name)) return this.accent(name);
    if (Object.hasOwn(BIG, name)) return this.big(BIG[name]);
    if ('%$#_&'.includes(name)) return leaf(name === '%' ? 'mo' : 'mtext', name, name === '%' ? { lspace: '0', rspace: '0' } : {});
    return this.structure(name) ?? unknown(token);
  }

  namedLetter(name) {
    const c = LETTERS.get(name);
    if (/^[Α-Ω]$/u.test(c) && this.alphabet === null) return leaf('mi', c, { mathvariant: 'normal' });
    return /^[\p{L}∂∇∞]$/u.test(c) ? leaf('mi', this.styled(c)) : leaf(name.includes('dots') ? 'mo' : 'mi', c);
  }

  inAlphabetOf(name) {
    const before = this.alphabet;
    this.alphabet = ALPHABET_COMMANDS.get(name.replace('*', ''));
    if (name.startsWith('operatorname')) {
      this.alphabet = before;
      const text = this.rawArgument().replace(/\\[,;: ]/g, ' ').replace(/[\\{}]/g, '');
      return this.functionName(text, name.endsWith('*'));
    }
    const inside = this.argument();
    this.alphabet = before;
    // Words in roman are one word, not a product.
    if (name === 'mathrm' && inside.tag === 'mrow' && inside.children.every((child) => child.tag === 'mi')) {
      return leaf('mi', inside.children.map((child) => child.text).join(''), { mathvariant: 'normal' });
    }
    return inside;
  }

  functionName(text, limits) {
    // Nothing is typed between a function and its argument, but something is seen, unless a parenthesis follows.
    const follows = this.peek();
    const attrs = { form: 'prefix', lspace: '0', rspace: follows === '(' || follows === '\\left' ? '0' : '0.1667em', movablelimits: 'true' };
    return { ...leaf('mo', text, attrs), limits: limits ? 'display' : null };
  }

  accent(name) {
    const base = this.argument();
    if (UNDER_ACCENTS.has(name)) {
      const under = node('munder', {}, [base, leaf('mo', UNDER_ACCENTS.get(name), { stretchy: 'true' })]);
      return { ...under, limits: 'always' };
    }
    const [sign, stretchy] = ACCENTS.get(name);
    const over = node('mover', { accent: 'true' }, [base, leaf('mo', sign, { stretchy: String(stretchy) })]);
    return { ...over, limits: name.startsWith('overbr') ? 'always' : null };
  }

  big(size) {
    const sign = this.delimiter();
    return leaf('mo', sign, { stretchy: 'true', symmetric: 'true', minsize: `${size}em`, maxsize: `${size}em` });
  }

  delimiter() {
    const token = this.next() ?? '.';
    return token === '.' ? '' : DELIMITERS.get(token) ?? token;
  }

  structure(name) {
    switch (name) {
      case 'frac': case 'cfrac': return this.fraction({});
      case 'dfrac': return node('mstyle', { displaystyle: 'true' }, [this.fraction({})]);
      case 'tfrac': return node('mstyle', { displaystyle: 'false' }, [this.fraction({})]);
      case 'binom': case 'dbinom': case 'tbinom': return fenced('(', [this.fraction({ linethickness: '0' })], ')');
      case 'sqrt': return this.root();
      case 'left': return this.leftRight();
      case 'middle': return leaf('mo', this.delimiter(), { stretchy: 'true', fence: 'true' });
      case 'text': case 'textrm': case 'mbox': case 'textnormal': case 'hbox': case 'textup': return this.text('');
      case 'textbf': return this.text('bold');
      case 'textit': case 'emph': return this.text('italic');
      case 'texttt': return this.text('mono');
      case 'textsf': return this.text('');
      case 'boxed': case 'fbox': return node('mrow', { class: 'boxed' }, [this.argument()]);
      case 'overline': case 'underline': return node('mrow', { class: name }, [this.argument()]);
      case 'overset': case 'stackrel': return this.stacked('mover');
      case 'underset': return this.stacked('munder');
      case 'xrightarrow': return this.arrow('→');
      case 'xleftarrow': return this.arrow('←');
      case 'not': return this.negated();
      case 'pmod': return node('mrow', {}, [space(1), leaf('mo', '(', { stretchy: 'false' }), leaf('mi', 'mod'), space(0.3), this.argument(), leaf('mo', ')', { stretchy: 'false' })]);
      case 'bmod': return leaf('mo', 'mod', { lspace: '0.2222em', rspace: '0.2222em' });
      case 'begin': return readEnvironment(this);
      case 'tag': case 'tag*': return node('mrow', {}, [space(2), leaf('mtext', `(${this.rawArgument()})`)]);
      case 'color': this.rawArgument(); return node('mrow', {}, []);
      case 'textcolor': case 'colorbox': this.rawArgument(); return this.argument();
      case 'hspace': case 'hspace*': case 'mspace': return space(Math.max(-2, Math.min(10, Number.parseFloat(this.rawArgument()) || 0)));
      case 'phantom': case 'hphantom': case 'vphantom': return node('mphantom', {}, [this.argument()]);
      case 'cancel': case 'bcancel': case 'xcancel': return node('mrow', { class: 'cancel' }, [this.argument()]);
      case 'substack': return this.substack();
      case 'label': this.rawArgument(); return null;
      case 'mathstrut': case 'nonumber': case 'notag': case 'hline': case 'limits': case 'nolimits': case 'rm': case 'bf': case 'it': case 'left.': case 'allowbreak': return node('mrow', {}, []);
      case 'mathop': case 'mathrel': case 'mathbin': case 'mathord': case 'mathopen': case 'mathclose': case 'mathpunct': case 'mathinner': case 'ensuremath': case 'smash': case 'mathstyle': case 'mathchoice': return this.argument();
      default: return null;
    }
  }

  fraction(attrs) {
    const above = this.argument();
    return node('mfrac', attrs, [above, this.argument()]);
  }

  root() {
    const index = this.option();
    const base = this.argument();
    return index === null ? node('msqrt', {}, [base]) : node('mroot', {}, [base, index]);
  }

  leftRight() {
    const open = this.delimiter();
    const inside = this.until(() => false);
    // A stray `&` or brace must not swallow what follows.
    if (this.peek() !== '\\right') return fenced(open, inside, '');
    this.at++;
    return fenced(open, inside, this.delimiter());
  }

  text(style) {
    const raw = this.rawArgument();
    const parts = raw.split(/\$([^$]*)\$/);
    const children = parts.map((part, i) => {
      if (i % 2 === 1) return row(new MathReader(part, this.depth).lines());
      const plain = part.replace(/\\([%$#_&{} ])/g, '$1').replace(/~/g, '\u00a0').replace(/^ | $/g, '\u00a0');
      return leaf('mtext', plain, style === '' ? {} : { class: `text-${style}` });
    }).filter((child) => child.text !== '');
    return row(children);
  }

  stacked(tag) {
    const sign = this.argument();
    const base = this.argument();
    return { ...node(tag, {}, [base, sign]), limits: base.limits ?? null };
  }

  arrow(sign) {
    const below = this.option();
    const above = node('mrow', {}, [space(0.5), this.argument(), space(0.5)]);
    const arrow = leaf('mo', sign, { stretchy: 'true' });
    return below === null ? node('mover', {}, [arrow, above]) : node('munderover', {}, [arrow, below, above]);
  }

  negated() {
    const what = this.argument();
    return what.text === undefined ? what : leaf('mo', what.text === '∈' ? '∉' : what.text === '=' ? '≠' : what.text + '\u0338');
  }

  substack() {
    return row(new MathReader(this.rawArgument(), this.depth).lines());
  }
}

function space(em) {
  return node('mspace', { width: `${em}em` }, []);
}
