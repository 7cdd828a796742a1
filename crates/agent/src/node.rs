//! This node's kernel and what it should be.

use crate::announce::Announcement;
use crate::events::Teller;
use crate::metrics::Repair;
use crate::report::{Extent, Report};
use crate::{Options, sysctls};
use backend::link::lower::Underlay;
use backend::{Mode, Services, ipvs, kube_proxy, link, services};
use compile::Finding;
use kernel::netlink::{Changed, Monitor};
use model::{Family, Touched, Vtep, World};
use program::{Change, PodNetwork, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Whether the node passes packets on at all.
fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

/// Why the node is not as it should be. The agent goes on and tries again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this node's kernel cannot be reached")]
    Kernel(#[from] kernel::Error),
    #[error("pod network")]
    Links(#[from] link::Error),
    #[error("Services")]
    Services(#[from] services::Error),
    #[error("hearing of changes in the kernel")]
    Notifications(#[source] std::io::Error),
    #[error("file for the container runtime")]
    CniFiles(#[from] std::io::Error),
}

/// What must be compared with the kernel anew, as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) links: bool,
    pub(crate) rules: bool,
}

impl Doubt {
    pub(crate) fn any(self) -> bool {
        self.links || self.rules
    }
}

/// The program of this node and the doors to its kernel.
pub(crate) struct Node {
    options: Options,
    program: Program,
    findings: BTreeSet<String>,
    links: link::Backend,
    services: Services,
    /// One for each family of pods.
    underlays: Vec<Underlay>,
    doubt: Doubt,
    /// When Services were last compared, and how long that took.
    compared: Option<(Instant, Duration)>,
    /// What other modes left is gone.
    cleaned: bool,
    /// What connections that came by IPVS still need.
    leftover: Option<ipvs::Leftover>,
    pub(crate) report: Report,
    /// The changes that have not been reported yet: the kernel has not taken them.
    unreported: Unreported,
    /// What somebody else has touched, perhaps destroyed.
    suspected: Doubt,
    teller: Teller,
}

/// What those who follow the program have not been told.
enum Unreported {
    Everything,
    Changes(Vec<Change>),
}

impl Node {
    pub(crate) fn open(mut options: Options, teller: Teller) -> Result<Self, Error> {
        options.services.userspace.reset_gone_after = options.care.reset_gone_after;
        let services = open_services(&options)?;
        options.mode = services.mode();
        options.settings.schedulers = services.schedulers().to_vec();
        sysctls::set(&options.settings, &options.conntrack, options.connection_accounting);
        let leftover = find_leftover(services.mode(), options.take_over_kube_proxy);
        Ok(Node {
            report: Report::new(&options, services.mode(), &teller),
            unreported: Unreported::Everything,
            suspected: Doubt::default(),
            teller,
            options,
            program: Program::default(),
            findings: BTreeSet::new(),
            links: link::Backend::open()?,
            services,
            underlays: Vec::new(),
            doubt: Doubt::default(),
            compared: None,
            cleaned: false,
            leftover,
        })
    }

    /// Two sockets that become readable when somebody else changes links or rules.
    pub(crate) fn monitors(&self) -> Result<(Monitor, Monitor), Error> {
        let (mut links, mut rules) = (Monitor::route()?, Monitor::rules()?);
        links.ignore(self.links.socket())?;
        for socket in self.services.sockets() {
            rules.ignore(socket)?;
            links.ignore(socket)?;
        }
        Ok((links, rules))
    }

    /// Something that becomes readable when Services are not served any more; only once for each that serves them.
    pub(crate) fn lifeline(&mut self) -> Option<UnixStream> {
        self.services.lifeline()
    }

    /// Whoever served Services has ended.
    pub(crate) fn is_lost(&mut self) {
        info!("who carried the connections to Services has ended or was replaced");
        self.services.is_lost();
        self.doubt.rules = true;
        self.suspected.rules = true;
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.node
    }

    /// Compiles everything. What is in the kernel is in doubt until [`Node::reconcile`].
    pub(crate) fn compile(&mut self, world: &World) {
        let (program, findings) =
            compile::compile(world, &self.options.node, &self.options.settings);
        self.program = program;
        self.unreported = Unreported::Everything;
        self.warn(findings);
        self.doubt = Doubt { links: true, rules: true };
    }

    /// Compiles what is touched and brings the kernel up to date with it.
    pub(crate) fn update(
        &mut self,
        world: &World,
        touched: &BTreeSet<Touched>,
    ) -> Result<(), Error> {
        let mut changes = Vec::new();
        for touched in touched {
            let (node, settings) = (&self.options.node, &self.options.settings);
            let (more, findings) =
                compile::recompile(&mut self.program, world, node, settings, touched);
            changes.extend(more);
            self.warn(findings);
        }
        let of_network =
            |change: &Change| matches!(change, Change::Network { .. } | Change::Addresses { .. });
        self.doubt.links |= changes.iter().any(of_network);
        if !changes.is_empty() {
            self.report.queued();
        }
        if self.doubt.any() {
            self.doubt.rules = true;
            self.unreported.extend(changes);
            return self.reconcile();
        }
        let outcome = self.apply(&changes);
        self.unreported.extend(changes);
        match outcome {
            Ok(()) => self.tell(),
            Err(_) => self.doubt = Doubt { links: true, rules: true },
        }
        outcome
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let (began, families) = (Instant::now(), families_of(changes));
        let links = self.links.change_peers(changes)?;
        let services = self.services.change(&self.program, changes);
        let services = services.inspect_err(|_| self.failed(&families))?;
        self.report.took(Extent::Partial, &families, began.elapsed());
        self.services.written().into_iter().for_each(|it| self.report.wrote(it));
        debug!(links, ?services, "changed");
        Ok(())
    }

    fn failed(&self, families: &BTreeSet<Family>) {
        families.iter().for_each(|family| self.report.metrics.of(*family).failures.add(1));
    }

    /// The kernel has taken everything: others may act on it.
    fn tell(&mut self) {
        match std::mem::replace(&mut self.unreported, Unreported::Changes(Vec::new())) {
            Unreported::Everything => self.report.compared(&self.program),
            Unreported::Changes(changes) => self.report.changed(&changes),
        }
        self.report.is_up_to_date(self.program.leaving);
    }

    /// Notes what somebody else has done to the kernel.
    pub(crate) fn suspect(&mut self, changed: &Changed) {
        let network = Changed { rules: false, locals: false, ..changed.clone() };
        let rules = changed.rules || self.services.is_concerned(changed);
        for doubt in [&mut self.doubt, &mut self.suspected] {
            doubt.links |= network.any();
            doubt.rules |= rules;
        }
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt.any()
    }

    /// Compares the kernel with the program where there is doubt, and mends what differs.
    pub(crate) fn reconcile(&mut self) -> Result<(), Error> {
        // Services do not wait for the pod network: a node whose own address is not up yet has clients too.
        let links = if self.doubt.links { self.reconcile_links() } else { Ok(()) };
        self.doubt.links = links.is_err();
        let compares = self.doubt.rules;
        if compares {
            self.reconcile_services()?;
            self.doubt.rules = false;
        }
        links?;
        // Pods whose way out is not made yet must not start.
        let mtu = self.underlays.iter().map(Underlay::pod_mtu).min();
        if let (Some(files), Some(mtu)) = (&self.options.cni, mtu)
            && self.underlays.len() == self.program.networks.len()
        {
            files.write(&self.program.networks, mtu)?;
        }
        self.tell();
        if compares {
            // Comparing takes as much memory again as there is.
            kernel::process::release_memory();
        }
        Ok(())
    }

    fn reconcile_services(&mut self) -> Result<(), Error> {
        self.prepare();
        let (began, families) = (Instant::now(), Family::ALL.into());
        let services = self.services.reconcile(&self.program);
        let services = services.inspect_err(|_| self.failed(&families))?;
        self.report.took(Extent::Full, &families, began.elapsed());
        self.compared = Some((Instant::now(), began.elapsed()));
        self.services.written().into_iter().for_each(|it| self.report.wrote(it));
        info!(mode = %self.services.mode(), ?services, "Services compared");
        let suspected = std::mem::take(&mut self.suspected.rules);
        if suspected && services.pieces > 0 && self.was_settled() {
            self.repaired(Repair::Services, services.pieces);
        }
        self.clean_others();
        Ok(())
    }

    fn reconcile_links(&mut self) -> Result<(), Error> {
        let mut underlays = Vec::new();
        for family in self.program.networks.keys() {
            let switch = forwarding(*family);
            if kernel::sysctl::read(switch)? != "1" {
                kernel::sysctl::write(switch, "1")?;
            }
            if let Some(address) = self.program.primary_address(*family) {
                underlays.push(self.links.underlay(address)?);
            }
        }
        let changes = self.links.reconcile(&self.program, &underlays)?;
        let suspected = std::mem::take(&mut self.suspected.links);
        if changes > 0 {
            info!(changes, "pod network mended");
            if suspected && self.was_settled() {
                self.repaired(Repair::Links, changes);
            }
        }
        self.underlays = underlays;
        let localhost = self.program.node_ports.localhost.contains(&Family::V6);
        let ways =
            self.links.open_loopback(localhost && self.services.mode() != Mode::Userspace)?;
        debug!(ways, "ways back to ::1");
        Ok(())
    }

    /// Whether the kernel had taken all that was wanted, so that what is not there was destroyed.
    fn was_settled(&self) -> bool {
        matches!(&self.unreported, Unreported::Changes(changes) if changes.is_empty())
    }

    /// Somebody had destroyed this much.
    fn repaired(&self, what: Repair, pieces: usize) {
        self.report.metrics.repaired(what);
        let (reason, object) = match what {
            Repair::Services => ("ServicesRepaired", "the rules of Services"),
            Repair::Links => ("PodNetworkRepaired", "devices or routes of the pod network"),
        };
        let message =
            format!("somebody changed {object} on this node: {pieces} pieces were put right");
        warn!("{message}");
        self.teller.warn(reason, message);
    }

    /// What others must know, once it is known.
    pub(crate) fn announcement(&self) -> Announcement {
        Announcement { vteps: self.vteps(), proxy: self.options.proxy() }
    }

    fn vteps(&self) -> BTreeMap<Family, Vtep> {
        let vtep = |(family, network): (&Family, &PodNetwork)| {
            let public_ip = self.program.primary_address(*family)?;
            Some((*family, Vtep { public_ip, mac: network.tunnel_mac, vni: network.vni }))
        };
        self.program.networks.iter().filter_map(vtep).collect()
    }

    /// When [`Node::finish`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let leftover = self.leftover.as_ref().map(ipvs::Leftover::due);
        [self.services.due(), leftover, self.look()].into_iter().flatten().min()
    }

    /// When to look for what others did that the kernel told nobody of. Looking takes no more than a twentieth of the
    /// time.
    fn look(&self) -> Option<Instant> {
        let (at, took) = self.compared.filter(|_| self.services.is_deaf())?;
        Some(at + self.options.look_every.max(20 * took))
    }

    /// The children that have changed rules since this was asked.
    pub(crate) fn take_writers(&mut self) -> Vec<u32> {
        self.services.take_writers()
    }

    /// Ends what the back end left to end by itself for a while, and looks for what nobody tells of.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.services.finish(now)?;
        if self.look().is_some_and(|at| at <= now) {
            self.suspect(&Changed { rules: true, ..Changed::default() });
        }
        if let Some(leftover) = &mut self.leftover
            && leftover.sweep(now).map_err(services::Error::from)?
        {
            info!("what proxy mode ipvs left is gone");
            self.leftover = None;
        }
        Ok(())
    }

    /// Connections of another mode are to go on.
    fn prepare(&mut self) {
        if self.cleaned {
            return;
        }
        if let Err(error) = services::prepare(self.services.mode()) {
            let error = crate::watch::chain(&error);
            warn!(%error, "connections of the proxy mode before this one may be cut");
        }
    }

    /// What an agent in another mode left behind is in the way of nothing until ours is in place, and goes then.
    fn clean_others(&mut self) {
        if std::mem::replace(&mut self.cleaned, true) {
            return;
        }
        let own = self.services.mode();
        if self.options.take_over_kube_proxy
            && let Err(error) = kube_proxy::remove(own)
        {
            warn!(error = %crate::watch::chain(&error), "what kube-proxy left cannot be removed");
        }
        for mode in Mode::ALL.into_iter().filter(|mode| *mode != own) {
            if let Err(error) = services::clean(mode, own) {
                let all = self.report.metrics.families.iter();
                all.for_each(|family| family.cleanup_failures.add(1));
                warn!(%mode, error = %error, "what this mode left behind cannot be removed");
            }
        }
    }

    /// Each finding once.
    fn warn(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            let text = format!("{}: {}", finding.origin, finding.text);
            if !self.findings.contains(&text) {
                warn!(code = %finding.code, "{text}");
                self.findings.insert(text);
            }
        }
    }
}

/// In the mode that is asked for, or the default one, where this build or kernel lacks it.
fn open_services(options: &Options) -> Result<Services, services::Error> {
    match Services::open(options.mode, options.services) {
        Err(error) if options.mode != Mode::default() => {
            let (asked, instead) = (options.mode, Mode::default());
            warn!(%asked, %instead, error = %crate::watch::chain(&error), "no such proxy mode here");
            Services::open(instead, options.services)
        }
        outcome => outcome,
    }
}

impl Unreported {
    fn extend(&mut self, changes: Vec<Change>) {
        match self {
            Unreported::Everything => {}
            Unreported::Changes(earlier) => earlier.extend(changes),
        }
    }
}

fn families_of(changes: &[Change]) -> BTreeSet<Family> {
    let family = |change: &Change| match change {
        Change::Frontend { frontend, .. } => Some(frontend.scope.family()),
        Change::Pod { address, .. } => Some(Family::of(*address)),
        Change::Network { family, .. } | Change::Peer { family, .. } => Some(*family),
        _ => None,
    };
    changes.iter().filter_map(family).collect()
}

/// What is left of proxy mode ipvs, or of kube-proxy's, which must be known before the service table changes.
fn find_leftover(own: Mode, take_over_kube_proxy: bool) -> Option<ipvs::Leftover> {
    let find = || {
        let node_ports = match take_over_kube_proxy {
            true => kube_proxy::node_ports().map_err(ipvs::Error::Read)?,
            false => BTreeSet::new(),
        };
        match own {
            Mode::Ipvs if node_ports.is_empty() => Ok(None),
            Mode::Ipvs => ipvs::Leftover::beside(Instant::now(), &node_ports),
            _other => ipvs::Leftover::find(Instant::now(), &node_ports),
        }
    };
    find().unwrap_or_else(|error| {
        warn!(error = %crate::watch::chain(&error), "what proxy mode ipvs left cannot be removed");
        None
    })
}
