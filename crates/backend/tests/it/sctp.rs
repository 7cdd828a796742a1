//! SCTP as TCP: the same clusters and packets, with the two protocols changed for each other, and real associations.

use crate::agreement::{Drawn, Tally, drawn, seeds};
use crate::proxy::Kind;
use crate::space::as_root;
use backend::iptables::Variant;
use model::{Change, Object, Protocol};

/// All takes ten times as long on an emulated machine; more with `PODWAY_CASES`.
const FIXED: std::ops::Range<u64> = 0..4;
const FRESH: u64 = 1;

fn changed(protocol: &mut Protocol) {
    *protocol = match *protocol {
        Protocol::Tcp => Protocol::Sctp,
        Protocol::Udp => Protocol::Udp,
        Protocol::Sctp => Protocol::Tcp,
    };
}

fn drawn_with_sctp(seed: u64) -> Drawn {
    let (settings, mut changes, mut shots) = drawn(seed);
    for change in &mut changes {
        match change {
            Change::Applied(object) => match &mut **object {
                Object::Service(it) => it.ports.iter_mut().for_each(|it| changed(&mut it.protocol)),
                Object::EndpointSlice(it) => {
                    it.ports.iter_mut().for_each(|it| changed(&mut it.protocol));
                }
                _ => {}
            },
            Change::Removed(..) => {}
        }
    }
    shots.iter_mut().for_each(|shot| changed(&mut shot.packet.protocol));
    (settings, changes, shots)
}

fn agree(kind: Kind) {
    println!("{kind:?}: {}", Tally::new(kind, drawn_with_sctp).agree(seeds(FIXED, FRESH)));
}

#[test]
#[ignore = "needs a kernel with SCTP: scripts/vm-tests"]
fn sctp_trace_and_specification_agree_on_nft() {
    as_root("sctp::sctp_trace_and_specification_agree_on_nft", || agree(Kind::Nft));
}

#[test]
#[ignore = "needs a kernel with SCTP: scripts/vm-tests"]
fn sctp_trace_and_specification_agree_on_iptables() {
    as_root("sctp::sctp_trace_and_specification_agree_on_iptables", || {
        agree(Kind::Iptables(Variant::Nft));
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn sctp_trace_and_specification_agree_on_ipvs() {
    as_root("sctp::sctp_trace_and_specification_agree_on_ipvs", || agree(Kind::Ipvs));
}
