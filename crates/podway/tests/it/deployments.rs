//! `deploy/`, as users apply it, to a lab's API and to a real one.

use crate::clients::{KUBECTLS, clients, root};
use crate::labs::{Done, Lab, PODWAY, new_name};
use crate::real_server::{LEFT_OUT, RealServer, Right, audit, deployed, granted, is_given, used};
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(command: &mut Command) -> Done {
    let done = Done::of(&command.output().unwrap());
    assert_eq!(done.code, 0, "{command:?}: {done:?}");
    done
}

/// What `deploy/` comes to by each way: a name, and the objects.
fn manifests() -> [(&'static str, String); 6] {
    let kubectl = clients().join(KUBECTLS[1]);
    let kustomize = |folder: &str| {
        run(Command::new(&kubectl).arg("kustomize").arg(root().join("deploy").join(folder))).stdout
    };
    let helm = |set: &str| {
        let mut helm = Command::new(clients().join("helm"));
        helm.args(["template", "podway"]).arg(root().join("deploy/helm/podway"));
        run(helm.args(["--namespace", "kube-system", "--include-crds", "--set", set])).stdout
    };
    [
        ("base", kustomize("base")),
        ("all-controllers", kustomize("all-controllers")),
        ("chart", helm("clusterCIDR=10.244.0.0/16")),
        ("chart with all controllers", helm("controllers.names={all}")),
        ("userspace", kustomize("userspace")),
        ("chart in mode userspace", helm("agent.proxyMode=userspace")),
    ]
}

/// The objects without what only one of the two ways adds: one line each, sorted.
fn rights(manifests: &str) -> Vec<String> {
    let documents = model::manifest::parse("manifests", manifests).unwrap();
    let objects = documents.into_iter().map(|document| document.value);
    let rights = objects.filter(|object| object["kind"] == "ClusterRole");
    let mut lines: Vec<_> =
        rights.map(|it| format!("{} {}", it["metadata"]["name"], it["rules"])).collect();
    lines.sort();
    lines
}

#[test]
fn the_chart_has_the_rights_of_the_base() {
    let [base, all, chart, full, userspace, relayed] = manifests().map(|(_, text)| rights(&text));
    assert_eq!(base.len(), 4, "agent, edge and two controllers: {base:?}");
    assert_eq!(base, chart);
    assert_eq!(all, full);
    assert!(userspace == base && relayed == base, "a relay asks no API");
    let definition = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let chart = definition("deploy/helm/podway/crds/virtualip.yaml");
    assert_eq!(definition("deploy/base/virtualip.yaml"), chart);
}

/// Where the agent is in mode userspace there is a relay, the same by each way, and nowhere else.
#[test]
fn mode_userspace_brings_its_relay() {
    let of = |text: &str, name: &str| {
        let documents = model::manifest::parse("manifests", text).unwrap();
        let mut objects = documents.into_iter().map(|document| document.value);
        let found =
            objects.find(|it| it["kind"] == "DaemonSet" && it["metadata"]["name"] == name)?;
        Some(found["spec"]["template"]["spec"]["containers"][0].clone())
    };
    let mut relays = Vec::new();
    for (name, text) in manifests() {
        let arguments = of(&text, "podway-agent").unwrap()["args"].to_string();
        let relay = of(&text, "podway-relay");
        assert_eq!(relay.is_some(), arguments.contains("--proxy-mode=userspace"), "{name}");
        relays.extend(
            relay.map(|relay| (relay["command"].clone(), relay["securityContext"].clone())),
        );
    }
    assert_eq!(relays.len(), 2);
    assert_eq!(relays[0], relays[1]);
    let mut helm = Command::new(clients().join("helm"));
    helm.args(["template", "podway"]).arg(root().join("deploy/helm/podway"));
    let done = Done::of(&helm.args(["--set", "agent.proxyMode=magic"]).output().unwrap());
    assert!(done.code != 0 && done.stderr.contains("there is no mode magic"), "{done:?}");
}

/// A dry run of everything, with unknown fields forbidden.
fn are_accepted(kubeconfig: &Path, folder: &Path) {
    for (name, text) in manifests() {
        // A lab has VirtualIPs without a definition.
        let is_definition = |it: &&str| it.contains("\nkind: CustomResourceDefinition\n");
        let documents: Vec<_> = text.split("---\n").filter(|it| !is_definition(it)).collect();
        let text = documents.join("---\n");
        let file = folder.join("manifests.yaml");
        std::fs::write(&file, text).unwrap();
        let mut kubectl = Command::new(clients().join(KUBECTLS[1]));
        kubectl.env("KUBECONFIG", kubeconfig).env("HOME", folder);
        kubectl.args(["apply", "--dry-run=server", "--validate=strict", "-f"]).arg(&file);
        let done = run(&mut kubectl);
        assert!(done.stdout.contains("daemonset.apps/podway-edge created"), "{name}: {done:?}");
    }
}

#[test]
fn the_api_of_a_lab_takes_the_manifests() {
    let lab = Lab::up(&[], &["--nodes", "1"]);
    let folder = Folder::new();
    let kubeconfig = folder.0.join("kubeconfig");
    std::fs::write(&kubeconfig, lab.run("lab kubeconfig").stdout).unwrap();
    are_accepted(&kubeconfig, &folder.0);
}

/// helm installs the chart and changes it, and kubectl applies what kustomize makes; every object is there after.
#[test]
fn a_real_server_takes_the_manifests() {
    if !is_given() {
        eprintln!("{LEFT_OUT}");
        return;
    }
    let server = RealServer::start();
    let with = |program: &str| {
        let mut command = Command::new(clients().join(program));
        command.env("KUBECONFIG", server.folder.join("kubeconfig")).env("HOME", &server.folder);
        command
    };
    let chart = root().join("deploy/helm/podway");
    for (verb, set) in
        [("install", "clusterCIDR=10.0.0.0/8"), ("upgrade", "controllers.names={all}")]
    {
        let mut helm = with("helm");
        helm.args([verb, "podway"]).arg(&chart).args(["--namespace", "kube-system", "--set", set]);
        assert!(run(&mut helm).stdout.contains("STATUS: deployed"));
    }
    let roles = run(with(KUBECTLS[1]).args(["get", "clusterroles", "-o", "name"])).stdout;
    let controllers = roles.lines().filter(|line| line.contains("/podway-")).count();
    assert_eq!(controllers, 13, "agent, edge and eleven controllers: {roles}");
    run(with("helm").args(["uninstall", "podway", "--namespace", "kube-system"]));
    for folder in ["deploy/base", "deploy/all-controllers"] {
        let mut kubectl = with(KUBECTLS[1]);
        run(kubectl.args(["apply", "--validate=strict", "-k"]).arg(root().join(folder)));
    }
    let daemons =
        run(with(KUBECTLS[1]).args(["-n", "kube-system", "get", "ds,deploy", "-o", "name"]));
    let expected = "daemonset.apps/podway-agent\ndaemonset.apps/podway-edge\ndeployment.apps/podway-controllers\n";
    assert_eq!(daemons.stdout, expected);
}

/// What does not show: repairs and somebody else's changes are told when there are some.
fn is_for_rare_moments(right: &Right) -> bool {
    right.ends_with(" events")
}

/// With a real API server, and no more rights than `deploy/` gives: Services answer, also while the server is away and
/// when it is back, an address is held, by service accounts as by kubeconfig, and no request is refused.
#[test]
fn a_node_of_a_real_cluster_works() {
    if !is_given() {
        eprintln!("{LEFT_OUT}");
        return;
    }
    let folder = Folder::new();
    let mut cluster = Command::new("unshare");
    cluster.args([
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
    ]);
    cluster.arg(root().join("crates/podway/tests/real/cluster")).arg(PODWAY);
    cluster.arg(clients().join(KUBECTLS[1])).arg(root().canonicalize().unwrap()).arg(&folder.0);
    let done = run(&mut cluster);
    let expected =
        "served\nserved by kubeconfig\nserved without the API\nserved after the API was away\n";
    assert_eq!(done.stdout, expected, "{}", done.stderr);
    let audit = audit(&folder.0);
    for (account, file) in [("podway-agent", "base/agent.yaml"), ("podway-edge", "base/edge.yaml")]
    {
        let (granted, used) = (granted(&deployed(file)), used(&audit, account));
        let idle = granted.into_iter().filter(|it| !used.contains(it) && !is_for_rare_moments(it));
        assert_eq!(
            idle.collect::<Vec<_>>(),
            Vec::<Right>::new(),
            "{account} has it and needs it not"
        );
    }
    assert!(!used(&audit, "podway-controllers").is_empty());
}

/// Gone with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("podway-{}", new_name()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
