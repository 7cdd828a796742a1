//! Reading, printing and comparing.

use crate::arbitrary::{rubbish, rule_set, some_names};
use netstate::iptables::{ChainDelta, Delta, Rule, RuleSet, Scope, TableName, Target};
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_printed_is_read_back(rules in rule_set()) {
        prop_assert_eq!(RuleSet::parse(&rules.to_string()), Ok(rules));
    }

    #[test]
    fn rubbish_is_refused_with_its_line_or_means_what_it_prints(text in rubbish()) {
        match RuleSet::parse(&text) {
            Ok(rules) => prop_assert_eq!(RuleSet::parse(&rules.to_string()), Ok(rules)),
            Err(error) => prop_assert!((1..=text.lines().count()).contains(&error.line), "{}", error),
        }
    }

    /// Owned chains become what is wanted; in others nothing but ways to owned ones changes.
    #[test]
    fn a_difference_makes_one_of_the_other(
        observed in rule_set(), wanted in rule_set(), owned in some_names(),
    ) {
        let owns = |name: &str| owned.contains(name);
        let scope = Scope { owns: &owns, unordered: &|_, name| (name == "KUBE-SERVICES").then_some(1) };
        let mut made = observed.clone();
        Delta::between(&observed, &wanted, &scope).apply(&mut made);
        prop_assert!(Delta::between(&made, &wanted, &scope).is_empty(), "{}", made);
        for name in TableName::ALL {
            let foreign = |rules: &RuleSet| -> Vec<(String, Rule)> {
                let chains = rules.tables.get(&name).into_iter().flat_map(|table| &table.chains);
                let ours = |rule: &Rule| rule.leads_to().is_some_and(owns) || is_in(rule, &wanted);
                let rules = chains.filter(|(chain, _)| !owns(chain)).flat_map(|(chain, it)| {
                    it.rules.iter().map(|rule| (chain.clone(), rule.clone()))
                });
                rules.filter(|(_, rule)| !ours(rule)).collect()
            };
            prop_assert_eq!(foreign(&observed), foreign(&made));
        }
    }
}

fn is_in(rule: &Rule, rules: &RuleSet) -> bool {
    let chains = rules.tables.values().flat_map(|table| table.chains.values());
    chains.flat_map(|chain| &chain.rules).any(|it| it.is_like(rule))
}

#[track_caller]
fn read(line: &str) -> Rule {
    let text = format!("*filter\n:A - [0:0]\n-A A {line}\nCOMMIT\n");
    RuleSet::parse(&text).unwrap().chain(TableName::Filter, "A").unwrap().rules[0].clone()
}

/// What one variant or version of the tools prints and another does not, read to the same.
#[test]
fn dialects_are_one_language() {
    for (one, other) in [
        ("-s 10.0.0.1 -j ACCEPT", "-s 10.0.0.1/32 -j ACCEPT"),
        ("-s 10.0.0.0/255.0.0.0 -j ACCEPT", "-s 10.0.0.0/8 -j ACCEPT"),
        ("-p 6 -m tcp --dport 80:80", "-p tcp -m tcp --dport 80"),
        ("-p tcp -m tcp", "-p tcp"),
        ("-m tcp --sport :1023 --dport 1024:", "-m tcp --sport 0:1023 -m tcp --dport 1024:65535"),
        ("-m state --state RELATED,ESTABLISHED", "-m conntrack --ctstate ESTABLISHED,RELATED"),
        (
            "-m statistic --mode random --probability 0.5",
            "-m statistic --mode random --probability 0.50000000000",
        ),
        ("-j MARK --or-mark 0x4000", "-j MARK --set-xmark 0x4000/0x4000"),
        ("-j MARK --xor-mark 0x4000", "-j MARK --set-xmark 0x4000/0x0"),
        ("-j MARK --and-mark 0xffffbfff", "-j MARK --set-xmark 0x0/0x4000"),
        ("-j MARK --set-mark 0x1/0xff", "-j MARK --set-xmark 0x1/0xff"),
        ("-j REJECT --reject-with icmp-port-unreachable", "-j REJECT"),
        ("-j REJECT --reject-with icmp6-port-unreachable", "-j REJECT"),
        (
            "-m recent --rcheck --seconds 9 --reap --name X --mask 255.255.255.255 --rsource",
            "-m recent --rcheck --seconds 9 --reap --name X",
        ),
        ("-m comment --comment plain", "-m comment --comment \"plain\""),
    ] {
        assert_eq!(read(one), read(other), "{one}");
    }
}

#[test]
fn what_is_not_understood_is_kept_as_it_is() {
    for line in [
        "-m limit --limit 5/min --limit-burst 3 -j LOG --log-prefix \"dropped: \"",
        "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        "-j DNAT --to-destination 10.0.0.1-10.0.0.9",
        "-m socket -j ACCEPT",
        "! -s 10.0.0.0/255.0.255.0 -m physdev ! --physdev-is-bridged -j NFQUEUE --queue-num 1",
    ] {
        let rule = read(line);
        assert_eq!(rule.to_string().trim_start(), line);
        let text = format!("{rule:?}");
        assert!(text.contains("Unknown"), "{text}");
    }
    let comment = read("-m comment --comment -j -j DROP");
    assert_eq!((comment.comment(), &comment.target), (Some("-j"), &Some(Target::Drop)));
}

#[test]
fn faults_have_their_lines() {
    for (text, error) in [
        ("*nat\n:A - [0:0]\n-A B -j DROP\nCOMMIT", "line 3: a rule of the undeclared chain `B`"),
        ("\n*nut\nCOMMIT", "line 2: `nut` is not a table of iptables"),
        ("*nat\n:A - [0:0]", "line 2: table nat is not closed with COMMIT"),
        ("*nat\n:A - [0]", "line 2: counters are written `[packets:octets]`"),
        ("*nat\n:A - [0:0]\n-A A -m comment --comment \"x", "line 3: a quote is not closed"),
        ("*nat\n:A - [0:0]\n-A A -s banana", "line 3: `banana` is no value of -s"),
        ("*nat\n:A - [0:0]\n-A A -j", "line 3: `-j` has no value"),
        ("-A A -j DROP", "line 1: there is no table open here"),
        ("*nat\n*filter", "line 2: table nat is not closed with COMMIT"),
        ("*nat\nCOMMIT\n*nat\nCOMMIT", "line 3: table nat comes a second time"),
        (
            "iptables: Permission denied",
            "line 1: `iptables: Permission denied` was not expected here",
        ),
    ] {
        assert_eq!(RuleSet::parse(text).unwrap_err().to_string(), error, "{text}");
    }
}

/// Chains are declared before anything leads to them and removed when nothing does any more.
#[test]
fn a_difference_is_the_least_input_for_restore() {
    let before = "*nat\n:PREROUTING ACCEPT [7:420]\n:DOCKER - [0:0]\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n:KUBE-C - [0:0]\n\
        -A PREROUTING -j DOCKER\n-A PREROUTING -j KUBE-B\n-A DOCKER -j RETURN\n-A KUBE-A -j KUBE-B\n-A KUBE-C -j RETURN\nCOMMIT\n";
    let after = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-A - [0:0]\n:KUBE-C - [0:0]\n:KUBE-D - [0:0]\n\
        -A PREROUTING -m comment --comment \"to pods\" -j KUBE-A\n-A KUBE-A -j KUBE-D\n-A KUBE-C -j RETURN\n\
        -A KUBE-D -p udp -m udp --dport 53 -j DNAT --to-destination [fd00::1]:53\nCOMMIT\n";
    let (before, after) = (RuleSet::parse(before).unwrap(), RuleSet::parse(after).unwrap());
    let scope = Scope { owns: &|name| name.starts_with("KUBE-"), unordered: &|_, _| None };
    let delta = Delta::between(&before, &after, &scope);
    let text = "*nat\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n:KUBE-D - [0:0]\n-A KUBE-A -j KUBE-D\n\
        -A KUBE-D -p udp -m udp --dport 53 -j DNAT --to-destination [fd00::1]:53\n\
        -D PREROUTING -j KUBE-B\n-I PREROUTING -m comment --comment \"to pods\" -j KUBE-A\n-X KUBE-B\nCOMMIT\n";
    assert_eq!(delta.to_string(), text);
    assert_eq!(Delta::default().to_string(), "");
    assert_eq!(delta.tables[&TableName::Nat].chains.get("KUBE-B"), Some(&ChainDelta::Remove),);
}
