//! `podway show`: what is programmed in this network namespace, with origins and counters.

mod carried;

use crate::daemon::{Connection, block_on};
use crate::output;
use backend::nft::read::{self, ShownRule};
use backend::served::Relayed;
use backend::{Fate, Served, services};
use clap::{Args, Subcommand, ValueEnum};
use client::Kind;
use ipnet::IpNet;
use kernel::netlink::Socket;
use kernel::route;
use model::{Family, Object, ObjectKey, Origin, Scheduler, World};
use netstate::{NetState, Route};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Show what is programmed on this node, where it comes from and what it has counted
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(subcommand)]
    what: What,
    #[arg(short, long, value_enum, default_value = "text", global = true)]
    output: Output,
    /// Where this node's agent answers with its metrics: it knows what connections carried (--connection-accounting)
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10249", global = true)]
    agent: SocketAddr,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Front ends with their endpoints and new connections; with -o wide what they carried
    Services,
    /// Endpoints of Services that had connections, with what these carried
    Endpoints,
    /// Routes to pods and tunnel ends; their origins are asked of the API, since the kernel keeps no comments
    Routes,
    /// All rules of the service table
    Rules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    /// Text with more columns
    Wide,
    Json,
}

pub(crate) fn run(show: Show) -> anyhow::Result<ExitCode> {
    let table = match show.what {
        What::Services => services(match show.output {
            Output::Text => None,
            Output::Wide => Some(carried::of_agent(show.agent)?),
            // Whoever reads it can do with nulls.
            Output::Json => Some(carried::of_agent(show.agent).unwrap_or_default()),
        })?,
        What::Endpoints => carried::endpoints(&carried::of_agent(show.agent)?),
        What::Routes => routes(&show.connection)?,
        What::Rules => rules()?,
    };
    let text = match show.output {
        Output::Text | Output::Wide => table.text(),
        Output::Json => format!("{:#}\n", table.json()),
    };
    output::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Rows under headings: printed in columns, or as objects with the headings as keys.
struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    fn text(&self) -> String {
        let heading = self.headings.iter().map(|heading| heading.to_uppercase()).collect();
        let cells = self.rows.iter().map(|row| row.iter().map(cell).collect());
        let lines: Vec<Vec<String>> = std::iter::once(heading).chain(cells).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<_> =
            (0..self.headings.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for line in &lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    fn json(&self) -> Value {
        let object = |row: &Vec<Value>| {
            self.headings
                .iter()
                .map(|heading| (*heading).to_owned())
                .zip(row.iter().cloned())
                .collect()
        };
        Value::Array(self.rows.iter().map(object).map(Value::Object).collect())
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// With what connections carried, where that is asked for.
fn services(carried: Option<Value>) -> anyhow::Result<Table> {
    let served = services::served()?;
    let row = |served: &Served| {
        let address = served.address.map_or("node".to_owned(), |address| address.to_string());
        let protocol = match served.protocol {
            6 => json!("TCP"),
            17 => json!("UDP"),
            132 => json!("SCTP"),
            other => json!(other),
        };
        let (endpoints, local) = match &served.fate {
            Fate::Balanced { endpoints } => (json!(weighed(endpoints)), Value::Null),
            Fate::BySource { inside, outside } => (json!(weighed(inside)), json!(weighed(outside))),
            Fate::Refused => (json!("refused"), Value::Null),
            Fate::NotHere => (json!("dropped"), Value::Null),
        };
        let sources: Vec<_> = served.sources.iter().map(ToString::to_string).collect();
        let mut row = vec![
            json!(address),
            json!(served.port),
            protocol,
            json!(served.connections.map(|count| count.packets)),
            endpoints,
            local,
            json!(served.affinity),
            json!(sources),
            json!(served.origin.as_ref().map(ToString::to_string)),
        ];
        row.extend(carried.iter().flat_map(|carried| carried::of_frontend(carried, served)));
        row
    };
    let mut rows: Vec<_> = served.iter().map(row).collect();
    let mut headings = vec![
        "address",
        "port",
        "protocol",
        "connections",
        "endpoints",
        "local",
        "affinity",
        "sources",
        "origin",
    ];
    if carried.is_some() {
        headings.extend(carried::HEADINGS);
    }
    if served.iter().any(|served| served.relayed.is_some()) {
        headings.extend(["scheduler", "unserved"]);
        rows.iter_mut().zip(&served).for_each(|(row, served)| row.extend(relayed(served)));
    }
    Ok(Table { headings, rows })
}

/// What only a process that carries connections knows.
fn relayed(served: &Served) -> [Value; 2] {
    let Some(Relayed { scheduler, unserved }) = &served.relayed else { return Default::default() };
    [json!(scheduler.unwrap_or(Scheduler::Random).to_string()), json!(unserved)]
}

/// Each endpoint once, with the number of its slots where there are several.
fn weighed(endpoints: &[SocketAddr]) -> Vec<String> {
    let mut slots: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    endpoints.iter().for_each(|endpoint| *slots.entry(*endpoint).or_default() += 1);
    let text = |(endpoint, slots): (&SocketAddr, &usize)| match slots {
        1 => endpoint.to_string(),
        slots => format!("{endpoint}={slots}"),
    };
    slots.iter().map(text).collect()
}

fn rules() -> anyhow::Result<Table> {
    let mut shown = Vec::new();
    for family in Family::ALL {
        shown.extend(read::observe(family)?.as_ref().map(read::rules).unwrap_or_default());
    }
    let row = |shown: &ShownRule| {
        vec![
            json!(shown.chain),
            json!(shown.count.map(|count| count.packets)),
            json!(shown.rule.comment),
            json!(shown.rule.to_string()),
        ]
    };
    Ok(Table {
        headings: vec!["chain", "packets", "why", "rule"],
        rows: shown.iter().map(row).collect(),
    })
}

fn routes(connection: &Connection) -> anyhow::Result<Table> {
    let mut socket = Socket::route()?;
    let state = route::read(&mut socket)?;
    let world = world(connection);
    let come_from = |destination: &IpNet| {
        let found = world.as_ref().and_then(|world| origin(world, destination));
        json!(found.map(|origin| origin.to_string()))
    };
    let ours = state.routes.iter().filter(|route| route.protocol == Route::PODWAY);
    let row = |route: &Route| {
        vec![
            json!(route.destination.to_string()),
            json!(route.via.map(|via| via.to_string())),
            json!(route.device),
            json!(route.source.map(|source| source.to_string())),
            json!(tunnel(&state, route)),
            come_from(&route.destination),
        ]
    };
    let mut rows: Vec<_> = ours.map(row).collect();
    rows.extend(state.unreachable.iter().map(|route| {
        let (destination, origin) =
            (json!(route.destination.to_string()), come_from(&route.destination));
        vec![destination, Value::Null, json!("unreachable"), Value::Null, Value::Null, origin]
    }));
    Ok(Table { headings: vec!["destination", "via", "device", "source", "tunnel", "origin"], rows })
}

/// The other end of the tunnel that a route leads into.
fn tunnel(state: &NetState, route: &Route) -> Option<String> {
    let mut neighbours = state.neighbours.iter();
    let neighbour = neighbours.find(|neighbour| Some(neighbour.address) == route.via)?;
    let entry = state.fdb.iter().find(|entry| entry.mac == neighbour.mac)?;
    Some(format!("{} at {}", entry.mac, entry.remote))
}

/// The objects that routes come from, where an API is named and answers.
fn world(connection: &Connection) -> Option<World> {
    if !connection.is_named() {
        return None;
    }
    let objects = block_on(async {
        let client = connection.connect().await?;
        let nodes = client::list(&client, &Kind::NODE.into()).await?;
        Ok([nodes, client::list(&client, &Kind::POD.into()).await?].concat())
    });
    match objects {
        Ok(objects) => Some(World::from_objects(
            objects.iter().filter_map(|object| Object::parse(object).ok()),
        )),
        Err(error) => {
            eprintln!("podway: origins are not known: {error:#}");
            None
        }
    }
}

/// A pod's own address, or a node's part of the pod network.
fn origin(world: &World, destination: &IpNet) -> Option<Origin> {
    let pod = world
        .pods()
        .find(|pod| pod.addresses.iter().any(|have| IpNet::from(*have) == *destination));
    let node = world.nodes().find(|node| node.pod_cidrs.contains(destination));
    let named = |kind, key: &ObjectKey, field| Origin::new(kind, &key.namespace, &key.name, field);
    pod.map(|pod| named(model::Kind::Pod, &pod.meta.key, "status.podIP"))
        .or_else(|| node.map(|node| named(model::Kind::Node, &node.meta.key, "spec.podCIDR")))
}
