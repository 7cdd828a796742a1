//! Tasks of the house itself, run as `cargo xtask NAME`.
//!
//! *Here*: checks that clippy does not make (`tidy`), and what benchmarks compare Podway with
//! (`kube-proxy-shape`), and facts about Kubernetes' types that other tools publish (`list-rules`,
//! `protobuf-fields`).
//! *Not here*: anything that a user of Podway needs.
//! *Start at* [`tidy::run`].

mod lists;
mod shape;
mod tidy;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask tidy
       cargo xtask kube-proxy-shape --services N --endpoints M > FILE.nft
       cargo xtask list-rules v1_36 > crates/apiserver/src/schema/lists.txt
       cargo xtask protobuf-fields > crates/apiserver/src/protobuf/fields.txt";

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["tidy"] => tidy::run(&root()),
        ["kube-proxy-shape", "--services", services, "--endpoints", endpoints] => {
            let size = shape::Size { services: services.parse()?, endpoints: endpoints.parse()? };
            shape::write(size, &mut std::io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        ["list-rules", version] => {
            lists::write(version, &mut std::io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        ["protobuf-fields"] => {
            let folder = root().join("crates/xtask/go/protobuf-fields");
            let status =
                Command::new("go").args(["run", "-mod=mod", "."]).current_dir(folder).status()?;
            Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => bail!("{USAGE}"),
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
