//! The cores that this process may run on, and the memory beside them. Linux tells it in files; elsewhere every
//! core counts as one, with one memory for all.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// What this process may use of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Threads that run at once: two for a core with two hyperthreads. What a container may use at most.
    pub logical: usize,
    /// Cores, each counted once; at most `logical`.
    pub physical: usize,
    /// Nodes of memory (NUMA) whose cores and whose memory it may use; 1 where the system has no notion of them.
    pub nodes: usize,
}

/// What was found when this was first asked.
pub fn cores() -> Cores {
    static CORES: OnceLock<Cores> = OnceLock::new();
    *CORES.get_or_init(|| {
        let logical = std::thread::available_parallelism().map_or(1, usize::from);
        let status = status();
        let system = System::this(&status);
        let physical = system.physical_cores().unwrap_or(logical).clamp(1, logical);
        Cores { logical, physical, nodes: system.nodes().len().max(1) }
    })
}

/// Spreads memory that is touched from now on, by this thread and those it starts, page by page over all nodes of
/// memory; also pages of files that are not in memory yet. For programs whose threads all read all of it:
/// left alone, a model lies in the memory of the node whose core first read it, and the cores of others wait for
/// that one.
///
/// Does nothing with one node, where somebody (`numactl`) chose a policy for this process, and when it is
/// called again. Returns whether memory is spread.
pub fn spread_memory() -> bool {
    static SPREAD: OnceLock<bool> = OnceLock::new();
    *SPREAD.get_or_init(|| {
        let status = status();
        let nodes = System::this(&status).nodes();
        nodes.len() > 1 && policy::interleave(&nodes)
    })
}

/// What Linux tells about this process.
fn status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// The files that are asked.
struct System<'a> {
    /// `/sys/devices/system`
    devices: &'a Path,
    /// What `/proc/self/status` holds.
    status: &'a str,
}

impl<'a> System<'a> {
    fn this(status: &'a str) -> Self {
        System { devices: Path::new("/sys/devices/system"), status }
    }

    /// Cores with an allowed thread; none if one of them does not tell its siblings.
    fn physical_cores(&self) -> Option<usize> {
        let threads = self.allowed("Cpus_allowed_list:")?;
        let siblings = |thread| {
            let topology = self.devices.join(format!("cpu/cpu{thread}/topology"));
            // The second name is that of Linux before 5.3.
            let names = ["core_cpus_list", "thread_siblings_list"];
            names.iter().find_map(|name| fs::read_to_string(topology.join(name)).ok())
        };
        let cores: Option<BTreeSet<String>> = threads.into_iter().map(siblings).collect();
        Some(cores?.len()).filter(|&n| n > 0)
    }

    /// Nodes of which a core and the memory are allowed.
    fn nodes(&self) -> Vec<usize> {
        let (Some(threads), Some(memories)) =
            (self.allowed("Cpus_allowed_list:"), self.allowed("Mems_allowed_list:"))
        else {
            return Vec::new();
        };
        let is_near = |node: &usize| {
            let list = fs::read_to_string(self.devices.join(format!("node/node{node}/cpulist")));
            list.ok()
                .and_then(|list| numbers(&list))
                .is_some_and(|near| !near.is_disjoint(&threads))
        };
        memories.into_iter().filter(is_near).collect()
    }

    /// A list of the process's status.
    fn allowed(&self, name: &str) -> Option<BTreeSet<usize>> {
        numbers(self.status.lines().find_map(|line| line.strip_prefix(name))?)
    }
}

/// The numbers of a list such as `0-3,8`; none if it is no list.
fn numbers(list: &str) -> Option<BTreeSet<usize>> {
    let mut numbers = BTreeSet::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(numbers)
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod policy {
    use std::ffi::c_long;
    use std::ptr::null;

    #[cfg(target_arch = "x86_64")]
    const SET_GET_MEMPOLICY: (c_long, c_long) = (238, 239);
    #[cfg(target_arch = "aarch64")]
    const SET_GET_MEMPOLICY: (c_long, c_long) = (237, 236);
    const MPOL_DEFAULT: i32 = 0;
    const MPOL_INTERLEAVE: c_long = 3;
    const WORD_BITS: usize = u64::BITS as usize;

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }

    /// Sets the policy of this thread unless it has one. The system may refuse (some containers do).
    pub(super) fn interleave(nodes: &[usize]) -> bool {
        let Some(last) = nodes.iter().max() else { return false };
        let mut mask = vec![0u64; last / WORD_BITS + 1];
        nodes.iter().for_each(|node| mask[node / WORD_BITS] |= 1 << (node % WORD_BITS));
        // The system reads one bit less than it is told.
        let n_bits = (mask.len() * WORD_BITS + 1) as c_long;
        let mut mode = MPOL_DEFAULT;
        let (set, get) = SET_GET_MEMPOLICY;
        let (none, here, zero) = (null::<u64>(), &raw mut mode, 0 as c_long);
        // SAFETY: writes one int, `mode`; asks for no mask and about no address.
        let known = unsafe { syscall(get, here, none, zero, none, zero) } == 0;
        // SAFETY: reads `n_bits` less one of the mask, which holds so many.
        known
            && mode == MPOL_DEFAULT
            && unsafe { syscall(set, MPOL_INTERLEAVE, mask.as_ptr(), n_bits) } == 0
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod policy {
    pub(super) fn interleave(_: &[usize]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of two cores with two hyperthreads each, numbered as Linux does on Intel servers.
    fn two_sockets(status: &str, check: impl Fn(&System)) {
        let name = format!("fathom-cores-{}-{}", std::process::id(), status.len());
        let devices = std::env::temp_dir().join(name);
        let write = |path: String, text: &str| {
            let path = devices.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder of our own");
            fs::write(path, text).expect("a file of our own");
        };
        for thread in 0..8 {
            let siblings = format!("{},{}\n", thread % 4, thread % 4 + 4);
            write(format!("cpu/cpu{thread}/topology/core_cpus_list"), &siblings);
        }
        write("node/node0/cpulist".into(), "0-1,4-5\n");
        write("node/node1/cpulist".into(), "2-3,6-7\n");
        write("node/node2/cpulist".into(), "\n"); // memory without cores
        check(&System { devices: &devices, status });
        fs::remove_dir_all(&devices).expect("it was ours");
    }

    #[test]
    fn hyperthreads_are_one_core() {
        two_sockets("Cpus_allowed_list:\t0-7\nMems_allowed_list:\t0-2\n", |system| {
            assert_eq!(system.physical_cores(), Some(4));
            assert_eq!(system.nodes(), [0, 1]);
        });
    }

    #[test]
    fn only_what_is_allowed_counts() {
        two_sockets("Cpus_allowed_list:\t0,4-5\nMems_allowed_list:\t0-1\n", |system| {
            assert_eq!(system.physical_cores(), Some(2));
            assert_eq!(system.nodes(), [0]);
        });
        two_sockets("Cpus_allowed_list:\t0-7\nMems_allowed_list:\t1\n", |system| {
            assert_eq!(system.nodes(), [1]);
        });
    }

    #[test]
    fn a_system_that_tells_nothing_has_one_node() {
        let system = System { devices: Path::new("/nowhere"), status: "Cpus_allowed_list:\t0-3\n" };
        assert_eq!((system.physical_cores(), system.nodes()), (None, vec![]));
        let found = cores();
        assert!(found.physical >= 1 && found.physical <= found.logical && found.nodes >= 1);
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(numbers(" 0-2,7\n"), Some(BTreeSet::from([0, 1, 2, 7])));
        assert_eq!(numbers("\n"), Some(BTreeSet::new()));
        assert_eq!((numbers("a-b"), numbers("3-")), (None, None));
    }

    /// The node this thread runs on is allowed, so the system takes the policy; in a thread of its own.
    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn the_system_takes_the_policy_once() {
        let twice = || (policy::interleave(&[0]), policy::interleave(&[0]));
        let (first, second) = std::thread::spawn(twice).join().expect("no panic");
        if !first {
            eprintln!("skipped: this system refuses memory policies, or has one");
        }
        assert!(!second, "a policy that is set stays");
    }
}
