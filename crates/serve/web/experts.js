// Pictures of experts: which ones a token visited, and which ones a whole answer visited most.

import { h } from './dom.js';
import { number, t } from './strings.js';

/** How often each expert was visited: one row of counts per layer. */
export function countVisits(tokens, shape) {
  const { layers, n_routed_experts: width, num_experts_per_tok: k } = shape;
  const counts = layers.map(() => new Uint32Array(width));
  let traced = 0;
  for (const { experts } of tokens) {
    if (!Array.isArray(experts) || experts.length !== layers.length * k) continue;
    traced++;
    experts.forEach((expert, i) => { if (expert < width) counts[Math.floor(i / k)][expert]++; });
  }
  return { counts, traced };
}

/** The small grid of one token. */
export function tokenGrid(experts, shape) {
  const { layers, n_routed_experts: width, num_experts_per_tok: k } = shape;
  const marks = layers.map((_, row) => new Set(experts.slice(row * k, (row + 1) * k)));
  const canvas = grid(layers.length, width, { room: 320, tall: 120 }, (row, expert) => (marks[row].has(expert) ? 1 : 0), true);
  canvas.setAttribute('aria-label', t('grid_of_token', { layers: layers.length, n: width, k }));
  return canvas;
}

/** The heat map of a whole answer, with the same in words below it. */
export function heatMap(visits, shape, room) {
  const { layers, n_routed_experts: width } = shape;
  const { counts, traced } = visits;
  const most = counts.map((row) => row.reduce((a, b) => Math.max(a, b), 1));
  const canvas = grid(layers.length, width, { room, tall: 240 }, (row, expert) => counts[row][expert] / most[row], false);
  canvas.setAttribute('aria-label', t('grid_of_answer', { layers: layers.length, n: width }));
  const words = h('p', { class: 'grid-words', text: t('heat_hint') });
  canvas.addEventListener('pointermove', (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.min(layers.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * layers.length)));
    const expert = Math.min(width - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * width)));
    words.textContent = t('heat_cell', { layer: layers[row], expert, n: number(counts[row][expert]), share: percent(counts[row][expert] / Math.max(1, traced)) });
  });
  canvas.addEventListener('pointerleave', () => { words.textContent = t('heat_hint'); });
  return h('div', { class: 'heat' }, canvas, words, mostVisited(counts, layers, traced));
}

function mostVisited(counts, layers, traced) {
  const rows = counts.map((row, i) => {
    const best = Array.from(row, (n, expert) => ({ n, expert })).sort((a, b) => b.n - a.n || a.expert - b.expert).slice(0, 4).filter(({ n }) => n > 0);
    return h('tr', {}, h('th', { scope: 'row', text: number(layers[i]) }), h('td', { text: best.map(({ n, expert }) => `${expert} (${percent(n / Math.max(1, traced))})`).join(', ') }));
  });
  const table = h('table', {}, h('thead', {}, h('tr', {}, h('th', { text: t('layer') }), h('th', { text: t('most_visited') }))), h('tbody', {}, ...rows));
  return h('details', {}, h('summary', { text: t('as_table') }), h('div', { class: 'table-frame', tabindex: '0' }, table));
}

// Cells as large as the room allows. Colours come from CSS, as they differ between light and dark.
function grid(rows, columns, { room, tall }, strength, sharp) {
  const cell = Math.max(1, Math.min(10, room / columns));
  const height = Math.max(2, Math.min(10, tall / rows));
  const scale = Math.max(1, Math.min(3, devicePixelRatio || 1));
  const canvas = h('canvas', { class: 'grid', role: 'img' });
  canvas.width = Math.round(columns * cell * scale);
  canvas.height = Math.round(rows * height * scale);
  canvas.style.width = `${columns * cell}px`;
  canvas.style.height = `${rows * height}px`;
  const context = canvas.getContext('2d');
  const style = getComputedStyle(document.documentElement);
  const back = style.getPropertyValue('--cell').trim();
  const front = style.getPropertyValue('--accent').trim();
  context.scale(scale, scale);
  const gap = cell > 3 ? 1 : 0;
  const bar = height > 3 ? 1 : 0;
  for (let row = 0; row < rows; row++) {
    context.globalAlpha = 1;
    context.fillStyle = back;
    if (gap === 0) context.fillRect(0, row * height, columns * cell, height - bar);
    for (let column = 0; column < columns; column++) {
      const x = column * cell;
      if (gap > 0) {
        context.globalAlpha = 1;
        context.fillStyle = back;
        context.fillRect(x, row * height, cell - gap, height - bar);
      }
      const value = strength(row, column);
      if (value <= 0) continue;
      context.fillStyle = front;
      context.globalAlpha = sharp ? 1 : 0.06 + 0.94 * value;
      // A mark must be seen, also where a cell is a hair.
      context.fillRect(x, row * height, sharp ? Math.max(2, cell - gap) : Math.max(1, cell - gap), height - bar);
    }
  }
  return canvas;
}

/** A share as people read it. */
export function percent(share) {
  if (share >= 0.9995) return '100 %';
  if (share >= 0.1) return `${number(Math.round(share * 1000) / 10)} %`;
  if (share >= 0.001) return `${number(Math.round(share * 10_000) / 100)} %`;
  return share <= 0 ? '0 %' : '< 0.1 %';
}
