use super::abi::header;
use super::entry::{read_real, read_virtual, write_change, write_identity, write_real};
use super::*;
use crate::netlink::Messages;
use netstate::ipvs::{
    Family, Forward, Persistence, RealServer, Scheduler, SchedulerFlags, Settings,
};
use proptest::prelude::*;

fn address(family: Family) -> BoxedStrategy<SocketAddr> {
    match family {
        Family::Ipv4 => any::<([u8; 4], u16)>().prop_map(SocketAddr::from).boxed(),
        Family::Ipv6 => any::<([u8; 16], u16)>().prop_map(SocketAddr::from).boxed(),
    }
}

fn virtual_address(family: Family) -> impl Strategy<Value = VirtualAddress> {
    prop_oneof![
        (any::<u8>(), address(family))
            .prop_map(|(protocol, address)| VirtualAddress::Socket { protocol, address }),
        any::<u32>().prop_map(move |mark| VirtualAddress::Mark { family, mark }),
    ]
}

fn settings(family: Family) -> impl Strategy<Value = Settings> {
    let kept = prop::option::of((any::<u32>(), 1..=family.whole()));
    ("[a-z]{2,6}", any::<[bool; 4]>(), kept, prop::option::of("[a-z]{1,8}")).prop_map(
        |(name, [fallback, port, third, one_packet], kept, engine)| Settings {
            scheduler: Scheduler::from_name(&name),
            scheduler_flags: SchedulerFlags { fallback, port, third },
            persistence: kept.map(|(timeout, prefix)| Persistence { timeout, prefix }),
            one_packet,
            engine,
        },
    )
}

fn real_server() -> impl Strategy<Value = RealServer> {
    use Forward::{Bypass, Local, Masquerade, Route, Tunnel};
    let forward = prop::sample::select(vec![Masquerade, Local, Tunnel, Route, Bypass]);
    (forward, any::<[u32; 3]>()).prop_map(
        |(forward, [weight, upper_threshold, lower_threshold])| RealServer {
            forward,
            weight,
            upper_threshold,
            lower_threshold,
        },
    )
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

prop_compose! {
    fn virtual_server()(family in family())
        (virtual_address in virtual_address(family), settings in settings(family))
        -> Change {
        Change::SetVirtual { virtual_address, settings }
    }
}

prop_compose! {
    fn real()(family in family(), server in real_server())
        (virtual_address in virtual_address(family), address in address(family), server in Just(server))
        -> Change {
        Change::SetReal { virtual_address, address, server }
    }
}

fn written(change: &Change) -> Batch {
    let mut batch = Batch::default();
    write_change(&mut batch, 20, Verb::New, change);
    batch
}

proptest! {
    #[test]
    fn virtual_servers_read_back_as_written(change in virtual_server()) {
        let batch = written(&change);
        let found = read_virtual(Messages::new(batch.as_bytes()).next().unwrap()).unwrap();
        let (virtual_address, settings) = (found.virtual_address, found.server.settings);
        prop_assert_eq!(Change::SetVirtual { virtual_address, settings }, change);
    }

    #[test]
    fn real_servers_read_back_as_written(change in real()) {
        let Change::SetReal { virtual_address, .. } = change else { unreachable!() };
        let batch = written(&change);
        let message = Messages::new(batch.as_bytes()).next().unwrap();
        let (address, server, load) = read_real(message, virtual_address.family()).unwrap();
        prop_assert_eq!(load, Load::default());
        prop_assert_eq!(Change::SetReal { virtual_address, address, server }, change);
    }

    #[test]
    fn spoilt_messages_never_panic(
        change in prop_oneof![virtual_server(), real()],
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let mut octets = written(&change).as_bytes().to_vec();
        let at = at.index(octets.len());
        octets[at] = octet;
        for message in Messages::new(&octets) {
            let _either = (read_virtual(message), read_real(message, Family::Ipv4));
        }
        prop_assert!(octets.len() >= 20);
    }
}

#[test]
fn octets_are_where_the_kernel_looks_for_them() {
    let mut batch = Batch::default();
    let address = "10.96.0.1:443".parse().unwrap();
    batch.request(20, 0, |body| {
        body.fixed(&header(IPVS_CMD_DEL_DEST));
        body.nest(IPVS_CMD_ATTR_SERVICE, |body| {
            write_identity(body, &VirtualAddress::Socket { protocol: 6, address });
        });
        body.nest(IPVS_CMD_ATTR_DEST, |body| {
            write_real(body, "[fd00::2]:8080".parse().unwrap(), None);
        });
    });
    let service = [
        &[6, 0, 1, 0, 2, 0, 0, 0][..],
        &[6, 0, 2, 0, 6, 0, 0, 0],
        &[20, 0, 3, 0, 10, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0, 4, 0, 0x01, 0xbb, 0, 0],
    ]
    .concat();
    let real = [
        &[6, 0, 11, 0, 10, 0, 0, 0][..],
        &[20, 0, 1, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        &[6, 0, 2, 0, 0x1f, 0x90, 0, 0],
    ]
    .concat();
    assert_eq!(
        batch.as_bytes()[20..],
        [vec![48, 0, 1, 0x80], service, vec![40, 0, 2, 0x80], real].concat()
    );
}
