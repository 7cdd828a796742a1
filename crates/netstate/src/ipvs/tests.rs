use super::dump::{Problem, parse};
use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// As a machine with Debian's ipvsadm 1.31 printed it.
const DUMP: &str = "\
-A -t 10.0.0.1:80 -s rr -p 300 -M 255.255.255.0
-a -t 10.0.0.1:80 -r 10.1.1.1:8080 -m -w 3
-a -t 10.0.0.1:80 -r 10.1.1.2:80 -g -w 0
-a -t 10.0.0.1:80 -r 10.1.1.3:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-A -t 10.0.0.2:0 -s wlc -p 360
-A -u 10.0.0.1:53 -s sh -o -b sh-fallback,sh-port
-A -u 10.0.0.2:5060 -s wlc -p 360 --pe sip -o
-A --sctp-service 10.0.0.1:53 -s mh -b mh-port
-A -t [fd00::1]:80 -s wlc -p 360
-a -t [fd00::1]:80 -r [fd00::2]:80 -m -w 1
-A -f 7 -s wlc
-A -f 8 -6 -s wlc -p 10 -M 64
-a -f 8 -6 -r [fd00::2]:0 -m -w 1
";

fn tcp(address: &str) -> VirtualAddress {
    VirtualAddress::Socket { protocol: 6, address: address.parse().unwrap() }
}

#[test]
fn a_dump_of_another_node_is_read() {
    let import = parse(DUMP);
    let [unknown] = &import.unknown[..] else { panic!("{:?}", import.unknown) };
    assert_eq!((unknown.line, &unknown.problem), (4, &Problem::Option("--tun-type".into())));
    let known = DUMP.lines().filter(|line| !line.contains("gue"));
    let mut known: Vec<_> = known.collect();
    let printed = import.table.to_string();
    let mut printed: Vec<_> = printed.lines().collect();
    known.sort_unstable();
    printed.sort_unstable();
    assert_eq!(printed, known);
    let server = &import.table.virtual_servers[&tcp("10.0.0.1:80")];
    assert_eq!(server.settings.persistence, Some(Persistence { timeout: 300, prefix: 24 }));
    let weights: Vec<_> = server.real_servers.values().map(|real| real.weight).collect();
    assert_eq!(weights, [3, 0]);
}

#[test]
fn lines_that_say_nothing_known_are_named() {
    for (line, problem) in [
        ("-C", Problem::Incomplete),
        ("-D -t 10.0.0.1:80", Problem::Command),
        ("-A -t 10.0.0.1:80", Problem::Incomplete),
        ("-A -s rr", Problem::Incomplete),
        ("-A -t web -s rr", Problem::Value("web".into())),
        ("-A -t 10.0.0.1:80 -s", Problem::Option("-s".into())),
        ("-A -t 10.0.0.1:80 -s rr -p -M 255.0.255.0", Problem::Value("255.0.255.0".into())),
        ("-A -f 1 -6 -s rr -p 5 -M 129", Problem::Value("129".into())),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 -m", Problem::Unclaimed),
    ] {
        let import = parse(line);
        assert_eq!(import.table, Table::default(), "{line}");
        let problems: Vec<_> = import.unknown.into_iter().map(|unknown| unknown.problem).collect();
        assert_eq!(problems, [problem], "{line}");
    }
}

#[test]
fn packets_find_their_virtual_server() {
    let table = parse(
        "-A -t 10.0.0.1:80 -s rr
         -a -t 10.0.0.1:80 -r 10.1.1.1:8080 -m -w 3
         -a -t 10.0.0.1:80 -r 10.1.1.2:80 -m -w 0
         -A -t 10.0.0.1:0 -s sh -p
         -a -t 10.0.0.1:0 -r 10.1.1.3 -g
         -a -t 10.0.0.1:0 -r 10.1.1.4 -g -w 0
         -A -f 7 -s wlc
         -A -t 10.0.0.2:21 -s wlc
         -a -t 10.0.0.2:21 -r 10.1.1.5:21 -m",
    );
    assert_eq!(table.unknown, []);
    let one_of = |virtual_server: &str, real: &str, or_refused| Answer::OneOf {
        virtual_address: tcp(virtual_server),
        servers: vec![real.parse().unwrap()],
        or_refused,
    };
    let mark = VirtualAddress::Mark { family: Family::Ipv4, mark: 7 };
    for (protocol, to, mark, answer) in [
        (6, "10.0.0.1:80", 0, one_of("10.0.0.1:80", "10.1.1.1:8080", false)),
        (6, "10.0.0.1:80", 8, one_of("10.0.0.1:80", "10.1.1.1:8080", false)),
        (6, "10.0.0.1:80", 7, Answer::Refused(mark)),
        (6, "10.0.0.1:81", 0, one_of("10.0.0.1:0", "10.1.1.3:81", true)),
        (17, "10.0.0.1:80", 0, Answer::Unserved),
        (6, "10.0.0.2:20", 0, one_of("10.0.0.2:21", "10.1.1.5:21", false)),
        (6, "10.0.0.2:80", 0, Answer::Unserved),
        (6, "[fd00::1]:80", 7, Answer::Unserved),
    ] {
        let packet = Packet { protocol, destination: to.parse().unwrap(), mark };
        assert_eq!(table.table.answer(&packet), answer, "{protocol} {to} mark {mark}");
    }
}

#[test]
fn names_of_schedulers_lead_back() {
    for (name, scheduler) in Scheduler::NAMED {
        assert_eq!(Scheduler::from_name(name), scheduler);
        assert_eq!(scheduler.name(), name);
    }
    assert_eq!(Scheduler::from_name("twos").name(), "twos");
}

fn socket(ipv6: bool) -> impl Strategy<Value = SocketAddr> {
    // Few addresses, so that two tables have some in common.
    (0u8..4, 0u16..3).prop_map(move |(host, port)| {
        let address = if ipv6 {
            IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
        } else {
            IpAddr::from([10, 0, 0, host])
        };
        SocketAddr::new(address, port)
    })
}

fn virtual_address(ipv6: bool) -> impl Strategy<Value = VirtualAddress> {
    let family = if ipv6 { Family::Ipv6 } else { Family::Ipv4 };
    let protocol = prop_oneof![Just(6), Just(17), Just(132)];
    prop_oneof![
        (protocol, socket(ipv6))
            .prop_map(|(protocol, address)| VirtualAddress::Socket { protocol, address }),
        (1u32..4).prop_map(move |mark| VirtualAddress::Mark { family, mark }),
    ]
}

fn settings(ipv6: bool) -> impl Strategy<Value = Settings> {
    let named = (0..Scheduler::NAMED.len()).prop_map(|at| Scheduler::NAMED[at].1.clone());
    let scheduler = prop_oneof![4 => named, 1 => "[a-z]{5}".prop_map(Scheduler::Other)];
    let longest = if ipv6 { 128u8 } else { 32 };
    let persistence =
        (any::<u32>(), 1..=longest).prop_map(|(timeout, prefix)| Persistence { timeout, prefix });
    let flags = any::<(bool, bool, bool)>().prop_map(|(fallback, port, third)| SchedulerFlags {
        fallback,
        port,
        third,
    });
    let engine = prop::option::of("[a-z]{1,6}");
    (scheduler, flags, prop::option::of(persistence), any::<bool>(), engine).prop_map(
        |(scheduler, scheduler_flags, persistence, one_packet, engine)| Settings {
            scheduler,
            scheduler_flags,
            persistence,
            one_packet,
            engine,
        },
    )
}

fn real_server() -> impl Strategy<Value = RealServer> {
    let forward =
        prop_oneof![Just(Forward::Masquerade), Just(Forward::Tunnel), Just(Forward::Route)];
    (forward, any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(forward, weight, upper_threshold, lower_threshold)| RealServer {
            forward,
            weight,
            upper_threshold,
            lower_threshold,
        },
    )
}

fn table() -> impl Strategy<Value = Table> {
    let entry = |ipv6| {
        let server = (settings(ipv6), btree_map(socket(ipv6), real_server(), 0..4))
            .prop_map(|(settings, real_servers)| VirtualServer { settings, real_servers });
        btree_map(virtual_address(ipv6), server, 0..5)
    };
    (entry(false), entry(true)).prop_map(|(mut virtual_servers, others)| {
        virtual_servers.extend(others);
        Table { virtual_servers }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(table in table()) {
        let import = parse(&table.to_string());
        prop_assert_eq!(import.unknown, vec![]);
        prop_assert_eq!(import.table, table);
    }

    #[test]
    fn spoilt_dumps_are_read_as_far_as_they_go(table in table(), at in any::<prop::sample::Index>(), with in "\\PC{0,3}") {
        let mut text = table.to_string();
        let at = at.index(text.len() + 1);
        text.insert_str(at, &with);
        let import = parse(&text);
        prop_assert!(import.table.virtual_servers.len() <= text.lines().count());
    }

    #[test]
    fn any_words_are_read_without_harm(words in vec("(-[ampstuMfrwxy6ob]|[0-9.:]{1,9}|\\PC{0,6})", 0..20)) {
        let import = parse(&words.join(" "));
        prop_assert!(import.unknown.len() <= 1);
    }

    #[test]
    fn changes_lead_from_one_table_to_the_other(before in table(), after in table()) {
        let mut becomes = before.clone();
        for change in changes(&before, &after) {
            becomes.apply(&change);
        }
        prop_assert_eq!(&becomes, &after);
        prop_assert_eq!(changes(&after, &after), vec![]);
    }
}
