//! This node's kernel and what it should be.

use crate::Options;
use backend::link::lower::Underlay;
use backend::{Mode, Services, link, services};
use compile::Finding;
use kernel::netlink::{Changed, Monitor};
use model::{Family, Touched, Vtep, World};
use program::{Change, PodNetwork, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;
use tracing::{debug, info, warn};

/// Whether the node passes packets on at all.
const FORWARDING: &str = "net/ipv4/ip_forward";

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
    #[error("Node object")]
    Api(#[from] client::Error),
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
    underlay: Option<Underlay>,
    doubt: Doubt,
    /// What other modes left is gone.
    cleaned: bool,
}

impl Node {
    pub(crate) fn open(mut options: Options) -> Result<Self, Error> {
        let services = open_services(&options)?;
        options.settings.schedulers = services.schedulers().to_vec();
        Ok(Node {
            options,
            program: Program::default(),
            findings: BTreeSet::new(),
            links: link::Backend::open()?,
            services,
            underlay: None,
            doubt: Doubt::default(),
            cleaned: false,
        })
    }

    /// Two sockets that become readable when somebody else changes links or rules.
    pub(crate) fn monitors(&self) -> Result<(Monitor, Monitor), Error> {
        let (mut links, mut rules) = (Monitor::route()?, Monitor::rules()?);
        links.ignore(self.links.socket());
        for socket in self.services.sockets() {
            rules.ignore(socket);
            links.ignore(socket);
        }
        Ok((links, rules))
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.node
    }

    /// Compiles everything. What is in the kernel is in doubt until [`Node::reconcile`].
    pub(crate) fn compile(&mut self, world: &World) {
        let (program, findings) =
            compile::compile(world, &self.options.node, &self.options.settings);
        self.program = program;
        self.tell(findings);
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
            self.tell(findings);
        }
        let of_network =
            |change: &Change| matches!(change, Change::Network { .. } | Change::Addresses { .. });
        self.doubt.links |= changes.iter().any(of_network);
        if self.doubt.any() {
            self.doubt.rules = true;
            return self.reconcile();
        }
        self.apply(&changes).inspect_err(|_| self.doubt = Doubt { links: true, rules: true })
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), Error> {
        let links = self.links.change_peers(changes)?;
        let services = self.services.change(&self.program, changes)?;
        debug!(links, ?services, "changed");
        Ok(())
    }

    /// Notes what somebody else has done to the kernel.
    pub(crate) fn suspect(&mut self, changed: Changed) {
        self.doubt.links |=
            changed.links || changed.addresses || changed.routes || changed.neighbours;
        self.doubt.rules |= changed.rules;
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt.any()
    }

    /// Compares the kernel with the program where there is doubt, and mends what differs.
    pub(crate) fn reconcile(&mut self) -> Result<(), Error> {
        if self.doubt.links {
            self.reconcile_links()?;
            self.doubt.links = false;
        }
        if self.doubt.rules {
            let services = self.services.reconcile(&self.program)?;
            info!(mode = %self.services.mode(), ?services, "Services compared");
            self.clean_others();
            self.doubt.rules = false;
        }
        if let (Some(files), Some(network), Some(underlay)) =
            (&self.options.cni, self.program.networks.get(&Family::V4), &self.underlay)
        {
            files.write(network, underlay.pod_mtu())?;
        }
        Ok(())
    }

    fn reconcile_links(&mut self) -> Result<(), Error> {
        if kernel::sysctl::read(FORWARDING)? != "1" {
            kernel::sysctl::write(FORWARDING, "1")?;
        }
        let Some(address) = self.own_address() else { return Ok(()) };
        let underlay = self.links.underlay(address)?;
        let changes = self.links.reconcile(&self.program, &underlay)?;
        if changes > 0 {
            info!(changes, device = underlay.device, "pod network mended");
        }
        self.underlay = Some(underlay);
        Ok(())
    }

    fn own_address(&self) -> Option<IpAddr> {
        self.program.addresses.first().copied()
    }

    /// What the other nodes must know, once it is known.
    pub(crate) fn vteps(&self) -> BTreeMap<Family, Vtep> {
        let vtep = |(family, network): (&Family, &PodNetwork)| {
            let public_ip = self.program.primary_address(*family)?;
            Some((*family, Vtep { public_ip, mac: network.tunnel_mac, vni: network.vni }))
        };
        self.program.networks.iter().filter_map(vtep).collect()
    }

    /// When [`Node::finish`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.services.due()
    }

    /// Ends what the back end left to end by itself for a while.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        Ok(self.services.finish(Instant::now())?)
    }

    /// What an agent in another mode left behind is in the way of nothing until ours is in place, and goes then.
    fn clean_others(&mut self) {
        if std::mem::replace(&mut self.cleaned, true) {
            return;
        }
        let own = self.services.mode();
        for mode in Mode::ALL.into_iter().filter(|mode| *mode != own) {
            if let Err(error) = services::clean(mode) {
                warn!(%mode, error = %error, "what this mode left behind cannot be removed");
            }
        }
    }

    /// Each finding once.
    fn tell(&mut self, findings: Vec<Finding>) {
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
