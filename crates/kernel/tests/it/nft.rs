//! Rule sets: what we write, nft lists; what is written, we read back as it was.

use crate::arbitrary;
use crate::space::{assert_line, feed, isolated, run};
use kernel::Error;
use kernel::netlink::{Monitor, Socket};
use kernel::nft::{Transaction, generation, read_table, read_table_like, tables};
use netstate::nft::{
    Chain, ChainKind, DataType, Element, ElementValue, Family, Field, Hook, HookPoint, Key, Rule,
    Set, SetData, Statement, Table, TableId, Verdict,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::TestRunner;
use proptest::{prop_assert, prop_assert_eq};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

fn id(family: Family) -> TableId {
    TableId { family, name: "podway".into() }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn set(key: &[DataType], data: SetData) -> Set {
    Set {
        key: key.to_vec(),
        data,
        interval: false,
        counters: false,
        dynamic: None,
        elements: BTreeMap::new(),
    }
}

fn element(value: ElementValue, comment: &str) -> Element {
    Element { until: None, value, comment: comment.into() }
}

fn rule(statements: Vec<Statement>) -> Rule {
    Rule { comment: format!("{} statements, \"quoted\"", statements.len()), statements }
}

fn chain(name: &str) -> Verdict {
    Verdict::Jump(name.into())
}

/// A table with one of everything, around the address of a service and of a pod.
fn everything(family: Family) -> Table {
    let (service, pod, data_type): (IpAddr, IpAddr, _) = match family {
        Family::Ip => (
            Ipv4Addr::new(10, 96, 0, 10).into(),
            Ipv4Addr::new(10, 244, 1, 5).into(),
            DataType::Ipv4,
        ),
        Family::Ip6 => {
            let address = |last| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
            (address(0x10), address(0x25), DataType::Ipv6)
        }
    };
    Table {
        id: id(family),
        sets: sets(&octets(service), &octets(pod), data_type),
        chains: chains(&octets(pod)),
    }
}

fn sets(service: &[u8], pod: &[u8], address: DataType) -> BTreeMap<String, Set> {
    use DataType::{InterfaceName, Number, Port, Protocol};
    let front = Key::new().part(service).part(&[6]).part(&80u16.to_be_bytes());
    let slot = |slot: u32| front.part(&slot.to_ne_bytes());
    let back = |port: u16| ElementValue::Data(Key::new().part(pod).part(&port.to_be_bytes()));
    let port = |port: u16| Key::new().part(&port.to_be_bytes());
    let mut interface = [0; 16];
    interface[..9].copy_from_slice(b"flannel.1");

    let mut services = set(&[address, Protocol, Port], SetData::Verdict);
    services.counters = true;
    services.elements.insert(
        front,
        element(ElementValue::Verdict(chain("slots")), "Service default/web .spec.ports[0]"),
    );
    let mut slots = set(&[address, Protocol, Port, Number], SetData::Values(vec![address, Port]));
    slots.elements.extend((0..3).map(|n| (slot(n), element(back(9376), ""))));
    let mut ports = set(&[Port], SetData::Verdict);
    for (number, verdict) in [
        (1, Verdict::Accept),
        (2, Verdict::Drop),
        (3, Verdict::Return),
        (4, Verdict::Goto("slots".into())),
    ] {
        ports.elements.insert(port(number), element(ElementValue::Verdict(verdict), "a"));
    }
    let mut local = set(&[address], SetData::None);
    local.elements.insert(Key::new().part(pod), element(ElementValue::None, "the pod"));
    let mut interfaces = set(&[InterfaceName], SetData::None);
    interfaces.elements.insert(Key::new().part(&interface), element(ElementValue::None, ""));
    let mut translated = set(&[Port], SetData::Values(vec![Port]));
    translated.elements.insert(port(80), element(ElementValue::Data(port(8080)), ""));
    let mut ranges = set(&[Port], SetData::None);
    ranges.interval = true;
    for (first, until) in [(10, Some(20)), (20, Some(30)), (40, Some(41)), (60000, None)] {
        let element = Element { until: until.map(port), ..element(ElementValue::None, "range") };
        ranges.elements.insert(port(first), element);
    }
    [
        ("services", services),
        ("slots", slots),
        ("ports", ports),
        ("local", local),
        ("interfaces", interfaces),
        ("translated", translated),
        ("ranges", ranges),
    ]
    .map(|(name, set)| (name.to_owned(), set))
    .into()
}

fn chains(pod: &[u8]) -> BTreeMap<String, Chain> {
    use Statement::{Counter, DnatMap, InSet, Masquerade, Match, Reject, SetMark, VerdictMap};
    let is =
        |field, value: &[u8]| Match { field, mask: None, negate: false, value: value.to_vec() };
    let masked = |field, bits: u32, negate| Match {
        field,
        mask: Some(bits.to_ne_bytes().to_vec()),
        negate,
        value: bits.to_ne_bytes().to_vec(),
    };
    let front = vec![Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    let random = [front.clone(), vec![Field::Random { modulus: 3, offset: 0 }]].concat();
    let first = [front.clone(), vec![Field::Constant(vec![0; 4])]].concat();
    let hooked = |kind, point, priority, rules| {
        let hook = Some(Hook { kind, point, priority });
        Chain { hook, rules }
    };
    let slots = |key| DnatMap { key, map: "slots".into() };
    let in_set = |field, set: &str, negate| InSet { key: vec![field], set: set.into(), negate };
    let dispatch = vec![
        rule(vec![VerdictMap { key: front, map: "services".into() }]),
        rule(vec![
            in_set(Field::SourceAddress, "local", true),
            Counter,
            Statement::Verdict(chain("plain")),
        ]),
        rule(vec![VerdictMap { key: vec![Field::DestinationPort], map: "ports".into() }]),
        rule(vec![
            is(Field::SourceAddress, pod),
            is(Field::Protocol, &[17]),
            is(Field::SourcePort, &[0, 53]),
        ]),
        rule(vec![
            is(Field::DestinationAddressType, &2u32.to_ne_bytes()),
            in_set(Field::DestinationPort, "ranges", false),
        ]),
    ];
    let slot_rules = vec![
        rule(vec![SetMark { and: !0x4000, xor: 0x4000 }]),
        rule(vec![slots(random)]),
        rule(vec![slots(first)]),
    ];
    let postrouting = vec![
        rule(vec![
            masked(Field::Mark, 0x4000, false),
            SetMark { and: !0x4000, xor: 0 },
            Counter,
            Masquerade,
        ]),
        rule(vec![masked(Field::ConntrackStatus, 32, true), Statement::Verdict(Verdict::Accept)]),
    ];
    let plain = vec![
        rule(vec![
            masked(Field::ConntrackState, 8, false),
            Counter,
            Statement::Verdict(Verdict::Return),
        ]),
        rule(vec![
            in_set(Field::InputInterface, "interfaces", false),
            Statement::Verdict(Verdict::Goto("last".into())),
        ]),
    ];
    let refuse = vec![rule(vec![Counter, Reject])];
    let last = vec![rule(vec![Statement::Verdict(Verdict::Drop)])];
    [
        ("dispatch", hooked(ChainKind::Nat, HookPoint::Prerouting, -100, dispatch)),
        ("slots", Chain { hook: None, rules: slot_rules }),
        ("postrouting", hooked(ChainKind::Nat, HookPoint::Postrouting, 100, postrouting)),
        ("refuse", hooked(ChainKind::Filter, HookPoint::Input, -5, refuse)),
        ("plain", Chain { hook: None, rules: plain }),
        ("last", Chain { hook: None, rules: last }),
    ]
    .map(|(name, chain)| (name.to_owned(), chain))
    .into()
}

#[test]
fn one_of_everything_comes_back_as_written() {
    isolated(|| {
        let mut socket = Socket::netfilter().unwrap();
        for family in [Family::Ip, Family::Ip6] {
            let wanted = everything(family);
            Transaction::new().whole(&wanted).commit(&mut socket).unwrap();
            let observed = read_table(&mut socket, &wanted.id).unwrap().unwrap();
            assert_eq!(observed.table, wanted);
            assert!(observed.unknown.is_empty());
        }
        assert_eq!(tables(&mut socket).unwrap(), [id(Family::Ip), id(Family::Ip6)]);
    });
}

#[test]
fn random_tables_come_back_as_written() {
    isolated(|| {
        let socket = RefCell::new(Socket::netfilter().unwrap());
        let mut runner = TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(200)
        });
        let round_trip = |table: Table| {
            let mut socket = socket.borrow_mut();
            Transaction::new().delete_table(&table.id).whole(&table).commit(&mut socket).unwrap();
            let observed = read_table(&mut socket, &table.id).unwrap().unwrap();
            prop_assert_eq!(observed.table, table);
            prop_assert!(observed.unknown.is_empty());
            Ok(())
        };
        runner.run(&arbitrary::table(), round_trip).unwrap();
    });
}

#[test]
fn nft_lists_what_was_written() {
    isolated(|| {
        let mut socket = Socket::netfilter().unwrap();
        Transaction::new().whole(&everything(Family::Ip)).commit(&mut socket).unwrap();
        let text = run("nft list ruleset");
        for words in [
            &["type ipv4_addr . inet_proto . inet_service : verdict"][..],
            &[
                "10.96.0.10 . tcp . 80",
                "comment \"Service default/web .spec.ports[0]\" : jump slots",
            ],
            &["type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service"],
            &["10.96.0.10 . tcp . 80 . 0x00000000 : 10.244.1.5 . 9376"],
            &["type nat hook prerouting priority dstnat; policy accept;"],
            &["ip daddr . meta l4proto . th dport vmap @services comment \"1 statements"],
            &["meta mark set meta mark | 0x00004000"],
            &["dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @slots"],
            &["masquerade fully-random"],
            &["meta l4proto tcp counter packets 0 bytes 0 reject with tcp reset"],
            &["reject comment"],
            &["elements = { \"flannel.1\" }"],
            &["10-19", "20-29", "40", "60000-65535"],
        ] {
            assert_line(&text, words);
        }
    });
}

#[test]
fn what_nft_wrote_is_read_and_what_is_foreign_is_said() {
    isolated(|| {
        let script = "table ip podway {
            set blocked { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.1, 255.255.255.0-255.255.255.255 } }
            set timed { type ipv4_addr; timeout 1h; }
            map m { type inet_proto . inet_service : verdict; elements = { tcp . 80 : jump other, udp . 53 : accept } }
            chain other { tcp dport 443 counter accept comment \"https\"; limit rate 5/second drop; }
            chain pre { type nat hook prerouting priority dstnat; meta l4proto . th dport vmap @m; }
            chain route { type route hook output priority mangle; }
        }";
        feed("nft -f -", script);
        let observed =
            read_table(&mut Socket::netfilter().unwrap(), &id(Family::Ip)).unwrap().unwrap();
        assert_eq!(
            observed.unknown.iter().map(String::as_str).collect::<Vec<_>>(),
            ["route", "timed"]
        );

        let address = |text: &str| Key::new().part(&text.parse::<Ipv4Addr>().unwrap().octets());
        let ranges: Vec<_> = observed.table.sets["blocked"]
            .elements
            .iter()
            .map(|(key, e)| (*key, e.until))
            .collect();
        let expected = [
            (address("10.0.0.0"), Some(address("11.0.0.0"))),
            (address("192.168.1.1"), Some(address("192.168.1.2"))),
            (address("255.255.255.0"), None),
        ];
        assert_eq!(ranges, expected);
        assert_eq!(observed.table.sets["m"].elements.len(), 2);
        let other = &observed.table.chains["other"].rules;
        let port = |field, value: &[u8]| Statement::Match {
            field,
            mask: None,
            negate: false,
            value: value.to_vec(),
        };
        let https = vec![
            port(Field::Protocol, &[6]),
            port(Field::DestinationPort, &443u16.to_be_bytes()),
            Statement::Counter,
            Statement::Verdict(Verdict::Accept),
        ];
        assert_eq!(other[0], Rule { statements: https, comment: "https".into() });
        let limited = vec![Statement::Unknown("limit".into()), Statement::Verdict(Verdict::Drop)];
        assert_eq!(other[1].statements, limited);
        let key = vec![Field::Protocol, Field::DestinationPort];
        let vmap = Statement::VerdictMap { key, map: "m".into() };
        assert_eq!(observed.table.chains["pre"].rules[0].statements, [vmap]);
    });
}

#[test]
fn a_transaction_is_all_or_nothing_and_names_the_culprit() {
    isolated(|| {
        let mut socket = Socket::netfilter().unwrap();
        let table = everything(Family::Ip);
        let mut transaction = Transaction::new();
        transaction.whole(&table).flush_chain(&table.id, "nowhere");
        let error = transaction.commit(&mut socket).unwrap_err().to_string();
        assert_eq!(error, "flush chain podway nowhere: ENOENT: No such file or directory");
        assert_eq!(read_table(&mut socket, &table.id).unwrap(), None);

        let long = Rule { statements: Vec::new(), comment: "x".repeat(252) };
        let error =
            Transaction::new().rule(&table.id, "plain", &long).commit(&mut socket).unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        Transaction::new()
            .delete_table(&table.id)
            .delete_table(&table.id)
            .commit(&mut socket)
            .unwrap();
    });
}

#[test]
fn elements_and_chains_change_in_place() {
    isolated(|| {
        let mut socket = Socket::netfilter().unwrap();
        let mut table = everything(Family::Ip);
        Transaction::new().whole(&table).commit(&mut socket).unwrap();
        let before = generation(&mut socket).unwrap();

        let slots = table.sets.get_mut("slots").unwrap();
        let key = *slots.elements.keys().next().unwrap();
        let value = Key::new().part(&[10, 244, 2, 9]).part(&81u16.to_be_bytes());
        slots.elements.insert(key, element(ElementValue::Data(value), "moved"));
        let ranges = table.sets.get_mut("ranges").unwrap();
        let (first, gone) = ranges.elements.pop_first().unwrap();
        table.sets.remove("interfaces");
        let last = table.chains.get_mut("last").unwrap();
        last.rules = vec![rule(vec![Statement::Counter])];
        table.chains.get_mut("plain").unwrap().rules.pop();

        let mut transaction = Transaction::new();
        let (slots, ranges) = (&table.sets["slots"], &table.sets["ranges"]);
        transaction
            .delete_elements(&table.id, "slots", slots, [(&key, None)])
            .elements(&table.id, "slots", slots, [(&key, &slots.elements[&key])])
            .delete_elements(&table.id, "ranges", ranges, [(&first, gone.until.as_ref())])
            .flush_chain(&table.id, "last")
            .rule(&table.id, "last", &table.chains["last"].rules[0])
            .flush_chain(&table.id, "plain")
            .rule(&table.id, "plain", &table.chains["plain"].rules[0])
            .delete_set(&table.id, "interfaces");
        assert_eq!(transaction.commit(&mut socket).unwrap().transactions, 1);
        let observed = read_table(&mut socket, &table.id).unwrap().unwrap();
        assert_eq!(observed.table, table);
        assert_ne!(observed.generation, before);
    });
}

#[test]
fn many_elements_go_in_one_transaction_or_in_parts() {
    isolated(|| {
        let mut socket = Socket::netfilter().unwrap();
        let table = id(Family::Ip);
        let mut many = set(&[DataType::Ipv4], SetData::None);
        many.elements = (0..20_000_u32)
            .map(|n| {
                (Key::new().part(&n.to_be_bytes()), element(ElementValue::None, "one of many"))
            })
            .collect();
        let mut transaction = Transaction::new();
        transaction.table(&table).set(&table, "many", &many).elements(
            &table,
            "many",
            &many,
            &many.elements,
        );
        let stats = transaction.commit_in_parts(&mut socket, usize::MAX).unwrap();
        let observed = read_table(&mut socket, &table).unwrap().unwrap();
        assert_eq!(observed.table.sets["many"], many);
        for (more, fewer) in [(0, 0), (7, 0), (0, 3), (40, 40)] {
            let mut expected = many.clone();
            let added = (1 << 31..(1 << 31) + more).map(|n: u32| Key::new().part(&n.to_be_bytes()));
            expected
                .elements
                .extend(added.map(|key| (key, element(ElementValue::None, "not there"))));
            (0..fewer).for_each(|_| drop(expected.elements.pop_first()));
            let expected = Table {
                id: table.clone(),
                sets: [("many".into(), expected)].into(),
                chains: [].into(),
            };
            let like = read_table_like(&mut socket, &expected).unwrap().unwrap();
            assert_eq!(like.table, observed.table, "{more} more and {fewer} fewer expected");
        }
        let whole = transaction.octets() <= socket.room();
        assert_eq!(stats.transactions == 1, whole, "{stats:?}");
    });
}

#[test]
fn counters_count_elements_and_rules() {
    isolated(|| {
        run("ip link set lo up");
        let mut socket = Socket::netfilter().unwrap();
        let table = id(Family::Ip);
        let mut ports = set(&[DataType::Protocol, DataType::Port], SetData::Verdict);
        ports.counters = true;
        let key = Key::new().part(&[17]).part(&5353u16.to_be_bytes());
        ports
            .elements
            .insert(key, element(ElementValue::Verdict(Verdict::Goto("counted".into())), ""));
        let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Input, priority: 0 };
        let map_key = vec![Field::Protocol, Field::DestinationPort];
        let lookup = rule(vec![Statement::VerdictMap { key: map_key, map: "ports".into() }]);
        let counted = rule(vec![Statement::Counter, Statement::Reject]);
        let chains = [
            ("counted".to_owned(), Chain { hook: None, rules: vec![counted] }),
            ("input".to_owned(), Chain { hook: Some(hook), rules: vec![lookup] }),
        ];
        let whole = Table {
            id: table.clone(),
            sets: [("ports".into(), ports)].into(),
            chains: chains.into(),
        };
        Transaction::new().whole(&whole).commit(&mut socket).unwrap();

        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect("127.0.0.1:5353").unwrap();
        client.send(b"hello").unwrap();
        assert_eq!(
            client.recv(&mut [0]).unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );

        let observed = read_table(&mut socket, &table).unwrap().unwrap();
        let expected = kernel::nft::Count { packets: 1, octets: 33 };
        assert_eq!(observed.element_counts["ports"][&key], expected);
        assert_eq!(observed.rule_counts["counted"][&0], expected);
    });
}

#[test]
fn a_monitor_hears_of_rules() {
    isolated(|| {
        let mut monitor = Monitor::rules().unwrap();
        let mut socket = Socket::netfilter().unwrap();
        let is_told = |monitor: &Monitor| {
            let mut descriptors = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
            poll(&mut descriptors, PollTimeout::ZERO).unwrap() > 0
        };
        monitor.ignore(&socket).unwrap();
        Transaction::new().table(&id(Family::Ip)).commit(&mut socket).unwrap();
        assert!(!is_told(&monitor));
        run("nft add table ip other");
        assert!(is_told(&monitor) && monitor.drain().unwrap().rules);
    });
}
