//! `podway controllers` as a process of its own, outside of the lab whose API it uses.

use crate::labs::{Lab, PODWAY, new_name, wait_until};
use std::process::{Command, Stdio};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/podway-controllers";

#[test]
fn chosen_controllers_work_by_kubeconfig_and_give_the_lease_back() {
    let lab = Lab::up(&[], &["--nodes", "1"]);
    let file = std::env::temp_dir().join(new_name());
    std::fs::write(&file, lab.run("lab kubeconfig").stdout).unwrap();
    let mut controllers = Command::new(PODWAY);
    controllers.arg("controllers").arg("--kubeconfig").arg(&file);
    controllers.args(["--controllers", "job-controller,cronjob-controller", "--identity", "me"]);
    let mut running = controllers.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let holder = || lab.api("GET", LEASE)["spec"]["holderIdentity"].clone();
    wait_until("it leads", || holder() == "me");
    let told = Command::new("kill").arg(running.id().to_string()).status().unwrap();
    assert!(told.success() && running.wait().unwrap().success(), "SIGTERM ends it well");
    assert_eq!(holder(), "", "another one need not wait");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn an_unknown_controller_is_told_with_those_that_there_are() {
    let output =
        Command::new(PODWAY).args(["controllers", "--controllers", "nonsense"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("endpointslice-controller, endpointslice-mirroring-controller"),
        "{told}"
    );
}
