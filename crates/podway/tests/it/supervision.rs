//! Whatever is killed, and whenever: nothing of a lab is left behind.

use crate::labs::{Lab, PODWAY, example, new_name, podway, wait_until};
use crate::lifetimes::processes;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The numbers of a lab's processes whose command line begins so, as the machine counts them.
pub(crate) fn numbers(lab: &str, begin: &str) -> Vec<u32> {
    let entries = Path::new("/proc").read_dir().unwrap().flatten();
    let is_wanted = |path: &Path| {
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        let line = read("cmdline").replace('\0', " ");
        line.starts_with(begin)
            && read("environ").split('\0').any(|it| it == format!("PODWAY_LAB={lab}"))
    };
    let paths = entries.map(|entry| entry.path()).filter(|path| is_wanted(path));
    paths.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}

pub(crate) fn signal(signal: &str, process: u32) {
    let done = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(done.success(), "kill {signal} {process}");
}

pub(crate) fn is_listed(lab: &str) -> bool {
    podway(lab, &["lab", "list"]).stdout.lines().any(|line| line == lab)
}

#[test]
fn a_killed_supervisor_takes_everything_along() {
    let lab = Lab::up(&[&example("kubeadm-ha")], &[]);
    let supervisor = numbers(&lab.name, "podway lab-supervisor");
    assert_eq!(supervisor.len(), 1);
    signal("-KILL", supervisor[0]);
    wait_until("its end", || !is_listed(&lab.name));
    assert_eq!(processes(&lab.name), Vec::<String>::new());
    let status = lab.run("lab status");
    assert_eq!(status.code, 1, "{status:?}");
    assert!(status.stderr.contains("lab up"), "it says what to do: {status:?}");
    let again = lab.run("lab up --nodes 1");
    assert_eq!(again.code, 0, "its name is free: {again:?}");
}

/// `lab up` that has said this many words of progress.
fn begun(lab: &str, steps: usize) -> Child {
    let mut command = Command::new(PODWAY);
    command.args(["lab", "up", "-f"]).arg(example("kubeadm-ha")).env("PODWAY_LAB", lab);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.as_mut().unwrap());
    let mut line = String::new();
    for step in 0..steps {
        assert!(words.read_line(&mut line).unwrap() > 0, "step {step} of {steps}: {line}");
    }
    child
}

fn end(mut child: Child, how: &str) -> ExitStatus {
    signal(how, child.id());
    child.wait().unwrap()
}

#[test]
fn nothing_stays_of_a_lab_whose_front_is_killed_while_it_builds() {
    for steps in 0..4 {
        let lab = new_name();
        end(begun(&lab, steps), "-KILL");
        wait_until("its end", || !is_listed(&lab));
        wait_until("the end of its processes", || processes(&lab).is_empty());
    }
}

#[test]
fn nothing_stays_of_a_lab_that_is_interrupted_while_it_builds() {
    for steps in 1..4 {
        let lab = new_name();
        assert_eq!(end(begun(&lab, steps), "-INT").code(), Some(130), "after {steps} steps");
        assert_eq!(processes(&lab), Vec::<String>::new(), "after {steps} steps");
        assert!(!is_listed(&lab), "after {steps} steps");
    }
}

#[test]
fn a_node_ends_with_its_first_process_and_can_be_switched_on_again() {
    let lab = Lab::up(&[], &["--nodes", "2"]);
    let begin = "podway lab-node --lab ";
    let of_node_1 = |line: &String| line.contains("--node node-1 ");
    let first = numbers(&lab.name, &format!("{begin}{} --node node-1 ", lab.name));
    assert_eq!(first.len(), 1);
    signal("-KILL", first[0]);
    wait_until("node-1 is down", || lab.status()["nodes"][0]["up"] == false);
    assert!(!processes(&lab.name).iter().any(of_node_1), "its programs are gone too");
    assert_eq!(lab.status()["nodes"][1]["up"], true);

    let down = lab.run("lab exec node/node-1 -- true");
    assert_eq!(down.code, 1, "{down:?}");
    assert!(down.stderr.contains("lab start"), "it says what to do: {down:?}");
    assert_eq!(lab.run("lab start node/node-1").code, 0);
    wait_until("node-1 is ready", || lab.status()["nodes"][0]["ready"] == true);
    assert_eq!(lab.run("lab exec node/node-1 -- true").code, 0);
}

#[test]
fn a_machine_without_user_namespaces_is_told_what_to_do() {
    let runtime = std::env::temp_dir().join(new_name());
    std::fs::create_dir(&runtime).unwrap();
    // A user namespace in which there may be no further ones, and a root that has lost its capabilities.
    let script = "echo 0 >/proc/sys/user/max_user_namespaces
        exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" lab up";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, PODWAY]);
    let output = command.env("XDG_RUNTIME_DIR", &runtime).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{words}");
    assert!(words.contains("sysctl -w user.max_user_namespaces"), "{words}");
    assert_eq!(words.lines().count(), 1, "one sentence: {words}");
    std::fs::remove_dir_all(runtime).unwrap();
}
