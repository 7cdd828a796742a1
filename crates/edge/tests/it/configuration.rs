//! Changes of configuration while connections are open.

use crate::probe::isolated;
use crate::segment::{DEADLINE, Host, Segment, VIP};
use edge::Edge;
use edge::config::{Algorithm, Backend, Dial, Interface, Listener, VirtualIp};
use edge::status::State;
use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::vrrp::{Addresses, Centiseconds, Interval};

const PORT: u16 = 30000;

fn wanted(priority: u8, port: u16) -> VirtualIp {
    VirtualIp {
        name: "edge".into(),
        addresses: Addresses::new(vec![VIP]).unwrap(),
        vrid: NonZeroU8::new(51).unwrap(),
        interval: Interval::V3(Centiseconds::new(1).unwrap()),
        priority: NonZeroU8::new(priority).unwrap(),
        preempt: true,
        listeners: vec![Listener {
            name: "web".into(),
            port: PORT,
            algorithm: Algorithm::LeastConnections,
            backends: vec![Backend {
                name: port.to_string(),
                address: (Ipv4Addr::LOCALHOST, port).into(),
            }],
            health_check: None,
            dial: Dial::default(),
        }],
    }
}

/// Says its port, then what it hears; returns the port.
async fn parrot() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _from) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_u16(port).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            });
        }
    });
    port
}

async fn wait_for_state(edge: &Edge, state: State) {
    let start = Instant::now();
    while edge.status()[0].state != state || edge.status()[0].listeners[0].listening.is_empty() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for {state:?}");
        tokio::task::yield_now().await;
    }
}

async fn change_under_traffic(node: Host) {
    let (first, second) = (parrot().await, parrot().await);
    let interface = Interface { name: "eth0".into(), address: node.address };
    let mut edge = Edge::start(interface).unwrap();
    edge.apply(vec![wanted(100, first)]);
    wait_for_state(&edge, State::Active).await;
    let since = edge.status()[0].since;
    let mut old = TcpStream::connect((VIP, PORT)).await.unwrap();
    assert_eq!(old.read_u16().await.unwrap(), first);

    edge.apply(vec![wanted(200, second)]);
    let mut new = TcpStream::connect((VIP, PORT)).await.unwrap();
    assert_eq!(new.read_u16().await.unwrap(), second);
    old.write_u8(42).await.unwrap();
    assert_eq!(old.read_u8().await.unwrap(), 42, "a back end that left keeps its connections");
    let status = edge.status().remove(0);
    assert_eq!((status.state, status.since), (State::Active, since), "no election");
    assert_eq!((status.listeners[0].accepted, status.listeners[0].backends[0].active), (2, 1));

    edge.apply(Vec::new());
    assert_eq!(edge.status(), []);
    // By the thread that has it.
    let start = Instant::now();
    while TcpStream::connect((VIP, PORT)).await.is_ok() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for a closed port");
    }
    edge.apply(vec![wanted(200, second)]);
    wait_for_state(&edge, State::Active).await;
    edge.shut_down().await;
    assert!(!node.holds_vip());
}

#[test]
fn what_is_the_same_goes_on() {
    isolated("configuration::what_is_the_same_goes_on", || {
        let node = Segment::new().host("node", 110);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let host = node.clone();
        node.inside(|| runtime.block_on(change_under_traffic(host)));
    });
}
