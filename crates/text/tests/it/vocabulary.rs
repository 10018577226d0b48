//! Tokenizers from the lists of a GGUF, and these lists from tokenizers.

use fathom_text::vocabulary::{BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, Vocabulary};
use fathom_text::{Error, Tokenizer};

use crate::families::family;
use crate::samples::{Random, tokenizer};

fn small() -> Vocabulary {
    let tokens = ["a", "b", "ab", "Ġ", "Ġab", "<x>", "é", "[PAD7]", "<0x0A>", "<y>", "\u{c3}"];
    Vocabulary {
        tokens: tokens.map(String::from).to_vec(),
        token_types: vec![
            NORMAL,
            NORMAL,
            NORMAL,
            NORMAL,
            NORMAL,
            CONTROL,
            USER_DEFINED,
            USER_DEFINED,
            BYTE,
            UNUSED,
            NORMAL,
        ],
        merges: vec!["a b".into(), "Ġ ab".into()],
        pre: "deepseek-coder".into(),
        bos_id: Some(5),
        eos_id: Some(5),
        pad_id: None,
        add_bos: true,
    }
}

#[test]
fn the_lists_of_a_gguf_are_a_tokenizer() {
    let tokenizer = Tokenizer::from_vocabulary(small()).unwrap();
    assert_eq!(tokenizer.encode("ab ab<x>é\n"), [2, 4, 5, 6, 8]);
    assert_eq!(tokenizer.encode_plain("<x>é"), [6], "bytes without a token vanish");
    assert_eq!(tokenizer.decode(&[4, 6, 8, 5]), " abé\n<x>");
    assert_eq!(tokenizer.decode_skip_special(&[4, 6, 8, 5]), " abé\n");
    assert_eq!((tokenizer.bos_id(), tokenizer.adds_bos()), (Some(5), true));
    assert_eq!(tokenizer.vocab_size(), 11);
    assert_eq!((tokenizer.id_to_bytes(7), tokenizer.id_to_bytes(9)), (None, None), "padding");
    assert_eq!(tokenizer.encode("[PAD7]<y>"), [] as [u32; 0]);
}

#[test]
fn rows_that_fill_up_the_embedding_are_no_ids() {
    let mut vocabulary = small();
    for (token, kind) in [("[PAD11]", UNUSED), ("[PAD12]", USER_DEFINED)] {
        vocabulary.tokens.push(token.into());
        vocabulary.token_types.push(kind);
    }
    assert_eq!(Tokenizer::from_vocabulary(vocabulary).unwrap().vocab_size(), 11);
}

#[test]
fn lists_that_contradict_each_other_are_refused() {
    let check = |change: fn(&mut Vocabulary), expected: &str| {
        let mut vocabulary = small();
        change(&mut vocabulary);
        let Err(error) = Tokenizer::from_vocabulary(vocabulary) else { panic!("{expected}") };
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(|v| v.pre = "falcon".into(), "no pre-tokenizer `falcon`\nhint: known are `deepseek-llm`");
    check(|v| v.token_types.truncate(3), "11 tokens, but 3 token types");
    check(|v| v.token_types[2] = 9, "token 2, `ab`, cannot have the type 9");
    check(|v| v.token_types[0] = BYTE, "token 0, `a`, cannot have the type 6");
    check(|v| v.merges[1] = "ab".into(), "merge 1 is not two tokens");
    check(|v| v.merges[0] = "b b".into(), "merge 0 joins `b` and `b`");
    check(|v| v.eos_id = Some(11), "end token has id 11, but the vocabulary has 11 tokens");
}

#[test]
fn files_without_token_types_still_have_control_tokens() {
    let vocabulary = Vocabulary { token_types: Vec::new(), ..small() };
    let tokenizer = Tokenizer::from_vocabulary(vocabulary).unwrap();
    assert_eq!(tokenizer.encode("<x>a"), [5, 0]);
    assert!(tokenizer.is_special(5));
}

#[test]
fn there_and_back_gives_the_same_ids() {
    for name in ["llm", "coder", "v3", "gpt2", "llama3"] {
        let ours = family(name);
        let again = Tokenizer::from_vocabulary(ours.vocabulary().unwrap()).unwrap();
        let rewritten = Tokenizer::from_bytes(again.json()).unwrap();
        assert_eq!(again.vocab_size(), ours.vocab_size(), "{name}");
        let mut random = Random(3);
        for _ in 0..200 {
            let text = random.text(40);
            let ids = ours.encode_plain(&text);
            assert_eq!(again.encode_plain(&text), ids, "{name}: {text:?}");
            assert_eq!(rewritten.encode_plain(&text), ids, "{name}: {text:?}");
            assert_eq!(again.decode(&ids), text, "{name}");
        }
        assert_eq!(again.encode("<|im_start|>a"), ours.encode("<|im_start|>a"), "{name}");
    }
    assert!(matches!(tokenizer().vocabulary(), Err(Error::NoPreTokenizer)));
}
