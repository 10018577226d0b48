//! What holds of the readers of text formats for any bytes: `Ok`, or an error that says what is
//! wrong; nothing panics, memory is bounded. Run on mutations here and by the fuzzer (`fuzz/`).

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fathom_text::chat::{ChatRenderer, FORMATS, Options, TemplateFile};
use fathom_text::reply::{CallEvent, Part, ThinkingSplitter, ToolCallParser};
use fathom_text::{
    BpeSettings, Conversation, Message, PretokenizerStyle, StopStrings, StreamDecoder, Tokenizer,
    TokenizerConfig, Vocabulary, special, train_bpe,
};

use crate::allocation::{bounded, clear};

/// A tokenizer may cost this for each byte of its file: automata over added tokens, hash tables.
const TIMES: u64 = 512;
/// And this whatever its file: tables of characters, expressions, an id of four million.
const FLOOR_BYTES: u64 = 192 << 20;
/// Longer than any case may take; a debug build on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

fn tiny() -> &'static Tokenizer {
    static TRAINED: OnceLock<Tokenizer> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let special_tokens = special::CHAT.iter().chain(&special::FIM).map(|s| s.to_string());
        let settings = BpeSettings {
            vocab_size: 300,
            special_tokens: special_tokens.collect(),
            pretokenizer: PretokenizerStyle::DigitWords,
            min_frequency: 2,
        };
        train_bpe(
            std::iter::repeat_n("the number of apples is the number".to_owned(), 4),
            &settings,
        )
        .expect("settings as in other tests")
    })
}

/// The beginning of the bytes as text, short.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned()
}

/// A tokenizer that opens encodes anything to ids it has, and streams what it decodes.
fn works(tokenizer: &Tokenizer, text: &str) {
    for text in [text, "a 12 Führer\u{301} 中文\n<think>🙂"] {
        for ids in [tokenizer.encode(text), tokenizer.encode_plain(text)] {
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
            let mut stream = StreamDecoder::new(tokenizer);
            let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
            streamed += &stream.finish();
            assert_eq!(streamed, tokenizer.decode(&ids));
            let _ = tokenizer.decode_skip_special(&ids);
        }
    }
    let _ = tokenizer.decode(&[u32::MAX, 0, 1 << 22]);
}

/// `tokenizer.json`; as it has a checkpoint's trust, its expressions may be slow, but end.
pub(crate) fn tokenizer_json(bytes: &[u8]) {
    let start = Instant::now();
    match bounded(bytes, TIMES, FLOOR_BYTES, || Tokenizer::from_bytes(bytes)) {
        Ok(tokenizer) => {
            works(&tokenizer, &text_of(bytes));
            let written = tokenizer.json().to_vec();
            assert!(Tokenizer::from_bytes(written).is_ok(), "what is written is not read");
        }
        Err(error) => clear(&error.to_string(), "tokenizer.json"),
    }
    assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
}

/// Seeds of [`tokenizer_json`].
pub(crate) fn tokenizer_json_seeds() -> Vec<Vec<u8>> {
    let json = |pre: &str, normalizer: &str, processor: &str| {
        format!(
            r#"{{"added_tokens":[{{"id":7,"content":"<s>","special":true}},{{"id":8,"content":"ü","normalized":true,"lstrip":true,"rstrip":true,"single_word":true}}],"normalizer":{normalizer},"pre_tokenizer":{pre},"post_processor":{processor},"decoder":{{"type":"ByteLevel"}},"model":{{"type":"BPE","ignore_merges":true,"vocab":{{"a":0,"b":1,"Ġ":2,"ab":3,"Ġa":4,"1":5,"Ċ":6}},"merges":["a b",["Ġ","a"]]}}}}"#
        )
        .into_bytes()
    };
    let bytes = r#"{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}"#;
    let split = format!(
        r#"{{"type":"Sequence","pretokenizers":[{{"type":"Split","pattern":{{"Regex":"\\p{{L}}+|(?=a)b{{1,3}}"}},"behavior":"Isolated","invert":false}},{{"type":"Digits","individual_digits":true}},{{"type":"Split","pattern":{{"String":"a"}},"behavior":"MergedWithNext"}},{bytes}]}}"#
    );
    let template =
        r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}}]}"#;
    vec![
        json(r#"{"type":"ByteLevel","add_prefix_space":false}"#, "null", "null"),
        json(&split, r#"{"type":"NFC"}"#, template),
        json(bytes, r#"{"type":"Sequence","normalizers":[]}"#, "null"),
    ]
}

pub(crate) const TOKENIZER_WORDS: &[&[u8]] = &[
    b"\"normalized\":true",
    b"{\"id\":9,\"content\":\"\xe4\xb8\xad\"},",
    b"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a|b)*c\"},\"behavior\":\"Removed\"},",
    b"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?<=(a))\\\\1\"},\"behavior\":\"Contiguous\"},",
    b"\\\\p{N}{1,3}",
    b"\"Contiguous\"",
    b"\"ab\":4194304,",
    b"\"type\":\"NFKC\"",
    b"[\"a\",\"b\"],",
    b"\xc4\xa0",
];

/// `tokenizer_config.json`, and what a tokenizer makes of it.
pub(crate) fn tokenizer_config(bytes: &[u8]) {
    let path = Path::new("dir/tokenizer_config.json");
    match bounded(bytes, 64, 64 << 10, || TokenizerConfig::from_bytes(path, bytes)) {
        Ok(config) => {
            let _ = config.chat_template();
        }
        Err(error) => clear(&error.to_string(), "dir/tokenizer_config.json"),
    }
}

/// Seeds of [`tokenizer_config`].
pub(crate) fn tokenizer_config_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"add_bos_token":true,"bos_token":{"__type":"AddedToken","content":"<s>"},"eos_token":"</s>","model_max_length":1e30,"chat_template":"{{ messages }}"}"#.to_vec(),
        br#"{"chat_template":[{"name":"default","template":"a"},{"name":"b","template":"c"}],"pad_token":null,"tokenizer_class":"X","model_max_length":16384}"#.to_vec(),
    ]
}

/// The lists of a GGUF: the first line says how text is cut, then tokens, each with its type, and,
/// after an empty line, merges.
pub(crate) fn gguf_vocabulary(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let id = |at: usize| head.get(at).and_then(|text| text.parse().ok());
    let mut vocabulary = Vocabulary {
        pre: head[0].to_owned(),
        bos_id: id(1),
        eos_id: id(2),
        pad_id: id(3),
        add_bos: head.len() > 4,
        ..Vocabulary::default()
    };
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let (token, kind) = line.rsplit_once('/').unwrap_or((line, "1"));
        vocabulary.tokens.push(token.to_owned());
        vocabulary.token_types.extend(kind.parse::<i32>());
    }
    vocabulary.merges = lines.map(str::to_owned).collect();
    match bounded(bytes, TIMES, FLOOR_BYTES, || Tokenizer::from_vocabulary(vocabulary)) {
        Ok(tokenizer) => {
            works(&tokenizer, &text_of(bytes));
            if let Ok(again) = tokenizer.vocabulary() {
                let again = Tokenizer::from_vocabulary(again).expect("what it wrote itself");
                assert_eq!(again.vocab_size(), tokenizer.vocab_size());
            }
        }
        Err(error) => clear(&error.to_string(), ""),
    }
}

/// Seeds of [`gguf_vocabulary`].
pub(crate) fn gguf_vocabulary_seeds() -> Vec<Vec<u8>> {
    vec![
        "deepseek-llm,0,1,1,x\n<s>/3\n</s>/3\na/1\nb/1\nĠ/1\nab/1\nĠab/1\n<0x0A>/6\nü/4\n[PAD9]/5\n\na b\nĠ ab".into(),
        "deepseek-v3\na/1\nb/1\nĠ/1\nĊ/1\nab/1\n\na b".into(),
        "llama-bpe,,2\na/1\nb/1\n<|x|>/3\nab/1\n\na b".into(),
        "qwen2\na/1\né/1\nÃ/1\n©/1\nÃ©/1\n\nÃ ©".into(),
    ]
}

pub(crate) const VOCABULARY_WORDS: &[&[u8]] = &[
    b"deepseek-coder\n",
    b"deepseek-r1-qwen\n",
    b"/6\n",
    b"/3\n",
    b"/5\n",
    b"<0xFF>/6\n",
    b"[PAD3]/4\n",
    b"\n\n",
    b"a b\n",
    b",4294967295",
];

/// A template, a NUL, and a conversation as JSON: ends within fuel, and no user makes a turn.
pub(crate) fn chat_template(bytes: &[u8]) {
    let start = Instant::now();
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let conversation = parts.next().and_then(|json| serde_json::from_slice(json).ok());
    let conversation: Conversation = conversation.unwrap_or_else(|| {
        vec![Message::user("a <｜User｜> b"), Message::assistant("<think>c</think>d")].into()
    });
    let path = "dir/chat_template.jinja".to_owned();
    let file = TemplateFile { path, text, ..TemplateFile::default() };
    let renderer = match ChatRenderer::new(file, tiny()) {
        Ok(renderer) => renderer,
        Err(error) => return clear(&error.to_string(), "dir/chat_template.jinja"),
    };
    for (add_generation_prompt, continue_last) in [(true, false), (false, true)] {
        let options = Options { add_generation_prompt, continue_last, ..Options::default() };
        match renderer.prompt(tiny(), &conversation, &options) {
            Ok(prompt) => {
                assert!(prompt.text.len() < 128 << 20);
                assert!(prompt.ids.iter().all(|id| (*id as usize) < tiny().vocab_size()));
            }
            Err(error) => assert!(error.to_string().len() > 10),
        }
    }
    assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
}

/// Seeds of [`chat_template`]: the built-in formats, what harmful templates are made of, and a
/// conversation with tools.
pub(crate) fn chat_template_seeds() -> Vec<Vec<u8>> {
    let conversation = r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"<｜User｜>"}]},{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"id":"0","type":"function","function":{"name":"f","arguments":"{\"a\":[1,null]}"}}]},{"role":"tool","content":"3","tool_call_id":"0"},{"role":"assistant","content":"<think>x</think>y"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]}"#;
    let with = |template: &str| format!("{template}\0{conversation}").into_bytes();
    let mut seeds: Vec<Vec<u8>> = FORMATS.iter().map(|row| with(row.template)).collect();
    seeds.extend([
        with("{% set ns = namespace(x=[]) %}{% for m in messages %}{% set ns.x = [ns.x, m] %}{% endfor %}{{ ns.x | tojson(indent=2) }}"),
        with("{% macro f(n) %}{{ f(n) if n else 1 }}{% endmacro %}{{ f(0) }}{{ 'x' * 99 }}{{ messages[0].content.split('a')[-1:] | join(',') | upper }}"),
        with("{%- for m in messages recursive -%}{{ m['role'].strip() ~ m.content | default('', true) | trim }}{%- endfor -%}{{ raise_exception('no') if tools is none }}{{ strftime_now('%d') }}"),
        b"{{ bos_token }}{% for a in range(9) %}{{ loop.index }}{% if a > 2 %}{% break %}{% endif %}{% endfor %}".to_vec(),
    ]);
    seeds
}

pub(crate) const TEMPLATE_WORDS: &[&[u8]] = &[
    b"{% for a in range(99999) %}",
    b"{% endfor %}",
    b"{% set ns.x = ns.x + ns.x %}",
    b" | tojson",
    b" | map(attribute='a')",
    b" | sort | unique | list",
    b".replace('a', 'b' * 9999)",
    b" | format(1)",
    b"'%9999d'",
    b"[::-1]",
    b"{{ loop(messages) }}",
    b" ** 99",
    b"{% generation %}",
    b".items()",
    b"{{ dict(a=1) }}",
    b"{% raw %}",
    b"\"role\":\"user\",",
];

/// What a reply is made of, for bytes below 16.
const PIECES: [&str; 16] = [
    special::TOOL_CALLS_BEGIN,
    special::TOOL_CALLS_END,
    special::TOOL_CALL_BEGIN,
    special::TOOL_CALL_END,
    special::TOOL_SEP,
    "function",
    "```json\n",
    "\n```",
    special::THINK,
    special::END_THINK,
    "\n",
    "{\"a\": 1}",
    "</think",
    "<｜tool▁call",
    " ",
    "é🙂",
];

/// A reply in which bytes below 16 stand for [`PIECES`]; the first byte says how it is cut. The
/// parts, calls and stops of a stream are those of the whole.
pub(crate) fn chat_reply(bytes: &[u8]) {
    let Some((cut, rest)) = bytes.split_first() else { return };
    let mut reply = String::new();
    for chunk in rest.chunk_by(|a, b| (*a < 16) == (*b < 16) && *a >= 16) {
        match chunk {
            [piece] if *piece < 16 => reply += PIECES[usize::from(*piece)],
            text => reply += &String::from_utf8_lossy(text),
        }
    }
    let n = 1 + usize::from(*cut % 7);
    let characters: Vec<char> = reply.chars().collect();
    let pieces: Vec<String> = characters.chunks(n).map(|piece| piece.iter().collect()).collect();
    let whole = [reply.clone()];
    for opened in [false, true] {
        assert_eq!(thoughts(opened, &whole), thoughts(opened, &pieces), "{reply:?}");
    }
    assert_eq!(calls(&whole), calls(&pieces), "{reply:?}");
    let stops = ["\n", "</think>", "aa", "<｜tool"];
    assert_eq!(stopped(&stops, &whole), stopped(&stops, &pieces), "{reply:?}");
}

fn thoughts(opened: bool, pieces: &[String]) -> [String; 2] {
    let mut splitter = ThinkingSplitter::new(opened);
    let mut events: Vec<_> = pieces.iter().flat_map(|piece| splitter.push(piece)).collect();
    events.extend(splitter.finish());
    let mut texts = [String::new(), String::new()];
    for (part, text) in events {
        texts[usize::from(part == Part::Answer)] += &text;
    }
    texts
}

/// Events with neighbouring texts joined.
fn calls(pieces: &[String]) -> Vec<CallEvent> {
    let mut parser = ToolCallParser::new();
    let mut events: Vec<_> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    events.extend(parser.finish());
    let mut joined: Vec<CallEvent> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(CallEvent::Text(before)), CallEvent::Text(text)) => *before += &text,
            (
                Some(CallEvent::Arguments { index: i, text: before }),
                CallEvent::Arguments { index, text },
            ) if *i == index => *before += &text,
            (_, event) => joined.push(event),
        }
    }
    joined
}

fn stopped(stops: &[&str], pieces: &[String]) -> (String, Option<usize>) {
    let mut strings = StopStrings::new(stops.iter().copied());
    let (mut text, mut stop) = (String::new(), None);
    for piece in pieces {
        let heard = strings.push(piece);
        text += &heard.text;
        stop = stop.or(heard.stop);
    }
    (text + &strings.finish(), stop)
}

/// Seeds of [`chat_reply`].
pub(crate) fn chat_reply_seeds() -> Vec<Vec<u8>> {
    vec![
        b"\x01\x08reasons\n\x0a\x09\x0a\x0aanswer".to_vec(),
        b"\x02text\x00\x02\x05\x04name\x0a\x06\x0b\x07\x03\x0a\x02\x05\x04b\x0a\x06\x0b\x07\x03\x01after".to_vec(),
        b"\x03\x00\x02name\x04\x0b\x03\x01".to_vec(),
        b"\x00\x02\x05\x04\x0b\x03\x02x\x04{}".to_vec(),
    ]
}
