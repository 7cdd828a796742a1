//! Pods of a node: network namespaces, wired as the CNI plug-in does it.

use kernel::namespace::{Namespace, in_netns, make_net};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

pub(crate) struct Pod {
    netns: Namespace,
    device: String,
    pub(crate) address: IpAddr,
    pub(crate) address_v6: IpAddr,
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
        let address_v6 = IpAddr::from([0xfd00, 0x244, 0, 0, 0, 0, 0, host.into()]);
        run(&format!("ip addr add fd00:244::1/128 dev {device} nodad"));
        run(&format!("ip route add {address_v6}/128 dev {device}"));
        let pod = Pod { netns, device, address, address_v6 };
        pod.inside(|| {
            run("ip link set lo up");
            run(&format!("ip addr add {address}/32 dev eth0"));
            run("ip link set eth0 up");
            run("ip route add 10.244.0.1 dev eth0");
            run("ip route add default via 10.244.0.1");
            run(&format!("ip addr add {address_v6}/128 dev eth0 nodad"));
            run("ip route add fd00:244::1 dev eth0");
            run("ip route add default via fd00:244::1");
        });
        pod
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(&self.netns, work).unwrap()
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    pub(crate) fn at_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address_v6, port)
    }

    /// As when its node loses power: nothing is said any more, not even a reset.
    pub(crate) fn vanish(self) {
        run(&format!("ip link delete {}", self.device));
    }
}

/// Answers questions of eight octets at port 8080, as many as a connection brings.
pub(crate) fn serve(pod: &Pod) {
    let listener = pod.inside(|| TcpListener::bind(pod.at(8080)).unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while connection.read_exact(&mut [0; 8]).is_ok() {
                    connection.write_all(b"answer").ok();
                }
            });
        }
    });
}

pub(crate) fn run(line: &str) {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    assert!(command.args(words).status().unwrap().success(), "{line}");
}
