//! Claims about reading JSONL: good rows arrive whole, bad ones are counted, bad files are named.

use std::path::PathBuf;

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file with the given bytes in a folder of its own, removed at the end.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, bytes: &[u8]) -> Self {
        static N_MADE: AtomicUsize = AtomicUsize::new(0);
        let number = N_MADE.fetch_add(1, Ordering::Relaxed);
        let folder = format!("fathom-jsonl-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

fn read(name: &str, bytes: &[u8]) -> Result<ProblemSet, Error> {
    let file = TempFile::new(name, bytes);
    read_problems(&file.0, &Fields::gsm8k())
}

const ROW: &str = r#"{"question": "2+2?", "answer": "2+2=<<2+2=4>>4\n#### 4"}"#;

#[test]
fn a_row_splits_into_question_reasoning_and_final_answer() {
    let set = read("good.jsonl", ROW.as_bytes()).unwrap();
    let problem = &set.problems[0];
    assert_eq!((problem.question.as_str(), problem.line), ("2+2?", 1));
    assert_eq!((problem.reasoning.as_str(), problem.final_answer.as_str()), ("2+2=4", "4"));
    assert_eq!(set.skipped.total(), 0);
}

#[test]
fn boxed_and_bare_answers_are_taken() {
    let rows = concat!(
        r#"{"question": "q", "answer": "So it is $\\boxed{\\frac{1}{2}}$."}"#,
        "\r\n",
        r#"{"question": "q", "answer": 7}"#,
    );
    let set = read("bare.jsonl", rows.as_bytes()).unwrap();
    assert_eq!(set.problems[0].final_answer, r"\frac{1}{2}");
    assert_eq!(set.problems[0].reasoning, r"So it is $\boxed{\frac{1}{2}}$.");
    assert_eq!(
        (set.problems[1].reasoning.as_str(), set.problems[1].final_answer.as_str()),
        ("", "7")
    );
}

#[test]
fn bad_lines_are_skipped_with_their_numbers() {
    let mut bytes = b"\xEF\xBB\xBF".to_vec();
    bytes.extend_from_slice(ROW.as_bytes());
    bytes.extend_from_slice(b"\n\n{\"question\": \"cut o\n[1]\n{\"question\": \"q\"}\n");
    bytes.extend_from_slice(b"{\"question\": \"\\u00e4\xFF\", \"answer\": \"1\"}\n");
    bytes.extend_from_slice(b"{\"question\": \" \", \"answer\": \"1\"}\n");
    bytes.extend_from_slice(b"{\"question\": \"q\", \"answer\": [1]}\n");
    bytes.extend_from_slice(b"{\"question\": \"q\", \"answer\": \"a\\nb\"}\n");
    bytes.extend_from_slice(b"{\"question\": \"q\", \"answer\": \"a ####  \"}\n");
    let set = read("bad.jsonl", &bytes).unwrap();
    assert_eq!(set.problems.len(), 1);
    assert_eq!(
        set.skipped.to_string(),
        "skipped 8 lines: 2 no final answer, 1 not JSON, 1 not a JSON object, 1 no field `answer`, \
         1 not UTF-8, 1 field `question` is empty, 1 field `answer` is not text"
    );
    assert_eq!(set.skipped.examples()[0], ("not JSON".into(), "line 3".to_string()));
}

#[test]
fn files_that_give_nothing_are_named() {
    let text = |result: Result<ProblemSet, Error>| result.unwrap_err().to_string();
    assert!(text(read("empty.jsonl", b"")).ends_with("empty.jsonl` is empty"));
    assert!(text(read("blank.jsonl", b"\n \n")).ends_with("blank.jsonl` is empty"));
    let other = text(read("other.jsonl", br#"{"problem": "p", "solution": "s"}"#));
    assert!(other.contains("other.jsonl`: skipped 1 line: 1 no field `question`"), "{other}");
    assert!(other.contains("hint: first skipped: line 1"), "{other}");
    assert!(other.contains("fields `problem`, `solution`"), "{other}");
    let missing = text(read_problems(Path::new("/no/such/file"), &Fields::gsm8k()));
    assert!(missing.starts_with("cannot read `/no/such/file`: "), "{missing}");
    assert!(text(read("a.gz", &[0x1F, 0x8B, 8, 0, 0])).contains("compressed with gzip\nhint: "));
    let folder = read_problems(&std::env::temp_dir(), &Fields::gsm8k());
    assert!(text(folder).ends_with("is not a file"));
}

#[test]
fn zstd_reads_like_plain_and_damage_is_an_error() {
    let rows = format!("{ROW}\n").repeat(500);
    let packed = ruzstd::encoding::compress_to_vec(
        rows.as_bytes(),
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let set = read("rows.jsonl.zst", &packed).unwrap();
    assert_eq!(set, read("rows.jsonl", rows.as_bytes()).unwrap());
    assert_eq!(set.problems.len(), 500);
    for cut in [4, 5, 6, packed.len() / 2, packed.len() - 5] {
        assert!(read("cut.zst", &packed[..cut]).is_err(), "cut at {cut}");
    }
    for at in 4..packed.len() {
        let mut damaged = packed.clone();
        damaged[at] ^= 0x55;
        let _ = read("damaged.zst", &damaged); // an error or rows, never a panic
    }
}

#[test]
fn calculator_marks_go_and_shifts_stay() {
    assert_eq!(strip_calculator_marks("a<<1+1=2>>2 b<<3=3>>3"), "a2 b3");
    assert_eq!(strip_calculator_marks("1 << 3\n8 >> 1"), "1 << 3\n8 >> 1");
    assert_eq!(strip_calculator_marks("x << y"), "x << y");
}

#[test]
fn gsm8k_reads_whole() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/math");
    for (name, rows) in [("gsm8k-train.jsonl", 7473), ("gsm8k-test.jsonl", 1319)] {
        let path = Path::new(folder).join(name);
        if !path.is_file() {
            eprintln!("skipped: `{}` is not here", path.display());
            continue;
        }
        let set = read_problems(&path, &Fields::gsm8k()).unwrap();
        assert_eq!((set.problems.len(), set.skipped.total()), (rows, 0));
        assert!(set.problems.iter().all(|problem| !problem.reasoning.contains("<<")));
        assert!(set.problems.iter().all(|problem| !problem.reasoning.is_empty()));
    }
}
