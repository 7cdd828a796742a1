//! Rules for names (`k8s.io/apimachinery/pkg/util/validation`).

use super::causes::Causes;
use crate::resources::{Kind, Resource};
use serde_json::Value;
use std::net::IpAddr;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const TOO_LONG_LABEL: &str = "must be no more than 63 bytes";
const TOO_LONG_SUBDOMAIN: &str = "must be no more than 253 bytes";

/// Checks `metadata.name`.
pub(super) fn check(resource: &Resource, object: &Value, causes: &mut Causes) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let wrong = match resource.kind {
        Kind::Service => label_1035(name),
        Kind::Namespace => label(name),
        // An address in its canonical form.
        Kind::IPAddress if name.parse::<IpAddr>().is_ok_and(|it| it.to_string() == name) => Ok(()),
        Kind::IPAddress => Err("must be a valid IP address in canonical form"),
        // Users and groups of others are called as they please.
        Kind::Role | Kind::RoleBinding | Kind::ClusterRole | Kind::ClusterRoleBinding => {
            path_segment(name)
        }
        _ => subdomain(name),
    };
    if let Err(detail) = wrong {
        causes.invalid("metadata.name", &name.into(), detail);
    }
}

/// RFC 1123 label: container and port names, namespaces.
pub(super) fn label(name: &str) -> Result<(), &'static str> {
    match name.len() {
        64.. => Err(TOO_LONG_LABEL),
        _ if is_label(name) => Ok(()),
        _ => Err(LABEL),
    }
}

fn label_1035(name: &str) -> Result<(), &'static str> {
    match name.len() {
        64.. => Err(TOO_LONG_LABEL),
        _ if is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) => Ok(()),
        _ => Err(LABEL_1035),
    }
}

fn path_segment(name: &str) -> Result<(), &'static str> {
    match name {
        "." => Err("may not be '.'"),
        ".." => Err("may not be '..'"),
        _ if name.contains('/') => Err("may not contain '/'"),
        _ if name.contains('%') => Err("may not contain '%'"),
        _ => Ok(()),
    }
}

fn subdomain(name: &str) -> Result<(), &'static str> {
    match name.len() {
        254.. => Err(TOO_LONG_SUBDOMAIN),
        _ if name.split('.').all(is_label) => Ok(()),
        _ => Err(SUBDOMAIN),
    }
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || c == '-')
}
