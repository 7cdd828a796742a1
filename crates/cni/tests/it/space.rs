//! A node of one's own for a test, and pods on it.

use kernel::mount;
use kernel::namespace::{Kind, Namespace, make_net};
use kernel::netlink::{Monitor, Socket};
use kernel::spawn::{Place, spawn};
use nix::poll::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

const INSIDE: &str = "PODWAY_TEST_INSIDE";
/// Milliseconds that the kernel may take for something that it does in its own time.
const PATIENCE: u16 = 10_000;
const PODS: &str = "/run/netns";
pub(crate) const DATA: &str = "/run/ipam";

/// Runs a test in a process with network and mount namespaces of its own, so that it is a node and leaves nothing
/// behind; an ordinary user gets a user namespace first. `name` is the test's path in this binary.
pub(crate) fn on_a_node(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        mount::make_private(Path::new("/")).unwrap();
        mount::tmpfs(Path::new("/run")).unwrap();
        std::fs::create_dir(PODS).unwrap();
        return test();
    }
    let user = (!is_root()).then_some(Kind::User);
    let make = user.into_iter().chain([Kind::Net, Kind::Mount]).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]).env(INSIDE, "1");
    let child = spawn(command, Place { make, ..Place::default() }).unwrap();
    assert!(child.reap().unwrap().success(), "see above");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A container that has its namespace and nothing else yet.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) netns: Namespace,
}

impl Pod {
    pub(crate) fn new(id: &str) -> Pod {
        let netns = make_net().unwrap();
        let path = Path::new(PODS).join(id);
        netns.pin(&path).unwrap();
        Pod { id: id.to_owned(), path, netns }
    }

    pub(crate) fn call(&self, verb: &str, config: &Value) -> (u8, Value) {
        let netns = self.path.to_str().unwrap();
        call(
            &[
                ("CNI_COMMAND", verb),
                ("CNI_CONTAINERID", &self.id),
                ("CNI_IFNAME", "eth0"),
                ("CNI_NETNS", netns),
                ("CNI_PATH", "/opt/cni/bin"),
            ],
            config.to_string().as_bytes(),
        )
    }

    /// ADD, which must succeed; its result.
    #[track_caller]
    pub(crate) fn add(&self, config: &Value) -> Value {
        let (exit, result) = self.call("ADD", config);
        assert_eq!(exit, 0, "{result}");
        result
    }
}

/// One call of the plug-in: its exit code and what it printed, null for nothing.
pub(crate) fn call(environment: &[(&str, &str)], stdin: &[u8]) -> (u8, Value) {
    let variables: BTreeMap<_, _> = environment.iter().copied().collect();
    let outcome = cni::main(|name| variables.get(name).map(ToString::to_string), stdin);
    let stdout = match outcome.stdout.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap(),
    };
    (outcome.exit, stdout)
}

pub(crate) fn config(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "name": "podway",
        "type": "podway",
        "subnet": "10.244.0.0/24",
        "gateway": "10.244.0.1",
        "mtu": 1450,
        "dataDir": DATA,
        "routeProtocol": 77,
    })
}

/// `config` with some more fields, or other values.
pub(crate) fn with(config: &Value, fields: Value) -> Value {
    let mut config = config.clone();
    let (Value::Object(into), Value::Object(fields)) = (&mut config, fields) else {
        unreachable!("both are objects")
    };
    into.extend(fields);
    config
}

/// Names of the reserved addresses.
pub(crate) fn reserved() -> Vec<String> {
    let names = std::fs::read_dir(DATA).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
    names.sort();
    names
}

/// Returns once `link` is away from this namespace, as the kernel announces it.
pub(crate) fn wait_until_gone(link: &str) {
    let mut monitor = Monitor::route().unwrap();
    let mut socket = Socket::route().unwrap();
    while kernel::route::link(&mut socket, link).unwrap().is_some() {
        let mut files = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut files, PATIENCE), Ok(1), "{link} is still there");
        monitor.drain().unwrap();
    }
}
