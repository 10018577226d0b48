//! Claims about blocks on disk: found again, within a limit, private, and never a reason to fail.

use super::*;
use std::sync::mpsc;

const LONG: Duration = Duration::from_secs(20);

/// A directory that vanishes with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let own = format!("fathom-block-files-{}-{name}", std::process::id());
        let place = Place(std::env::temp_dir().join(own));
        let _ = fs::remove_dir_all(&place.0);
        place
    }

    /// A store that must not complain.
    fn open(&self, limit_bytes: u64) -> BlockFiles {
        let log = |text: &str| panic!("{text}");
        BlockFiles::open(&self.0, limit_bytes, Box::new(log)).unwrap()
    }

    /// A store, and what it complains about.
    fn listen(&self, limit_bytes: u64) -> (BlockFiles, mpsc::Receiver<String>) {
        let (said, heard) = mpsc::channel();
        let log = move |text: &str| said.send(text.to_owned()).unwrap_or_default();
        (BlockFiles::open(&self.0, limit_bytes, Box::new(log)).unwrap(), heard)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn held(files: &mut BlockFiles, keys: &[u128]) -> Vec<u128> {
    let state = files.shared.state();
    keys.iter().copied().filter(|key| state.has(*key)).collect()
}

#[test]
fn what_is_saved_is_loaded_before_and_after_it_is_written_and_by_a_later_program() {
    let place = Place::new("again");
    let mut files = place.open(1000);
    assert!(!files.holds(5) && files.load(5).is_none());
    files.save(5, &[1, 2, 3]);
    assert!(files.holds(5));
    assert_eq!(files.load(5), Some(vec![1, 2, 3]));
    assert!(files.settle(LONG));
    assert_eq!(files.load(5), Some(vec![1, 2, 3]));
    assert_eq!(place.names(), ["00000000000000000000000000000005.kv"]);
    drop(files);
    let mut files = place.open(1000);
    assert!(files.holds(5));
    assert_eq!(files.load(5), Some(vec![1, 2, 3]));
    files.forget(5);
    assert!(!files.holds(5) && place.names().is_empty());
    assert_eq!(files.capacity_bytes(), 1000);
}

#[test]
fn the_longest_unused_make_room_and_the_order_outlives_the_program() {
    let place = Place::new("limit");
    let mut files = place.open(30);
    for key in 1..=3 {
        files.save(key, &[key as u8; 10]);
    }
    assert!(files.settle(LONG));
    assert!(files.holds(1), "asking is a use");
    files.save(4, &[4; 10]);
    assert!(files.settle(LONG));
    assert_eq!(held(&mut files, &[1, 2, 3, 4]), [1, 3, 4]);
    files.save(5, &[5; 31]);
    assert!(files.settle(LONG));
    assert_eq!(held(&mut files, &[1, 3, 4, 5]), [1, 3, 4], "too large for all of it");
    assert!(files.load(3).is_some() && files.load(1).is_some());
    assert!(files.settle(LONG));
    drop(files);
    // Less room than before: the oldest goes at once.
    let mut files = place.open(25);
    assert!(files.settle(LONG));
    while files.shared.state().n_bytes > 25 {
        std::thread::yield_now();
    }
    assert_eq!(held(&mut files, &[1, 3, 4]), [1, 3]);
}

#[test]
fn files_of_others_are_left_alone_and_leftovers_go() {
    let place = Place::new("foreign");
    fs::create_dir_all(&place.0).unwrap();
    let leftover = format!(".{:032x}-77.tmp", 3);
    let fresh = format!(".{:032x}-78.tmp", 4);
    let upper = format!("{:032X}.kv", 0xabc);
    let foreign = ["notes.txt", "12.kv", &upper, ".x.tmp", &fresh];
    for name in foreign.iter().copied().chain([leftover.as_str()]) {
        fs::write(place.0.join(name), "mine").unwrap();
    }
    fs::create_dir(place.0.join(format!("{:032x}.kv", 9))).unwrap();
    let old = SystemTime::now() - 2 * STALE;
    let file = OpenOptions::new().write(true).open(place.0.join(&leftover)).unwrap();
    file.set_modified(old).unwrap();
    let mut files = place.open(10);
    files.save(1, &[1; 10]);
    files.save(2, &[2; 10]);
    assert!(files.settle(LONG));
    let names = place.names();
    assert!(foreign.iter().all(|name| names.iter().any(|other| other == name)), "{names:?}");
    assert!(!names.contains(&leftover), "{names:?}");
    assert_eq!(held(&mut files, &[1, 2, 9]), [2]);
}

#[cfg(unix)]
#[test]
fn nobody_but_the_user_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("private");
    let inner = Place(place.0.join("inner"));
    let mut files = inner.open(100);
    files.save(1, &[1]);
    assert!(files.settle(LONG));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner.0), 0o700);
    assert_eq!(mode(&inner.0.join(&inner.names()[0])), 0o600);
}

#[test]
fn a_disk_that_fails_is_reported_once_and_survived() {
    let place = Place::new("vanished");
    let (mut files, heard) = place.listen(100);
    files.save(1, &[1; 10]);
    assert!(files.settle(LONG));
    fs::remove_dir_all(&place.0).unwrap();
    for key in 2..5 {
        files.save(key, &[2; 10]);
        assert!(files.settle(LONG));
        assert_eq!((files.load(1), files.load(key)), (None, None));
    }
    let said: Vec<String> = heard.try_iter().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("cannot write"), "{said:?}");
    assert!(said.iter().any(|text| text.contains("cannot read")), "{said:?}");
    fs::create_dir_all(&place.0).unwrap();
    files.save(9, &[9; 10]);
    assert!(files.settle(LONG));
    assert_eq!(files.load(9), Some(vec![9; 10]), "it goes on when the disk does");
}

#[test]
fn a_file_of_another_length_is_a_miss() {
    let place = Place::new("length");
    let (mut files, heard) = place.listen(1000);
    for (key, bytes) in [(1, vec![1; 9]), (2, vec![1; 11]), (3, vec![])] {
        files.save(key, &[1; 10]);
        assert!(files.settle(LONG));
        fs::write(place.0.join(format!("{key:032x}.kv")), bytes).unwrap();
        assert_eq!((files.load(key), files.holds(key)), (None, false));
    }
    assert_eq!((heard.try_iter().count(), place.names().len()), (1, 0));
}

#[test]
fn a_full_queue_drops_what_comes_and_nobody_waits() {
    let place = Place::new("queue");
    let (go_on, wait) = mpsc::channel::<()>();
    // The writer hangs in its complaint about the directory that is gone.
    let log = move |_: &str| wait.recv().unwrap_or_default();
    let mut files = BlockFiles::with_queue(&place.0, 1000, 10, Box::new(log)).unwrap();
    fs::remove_dir_all(&place.0).unwrap();
    files.save(1, &[1; 4]);
    while files.holds(1) {
        std::thread::yield_now();
    }
    (2..6).for_each(|key| files.save(key, &[2; 4]));
    assert_eq!(held(&mut files, &[2, 3, 4, 5]), [2, 3]);
    assert!(!files.settle(Duration::from_millis(1)));
    fs::create_dir_all(&place.0).unwrap();
    go_on.send(()).unwrap();
    assert!(files.settle(LONG));
    assert_eq!(files.load(3), Some(vec![2; 4]));
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let place = Place::new("file");
    fs::write(&place.0, "not a directory").unwrap();
    assert!(BlockFiles::open(&place.0, 10, Box::new(|_| ())).is_err());
    fs::remove_file(&place.0).unwrap();
}
