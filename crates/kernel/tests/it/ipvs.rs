//! IPVS against the real kernel: where this one has none, `scripts/vm-tests` runs these on Debian's.

use crate::space::{isolated, run};
use kernel::Errno;
use kernel::ipvs::{Info, Ipvs};
use netstate::ipvs::dump::parse;
use netstate::ipvs::{Change, RealServer, Scheduler, Settings, Table, VirtualAddress, changes};

const DUMP: &str = "
-A -t 10.0.0.1:80 -s rr -p 300 -M 255.255.255.0
-a -t 10.0.0.1:80 -r 10.1.1.1:8080 -m -w 3
-a -t 10.0.0.1:80 -r 10.1.1.2:80 -g -w 0
-A -u 10.0.0.1:53 -s sh -o -b sh-fallback,sh-port
-A --sctp-service 10.0.0.1:53 -s mh -b mh-port
-A -t [fd00::1]:443 -s wlc -p 360 -M 64
-a -t [fd00::1]:443 -r [fd00::2]:8443 -m -w 1
-a -t [fd00::1]:443 -r [fd00::3]:8443 -m -w 65535
-A -f 7 -s nq
-a -f 7 -r 10.1.1.1:0 -m -w 1
-A -f 8 -6 -s dh
";

fn wanted() -> Table {
    let import = parse(DUMP);
    assert_eq!(import.unknown, []);
    import.table
}

#[test]
fn a_kernel_has_it_or_is_said_to_lack_it() {
    match Ipvs::open() {
        Ok(mut ipvs) => assert_eq!(ipvs.info().unwrap().version, [1, 2, 1]),
        Err(error) => assert_eq!(error.to_string(), "this kernel has no IPVS: module ip_vs"),
    }
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn a_table_is_made_seen_by_ipvsadm_read_back_and_undone() {
    isolated(|| {
        // Before there is any local address every IPv4 address counts as broadcast, and no real server may be one.
        run("ip link set lo up");
        let mut ipvs = Ipvs::open().unwrap();
        let Info { connection_buckets, .. } = ipvs.info().unwrap();
        assert!(connection_buckets.is_power_of_two());
        let made = changes(&Table::default(), &wanted());
        for _twice in 0..2 {
            ipvs.apply(&made).unwrap();
            assert_eq!(parse(&run("ipvsadm -Sn")).table, wanted());
            assert_eq!(ipvs.read().unwrap().table, wanted());
        }
        let undone = changes(&wanted(), &Table::default());
        for _twice in 0..2 {
            ipvs.apply(&undone).unwrap();
            assert_eq!(run("ipvsadm -Sn"), "");
        }
        ipvs.apply(&made).unwrap();
        ipvs.flush().unwrap();
        assert_eq!(ipvs.read().unwrap().table, Table::default());
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn every_scheduler_of_this_kernel_is_told_to_it() {
    isolated(|| {
        let mut ipvs = Ipvs::open().unwrap();
        let virtual_address =
            VirtualAddress::Socket { protocol: 6, address: "10.0.0.1:80".parse().unwrap() };
        for (name, scheduler) in Scheduler::NAMED {
            let settings = Settings::of(scheduler);
            ipvs.apply(&[Change::SetVirtual { virtual_address, settings }]).unwrap();
            assert_eq!(run("ipvsadm -Sn"), format!("-A -t 10.0.0.1:80 -s {name}\n"));
        }
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: scripts/vm-tests"]
fn refusals_name_operation_object_and_errno() {
    isolated(|| {
        let mut ipvs = Ipvs::open().unwrap();
        let virtual_address =
            VirtualAddress::Socket { protocol: 6, address: "10.0.0.1:80".parse().unwrap() };
        let real = "10.1.1.1:8080".parse().unwrap();
        let unheard_of = Settings::of(Scheduler::Other("unheard".into()));
        let server = RealServer::masquerading(1);
        let errors = ipvs
            .apply(&[
                Change::SetVirtual { virtual_address, settings: unheard_of },
                Change::SetReal { virtual_address, address: real, server },
                Change::DeleteReal { virtual_address, address: real },
            ])
            .unwrap_err();
        let errnos: Vec<_> = errors.iter().map(|error| error.errno().unwrap()).collect();
        assert_eq!(errnos, [Errno::ENOENT, Errno::ESRCH]);
        let text = errors[1].to_string();
        assert!(
            text.starts_with("set real server TCP 10.0.0.1:80 -> 10.1.1.1:8080 weight 1: ESRCH"),
            "{text}"
        );
        assert_eq!(ipvs.load(&virtual_address, real).unwrap(), None);
    });
}
