use crate::cluster::{Server, config_map};
use client::{Error, Kind, Watch, create, delete, get, list, patch_merge, patch_status, replace};
use serde_json::json;

#[tokio::test]
async fn objects_are_written_and_read() {
    let server = Server::start().await;
    let client = server.client().await;
    let default = Some("default");
    let created = create(&client, &config_map("a", "one")).await.unwrap();
    assert!(matches!(
        create(&client, &config_map("a", "x")).await,
        Err(Error::AlreadyExists { .. })
    ));
    let patch = json!({"data": {"text": "two"}});
    patch_merge(&client, Kind::CONFIG_MAP, default, "a", &patch).await.unwrap();
    assert!(matches!(replace(&client, &created).await, Err(Error::Conflict { .. })));
    let read = get(&client, Kind::CONFIG_MAP, default, "a").await.unwrap().expect("it was created");
    assert_eq!(read["data"]["text"], "two");
    let all =
        list(&client, &Watch { fields: Some("metadata.name=a".into()), ..Kind::CONFIG_MAP.into() })
            .await;
    assert_eq!(all.unwrap(), [read]);
    assert!(delete(&client, Kind::CONFIG_MAP, default, "a", None).await.unwrap());
    assert!(!delete(&client, Kind::CONFIG_MAP, default, "a", None).await.unwrap());
    assert_eq!(get(&client, Kind::CONFIG_MAP, default, "a").await.unwrap(), None);
}

#[tokio::test]
async fn status_is_written_apart() {
    let server = Server::start().await;
    let client = server.client().await;
    let vip = json!({"apiVersion": "podway.io/v1alpha1", "kind": "VirtualIP", "metadata": {"name": "edge"},
        "spec": {"addresses": ["10.1.1.200"]}});
    create(&client, &vip).await.unwrap();
    let status = json!({"status": {"owner": "n1"}, "spec": {"addresses": []}});
    let patched = patch_status(&client, Kind::VIRTUAL_IP, None, "edge", &status).await.unwrap();
    assert_eq!(
        (&patched["status"]["owner"], &patched["spec"]["addresses"][0]),
        (&json!("n1"), &json!("10.1.1.200"))
    );
    assert_eq!(patched["metadata"]["generation"], 1);
    let wrong = json!({"spec": {"addresses": ["nowhere"]}});
    match patch_merge(&client, Kind::VIRTUAL_IP, None, "edge", &wrong).await {
        Err(Error::Rejected { status, .. }) => assert_eq!(status.code, 422),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let server = Server::start().await;
    let client = server.client().await;
    server.stop().await;
    let answer = get(&client, Kind::NODE, None, "n").await;
    assert!(matches!(answer, Err(Error::Unreachable { .. })), "{answer:?}");
    let bad = client::connect(None, Some("10.1.1.1:6443")).await.map(drop);
    assert!(matches!(bad, Err(Error::BadServer { .. })), "{bad:?}");
}
