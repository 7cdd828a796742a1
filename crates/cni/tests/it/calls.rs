//! Calls that touch no kernel: versions, and everything that can be wrong with one.

use crate::space::{call, config, with};
use proptest::prelude::*;
use serde_json::{Value, json};

const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_NETNS", "/nowhere"),
];

/// ADD's environment with one variable set anew.
fn adding<'a>(name: &str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let set = |(known, old)| if known == name { (known, value) } else { (known, old) };
    ADD.into_iter().map(set).collect()
}

#[test]
fn wrong_environments_have_their_codes() {
    let rows = [
        (vec![], 4),
        (adding("CNI_COMMAND", "add"), 4),
        (adding("CNI_COMMAND", ""), 4),
        (adding("CNI_CONTAINERID", ""), 4),
        (adding("CNI_CONTAINERID", "-x"), 4),
        (adding("CNI_CONTAINERID", "a/b"), 4),
        (adding("CNI_IFNAME", ""), 4),
        (adding("CNI_IFNAME", "a/b"), 4),
        (adding("CNI_IFNAME", ".."), 4),
        (adding("CNI_IFNAME", "longer-than-fifteen"), 4),
        (adding("CNI_NETNS", ""), 4),
        (adding("CNI_NETNS", "/nowhere"), 4),
        (adding("CNI_NETNS", "/"), 4),
    ];
    for (environment, code) in rows {
        let (exit, error) = call(&environment, config("1.1.0").to_string().as_bytes());
        assert_eq!((exit, &error["code"]), (1, &json!(code)), "{environment:?}: {error}");
        assert_eq!(error["cniVersion"], "1.1.0");
        assert!(!error["msg"].as_str().unwrap().is_empty());
    }
}

#[test]
fn wrong_configurations_have_their_codes() {
    let good = config("1.1.0");
    let rows = [
        (json!({"cniVersion": "2.0.0"}), 1),
        (json!({"cniVersion": 1}), 6),
        (json!({"name": ""}), 7),
        (json!({"subnet": null}), 7),
        (json!({"subnet": "10.244.0.0/33"}), 6),
        (json!({"subnet": "10.244.0.0/31"}), 7),
        (json!({"subnet": "10.244.0.0/30", "gateway": "10.244.0.3"}), 7),
        (json!({"subnet": "fd00::/127"}), 7),
        (json!({"subnets": ["fd00::/128"]}), 7),
        (json!({"mtu": 10}), 7),
        (json!({"mtu": -1}), 6),
        (json!({"routeProtocol": 256}), 6),
        (json!({"prevResult": 1}), 6),
        (json!({"dataDir": "/proc/nowhere"}), 4),
    ];
    for (fields, code) in rows {
        let config = with(&good, fields.clone()).to_string();
        let (exit, error) = call(&ADD, config.as_bytes());
        assert_eq!((exit, &error["code"]), (1, &json!(code)), "{fields}: {error}");
    }
    let (_, error) = call(&ADD, b"{");
    assert_eq!(error["code"], 6, "{error}");
}

#[test]
fn older_versions_lack_verbs() {
    let rows = [("CHECK", "0.3.1"), ("STATUS", "1.0.0"), ("GC", "0.4.0")];
    for (verb, version) in rows {
        let config = config(version).to_string();
        let (exit, error) = call(&adding("CNI_COMMAND", verb), config.as_bytes());
        assert_eq!((exit, &error["code"]), (1, &json!(1)), "{verb} {version}: {error}");
    }
}

#[test]
fn a_directory_that_cannot_be_had_makes_the_plug_in_unavailable() {
    let config = with(&config("1.1.0"), json!({"dataDir": "/proc/nowhere"})).to_string();
    let (exit, error) = call(&[("CNI_COMMAND", "STATUS")], config.as_bytes());
    assert_eq!((exit, &error["code"]), (1, &json!(50)), "{error}");
    let (exit, error) = call(&[ADD[1], ADD[2], ("CNI_COMMAND", "DEL")], config.as_bytes());
    assert_eq!((exit, &error["code"]), (1, &json!(5)), "{error}");
}

#[test]
fn versions_are_told_whatever_the_input_is() {
    for (stdin, version) in [(r#"{"cniVersion":"0.4.0"}"#, "0.4.0"), ("{}", "1.1.0"), ("", "1.1.0")]
    {
        let (exit, told) = call(&[("CNI_COMMAND", "VERSION")], stdin.as_bytes());
        assert_eq!(exit, 0);
        assert_eq!(told["cniVersion"], version, "{stdin}");
        let known = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(told["supportedVersions"], known);
    }
}

#[test]
fn collecting_garbage_takes_a_list_of_what_is_none() {
    let (exit, error) = call(&[("CNI_COMMAND", "GC")], config("1.1.0").to_string().as_bytes());
    assert_eq!((exit, &error["code"]), (1, &json!(7)), "{error}");
}

/// Configurations that are nearly right.
fn fields() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[0-9./:]{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["10.0.0.0/8"])),
    ];
    let name = prop::sample::select(vec![
        "cniVersion",
        "name",
        "subnet",
        "subnets",
        "gateway",
        "mtu",
        "dataDir",
        "routeProtocol",
        "prevResult",
        "cni.dev/valid-attachments",
        "dns",
    ]);
    prop::collection::btree_map(name.prop_map(str::to_owned), value, 0..4)
        .prop_map(|map| json!(map))
}

proptest! {
    #[test]
    fn no_input_is_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (exit, error) = call(&ADD, &bytes);
        prop_assert_eq!(exit, 1);
        prop_assert!(error["code"].is_u64());
    }

    #[test]
    fn no_configuration_is_more_than_an_error(fields in fields()) {
        let config = with(&config("1.1.0"), fields);
        let (exit, error) = call(&ADD, config.to_string().as_bytes());
        prop_assert_eq!(exit, 1);
        prop_assert!(error["code"].is_u64());
    }
}
