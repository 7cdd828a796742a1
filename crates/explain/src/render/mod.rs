//! Explanations for eyes and programs.

pub mod json;
pub mod svg;
pub mod tree;

pub use json::json;
pub use svg::svg;
pub use tree::{Style, tree};

use crate::path::{Choice, address_text};
use program::Packet;

pub(crate) fn packet_text(packet: Packet) -> String {
    format!("{} → {}", address_text(packet.source), address_text(packet.destination))
}

/// The choices of a way as one line.
pub(crate) fn choices_text(choices: &[Choice]) -> String {
    let taken: Vec<_> = choices.iter().map(Choice::taken).collect();
    if taken.is_empty() { "the only way".to_owned() } else { taken.join(" → ") }
}
