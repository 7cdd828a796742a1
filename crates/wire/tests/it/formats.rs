//! parse(emit(x)) == x, and no bytes make a parser panic.

use proptest::collection::vec;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use wire::vrrp::{Addresses, Advertisement, Centiseconds, GROUP, Interval, PROTOCOL};
use wire::{Error, Mac, arp, ethernet, ipv4};

fn intervals() -> impl Strategy<Value = Interval> {
    prop_oneof![
        (1..=Centiseconds::MAX).prop_map(|v| Interval::V3(Centiseconds::new(v).unwrap())),
        (1..=255u8).prop_map(|v| Interval::V2(NonZeroU8::new(v).unwrap())),
    ]
}

fn advertisements() -> impl Strategy<Value = Advertisement> {
    (1..=255u8, any::<u8>(), intervals(), vec(any::<Ipv4Addr>(), 1..=255)).prop_map(
        |(vrid, priority, interval, addresses)| Advertisement {
            vrid: NonZeroU8::new(vrid).unwrap(),
            priority,
            interval,
            addresses: Addresses::new(addresses).unwrap(),
        },
    )
}

fn packet(source: Ipv4Addr, ttl: u8, payload: &[u8]) -> ipv4::Repr<'_> {
    ipv4::Repr {
        tos: 0xc0,
        identification: 7,
        dont_fragment: false,
        ttl,
        protocol: PROTOCOL,
        source,
        destination: GROUP,
        payload,
    }
}

proptest! {
    #[test]
    fn advertisement(x in advertisements(), source: Ipv4Addr, padding in 0..20usize) {
        let payload = x.emit(source);
        let mut bytes = packet(source, 255, &payload).emit().unwrap();
        bytes.resize(bytes.len() + padding, 0);
        let parsed = ipv4::Repr::parse(&bytes).unwrap();
        prop_assert_eq!(Advertisement::parse(&parsed), Ok(x));
    }

    #[test]
    fn a_flipped_bit_is_noticed(x in advertisements(), source: Ipv4Addr, at: prop::sample::Index, bit in 0..8u8) {
        let mut payload = x.emit(source);
        let at = at.index(payload.len());
        payload[at] ^= 1 << bit;
        // Four bits of version 3 are reserved, but the checksum covers them too.
        prop_assert!(Advertisement::parse(&packet(source, 255, &payload)).is_err());
    }

    #[test]
    fn arp_packet(request: bool, sender_mac: [u8; 6], sender: Ipv4Addr, target_mac: [u8; 6], target: Ipv4Addr) {
        let operation = if request { arp::Operation::Request } else { arp::Operation::Reply };
        let (sender_mac, target_mac) = (Mac(sender_mac), Mac(target_mac));
        let x = arp::Repr { operation, sender_mac, sender, target_mac, target };
        prop_assert_eq!(arp::Repr::parse(&x.emit()), Ok(x));
        let frame = x.frame();
        let frame = ethernet::Repr::parse(&frame).unwrap();
        prop_assert_eq!(arp::Repr::parse(frame.payload), Ok(x));
    }

    #[test]
    fn ethernet_frame(destination: [u8; 6], source: [u8; 6], ether_type in 0x600u16.., payload: Vec<u8>) {
        let (destination, source) = (Mac(destination), Mac(source));
        let x = ethernet::Repr { destination, source, ether_type, payload: &payload };
        let bytes = x.emit();
        prop_assert_eq!(ethernet::Repr::parse(&bytes), Ok(x));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let parsed = (ethernet::Repr::parse(&bytes).is_ok(), arp::Repr::parse(&bytes).is_ok());
        prop_assert!(!parsed.1 || bytes.len() >= 28);
        prop_assert!(ipv4::Repr::parse(&bytes).is_ok() <= (bytes.len() >= 20));
        let as_payload = Advertisement::parse(&packet(Ipv4Addr::LOCALHOST, 255, &bytes));
        prop_assert!(as_payload.is_err() || bytes.len() >= 12);
    }
}

fn small() -> Advertisement {
    Advertisement {
        vrid: NonZeroU8::new(51).unwrap(),
        priority: 100,
        interval: Interval::V3(Centiseconds::new(10).unwrap()),
        addresses: Addresses::new(vec![Ipv4Addr::new(10, 1, 1, 200)]).unwrap(),
    }
}

#[test]
fn octets_are_those_of_the_specification() {
    let bytes = small().emit(Ipv4Addr::new(10, 1, 1, 110));
    assert_eq!(bytes[..6], [0x31, 51, 100, 1, 0, 10]);
    assert_eq!(bytes[8..], [10, 1, 1, 200]);
}

#[test]
fn a_packet_from_off_the_link_is_refused() {
    let source = Ipv4Addr::new(10, 1, 1, 110);
    let payload = small().emit(source);
    let error = Advertisement::parse(&packet(source, 254, &payload)).unwrap_err();
    assert_eq!(error, Error::Field { packet: "vrrp advertisement", field: "ttl", value: 254 });
}

#[test]
fn fragments_are_refused() {
    let source = Ipv4Addr::LOCALHOST;
    let mut bytes = packet(source, 255, &[1, 2, 3]).emit().unwrap();
    bytes[6] = 0x20;
    bytes[10..12].copy_from_slice(&[0, 0]);
    let sum = wire::checksum::checksum(&bytes[..20]).to_be_bytes();
    bytes[10..12].copy_from_slice(&sum);
    assert!(matches!(ipv4::Repr::parse(&bytes), Err(Error::Field { field: "fragment", .. })));
}
