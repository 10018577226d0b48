// What the highlighter knows of each language: comments, strings and the words that mean something.

const C_COMMENTS = [/\/\/[^\n]*/, /\/\*[\s\S]*?(?:\*\/|(?![\s\S]))/];
const HASH = [/#[^\n]*/];
const DOUBLE = /"(?:[^"\\\n]|\\.)*"?/;
const SINGLE = /'(?:[^'\\\n]|\\.)*'?/;
const BACKTICK = /`(?:[^`\\]|\\[\s\S])*`?/;
const NUMBER = /\b(?:0[xX][\da-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)(?:[a-zA-Z]\w*)?/;

const words = (text) => new Set(text.split(' '));

/**
 * `rules` are tried in order at every place: `[class, pattern]`. A word that no rule takes is a `keyword`, a `type`
 * or a `constant` if it is in one of these sets, else a `call` if a parenthesis follows.
 */
const C_LIKE = {
  rules: [['comment', ...C_COMMENTS], ['meta', /^[ \t]*#[ \t]*\w+[^\n]*/m], ['string', DOUBLE, SINGLE], ['number', NUMBER]],
  keywords: words('alignas alignof asm auto break case catch class const consteval constexpr constinit const_cast continue co_await co_return co_yield decltype default delete do dynamic_cast else enum explicit export extern final for friend goto if inline mutable namespace new noexcept operator override private protected public register reinterpret_cast restrict return sizeof static static_assert static_cast struct switch template this thread_local throw try typedef typeid typename union using virtual volatile while'),
  types: words('bool char char8_t char16_t char32_t double float int int8_t int16_t int32_t int64_t long short signed size_t ssize_t string uint8_t uint16_t uint32_t uint64_t unsigned vector void wchar_t'),
  constants: words('true false nullptr NULL'),
};

const PYTHON = {
  rules: [
    ['string', /[rRbBuUfF]{0,2}(?:"""[\s\S]*?(?:"""|(?![\s\S]))|'''[\s\S]*?(?:'''|(?![\s\S])))/],
    ['comment', ...HASH],
    ['string', /[rRbBuUfF]{0,2}"(?:[^"\\\n]|\\.)*"?/, /[rRbBuUfF]{0,2}'(?:[^'\\\n]|\\.)*'?/],
    ['meta', /^[ \t]*@[\w.]+/m],
    ['number', NUMBER],
  ],
  keywords: words('and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return try while with yield'),
  types: words('bool bytes complex dict float frozenset int list object set str tuple type'),
  constants: words('True False None self cls'),
};

const RUST = {
  rules: [
    ['comment', ...C_COMMENTS],
    ['string', /b?r(#{0,3})"[\s\S]*?"\1/, /b?"(?:[^"\\]|\\[\s\S])*"?/, /b?'(?:[^'\\\n]|\\[^\n]{1,8}?)'/],
    ['meta', /#!?\[[^\]\n]*\]?/, /'[a-z_]\w*/],
    ['number', NUMBER],
    ['call', /\b[a-z_]\w*!/],
  ],
  keywords: words('as async await break const continue crate dyn else enum extern fn for if impl in let loop match mod move mut pub ref return static struct super trait type unsafe use where while yield'),
  types: words('bool char f32 f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize String Vec Option Result Box Arc Rc Self HashMap BTreeMap'),
  constants: words('true false self None Some Ok Err'),
};

const SCRIPT = {
  rules: [
    ['comment', ...C_COMMENTS],
    ['string', DOUBLE, SINGLE, BACKTICK],
    ['meta', /@[A-Za-z_]\w*/],
    ['number', NUMBER],
    ['string', /(?<=[=(,:[!&|?{};\n]\s{0,4})\/(?![*/])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/],
  ],
  keywords: words('abstract as async await break case catch class const continue debugger declare default delete do else enum export extends finally for from function get if implements import in instanceof interface is keyof let namespace new of private protected public readonly return satisfies set static super switch this throw try type typeof var void while with yield'),
  types: words('any Array bigint boolean Date Error Map never number object Object Promise Record Set string String symbol unknown'),
  constants: words('true false null undefined NaN Infinity'),
};

const JAVA = {
  rules: [['comment', ...C_COMMENTS], ['string', /"""[\s\S]*?(?:"""|(?![\s\S]))/, DOUBLE, SINGLE], ['meta', /@\w+/], ['number', NUMBER]],
  keywords: words('abstract as assert break by case catch class companion const constructor continue data default defer do else enum extends extension final finally for fun func get goto guard if implements import in init instanceof interface internal is lateinit let module namespace native new object open operator out override package private protected public record repeat return sealed set static strictfp struct super suspend switch synchronized this throw throws transient try typealias using val var virtual void volatile when where while yield'),
  types: words('Array Boolean boolean bool byte Byte char Character double Double decimal float Float int Int Integer List long Long Map Object Set short String string uint var'),
  constants: words('true false null nil'),
};

const GO = {
  rules: [['comment', ...C_COMMENTS], ['string', DOUBLE, SINGLE, BACKTICK], ['number', NUMBER]],
  keywords: words('break case chan const continue default defer else fallthrough for func go goto if import interface map package range return select struct switch type var'),
  types: words('any bool byte complex64 complex128 error float32 float64 int int8 int16 int32 int64 rune string uint uint8 uint16 uint32 uint64 uintptr'),
  constants: words('true false nil iota'),
};

const SHELL = {
  rules: [
    ['comment', /(?<=^|\s)#[^\n]*/],
    ['string', /"(?:[^"\\]|\\[\s\S])*"?/, /'[^']*'?/],
    ['meta', /\$(?:\w+|\{[^}\n]*\}|[@#?*!$-])/, /(?<=\s)--?[A-Za-z][\w-]*/],
    ['number', /\b\d+\b/],
  ],
  keywords: words('case do done elif else esac export fi for function if in local return select set shift then trap unset until while'),
  types: words('alias apt awk bash cargo cat cd chmod chown cp curl cut docker echo env eval exec find git grep head kill ls make mkdir mv node npm pip printf python python3 read rm sed sh sleep sort source ssh sudo tail tar test touch tr uniq wc wget xargs'),
  constants: words('true false'),
};

const SQL = {
  rules: [['comment', /--[^\n]*/, C_COMMENTS[1]], ['string', /'(?:[^']|'')*'?/], ['meta', DOUBLE, BACKTICK], ['number', NUMBER]],
  ignoreCase: true,
  keywords: words('add all alter and as asc begin between by case check column commit constraint create cross cascade database default delete desc distinct drop else end except exists explain foreign from full group having if in index inner insert intersect into is join key left like limit not offset on or order outer over partition primary references returning right rollback select set table then transaction trigger union unique update using values view when where with'),
  types: words('bigint blob boolean char date datetime decimal double float int integer json numeric real serial smallint text time timestamp uuid varchar'),
  constants: words('true false null'),
};

const JSON_LIKE = {
  rules: [['comment', ...C_COMMENTS], ['key', /"(?:[^"\\\n]|\\.)*"(?=\s*:)/], ['string', DOUBLE], ['number', /-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/]],
  keywords: new Set(), types: new Set(), constants: words('true false null'),
};

const YAML = {
  rules: [
    ['comment', /(?<=^|\s)#[^\n]*/],
    ['key', /(?<=^|\n)[ \t-]*[\w.\/-]+(?=\s*:(?:\s|(?![\s\S])))/, /(?<=^|\n)[ \t]*[\w."-]+(?=[ \t]*=)/],
    ['meta', /(?<=^|\n)[ \t]*\[{1,2}[^\]\n]*\]{1,2}/, /[&*!][A-Za-z]\w*/],
    ['string', /"""[\s\S]*?(?:"""|(?![\s\S]))/, DOUBLE, SINGLE],
    ['number', NUMBER],
  ],
  keywords: new Set(), types: new Set(), constants: words('true false null yes no on off True False'),
};

const MARKUP = {
  rules: [
    ['comment', /<!--[\s\S]*?(?:-->|(?![\s\S]))/],
    ['meta', /<![A-Za-z][^>]*>?/],
    ['keyword', /<\/?[A-Za-z][\w:.-]*/, /\/?>/],
    ['string', /(?<==\s{0,2})(?:"[^"]*"?|'[^']*'?)/],
    ['key', /(?<=\s)[A-Za-z_:@][\w:.-]*(?=\s*=)/],
    ['number', /&(?:\w{1,12}|#\d{1,7});/],
  ],
  keywords: new Set(), types: new Set(), constants: new Set(),
};

const CSS = {
  rules: [
    ['comment', C_COMMENTS[1]],
    ['string', DOUBLE, SINGLE],
    ['meta', /@[\w-]+/, /!important/],
    ['key', /--?[\w-]+(?=\s*:)/, /\b[a-z-]+(?=\s*:\s)/],
    ['number', /#[\da-fA-F]{3,8}\b/, /-?\b\d*\.?\d+(?:%|[a-z]{1,4})?/],
    ['type', /[.#][A-Za-z_][\w-]*/],
  ],
  keywords: words('and from not only or to'), types: new Set(), constants: words('auto inherit initial none unset'),
};

const DIFF = {
  rules: [
    ['meta', /^(?:diff|index|---|\+\+\+|@@)[^\n]*/m],
    ['inserted', /^\+[^\n]*/m],
    ['deleted', /^-[^\n]*/m],
  ],
  keywords: new Set(), types: new Set(), constants: new Set(),
};

const LATEX = {
  rules: [['comment', /(?<!\\)%[^\n]*/], ['keyword', /\\(?:[A-Za-z]+|.)/], ['meta', /[{}$&]/], ['number', /\b\d+(?:\.\d+)?/]],
  keywords: new Set(), types: new Set(), constants: new Set(),
};

const NAMES = [
  ['python py python3 pycon', PYTHON], ['rust rs', RUST],
  ['javascript js jsx mjs cjs typescript ts tsx node', SCRIPT],
  ['c h cpp c++ cc cxx hpp cuda cu objc arduino', C_LIKE],
  ['java kotlin kt csharp cs c# scala swift dart php groovy', JAVA], ['go golang', GO],
  ['bash sh shell zsh console terminal shellscript dockerfile makefile powershell', SHELL],
  ['sql mysql postgresql postgres sqlite', SQL], ['json jsonc json5 jsonl', JSON_LIKE],
  ['yaml yml toml ini properties conf', YAML], ['html xml svg vue svelte xhtml', MARKUP],
  ['css scss less', CSS], ['diff patch', DIFF], ['latex tex', LATEX],
];

/** The language that a code fence names, or null. */
export function languageNamed(name) {
  const wanted = name.toLowerCase();
  const row = NAMES.find(([names]) => names.split(' ').includes(wanted));
  return row === undefined ? null : row[1];
}
