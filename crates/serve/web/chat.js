// The conversation on the page: what is sent for it, what is kept of it, and which answers are on their way.

import { Answering } from './answering.js';
import { questionStart, withFiles } from './attach.js';
import { MessageTree, newId, titleOf } from './tree.js';

const SAMPLING = ['temperature', 'top_p', 'max_tokens'];

/** A conversation that is open or being answered. `id` is null until its first question is asked. */
export class Conversation {
  constructor({ id = null, title = '', messages = [], head = null } = {}) {
    this.id = id;
    this.title = title;
    this.tree = new MessageTree(messages.map(whole), head);
    this.answers = new Map();
    this.explained = new Map();
    this.settings = settingsOf(this.tree.path());
  }

  /** The answer that is on its way in what is shown, or null. */
  running() {
    for (const message of this.tree.path()) if (this.answers.has(message.id)) return this.answers.get(message.id);
    return null;
  }
}

// Messages from the server may lack what is empty.
function whole(message) {
  return { ...message, parent: message.parent ?? null, content: message.content ?? '', reasoning: message.reasoning ?? '', meta: message.meta ?? {} };
}

// Settings travel with the questions that were asked under them.
function settingsOf(path) {
  for (let at = path.length - 1; at >= 0; at--) if (path[at].meta.settings !== undefined) return { ...path[at].meta.settings };
  return {};
}

/** Opens, asks, edits, regenerates. `view` is told what changed; `shelf` keeps it. */
export class Chat {
  #live = new Map();

  constructor({ info, shelf, mode, view }) {
    this.info = info;
    this.shelf = shelf;
    this.mode = mode;
    this.view = view;
    this.current = new Conversation();
  }

  /** Shows a conversation; one that is still being answered is shown as it goes on. */
  async open(id) {
    if (id === null) this.current = new Conversation();
    else if (id !== this.current.id) this.current = this.#live.get(id) ?? new Conversation(await this.shelf.load(id));
    this.view.opened(this.current);
  }

  /** Asks a question below what is shown. Throws what kept it from being sent; then nothing has changed. */
  async send(question, files) {
    const conversation = this.current;
    const content = withFiles(files, question);
    const meta = { settings: { ...conversation.settings } };
    if (files.length > 0) {
      meta.files = files.map(({ name, bytes }) => ({ name, bytes }));
      meta.question_at = questionStart(files);
    }
    const message = { id: newId(), parent: conversation.tree.head, role: 'user', content, reasoning: '', meta };
    conversation.tree.add(message);
    this.view.changed(conversation);
    try {
      if (conversation.id === null) await this.#create(conversation, titleOf(question || files[0]?.name || ''));
    } catch (error) {
      conversation.tree.removeLeaf(message.id);
      this.view.changed(conversation);
      throw error;
    }
    this.shelf.saveMessage(conversation.id, message);
    this.#answer(conversation, message.id);
  }

  /** Asks again with other words, as a branch beside the old ones. Files stay. */
  edit(id, question) {
    const conversation = this.current;
    const old = conversation.tree.get(id);
    const at = old.meta.question_at ?? 0;
    const message = { ...old, id: newId(), content: old.content.slice(0, at) + question, meta: { ...old.meta, settings: { ...conversation.settings } } };
    conversation.tree.add(message);
    this.shelf.saveMessage(conversation.id, message);
    this.#answer(conversation, message.id);
  }

  /** Another answer to the same question, beside the old one. */
  regenerate(id) {
    const conversation = this.current;
    this.stop();
    this.#answer(conversation, conversation.tree.get(id).parent);
  }

  /** Goes on where the limit of tokens cut an answer. */
  continue(id) {
    const conversation = this.current;
    const message = conversation.tree.get(id);
    const beginning = { role: 'assistant', content: message.content, prefix: true };
    if (message.reasoning !== '') beginning.reasoning_content = message.reasoning;
    const body = this.#body(conversation, message.parent, message.meta.sent ?? {});
    body.messages.push(beginning);
    message.meta.continued = true;
    this.#run(conversation, new Answering(message, body, 'beta/chat/completions'));
  }

  /** Ends the answer that is shown on its way. */
  stop() {
    this.current.running()?.stop();
  }

  step(id, step) {
    if (!this.current.tree.step(id, step)) return;
    this.shelf.saveHead(this.current.id, this.current.tree.head);
    this.view.changed(this.current);
  }

  /**
   * Tokens of an answer, once more: the same request with the same seed gives the same answer, so nothing
   * needs to be kept. `grew` runs with every batch of tokens; resolves with an error, or null.
   */
  async explain(id, grew, signal) {
    const conversation = this.current;
    const message = conversation.tree.get(id);
    const again = { ...message, content: '', reasoning: '', meta: {} };
    const body = { ...this.#body(conversation, message.parent, message.meta.sent ?? {}), explain: true };
    const answering = new Answering(again, body);
    const tokens = [];
    answering.listeners.explained = (more, thinking) => {
      for (const token of more) tokens.push({ ...token, thinking });
      grew(tokens);
    };
    const length = message.reasoning.length + message.content.length;
    answering.listeners.grew = () => {
      // What was stopped or cut off would go on otherwise.
      if (message.meta.finish === undefined && again.reasoning.length + again.content.length >= length) answering.stop();
    };
    signal.addEventListener('abort', () => answering.stop());
    await answering.run();
    if (again.meta.error !== undefined) return again.meta.error;
    if (!signal.aborted) conversation.explained.set(id, tokens);
    // A cut or continued answer is as long as it is; one that differs is from another server.
    const same = again.content.startsWith(message.content) || message.content.startsWith(again.content);
    return same ? null : { kind: 'differs', message: '' };
  }

  async #create(conversation, title) {
    conversation.title = title;
    const made = await this.shelf.create(title).catch((error) => this.view.shelfFailed(error));
    conversation.id = made?.id ?? (await this.shelf.create(title)).id;
    this.view.created(conversation);
  }

  #answer(conversation, parent) {
    const sent = this.#choose(conversation, parent);
    const message = { id: newId(), parent, role: 'assistant', content: '', reasoning: '', meta: { model: this.info.model, sent } };
    conversation.tree.add(message);
    // What is newest below the question is shown after a reload.
    this.shelf.saveHead(conversation.id, parent);
    const body = this.#body(conversation, parent, sent);
    if (this.mode.explain) body.explain = true;
    this.#run(conversation, new Answering(message, body));
  }

  // Everything that decides the answer, the seed included, so that it can be asked for again.
  #choose(conversation, parent) {
    const { settings } = conversation;
    const sent = {};
    for (const name of SAMPLING) if (settings[name] !== undefined) sent[name] = settings[name];
    if (settings.system) sent.system = settings.system;
    if (this.info.thinking === 'switch') sent.thinking = this.mode.thinking;
    const place = conversation.tree.children(parent).length;
    // Another answer to the same question is wanted to be another one, also where the seed is given.
    sent.seed = settings.seed !== undefined ? settings.seed + place : crypto.getRandomValues(new Uint32Array(1))[0];
    return sent;
  }

  #body(conversation, parent, sent) {
    const { system, thinking, ...sampling } = sent;
    const messages = conversation.tree.pathTo(parent)
      .filter((message) => message.role === 'user' || message.content !== '')
      // What was thought before is not sent back.
      .map(({ role, content }) => ({ role, content }));
    if (system) messages.unshift({ role: 'system', content: system });
    const body = { model: this.info.model, messages, stream: true, stream_options: { include_usage: true }, ...sampling };
    if (thinking !== undefined) body.thinking = { type: thinking ? 'enabled' : 'disabled' };
    return body;
  }

  async #run(conversation, answering) {
    const { message } = answering;
    conversation.answers.set(message.id, answering);
    this.#live.set(conversation.id, conversation);
    conversation.explained.delete(message.id);
    answering.listeners = {
      changed: () => this.view.changed(conversation),
      grew: () => this.view.grew(conversation, message.id),
      explained: (tokens, thinking) => {
        if (!conversation.explained.has(message.id)) conversation.explained.set(message.id, []);
        const all = conversation.explained.get(message.id);
        for (const token of tokens) all.push({ ...token, thinking });
        this.view.grew(conversation, message.id);
      },
      save: () => this.shelf.saveMessage(conversation.id, message),
    };
    this.view.changed(conversation);
    await answering.run();
    conversation.answers.delete(message.id);
    if (conversation.answers.size === 0) this.#live.delete(conversation.id);
    this.view.changed(conversation);
    this.view.answered(conversation, message);
  }
}
