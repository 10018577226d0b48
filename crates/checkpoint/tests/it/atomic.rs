//! A failed write leaves the old content and no leftovers.

use std::fs;
use std::io;

use fathom_checkpoint::Error;
use fathom_checkpoint::atomic::{recover_dir, replace_dir, write_atomic, write_dir_atomic};

use crate::scratch::Scratch;

#[test]
fn a_failed_write_keeps_the_old_file_and_names_it() {
    let scratch = Scratch::new("failed-write");
    let path = scratch.path().join("metrics.json");
    write_atomic(&path, |out| out.write_all(b"old")).unwrap();
    let full = write_atomic(&path, |out| {
        out.write_all(b"new, but only half")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    let text = full.unwrap_err().to_string();
    assert!(text.contains("metrics.json") && text.contains("hint: the disk is full"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(scratch.listing(), ["metrics.json"]);
}

#[test]
fn a_successful_write_replaces_the_old_file() {
    let scratch = Scratch::new("replaced");
    let path = scratch.path().join("a");
    write_atomic(&path, |out| out.write_all(b"a longer old text")).unwrap();
    write_atomic(&path, |out| out.write_all(b"new")).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(scratch.listing(), ["a"]);
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let scratch = Scratch::new("places");
    fs::write(scratch.path().join("file"), "x").unwrap();
    for place in ["no/such/dir/a", "file/a"] {
        let path = scratch.path().join(place);
        let error = write_atomic(&path, |out| out.write_all(b"x")).unwrap_err();
        assert!(matches!(&error, Error::Write { path: p, .. } if *p == path), "{error}");
        assert!(error.to_string().contains("hint:"), "{error}");
    }
    assert!(write_atomic("/", |_| Ok(())).is_err());
}

#[test]
fn a_directory_appears_whole_or_not_at_all() {
    let scratch = Scratch::new("directory-whole");
    let step = scratch.path().join("step-1");
    let write = |text: &'static str, then: Result<(), Error>| {
        write_dir_atomic(&step, |dir| {
            fs::create_dir(dir.join("inner")).unwrap();
            fs::write(dir.join("inner/a"), text).unwrap();
            then
        })
    };
    write("first", Ok(())).unwrap();
    let failure = Error::NoWeights { path: step.clone() };
    assert!(write("half", Err(failure)).is_err());
    assert_eq!(fs::read_to_string(step.join("inner/a")).unwrap(), "first");
    write("second", Ok(())).unwrap();
    assert_eq!(fs::read_to_string(step.join("inner/a")).unwrap(), "second");
    assert_eq!(scratch.listing(), ["step-1"]);
}

#[test]
fn a_kill_in_the_middle_of_a_replacement_is_repaired() {
    let scratch = Scratch::new("killed");
    let step = scratch.path().join("step-1");
    // What a kill between the two renames leaves behind.
    fs::create_dir(scratch.path().join(".step-1.old")).unwrap();
    fs::create_dir(scratch.path().join(".step-1.tmp")).unwrap();
    fs::write(scratch.path().join(".step-1.old/a"), "old").unwrap();
    recover_dir(&step).unwrap();
    assert_eq!(fs::read_to_string(step.join("a")).unwrap(), "old");
    assert_eq!(scratch.listing(), ["step-1"]);
    recover_dir(&step).unwrap();
    assert_eq!(scratch.listing(), ["step-1"]);
}

#[test]
fn replacing_by_a_missing_directory_changes_nothing() {
    let scratch = Scratch::new("missing-new");
    let step = scratch.path().join("step-1");
    fs::create_dir(&step).unwrap();
    assert!(replace_dir(scratch.path().join("none"), &step).is_err());
    assert_eq!(scratch.listing(), ["step-1"]);
}
