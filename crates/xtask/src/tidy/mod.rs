//! The rules of the house that a machine can check.
//!
//! Each check is a file: it takes the tree, and returns what is wrong, where, and what to do.

mod arrows;
mod claims;
mod comments;
mod duplicates;
mod honesty;
mod sizes;
mod tree;
mod words;

use anyhow::Result;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tree::Tree;

/// One breach of a rule, written `file:line: what; what to do`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Relative to the workspace.
    path: PathBuf,
    line: usize,
    what: String,
    remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path.display(), self.line, self.what, self.remedy)
    }
}

impl Finding {
    fn new(path: &Path, line: usize, what: impl Into<String>, remedy: &'static str) -> Self {
        Finding { path: path.to_owned(), line, what: what.into(), remedy }
    }
}

/// Runs every check on the workspace at `root` and prints what is wrong.
#[expect(clippy::print_stdout, reason = "findings are this command's output")]
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let tree = Tree::read(root)?;
    let mut findings = arrows::check(&arrows::metadata(root)?)?;
    let checks: [fn(&Tree) -> Vec<Finding>; 7] = [
        arrows::unsafe_code,
        claims::check,
        comments::check,
        duplicates::check,
        honesty::check,
        sizes::check,
        words::check,
    ];
    findings.extend(checks.iter().flat_map(|check| check(&tree)));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let (found, files) = (findings.len(), tree.files.len());
    println!("tidy: {files} files, {found} {}", if found == 1 { "finding" } else { "findings" });
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
