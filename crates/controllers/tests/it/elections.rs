use crate::cluster::{Cluster, service};
use client::{Client, Kind};
use controllers::{Controller, Election, Settings, run_elected};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

fn candidate(client: &Client, identity: &str) -> (JoinHandle<()>, oneshot::Sender<()>) {
    let election = Election {
        lease: Duration::from_secs(2),
        renew_deadline: Duration::from_secs(1),
        retry: Duration::from_millis(100),
        ..Election::new("kube-system", "podway-controllers", identity)
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = Settings { controllers: [Controller::EndpointSlice].into(), ..Settings::lab() };
    let (client, end) = (client.clone(), async { drop(stopped.await) });
    let running = async move { run_elected(client, settings, election, end).await.unwrap() };
    (tokio::spawn(running), stop)
}

async fn lease(client: &Client) -> Value {
    let found = client::get(client, Kind::LEASE, Some("kube-system"), "podway-controllers").await;
    found.unwrap().unwrap_or_default()
}

#[tokio::test]
async fn one_leads_and_another_one_takes_over() {
    election(&mut Cluster::start().await).await;
}

pub(crate) async fn election(cluster: &mut Cluster) {
    cluster.stop_controllers();
    let client = cluster.theirs.clone();
    let mut view = cluster.view();
    let (first, _keep) = candidate(&client, "first");
    let named = |name: &str| {
        let mut service = service();
        service["metadata"]["name"] = name.into();
        service
    };
    cluster.create(named("one")).await;
    view.until("the first works", |view| view.slices("one").len() == 1).await;
    assert_eq!(lease(&client).await["spec"]["holderIdentity"], "first");
    let (second, stop) = candidate(&client, "second");
    // As by a power cut: nobody gives the Lease back.
    first.abort();
    assert!(first.await.is_err_and(|error| error.is_cancelled()));
    cluster.create(named("two")).await;
    view.until("the second works", |view| view.slices("two").len() == 1).await;
    let held = lease(&client).await;
    assert_eq!(
        (&held["spec"]["holderIdentity"], &held["spec"]["leaseTransitions"]),
        (&Value::from("second"), &Value::from(1))
    );
    drop(stop);
    second.await.unwrap();
    assert_eq!(lease(&client).await["spec"]["holderIdentity"], "", "it is given back");
}
