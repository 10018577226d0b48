// LaTeX environments with rows and columns: matrices, cases, aligned equations, arrays.

import { fenced, node, unknown } from './math_nodes.js';

const align = { columns: 'align', fences: ['', ''] };
const matrix = (open, close) => ({ columns: 'center', fences: [open, close] });

/** How each environment sets its columns, and what stands around it. */
export const ENVIRONMENTS = new Map(Object.entries({
  matrix: matrix('', ''), pmatrix: matrix('(', ')'), bmatrix: matrix('[', ']'), Bmatrix: matrix('{', '}'),
  vmatrix: matrix('|', '|'), Vmatrix: matrix('‖', '‖'), smallmatrix: matrix('', ''),
  cases: { columns: 'left', fences: ['{', ''] }, dcases: { columns: 'left', fences: ['{', ''] }, rcases: { columns: 'left', fences: ['', '}'] },
  aligned: align, align, 'align*': align, split: align, alignat: align, 'alignat*': align, alignedat: align,
  eqnarray: align, 'eqnarray*': align, flalign: align, 'flalign*': align,
  gathered: { columns: 'center', fences: ['', ''] }, gather: { columns: 'center', fences: ['', ''] }, 'gather*': { columns: 'center', fences: ['', ''] },
  equation: { columns: 'center', fences: ['', ''] }, 'equation*': { columns: 'center', fences: ['', ''] },
  multline: { columns: 'left', fences: ['', ''] }, 'multline*': { columns: 'left', fences: ['', ''] },
  array: { columns: 'given', fences: ['', ''] }, tabular: { columns: 'given', fences: ['', ''] }, subarray: { columns: 'given', fences: ['', ''] },
}));

const MAX_CELLS = 4000;

/** Reads what stands between `\begin{name}` and `\end{name}`; `\begin` is already taken. */
export function readEnvironment(reader) {
  const name = reader.rawArgument();
  const kind = ENVIRONMENTS.get(name);
  if (kind === undefined) return unknown(`\\begin{${name}}`);
  let given = '';
  if (kind.columns === 'given') given = reader.rawArgument();
  else if (/^aligned?at/.test(name)) reader.rawArgument();
  const rows = readRows(reader);
  if (reader.peek() === '\\end') {
    reader.at++;
    reader.rawArgument();
  }
  const letters = given.replace(/[^lcr|]/g, '');
  const cells = rows.map((row) => node('mtr', {}, row.map((inside, column) => node('mtd', { class: cellClass(kind, letters, column) }, inside))));
  const wide = kind.columns === 'align' || name === 'dcases' || name === 'gather' || name === 'gathered' || name.startsWith('equation');
  const attrs = wide ? { displaystyle: 'true', class: 'aligned' } : { class: name === 'smallmatrix' ? 'matrix small' : 'matrix' };
  const table = node('mtable', attrs, cells);
  const [open, close] = kind.fences;
  return open === '' && close === '' ? table : fenced(open, [table], close);
}

function readRows(reader) {
  const rows = [[]];
  for (let count = 0; count < MAX_CELLS; count++) {
    while (reader.peek() === '\\hline') reader.at++;
    rows[rows.length - 1].push(reader.until((token) => token === '\\\\' || token === '\\cr' || token === '\\hline'));
    const token = reader.peek();
    if (token === '&') reader.at++;
    else if (token === '\\\\' || token === '\\cr') {
      reader.at++;
      // `\\[4pt]` asks for more room, which CSS decides here.
      if (reader.tokens[reader.at] === '[') reader.option();
      rows.push([]);
    } else if (token !== '\\hline') break;
  }
  const last = rows[rows.length - 1];
  if (rows.length > 1 && last.length <= 1 && (last[0] ?? []).length === 0) rows.pop();
  return rows;
}

// Alignment is a class, since MathML Core leaves `columnalign` to CSS.
function cellClass(kind, letters, column) {
  if (kind.columns === 'align') return column % 2 === 0 ? 'cell-right' : 'cell-left';
  if (kind.columns === 'left') return 'cell-left';
  if (kind.columns !== 'given') return 'cell-center';
  const plain = letters.replace(/\|/g, '');
  const side = { l: 'cell-left', c: 'cell-center', r: 'cell-right' }[plain[column]] ?? 'cell-center';
  let seen = -1;
  let bar = false;
  for (const letter of letters) {
    if (letter === '|') bar = bar || seen === column - 1 && column > 0;
    else if (++seen > column) break;
  }
  return bar ? `${side} cell-bar` : side;
}
