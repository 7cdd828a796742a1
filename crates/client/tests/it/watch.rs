use crate::cluster::{Server, config_map, next};
use client::{Event, Kind, Watch, create, delete, watch_kinds};
use serde_json::Value;

fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect()
}

/// Objects that vanished while nobody listened are missing in the next whole list.
#[tokio::test]
async fn an_absent_server_costs_nothing_but_time() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, &config_map("old", "")).await.unwrap();
    create(&client, &config_map("both", "")).await.unwrap();
    let watch = Watch { namespace: Some("default".into()), ..Kind::CONFIG_MAP.into() };
    let mut watcher = watch_kinds(&client, &[watch]);
    match next(&mut watcher).await {
        Event::Restarted { objects, .. } => assert_eq!(names(&objects), ["both", "old"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(next(&mut watcher).await, Event::Synced);
    let address = server.stop().await;
    let server = Server::start_at(address).await;
    create(&client, &config_map("both", "")).await.unwrap();
    create(&client, &config_map("new", "")).await.unwrap();
    match next(&mut watcher).await {
        Event::Restarted { kind, objects } => {
            assert_eq!(kind, Kind::CONFIG_MAP);
            assert_eq!(names(&objects), ["both", "new"]);
        }
        other => panic!("{other:?}"),
    }
    delete(&client, Kind::CONFIG_MAP, Some("default"), "new", None).await.unwrap();
    match next(&mut watcher).await {
        Event::Deleted { object, .. } => {
            assert_eq!(names(std::slice::from_ref(&object)), ["new"]);
            assert_eq!(
                (&object["kind"], &object["apiVersion"]),
                (&"ConfigMap".into(), &"v1".into())
            );
        }
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

/// A kind that the API does not serve is empty; a server that does not answer yet is waited for.
#[tokio::test]
async fn all_kinds_are_synced_once() {
    let address = Server::start().await.stop().await;
    let client = client::connect(None, Some(&format!("http://{address}"))).await.unwrap();
    let unknown = Kind { plural: "wonders", kind: "Wonder", ..Kind::VIRTUAL_IP };
    let own = Watch { fields: Some("metadata.name=kubernetes".into()), ..Kind::SERVICE.into() };
    let mut watcher = watch_kinds(&client, &[own, unknown.into(), Kind::NODE.into()]);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), watcher.next()).await;
    assert!(early.is_err(), "an absent server is no empty world: {early:?}");
    let server = Server::start_at(address).await;
    let mut listed = Vec::new();
    loop {
        match next(&mut watcher).await {
            Event::Restarted { kind, objects } => listed.push((kind.kind, objects.len())),
            Event::Synced => break,
            other => panic!("{other:?}"),
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, [("Node", 0), ("Service", 1), ("Wonder", 0)]);
    server.stop().await;
}
