//! A lab of one test, and what can be asked of it.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) const PODWAY: &str = env!("CARGO_BIN_EXE_podway");

/// Gone with everything in it when dropped.
pub(crate) struct Lab {
    pub(crate) name: String,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A folder of `examples/`.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Runs `podway` with these arguments on the lab of that name.
pub(crate) fn podway<S: AsRef<OsStr>>(lab: &str, arguments: &[S]) -> Done {
    Done::of(&command(lab, arguments).output().unwrap())
}

fn command<S: AsRef<OsStr>>(lab: &str, arguments: &[S]) -> Command {
    let mut command = Command::new(PODWAY);
    command.args(arguments).env("PODWAY_LAB", lab).stdin(Stdio::null());
    command
}

/// A name that no other lab of this machine has.
pub(crate) fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Lab {
    /// Brings up the manifests, with more arguments of `lab up`.
    pub(crate) fn up(manifests: &[&Path], more: &[&str]) -> Lab {
        let lab = Lab { name: new_name() };
        // An emulated processor or a busy machine takes its time.
        let mut arguments: Vec<&OsStr> = ["lab", "up", "--timeout", "240"].map(OsStr::new).into();
        for path in manifests {
            arguments.extend([OsStr::new("-f"), path.as_os_str()]);
        }
        arguments.extend(more.iter().map(OsStr::new));
        let done = podway(&lab.name, &arguments);
        assert_eq!(done.code, 0, "{}", done.stderr);
        lab
    }

    /// `examples/kubeadm-ha`, with its virtual IP at the node that it stays at: which node comes up first is
    /// chance, and the one of the highest priority takes it over.
    pub(crate) fn kubeadm_ha() -> Lab {
        let lab = Lab::up(&[&example("kubeadm-ha")], &[]);
        wait_until("the first node holds the virtual IP", || lab.owner("edge") == "node-1");
        lab
    }

    pub(crate) fn run(&self, line: &str) -> Done {
        podway(&self.name, &line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a shell line at a place of the lab.
    pub(crate) fn shell(&self, place: &str, line: &str) -> Done {
        podway(&self.name, &["lab", "exec", place, "--", "sh", "-c", line])
    }

    /// One request; what the echo server answered.
    pub(crate) fn get(&self, place: &str, url: &str) -> Value {
        let done = self.try_get(place, url);
        assert_eq!(done.code, 0, "{place} {url}: {}\n{}", done.stderr, self.logs());
        done.json()
    }

    pub(crate) fn try_get(&self, place: &str, url: &str) -> Done {
        podway(&self.name, &["lab", "exec", place, "--", "curl", "-sS", "-m", "3", url])
    }

    /// A request to the lab's API through its socket file; whatever it answered.
    pub(crate) fn api(&self, method: &str, path: &str) -> Value {
        let socket = ["curl", "-sS", "--unix-socket", "/run/podway/api.sock"];
        let url = format!("http://api{path}");
        let request = ["-X", method, &url];
        let line = [&["lab", "exec", "underlay", "--"], &socket[..], &request[..]].concat();
        let done = podway(&self.name, &line);
        assert_eq!(done.code, 0, "{path}: {}", done.stderr);
        done.json()
    }

    /// Requests without a pause, one connection each, until [`Traffic::stop`].
    pub(crate) fn traffic(&self, url: &str) -> Traffic {
        let until = std::env::temp_dir().join(format!("{}-stop", new_name()));
        let line = format!(
            "while [ ! -e {} ]; do curl -s -m 5 -o /dev/null -w '{ANSWER}' {url}; date +%T.%3N; done",
            until.display()
        );
        let arguments = ["lab", "exec", "client", "--", "sh", "-c", line.as_str()];
        let child = command(&self.name, &arguments).stdout(Stdio::piped()).spawn().unwrap();
        Traffic { child, until }
    }

    /// Requests on one connection, from the client, until [`Traffic::stop`]; another word than 200 ends it.
    pub(crate) fn lasting(&self, address: &str, port: u16) -> Traffic {
        let until = std::env::temp_dir().join(format!("{}-stop", new_name()));
        let line = format!(
            "import http.client, os, time
client = http.client.HTTPConnection('{address}', {port}, timeout=5)
client.connect()
client.auto_open = 0
try:
    while not os.path.exists('{}'):
        client.request('GET', '/')
        answer = client.getresponse()
        answer.read()
        print(answer.status)
        time.sleep(0.02)
except Exception as error:
    print(repr(error))",
            until.display()
        );
        let arguments = ["lab", "exec", "client", "--", "python3", "-u", "-c", line.as_str()];
        let child = command(&self.name, &arguments).stdout(Stdio::piped()).spawn().unwrap();
        Traffic { child, until }
    }

    /// Datagrams from the client, each from a socket of its own, until [`Traffic::stop`].
    pub(crate) fn datagrams(&self, address: &str, port: u16) -> Traffic {
        let until = std::env::temp_dir().join(format!("{}-stop", new_name()));
        let line = format!(
            "import os, socket, time
while not os.path.exists('{}'):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.sendto(b'x', ('{address}', {port}))
    try:
        print(200 if client.recv(9999) else 'empty')
    except Exception as error:
        print(repr(error))
    client.close()
    time.sleep(0.02)",
            until.display()
        );
        let arguments = ["lab", "exec", "client", "--", "python3", "-u", "-c", line.as_str()];
        let child = command(&self.name, &arguments).stdout(Stdio::piped()).spawn().unwrap();
        Traffic { child, until }
    }

    pub(crate) fn status(&self) -> Value {
        let done = self.run("lab status -o json");
        assert_eq!(done.code, 0, "{done:?}");
        done.json()
    }

    /// The node that holds the virtual IP, as its object says.
    pub(crate) fn owner(&self, virtual_ip: &str) -> String {
        let status = self.status();
        let listed = status["virtual_ips"].as_array().unwrap().iter();
        let owner = listed.filter(|it| it["name"] == virtual_ip).map(|it| it["owner"].as_str());
        owner.flatten().next().unwrap_or_default().to_owned()
    }

    /// Kills a program of a node, which its first process starts again; returns how many were killed.
    pub(crate) fn kill_9(&self, node: &str, program: &str) -> usize {
        let line = format!(
            "tr '\\0' ' ' </proc/1/cmdline | grep -q 'lab-node' || exit 9
             for process in /proc/[0-9]*; do
                 if tr '\\0' ' ' <$process/cmdline 2>/dev/null | grep -q '^podway {program} '; then
                     kill -9 ${{process#/proc/}} && echo killed
                 fi
             done"
        );
        let done = self.shell(&format!("node/{node}"), &line);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout.lines().count()
    }

    /// Everything that was logged, for a failing test.
    fn logs(&self) -> String {
        let mut text = String::new();
        let mut verbs = vec!["lab status".to_owned(), "lab logs".to_owned()];
        let nodes = podway(&self.name, &["lab", "status", "-o", "json"]).stdout;
        let nodes: Value = serde_json::from_str(&nodes).unwrap_or_default();
        let names =
            nodes["nodes"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str());
        verbs.extend(names.map(|name| format!("lab logs node/{name}")));
        for verb in verbs {
            let done = self.run(&verb);
            text += &format!("\n$ podway {verb}\n{}{}", done.stdout, done.stderr);
        }
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let done = podway(&self.name, &["lab", "down"]);
        if !std::thread::panicking() {
            assert_eq!(done.code, 0, "{done:?}");
        }
    }
}

/// Manifests in a file that is gone when this is dropped.
pub(crate) struct Manifest(pub(crate) PathBuf);

impl Manifest {
    pub(crate) fn of(objects: &[Value]) -> Manifest {
        let path = std::env::temp_dir().join(format!("{}.yaml", new_name()));
        let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
        std::fs::write(&path, documents.join("\n---\n")).unwrap();
        Manifest(path)
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// What curl says of a request: its status, how long it took, and what went wrong.
const ANSWER: &str = "%{http_code} after %{time_total} s: %{errormsg}, at ";

/// Requests that go on in the background.
pub(crate) struct Traffic {
    child: Child,
    until: PathBuf,
}

impl Traffic {
    /// What came of each request: `200`, or what went wrong.
    pub(crate) fn stop(mut self) -> Vec<String> {
        std::fs::write(&self.until, "").unwrap();
        let stdout = self.child.stdout.take().unwrap();
        let text = std::io::read_to_string(stdout).unwrap();
        assert!(self.child.wait().unwrap().success());
        let is_well = |line: &str| line.starts_with("200 ");
        text.lines().map(|line| if is_well(line) { "200" } else { line }.to_owned()).collect()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        std::fs::write(&self.until, "").unwrap();
        self.child.wait().unwrap();
        std::fs::remove_file(&self.until).unwrap();
    }
}

/// Looks until it is so, or fails at the deadline.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    const DEADLINE: Duration = Duration::from_secs(180);
    const PAUSE: Duration = Duration::from_millis(20);
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
