// Text files that go along with a question, laid out as DeepSeek published it.

export const MAX_FILE_BYTES = 1024 * 1024;
const MAX_TOTAL_BYTES = 3 * 1024 * 1024;
const MAX_FILES = 10;

/** A file that cannot be sent: `reason` names a string of the table, `values` fill it. */
export class FileRefused extends Error {
  constructor(reason, values) {
    super(reason);
    this.reason = reason;
    this.values = values;
  }
}

/** Reads a file as text, beside those there `already`. Throws `FileRefused` for what is too large or no text. */
export async function readTextFile(file, already) {
  const name = cleanName(file.name);
  if (already.length >= MAX_FILES) throw new FileRefused('too_many_files', { n: MAX_FILES });
  if (file.size > MAX_FILE_BYTES) throw new FileRefused('file_too_large', { name, limit: sizeText(MAX_FILE_BYTES) });
  if (already.reduce((sum, { bytes }) => sum + bytes, file.size) > MAX_TOTAL_BYTES) throw new FileRefused('files_too_large', { limit: sizeText(MAX_TOTAL_BYTES) });
  const bytes = new Uint8Array(await file.arrayBuffer());
  const text = decode(bytes);
  if (text === null) throw new FileRefused('file_is_binary', { name });
  if (text.trim() === '') throw new FileRefused('file_is_empty', { name });
  return { name, bytes: file.size, text, tokens: estimateTokens(text) };
}

// UTF-8, or UTF-16 with its mark. Anything with control characters is no text.
function decode(bytes) {
  const wide = bytes[0] === 0xff && bytes[1] === 0xfe ? 'utf-16le' : bytes[0] === 0xfe && bytes[1] === 0xff ? 'utf-16be' : null;
  try {
    const text = new TextDecoder(wide ?? 'utf-8', { fatal: true }).decode(bytes);
    return /[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** What is sent: the files, then the question. */
export function withFiles(files, question) {
  return files.map(fileBlock).join('') + question;
}

/** How long the part in front of the question is. */
export function questionStart(files) {
  return files.reduce((sum, file) => sum + fileBlock(file).length, 0);
}

function fileBlock({ name, text }) {
  return `[file name]: ${name}\n[file content begin]\n${text}\n[file content end]\n`;
}

/** Roughly how many tokens a text has: DeepSeek's rule of thumb, 0.3 a letter and 0.6 a Chinese character. */
export function estimateTokens(text) {
  let wide = 0;
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 0x2e80) wide++;
  return Math.ceil(wide * 0.6 + (text.length - wide) * 0.3);
}

export function sizeText(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(bytes < 10_240 ? 1 : 0)} KB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

// A name must stay on its line, and must not be able to turn the text around.
function cleanName(name) {
  return name.replace(/[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, '_').slice(0, 200) || 'file';
}
