//! The answer as one sentence.

use crate::explanation::{Explanation, retried_over};
use crate::path::{Host, Receiver, Stage};
use crate::probability::Probability;
use crate::question::{Sender, Target};
use std::collections::BTreeSet;

/// From whom to what.
pub(crate) fn asked(sender: &Sender, target: &Target) -> String {
    let from = match &sender.host_network_pod {
        Some(pod) => format!("pod/{pod}"),
        None => sender.host.to_string(),
    };
    if target.text == target.address.to_string() {
        format!("{from} → {}", target.text)
    } else {
        format!("{from} → {} ({})", target.text, target.address)
    }
}

/// The verdict, then who answers or why nobody does.
pub(crate) fn text(explanation: &Explanation) -> String {
    let (path, asked) = (explanation.path(), &explanation.asked);
    let Some(receiver) = path.receiver.as_ref().filter(|_| path.is_delivered()) else {
        return format!("{}: {asked}: {}", path.end.verdict, path.end.text);
    };
    let delivered = explanation.paths.iter().filter(|path| path.is_delivered());
    let receivers: BTreeSet<&Host> =
        delivered.filter_map(|path| path.receiver.as_ref()).map(|it| &it.host).collect();
    let who = receiver_text(receiver);
    let answer = match receivers.len() {
        0 | 1 => format!("{asked} is answered by {who}"),
        n => format!("{asked} is answered by one of {n} pods, here {who}"),
    };
    match doubt(explanation) {
        Some(doubt) => format!("delivered, but {doubt}: {answer}"),
        None => format!("delivered: {answer}"),
    }
}

/// What share of connections goes wrong, and how.
fn doubt(explanation: &Explanation) -> Option<String> {
    let mut failing = explanation.paths.iter().filter(|path| !path.is_delivered()).peekable();
    let how = &failing.peek()?.end;
    let how = format!("{} because {}", how.verdict, how.text);
    let share = |probability: Probability| {
        format!("{} of {}", probability.numerator, probability.denominator)
    };
    let lost = failing.map(|path| path.probability()).fold(Probability::NEVER, Probability::or);
    if retried_over(&explanation.paths).is_none() {
        let verb = if lost.numerator == 1 { "is" } else { "are" };
        return Some(format!("{} connections {verb} {how}", share(lost)));
    }
    let verb = if lost.numerator == 1 { "fails" } else { "fail" };
    let in_the_end = explanation.delivered.complement();
    let next = match explanation.path().choices.first().map(|choice| choice.stage) {
        Some(Stage::Service) => "the service proxy then tries another endpoint",
        _ => "the balancer then tries another back end",
    };
    let in_the_end = if in_the_end == Probability::NEVER {
        next.to_owned()
    } else {
        format!("{next}: {} connections fail for good", share(in_the_end))
    };
    Some(format!("{} first attempts {verb} ({how}); {in_the_end}", share(lost)))
}

fn receiver_text(receiver: &Receiver) -> String {
    match (&receiver.host, &receiver.node) {
        (Host::Pod(_), Some(node)) => {
            format!("{} ({}) on {node}", receiver.host, receiver.address)
        }
        _ => format!("{} ({})", receiver.host, receiver.address),
    }
}
