//! A node's edge as a process of its own, so that it can be killed like one.
//!
//! The parent passes `key=value` words in `EDGE_CHILD`; the child prints a line for each status.

use edge::config::{Algorithm, Backend, Dial, Interface, Listener, VirtualIp};
use edge::status::{State, Status};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use wire::machine::health;
use wire::vrrp::{Addresses, Centiseconds, Interval};

pub(crate) const VARIABLE: &str = "EDGE_CHILD";

/// Runs the edge that the environment asks for, if it does; returns whether it did.
pub(crate) fn run() -> bool {
    let Ok(words) = std::env::var(VARIABLE) else { return false };
    let words: BTreeMap<&str, &str> =
        words.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(serve(&words));
    true
}

async fn serve(words: &BTreeMap<&str, &str>) {
    let interface = Interface { name: "eth0".into(), address: words["address"].parse().unwrap() };
    if let Some(port) = words.get("respond") {
        tokio::spawn(respond(words["address"].into(), port.parse().unwrap()));
    }
    if !words.contains_key("vip") {
        return std::future::pending().await;
    }
    let (_config, wanted) = watch::channel(vec![virtual_ip(words)]);
    let (status, mut changes) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut last = String::new();
        while changes.changed().await.is_ok() {
            let line = describe(&changes.borrow_and_update());
            if line != last {
                println!("status: {line}");
            }
            last = line;
        }
    });
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let shutdown = async move { terminate.recv().await.unwrap() };
    edge::run(interface, wanted, status, shutdown).await.unwrap();
}

/// For example `active a=up b=down`.
fn describe(status: &[Status]) -> String {
    let mut words = Vec::new();
    for vip in status {
        words.push(match vip.state {
            State::Initialize => "initialize".to_owned(),
            State::Backup => "backup".to_owned(),
            State::Active => "active".to_owned(),
        });
        for backend in vip.listeners.iter().flat_map(|listener| &listener.backends) {
            words.push(format!("{}={}", backend.name, if backend.up { "up" } else { "down" }));
        }
    }
    words.join(" ")
}

fn virtual_ip(words: &BTreeMap<&str, &str>) -> VirtualIp {
    let addresses: Vec<Ipv4Addr> = vec![words["vip"].parse().unwrap()];
    VirtualIp {
        name: "edge".into(),
        addresses: Addresses::new(addresses).unwrap(),
        vrid: NonZeroU8::new(51).unwrap(),
        interval: Interval::V3(Centiseconds::new(10).unwrap()),
        priority: words["priority"].parse().unwrap(),
        preempt: words["preempt"].parse().unwrap(),
        listeners: listeners(words),
    }
}

fn listeners(words: &BTreeMap<&str, &str>) -> Vec<Listener> {
    let Some(port) = words.get("port") else { return Vec::new() };
    let backend = |(index, address): (usize, &str)| Backend {
        name: format!("b{index}"),
        address: address.parse().unwrap(),
    };
    vec![Listener {
        name: "web".into(),
        port: port.parse().unwrap(),
        algorithm: Algorithm::RoundRobin,
        backends: words["backends"].split(',').enumerate().map(backend).collect(),
        health_check: Some(health_check()),
        dial: Dial::default(),
    }]
}

pub(crate) fn health_check() -> health::Config {
    health::Config {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        fall: NonZeroU32::new(2).unwrap(),
        rise: NonZeroU32::new(2).unwrap(),
    }
}

/// Answers every connection with `name` and closes it when the client has.
pub(crate) async fn respond(name: String, port: u16) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await.unwrap();
    loop {
        let Ok((mut stream, _from)) = listener.accept().await else { continue };
        let name = name.clone();
        tokio::spawn(async move {
            stream.write_all(name.as_bytes()).await.ok();
            stream.shutdown().await.ok();
            stream.read_to_end(&mut Vec::new()).await.ok();
        });
    }
}
