//! What holds of the reader of questions and answers for any bytes: `Ok`, or an error that names
//! the file. Run on mutations here and by the fuzzer (`fuzz/`).

use fathom_data::jsonl::{Fields, read_problems};

use crate::allocation::{bounded, clear};

/// What a reader may hold for each byte of its file.
const TIMES: u64 = 64;
/// And for its own: the window of a compressed stream may be 8 MiB and is filled by halves.
const FLOOR_BYTES: u64 = 40 << 20;

/// Problems that were read have questions and answers; skipped lines are counted.
pub(crate) fn jsonl(bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("fathom-{}.jsonl", std::process::id()));
    std::fs::write(&path, bytes).expect("the folder of temporary files takes one more");
    match bounded(bytes, TIMES, FLOOR_BYTES, || read_problems(&path, &Fields::gsm8k())) {
        Ok(set) => {
            assert!(!set.problems.is_empty());
            let empty = |problem: &fathom_data::jsonl::Problem| {
                problem.question.is_empty() || problem.final_answer.is_empty()
            };
            assert!(!set.problems.iter().any(empty));
        }
        Err(error) => clear(&error.to_string(), &path.display().to_string()),
    }
}

/// Seeds of [`jsonl`]: lines of every form, and a compressed file of one.
pub(crate) fn jsonl_seeds() -> Vec<Vec<u8>> {
    let lines = concat!(
        r#"{"question":"q","answer":"a <<1+2=3>>3\n#### 3"}"#,
        "\n\n",
        r#"{"question":"q","answer":"so \\boxed{4}"}"#,
        "\n",
        r#"{"question":1,"answer":5}"#,
    );
    // A zstd frame of one raw block, and one of a run.
    let frame = |kind: u8, n: usize, body: &[u8]| {
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, n as u8];
        let head = (n as u32) << 3 | u32::from(kind) << 1 | 1;
        bytes.extend(&head.to_le_bytes()[..3]);
        bytes.extend(body);
        bytes
    };
    let line = br#"{"question":"q","answer":"5"}"#;
    // A frame that asks for a window of 88 MiB.
    let mut wide = frame(0, line.len(), line);
    wide.splice(4..6, [0, 0x83]);
    vec![lines.into(), frame(0, line.len(), line), frame(1, 200, b"\n"), wide]
}
