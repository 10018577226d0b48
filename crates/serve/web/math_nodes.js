// The plain nodes that the math reader makes; the page turns them into MathML elements.

/** A node with children. */
export function node(tag, attrs, children) {
  return { tag, attrs, children };
}

/** A node with text. */
export function leaf(tag, text, attrs = {}) {
  return { tag, attrs, text };
}

/** One node out of many. */
export function row(children) {
  return children.length === 1 ? children[0] : node('mrow', {}, children);
}

/** Something between two delimiters that grow with it. */
export function fenced(open, inside, close) {
  const side = (sign, form) => (sign === '' ? [] : [leaf('mo', sign, { form, fence: 'true', stretchy: 'true' })]);
  return node('mrow', {}, [...side(open, 'prefix'), row(inside), ...side(close, 'postfix')]);
}

/** What could not be read, as it was written. */
export function unknown(token) {
  return leaf('mtext', token, { class: 'unknown-tex' });
}
