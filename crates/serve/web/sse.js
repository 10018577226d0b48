// Server-sent events out of a byte stream: chunks may be cut anywhere, also inside a character or a line end.

/** Feeds on text and gives whole events. Only `data` and comments matter to us. */
export class SseParser {
  #rest = '';
  #data = [];
  #started = false;

  /** Takes more text; returns events `{data}` and `{comment}` in order. */
  push(text) {
    const events = [];
    let buffer = this.#rest + text;
    if (!this.#started && buffer.length > 0) {
      this.#started = true;
      if (buffer.charCodeAt(0) === 0xfeff) buffer = buffer.slice(1);
    }
    let start = 0;
    for (;;) {
      const end = lineEnd(buffer, start);
      if (end === null) break;
      this.#line(buffer.slice(start, end.at), events);
      start = end.next;
    }
    this.#rest = buffer.slice(start);
    return events;
  }

  /** The stream is over. An event without its empty line still counts: servers that die forget it. */
  end() {
    const events = [];
    if (this.#rest !== '') this.#line(this.#rest.replace(/\r$/, ''), events);
    this.#rest = '';
    this.#line('', events);
    return events;
  }

  #line(line, events) {
    if (line === '') {
      if (this.#data.length > 0) events.push({ data: this.#data.join('\n') });
      this.#data = [];
    } else if (line.startsWith(':')) {
      events.push({ comment: line.slice(1).trim() });
    } else if (line.startsWith('data:')) {
      this.#data.push(line.charAt(5) === ' ' ? line.slice(6) : line.slice(5));
    } else if (line === 'data') {
      this.#data.push('');
    }
  }
}

/** Events of a response body, as they come. */
export async function* sseEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
    yield* parser.push(decoder.decode());
    yield* parser.end();
  } finally {
    // Whoever stops listening closes the connection, so that the server stops too.
    reader.cancel().catch(() => {});
  }
}

// A line ends with CR LF, LF or CR. A CR at the very end waits: a LF may follow in the next chunk.
function lineEnd(buffer, start) {
  for (let at = start; at < buffer.length; at++) {
    const code = buffer.charCodeAt(at);
    if (code === 10) return { at, next: at + 1 };
    if (code === 13) {
      if (at + 1 === buffer.length) return null;
      return { at, next: buffer.charCodeAt(at + 1) === 10 ? at + 2 : at + 1 };
    }
  }
  return null;
}
