// Every word of the page, in English and Chinese, and numbers and days as people read them.

import { read, write } from './api.js';

const KEY = 'fathom.language';

// Values in braces are filled in.
const TABLE = {
  a_space: ['space', '空格'],
  about_tokens: ['about {n} tokens', '约 {n} 个词元'],
  actions: ['More', '更多'],
  actions_for: ['More for “{title}”', '“{title}”的更多操作'],
  answer: ['Answer', '回答'],
  as_table: ['As a table', '以表格显示'],
  ask: ['Ask anything', '想问点什么？'],
  attach: ['Attach text files', '添加文本文件'],
  busy_retry: ['The server is busy. Trying again in {s} s.', '服务器繁忙，{s} 秒后重试。'],
  cancel: ['Cancel', '取消'],
  close: ['Close', '关闭'],
  code: ['code', '代码'],
  context: ['Context', '上下文'],
  continue: ['Continue', '继续'],
  conversations: ['Conversations', '对话'],
  copied: ['Copied', '已复制'],
  copy: ['Copy', '复制'],
  copy_failed: ['Copying failed', '复制失败'],
  copy_last: ['Copy the last answer', '复制最后的回答'],
  cut: ['The limit of tokens cut this answer.', '回答达到词元上限而中断。'],
  deepthink: ['DeepThink', '深度思考'],
  deepthink_locked: ['This model always thinks before it answers', '该模型总是先思考再回答'],
  deepthink_tip: ['Think first, then answer', '先思考，再回答'],
  delete: ['Delete', '删除'],
  deleted: ['Deleted “{title}”', '已删除“{title}”'],
  done: ['done', '已完成'],
  drop_here: ['Drop text files here', '将文本文件拖放到这里'],
  edit: ['Edit', '编辑'],
  edit_last: ['Edit the last question', '编辑上一个问题'],
  error_busy: ['The server was busy for too long.', '服务器繁忙时间过长。'],
  error_context: ['This conversation no longer fits into the model’s context. Start a new chat, attach less, or edit an earlier question to branch off from there.', '对话已超出模型的上下文长度。请新建对话、减少附件，或编辑较早的问题以另开分支。'],
  error_funds: ['The balance of this key is used up.', '该密钥的余额已用完。'],
  error_gone: ['The connection to the server was lost.', '与服务器的连接已断开。'],
  error_key: ['The server asks for a key.', '服务器需要密钥。'],
  error_page: ['Something went wrong on this page.', '页面出错了。'],
  error_refused: ['The server refused this.', '服务器拒绝了该请求。'],
  error_server: ['Something went wrong on the server.', '服务器出错了。'],
  experts: ['Experts', '专家'],
  experts_fact: ['{k} of {n} in {layers} layers', '{layers} 层，每层 {n} 选 {k}'],
  experts_title: ['Experts visited by {n} tokens', '{n} 个词元访问的专家'],
  explain: ['Explain', '解释'],
  explain_differs: ['Asked again, the model answered differently (the answer was continued, or the model has changed). These are the new tokens.', '重新提问得到了不同的回答（回答曾被续写，或模型已更换）。以下是新的词元。'],
  explain_failed: ['The tokens could not be had.', '无法获取词元。'],
  explain_keys: ['hover or tap · ← → token by token · N next unsure one', '悬停或点按 · ← → 逐个词元 · N 下一处不确定'],
  explain_nothing: ['The server told nothing about these tokens.', '服务器没有提供这些词元的信息。'],
  explain_summary: ['{n} tokens · mean probability {mean} · the likeliest token was taken {first} of the time', '{n} 个词元 · 平均概率 {mean} · {first} 的位置选择了最可能的词元'],
  explain_switch_tip: ['Show how sure the model was of every token', '显示模型对每个词元的把握'],
  explain_tip: ['See each token’s probability', '查看每个词元的概率'],
  explaining: ['Asking for the same answer once more, with its figures…', '正在用相同的种子重新获取回答及其数据……'],
  export_json: ['Export as JSON', '导出为 JSON'],
  export_markdown: ['Export as Markdown', '导出为 Markdown'],
  figure_cached: ['{n} of {all} prompt tokens cached', '提示 {all} 词元，缓存命中 {n}'],
  figure_first: ['first after {time}', '首词元 {time}'],
  figure_speed: ['{n} tokens/s', '{n} 词元/秒'],
  figure_tokens: ['{n} tokens', '{n} 词元'],
  file_is_binary: ['{name} is not a text file.', '{name} 不是文本文件。'],
  file_is_empty: ['{name} is empty.', '{name} 是空文件。'],
  file_too_large: ['{name} is larger than {limit}.', '{name} 超过 {limit}。'],
  file_unreadable: ['{name} could not be read.', '无法读取 {name}。'],
  files: ['Files', '文件'],
  files_too_large: ['All files together may have {limit}.', '所有文件合计不得超过 {limit}。'],
  first_choice: ['first choice', '首选'],
  formula: ['formula', '公式'],
  grid_name: ['{k} of {n} experts visited in each layer (rows are layers)', '每层访问 {n} 个专家中的 {k} 个（每行一层）'],
  grid_of_answer: ['Heat map of visits, {layers} layers by {n} experts', '访问热图：{layers} 层 × {n} 个专家'],
  grid_of_token: ['{layers} layers by {n} experts, {k} visited in each layer', '{layers} 层 × {n} 个专家，每层访问 {k} 个'],
  heat_cell: ['layer {layer} · expert {expert} · {n} tokens ({share})', '第 {layer} 层 · 专家 {expert} · {n} 个词元（{share}）'],
  heat_hint: ['Rows are layers, columns are experts; the stronger the colour, the more tokens.', '每行是一层，每列是一个专家；颜色越浓表示词元越多。'],
  idea_1: ['Prove that √2 is irrational', '证明 √2 是无理数'],
  idea_2: ['Explain mixture of experts in a table', '用一个小表格解释混合专家模型'],
  idea_3: ['Write a Rust function that merges two sorted slices', '写一个合并两个有序切片的 Rust 函数'],
  idea_4: ['Plan a quiet weekend by the sea', '规划一个安静的海边周末'],
  in_queue: ['In the queue', '排队中'],
  instead_of: ['instead of', '其他可能'],
  key: ['API key', 'API 密钥'],
  key_hint: ['Kept in this browser, sent to this server only.', '仅保存在此浏览器中，只发送给该服务器。'],
  key_title: ['This server asks for a key', '该服务器需要密钥'],
  key_words: ['Whoever runs the server can make one with “fathom key add”. It is kept in this browser only.', '服务器管理员可用 “fathom key add” 创建密钥。密钥只保存在此浏览器中。'],
  key_wrong: ['The server did not accept this key.', '服务器不接受该密钥。'],
  keys: ['Keyboard', '键盘快捷键'],
  language: ['Language', '语言'],
  layer: ['Layer', '层'],
  least_sure: ['Least sure:', '最不确定：'],
  line_break: ['line break', '换行'],
  max_tokens: ['Most tokens of an answer', '回答的最大词元数'],
  max_tokens_hint: ['Thinking counts too. Empty: as the model does.', '包含思考过程。留空则使用默认值。'],
  max_tokens_usual: ['what fits', '不限'],
  messages: ['Messages', '消息'],
  model: ['Model', '模型'],
  most_visited: ['Experts visited most', '访问最多的专家'],
  name: ['Name', '名称'],
  new_chat: ['New chat', '新对话'],
  new_line: ['New line', '换行'],
  newer_version: ['Newer version', '较新版本'],
  next_try: ['Next try in {s} s.', '{s} 秒后重试。'],
  no_chat: ['This model only continues text; it cannot chat. Use the completions API.', '该模型只能续写文本，不能对话。请使用补全接口。'],
  no_conversations: ['Conversations will appear here.', '对话会显示在这里。'],
  no_such_conversation: ['This conversation does not exist (any more).', '该对话不存在或已删除。'],
  not_saved: ['Not saved yet: the server does not take it. Trying again.', '尚未保存：服务器暂不可用，正在重试。'],
  nothing_found: ['Nothing found.', '没有找到。'],
  nth_choice: ['choice {n}', '第 {n} 选择'],
  older_version: ['Older version', '较早版本'],
  only_in_tab: ['Conversations cannot be kept on the server just now; they live in this tab only.', '目前无法在服务器上保存对话，它们只存在于此标签页。'],
  out_of_range: ['Expected {min} to {max}', '应在 {min} 到 {max} 之间'],
  out_of_time: ['The server ran out of time or memory for this answer.', '服务器的时间或内存不足以完成该回答。'],
  page: ['Page', '页面'],
  regenerate: ['Answer again', '重新回答'],
  remove_file: ['Remove {name}', '移除 {name}'],
  rename: ['Rename', '重命名'],
  rename_title: ['Rename conversation', '重命名对话'],
  reset: ['Back to the model’s defaults', '恢复模型默认值'],
  save: ['Save', '保存'],
  search: ['Search conversations', '搜索对话'],
  seed: ['Seed', '随机种子'],
  seed_hint: ['The same seed gives the same answer, whatever else the server does.', '相同的种子得到相同的回答，与服务器负载无关。'],
  seed_usual: ['a new one each time', '每次随机'],
  send: ['Send', '发送'],
  server_back: ['The server is back.', '服务器已恢复。'],
  server_gone: ['The server does not answer.', '服务器没有响应。'],
  settings: ['Settings', '设置'],
  show_all: ['Show all', '展开'],
  show_earlier: ['Show {n} earlier messages', '显示更早的 {n} 条消息'],
  show_less: ['Show less', '收起'],
  sidebar: ['Conversations', '对话列表'],
  size_note: ['about {n} of {all} tokens', '约 {n} / {all} 词元'],
  skip: ['Skip to the question', '跳到提问框'],
  small_print: ['Models make mistakes. Check what matters.', '模型可能出错，重要内容请核实。'],
  stop: ['Stop', '停止'],
  stopped: ['Stopped.', '已停止。'],
  sure: ['sure', '确定'],
  surprised: ['surprised', '意外'],
  system_placeholder: ['None', '无'],
  system_prompt: ['System prompt', '系统提示词'],
  table: ['table', '表格'],
  temperature: ['Temperature', '温度'],
  temperature_hint: ['0 always takes the likeliest token.', '0 表示总是选择最可能的词元。'],
  temperature_usual: ['default', '默认'],
  theme: ['Theme', '主题'],
  theme_auto: ['System', '跟随系统'],
  theme_dark: ['Dark', '深色'],
  theme_light: ['Light', '浅色'],
  thinking: ['Thinking…', '思考中……'],
  thinking_always: ['always', '总是'],
  thinking_never: ['not with this model', '该模型不支持'],
  thinking_part: ['Thinking', '思考'],
  thinking_switch: ['as you switch it', '可切换'],
  this_conversation: ['This conversation', '当前对话'],
  thought: ['Thought', '已思考'],
  thought_for: ['Thought for {time}', '已思考 {time}'],
  title: ['Title', '标题'],
  to_bottom: ['To the newest message', '回到底部'],
  to_do: ['to do', '待办'],
  token_number: ['token {n}, id {id}', '第 {n} 个词元，编号 {id}'],
  tokens: ['{n} tokens', '{n} 词元'],
  tokens_label: ['Tokens of the answer', '回答的词元'],
  too_many_files: ['At most {n} files at a time.', '一次最多 {n} 个文件。'],
  top_p: ['Top-p', 'Top-p'],
  top_p_hint: ['Draws from the likeliest tokens that together have this probability.', '从累计概率达到该值的词元中抽取。'],
  top_p_usual: ['default', '默认'],
  try_again: ['Try again', '重试'],
  try_now: ['Try now', '立即重试'],
  undo: ['Undo', '撤销'],
  unlikely_choice: ['not among the first {top}', '不在前 {top} 个之内'],
  untitled: ['Untitled', '未命名'],
  versions: ['Versions', '版本'],
  waiting: ['Reading your question', '正在读取问题'],
  welcome: ['What would you like to get to the bottom of?', '想探究些什么？'],
  you: ['You', '你'],
};

let current = wanted();

/** `en` or `zh`. */
export function language() {
  return current;
}

export function setLanguage(chosen) {
  write(KEY, chosen);
  current = wanted();
}

/** A text of the table, with values filled in. A name that is missing is shown, so that somebody notices. */
export function t(name, values = {}) {
  const row = TABLE[name];
  if (row === undefined) return name;
  return row[current === 'zh' ? 1 : 0].replace(/\{(\w+)\}/g, (_, value) => values[value] ?? '');
}

/** Fills elements that name their text in `data-t`, `data-t-label` or `data-t-placeholder`. */
export function setTexts(root) {
  document.documentElement.lang = current === 'zh' ? 'zh-CN' : 'en';
  for (const element of root.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll('[data-t-label]')) element.setAttribute('aria-label', t(element.dataset.tLabel));
  for (const element of root.querySelectorAll('[data-t-placeholder]')) element.placeholder = t(element.dataset.tPlaceholder);
}

export function number(value) {
  return Number(value).toLocaleString(current === 'zh' ? 'zh-CN' : 'en-US', { maximumFractionDigits: 4 });
}

/** A time span: `12 s`, `2 min 5 s`. */
export function seconds(value) {
  const [minute, second] = current === 'zh' ? [' 分 ', ' 秒'] : [' min ', ' s'];
  if (value < 60) return `${value}${second}`;
  return `${Math.floor(value / 60)}${minute}${value % 60}${second}`;
}

/** The heading under which a conversation stands in the list. */
export function dayName(time) {
  const start = new Date().setHours(0, 0, 0, 0);
  const days = Math.floor((start - time) / 86_400_000) + 1;
  if (days <= 0) return current === 'zh' ? '今天' : 'Today';
  if (days === 1) return current === 'zh' ? '昨天' : 'Yesterday';
  if (days <= 7) return current === 'zh' ? '7 天内' : 'Previous 7 days';
  if (days <= 30) return current === 'zh' ? '30 天内' : 'Previous 30 days';
  return new Date(time).toLocaleDateString(current === 'zh' ? 'zh-CN' : 'en-US', { month: 'long', year: 'numeric' });
}

/** Names of the table, for the test that holds modules and table together. */
export function names() {
  return Object.keys(TABLE);
}

function wanted() {
  const chosen = read(KEY);
  if (chosen === 'en' || chosen === 'zh') return chosen;
  return typeof navigator !== 'undefined' && /^zh\b/i.test(navigator.language ?? '') ? 'zh' : 'en';
}
