//! Namespaces of the tests, and the witnesses in them.

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

/// An ordinary user becomes root of a user namespace, which the kernel allows only before threads start.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = enter_user_namespace;

extern "C" fn enter_user_namespace() {
    let (user, group) = (getuid(), getgid());
    if user.is_root() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWUSER).expect("user namespaces are enabled");
    for (file, map) in [
        ("setgroups", "deny".into()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), map).expect("one may map oneself");
    }
}

/// Runs a test in a new network namespace that ends with it.
pub(crate) fn isolated(test: impl FnOnce() + Send) {
    let outcome = std::thread::scope(|scope| {
        let body = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            test();
        };
        scope.spawn(body).join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Another new network namespace, which lives as long as the file.
pub(crate) fn another() -> File {
    std::thread::scope(|scope| {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            File::open("/proc/thread-self/ns/net").expect("the thread's own namespace")
        };
        scope.spawn(make).join().expect("the thread only opens a file")
    })
}

/// Runs `action` in the namespace behind `file`.
pub(crate) fn inside<T: Send>(file: &File, action: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let body = || {
            nix::sched::setns(file, CloneFlags::CLONE_NEWNET).expect("the namespace is ours");
            action()
        };
        match scope.spawn(body).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What a witness prints; it must succeed.
#[track_caller]
pub(crate) fn run(line: &str) -> String {
    feed(line, "")
}

/// What a witness prints when it reads `input`; it must succeed.
#[track_caller]
pub(crate) fn feed(line: &str, input: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a line of `text` holds all the words.
#[track_caller]
pub(crate) fn assert_line(text: &str, words: &[&str]) {
    let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "no line with {words:?} in:\n{text}");
}
