//! How fast and how large API servers are, side by side: start-up, memory, creates, lists, fan-out to watchers.
//! Prints, never fails. Usage: `api PODWAY [PODS]`, with `PODWAY_KUBE_APISERVER` a kube-apiserver to compare with.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

mod load;
mod server;

use load::Load;
use server::{Failure, Plan, Server};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let arguments: Vec<String> = arguments.collect();
    let podway = arguments.first().ok_or("usage: api PODWAY [PODS]")?;
    let pods: usize = arguments.get(1).map_or(Ok(10_000), |it| it.parse())?;
    let scratch = std::env::temp_dir().join(format!("podway-bench-api-{}", std::process::id()));
    std::fs::create_dir(&scratch)?;
    let outcome = measure_all(Path::new(podway), pods, &scratch).await;
    std::fs::remove_dir_all(&scratch)?;
    outcome
}

async fn measure_all(podway: &Path, pods: usize, scratch: &Path) -> Result<(), Failure> {
    let kube = std::env::var_os("PODWAY_KUBE_APISERVER").map(PathBuf::from);
    let etcd = std::env::var_os("PODWAY_ETCD").map_or("etcd".into(), PathBuf::from);
    let mut plans = vec![Plan::podway(podway, scratch, false), Plan::podway(podway, scratch, true)];
    plans.extend(kube.map(|kube| Plan::kubernetes(&kube, &etcd, scratch)));
    for plan in plans {
        measure(&plan?, pods).await?;
    }
    match Plan::etcd(&etcd, scratch) {
        Ok(plan) => load::etcd(&plan).await?,
        Err(error) => println!("\nno etcd to compare with: {error}"),
    }
    Ok(())
}

async fn measure(plan: &Plan, pods: usize) -> Result<(), Failure> {
    println!("\n{}", plan.name);
    let server = Server::start(plan).await?;
    row("start to ready", format!("{:.0?}", server.took));
    let load = Load::new(server.client.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    row("memory, idle", server.memory());
    row("creates, one client", load.create(0..300, 1).await?);
    row("creates, 64 clients", load.create(300..pods, 64).await?);
    row(&format!("memory, {pods} pods"), server.memory());
    for (name, accept) in [
        ("JSON", "application/json"),
        ("Table", "application/json;as=Table;v=v1;g=meta.k8s.io"),
        ("protobuf", "application/vnd.kubernetes.protobuf"),
    ] {
        row(&format!("list of {pods} pods, {name}"), load.list("/api/v1/pods", accept).await?);
    }
    let selected = "/api/v1/pods?labelSelector=shard%3D7";
    row("list of the 1 % that a label selects", load.list(selected, "application/json").await?);
    row("memory, after the lists", server.memory());
    for line in load.fan_out().await? {
        row(&line.0, line.1);
    }
    row("memory, after that", server.memory());
    if plan.lasts {
        let server = server.restart(plan).await?;
        row(&format!("killed, start to ready with {pods} pods"), format!("{:.0?}", server.took));
        row("memory, idle", server.memory());
    }
    Ok(())
}

fn row(what: &str, figure: impl AsRef<str>) {
    println!("  {what:<44} {}", figure.as_ref());
}
