//! Claims about the file: what it accepts, who may share it, and that no money is lost.

mod conversations;
mod money;

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// An empty folder of its own for one test, removed with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fathom-store-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn refused(path: &Path) -> String {
    match Store::open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_store_survives_being_closed_and_is_made_once() {
    let folder = Folder::new();
    let path = folder.file("new/folder/serve.sqlite");
    let secret = {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.path(), Some(path.as_path()));
        store.add_key(&NewKey { name: "ann", ..NewKey::default() }).unwrap().1
    };
    for _ in 0..3 {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.keys().unwrap().len(), 1);
        assert_eq!(store.find_key(&hash_of(&secret)).unwrap().unwrap().name, "ann");
    }
    let text = std::fs::read(&path).unwrap();
    let wal = std::fs::read(folder.file("new/folder/serve.sqlite-wal")).unwrap_or_default();
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|at| at == secret.as_bytes());
    assert!(!holds(&text) && !holds(&wal), "the key itself is nowhere in the file");
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.file("private/serve.sqlite");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let store = Store::open(&path).unwrap();
    store.create_conversation(0, "x").unwrap();
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder.file("private/serve.sqlite-wal")), 0o600);
    drop(store);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    Store::open(&path).unwrap();
    assert_eq!(mode(&path), 0o600, "rights that are too many are taken away");
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let folder = Folder::new();
    let text = folder.file("letter.txt");
    let bytes = b"Dear all, this is no database. ".repeat(100);
    std::fs::write(&text, &bytes).unwrap();
    let told = refused(&text);
    assert!(told.contains("is damaged") && told.contains("\nhint: "), "{told}");
    assert_eq!(std::fs::read(&text).unwrap(), bytes);

    let short = folder.file("short");
    std::fs::write(&short, "x").unwrap();
    assert!(refused(&short).contains("is damaged"));
    assert_eq!(std::fs::read(&short).unwrap(), b"x");

    let other = folder.file("photos.sqlite");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE photos (id INTEGER)").unwrap();
    let before = std::fs::read(&other).unwrap();
    assert!(refused(&other).contains("is a database of another program"));
    assert_eq!(std::fs::read(&other).unwrap(), before);

    assert!(refused(&folder.0).contains("cannot open the store"), "a folder");
    assert!(refused(&text.join("below/a/file")).contains("cannot open the store"));
}

#[test]
fn a_file_of_a_newer_program_is_refused() {
    let folder = Folder::new();
    let path = folder.file("serve.sqlite");
    drop(Store::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let told = refused(&path);
    assert!(told.contains("version 99, this program knows 1\nhint: update"), "{told}");
}

#[test]
fn a_file_damaged_in_the_middle_is_an_error_and_no_panic() {
    let folder = Folder::new();
    let path = folder.file("serve.sqlite");
    let store = Store::open(&path).unwrap();
    for n in 0..300 {
        store.create_conversation(1, &format!("conversation number {n}")).unwrap();
    }
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 20_000, "{}", bytes.len());
    let mut n_told = 0;
    for from in (0..bytes.len()).step_by(1009) {
        let mut damaged = bytes.clone();
        let end = (from + 600).min(damaged.len());
        damaged[from..end].fill(0xa5);
        let copy = folder.file("copy.sqlite");
        let _ = std::fs::remove_file(folder.file("copy.sqlite-wal"));
        let _ = std::fs::remove_file(folder.file("copy.sqlite-shm"));
        std::fs::write(&copy, damaged).unwrap();
        let outcome = Store::open(&copy).and_then(|store| {
            store.keys()?;
            store.usage(0)?;
            store.conversations(1, "")
        });
        n_told += usize::from(outcome.is_err());
    }
    assert!(n_told > 0);
}

#[test]
fn one_file_may_be_open_twice() {
    let folder = Folder::new();
    let path = folder.file("serve.sqlite");
    let (server, tool) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
    let (_, secret) = tool.add_key(&NewKey { name: "ann", ..NewKey::default() }).unwrap();
    let hash = hash_of(&secret);
    assert!(server.find_key(&hash).unwrap().is_some(), "a new key is valid at once");
    tool.revoke_key("ann").unwrap();
    assert!(server.find_key(&hash).unwrap().is_none(), "a revoked key is not");
    // Both write at the same time, and none is turned away.
    std::thread::scope(|scope| {
        for store in [&server, &tool] {
            scope.spawn(move || {
                for n in 0..200 {
                    store.create_conversation(7, &format!("{n}")).unwrap();
                }
            });
        }
    });
    assert_eq!(server.conversations(7, "").unwrap().len(), 400);
}

#[test]
fn many_may_open_a_new_file_at_the_same_moment() {
    let folder = Folder::new();
    let path = folder.file("serve.sqlite");
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..6).map(|_| scope.spawn(|| Store::open(&path))).collect();
        for store in opened {
            store.join().unwrap().unwrap();
        }
    });
}

#[test]
fn names_of_keys_are_checked_and_may_be_used_again() {
    let store = Store::in_memory().unwrap();
    let add = |name| store.add_key(&NewKey { name, ..NewKey::default() });
    assert!(!store.has_keys().unwrap());
    let (key, secret) = add("ann").unwrap();
    assert!(secret.starts_with(&key.prefix) && key.prefix.len() == 16);
    assert!(key.owner != 0 && key.owner <= i64::MAX as u64);
    let taken = add("ann").unwrap_err().to_string();
    assert!(taken.contains("a key `ann` already\nhint: "), "{taken}");
    let long = "x".repeat(101);
    for bad in ["", " ann", "a\nb", "\u{1b}[2J", long.as_str()] {
        assert!(matches!(add(bad), Err(StoreError::BadName { .. })), "{bad:?}");
    }
    let hostile = "'; DROP TABLE keys; --\"%_";
    add(hostile).unwrap();
    let told = store.revoke_key("%").unwrap_err().to_string();
    assert!(told.contains("there is no key `%`") && told.contains(hostile), "{told}");
    store.revoke_key("ann").unwrap();
    assert!(store.find_key(&hash_of(&secret)).unwrap().is_none());
    let (again, _) = add("ann").unwrap();
    assert_ne!((again.id, again.owner), (key.id, key.owner), "another person's things stay theirs");
    for name in ["ann", hostile] {
        store.revoke_key(name).unwrap();
    }
    assert!(store.has_keys().unwrap(), "revoking the last key opens nothing");
    assert_eq!(store.keys().unwrap().len(), 3);
}
