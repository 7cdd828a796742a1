//! What is kept on a disk outlives the server; what cannot be used is told.

use crate::ask::{ask, events};
use crate::cluster::{Cluster, Scratch, in_time, object, released};
use apiserver::{Access, ApiServer, Config, Disk, DiskError};
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use tokio::net::TcpListener;

const KITES: &str = "/apis/example.com/v1/namespaces/default/kites";

fn kite_definition() -> Value {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"tail": {"type": "integer"}}}}});
    json!({"metadata": {"name": "kites.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"kind": "Kite", "plural": "kites", "singular": "kite"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
    }})
}

fn service(name: &str, node_port: Option<u64>) -> kube::core::DynamicObject {
    let mut port = json!({"port": 80});
    if let Some(number) = node_port {
        port["nodePort"] = number.into();
    }
    object(json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [port]}}))
}

async fn get(cluster: &Cluster, path: &str) -> Value {
    let (code, value) = ask(cluster, "GET", path, "", "").await;
    assert_eq!(code, 200, "{path}: {value}");
    value
}

#[tokio::test]
async fn a_cluster_comes_back_as_it_was() {
    let scratch = Scratch::new("comes-back");
    let mut cluster = Cluster::start_in(&scratch.0, |_| {}).await;
    let post = PostParams::default();
    let web = cluster.api("v1", "Service").create(&post, &service("web", None)).await.unwrap();
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = kite_definition().to_string();
    assert_eq!(ask(&cluster, "POST", crds, "application/json", &definition).await.0, 201);
    let kite = r#"{"apiVersion": "example.com/v1", "kind": "Kite", "metadata": {"name": "red"}, "spec": {"tail": 3}}"#;
    assert_eq!(ask(&cluster, "POST", KITES, "application/json", kite).await.0, 201);
    let maps = cluster.api("v1", "ConfigMap");
    let owner = maps.create(&post, &object(json!({"metadata": {"name": "owner"}}))).await.unwrap();
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid().unwrap()}]}});
    maps.create(&post, &object(owned)).await.unwrap();
    let gone = maps.create(&post, &object(json!({"metadata": {"name": "gone"}}))).await.unwrap();
    maps.delete("gone", &DeleteParams::default()).await.unwrap();
    let paths = [
        "/api/v1/services",
        "/api/v1/configmaps",
        "/api/v1/namespaces",
        KITES,
        "/apis/networking.k8s.io/v1/ipaddresses",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(get(&cluster, path).await);
    }
    cluster.end();
    let cluster = Cluster::start_in(&scratch.0, |_| {}).await;
    // The server's own Service has the port of this run.
    let others = |list: &Value| -> Vec<Value> {
        let items = list["items"].as_array().unwrap().iter();
        items.filter(|it| it["metadata"]["name"] != "kubernetes").cloned().collect()
    };
    for (path, before) in paths.into_iter().zip(before) {
        assert!(!others(&before).is_empty(), "{path}");
        assert_eq!(others(&get(&cluster, path).await), others(&before), "{path}");
    }
    let services = cluster.api("v1", "Service");
    let port = web.data["spec"]["ports"][0]["nodePort"].as_u64();
    let taken = services.create(&post, &service("other", port)).await.unwrap_err().to_string();
    assert!(taken.contains("provided port is already allocated"), "{taken}");
    let other = services.create(&post, &service("other", None)).await.unwrap();
    assert_ne!(other.data["spec"]["clusterIP"], web.data["spec"]["clusterIP"]);
    let number = |version: Option<String>| version.unwrap().parse::<u64>().unwrap();
    assert!(number(other.resource_version()) > number(gone.resource_version()));
    let maps = cluster.api("v1", "ConfigMap");
    maps.delete("owner", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("owned").await.unwrap().is_none(), "who owns what is known again");
}

#[tokio::test]
async fn watchers_resume_after_a_restart_or_are_told_to_list() {
    let scratch = Scratch::new("resume");
    let mut cluster = Cluster::start_in(&scratch.0, |_| {}).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let put = async |cluster: &Cluster, name: &str| {
        let body = json!({"metadata": {"name": name}}).to_string();
        ask(cluster, "POST", maps, "application/json", &body).await.1
    };
    let version = |value: &Value| value["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let first = version(&put(&cluster, "a").await);
    let last = version(&put(&cluster, "b").await);
    cluster.end();
    let cluster = Cluster::start_in(&scratch.0, |_| {}).await;
    let watch =
        |version: &str| format!("{maps}?watch=1&timeoutSeconds=0&resourceVersion={version}");
    let expired = events(&cluster, &watch(&first)).await;
    assert_eq!(expired[0]["object"]["code"], 410, "{expired:?}");
    let next = version(&put(&cluster, "c").await);
    let resumed = events(&cluster, &watch(&last)).await;
    assert_eq!(resumed.len(), 1);
    assert_eq!(version(&resumed[0]["object"]), next);
    // Nothing was ever written of this kind: whatever number a client has, it missed nothing.
    let secrets = format!("/api/v1/secrets?watch=1&timeoutSeconds=0&resourceVersion={first}");
    assert_eq!(events(&cluster, &secrets).await.len(), 0);
}

#[tokio::test]
async fn a_kubeconfig_opens_the_next_server_too() {
    let scratch = Scratch::new("kubeconfig");
    let mut first: Option<(String, String)> = None;
    for _ in 0..2 {
        let disk = in_time(released(&scratch.0)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let access = Access::kept(&[address.ip()], &disk).unwrap();
        let token = access.token().to_owned();
        let kubeconfig = access.kubeconfig("x", "https://server").unwrap();
        let (kubeconfig, known) = first.get_or_insert((kubeconfig, token.clone()));
        assert_eq!(*known, token);
        let server = ApiServer::on_disk(&Config::new(address), disk).unwrap();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(server.serve_tls(listener, access.into(), async {
            ended.await.ok();
        }));
        let mut config = Kubeconfig::from_yaml(kubeconfig).unwrap();
        let cluster = config.clusters[0].cluster.as_mut().unwrap();
        cluster.server = Some(format!("https://{address}"));
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
        let client = Client::try_from(config).unwrap();
        assert_eq!(in_time(client.list_core_api_versions()).await.unwrap().versions, ["v1"]);
        end.send(()).unwrap();
        in_time(task).await.unwrap();
    }
}

fn opening(directory: &Path) -> DiskError {
    Disk::open(directory).expect_err("it cannot be used")
}

#[test]
fn what_is_no_store_is_left_alone() {
    let scratch = Scratch::new("foreign");
    let file = scratch.0.join("store.redb");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(opening(&scratch.0), DiskError::Foreign { .. }));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    fs::remove_file(&file).unwrap();
    let other = redb::Database::create(&file).unwrap();
    let writing = other.begin_write().unwrap();
    writing.open_table(redb::TableDefinition::<&str, u64>::new("theirs")).unwrap();
    writing.commit().unwrap();
    drop(other);
    let error = opening(&scratch.0);
    assert!(matches!(error, DiskError::Foreign { .. }), "{error:?}");
    assert!(error.to_string().contains("store.redb is not a store of Podway's"), "{error}");
}

#[test]
fn later_formats_damage_and_other_servers_are_told_apart() {
    let scratch = Scratch::new("formats");
    let disk = Disk::open(&scratch.0).unwrap();
    assert!(matches!(opening(&scratch.0), DiskError::Busy { .. }));
    drop(disk);
    let file = scratch.0.join("store.redb");
    let whole = fs::read(&file).unwrap();
    let numbers = redb::TableDefinition::<&str, u64>::new("numbers");
    let later = redb::Database::create(&file).unwrap();
    let writing = later.begin_write().unwrap();
    writing.open_table(numbers).unwrap().insert("format", 7).unwrap();
    writing.commit().unwrap();
    drop(later);
    let error = opening(&scratch.0);
    assert!(matches!(error, DiskError::Newer { found: 7, .. }), "{error:?}");
    assert!(error.to_string().contains("has format 7"), "{error}");
    for (name, at) in [("cut off", None), ("written over", Some(whole.len() as u64 / 2))] {
        fs::write(&file, &whole).unwrap();
        let mut open = fs::OpenOptions::new().write(true).open(&file).unwrap();
        match at {
            None => open.set_len(whole.len() as u64 / 3).unwrap(),
            Some(_) => {
                // The pages in use are the first ones.
                open.seek(SeekFrom::Start(4096)).unwrap();
                open.write_all(&vec![0x5a; whole.len().min(64 << 10) - 4096]).unwrap();
            }
        }
        let error = opening(&scratch.0);
        assert!(matches!(error, DiskError::Damaged { .. }), "{name}: {error:?}");
    }
    fs::write(&file, &whole).unwrap();
    assert!(Disk::open(&scratch.0).is_ok_and(|_| true), "a copy brings it back");
}

#[tokio::test]
async fn a_definition_that_waits_for_its_objects_waits_on() {
    let scratch = Scratch::new("waits-on");
    let mut cluster = Cluster::start_in(&scratch.0, |_| {}).await;
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = kite_definition().to_string();
    assert_eq!(ask(&cluster, "POST", crds, "application/json", &definition).await.0, 201);
    let kite = r#"{"apiVersion": "example.com/v1", "kind": "Kite", "metadata": {"name": "red", "finalizers": ["example.com/hold"]}}"#;
    assert_eq!(ask(&cluster, "POST", KITES, "application/json", kite).await.0, 201);
    let definition = format!("{crds}/kites.example.com");
    assert_eq!(ask(&cluster, "DELETE", &definition, "", "").await.0, 200);
    cluster.end();
    let cluster = Cluster::start_in(&scratch.0, |_| {}).await;
    let waiting = get(&cluster, &definition).await;
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(get(&cluster, KITES).await["items"][0]["metadata"]["name"], "red");
    let release = r#"{"metadata": {"finalizers": null}}"#;
    let red = format!("{KITES}/red");
    let (code, _) = ask(&cluster, "PATCH", &red, "application/merge-patch+json", release).await;
    assert_eq!(code, 200);
    assert_eq!(ask(&cluster, "GET", &definition, "", "").await.0, 404);
}
