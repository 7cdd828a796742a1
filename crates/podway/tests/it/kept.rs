//! What is kept outlives the lab, and the API server without a lab.

use crate::labs::{Done, Lab, PODWAY, example, new_name, podway, wait_until};
use crate::supervision::{is_listed, numbers, signal};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A directory that goes with this value.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Scratch(std::env::temp_dir().join(format!("{}-data", new_name())))
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Names and uids.
fn identities(list: &Value) -> Vec<(String, String)> {
    let text = |it: &Value, field: &str| it["metadata"][field].as_str().unwrap().to_owned();
    let items = list["items"].as_array().unwrap().iter();
    items.map(|it| (text(it, "name"), text(it, "uid"))).collect()
}

#[test]
fn a_lab_goes_on_where_a_killed_one_was() {
    let scratch = Scratch::new();
    let manifests = example("kubeadm-ha");
    let lab = Lab::up(&[&manifests], &["--data-dir", scratch.path()]);
    let paths = ["/api/v1/services", "/api/v1/pods", "/apis/apps/v1/deployments", "/api/v1/nodes"];
    let before = paths.map(|path| identities(&lab.api("GET", path)));
    let address = |lab: &Lab| {
        let service = lab.api("GET", "/api/v1/namespaces/default/services/web");
        service["spec"]["clusterIP"].as_str().unwrap().to_owned()
    };
    let (cluster_ip, kubeconfig) = (address(&lab), lab.run("lab kubeconfig").stdout);
    signal("-KILL", numbers(&lab.name, "podway lab-supervisor")[0]);
    wait_until("the lab is gone", || !is_listed(&lab.name));

    let again = podway(&lab.name, &["lab", "up", "--data-dir", scratch.path()]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(paths.map(|path| identities(&lab.api("GET", path))), before);
    assert_eq!(address(&lab), cluster_ip);
    let server =
        |text: &str| text.lines().find(|line| line.contains("server:")).map(str::to_owned).unwrap();
    assert_eq!(server(&lab.run("lab kubeconfig").stdout), server(&kubeconfig));
    for url in ["http://10.1.1.200:30000/", "http://10.1.1.110:30000/"] {
        assert_eq!(lab.get("client", url)["namespace"], "default");
    }

    assert_eq!(lab.run("lab down").code, 0);
    let other = [
        "lab",
        "up",
        "--data-dir",
        scratch.path(),
        "-f",
        manifests.to_str().unwrap(),
        "--client-ip",
        "10.1.1.77",
    ];
    let refused = podway(&lab.name, &other);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("keeps a lab with another network"), "{refused:?}");
}

/// `podway apiserver`, which ends with this value.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(scratch: &Scratch) -> (Server, PathBuf) {
        let kubeconfig = scratch.0.join("kubeconfig");
        std::fs::remove_file(&kubeconfig).ok();
        let mut command = Command::new(PODWAY);
        command.args(["apiserver", "--secure-port=0", "--data-dir", scratch.path()]);
        command.arg("--kubeconfig").arg(&kubeconfig).stderr(Stdio::null());
        let server = Server(command.spawn().unwrap());
        wait_until("the server has written a kubeconfig", || kubeconfig.exists());
        (server, kubeconfig)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().unwrap();
    }
}

fn apiserver(arguments: &[&str]) -> Done {
    let mut command = Command::new(PODWAY);
    Done::of(&command.arg("apiserver").args(arguments).stdin(Stdio::null()).output().unwrap())
}

#[test]
fn a_store_that_cannot_be_used_is_told_with_its_own_exit_code() {
    let scratch = Scratch::new();
    std::fs::create_dir(&scratch.0).unwrap();
    let (server, kubeconfig) = Server::start(&scratch);
    let second = kubeconfig.with_extension("second");
    let start = || {
        let second = second.to_str().unwrap();
        apiserver(&["--secure-port=0", "--kubeconfig", second, "--data-dir", scratch.path()])
    };
    let busy = start();
    assert_eq!(busy.code, 69, "{busy:?}");
    assert!(busy.stderr.contains("is in use by another server"), "{busy:?}");
    drop(server);
    std::fs::write(scratch.0.join("store.redb"), "something else").unwrap();
    let foreign = start();
    assert_eq!(foreign.code, 65, "{foreign:?}");
    assert!(foreign.stderr.contains("is not a store of Podway's: move it away"), "{foreign:?}");
}
