//! What a node's service table does with a connection, in words.

use super::node::endpoint_text;
use super::proxy;
use crate::finding::{Code, Finding};
use model::{Kind, Origin, Proxy, ProxyMode};
use program::service::{Action, Binding, Frontend, Pool, Reach, Scope, ServicePortName};
use program::trace::{DropReason, StepKind};
use program::{Draw, Program, Slots, Step};
use std::net::SocketAddr;
use std::sync::Arc;

/// Which front end of a Service the packet is addressed to.
pub(super) fn frontend_text(
    destination: SocketAddr,
    frontend: &Frontend,
    binding: Option<&Binding>,
    port: &ServicePortName,
) -> String {
    match (frontend.scope, binding) {
        (Scope::NodePort(_), _) => {
            format!("{destination} is node port {} of Service {port}", frontend.port)
        }
        (Scope::Address(_), Some(binding)) => {
            format!("{destination} is the {} of Service {port}", binding.kind)
        }
        (Scope::Address(_), None) => format!("{destination} is an address of Service {port}"),
    }
}

/// Out of whom an endpoint was chosen, how, and who it is.
pub(super) fn choice_text(
    proxy: &Proxy,
    pool: &Arc<Pool>,
    chosen: usize,
    binding: Option<&Binding>,
) -> String {
    let endpoint = endpoint_text(&pool.endpoints[chosen]);
    let which = which(pool);
    let kept = binding.and_then(|binding| binding.affinity);
    let kept = kept.map_or_else(String::new, |time| {
        format!(", kept for {} s after the client's last connection", time.as_secs())
    });
    let number = pool.endpoints.len();
    if number == 1 {
        return match which {
            "" => format!("its only endpoint is {endpoint}"),
            which => format!("its only endpoint{which} is {endpoint}"),
        };
    }
    let slots = Slots::of(pool, binding.and_then(|binding| binding.scheduler));
    let share = slots.endpoints.iter().filter(|index| **index == chosen).count();
    let weighted = slots.endpoints.len() != number;
    // A virtual server of IPVS cannot tell sources apart: rules send those that may go anywhere.
    let inside = binding.is_some_and(|binding| {
        matches!(&binding.action, Action::BySource { inside, .. } if Arc::ptr_eq(inside, pool))
    });
    let scheduled = if inside && proxy.mode == ProxyMode::Ipvs {
        None
    } else {
        proxy::scheduling(proxy, binding, weighted)
    };
    let how = scheduled.unwrap_or_else(|| match (slots.draw, slots.endpoints.len()) {
        (Draw::Random, all) if all == number => format!("at random (1/{number} each)"),
        (Draw::Random, all) => format!("at random by weight ({share} of {all})"),
        (Draw::Source, _) => "by a hash of the client's address".to_owned(),
        (Draw::Destination, _) => "by a hash of the address asked".to_owned(),
    });
    format!("one of {number} endpoints{which} {how}{kept}: {endpoint}")
}

fn which(pool: &Pool) -> &'static str {
    match (pool.reach, pool.terminating) {
        (Reach::Cluster, false) => "",
        (Reach::Zone, _) => " meant for this zone",
        (Reach::Node, _) => " meant for this node",
        (Reach::Local, false) => " on this node",
        (Reach::Cluster, true) => " that still serve while they terminate",
        (Reach::Local, true) => " on this node that still serve while they terminate",
    }
}

/// Why a packet was lost without a word, and what to do about it.
pub(super) fn lost(program: &Program, step: &Step) -> (Finding, String) {
    match &step.kind {
        StepKind::Drop { port, reason: DropReason::SourceNotAllowed, .. } => {
            let source = step.before.source.ip();
            let text = format!(
                "Service {port} takes connections from loadBalancerSourceRanges only, not from {source}"
            );
            let finding = Finding::new(Code::SourceNotAllowed, text.clone())
                .about(of_service(port, "spec.loadBalancerSourceRanges"))
                .fix(format!("add {source} to spec.loadBalancerSourceRanges"));
            (finding, text)
        }
        StepKind::Drop { frontend, port, .. } => {
            let internal = program
                .services
                .get(frontend)
                .is_some_and(|binding| binding.kind == program::FrontendKind::ClusterIp);
            let field = if internal { "internalTrafficPolicy" } else { "externalTrafficPolicy" };
            let text = format!(
                "{field} of Service {port} is Local, and none of its endpoints is on this node"
            );
            let finding = Finding::new(Code::NoLocalEndpoint, text.clone())
                .about(of_service(port, &format!("spec.{field}")))
                .fix(format!("run an endpoint on this node, or set spec.{field} to Cluster"));
            (finding, text)
        }
        StepKind::UnallocatedServiceAddress { cidr } => {
            let text = format!(
                "{} is of the ServiceCIDR {cidr}, and no Service has it",
                step.before.destination.ip()
            );
            let finding = Finding::new(Code::UnallocatedServiceAddress, text.clone());
            (finding.about(step.origin.clone()), text)
        }
        _ => {
            let text = "dropped by a rule of the node".to_owned();
            (Finding::new(Code::NoLocalEndpoint, text.clone()), text)
        }
    }
}

fn of_service(port: &ServicePortName, field: &str) -> Origin {
    Origin::new(Kind::Service, &port.service.namespace, &port.service.name, field)
}
