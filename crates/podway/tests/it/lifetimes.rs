//! Labs come, stand side by side, and go without a trace.

use crate::labs::{Lab, PODWAY, example, new_name, podway};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Processes that say in their environment that they belong to this lab.
pub(crate) fn processes(lab: &str) -> Vec<String> {
    let wanted = format!("PODWAY_LAB={lab}");
    let entries = Path::new("/proc").read_dir().unwrap().flatten();
    entries
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|octet| *octet == 0).any(|pair| pair == wanted.as_bytes())
        })
        .map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ")
        })
        .collect()
}

#[test]
fn down_leaves_nothing_and_may_be_said_twice() {
    let lab = Lab::up(&[&example("kubeadm-ha")], &[]);
    assert!(!processes(&lab.name).is_empty(), "agents run");
    for _ in 0..2 {
        let done = lab.run("lab down");
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(processes(&lab.name), Vec::<String>::new());
    }
    assert_ne!(lab.run("lab status").code, 0);
    let list = lab.run("lab list");
    assert!(!list.stdout.lines().any(|line| line == lab.name), "{list:?}");
}

#[test]
fn labs_stand_side_by_side() {
    let (one, other) = (Lab::up(&[&example("kubeadm-ha")], &[]), Lab::up(&[], &["--nodes", "2"]));
    assert_eq!(one.status()["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(other.status()["nodes"].as_array().unwrap().len(), 2);
    let twice = one.run("lab up");
    assert_ne!(twice.code, 0, "a lab of that name runs already");
    assert!(twice.stderr.contains("lab down"), "it says what to do: {twice:?}");
    drop(other);
    one.get("client", "http://10.1.1.200:30000/");
}

#[test]
fn a_lab_has_no_way_out() {
    let lab = Lab::up(&[], &["--nodes", "1"]);
    for place in ["client", "node/node-1", "underlay"] {
        let done = lab.shell(place, "cat /sys/class/net/*/type | sort -u; ls /sys/class/net");
        assert_eq!(done.code, 0, "{done:?}");
        assert!(!done.stdout.contains("wlan") && !done.stdout.contains("enp"), "{done:?}");
    }
    let done = lab.shell("client", "curl -sS -m 2 http://192.0.2.1/");
    assert_ne!(done.code, 0, "{done:?}");
}

#[test]
fn commands_in_a_lab_pass_their_exit_code_on() {
    let lab = Lab::up(&[], &["--nodes", "1"]);
    for (line, code) in [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143)] {
        assert_eq!(lab.shell("client", line).code, code, "{line}");
    }
    assert_eq!(lab.run("lab exec node/none -- true").code, 2);
    assert_ne!(podway(&new_name(), &["lab", "status"]).code, 0);
}

#[test]
fn whoever_reads_only_the_begin_sees_no_failure() {
    let example = example("kubeadm-ha");
    let question = ["--from", "client", "--to", "10.1.1.200:30000", "-f"].map(OsStr::new);
    let explain: Vec<_> = [OsStr::new("explain")].into_iter().chain(question).collect();
    let rows = [
        ["show", "routes"].map(OsStr::new).to_vec(),
        [explain, vec![example.as_os_str()]].concat(),
    ];
    for arguments in rows {
        let (nobody, out) = std::io::pipe().unwrap();
        drop(nobody);
        let output = Command::new(PODWAY).args(&arguments).stdout(out).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), told.as_ref()), (Some(0), ""), "{arguments:?}");
    }
}
