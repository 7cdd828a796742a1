//! `/metrics`: what the server counts of itself.

use crate::access::{client, guarded};
use crate::ask::ask;
use crate::cluster::{Cluster, in_time};
use kube::Client;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn text(client: &Client) -> Result<String, u16> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    in_time(client.request_text(request)).await.map_err(|error| match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    })
}

/// The value of the one sample that begins so.
fn value(text: &str, sample: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    let found = lines.next()?.parse().ok();
    assert!(lines.next().is_none(), "{sample} stands there twice");
    found
}

#[tokio::test]
async fn requests_and_objects_are_counted_under_the_real_names() {
    let cluster = Cluster::start(|_| {}).await;
    for name in ["a", "b", "a"] {
        let map = json!({"metadata": {"name": name}}).to_string();
        ask(&cluster, "POST", MAPS, "application/json", &map).await;
    }
    ask(&cluster, "GET", &format!("{MAPS}?watch=1&timeoutSeconds=0"), "", "").await;
    let open = http::Request::get(format!("{MAPS}?watch=1")).body(kube::client::Body::empty());
    let open = in_time(cluster.client.send(open.unwrap())).await.unwrap();
    let text = text(&cluster.client).await.unwrap();
    let of = |family: &str, code: &str, dry_run: &str, scope: &str, verb: &str| {
        let sample = format!(
            r#"{family}{{{code}component="apiserver",{dry_run}group="",resource="configmaps",scope="{scope}",subresource="",verb="{verb}",version="v1"}}"#
        );
        value(&text, &sample)
    };
    let total = |code: &str, scope: &str, verb: &str| {
        let code = format!("code=\"{code}\",");
        of("apiserver_request_total", &code, "dry_run=\"\",", scope, verb)
    };
    assert_eq!(total("201", "resource", "POST"), Some(2.0), "{text}");
    assert_eq!(total("409", "resource", "POST"), Some(1.0), "{text}");
    assert_eq!(total("200", "namespace", "WATCH"), Some(1.0), "{text}");
    let took =
        of("apiserver_request_duration_seconds_count", "", "dry_run=\"\",", "resource", "POST");
    assert_eq!(took, Some(3.0), "{text}");
    let lasting = of("apiserver_longrunning_requests", "", "", "namespace", "WATCH");
    assert_eq!(lasting, Some(1.0), "the one that is open: {text}");
    for (sample, expected) in [
        ("apiserver_resource_objects{group=\"\",resource=\"nodes\"}", 0.0),
        ("apiserver_resource_objects{group=\"networking.k8s.io\",resource=\"servicecidrs\"}", 1.0),
        ("apiserver_storage_objects{resource=\"servicecidrs.networking.k8s.io\"}", 1.0),
        ("apiserver_current_inflight_requests{request_kind=\"mutating\"}", 0.0),
    ] {
        assert_eq!(value(&text, sample), Some(expected), "{sample}");
    }
    drop(open);
}

/// As of the real server: the role `system:monitoring` lets read them, and being somebody does not.
#[tokio::test]
async fn they_are_for_those_who_monitor() {
    let (address, access) = guarded().await;
    let kubeconfig = access.kubeconfig("lab", &format!("https://{address}")).unwrap();
    let administrator = client(&kubeconfig, |_| {}).await;
    let named = |config: &mut Kubeconfig, groups: Vec<String>| {
        let user = config.auth_infos[0].auth_info.as_mut().unwrap();
        user.impersonate = Some("somebody".into());
        user.impersonate_groups = Some(groups);
    };
    let somebody = client(&kubeconfig, |config| named(config, vec!["staff".into()])).await;
    let monitor =
        client(&kubeconfig, |config| named(config, vec!["system:monitoring".into()])).await;
    assert_eq!(text(&somebody).await, Err(403));
    assert!(text(&monitor).await.unwrap().contains("# TYPE apiserver_request_total counter\n"));
    assert!(text(&administrator).await.unwrap().contains("# TYPE kubernetes_build_info gauge\n"));
    let index: Value =
        administrator.request(http::Request::get("/").body(Vec::new()).unwrap()).await.unwrap();
    assert!(index["paths"].as_array().unwrap().contains(&json!("/metrics")));
}
