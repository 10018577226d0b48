//! `train` as a person meets it: what it prints, how it stops, how it goes on.

use crate::program::{Ended, SMALL, command, fathom, folder, stages, trained};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

#[test]
fn without_a_terminal_progress_is_plain_lines_on_stderr_and_the_table_on_stdout() {
    let dir = folder("lines");
    std::fs::write(dir.join("small.toml"), SMALL).unwrap();
    let ended = fathom(&dir, &["train", "small.toml", "--set", "seed=4", "--threads", "1"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!(ended.stdout.clone() + &ended.stderr).contains(['\x1b', '\r']), "{ended:?}");
    for words in
        ["▸ base  pretrain · stage 2 of 4", "base 4/4  loss ", "✓ base", "1 thread", "seed 4"]
    {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    for words in [
        "model",
        "pass@1",
        "\nbase ",
        "\ntuned ",
        "\nreport  runs/small/report.html\n",
        "\ntime ",
        "\nmemory ",
    ] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
    assert!(ended.stdout.ends_with("run runs/small\n"), "{}", ended.stdout);
}

#[test]
fn a_finished_run_passes_over_its_stages() {
    let ended = fathom(trained(), &["train", "runs/small", "--resume"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stderr.matches("done before").count(), 4, "{}", ended.stderr);
}

#[test]
fn a_stage_that_its_time_ended_goes_on_with_more_to_the_same_model() {
    let dir = folder("minutes");
    let evaluation = "\n[[stage]]\nname = \"evaluation\"\nkind = \"evaluate\"\nmodels = [\"base\"]\n\
                      problems = 2\nsamples_per_problem = 1\nmax_new_tokens = 4\n";
    let recipe = stages(&["tokenizer", "base"]) + evaluation;
    std::fs::write(dir.join("small.toml"), recipe).unwrap();
    let train = |args: &[&str]| {
        let ended = fathom(&dir, &[&["train"], args].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stderr
    };
    train(&["small.toml", "--out", "whole"]);
    let short = train(&["small.toml", "--out", "timed", "--minutes", "0.00001"]);
    assert!(short.contains("`base` ends by its time, after 1 of 4 steps"), "{short}");
    let same = train(&["timed", "--resume"]);
    assert_eq!(same.matches("done before").count(), 3, "{same}");
    let more = train(&["timed", "--resume", "--minutes", "5"]);
    assert!(more.contains("`base` has more time now and goes on after step 1"), "{more}");
    for file in ["checkpoints/base/model.safetensors", "metrics.jsonl", "samples.jsonl"] {
        let [whole, timed] = ["whole", "timed"].map(|run| std::fs::read(dir.join(run).join(file)));
        assert!(whole.unwrap() == timed.unwrap(), "`{file}` differs");
    }
}

#[test]
fn minutes_are_refused_where_nothing_trains() {
    let dir = folder("no-minutes");
    std::fs::write(dir.join("words.toml"), stages(&["tokenizer"])).unwrap();
    let ended = fathom(&dir, &["train", "words.toml", "--minutes", "5"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("`--minutes` has no effect"), "{ended:?}");
}

#[test]
fn the_built_in_recipes_are_listed() {
    let list = fathom(trained(), &["train", "--list"]);
    for name in ["r1-tiny", "code-small", "gsm8k"] {
        assert!(list.stdout.contains(name), "{list:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_tells_how_to_go_on() {
    let dir = folder("ctrl-c");
    std::fs::write(dir.join("small.toml"), SMALL).unwrap();
    let args = ["train", "small.toml", "--set", "base.steps=100000"];
    let mut child =
        command(&dir, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("▸ base") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before the stage began");
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut stderr = String::new();
    lines.read_to_string(&mut stderr).unwrap();
    let ended =
        Ended { code: child.wait().unwrap().code().unwrap_or(-1), stdout: String::new(), stderr };
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(ended.stderr.contains("interrupted in stage `base`"), "{ended:?}");
    let told = ended.stderr.lines().last().unwrap();
    let typed: Vec<&str> = told.strip_prefix("go on with: ").unwrap().split(' ').collect();
    // What was told goes on, and ends at once where the time is short.
    let again = fathom(&dir, &[&typed[1..], &["--minutes", "0.001"]].concat());
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("going on after step"), "{again:?}");
}
