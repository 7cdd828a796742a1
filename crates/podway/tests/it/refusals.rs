//! Bad manifests: named by file and line, exit code 2, nothing half-applied.

use crate::labs::{new_name, podway};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder of one test, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(new_name());
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: fine\n";

fn up(path: &Path) -> (String, crate::labs::Done) {
    let name = new_name();
    let done = podway(&name, &["lab", "up", "-f", path.to_str().unwrap()]);
    (name, done)
}

#[test]
fn bad_manifests_are_refused_with_their_place() {
    let rows = [
        ("kind: [", "bad.yaml:2:"),
        ("kind: Service\n", "bad.yaml:1: apiVersion"),
        (
            "apiVersion: v1\nkind: Node\nmetadata:\n  labels: {}\n",
            "bad.yaml:3: Node: metadata.name",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports:\n  - port: 80\n    nodePort: none\n",
            "bad.yaml:7: Service default/s: spec.ports[0].nodePort",
        ),
        (
            "apiVersion: podway.io/v1alpha1\nkind: VirtualIP\nmetadata: {name: v}\nspec:\n  addresses: [10.1.1.300]\n",
            "bad.yaml:5: VirtualIP v: spec.addresses[0]",
        ),
    ];
    for (text, start) in rows {
        let folder = Folder::new();
        folder.write("bad.yaml", text);
        folder.write("fine.yaml", NAMESPACE);
        let (name, done) = up(&folder.0);
        assert_eq!(done.code, 2, "{text}: {done:?}");
        assert!(done.stderr.contains(start), "{start:?} is not in {:?}", done.stderr);
        let status = podway(&name, &["lab", "status"]);
        assert!(status.stderr.contains("no lab"), "nothing is left: {status:?}");
    }
}

#[test]
fn every_fault_of_every_file_is_told_at_once() {
    let folder = Folder::new();
    folder.write("a.yaml", "apiVersion: v1\nkind: Node\n");
    folder.write(
        "b.json",
        "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"p\"}}",
    );
    let (_, done) = up(&folder.0);
    assert_eq!(done.code, 2);
    for word in ["a.yaml:1: Node: metadata.name", "b.json:1: Pod default/p: spec.containers"] {
        assert!(done.stderr.contains(word), "{word:?} is not in {:?}", done.stderr);
    }
}

#[test]
fn files_that_are_not_there_are_named() {
    let (_, done) = up(Path::new("no/such/folder"));
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("no/such/folder"), "{done:?}");
}

#[test]
fn arguments_that_no_agent_takes_are_told_once() {
    let arguments = ["lab", "agent", "node/node-1", "--", "--proxy-mode=none"];
    let done = podway(&new_name(), &arguments);
    assert_eq!(done.code, 2);
    let said = "there are nft, iptables, ipvs and userspace";
    assert_eq!(done.stderr.matches(said).count(), 1, "{}", done.stderr);
}

#[test]
fn standard_input_is_a_manifest_too() {
    let name = new_name();
    let mut child = Command::new(env!("CARGO_BIN_EXE_podway"))
        .args(["lab", "up", "-f", "-"])
        .env("PODWAY_LAB", &name)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"apiVersion: v1\nkind: Node\nmetadata: {}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("-:3: Node: metadata.name"), "{told}");
}
