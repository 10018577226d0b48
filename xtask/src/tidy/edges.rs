//! Which room may use which: the manifests against the table of `ARCHITECTURE.md`.

use super::Finding;

/// One crate of the product: its folder under `crates/` and the rooms it may depend on.
#[derive(Debug)]
pub struct Room {
    /// Folder name; the package is `fathom-<name>`.
    pub name: &'static str,
    /// Rooms that may stand in its `[dependencies]`.
    pub may_use: &'static [&'static str],
}

/// The rooms, lowest first; a row names only rows above it.
pub const ROOMS: &[Room] = &[
    Room { name: "kernels", may_use: &[] },
    Room { name: "tensor", may_use: &["kernels"] },
    Room { name: "checkpoint", may_use: &["kernels"] },
    Room { name: "text", may_use: &[] },
    Room { name: "data", may_use: &["text"] },
    Room { name: "model", may_use: &["kernels", "tensor", "checkpoint"] },
    Room { name: "engine", may_use: &["kernels", "tensor", "model"] },
    Room { name: "sandbox", may_use: &[] },
    Room {
        name: "train",
        may_use: &["kernels", "tensor", "checkpoint", "text", "data", "model", "engine", "sandbox"],
    },
    Room { name: "serve", may_use: &["text", "engine"] },
    Room { name: "hub", may_use: &[] },
    Room {
        name: "cli",
        may_use: &[
            "kernels",
            "tensor",
            "checkpoint",
            "text",
            "data",
            "model",
            "engine",
            "sandbox",
            "train",
            "serve",
            "hub",
        ],
    },
];

/// Libraries that may enter through one room only, because they are heavy or hostile to the rest.
const GATES: &[(&str, &str)] = &[
    ("axum", "serve"),
    ("hyper", "serve"),
    ("tokio", "serve"),
    ("parquet", "data"),
    ("arrow", "data"),
    ("ureq", "hub"),
];

/// A dependency as a manifest states it.
#[derive(Debug, PartialEq, Eq)]
struct Dependency {
    name: String,
    line: usize,
    /// Tests may reach what the room already uses through others.
    only_for_tests: bool,
}

/// Appends what is wrong with the dependencies of the manifest at `path` (`crates/x/Cargo.toml`).
pub fn check_manifest(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let Some(name) = path.strip_prefix("crates/").and_then(|p| p.strip_suffix("/Cargo.toml"))
    else {
        return;
    };
    let mut complain = |line: usize, message: String| {
        findings.push(Finding { path: path.to_owned(), line, message });
    };
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        complain(0, format!("room `{name}` is not in the table of rooms (xtask, `ROOMS`)"));
        return;
    };
    if !text.lines().any(|line| line.trim() == format!("name = \"fathom-{name}\"")) {
        complain(0, format!("the package of room `{name}` must be named `fathom-{name}`"));
    }
    for dependency in dependencies(text) {
        if let Some(used) = dependency.name.strip_prefix("fathom-") {
            let allowed = if dependency.only_for_tests {
                reaches(room, used)
            } else {
                room.may_use.contains(&used)
            };
            if !allowed {
                complain(dependency.line, format!("room `{name}` may not use room `{used}`"));
            }
        }
        let gate = GATES.iter().find(|(library, _)| *library == dependency.name);
        if let Some((library, gate)) = gate.filter(|(_, gate)| *gate != name) {
            complain(dependency.line, format!("`{library}` may enter through room `{gate}` only"));
        }
    }
}

/// Whether `room` uses `used`, directly or through others.
fn reaches(room: &Room, used: &str) -> bool {
    room.may_use.iter().any(|&next| {
        next == used
            || ROOMS.iter().find(|room| room.name == next).is_some_and(|room| reaches(room, used))
    })
}

/// The dependencies a manifest lists, in all its dependency sections.
fn dependencies(text: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let mut push = |name: &str, section: &str| {
            found.push(Dependency {
                name: name.trim().trim_matches(['"', '\'']).to_owned(),
                line: index + 1,
                only_for_tests: section.contains("dev-dependencies"),
            });
        };
        if let Some(header) = line.strip_prefix('[') {
            header.trim_end_matches(']').clone_into(&mut section);
            // `[dependencies.name]`: the header itself names one.
            if let Some((table, name)) = section.split_once("dependencies.") {
                push(name, &format!("{table}dependencies"));
            }
        } else if section.ends_with("dependencies")
            && !line.starts_with('#')
            && let Some((key, _)) = line.split_once('=')
        {
            // `name = ..` or `name.workspace = true`; a package name holds no dot.
            push(key.split('.').next().unwrap_or(key), &section);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(room: &str, body: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"fathom-{room}\"\n{body}");
        let mut findings = Vec::new();
        check_manifest(&format!("crates/{room}/Cargo.toml"), &text, &mut findings);
        findings
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.message))
            .collect()
    }

    #[test]
    fn a_row_names_only_rows_above_it() {
        for (row, room) in ROOMS.iter().enumerate() {
            for used in room.may_use {
                assert!(ROOMS[..row].iter().any(|r| r.name == *used), "{} {used}", room.name);
            }
        }
    }

    #[test]
    fn listed_edges_pass() {
        assert_eq!(
            complaints("tensor", "[dependencies]\nfathom-kernels.workspace = true\n"),
            [""; 0]
        );
        assert_eq!(complaints("data", "[dependencies]\nserde = \"1\"\nparquet = \"1\"\n"), [""; 0]);
    }

    #[test]
    fn unlisted_edges_are_found_in_every_notation() {
        let expected = ["4: room `text` may not use room `tensor`"];
        for body in [
            "[dependencies]\nfathom-tensor.workspace = true\n",
            "[dependencies]\nfathom-tensor = { path = \"../tensor\" }\n",
            "[build-dependencies]\nfathom-tensor = { path = \"../tensor\" }\n",
            "[target.'cfg(unix)'.dependencies]\n\"fathom-tensor\" = { path = \"../tensor\" }\n",
            "\n[dependencies.fathom-tensor]\nworkspace = true\n",
        ] {
            assert_eq!(complaints("text", body), expected, "{body}");
        }
    }

    #[test]
    fn tests_may_reach_what_the_room_reaches_through_others() {
        let body = "[dev-dependencies]\nfathom-checkpoint.workspace = true\n";
        assert_eq!(complaints("engine", body), [""; 0]);
        let body = "[dev-dependencies]\nfathom-text.workspace = true\n";
        assert_eq!(complaints("engine", body), ["4: room `engine` may not use room `text`"]);
    }

    #[test]
    fn gated_libraries_and_unknown_rooms_are_found() {
        let found = complaints("train", "[dependencies]\ntokio = \"1\"\n");
        assert_eq!(found, ["4: `tokio` may enter through room `serve` only"]);
        assert_eq!(complaints("attic", "").len(), 1);
    }
}
