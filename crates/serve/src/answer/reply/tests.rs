//! Answers come apart the same way however they are cut, and every token is told of once.

use super::*;
use fathom_text::reply::ToolCallParser;

const CALL: &str = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": \"END\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";

fn reply(thinks: bool, calls: bool, stops: &[&str]) -> Reply {
    Reply::new(
        thinks.then(|| ThinkingSplitter::new(true)),
        if calls { Calls::Marked(ToolCallParser::new()) } else { Calls::Never },
        StopStrings::new(stops.iter().copied()),
    )
}

/// The pieces of a text that arrives `n` bytes at a time, each a token with the id of its place.
fn pieces(mut reply: Reply, text: &str, n: usize) -> (Vec<Piece>, Option<usize>) {
    let mut pieces = Vec::new();
    for (id, bytes) in text.as_bytes().chunks(n).enumerate() {
        let scored = Scored { id: id as u32, bytes: bytes.to_vec(), ..Scored::default() };
        pieces.extend(reply.push(bytes, Some(scored)));
        if reply.stop().is_some() {
            return (pieces, reply.stop());
        }
    }
    pieces.extend(reply.finish(None));
    (pieces, reply.stop())
}

/// Thinking, content, arguments of all calls, and the ids of all tokens.
fn joined(pieces: &[Piece]) -> (String, String, String, Vec<u32>) {
    let mut all = (String::new(), String::new(), String::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Reasoning { text, tokens } => {
                all.0.push_str(text);
                all.3.extend(tokens.iter().map(|token| token.id));
            }
            Piece::Content { text, tokens } => {
                all.1.push_str(text);
                all.3.extend(tokens.iter().map(|token| token.id));
            }
            Piece::CallArguments { text, .. } => all.2.push_str(text),
            _ => {}
        }
    }
    all
}

#[test]
fn thinking_content_and_calls_do_not_depend_on_how_tokens_are_cut() {
    let text = format!("I think 苹果.\n</think>\n\nYes, 🙂.{CALL}");
    for n in [1, 2, 3, 5, 8, 1000] {
        let (pieces, stop) = pieces(reply(true, true, &["END"]), &text, n);
        let (thinking, content, arguments, ids) = joined(&pieces);
        assert_eq!((&*thinking, &*content), ("I think 苹果.", "Yes, 🙂."), "{n}");
        // A stop string in the arguments of a call is no stop.
        assert_eq!((&*arguments, stop), ("{\"a\": \"END\"}", None), "{n}");
        let n_tokens = text.len().div_ceil(n) as u32;
        assert_eq!(ids, (0..n_tokens).collect::<Vec<_>>(), "{n}");
    }
}

#[test]
fn a_stop_string_ends_the_content_and_not_the_thinking() {
    let text = "a STOP b</think>c d STOP e";
    for n in [1, 2, 3, 1000] {
        let (pieces, stop) = pieces(reply(true, false, &["x", "STOP"]), text, n);
        let (thinking, content, _, ids) = joined(&pieces);
        assert_eq!((&*thinking, &*content, stop), ("a STOP b", "c d ", Some(1)), "{n}");
        // Tokens that lie in the stop string are not told of.
        let n_kept = text.find(" STOP e").unwrap() + 1;
        assert_eq!(ids.len(), n_kept.div_ceil(n).min(text.len().div_ceil(n)), "{n}");
    }
}

#[test]
fn a_token_goes_with_the_text_that_it_completes() {
    let mut reply = reply(false, false, &["END"]);
    let mut push = |text: &[u8], id| {
        let scored = Scored { id, bytes: text.to_vec(), ..Scored::default() };
        reply.push(text, Some(scored))
    };
    let content = |text: &str, ids: &[u32]| {
        let told = |id: &u32| *id;
        (text.to_owned(), ids.iter().map(told).collect::<Vec<_>>())
    };
    let seen = |pieces: Vec<Piece>| match &pieces[..] {
        [] => None,
        [Piece::Content { text, tokens }] => {
            Some((text.clone(), tokens.iter().map(|token| token.id).collect()))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(seen(push(b"a", 1)), Some(content("a", &[1])));
    assert_eq!(seen(push("苹".as_bytes().split_at(2).0, 2)), None);
    assert_eq!(seen(push("苹".as_bytes().split_at(2).1, 3)), Some(content("苹", &[2, 3])));
    assert_eq!(seen(push(b"EN", 4)), None);
    assert_eq!(seen(push(b"x", 5)), Some(content("ENx", &[4, 5])));
}

#[test]
fn the_token_that_ends_the_thinking_belongs_to_it() {
    let mut reply = reply(true, false, &[]);
    let scored = |id| Some(Scored { id, bytes: b"?".to_vec(), ..Scored::default() });
    reply.push(b"hm", scored(1));
    let pieces = reply.push(b"</think>", scored(2));
    assert!(
        matches!(&pieces[..], [Piece::Reasoning { text, tokens }] if text.is_empty() && tokens[0].id == 2),
        "{pieces:?}"
    );
}

#[test]
fn without_scores_no_empty_piece_is_told() {
    for piece in ["</think>", "\n\n", "a", ""] {
        let mut reply = reply(true, true, &[]);
        let pieces = reply.push(piece.as_bytes(), None);
        let is_empty = |piece: &Piece| text_of(piece).is_empty();
        assert!(!pieces.iter().any(is_empty), "{pieces:?}");
    }
}
