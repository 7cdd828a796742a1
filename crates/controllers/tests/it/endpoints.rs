use crate::cluster::{Cluster, deployment, service};
use client::Kind;
use serde_json::{Value, json};

fn by_hand() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "legacy"},
        "subsets": [{
            "addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}],
            "notReadyAddresses": [{"ip": "192.0.2.3"}],
            "ports": [{"port": 5432}],
        }],
    })
}

fn endpoints(slice: &Value) -> Vec<(String, bool)> {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let of = |endpoint: &Value| {
        let address = endpoint["addresses"][0].as_str().unwrap().to_owned();
        (address, endpoint["conditions"]["ready"] == true)
    };
    endpoints.map(of).collect()
}

#[tokio::test]
async fn endpoints_written_by_hand_become_slices_and_go_with_them() {
    mirror(&mut Cluster::start().await).await;
}

pub(crate) async fn mirror(cluster: &mut Cluster) {
    let mut view = cluster.view();
    cluster
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "legacy"},
            "spec": {"ports": [{"port": 5432}]},
        }))
        .await;
    cluster.create(by_hand()).await;
    view.until("mirrored", |view| view.slices("legacy").len() == 1).await;
    let expected = [("192.0.2.1", true), ("192.0.2.2", true), ("192.0.2.3", false)];
    assert_eq!(endpoints(view.slices("legacy")[0]), expected.map(|(a, r)| (a.to_owned(), r)));

    let fewer =
        json!({"subsets": [{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 5432}]}]});
    cluster.patch(Kind::ENDPOINTS, "legacy", fewer).await;
    let one = [("192.0.2.9".to_owned(), true)];
    view.until("followed", |view| {
        view.slices("legacy").iter().any(|slice| endpoints(slice) == one)
    })
    .await;
    cluster.delete(Kind::ENDPOINTS, "legacy").await;
    view.until("gone", |view| view.slices("legacy").is_empty()).await;
}

#[tokio::test]
async fn weights_and_hints_reach_the_slices() {
    let mut cluster = Cluster::start().await;
    cluster.add_node("a", json!({"topology.kubernetes.io/zone": "z"})).await;
    let mut view = cluster.view();
    let mut service = service();
    service["spec"]["trafficDistribution"] = "PreferSameZone".into();
    cluster.create(service).await;
    let mut heavy = deployment(2);
    heavy["spec"]["template"]["metadata"]["annotations"] = json!({"podway.io/weight": "3"});
    cluster.create(heavy).await;
    view.until("two ready", |view| view.ready_endpoints("web").len() == 2).await;
    let slice = view.slices("web")[0];
    for endpoint in slice["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["hints"], json!({"forZones": [{"name": "z"}]}));
        let said = format!("{}=3", endpoint["addresses"][0].as_str().unwrap());
        let weights = slice["metadata"]["annotations"]["podway.io/weights"].as_str().unwrap();
        assert!(weights.split(',').any(|entry| entry == said), "{weights}");
    }
}
