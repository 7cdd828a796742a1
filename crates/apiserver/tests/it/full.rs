//! A disk without room: a small file system of the test's own.

use crate::ask::{ask, events};
use crate::cluster::{Cluster, DEADLINE, Scratch, in_time};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Where the file system is to be, for the process that has it.
const INSIDE: &str = "PODWAY_TEST_FULL_DISK";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";

/// Runs a test in a process with a mount namespace of its own, in a directory that has 8 MiB.
fn on_a_small_disk(name: &str, test: impl FnOnce(&Path)) {
    if let Some(directory) = std::env::var_os(INSIDE) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&directory);
        assert!(mount.status().unwrap().success());
        return test(Path::new(&directory));
    }
    let scratch = Scratch::new("full-disk");
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
    inside.args([name, "--exact", "--nocapture"]).env(INSIDE, &scratch.0);
    assert!(inside.status().unwrap().success(), "see above");
}

async fn put(cluster: &Cluster, name: &str, size: usize) -> (u16, String) {
    let map = json!({"metadata": {"name": name}, "data": {"x": "x".repeat(size)}}).to_string();
    let (code, answer) = ask(cluster, "POST", MAPS, JSON, &map).await;
    (code, answer["message"].as_str().unwrap_or_default().to_owned())
}

async fn names(cluster: &Cluster) -> Vec<String> {
    let (code, list) = ask(cluster, "GET", MAPS, "", "").await;
    assert_eq!(code, 200, "what is there is read: {list}");
    let items = list["items"].as_array().unwrap().iter();
    items.map(|map| map["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_full_disk_loses_nothing_and_goes_on() {
    on_a_small_disk("full::a_full_disk_loses_nothing_and_goes_on", |directory| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(fill_and_empty(directory));
    });
}

async fn fill_and_empty(directory: &Path) {
    let store = directory.join("store");
    let mut cluster = Cluster::start_in(&store, |_| {}).await;
    assert_eq!(put(&cluster, "first", 10).await.0, 201);
    // Somebody else takes what is left.
    let (ballast, mut taken) = (directory.join("ballast"), Vec::new());
    while std::fs::write(&ballast, vec![0; taken.len() + (64 << 10)]).is_ok() {
        taken.resize(taken.len() + (64 << 10), 0);
    }
    std::fs::write(&ballast, &taken).ok();

    let mut kept = vec!["first".to_owned()];
    let message = loop {
        let name = format!("m-{:04}", kept.len());
        match put(&cluster, &name, 100_000).await {
            (201, _) => kept.push(name),
            (code, message) => {
                assert_eq!(code, 507, "{message}");
                break message;
            }
        }
    };
    let begin = "the server's disk is full, so nothing was written: ";
    assert!(message.starts_with(begin) && message.contains("No space left"), "{message}");
    kept.sort();
    in_time(readable(&cluster)).await;
    assert_eq!(names(&cluster).await, kept, "what was acknowledged, and nothing else");
    let (code, _) = put(&cluster, "refused", 10).await;
    assert_eq!(code, 507, "as long as there is no room");
    let seen = events(&cluster, &format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    assert_eq!(seen.len(), kept.len(), "watchers see what is kept");

    std::fs::remove_file(&ballast).unwrap();
    let start = Instant::now();
    while put(&cluster, "again", 10).await.0 != 201 {
        assert!(start.elapsed() < DEADLINE, "there is room");
        tokio::task::yield_now().await;
    }
    kept.push("again".to_owned());
    kept.sort();
    assert_eq!(names(&cluster).await, kept);
    cluster.end();
    let cluster = Cluster::start_in(&store, |_| {}).await;
    assert_eq!(names(&cluster).await, kept, "and so they are after the next start");
}

/// Until memory is what the disk has.
async fn readable(cluster: &Cluster) {
    while ask(cluster, "GET", MAPS, "", "").await.0 != 200 {
        tokio::task::yield_now().await;
    }
}
