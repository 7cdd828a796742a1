//! The answer for a terminal: one sentence, the hops, the reply, what to make of it.

use super::{choices_text, packet_text};
use crate::explanation::Explanation;
use crate::finding::Finding;
use crate::path::{Hop, Path, Verdict};

/// Columns before a hop's text.
const MARGIN: usize = 22;
/// Narrower than this nothing can be read.
const NARROWEST: usize = 60;
/// Ways listed one by one.
const LISTED: usize = 12;

/// How wide, and whether with colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Terminal escape codes.
    pub colour: bool,
}

impl Default for Style {
    fn default() -> Self {
        Style { width: 100, colour: false }
    }
}

/// The explanation as lines of text, the answer first.
pub fn tree(explanation: &Explanation, style: Style) -> String {
    let style = Style { width: style.width.max(NARROWEST), ..style };
    let mut page = Page { style, text: String::new() };
    let path = explanation.path();
    page.answer(&explanation.summary(), explanation);
    page.heading("request");
    page.hops(&path.request, path, 1);
    if !path.reply.is_empty() {
        page.heading("reply");
        page.hops(&path.reply, path, path.request.len() + 1);
    }
    page.verified(explanation);
    page.alternatives(explanation);
    page.findings(&explanation.findings);
    page.text
}

#[derive(Clone, Copy)]
enum Ink {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    Doubt,
}

struct Page {
    style: Style,
    text: String,
}

impl Page {
    fn answer(&mut self, summary: &str, explanation: &Explanation) {
        let differs = explanation.verified.as_ref().is_some_and(|it| !it.agrees());
        let ink = match explanation.verdict() {
            _ if differs => Ink::Bad,
            Verdict::Delivered => Ink::Good,
            Verdict::Refused | Verdict::Dropped => Ink::Bad,
            Verdict::Unknown => Ink::Doubt,
        };
        // One line however long: whoever reads only the first line reads all of the answer.
        self.line(0, summary, ink);
    }

    fn heading(&mut self, text: &str) {
        self.text.push('\n');
        self.line(0, text, Ink::Bold);
    }

    fn hops(&mut self, hops: &[Hop], path: &Path, first: usize) {
        let mut last = None;
        for (number, hop) in (first..).zip(hops) {
            if last != Some(&hop.host) {
                self.line(2, &hop.host.to_string(), Ink::Bold);
            }
            self.hop(number, hop, path);
            last = Some(&hop.host);
        }
    }

    fn hop(&mut self, number: usize, hop: &Hop, path: &Path) {
        let stage = hop.stage.to_string();
        let head = format!("  │ {number:>2}  {stage:<width$}", width = MARGIN - 8);
        self.hanging(&head, &hop.rule, Ink::Plain);
        let below = format!("  │{:width$}", "", width = MARGIN - 3);
        if hop.before != hop.after {
            let change = format!("{}  ⇒  {}", packet_text(hop.before), packet_text(hop.after));
            self.hanging(&below, &change, Ink::Plain);
        } else if number == 1 || hop.outer.is_some() {
            self.hanging(&below, &packet_text(hop.after), Ink::Plain);
        }
        if let Some(choice) = hop.choice.and_then(|index| path.choices.get(index)) {
            for (index, option) in choice.options.iter().enumerate().take(LISTED) {
                let mark = if index == choice.chosen { '●' } else { '○' };
                self.hanging(
                    &below,
                    &format!("{mark} {} {option}", choice.probability()),
                    Ink::Plain,
                );
            }
            self.rest(&below, choice.options.len());
        }
        if let Some(origin) = &hop.origin {
            self.hanging(&below, &format!("from {origin}"), Ink::Dim);
        }
    }

    fn verified(&mut self, explanation: &Explanation) {
        let Some(agreement) = &explanation.verified else { return };
        self.heading(&format!("a real connection: {}", agreement.answer));
        let mut checks: Vec<_> = agreement.checks.iter().collect();
        checks.sort_by_key(|check| check.hop);
        for check in checks {
            let (mark, ink) = if check.agrees { ('✓', Ink::Good) } else { ('✗', Ink::Bad) };
            let head = format!("  {mark} hop {:<2} ", check.hop + 1);
            self.hanging(&head, &check.observed, ink);
            if !check.agrees {
                self.hanging("           ", &format!("expected: {}", check.expected), Ink::Plain);
            }
        }
    }

    fn alternatives(&mut self, explanation: &Explanation) {
        let others = explanation.alternatives();
        if others.is_empty() {
            return;
        }
        let chance = explanation.path().probability();
        self.heading(&format!("other ways (the one above has a chance of {chance})"));
        for path in others.iter().take(LISTED) {
            let mut text = choices_text(&path.choices);
            if !path.is_delivered() {
                text = format!("{text}: {}", path.end.text);
            }
            let head = format!("  {:<6} {:<10} ", path.probability().to_string(), path.end.verdict);
            let ink = if path.is_delivered() { Ink::Plain } else { Ink::Bad };
            self.hanging(&head, &text, ink);
        }
        self.rest("  ", others.len());
        if explanation.truncated {
            self.line(2, "there are more ways than were walked", Ink::Doubt);
        }
    }

    fn rest(&mut self, head: &str, count: usize) {
        if count > LISTED {
            self.hanging(head, &format!("… and {} more", count - LISTED), Ink::Dim);
        }
    }

    fn findings(&mut self, findings: &[Finding]) {
        if findings.is_empty() {
            return;
        }
        self.heading("findings");
        for finding in findings {
            self.hanging("  • ", &format!("{}: {}", finding.code, finding.text), Ink::Plain);
            if let Some(origin) = &finding.origin {
                self.hanging("    ", &format!("at {origin}"), Ink::Dim);
            }
            if let Some(fix) = &finding.fix {
                self.hanging("    ", &format!("fix: {fix}"), Ink::Good);
            }
        }
    }

    /// Text broken at spaces, all its lines as far to the right as the first.
    fn hanging(&mut self, head: &str, text: &str, ink: Ink) {
        let indent = head.chars().count();
        let room = self.style.width.saturating_sub(indent).max(20);
        let bar = if head.starts_with("  │") { "  │" } else { "" };
        for (index, part) in wrap(text, room).into_iter().enumerate() {
            let lead = if index == 0 { head.to_owned() } else { format!("{bar:<indent$}") };
            self.text.push_str(&lead);
            self.inked(&part, ink);
            self.text.push('\n');
        }
    }

    fn line(&mut self, indent: usize, text: &str, ink: Ink) {
        self.text.push_str(&" ".repeat(indent));
        self.inked(text, ink);
        self.text.push('\n');
    }

    fn inked(&mut self, text: &str, ink: Ink) {
        let code = match ink {
            Ink::Plain => None,
            Ink::Bold => Some("1"),
            Ink::Dim => Some("2"),
            Ink::Good => Some("32"),
            Ink::Bad => Some("31"),
            Ink::Doubt => Some("33"),
        };
        match code.filter(|_| self.style.colour) {
            Some(code) => self.text.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
            None => self.text.push_str(text),
        }
    }
}

/// Lines of at most `room` characters, broken at spaces; a longer word has a line of its own.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always one line");
        let used = line.chars().count();
        if used > 0 && used + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if used > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
