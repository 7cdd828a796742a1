//! An agent that is killed in the middle of its work, again and again, under traffic.

use crate::node::{Node, PATIENCE, in_own_namespace, options};
use crate::pods::{Pod, serve};
use agent::Options;
use backend::{Fate, Mode};
use kernel::ipvs::Ipvs;
use kernel::process::Signal;
use netstate::ipvs::Table;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Between connections: a client has 28 000 ports, each of which rests for a minute.
const PACE: Duration = Duration::from_millis(3);
/// How often, where `PODWAY_TEST_KILLS` does not say.
const KILLS: u32 = 100;
/// Where each apply takes children.
const KILLS_OF_FEW: u32 = 20;
/// On an emulated machine, where all takes ten times as long.
const KILLS_EMULATED: u32 = 5;
/// Between looks at what tells nobody that it changed.
const PAUSE: Duration = Duration::from_millis(20);
/// Services that change while the agent works; one more has the traffic.
const OTHERS: u32 = 4;

fn service(name: &str, host: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": format!("10.96.5.{host}"), "ports": [{"port": 80}]},
    })
}

fn slice(name: &str, hosts: &[u32]) -> Value {
    let endpoints = hosts.iter().map(|host| json!({"addresses": [format!("10.244.0.{host}")]}));
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{name}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

/// Everything in a round: the traffic goes to two of three pods and the third one is about to go; the others'
/// endpoints come and go.
fn slices(round: u32) -> Vec<Value> {
    let trio = [5, 6, 7];
    let kept: Vec<_> = trio.into_iter().filter(|host| host % 3 != round % 3).collect();
    let others = (0..OTHERS).map(|other| {
        let hosts: Vec<_> = (0..(round + other) % 5).map(|host| 100 + host).collect();
        slice(&format!("other-{other}"), &hosts)
    });
    let mut web = slice("web", &trio);
    for (host, endpoint) in trio.iter().zip(web["endpoints"].as_array_mut().unwrap()) {
        if !kept.contains(host) {
            endpoint["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
        }
    }
    others.chain([web]).collect()
}

async fn put_round(node: &Node, round: u32) -> Vec<Value> {
    let mut written = Vec::new();
    for slice in slices(round) {
        written.push(node.put(slice).await);
    }
    written
}

/// Address, port and endpoints of all that the kernel serves.
fn state() -> Vec<(Option<IpAddr>, u16, Fate)> {
    let served = backend::services::served().unwrap();
    served.into_iter().map(|it| (it.address, it.port, it.fate)).collect()
}

#[derive(Default)]
struct Traffic {
    end: AtomicBool,
    connections: AtomicU64,
    /// Written by the client's thread, read by the test at the end.
    failures: Mutex<Vec<String>>,
}

fn converse() -> std::io::Result<()> {
    let mut connection = TcpStream::connect(("10.96.5.5", 80))?;
    connection.write_all(b"question")?;
    connection.read_exact(&mut [0; 6])
}

#[test]
fn an_agent_killed_in_the_middle_of_its_work_costs_no_connection() {
    const NAME: &str = "kills::an_agent_killed_in_the_middle_of_its_work_costs_no_connection";
    in_own_namespace(NAME, async || killed_again_and_again(Mode::Nft, KILLS).await);
}

#[test]
fn nor_does_it_in_mode_iptables() {
    in_own_namespace("kills::nor_does_it_in_mode_iptables", async || {
        killed_again_and_again(Mode::Iptables, KILLS_OF_FEW).await;
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn nor_does_it_in_mode_ipvs() {
    in_own_namespace("kills::nor_does_it_in_mode_ipvs", async || {
        killed_again_and_again(Mode::Ipvs, KILLS_EMULATED).await;
    });
}

/// Virtual servers, where that is what an agent changes.
fn virtual_servers(mode: Mode) -> Table {
    match mode {
        Mode::Ipvs => Ipvs::open().and_then(|mut ipvs| ipvs.read()).unwrap().table,
        _rules => Table::default(),
    }
}

async fn killed_again_and_again(mode: Mode, kills: u32) {
    let kills = std::env::var("PODWAY_TEST_KILLS").map_or(kills, |it| it.parse().unwrap());
    let mut node = Node::new("kills").await;
    let (client, servers) = (Pod::new(10), [5, 6, 7].map(Pod::new));
    servers.iter().for_each(serve);
    for other in 0..OTHERS {
        node.put(service(&format!("other-{other}"), 100 + other)).await;
    }
    node.put(service("web", 5)).await;
    put_round(&node, 0).await;
    let agent = node.start_agent_in(mode).await;
    node.put_programmed(slices(0).pop().unwrap()).await;
    let before = state();
    agent.abort();
    assert!(agent.await.unwrap_err().is_cancelled());

    let traffic = Arc::new(Traffic::default());
    let flow = traffic.clone();
    let thread = client.inside(move || {
        std::thread::spawn(move || {
            while !flow.end.load(Ordering::Relaxed) {
                match converse() {
                    Ok(()) => drop(flow.connections.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => flow.failures.lock().unwrap().push(error.to_string()),
                }
                std::thread::sleep(PACE);
            }
        })
    });
    for round in 1..=kills {
        put_round(&node, round).await;
        let old = virtual_servers(mode);
        let agent = node.spawn_agent(mode);
        let changed = tokio::time::timeout(6 * PATIENCE, async {
            match mode {
                // The kernel tells nobody of virtual servers.
                Mode::Ipvs => {
                    while virtual_servers(mode) == old {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                _rules => node.until_rules_change().await,
            }
        });
        assert!(changed.await.is_ok(), "the agent changes nothing in round {round}");
        agent.signal(Signal::SIGKILL).unwrap();
        agent.reap().unwrap();
    }
    let written = put_round(&node, 0).await;
    let agent = node.start_agent_in(mode).await;
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str()?.parse().ok();
    let newest: Option<u64> = written.iter().filter_map(version).max();
    let query = format!("/programmed?EndpointSlice={}", newest.unwrap());
    assert_eq!(node.ask(10256, &query).await.status, 200);
    traffic.end.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    assert_eq!(state(), before);
    let connections = traffic.connections.load(Ordering::Relaxed);
    let failures = traffic.failures.lock().unwrap();
    println!("{kills} kills, {connections} connections, {} failed", failures.len());
    assert!(failures.is_empty(), "{failures:?}");
    assert!(connections > u64::from(kills), "{connections} connections: no traffic");
    agent.abort();
}

#[test]
#[ignore = "no test: the process that the other one kills"]
fn agent_to_be_killed() {
    let server = std::env::var("PODWAY_TEST_SERVER").expect("named by the one who kills");
    let home = PathBuf::from(std::env::var("PODWAY_TEST_HOME").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let client = client::connect(None, Some(&server)).await.unwrap();
        let connection_accounting = std::env::var_os("PODWAY_TEST_ACCOUNTING").is_some();
        let mode = std::env::var("PODWAY_TEST_MODE").unwrap().parse().unwrap();
        let options = Options { mode, connection_accounting, ..options(&home) };
        agent::run(client, options, std::future::pending()).await
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}
