// Colours for code: a small scanner that cuts a text into pieces with classes. It guesses; it never fails.

import { languageNamed } from './languages.js';

const MAX_CHARS = 100_000;
const scanners = new Map();

/** Pieces `[class, text]` whose texts, joined, are `code`. Class null is plain text. */
export function highlight(code, name) {
  const language = languageNamed(name);
  if (language === null || code.length > MAX_CHARS) return [[null, code]];
  const scanner = scannerOf(language);
  const pieces = [];
  const add = (kind, text) => {
    const last = pieces[pieces.length - 1];
    if (last !== undefined && last[0] === kind) last[1] += text;
    else if (text !== '') pieces.push([kind, text]);
  };
  let at = 0;
  scanner.pattern.lastIndex = 0;
  for (let found = scanner.pattern.exec(code); found !== null; found = scanner.pattern.exec(code)) {
    add(null, code.slice(at, found.index));
    add(classOf(found, scanner, language, code), found[0]);
    at = found.index + found[0].length;
    if (found[0] === '') scanner.pattern.lastIndex++;
  }
  add(null, code.slice(at));
  return pieces;
}

// One pattern for a whole language: each rule is a named group, and words come last.
function scannerOf(language) {
  if (!scanners.has(language)) {
    const kinds = [];
    const groups = language.rules.map(([kind, ...patterns], i) => {
      kinds.push(kind);
      return `(?<r${i}>${patterns.map((pattern) => pattern.source.replace('\\1', `\\k<q>`).replace('(#{0,3})', '(?<q>#{0,3})')).join('|')})`;
    });
    const pattern = new RegExp([...groups, '(?<word>[A-Za-z_$][\\w$]*)'].join('|'), 'gm');
    scanners.set(language, { kinds, pattern });
  }
  return scanners.get(language);
}

function classOf(found, scanner, language, code) {
  const groups = found.groups;
  if (groups.word === undefined) {
    const i = scanner.kinds.findIndex((_, rule) => groups['r' + rule] !== undefined);
    return i < 0 ? null : scanner.kinds[i];
  }
  const word = language.ignoreCase ? groups.word.toLowerCase() : groups.word;
  if (language.keywords.has(word)) return 'keyword';
  if (language.types.has(word)) return 'type';
  if (language.constants.has(word)) return 'constant';
  const calls = language.keywords.size > 0 && code[found.index + found[0].length] === '(';
  return calls ? 'call' : null;
}
