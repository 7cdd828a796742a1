//! What connections carried, as the agent of this node says.

use super::Table;
use crate::get;
use anyhow::{Context, bail};
use backend::Served;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// The columns of a front end.
pub(super) const HEADINGS: [&str; 3] = ["active", "request_bytes", "reply_bytes"];

/// The agent's `/accounting`.
pub(super) fn of_agent(agent: SocketAddr) -> anyhow::Result<Value> {
    let asked = || format!("what connections carried is not known: no agent at {agent} (--agent)");
    let answer =
        get::ask(agent, &agent.to_string(), "/accounting", PATIENCE).with_context(asked)?;
    if answer.status != 200 {
        bail!("what connections carried is not known: {}", answer.body.trim());
    }
    serde_json::from_str(&answer.body).context("the agent's answer")
}

/// Open connections, octets of requests and of replies.
pub(super) fn of_frontend(accounts: &Value, served: &Served) -> [Value; 3] {
    let address = served.address.map_or("node".to_owned(), |address| address.to_string());
    let protocol = match served.protocol {
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "",
    };
    let family = served.family.to_string();
    let is = |row: &&Value| {
        row["address"] == address.as_str()
            && row["ipFamily"] == family.as_str()
            && row["protocol"] == protocol
            && row["port"] == served.port
    };
    let Some(rows) = accounts["frontends"].as_array() else { return [(); 3].map(|()| Value::Null) };
    match rows.iter().find(is) {
        Some(row) => ["active", "requestBytes", "replyBytes"].map(|name| row[name].clone()),
        None => [(); 3].map(|()| json!(0)),
    }
}

pub(super) fn endpoints(accounts: &Value) -> Table {
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let port = text("portName");
        let service = format!("{}/{}", text("namespace"), text("service"));
        let service = if port.is_empty() { service } else { format!("{service}:{port}") };
        let numbers = ["connections", "active", "requestBytes", "replyBytes"];
        let mut cells = vec![json!(service), row["endpoint"].clone(), row["protocol"].clone()];
        cells.extend(numbers.map(|name| row[name].clone()));
        cells
    };
    let rows = accounts["endpoints"].as_array().into_iter().flatten().map(row).collect();
    let mut headings = vec!["service", "endpoint", "protocol", "connections"];
    headings.extend(HEADINGS);
    Table { headings, rows }
}
