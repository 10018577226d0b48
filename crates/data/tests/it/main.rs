//! What this crate promises about files of other people.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fuzz/shared/allocation.rs"]
mod allocation;
mod claims;
#[path = "../../../../fuzz/shared/mutation.rs"]
mod mutation;

#[test]
fn no_damage_to_lines_of_questions_breaks_their_reader() {
    let words: &[&[u8]] =
        &[b"\n", b"\"answer\":\"#### \"", b"\x28\xb5\x2f\xfd", b"<<", b"\\boxed{"];
    mutation::hold(&claims::jsonl_seeds(), words, 2000, claims::jsonl);
    mutation::deep_json().iter().for_each(|json| claims::jsonl(json));
}
