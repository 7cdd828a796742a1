//! Rules for names (`k8s.io/apimachinery/pkg/util/validation`).

use super::causes::Causes;
use crate::resources::{Kind, Resource};
use serde_json::Value;
use std::net::IpAddr;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const TOO_LONG_LABEL: &str = "must be no more than 63 bytes";
const TOO_LONG_SUBDOMAIN: &str = "must be no more than 253 bytes";

/// Checks `metadata.name`, or the prefix of a name that the server makes up.
pub(super) fn check(resource: &Resource, object: &Value, causes: &mut Causes) {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let (name, prefix) = (text("name"), text("generateName"));
    if !prefix.is_empty() {
        // What comes behind it is good at the end of any name.
        let whole = format!("{prefix}x");
        if let Err(detail) = of_kind(resource.kind, &whole) {
            causes.invalid("metadata.generateName", &prefix.into(), detail);
        }
    }
    if let Err(detail) = of_kind(resource.kind, name) {
        causes.invalid("metadata.name", &name.into(), detail);
    }
}

fn of_kind(kind: Kind, name: &str) -> Result<(), &'static str> {
    match kind {
        Kind::Service | Kind::Namespace => label(name),
        // An address in its canonical form.
        Kind::IPAddress if name.parse::<IpAddr>().is_ok_and(|it| it.to_string() == name) => Ok(()),
        Kind::IPAddress if name.split('.').any(|part| part.len() > 1 && part.starts_with('0')) => {
            Err("must not have leading 0s")
        }
        Kind::IPAddress => Err("must be a valid IP address in canonical form"),
        Kind::Role
        | Kind::RoleBinding
        | Kind::ClusterRole
        | Kind::ClusterRoleBinding
        | Kind::CertificateSigningRequest => path_segment(name),
        _ => subdomain(name),
    }
}

/// Names of rights may be almost anything: `system:node`.
fn path_segment(name: &str) -> Result<(), &'static str> {
    match name {
        "." => Err("may not be '.'"),
        ".." => Err("may not be '..'"),
        _ if name.contains('/') => Err("may not contain '/'"),
        _ if name.contains('%') => Err("may not contain '%'"),
        _ => Ok(()),
    }
}

/// The key of a label, `[subdomain/]name`; all that is wrong with it.
pub(super) fn qualified(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            match subdomain(prefix) {
                _ if prefix.is_empty() => faults.push("prefix part must be non-empty".to_owned()),
                Err(detail) => faults.push(format!("prefix part {detail}")),
                Ok(()) => {}
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    match name.len() {
        0 => faults.push("name part must be non-empty".to_owned()),
        64.. => faults.push(format!("name part {TOO_LONG_LABEL}")),
        _ => {}
    }
    if !is_word(name) {
        faults.push(format!("name part {QUALIFIED}"));
    }
    faults
}

/// The value of a label; all that is wrong with it.
pub(super) fn label_value(value: &str) -> Vec<&'static str> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(TOO_LONG_LABEL);
    }
    if !value.is_empty() && !is_word(value) {
        faults.push(LABEL_VALUE);
    }
    faults
}

/// Keys of ConfigMaps and Secrets; all that is wrong with it.
pub(super) fn config_key(key: &str) -> Vec<&'static str> {
    let mut faults = Vec::new();
    if key.len() > 253 {
        faults.push(TOO_LONG_SUBDOMAIN);
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.is_empty() || !key.chars().all(good) {
        faults.push(CONFIG_KEY);
    }
    match key {
        "." => faults.push("must not be '.'"),
        ".." => faults.push("must not be '..'"),
        _ if key.starts_with("..") => faults.push("must not start with '..'"),
        _ => {}
    }
    faults
}

/// Port names (RFC 6335 §5.1, as the real server reads it); all that is wrong with it.
pub(super) fn port(name: &str) -> Vec<&'static str> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let faults = [
        (name.len() > 15, "must be no more than 15 characters"),
        (
            name.is_empty() || !name.chars().all(letter),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            !name.contains(|c: char| c.is_ascii_lowercase()),
            "must contain at least one letter (a-z)",
        ),
        (name.contains("--"), "must not contain consecutive hyphens"),
        (name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    faults.into_iter().filter_map(|(wrong, detail)| wrong.then_some(detail)).collect()
}

/// RFC 1123 label: container and port names, namespaces.
pub(super) fn label(name: &str) -> Result<(), &'static str> {
    match name.len() {
        64.. => Err(TOO_LONG_LABEL),
        _ if is_label(name) => Ok(()),
        _ if subdomain(name).is_ok() => Err("must not contain dots"),
        _ => Err(LABEL),
    }
}

pub(super) fn subdomain(name: &str) -> Result<(), &'static str> {
    match name.len() {
        254.. => Err(TOO_LONG_SUBDOMAIN),
        _ if name.split('.').all(is_label) => Ok(()),
        _ => Err(SUBDOMAIN),
    }
}

/// Letters and digits, and between them `-`, `_` and `.`.
fn is_word(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || matches!(c, '-' | '_' | '.'))
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || c == '-')
}
