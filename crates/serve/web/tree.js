// A conversation is a tree of messages: edits and new answers are siblings, and `head` says which leaf is shown.

/** Messages `{id, parent, role, content, reasoning, meta}` by id, in the order in which they were made. */
export class MessageTree {
  constructor(messages = [], head = null) {
    this.messages = new Map();
    this.below = new Map();
    this.head = null;
    for (const message of messages) this.add(message);
    // A head that is missing, or that points at nothing, must not hide the conversation.
    // Answers below it may have come after it was kept.
    this.head = this.#newestLeaf(head !== null && this.messages.has(head) ? head : null);
  }

  /** Adds a message under its parent and shows it. A parent that is not known makes it a first message. */
  add(message) {
    if (message.parent !== null && !this.messages.has(message.parent)) message.parent = null;
    const known = this.messages.has(message.id);
    this.messages.set(message.id, message);
    if (!known) this.children(message.parent).push(message.id);
    this.head = message.id;
    return message;
  }

  get(id) {
    return this.messages.get(id) ?? null;
  }

  /** Ids of the messages that answer `id`, oldest first. */
  children(id) {
    if (!this.below.has(id)) this.below.set(id, []);
    return this.below.get(id);
  }

  /** The messages from the first one down to `id`. */
  pathTo(id) {
    const path = [];
    const seen = new Set();
    for (let at = this.get(id); at !== null && !seen.has(at.id); at = this.get(at.parent)) {
      seen.add(at.id);
      path.push(at);
    }
    return path.reverse();
  }

  /** What is shown. */
  path() {
    return this.head === null ? [] : this.pathTo(this.head);
  }

  /** Where a message stands among those with the same parent. */
  place(id) {
    const ids = this.children(this.get(id).parent);
    return { index: ids.indexOf(id), count: ids.length, ids };
  }

  /** Shows the sibling `step` places away, with the newest messages below it. */
  step(id, step) {
    const { index, ids } = this.place(id);
    const next = ids[index + step];
    if (next === undefined) return false;
    this.head = this.#newestLeaf(next);
    return true;
  }

  /** Takes a leaf away, such as an answer that never began. */
  removeLeaf(id) {
    const message = this.get(id);
    if (message === null || this.children(id).length > 0) return;
    const ids = this.children(message.parent);
    ids.splice(ids.indexOf(id), 1);
    this.messages.delete(id);
    if (this.head === id) this.head = message.parent;
  }

  #newestLeaf(id) {
    let at = id;
    for (;;) {
      const ids = this.children(at);
      if (ids.length === 0) return at;
      at = ids[ids.length - 1];
    }
  }
}

/** An id that nobody else makes. `crypto.randomUUID` is missing on plain HTTP in a local network. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The first words of a question, as the title of a conversation. */
export function titleOf(question, limit = 48) {
  const line = question.replace(/[\s\u202a-\u202e\u2066-\u2069]+/g, ' ').trim();
  const letters = Array.from(line);
  if (letters.length <= limit) return line;
  const cut = letters.slice(0, limit).join('');
  const space = cut.lastIndexOf(' ');
  return (space > limit / 2 ? cut.slice(0, space) : cut) + '…';
}
