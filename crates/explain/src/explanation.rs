//! All ways that a connection may take, and the answer they add up to.

use crate::cluster::Cluster;
use crate::finding::{Code, Finding};
use crate::path::{Choice, Hop, Host, Path, Stage, Verdict};
use crate::probability::Probability;
use crate::question::{Question, QuestionError, Sender, Target, sender, target};
use crate::settings::{Environment, Settings};
use crate::summary;
use crate::verify::Agreement;
use crate::walk::walk;
use model::{Kind, Origin, Proxy, World};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many options are looked at before the rest of the ways is left out.
const EFFORT: usize = 200_000;

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub question: Question,
    /// From whom to what, as one says it.
    pub asked: String,
    /// Every way that the choices on it allow, in order of the choices.
    pub paths: Vec<Path>,
    /// Index of the way that is shown: delivered if any is, then the likeliest, then the longest.
    pub shown: usize,
    /// There are more ways than were walked.
    pub truncated: bool,
    /// The chance that a connection is delivered.
    pub delivered: Probability,
    pub findings: Vec<Finding>,
    /// What a real connection had to say about it.
    pub verified: Option<Agreement>,
}

impl Explanation {
    pub fn path(&self) -> &Path {
        &self.paths[self.shown]
    }

    pub fn verdict(&self) -> Verdict {
        self.path().end.verdict
    }

    /// The ways that are not shown, those that fail first, then as the choices come.
    pub fn alternatives(&self) -> Vec<&Path> {
        let others = self.paths.iter().enumerate().filter(|(index, _)| *index != self.shown);
        let mut others: Vec<&Path> = others.map(|(_, path)| path).collect();
        others.sort_by_key(|path| path.is_delivered());
        others
    }

    /// The answer in one sentence, the verdict first.
    pub fn summary(&self) -> String {
        let text = summary::text(self);
        match &self.verified {
            None => text,
            Some(agreement) => format!("{text}; {}", agreement.summary()),
        }
    }
}

/// Follows a connection's first packet through the cluster, and the reply back.
pub fn explain(
    world: &World,
    settings: &Settings,
    question: &Question,
) -> Result<Explanation, QuestionError> {
    let sender = sender(world, settings, &question.from)?;
    let target = target(world, settings, question)?;
    let cluster = Cluster::new(world, settings);
    let (paths, truncated) = all_paths(&cluster, &sender, &target, question)?;
    let shown = best(&paths);
    Ok(Explanation {
        question: question.clone(),
        asked: summary::asked(&sender, &target),
        findings: findings(&cluster, &paths, shown),
        delivered: chance(&paths),
        paths,
        shown,
        truncated,
        verified: None,
    })
}

/// That a connection is delivered, at the first attempt or a later one.
fn chance(paths: &[Path]) -> Probability {
    let delivered = paths.iter().filter(|path| path.is_delivered()).map(Path::probability);
    let first = delivered.fold(Probability::NEVER, Probability::or);
    let Some(backends) = retried_over(paths) else { return first };
    // Each back end is tried at most once: all have to fail.
    let failing = (0..backends).map(|backend| {
        let here = |path: &&Path| path.choices[0].chosen == backend && !path.is_delivered();
        let lost = paths.iter().filter(here).map(|path| {
            let rest = path.choices[1..].iter().map(Choice::probability);
            rest.fold(Probability::CERTAIN, Probability::and)
        });
        lost.fold(Probability::NEVER, Probability::or)
    });
    failing.fold(Probability::CERTAIN, Probability::and).complement()
}

/// Over how many back ends or endpoints whoever makes the connection anew tries: all of them; `None`: not so many.
pub(crate) fn retried_over(paths: &[Path]) -> Option<usize> {
    let first = paths.first()?.choices.first()?;
    (first.attempts == first.options.len()).then_some(first.attempts)
}

/// Counts through all choices as an odometer does.
fn all_paths(
    cluster: &Cluster<'_>,
    sender: &Sender,
    target: &Target,
    question: &Question,
) -> Result<(Vec<Path>, bool), QuestionError> {
    let mut paths = Vec::new();
    let mut script = Vec::new();
    let mut effort = 0;
    loop {
        let path = walk(cluster, sender, target, question.protocol, &script)?;
        effort += 1 + path.choices.iter().map(|choice| choice.options.len()).sum::<usize>();
        let next = path.choices.iter().rposition(|it| it.chosen + 1 < it.options.len());
        script = path.choices.iter().map(|choice| choice.chosen).collect();
        paths.push(path);
        let Some(last) = next else { return Ok((paths, false)) };
        if effort > EFFORT {
            return Ok((paths, true));
        }
        script.truncate(last + 1);
        script[last] += 1;
    }
}

/// Of ways that are equally good the one over most hosts is shown: it teaches most of the network.
fn best(paths: &[Path]) -> usize {
    let mut best = 0;
    for (index, path) in paths.iter().enumerate() {
        let have = &paths[best];
        let (is, was) = (path.is_delivered(), have.is_delivered());
        let (chance, had) = (path.probability(), have.probability());
        let equal = is == was && chance == had;
        let better = (is && !was)
            || (is == was && chance.is_more_likely_than(had))
            || (equal && extent(path) > extent(have));
        if better {
            best = index;
        }
    }
    best
}

/// Hosts and hops.
fn extent(path: &Path) -> (usize, usize) {
    let hosts: BTreeSet<&Host> = path.request.iter().map(|hop| &hop.host).collect();
    (hosts.len(), path.request.len())
}

/// What there is to say about the way shown, about those that fail, and about the objects on them.
fn findings(cluster: &Cluster<'_>, paths: &[Path], shown: usize) -> Vec<Finding> {
    let failing: Vec<&Path> = paths.iter().filter(|path| !path.is_delivered()).collect();
    let mut findings = Vec::new();
    if paths[shown].is_delivered() && !failing.is_empty() {
        let text = format!("{} of {} ways fail", failing.len(), paths.len());
        findings.push(Finding::new(Code::SomeFail, text));
        let balancer = paths[shown].choices.first().is_some_and(|it| it.stage == Stage::Balancer);
        if balancer && retried_over(paths).is_some() {
            let text = "an attempt that fails is made again at another back end, at once when refused and beside the first after 150 ms of silence";
            findings.push(Finding::new(Code::BalancerRetries, text));
        }
    }
    let concerned = std::iter::once(&paths[shown]).chain(failing.iter().copied());
    for path in concerned.clone() {
        let all = cause(path).into_iter().chain(path.findings.iter().cloned());
        for finding in all {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    let hosts: BTreeSet<&Host> =
        concerned.clone().flat_map(|path| &path.request).map(|hop| &hop.host).collect();
    let origins: Vec<&Origin> =
        concerned.flat_map(|path| &path.request).filter_map(|hop| hop.origin.as_ref()).collect();
    for node in
        hosts.iter().filter_map(|host| if let Host::Node(name) = host { Some(name) } else { None })
    {
        // Why a Service has no endpoints is told with more words where it matters.
        let found = cluster.compile_findings(node).iter();
        for found in found.filter(|found| found.code != compile::Code::NoEndpoints) {
            let finding = of_compiler(found);
            if concerns(&found.origin, &hosts, &origins) && !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings.extend(serving(paths).filter_map(|node| settings_of(cluster, node)));
    findings
}

/// The nodes on whose service proxies the answer depends.
fn serving(paths: &[Path]) -> impl Iterator<Item = &Arc<str>> {
    let decides = |hop: &&Hop| {
        matches!(hop.stage, Stage::Service | Stage::Refuse | Stage::Drop)
            && hop.origin.as_ref().is_some_and(|origin| origin.kind == Kind::Service)
    };
    let hops = paths.iter().flat_map(|path| &path.request).filter(decides);
    let nodes =
        hops.filter_map(|hop| if let Host::Node(name) = &hop.host { Some(name) } else { None });
    nodes.collect::<BTreeSet<_>>().into_iter()
}

/// Where the settings of a node's service proxy come from, unless its agent announced them.
fn settings_of(cluster: &Cluster<'_>, name: &Arc<str>) -> Option<Finding> {
    let node = cluster.world.node(name)?;
    match (&node.proxy, &cluster.settings.kube_proxy, cluster.settings.environment) {
        (Some(Ok(_)), ..) => None,
        (Some(Err(error)), ..) => {
            let field = format!("metadata.annotations[{}]", Proxy::ANNOTATION);
            let origin = Origin::new(Kind::Node, &"".into(), name, &field);
            let text = format!("the settings that node/{name} announces make no sense: {error}");
            let fix = "restart the agent of the node: it writes them anew";
            Some(Finding::new(Code::ProxyUnreadable, text).about(origin).fix(fix))
        }
        (None, Some(_), _) => {
            let mode = cluster.proxy(name)?.mode;
            let text = format!("kube-proxy serves Services on node/{name}, in mode {mode}");
            Some(Finding::new(Code::KubeProxy, text))
        }
        // Its agent has not come so far.
        (None, None, Environment::Lab) => None,
        (None, None, Environment::Cluster) => {
            let text = format!(
                "nobody says how node/{name} serves Services: neither the annotation {} nor ConfigMap kube-system/kube-proxy",
                Proxy::ANNOTATION
            );
            let fix = "say it by --proxy-mode, --nodeport-addresses, --detect-local-mode and --masquerade-all";
            Some(Finding::new(Code::ProxyAssumed, text).fix(fix))
        }
    }
}

/// Why a way ends early, unless a finding of its own says so.
fn cause(path: &Path) -> Option<Finding> {
    let code = path.end.code?;
    let told = |finding: &Finding| finding.code == code || path.end.text.contains(&finding.text);
    if path.findings.iter().any(told) {
        return None;
    }
    let finding = Finding::new(code, path.end.text.clone());
    let origin = path.request.last().and_then(|hop| hop.origin.clone());
    Some(Finding { origin, ..finding })
}

fn concerns(found: &Origin, hosts: &BTreeSet<&Host>, origins: &[&Origin]) -> bool {
    let same = |origin: &&Origin| {
        (origin.kind, &origin.namespace, &origin.name)
            == (found.kind, &found.namespace, &found.name)
    };
    let host = Host::Node(found.name.clone());
    (found.kind == Kind::Node && hosts.contains(&host)) || origins.iter().any(same)
}

fn of_compiler(found: &compile::Finding) -> Finding {
    Finding::new(Code::Compile(found.code), found.text.clone()).about(found.origin.clone())
}
