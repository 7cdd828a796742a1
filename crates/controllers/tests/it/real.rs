//! The same against a real API server, where one is given: with the rights of `deploy/` and no others.

use crate::cluster::Cluster;
use crate::real_server::{LEFT_OUT, RealServer, Right, deployed, granted, is_given, used};
use crate::{batches, elections, endpoints, events, nodes, orphans, workloads};
use client::{Client, connect, create};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ACCOUNT: &str = "podway-controllers";

impl RealServer {
    /// For who may do everything, and for the controllers.
    pub(crate) async fn clients(&self) -> (Client, Client) {
        let admin = connect(Some(&self.folder.join("kubeconfig")), None).await.unwrap();
        // Nobody makes it here, and pods wait for it.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"}});
        create(&admin, &account).await.unwrap();
        for object in rights() {
            create(&admin, &object).await.unwrap();
        }
        let asked =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = client::request_token(&admin, "kube-system", ACCOUNT, &asked).await.unwrap();
        let token = answer["status"]["token"].as_str().unwrap();
        let text = std::fs::read_to_string(self.folder.join("kubeconfig")).unwrap();
        let (before, rest) = text.split_once("token: \"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        let theirs = self.folder.join("theirs");
        std::fs::write(&theirs, format!("{before}token: \"{token}\"{after}")).unwrap();
        (admin, connect(Some(&theirs), None).await.unwrap())
    }
}

/// What `deploy/` gives to the account of the controllers.
fn rights() -> Vec<Value> {
    let mut all = deployed("base/controllers.yaml");
    all.extend(deployed("all-controllers/rights.yaml"));
    all.retain(|object| object["kind"] != "Deployment");
    all
}

async fn observe(used_so_far: &mut BTreeSet<Right>, scenario: impl AsyncFnOnce(&mut Cluster)) {
    let mut cluster = Cluster::real().await;
    scenario(&mut cluster).await;
    used_so_far.extend(used(&cluster.audit(), ACCOUNT));
}

/// What is granted and does not show in a scenario: reading again what somebody else has changed at the same moment,
/// counting an Event again, and naming an owner as one whose deletion waits, which only some servers ask a right for.
fn is_for_rare_moments(right: &Right) -> bool {
    right == "patch events" || right.starts_with("get ") || right.ends_with("/finalizers")
}

#[tokio::test]
async fn the_same_comes_of_it_with_a_real_server_and_no_more_rights_than_needed() {
    if !is_given() {
        eprintln!("{LEFT_OUT}");
        return;
    }
    let mut used = BTreeSet::new();
    observe(&mut used, workloads::rollout).await;
    observe(&mut used, workloads::claims).await;
    observe(&mut used, async |cluster: &mut Cluster| workloads::retention(cluster, false).await)
        .await;
    observe(&mut used, events::rollout).await;
    observe(&mut used, events::refusals).await;
    observe(&mut used, orphans::claims).await;
    observe(&mut used, batches::stateful_set).await;
    observe(&mut used, batches::daemon_set).await;
    observe(&mut used, batches::jobs).await;
    observe(&mut used, batches::cron_job).await;
    observe(&mut used, nodes::power_cut).await;
    observe(&mut used, nodes::not_ready).await;
    observe(&mut used, nodes::foreign_taint).await;
    observe(&mut used, endpoints::mirror).await;
    observe(&mut used, endpoints::selected).await;
    observe(&mut used, elections::election).await;
    let idle: Vec<_> = granted(&rights())
        .into_iter()
        .filter(|it| !used.contains(it) && !is_for_rare_moments(it))
        .collect();
    assert_eq!(idle, Vec::<Right>::new(), "granted, and used by nobody");
}
