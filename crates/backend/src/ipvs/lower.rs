//! A program to virtual servers, and to the program of the service table in front of them. Pure.

use crate::nft::layout::{address_key, bare, chain, frontend_key, set as nft_set};
use model::{Family, ObjectKey, Protocol};
use netstate::TableDelta;
use netstate::ipvs::{
    Persistence, RealServer, Scheduler, Settings as ServerSettings, VirtualAddress, VirtualServer,
};
use netstate::nft::{Chain, DataType, Field, Rule, Set, SetData, Statement, Table, Verdict};
use program::{
    Action, Binding, Change, Claims, Endpoint, Frontend, Pool, Program, Scope, Standing,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The names of the sets that the service table has besides its own.
pub mod set {
    /// Address, protocol, port of each virtual server.
    pub const VIRTUAL_SERVERS: &str = "virtual-servers";
    /// The addresses on `kube-ipvs0`: what is sent there and nobody serves must not reach the node's own processes.
    pub const OWNED_ADDRESSES: &str = "owned-addresses";
}

/// What Services may ask for.
pub const SCHEDULERS: &[model::Scheduler] = model::ProxyMode::Ipvs.schedulers();

/// What the operator chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For Services that do not say (`--ipvs-scheduler`).
    pub scheduler: Scheduler,
}

impl Default for Settings {
    /// As kube-proxy.
    fn default() -> Self {
        Settings { scheduler: Scheduler::RoundRobin }
    }
}

impl From<model::Scheduler> for Settings {
    /// IPVS has nothing that is random: round robin comes closest.
    fn from(scheduler: model::Scheduler) -> Self {
        match scheduler {
            model::Scheduler::Random => Settings::default(),
            other => Settings { scheduler: Scheduler::from_name(&other.to_string()) },
        }
    }
}

/// A whole program, lowered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lowered {
    /// For the service table: where IPVS chooses, the only endpoint is the virtual server.
    pub program: Program,
    pub virtual_servers: BTreeMap<VirtualAddress, Wanted>,
    /// For `kube-ipvs0`.
    pub owned: BTreeSet<IpAddr>,
}

/// A virtual server, and all the endpoints that there are besides those it is to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub server: VirtualServer,
    pub standing: Arc<[Standing]>,
}

pub fn lower(program: &Program, settings: &Settings) -> Lowered {
    let mut lowered = Lowered {
        program: Program { services: Claims::default(), ..program.clone() },
        ..Lowered::default()
    };
    let mut by_service: BTreeMap<&ObjectKey, BTreeMap<Frontend, Binding>> = BTreeMap::new();
    for (frontend, binding) in program.services.iter() {
        let piece = piece(program, settings, frontend, binding);
        by_service.entry(&binding.port.service).or_default().extend(piece.frontends);
        lowered.virtual_servers.extend(piece.virtual_servers);
        lowered.owned.extend(piece.owned);
    }
    for (service, bindings) in by_service {
        lowered.program.services.replace(service, bindings);
    }
    lowered
}

/// What one front end becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    pub frontends: BTreeMap<Frontend, Binding>,
    pub virtual_servers: BTreeMap<VirtualAddress, Wanted>,
    pub owned: Option<IpAddr>,
}

/// Depends on the front end, on the node's addresses, and for a node port on whether somebody has the same port of
/// one of these addresses.
pub fn piece(
    program: &Program,
    settings: &Settings,
    frontend: &Frontend,
    binding: &Binding,
) -> Piece {
    let mut piece = Piece::default();
    let Some(pool) = balanced(&binding.action) else {
        piece.frontends.insert(*frontend, binding.clone());
        return piece;
    };
    let mut serve = |address: IpAddr| {
        let at = SocketAddr::new(address, frontend.port);
        let virtual_address =
            VirtualAddress::Socket { protocol: frontend.protocol.number(), address: at };
        let server = virtual_server(settings, binding, pool, Family::of(address));
        let wanted = Wanted { server, standing: binding.standing.clone() };
        piece.virtual_servers.insert(virtual_address, wanted);
        let frontend = Frontend { scope: Scope::Address(address), ..*frontend };
        piece.frontends.insert(frontend, led_to(binding, at));
    };
    match frontend.scope {
        Scope::Address(address) => {
            serve(address);
            piece.owned = can_own(program, address).then_some(address);
        }
        Scope::NodePort(family) => {
            let addresses = node_port_addresses(program, family);
            let free = |at: &IpAddr| {
                let other = Frontend { scope: Scope::Address(*at), ..*frontend };
                program.services.get(&other).is_none()
            };
            addresses.iter().copied().filter(free).for_each(&mut serve);
            // Packets from loopback addresses are not for IPVS, and some of the node's addresses are not known here.
            let localhost = program.node_ports.localhost.contains(&family);
            let others = localhost || program.node_ports.within.is_some();
            if others || addresses.is_empty() {
                piece.frontends.insert(*frontend, binding.clone());
            }
        }
    }
    piece
}

/// The pool that IPVS is to choose from.
fn balanced(action: &Action) -> Option<&Arc<Pool>> {
    match action {
        Action::Balance { pool, .. } => Some(pool),
        Action::BySource { outside, .. } => outside.as_ref(),
        Action::Reject | Action::Drop => None,
    }
}

/// The binding with the virtual server in place of the pool that IPVS chooses from.
fn led_to(binding: &Binding, at: SocketAddr) -> Binding {
    let virtual_pool =
        |pool: &Pool| Arc::new(Pool { endpoints: [Endpoint::at(at, 1)].into(), ..*pool });
    match &binding.action {
        Action::Balance { pool, masquerade } => Binding {
            action: Action::Balance { pool: virtual_pool(pool), masquerade: *masquerade },
            affinity: None,
            scheduler: None,
            ..binding.clone()
        },
        Action::BySource { inside, outside } => Binding {
            action: Action::BySource {
                inside: inside.clone(),
                outside: outside.as_deref().map(virtual_pool),
            },
            ..binding.clone()
        },
        Action::Reject | Action::Drop => binding.clone(),
    }
}

/// Whether a front end of the lowered program leads to a virtual server.
pub fn is_virtual(frontend: &Frontend, binding: &Binding) -> bool {
    let Scope::Address(address) = frontend.scope else { return false };
    let at = SocketAddr::new(address, frontend.port);
    balanced(&binding.action)
        .is_some_and(|pool| matches!(&pool.endpoints[..], [only] if only.address() == at))
}

/// Addresses that the node has anyway, or gets and loses by VRRP, are not put on `kube-ipvs0`.
fn can_own(program: &Program, address: IpAddr) -> bool {
    let by_vrrp = program.virtual_ips.values().any(|it| it.addresses.contains(&address));
    !by_vrrp && !program.is_own_address(address)
}

/// Those of the node's addresses that node ports answer on, as far as they are known and no loopback addresses.
pub fn node_port_addresses(program: &Program, family: Family) -> BTreeSet<IpAddr> {
    let network = program.networks.get(&family);
    let of_network = network.into_iter().flat_map(|net| [net.gateway, net.tunnel_address]);
    let all = program.addresses.iter().copied().chain(of_network);
    all.filter(|address| Family::of(*address) == family && !address.is_loopback())
        .filter(|address| program.is_node_port_address(*address))
        .collect()
}

fn virtual_server(
    settings: &Settings,
    binding: &Binding,
    pool: &Pool,
    family: Family,
) -> VirtualServer {
    let real =
        |it: &Endpoint| (it.address(), RealServer::masquerading(u32::from(it.weight.max(1))));
    let scheduler = scheduler(settings, binding, pool);
    let mut server = ServerSettings::of(scheduler);
    // A client whose endpoint is about to go is given another one.
    server.scheduler_flags.fallback =
        matches!(server.scheduler, Scheduler::SourceHash | Scheduler::MaglevHash);
    server.persistence = binding.affinity.map(|time| Persistence {
        timeout: u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1),
        prefix: if family == Family::V4 { 32 } else { 128 },
    });
    VirtualServer { settings: server, real_servers: pool.endpoints.iter().map(real).collect() }
}

/// The scheduler that is asked for; the one that is usual otherwise, with weights where the endpoints' differ.
fn scheduler(settings: &Settings, binding: &Binding, pool: &Pool) -> Scheduler {
    use model::Scheduler as Asked;
    let usual = || {
        let weight = |it: &Endpoint| it.weight;
        let differ = pool.endpoints.windows(2).any(|two| weight(&two[0]) != weight(&two[1]));
        match &settings.scheduler {
            Scheduler::RoundRobin if differ => Scheduler::WeightedRoundRobin,
            Scheduler::LeastConnection if differ => Scheduler::WeightedLeastConnection,
            usual => usual.clone(),
        }
    };
    match binding.scheduler {
        None | Some(Asked::Random) => usual(),
        Some(asked) => Scheduler::from_name(&asked.to_string()),
    }
}

/// The sets that the service table of a family has besides its own, empty.
pub fn sets(family: Family) -> BTreeMap<String, Set> {
    let ip = match family {
        Family::V4 => DataType::Ipv4,
        Family::V6 => DataType::Ipv6,
    };
    let set = |key: &[DataType]| Set {
        key: key.to_vec(),
        data: SetData::None,
        interval: false,
        counters: false,
        dynamic: None,
        elements: BTreeMap::new(),
    };
    [
        (set::VIRTUAL_SERVERS, set(&[ip, DataType::Protocol, DataType::Port])),
        (set::OWNED_ADDRESSES, set(&[ip])),
    ]
    .map(|(name, set)| (name.to_owned(), set))
    .into()
}

/// Makes the service table of the lowered program one that leaves room for IPVS.
pub fn complete(table: &mut Table, lowered: &Lowered, family: Family) {
    table.sets.extend(sets(family));
    let mut insert = |set: &str, key| {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(key, bare());
        }
    };
    for (frontend, binding) in lowered.program.services.iter() {
        if frontend.scope.family() == family && is_virtual(frontend, binding) {
            insert(set::VIRTUAL_SERVERS, frontend_key(frontend));
        }
    }
    for address in lowered.owned.iter().filter(|address| Family::of(**address) == family) {
        insert(set::OWNED_ADDRESSES, address_key(*address));
    }
    for (name, chain) in &mut table.chains {
        complete_chain(name, chain);
    }
}

/// Completes a change of the service table that changes of the lowered program make. `addresses`: those that
/// `kube-ipvs0` gets (true) and loses.
pub fn complete_delta(
    delta: &mut TableDelta,
    changes: &[Change],
    addresses: &BTreeMap<IpAddr, bool>,
    family: Family,
) {
    for change in changes {
        let Change::Frontend { frontend, before, after } = change else { continue };
        if frontend.scope.family() != family {
            continue;
        }
        let element = |binding: &Option<Binding>| {
            binding.as_ref().filter(|binding| is_virtual(frontend, binding)).map(|_| bare())
        };
        let key = frontend_key(frontend);
        delta.element(set::VIRTUAL_SERVERS, key, element(before), element(after));
    }
    for (address, owned) in addresses.iter().filter(|(it, _)| Family::of(**it) == family) {
        let (before, after) = if *owned { (None, Some(bare())) } else { (Some(bare()), None) };
        delta.element(set::OWNED_ADDRESSES, address_key(*address), before, after);
    }
    for (name, chain) in &mut delta.chains {
        if let Some(chain) = chain {
            complete_chain(name, chain);
        }
    }
}

fn complete_chain(name: &str, completed: &mut Chain) {
    let owned = || within(vec![Field::DestinationAddress], set::OWNED_ADDRESSES);
    match name {
        // What is sent there and nobody serves must not reach the node's own processes, and node ports do not answer.
        chain::DISPATCH => {
            let refused = Statement::Verdict(Verdict::Goto(chain::REFUSAL.to_owned()));
            completed.rules.insert(1, rule("unknown port of a service", vec![owned(), refused]));
        }
        // IPVS translates without the bit by which the table's own rule knows.
        chain::POSTROUTING => {
            let both = vec![Field::SourceAddress, Field::DestinationAddress];
            let itself = within(both, nft_set::HAIRPIN);
            let statements = vec![itself, Statement::Counter, Statement::Masquerade];
            completed.rules.push(rule("a pod reaches itself by IPVS", statements));
        }
        _ => {}
    }
}

fn within(key: Vec<Field>, set: &str) -> Statement {
    Statement::InSet { key, set: set.to_owned(), negate: false }
}

fn rule(comment: &str, statements: Vec<Statement>) -> Rule {
    Rule { statements, comment: comment.to_owned() }
}

/// Whether connections to a virtual server have an end that can be waited for.
pub fn has_connections(virtual_address: &VirtualAddress) -> bool {
    let tcp = Protocol::Tcp.number();
    matches!(virtual_address, VirtualAddress::Socket { protocol, .. } if *protocol == tcp)
}
