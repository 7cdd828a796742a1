//! Pods of a node: network namespaces, wired as the CNI plug-in does it.

use kernel::namespace::{Namespace, in_netns, make_net};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

pub(crate) struct Pod {
    netns: Namespace,
    device: String,
    pub(crate) address: IpAddr,
}

impl Pod {
    /// The last octet of its address is its name, too.
    pub(crate) fn new(host: u8) -> Self {
        let netns = make_net().unwrap();
        let (device, address) = (format!("veth{host}"), IpAddr::from([10, 244, 0, host]));
        let place = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
        run(&format!("ip link add {device} type veth peer name eth0 netns {place}"));
        run(&format!("ip addr add 10.244.0.1/32 dev {device}"));
        run(&format!("ip link set {device} up"));
        run(&format!("ip route add {address}/32 dev {device}"));
        let pod = Pod { netns, device, address };
        pod.inside(|| {
            run("ip link set lo up");
            run(&format!("ip addr add {address}/32 dev eth0"));
            run("ip link set eth0 up");
            run("ip route add 10.244.0.1 dev eth0");
            run("ip route add default via 10.244.0.1");
        });
        pod
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(&self.netns, work).unwrap()
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// As when its node loses power: nothing is said any more, not even a reset.
    pub(crate) fn vanish(self) {
        run(&format!("ip link delete {}", self.device));
    }
}

pub(crate) fn run(line: &str) {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    assert!(command.args(words).status().unwrap().success(), "{line}");
}
