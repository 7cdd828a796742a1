//! Which crate may stand on which: dependencies point one way, pure rooms have no doors.

use super::Finding;
use super::tree::Tree;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate and the crates of this house that it may use.
struct Room {
    name: &'static str,
    pure: bool,
    may_use: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { name: "wire", pure: true, may_use: &[] },
    Room { name: "model", pure: true, may_use: &["wire"] },
    Room { name: "program", pure: true, may_use: &["model", "wire"] },
    Room { name: "compile", pure: true, may_use: &["model", "program", "wire"] },
    Room { name: "netstate", pure: true, may_use: &["wire"] },
    Room {
        name: "explain",
        pure: true,
        may_use: &["compile", "model", "netstate", "program", "wire"],
    },
    Room { name: "kernel", pure: false, may_use: &["netstate", "wire"] },
    Room { name: "relay", pure: false, may_use: &["kernel"] },
    Room {
        name: "backend",
        pure: false,
        may_use: &["kernel", "model", "netstate", "program", "relay", "wire"],
    },
    Room { name: "client", pure: false, may_use: &["model"] },
    Room { name: "apiserver", pure: false, may_use: &["model"] },
    Room { name: "controllers", pure: false, may_use: &["client", "model"] },
    Room { name: "cni", pure: false, may_use: &["kernel", "netstate", "wire"] },
    Room {
        name: "edge",
        pure: false,
        may_use: &["client", "compile", "kernel", "model", "netstate", "program", "relay", "wire"],
    },
    Room {
        name: "agent",
        pure: false,
        may_use: &[
            "backend", "client", "compile", "kernel", "model", "netstate", "program", "wire",
        ],
    },
    Room {
        name: "lab",
        pure: false,
        may_use: &[
            "apiserver",
            "client",
            "cni",
            "compile",
            "controllers",
            "kernel",
            "model",
            "netstate",
            "wire",
        ],
    },
    Room {
        name: "podway",
        pure: false,
        may_use: &[
            "agent",
            "apiserver",
            "backend",
            "client",
            "cni",
            "compile",
            "controllers",
            "edge",
            "explain",
            "kernel",
            "lab",
            "model",
            "netstate",
            "program",
            "wire",
        ],
    },
    Room { name: "xtask", pure: false, may_use: &[] },
];

/// What a pure crate may use from outside: values, no clock, no I/O, no system calls.
const PURE_LIBRARIES: &[&str] = &["ipnet", "saphyr-parser", "serde", "serde_json", "thiserror"];

pub(super) fn metadata(root: &Path) -> Result<Value> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Holds the dependencies that `cargo metadata` tells against the table above.
pub(super) fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let house: Vec<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has a name")?;
        let manifest = PathBuf::from(format!("crates/{name}/Cargo.toml"));
        let mut breach = |what: String, remedy| {
            findings.push(Finding::new(&manifest, 1, what, remedy));
        };
        let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
            breach(
                format!("crate {name} has no row in the table of rooms"),
                "say in crates/xtask/src/tidy/arrows.rs what it may use",
            );
            continue;
        };
        for dependency in package["dependencies"].as_array().context("a list of dependencies")? {
            // What only tests use cannot reach production, and cargo itself refuses circles.
            if dependency["kind"] == "dev" {
                continue;
            }
            let uses = dependency["name"].as_str().context("a dependency has a name")?;
            if house.contains(&uses) && !room.may_use.contains(&uses) {
                breach(
                    format!("{name} may not use {uses}"),
                    "move the code, or argue for the arrow in ARCHITECTURE.md and in this table",
                );
            }
            if room.pure && !house.contains(&uses) && !PURE_LIBRARIES.contains(&uses) {
                breach(
                    format!("pure crate {name} uses {uses}"),
                    "pass what it would fetch as an argument, or move the code to a door",
                );
            }
        }
    }
    Ok(findings)
}

/// `unsafe` lives in `kernel` alone.
pub(super) fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    let outside = tree.rust().filter(|(file, _)| file.room() != Some("kernel"));
    outside
        .flat_map(|(file, rust)| {
            let found = rust.words.iter().filter(|word| word.text == "unsafe");
            found.map(|word| {
                let remedy = "give crate kernel a safe function for it";
                Finding::new(&file.path, word.line, "unsafe code outside of crate kernel", remedy)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(dependencies: &Value) -> Vec<String> {
        let metadata = json!({"packages": [
            {"name": "model", "dependencies": dependencies},
            {"name": "kernel", "dependencies": []},
        ]});
        check(&metadata).unwrap().into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn arrows_point_one_way() {
        assert_eq!(told(&json!([{"name": "serde_json", "kind": null}])), Vec::<String>::new());
        assert_eq!(told(&json!([{"name": "tokio", "kind": "dev"}])), Vec::<String>::new());
        let kernel = json!([{"name": "kernel", "kind": null}]);
        assert_eq!(told(&kernel), ["model may not use kernel"]);
        let tokio = json!([{"name": "tokio", "kind": null}]);
        assert_eq!(told(&tokio), ["pure crate model uses tokio"]);
        let unknown = json!({"packages": [{"name": "attic", "dependencies": []}]});
        assert_eq!(check(&unknown).unwrap().len(), 1);
    }

    #[test]
    fn the_table_has_no_circle() {
        for (index, room) in ROOMS.iter().enumerate() {
            for used in room.may_use {
                let position = ROOMS.iter().position(|other| other.name == *used);
                assert!(position.is_some_and(|at| at < index), "{} uses {used}", room.name);
            }
        }
    }

    #[test]
    fn unsafe_is_found_outside_of_kernel() {
        let text = "fn f() { unsafe { g() } }";
        let tree = Tree::of(&[("crates/kernel/src/a.rs", text), ("crates/lab/src/a.rs", text)]);
        let found = unsafe_code(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, Path::new("crates/lab/src/a.rs"));
    }
}
