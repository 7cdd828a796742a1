//! Requests with the answers that Kubernetes' documentation and API reference give for version 1.36.
//!
//! With `PODWAY_REAL_KUBECONFIG` the same rows are asked of the server that this kubeconfig names, so that the rows
//! themselves are checked. It needs a namespace `corpus` of its own, which is made and removed.

use crate::cluster::Cluster;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// `ask`: method and path; `media`: of the body, JSON where it is missing; `body`; `code`; `holds`: what the answer
/// has, by JSON pointer.
const ROWS: &str = include_str!("../corpus.json");
const NAMESPACES: &str = "/api/v1/namespaces";

async fn ask(client: &Client, row: &Value) -> (u16, Value) {
    let (method, path) = row["ask"].as_str().unwrap().split_once(' ').unwrap();
    let body = row.get("body").map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let media = row["media"].as_str().unwrap_or("application/json");
    let request = http::Request::builder().method(method).uri(path).header("content-type", media);
    let response = client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&text).unwrap_or_default())
}

async fn check(client: &Client) {
    let made =
        json!({"ask": format!("POST {NAMESPACES}"), "body": {"metadata": {"name": "corpus"}}});
    assert_eq!(ask(client, &made).await.0, 201);
    let rows: Vec<Value> = serde_json::from_str(ROWS).unwrap();
    let mut faults = Vec::new();
    for row in &rows {
        let (code, answer) = ask(client, row).await;
        if row["code"] != code {
            faults.push(format!("{row}: {code}: {}", answer["message"]));
        }
        for (pointer, wanted) in row["holds"].as_object().into_iter().flatten() {
            let found = answer.pointer(pointer).cloned().unwrap_or_default();
            if found != *wanted {
                faults.push(format!("{row}: {pointer} is {found}"));
            }
        }
    }
    let removed = json!({"ask": format!("DELETE {NAMESPACES}/corpus")});
    assert_eq!(ask(client, &removed).await.0, 200);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn this_server_answers_as_the_real_one() {
    let cluster = Cluster::start(|_| {}).await;
    check(&cluster.client).await;
    if std::env::var_os("PODWAY_REAL_KUBECONFIG").is_some() {
        check(&real().await).await;
    }
}

async fn real() -> Client {
    let path = std::env::var_os("PODWAY_REAL_KUBECONFIG").unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}
