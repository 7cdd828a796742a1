//! `podway.io/explain/v1`.

use crate::explanation::Explanation;
use crate::finding::Finding;
use crate::path::{Choice, Hop, Path, address_text};
use crate::probability::Probability;
use crate::verify::{Agreement, Check};
use model::Origin;
use program::Packet;
use serde::Serialize;

const SCHEMA: &str = "podway.io/explain/v1";

/// The explanation as one JSON document, members in the order of the schema.
pub fn json(explanation: &Explanation) -> String {
    let path = explanation.path();
    let document = Document {
        schema: SCHEMA,
        question: Question {
            from: &explanation.question.from,
            to: &explanation.question.to,
            protocol: explanation.question.protocol.to_string(),
        },
        verdict: path.end.verdict.to_string(),
        code: path.end.code.map(|code| code.to_string()),
        summary: explanation.summary(),
        probability: Chance::of(explanation.delivered),
        receiver: path.receiver.as_ref().map(|receiver| Receiver {
            host: receiver.host.to_string(),
            address: receiver.address.to_string(),
            node: receiver.node.as_deref(),
            sees: receiver.sees.to_string(),
        }),
        request: path.request.iter().map(|hop| HopView::of(hop, path)).collect(),
        reply: path.reply.iter().map(|hop| HopView::of(hop, path)).collect(),
        alternatives: explanation.alternatives().into_iter().map(Alternative::of).collect(),
        alternatives_truncated: explanation.truncated,
        findings: explanation.findings.iter().map(FindingView::of).collect(),
        verify: explanation.verified.as_ref().map(Verify::of),
    };
    let text = serde_json::to_string_pretty(&document);
    text.expect("strings, numbers and lists can be written")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema: &'static str,
    question: Question<'a>,
    verdict: String,
    /// Why it is not delivered: also the code of a finding, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    summary: String,
    /// That a connection is delivered.
    probability: Chance,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver: Option<Receiver<'a>>,
    request: Vec<HopView<'a>>,
    reply: Vec<HopView<'a>>,
    alternatives: Vec<Alternative<'a>>,
    alternatives_truncated: bool,
    findings: Vec<FindingView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<Verify<'a>>,
}

#[derive(Serialize)]
struct Question<'a> {
    from: &'a str,
    to: &'a str,
    protocol: String,
}

/// A chance as an exact fraction and as a number.
#[derive(Serialize)]
struct Chance {
    fraction: String,
    value: f64,
}

impl Chance {
    fn of(probability: Probability) -> Self {
        Chance { fraction: probability.to_string(), value: probability.as_f64() }
    }
}

#[derive(Serialize)]
struct Receiver<'a> {
    host: String,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    /// The client address that it sees.
    sees: String,
}

#[derive(Serialize)]
struct HopView<'a> {
    host: String,
    stage: String,
    rule: &'a str,
    origin: Option<OriginView<'a>>,
    before: PacketView,
    after: PacketView,
    #[serde(skip_serializing_if = "Option::is_none")]
    outer: Option<OuterView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Vec<OptionView<'a>>>,
}

impl<'a> HopView<'a> {
    fn of(hop: &'a Hop, path: &'a Path) -> Self {
        HopView {
            host: hop.host.to_string(),
            stage: hop.stage.to_string(),
            rule: &hop.rule,
            origin: hop.origin.as_ref().map(OriginView::of),
            before: PacketView::of(hop.before),
            after: PacketView::of(hop.after),
            outer: hop.outer.as_ref().map(|outer| OuterView {
                src: outer.source.to_string(),
                dst: outer.destination.to_string(),
                protocol: "UDP",
                vni: outer.vni,
            }),
            choices: hop.choice.and_then(|index| path.choices.get(index)).map(options),
        }
    }
}

fn options(choice: &Choice) -> Vec<OptionView<'_>> {
    let each = choice.options.iter().enumerate();
    each.map(|(index, option)| OptionView {
        option,
        probability: Chance::of(choice.probability()),
        chosen: index == choice.chosen,
    })
    .collect()
}

#[derive(Serialize)]
struct OptionView<'a> {
    option: &'a str,
    probability: Chance,
    chosen: bool,
}

#[derive(Serialize)]
struct OriginView<'a> {
    kind: String,
    namespace: &'a str,
    name: &'a str,
    field: &'a str,
}

impl<'a> OriginView<'a> {
    fn of(origin: &'a Origin) -> Self {
        OriginView {
            kind: origin.kind.to_string(),
            namespace: &origin.namespace,
            name: &origin.name,
            field: &origin.field,
        }
    }
}

/// Addresses with ports, except for a sender's port, which its kernel chooses.
#[derive(Serialize)]
struct PacketView {
    protocol: String,
    src: String,
    dst: String,
}

impl PacketView {
    fn of(packet: Packet) -> Self {
        PacketView {
            protocol: packet.protocol.to_string(),
            src: address_text(packet.source),
            dst: address_text(packet.destination),
        }
    }
}

#[derive(Serialize)]
struct OuterView {
    protocol: &'static str,
    src: String,
    dst: String,
    vni: u32,
}

#[derive(Serialize)]
struct Alternative<'a> {
    probability: Chance,
    verdict: String,
    /// What is chosen at each choice on the way.
    choices: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver: Option<String>,
    text: &'a str,
}

impl<'a> Alternative<'a> {
    fn of(path: &'a Path) -> Self {
        Alternative {
            probability: Chance::of(path.probability()),
            verdict: path.end.verdict.to_string(),
            choices: path.choices.iter().map(Choice::taken).collect(),
            receiver: path.receiver.as_ref().map(|receiver| receiver.host.to_string()),
            text: &path.end.text,
        }
    }
}

#[derive(Serialize)]
struct FindingView<'a> {
    code: String,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
}

impl<'a> FindingView<'a> {
    fn of(finding: &'a Finding) -> Self {
        FindingView {
            code: finding.code.to_string(),
            text: &finding.text,
            origin: finding.origin.as_ref().map(OriginView::of),
            fix: finding.fix.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Verify<'a> {
    /// `agrees`, `differs` or `undecided`.
    result: &'static str,
    /// What the sender got.
    answer: String,
    /// The first hop that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<CheckView<'a>>,
    checks: Vec<CheckView<'a>>,
}

impl<'a> Verify<'a> {
    fn of(agreement: &'a Agreement) -> Self {
        let result = match (agreement.agrees(), agreement.undecided) {
            (false, _) => "differs",
            (true, true) => "undecided",
            (true, false) => "agrees",
        };
        Verify {
            result,
            answer: agreement.answer.to_string(),
            difference: agreement.difference().map(CheckView::of),
            checks: agreement.checks.iter().map(CheckView::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct CheckView<'a> {
    /// Number of the hop in `request`, counted from 1 as in the text.
    hop: usize,
    expected: &'a str,
    observed: &'a str,
    agrees: bool,
}

impl<'a> CheckView<'a> {
    fn of(check: &'a Check) -> Self {
        let Check { hop, expected, observed, agrees } = check;
        CheckView { hop: hop + 1, expected, observed, agrees: *agrees }
    }
}
