//! Kubernetes' own conformance tests, those that a lab passes: `conformance.txt` has their names and may only grow.
//!
//! `PODWAY_E2E` names the binary of them: CONTRIBUTING.md says how it is built.

use crate::clients::{KUBECTLS, Session, clients};
use std::process::Command;

const PASSED: &str = include_str!("../conformance.txt");

#[test]
fn a_lab_passes_conformance_tests() {
    let Some(binary) = std::env::var_os("PODWAY_E2E") else {
        eprintln!("Kubernetes' conformance tests are left out: PODWAY_E2E names no binary of them");
        return;
    };
    let session = Session::start();
    let names: Vec<_> = PASSED.lines().map(quoted).collect();
    let [.., kubectl] = KUBECTLS;
    let mut command = Command::new(binary);
    command.args(["-provider=skeleton", "-num-nodes=2", "-ginkgo.no-color", "-ginkgo.timeout=1h"]);
    command.arg(format!("-kubeconfig={}", session.folder.join("kubeconfig").display()));
    command.arg(format!("-kubectl-path={}", clients().join(kubectl).display()));
    command.arg(format!("-ginkgo.focus={}", names.join("|")));
    let output = command.current_dir(&session.folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = format!("SUCCESS! -- {} Passed | 0 Failed", names.len());
    assert!(output.status.success() && said.contains(&passed), "{said}\n{}", session.lab.logs());
}

/// A regular expression (RE2) that is this text.
fn quoted(text: &str) -> String {
    let quote = |letter: char| match letter {
        letter if letter.is_alphanumeric() || letter == ' ' => letter.to_string(),
        other => format!("\\{other}"),
    };
    text.chars().map(quote).collect()
}
