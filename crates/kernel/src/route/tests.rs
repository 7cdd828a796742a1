//! What is written reads back, through bytes alone, and nothing panics.

use super::entry::{
    Verb, read_address, read_fdb, read_local, read_neighbour, read_routes, read_unreachable,
    write_address, write_fdb, write_local, write_neighbour, write_route, write_unreachable,
};
use super::link::{NewLink, RawLink, write_new};
use super::names::Names;
use crate::netlink::{Batch, Message, Messages};
use ipnet::IpNet;
use netstate::link::Vxlan;
use netstate::{Address, FdbEntry, Link, LinkKind, Local, Neighbour, Route, Unreachable};
use proptest::prelude::*;
use std::net::IpAddr;
use wire::Mac;

const INDEX: u32 = 7;

fn names() -> Names {
    let mut names = Names::default();
    names.insert(INDEX, "eth0".to_owned());
    names
}

fn message(batch: &Batch) -> Message<'_> {
    Messages::new(batch.as_bytes()).next().unwrap()
}

fn network() -> impl Strategy<Value = IpNet> {
    (any::<IpAddr>(), 0..=128u8).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length.min(32) } else { length };
        IpNet::new(address, length).unwrap()
    })
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn route() -> impl Strategy<Value = Route> {
    (network(), any::<Option<IpAddr>>(), any::<bool>(), any::<Option<IpAddr>>(), any::<u8>())
        .prop_map(|(destination, via, onlink, source, protocol)| Route {
            destination,
            via,
            device: "eth0".into(),
            onlink,
            source,
            protocol,
        })
}

fn link() -> impl Strategy<Value = Link> {
    let vxlan = (0..1u32 << 24, any::<u16>(), any::<IpAddr>(), any::<bool>()).prop_map(
        |(vni, port, local, learning)| {
            LinkKind::Vxlan(Vxlan { vni, port, local, device: "eth0".into(), learning })
        },
    );
    let kind = prop_oneof![
        Just(LinkKind::Bridge),
        Just(LinkKind::Veth { peer: None }),
        Just(LinkKind::Other("dummy".into())),
        vxlan
    ];
    ("[a-z0-9.-]{1,15}", kind, any::<Option<u32>>(), proptest::option::of(mac()), any::<bool>())
        .prop_map(|(name, kind, mtu, mac, up)| Link { name, kind, mac, mtu, up })
}

proptest! {
    #[test]
    fn routes_read_back_as_written(route in route()) {
        let mut batch = Batch::default();
        write_route(&mut batch, Verb::Add, &route, INDEX);
        let mut read = Vec::new();
        prop_assert_eq!(read_routes(message(&batch), &names(), &mut read), Ok(()));
        prop_assert_eq!(read, [route]);
    }

    #[test]
    fn entries_read_back_as_written(net in network(), address in any::<IpAddr>(), mac in mac(), protocol in any::<u8>()) {
        let device = || "eth0".to_owned();
        let mut batch = Batch::default();
        let wanted = Address { device: device(), net };
        write_address(&mut batch, Verb::Add, &wanted, INDEX);
        prop_assert_eq!(read_address(message(&batch), &names()), Ok(Some(wanted)));
        batch.clear();
        let wanted = Neighbour { device: device(), address, mac };
        write_neighbour(&mut batch, Verb::Add, &wanted, INDEX);
        prop_assert_eq!(read_neighbour(message(&batch), &names()), Ok(Some(wanted)));
        batch.clear();
        let wanted = FdbEntry { device: device(), mac, remote: address };
        write_fdb(&mut batch, Verb::Add, &wanted, INDEX);
        prop_assert_eq!(read_fdb(message(&batch), &names()), Ok(Some(wanted)));
        batch.clear();
        let wanted = Unreachable { destination: net, protocol };
        write_unreachable(&mut batch, Verb::Add, &wanted);
        prop_assert_eq!(read_unreachable(message(&batch)), Some(wanted));
        batch.clear();
        let wanted =
            Local { address, device: device(), source: Some(address), protocol: protocol.max(3) };
        write_local(&mut batch, Verb::Add, &wanted, INDEX);
        prop_assert_eq!(read_local(message(&batch), &names()), Ok(Some(wanted)));
    }

    #[test]
    fn links_read_back_as_written(link in link()) {
        let mut batch = Batch::default();
        prop_assert_eq!(write_new(&mut batch, &NewLink::new(&link), &names()), Ok(()));
        let read = RawLink::read(message(&batch)).unwrap().resolve(&names());
        prop_assert_eq!(read.link, link);
    }

    #[test]
    fn spoilt_messages_never_panic(
        route in route(), link in link(), mac in mac(), address in any::<IpAddr>(),
        spots in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut batch = Batch::default();
        write_route(&mut batch, Verb::Add, &route, INDEX);
        write_fdb(&mut batch, Verb::Add, &FdbEntry { device: "eth0".into(), mac, remote: address }, INDEX);
        write_new(&mut batch, &NewLink::new(&link), &names()).unwrap();
        let mut octets = batch.as_bytes().to_vec();
        for (at, octet) in spots {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        for message in Messages::new(&octets) {
            let mut routes = Vec::new();
            let _unused = read_routes(message, &names(), &mut routes);
            let _unused = (read_address(message, &names()), read_fdb(message, &names()));
            let _unused = (read_neighbour(message, &names()), read_unreachable(message));
            let _unused = read_local(message, &names());
            let _unused = RawLink::read(message).map(|link| link.resolve(&names()));
        }
    }
}
