//! The peer: keepalived as Debian ships it, at the same 100 ms.

use crate::segment::{Host, run};
use std::process::{Child, Stdio};

/// A router of Debian's keepalived.
pub(crate) struct Keepalived(pub(crate) Child);

impl Keepalived {
    pub(crate) fn start(host: &Host, priority: u8, preempt: bool) -> Self {
        let name = &host.name;
        let nopreempt = if preempt { "" } else { "nopreempt" };
        let config = format!(
            "global_defs {{\n vrrp_version 3\n}}\n\
             vrrp_instance edge {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
             priority {priority}\n advert_int 0.1\n {nopreempt}\n \
             virtual_ipaddress {{\n 10.1.1.200/32\n }}\n}}\n"
        );
        let file = format!("/run/{name}.conf");
        std::fs::write(&file, config).unwrap();
        for pid in [format!("/run/{name}.pid"), format!("/run/{name}-vrrp.pid")] {
            // A killed one left it, and its number may be somebody else's by now.
            std::fs::remove_file(pid).ok();
        }
        let mut command = host.command("keepalived");
        command.args(["--dont-fork", "--vrrp", "--log-console", "--use-file", &file]);
        command.args(["--pid", &format!("/run/{name}.pid")]);
        command.args(["--vrrp_pid", &format!("/run/{name}-vrrp.pid")]);
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Keepalived(quiet.spawn().unwrap())
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // Killed at once, like a power cut: it gets no chance to resign.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Host {
    pub(crate) fn holds_vip(&self) -> bool {
        run(&format!("ip -n {} -4 address show dev eth0", self.name)).contains("10.1.1.200/32")
    }
}
