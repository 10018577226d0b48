//! Claims about conversations: trees that stay trees, seen by their owner alone, found by their text.

use super::*;

fn message<'a>(id: &'a str, parent: Option<&'a str>, content: &'a str) -> NewMessage<'a> {
    NewMessage { id, parent, role: "user", content, reasoning: None, meta: None }
}

fn titles(store: &Store, owner: u64, text: &str) -> Vec<String> {
    let found = store.conversations(owner, text).unwrap();
    found.into_iter().map(|summary| summary.title).collect()
}

#[test]
fn a_conversation_is_kept_as_it_was_put() {
    let clock = Arc::new(ManualClock::default());
    let store = Store::in_memory().unwrap().with_clock(clock.clone());
    let made = store.create_conversation(1, "Sums").unwrap();
    clock.advance(Duration::from_secs(5));
    store.put_message(1, &made.id, &message("a", None, "1 + 1?")).unwrap();
    let answer = NewMessage {
        role: "assistant",
        reasoning: Some("hm"),
        meta: Some("{\"seconds\":2}"),
        ..message("b", Some("a"), "two \u{0} \u{1f600}")
    };
    let kept = store.put_message(1, &made.id, &answer).unwrap();
    assert_eq!((kept.created_at, kept.content.as_str()), (5000, "two \u{0} \u{1f600}"));
    clock.advance(Duration::from_secs(5));
    let longer = NewMessage { content: "two, of course", ..answer };
    assert_eq!(store.put_message(1, &made.id, &longer).unwrap().created_at, 5000);
    let change = Change { title: None, head: Some(Some("b")) };
    store.change_conversation(1, &made.id, change).unwrap();
    let thread = store.conversation(1, &made.id).unwrap();
    assert_eq!((thread.summary.title.as_str(), thread.head.as_deref()), ("Sums", Some("b")));
    assert_eq!((thread.summary.created_at, thread.summary.updated_at), (0, 10_000));
    let ids: Vec<_> = thread.messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"], "a changed message keeps its place");
    assert_eq!(thread.messages[1].content, "two, of course");
    assert_eq!(thread.messages[1].meta.as_deref(), Some("{\"seconds\":2}"));
    let change = Change { title: Some("More"), head: Some(None) };
    assert_eq!(store.change_conversation(1, &made.id, change).unwrap().title, "More");
    assert_eq!(store.conversation(1, &made.id).unwrap().head, None);
}

#[test]
fn a_tree_stays_a_tree() {
    let store = Store::in_memory().unwrap();
    let id = store.create_conversation(1, "").unwrap().id;
    let put = |message: &NewMessage<'_>| store.put_message(1, &id, message);
    let no_parent = put(&message("a", Some("b"), "x")).unwrap_err();
    assert!(matches!(no_parent, ConversationError::NoParent { .. }), "{no_parent}");
    let own_parent = put(&message("a", Some("a"), "x")).unwrap_err();
    assert!(matches!(own_parent, ConversationError::NoParent { .. }), "{own_parent}");
    put(&message("a", None, "x")).unwrap();
    put(&message("b", Some("a"), "x")).unwrap();
    let circle = put(&message("a", Some("b"), "x")).unwrap_err().to_string();
    assert!(circle.contains("expected `null`, found `b`"), "{circle}");
    let change = Change { title: None, head: Some(Some("zz")) };
    let no_head = store.change_conversation(1, &id, change).unwrap_err();
    assert!(matches!(no_head, ConversationError::NoHead { .. }));
    let other = store.create_conversation(1, "").unwrap().id;
    let from_there = store.put_message(1, &other, &message("c", Some("a"), "x")).unwrap_err();
    assert!(
        matches!(from_there, ConversationError::NoParent { .. }),
        "parents are of the same one"
    );
}

#[test]
fn nobody_sees_or_touches_what_is_not_theirs() {
    let store = Store::in_memory().unwrap();
    let id = store.create_conversation(1, "secret").unwrap().id;
    store.put_message(1, &id, &message("a", None, "secret")).unwrap();
    for owner in [0, 2, u64::MAX] {
        assert!(titles(&store, owner, "").is_empty() && titles(&store, owner, "secret").is_empty());
        let outcomes = [
            store.conversation(owner, &id).map(drop),
            store.change_conversation(owner, &id, Change::default()).map(drop),
            store.put_message(owner, &id, &message("b", None, "x")).map(drop),
            store.delete_conversation(owner, &id),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(ConversationError::NoConversation)), "{outcome:?}");
        }
    }
    assert_eq!(store.conversation(1, &id).unwrap().messages.len(), 1);
}

#[test]
fn a_search_finds_text_in_any_language_and_no_pattern() {
    let store = Store::in_memory().unwrap();
    for (title, text) in [
        ("100% sure", "plain"),
        ("snake_case", "with 'quotes' and \"more\""),
        ("Größe", "ПРИВЕТ, 你好"),
        ("back\\slash", "*?[a-z]"),
    ] {
        let id = store.create_conversation(1, title).unwrap().id;
        let thinking = NewMessage { reasoning: Some("Hidden Thought"), ..message("a", None, text) };
        store.put_message(1, &id, &thinking).unwrap();
    }
    for (text, expected) in [
        ("%", &["100% sure"][..]),
        ("_", &["snake_case"]),
        ("SNAKE", &["snake_case"]),
        ("grÖSSE", &[]),
        ("GRÖßE", &["Größe"]),
        ("привет", &["Größe"]),
        ("好", &["Größe"]),
        ("\\", &["back\\slash"]),
        ("'quotes' AND \"", &["snake_case"]),
        ("' OR 1=1 --", &[]),
        ("*", &["back\\slash"]),
        ("\u{0}", &[]),
    ] {
        assert_eq!(titles(&store, 1, text), expected, "{text:?}");
    }
    assert_eq!(titles(&store, 1, " hidden thought ").len(), 4);
    assert_eq!(titles(&store, 1, "  ").len(), 4);
}

#[test]
fn the_last_changed_comes_first() {
    let clock = Arc::new(ManualClock::default());
    let store = Store::in_memory().unwrap().with_clock(clock.clone());
    let first = store.create_conversation(1, "first").unwrap();
    store.create_conversation(1, "second").unwrap();
    assert_eq!(titles(&store, 1, ""), ["second", "first"]);
    clock.advance(Duration::from_millis(1));
    store.put_message(1, &first.id, &message("a", None, "x")).unwrap();
    assert_eq!(titles(&store, 1, ""), ["first", "second"]);
}

#[test]
fn a_deleted_conversation_is_gone_however_long_it_was() {
    let store = Store::in_memory().unwrap();
    let id = store.create_conversation(1, "long").unwrap().id;
    let ids: Vec<String> = (0..3000).map(|n| format!("m{n}")).collect();
    for (n, message_id) in ids.iter().enumerate() {
        let parent = n.checked_sub(1).map(|before| ids[before].as_str());
        store.put_message(1, &id, &message(message_id, parent, "x")).unwrap();
    }
    store.delete_conversation(1, &id).unwrap();
    let left: i64 = store
        .conversations_db()
        .query_row("SELECT count(*) FROM messages", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
    let again = store.delete_conversation(1, &id).unwrap_err();
    assert!(matches!(again, ConversationError::NoConversation));
}

#[test]
fn a_conversation_cannot_grow_without_end() {
    let store = Store::in_memory().unwrap();
    let id = store.create_conversation(1, "").unwrap().id;
    let large = "x".repeat(MAX_MESSAGE_BYTES);
    let n_fit = MAX_CONVERSATION_BYTES / MAX_MESSAGE_BYTES;
    for n in 0..n_fit {
        store.put_message(1, &id, &message(&format!("m{n}"), None, &large)).unwrap();
    }
    let over = store.put_message(1, &id, &message("more", None, "x")).unwrap_err();
    assert!(matches!(over, ConversationError::TooLarge { .. }), "{over}");
    store.put_message(1, &id, &message("m0", None, "short")).unwrap();
    store.put_message(1, &id, &message("more", None, "x")).unwrap();
    let set = "UPDATE conversations SET n_messages = ?1";
    store.conversations_db().execute(set, [MAX_MESSAGES as i64]).unwrap();
    let over = store.put_message(1, &id, &message("last", None, "x")).unwrap_err();
    assert!(matches!(over, ConversationError::TooManyMessages), "{over}");
    store.put_message(1, &id, &message("more", None, "y")).unwrap();
}
