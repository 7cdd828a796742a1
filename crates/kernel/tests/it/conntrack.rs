//! Connections through a translating rule set.

use crate::space::{assert_line, isolated, run};
use kernel::conntrack::{Connection, Ends, TcpState, Tuple, Which, connections, delete};
use kernel::netlink::Socket;
use kernel::nft::{Count, Transaction};
use kernel::sysctl;
use netstate::nft::{
    Chain, ChainKind, DataType, Element, ElementValue, Family, Field, Hook, HookPoint, Key, Rule,
    Set, SetData, Statement, Table, TableId,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Translates TCP and UDP port 80 of the service address to loopback, port `to`; follows IPv6 connections, too.
fn translate(socket: &mut Socket, to: u16) {
    let mut map = Set {
        key: vec![DataType::Ipv4, DataType::Port],
        data: SetData::Values(vec![DataType::Ipv4, DataType::Port]),
        interval: false,
        counters: false,
        dynamic: None,
        elements: [].into(),
    };
    let value = Key::new().part(&[127, 0, 0, 1]).part(&to.to_be_bytes());
    let key = Key::new().part(&SERVICE.octets()).part(&80u16.to_be_bytes());
    map.elements
        .insert(key, Element { until: None, value: ElementValue::Data(value), comment: "".into() });
    let dnat = Statement::DnatMap {
        key: vec![Field::DestinationAddress, Field::DestinationPort],
        map: "services".into(),
    };
    let hook = Hook { kind: ChainKind::Nat, point: HookPoint::Output, priority: -100 };
    let chain = |statement| Chain {
        hook: Some(hook),
        rules: vec![Rule { statements: vec![statement], comment: String::new() }],
    };
    let id = |family| TableId { family, name: "podway".into() };
    let known = Statement::Match {
        field: Field::ConntrackState,
        mask: None,
        negate: false,
        value: vec![0; 4],
    };
    let v4 = Table {
        id: id(Family::Ip),
        sets: [("services".into(), map)].into(),
        chains: [("output".into(), chain(dnat))].into(),
    };
    let v6 = Table {
        id: id(Family::Ip6),
        sets: [].into(),
        chains: [("output".into(), chain(known))].into(),
    };
    Transaction::new().whole(&v4).whole(&v6).commit(socket).unwrap();
}

/// Sends an ICMP echo request (RFC 792) with identifier 0x1234 to loopback.
fn ping() {
    let request = [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];
    let raw =
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)
            .unwrap();
    sendto(raw.as_raw_fd(), &request, &SockaddrIn::new(127, 0, 0, 1, 0), MsgFlags::empty())
        .unwrap();
}

fn ports(source: u16, destination: u16) -> Ends {
    Ends::Ports { source, destination }
}

#[test]
fn connections_show_both_directions_and_go_by_tuple() {
    isolated(|| {
        run("ip link set lo up");
        run("ip route add 10.96.0.0/12 dev lo src 127.0.0.1");
        sysctl::write("net/netfilter/nf_conntrack_acct", "1").unwrap();
        assert_eq!(sysctl::read("net/netfilter/nf_conntrack_acct").unwrap(), "1");
        let mut socket = Socket::netfilter().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let real = listener.local_addr().unwrap().port();
        translate(&mut socket, real);
        let mut client = TcpStream::connect((SERVICE, 80)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();

        let own = client.local_addr().unwrap().port();
        let found =
            connections(&mut socket, Which::Ipv4, |connection| connection.original.protocol == 6)
                .unwrap();
        let [connection] = found.as_slice() else { panic!("{found:?}") };
        let local = Ipv4Addr::LOCALHOST.into();
        let original =
            Tuple { source: local, destination: SERVICE.into(), protocol: 6, ends: ports(own, 80) };
        let reply =
            Tuple { source: local, destination: local, protocol: 6, ends: ports(real, own) };
        assert_eq!((connection.original, connection.reply), (original, reply));
        assert_eq!(connection.tcp_state, Some(TcpState::Established));
        assert!(
            connection.answered() && connection.assured() && connection.destination_translated()
        );
        assert!(!connection.source_translated());
        assert!(connection.timeout > Some(3600));
        let Count { packets, octets } = connection.counts.unwrap().original;
        assert!(packets >= 3 && octets > 5 + packets * 40, "{connection:?}");
        let witness = format!("src=127.0.0.1 dst=10.96.0.10 sport={own} dport=80 ");
        assert_line(&run("conntrack -L -f ipv4"), &[&witness, "ESTABLISHED"]);

        assert!(
            !delete(&mut socket, &original, 0, Some(connection.id ^ 1)).unwrap(),
            "another entry's number"
        );
        assert!(!delete(&mut socket, &original, 7, None).unwrap(), "another zone");
        assert!(delete(&mut socket, &original, 0, Some(connection.id)).unwrap());
        assert!(!delete(&mut socket, &original, 0, None).unwrap());
    });
}

#[test]
fn both_families_and_pings_are_told_apart() {
    isolated(|| {
        run("ip link set lo up");
        let mut socket = Socket::netfilter().unwrap();
        translate(&mut socket, 1);
        let receiver = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let sender = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        sender.send_to(b"hello", receiver.local_addr().unwrap()).unwrap();
        ping();

        let everything =
            |which, socket: &mut Socket| connections(socket, which, |_all| true).unwrap();
        let (source, destination) =
            (sender.local_addr().unwrap().port(), receiver.local_addr().unwrap().port());
        let v6 = everything(Which::Ipv6, &mut socket);
        let udp: Vec<&Connection> =
            v6.iter().filter(|connection| connection.original.protocol == 17).collect();
        assert_eq!(udp.len(), 1, "{v6:?}");
        assert_eq!(udp[0].original.ends, ports(source, destination));
        assert!(!udp[0].answered());
        let v4 = everything(Which::Ipv4, &mut socket);
        let ping = v4.iter().find(|connection| connection.original.protocol == 1).unwrap();
        assert_eq!(ping.original.ends, Ends::Icmp { id: 0x1234, kind: 8, code: 0 });
        assert!(delete(&mut socket, &ping.original, 0, None).unwrap());
        assert!(delete(&mut socket, &udp[0].original, 0, None).unwrap());
        assert_eq!(everything(Which::Both, &mut socket).len(), v4.len() + v6.len() - 2);
    });
}
