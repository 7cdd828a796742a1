//! The picture: a lane for each host, time downwards, the request first, the reply below it.
//!
//! Plain SVG with classes of its own: it is at home in a file, in a page and in a dark room.

use super::tree::wrap;
use crate::explanation::Explanation;
use crate::path::{Hop, Host, Path, Stage, Verdict, address_text};
use std::fmt::Write as _;

/// Geometry in user units: one is a pixel.
mod size {
    pub(super) const LANE: usize = 264;
    pub(super) const MARGIN: usize = 24;
    pub(super) const BOX: usize = 240;
    /// How far request boxes stand left, and reply boxes right, of the middle of their lane.
    pub(super) const SHIFT: usize = 8;
    pub(super) const BOX_HEIGHT: usize = 74;
    pub(super) const ROW: usize = 98;
    pub(super) const LANE_HEAD: usize = 34;
    pub(super) const SUMMARY_LINE: usize = 22;
    pub(super) const SECTION: usize = 34;
    /// Characters that fit into a box in small type.
    pub(super) const SMALL_FITS: usize = 41;
}

const STYLE: &str = "\
.paper{fill:#ffffff}.lane{fill:#f6f8fa}.lane.odd{fill:#eef1f4}.axis{stroke:#d0d7de}\
.host{fill:#1f2328;font-weight:600;font-size:13px}.title{fill:#1f2328;font-weight:600;font-size:15px}\
.section{fill:#59636e;font-size:11px;letter-spacing:.08em}\
.box{fill:#ffffff;stroke:#d0d7de}.request{fill:#0969da}.reply{fill:#8250df}.good{fill:#1a7f37}.bad{fill:#cf222e}.doubt{fill:#9a6700}\
.stage{fill:#1f2328;font-weight:600;font-size:12px}.chance{fill:#59636e;font-size:11px}\
.packet{fill:#59636e;font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:11px}.changed{fill:#953800;font-weight:600}\
.origin{fill:#59636e;font-size:9.5px}\
.way{fill:none;stroke-width:1.6}.way.request{fill:none;stroke:#0969da}.way.reply{fill:none;stroke:#8250df}.way.tunnel{stroke-dasharray:5 3}";

const DARK: &str = "\
.paper{fill:#0d1117}.lane{fill:#12171e}.lane.odd{fill:#161c24}.axis{stroke:#30363d}\
.host,.title,.stage{fill:#e6edf3}.section,.chance,.packet,.origin{fill:#9198a1}\
.box{fill:#1c232c;stroke:#3d444d}.request{fill:#4493f8}.reply{fill:#ab7df8}.good{fill:#3fb950}.bad{fill:#f85149}.doubt{fill:#d29922}\
.changed{fill:#f0883e}.way.request{fill:none;stroke:#4493f8}.way.reply{fill:none;stroke:#ab7df8}";

/// The way that is shown, as one self-contained SVG document.
pub fn svg(explanation: &Explanation) -> String {
    let path = explanation.path();
    let mut drawing = Drawing::new(explanation);
    drawing.section("REQUEST");
    drawing.hops(path, &path.request, Direction::Request);
    if !path.reply.is_empty() {
        drawing.section("REPLY");
        drawing.hops(path, &path.reply, Direction::Reply);
    }
    drawing.finish(explanation)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Reply,
}

impl Direction {
    fn class(self) -> &'static str {
        match self {
            Direction::Request => "request",
            Direction::Reply => "reply",
        }
    }
}

/// Where a box is, for the line that leaves it.
#[derive(Clone, Copy)]
struct Place {
    middle: usize,
    top: usize,
}

struct Drawing {
    lanes: Vec<Host>,
    summary: Vec<String>,
    /// What is drawn over the lanes.
    body: String,
    y: usize,
    number: usize,
}

impl Drawing {
    fn new(explanation: &Explanation) -> Self {
        let path = explanation.path();
        let mut lanes: Vec<Host> = Vec::new();
        for hop in path.request.iter().chain(&path.reply) {
            if !lanes.contains(&hop.host) {
                lanes.push(hop.host.clone());
            }
        }
        // About 10 units a letter in the widest of the title's types.
        let room = (lanes.len().max(2) * size::LANE) / 10;
        let summary = wrap(&explanation.summary(), room);
        let y = size::MARGIN + summary.len() * size::SUMMARY_LINE + size::LANE_HEAD + 12;
        Drawing { lanes, summary, body: String::new(), y, number: 0 }
    }

    fn width(&self) -> usize {
        self.lanes.len().max(2) * size::LANE + 2 * size::MARGIN
    }

    fn lane_middle(&self, host: &Host) -> usize {
        let lane = self.lanes.iter().position(|lane| lane == host).unwrap_or(0);
        size::MARGIN + lane * size::LANE + size::LANE / 2
    }

    fn section(&mut self, text: &str) {
        let x = size::MARGIN + 10;
        self.put(&format!(r#"<text class="section" x="{x}" y="{}">{text}</text>"#, self.y + 12));
        self.y += size::SECTION;
    }

    fn hops(&mut self, path: &Path, hops: &[Hop], direction: Direction) {
        let mut last: Option<(Place, &Hop)> = None;
        for hop in hops {
            self.number += 1;
            let middle = self.lane_middle(&hop.host);
            let middle = match direction {
                Direction::Request => middle - size::SHIFT,
                Direction::Reply => middle + size::SHIFT,
            };
            let place = Place { middle, top: self.y };
            if let Some((from, before)) = last {
                self.line(from, place, direction, before.outer.as_ref().map(|outer| outer.vni));
            }
            self.hop(path, hop, place, direction);
            last = Some((place, hop));
            self.y += size::ROW;
        }
    }

    /// From the foot of one box to the head of the next.
    fn line(&mut self, from: Place, to: Place, direction: Direction, vni: Option<u32>) {
        let (start, end) = (from.top + size::BOX_HEIGHT, to.top - 2);
        let half = start + (end - start) / 2;
        let tunnel = if vni.is_some() { " tunnel" } else { "" };
        let class = direction.class();
        let way = if from.middle == to.middle {
            format!("M{} {start}V{end}", from.middle)
        } else {
            format!("M{} {start}V{half}H{}V{end}", from.middle, to.middle)
        };
        self.put(&format!(
            r#"<path class="way {class}{tunnel}" d="{way}" marker-end="url(#{class})"/>"#
        ));
        if let Some(vni) = vni {
            let x = if to.middle > from.middle { from.middle + 50 } else { from.middle - 50 };
            let y = half + 12;
            self.put(&format!(
                r#"<text class="origin" text-anchor="middle" x="{x}" y="{y}">VXLAN {vni}</text>"#
            ));
        }
    }

    fn hop(&mut self, path: &Path, hop: &Hop, place: Place, direction: Direction) {
        let (x, y) = (place.middle - size::BOX / 2, place.top);
        let (width, height) = (size::BOX, size::BOX_HEIGHT);
        let colour = colour(hop, path, direction);
        // The side of the bar tells the direction, too.
        let bar = if direction == Direction::Request { x } else { x + width - 4 };
        let tip = escape(&hop.rule);
        self.put(&format!("<g><title>{tip}</title>"));
        self.put(&format!(
            r#"<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>"#
        ));
        self.put(&format!(
            r#"<rect class="{colour}" x="{bar}" y="{y}" width="4" height="{height}" rx="2"/>"#
        ));
        let (left, right) = (x + 14, x + width - 14);
        let stage = format!("{} {}", self.number, hop.stage);
        self.put(&format!(r#"<text class="stage" x="{left}" y="{}">{stage}</text>"#, y + 18));
        if let Some(choice) = hop.choice.and_then(|index| path.choices.get(index)) {
            let text = format!("one of {}", choice.options.len());
            self.put(&format!(
                r#"<text class="chance" text-anchor="end" x="{right}" y="{}">{text}</text>"#,
                y + 18
            ));
        }
        let source = address_text(hop.after.source);
        let destination = format!("→ {}", address_text(hop.after.destination));
        let changed = |changed| if changed { "packet changed" } else { "packet" };
        for (line, text, class) in [
            (35, source, changed(hop.before.source != hop.after.source)),
            (49, destination, changed(hop.before.destination != hop.after.destination)),
        ] {
            let (y, text) = (y + line, shorten(&text, 30));
            self.put(&format!(r#"<text class="{class}" x="{left}" y="{y}">{text}</text>"#));
        }
        let small = small_text(hop);
        self.put(&format!(r#"<text class="origin" x="{left}" y="{}">{small}</text></g>"#, y + 65));
    }

    fn put(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    fn finish(mut self, explanation: &Explanation) -> String {
        let (width, height) = (self.width(), self.y + size::MARGIN / 2);
        let ground = self.ground(height, explanation.verdict());
        let label = escape(&explanation.summary());
        let mut text = String::new();
        let font = "font-family=\"system-ui,'DejaVu Sans',sans-serif\"";
        let written = writeln!(
            text,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}" {font}>"#
        );
        written.expect("writing to a string cannot fail");
        text.push_str(&format!(
            "<style>{STYLE}@media(prefers-color-scheme:dark){{{DARK}}}</style>\n"
        ));
        text.push_str(&markers());
        text.push_str(&ground);
        text.push_str(&std::mem::take(&mut self.body));
        text.push_str("</svg>\n");
        text
    }

    /// Paper, the answer, the lanes with their names.
    fn ground(&self, height: usize, verdict: Verdict) -> String {
        let colour = verdict_colour(verdict);
        let mut text = String::from("<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n");
        for (index, line) in self.summary.iter().enumerate() {
            let y = size::MARGIN + 12 + index * size::SUMMARY_LINE;
            let (x, line) = (size::MARGIN + 14, escape(line));
            text.push_str(&format!("<text class=\"title\" x=\"{x}\" y=\"{y}\">{line}</text>\n"));
        }
        let tall = self.summary.len() * size::SUMMARY_LINE - 4;
        let (x, y) = (size::MARGIN, size::MARGIN - 2);
        text.push_str(&format!("<rect class=\"{colour}\" x=\"{x}\" y=\"{y}\" width=\"5\" height=\"{tall}\" rx=\"2\"/>\n"));
        let top = size::MARGIN + self.summary.len() * size::SUMMARY_LINE + 4;
        for (index, host) in self.lanes.iter().enumerate() {
            text.push_str(&lane(index, host, top, height));
        }
        text
    }
}

fn lane(index: usize, host: &Host, top: usize, height: usize) -> String {
    let odd = if index % 2 == 1 { " odd" } else { "" };
    let x = size::MARGIN + index * size::LANE;
    let (width, tall, middle) = (size::LANE, height - top - size::MARGIN / 2, x + size::LANE / 2);
    let name = shorten(&host.to_string(), 32);
    let (name_y, axis) = (top + 22, top + size::LANE_HEAD);
    let foot = top + tall;
    format!(
        "<rect class=\"lane{odd}\" x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{tall}\"/>\n\
         <text class=\"host\" text-anchor=\"middle\" x=\"{middle}\" y=\"{name_y}\">{name}</text>\n\
         <line class=\"axis\" x1=\"{middle}\" y1=\"{axis}\" x2=\"{middle}\" y2=\"{foot}\"/>\n"
    )
}

/// Arrow heads, one for each direction.
fn markers() -> String {
    let marker = |class: &str| {
        format!(
            "<marker id=\"{class}\" viewBox=\"0 0 8 8\" refX=\"6\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
             <path class=\"{class}\" d=\"M0 0L8 4L0 8z\"/></marker>"
        )
    };
    format!("<defs>{}{}</defs>\n", marker("request"), marker("reply"))
}

fn colour(hop: &Hop, path: &Path, direction: Direction) -> &'static str {
    match hop.stage {
        Stage::Deliver => verdict_colour(path.end.verdict),
        Stage::Refuse | Stage::Drop => "bad",
        Stage::Receive => "good",
        _ => direction.class(),
    }
}

fn verdict_colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "good",
        Verdict::Refused | Verdict::Dropped => "bad",
        Verdict::Unknown => "doubt",
    }
}

/// The origin, else what little of the rule fits.
fn small_text(hop: &Hop) -> String {
    let text = hop.origin.as_ref().map_or_else(|| hop.rule.clone(), ToString::to_string);
    shorten(&text, size::SMALL_FITS)
}

/// At most so many characters, escaped.
fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => {
            let kept: String = text.chars().take(most - 1).collect();
            escape(&format!("{}…", kept.trim_end()))
        }
        None => escape(text),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
