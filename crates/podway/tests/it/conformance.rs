//! Kubernetes' own conformance tests, those that a lab passes: `conformance.txt` and `conformance-agnhost.txt` have their
//! names and may only grow.
//!
//! `PODWAY_E2E` names the binary of them, `PODWAY_AGNHOST` the program that most of their pods run: CONTRIBUTING.md says
//! how both are built.

use crate::clients::{KUBECTLS, Session, clients};
use std::process::Command;

const PASSED: &str = include_str!("../conformance.txt");
const PASSED_WITH_AGNHOST: &str = include_str!("../conformance-agnhost.txt");
const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost";

#[test]
fn a_lab_passes_conformance_tests() {
    check(PASSED, &[]);
}

#[test]
fn a_lab_with_their_program_passes_more_conformance_tests() {
    let Some(program) = std::env::var("PODWAY_AGNHOST").ok().filter(|it| !it.is_empty()) else {
        eprintln!(
            "conformance tests with agnhost are left out: PODWAY_AGNHOST names no binary of it"
        );
        return;
    };
    // What the image's own Dockerfile says.
    check(PASSED_WITH_AGNHOST, &[&format!("--image={AGNHOST}={program} pause")]);
}

fn check(passed: &str, arguments: &[&str]) {
    let Some(binary) = std::env::var_os("PODWAY_E2E") else {
        eprintln!("Kubernetes' conformance tests are left out: PODWAY_E2E names no binary of them");
        return;
    };
    let session = Session::with(arguments);
    let names: Vec<_> = passed.lines().map(quoted).collect();
    let [.., kubectl] = KUBECTLS;
    let mut command = Command::new(binary);
    command.args(["-provider=skeleton", "-num-nodes=2", "-ginkgo.no-color", "-ginkgo.timeout=1h"]);
    command.arg(format!("-kubeconfig={}", session.folder.join("kubeconfig").display()));
    command.arg(format!("-kubectl-path={}", clients().join(kubectl).display()));
    command.arg(format!("-ginkgo.focus={}", names.join("|")));
    let output = command.current_dir(&session.folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = format!("SUCCESS! -- {} Passed | 0 Failed", names.len());
    assert!(output.status.success() && said.contains(&passed), "{said}");
}

/// A regular expression (RE2) that is this text.
fn quoted(text: &str) -> String {
    let quote = |letter: char| match letter {
        letter if letter.is_alphanumeric() || letter == ' ' => letter.to_string(),
        other => format!("\\{other}"),
    };
    text.chars().map(quote).collect()
}
