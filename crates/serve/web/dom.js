// Elements without a framework: text is always set as text, so nothing that a model writes becomes markup.

const SVG = 'http://www.w3.org/2000/svg';
const MATHML = 'http://www.w3.org/1998/Math/MathML';

/**
 * Makes an element. In `props`, `on` holds listeners, `class` and `text` do what they say, booleans switch
 * attributes, anything else becomes an attribute. Children are nodes, strings, or null for nothing.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === 'class') element.className = value;
    else if (name === 'text') element.textContent = value;
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A button with an icon; its name is read aloud and shown as a tip. */
export function iconButton(name, label, click, props = {}) {
  return h('button', { type: 'button', title: label, 'aria-label': label, ...props, class: `icon-button ${props.class ?? ''}`, on: { click, ...props.on } }, icon(name));
}

// Drawn on a grid of 24, strokes only.
const ICONS = {
  plus: 'M12 5v14M5 12h14',
  send: 'M12 19V5M5.5 11.5 12 5l6.5 6.5',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v11H9zM15 9V4H5v11h4',
  check: 'm5 12.5 4.5 4.5L19 7.5',
  again: 'M19.5 12a7.5 7.5 0 1 1-2.3-5.4M19.5 4v4.5H15',
  edit: 'm4 20 1-4.5L16 4.5l3.5 3.5L8.5 19zM13.5 7l3.5 3.5',
  left: 'm14.5 6-6 6 6 6',
  right: 'm9.5 6 6 6-6 6',
  down: 'm6 9.5 6 6 6-6',
  bottom: 'M12 5v14M5.5 12.5 12 19l6.5-6.5',
  menu: 'M4 7h16M4 12h16M4 17h16',
  search: 'M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 20 20',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M18.7 5.3l-1.4 1.4M6.7 17.3l-1.4 1.4',
  moon: 'M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z',
  auto: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 4v16M15 5v14M18 7.5v9',
  trash: 'M4.5 7h15M9.5 7V4.5h5V7M6.5 7l1 13h9l1-13M10 11v5.5M14 11v5.5',
  save: 'M12 4v11M6.5 10 12 15.5 17.5 10M4.5 20h15',
  attach: 'm20 11.5-8 8a5 5 0 0 1-7-7l8.5-8.5a3.4 3.4 0 0 1 4.8 4.8L10 17a1.7 1.7 0 0 1-2.4-2.4l7-7',
  more: 'M5.5 12h.01M12 12h.01M18.5 12h.01',
  explain: 'M4 19.5h16M6.5 16v-4M10.2 16V6M13.8 16v-6.5M17.5 16V9',
  think: 'M12 12h.01M12 5c2.5 0 4 3 4 7s-1.5 7-4 7-4-3-4-7 1.5-7 4-7zM5.9 8.5c1.3-2.2 4.6-1.9 8 .1s5.4 4.7 4.2 6.9-4.6 1.9-8-.1-5.5-4.7-4.2-6.9z',
  close: 'm6 6 12 12M18 6 6 18',
  keys: 'M3.5 7h17v10h-17zM7 10.5h.01M10.3 10.5h.01M13.7 10.5h.01M17 10.5h.01M8 14h8',
  file: 'M6 3.5h8l4 4V20.5H6zM14 3.5v4h4',
  warn: 'M12 4 21 19.5H3zM12 10v4.5M12 17h.01',
  side: 'M4 5h16v14H4zM9.5 5v14',
};

/** One of our icons, hidden from screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', `icon icon-${name}`);
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/** A plumb line in the water: our mark. */
export function mark() {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', 'mark');
  const parts = ['M2.5 7.5c2-1.8 4-1.8 6 0s4 1.8 6 0 4-1.8 7 0', 'M12 3v10.5'];
  for (const d of parts) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  const drop = document.createElementNS(SVG, 'path');
  drop.setAttribute('d', 'M12 12.5c2.3 3 3.2 4.4 3.2 5.8a3.2 3.2 0 0 1-6.4 0c0-1.4.9-2.8 3.2-5.8z');
  drop.setAttribute('class', 'mark-drop');
  svg.append(drop);
  return svg;
}

/** An element of MathML. */
export function mathElement(tag) {
  return document.createElementNS(MATHML, tag);
}

/** Puts text on the clipboard, also where the page is served without TLS. */
export async function copyText(text) {
  if (navigator.clipboard !== undefined) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused permissions leave the old way below.
    }
  }
  const area = h('textarea', { value: text, class: 'off-screen', 'aria-hidden': 'true', tabindex: '-1' });
  document.body.append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  return copied;
}
