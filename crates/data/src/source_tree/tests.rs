//! Claims about reading a folder: sorted, each text once, every refusal counted, no crash.

use super::*;

/// A folder of its own for one test, removed at the end.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fathom-tree-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn paths(tree: &SourceTree) -> Vec<&str> {
    tree.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn every_unfit_file_is_counted_with_its_reason() {
    let folder = TempFolder::new("unfit");
    folder.write("ok.rs", "fn main() {}\n");
    folder.write("bom.rs", "\u{feff}fn bom() {}\n");
    folder.write("sub/deep/ok.rs", "fn deep() {}\n");
    folder.write("copy.rs", "fn deep() {}\n");
    folder.write("a.bin.rs", b"fn a() {}\0");
    folder.write("latin1.rs", b"// gr\xF6\xDFe of the thing");
    folder.write("utf16.rs", b"\xFF\xFEf\0n\0");
    folder.write("empty.rs", "");
    folder.write("blank.rs", "\n \n");
    folder.write("large.rs", "fn large() {}\n".repeat(100));
    folder.write("min.rs", "let abcdef = 1; ".repeat(70));
    folder.write("wide.rs", format!("{}\n", "word ".repeat(25)).repeat(3));
    folder.write("numbers.rs", "12, 34, 56, 78\n".repeat(5));
    folder.write("page.rs", "<?xml version=\"1.0\"?>\n<page>some words</page>\n");
    folder.write("note.md", "words");
    folder.write(".hidden/h.rs", "fn hidden() {}\n");
    let options = SourceOptions { max_file_bytes: 1200, ..SourceOptions::with_extensions(&["RS"]) };
    let tree = read_sources(&folder.0, &options).unwrap();
    assert_eq!(paths(&tree), ["bom.rs", "copy.rs", "ok.rs"]);
    assert_eq!(tree.files[0].text, "fn bom() {}\n");
    assert_eq!(tree.n_other_extension, 1);
    assert_eq!(
        tree.skipped.to_string(),
        "skipped 11 files: 2 empty, 2 not UTF-8, 2 minified or generated, 1 binary, 1 too large, \
         1 mostly not letters, 1 XML, 1 duplicate"
    );
    let all = read_sources(&folder.0, &SourceOptions::with_extensions(&[])).unwrap();
    assert!(paths(&all).contains(&"note.md") && !paths(&all).contains(&".hidden/h.rs"));
}

#[cfg(unix)]
#[test]
fn links_loops_and_pipes_do_no_harm() {
    use std::os::unix::fs::symlink;
    let folder = TempFolder::new("links");
    folder.write("a/one.rs", "fn one() {}\n");
    symlink(&folder.0, folder.0.join("a/up")).unwrap();
    symlink("gone.rs", folder.0.join("dangling.rs")).unwrap();
    symlink("self.rs", folder.0.join("self.rs")).unwrap();
    symlink("a/one.rs", folder.0.join("link.rs")).unwrap();
    symlink(folder.0.join("a"), folder.0.join("folder.rs")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(folder.0.join("pipe.rs")).status();
    let tree = read_sources(&folder.0, &SourceOptions::with_extensions(&["rs"])).unwrap();
    assert_eq!(paths(&tree), ["a/one.rs"]);
    assert_eq!(tree.skipped.count("unreadable"), 2);
    assert_eq!(tree.skipped.count("link to a folder"), 1);
    assert_eq!(tree.skipped.count("duplicate"), 1);
    if pipe.is_ok_and(|status| status.success()) {
        assert_eq!(tree.skipped.count("not a regular file"), 1);
    }
}

#[test]
fn split_is_by_path_and_survives_new_files() {
    let folder = TempFolder::new("split");
    for idx in 0..400 {
        folder.write(&format!("f{idx}.rs"), format!("fn function_{idx}() {{}}\n"));
    }
    let options = SourceOptions { held_out_share: 0.1, ..SourceOptions::with_extensions(&["rs"]) };
    let before = read_sources(&folder.0, &options).unwrap();
    let n = before.held_out().count();
    assert!((20..60).contains(&n), "{n} of 400 held out");
    assert_eq!(before.train().count() + n, 400);
    assert_eq!(read_sources(&folder.0, &options).unwrap(), before);
    folder.write("another.rs", "fn another() {}\n");
    let after = read_sources(&folder.0, &options).unwrap();
    assert!(before.files.iter().all(|file| after.files.contains(file)));
    let other = SourceOptions { seed: 1, ..options };
    assert_ne!(read_sources(&folder.0, &other).unwrap(), before);
}

#[test]
fn both_sides_get_a_file_if_there_are_two() {
    let folder = TempFolder::new("few");
    folder.write("a.rs", "fn a() {}\n");
    let mut options = SourceOptions::with_extensions(&["rs"]);
    let tree = read_sources(&folder.0, &options).unwrap();
    assert_eq!((tree.train().count(), tree.held_out().count()), (1, 0));
    folder.write("b.rs", "fn b() {}\n");
    for share in [1e-9, 0.02, 0.999_999] {
        options.held_out_share = share;
        let tree = read_sources(&folder.0, &options).unwrap();
        assert_eq!((tree.train().count(), tree.held_out().count()), (1, 1));
    }
    options.held_out_share = 0.0;
    assert_eq!(read_sources(&folder.0, &options).unwrap().held_out().count(), 0);
}

#[test]
fn a_byte_budget_samples_the_whole_tree() {
    let folder = TempFolder::new("budget");
    for idx in 0..100 {
        folder.write(&format!("f{idx:02}.rs"), format!("fn function_{idx:02}() {{}}\n"));
    }
    let options =
        SourceOptions { max_total_bytes: Some(400), ..SourceOptions::with_extensions(&["rs"]) };
    let tree = read_sources(&folder.0, &options).unwrap();
    let total: usize = tree.files.iter().map(|file| file.text.len()).sum();
    assert!((400..440).contains(&total), "{total} bytes");
    assert_eq!(tree.skipped.count("beyond the byte budget") as usize + tree.files.len(), 100);
    assert!(tree.files.iter().any(|file| file.path.as_str() > "f50.rs"));
    assert!(tree.files.is_sorted_by(|a, b| a.path < b.path));
}

#[test]
fn a_root_that_gives_nothing_is_named() {
    let folder = TempFolder::new("none");
    let text = |path: &Path| {
        read_sources(path, &SourceOptions::with_extensions(&["rs"])).unwrap_err().to_string()
    };
    assert!(text(&folder.0.join("gone")).starts_with("cannot read `"));
    assert!(text(&folder.0).starts_with("no usable file under `"));
    folder.write("a.py", "x = 1");
    folder.write("b.rs", "");
    assert!(text(&folder.0).ends_with(
        "`: skipped 1 file: 1 empty\nhint: 1 files have another extension than asked for"
    ));
    assert!(text(&folder.0.join("a.py")).ends_with("a.py` is not a folder"));
}

#[test]
fn quality_rules_stand_at_their_published_limits() {
    let line = |n: usize| "a".repeat(n);
    assert_eq!(low_quality(&line(100), "a.rs"), None);
    assert_eq!(low_quality(&line(101), "a.rs"), Some("minified or generated"));
    let one_long = |n: usize| format!("{}\n{}", line(n), "ab\n".repeat(100));
    assert_eq!(low_quality(&one_long(1000), "a.rs"), None);
    assert_eq!(low_quality(&one_long(1001), "a.rs"), Some("minified or generated"));
    assert_eq!(low_quality("a+++", "a.rs"), None);
    assert_eq!(low_quality("a++++", "a.rs"), Some("mostly not letters"));
    assert_eq!(low_quality("中文注释 1234", "a.rs"), None);
    assert_eq!(low_quality(&"ab\n".repeat(10), "a.json"), Some("JSON or YAML of unfit size"));
    assert_eq!(low_quality(&"ab\n".repeat(20), "a.YAML"), None);
    assert_eq!(low_quality("<?xml version=\"1\"?> words", "a.xslt"), None);
}
