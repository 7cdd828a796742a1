//! The path of a packet through a cluster, there and back, as a value and as text, JSON or a picture.
//!
//! *Here*: the walk from host to host over the programs of all nodes ([`explain`]), the reply's way,
//! every other way with its chance, why it fails where it fails, the comparison with what was observed
//! ([`verify`]), and the renderings ([`render`]).
//! *Not here*: what one node does with a packet (crate `program`, `trace`), why a node does so (crate
//! `compile`), looking at a live kernel (the binary).
//! *Start at* [`explain`], then [`Path`] and `walk/mod.rs`.

mod cluster;
mod explanation;
mod finding;
mod imagine;
mod near;
mod path;
mod probability;
mod question;
pub mod render;
mod reply;
mod settings;
mod summary;
pub mod verify;
mod walk;
mod why;

pub use explanation::{Explanation, explain};
pub use finding::{Code, Finding};
pub use imagine::imagine;
pub use path::{
    Choice, Connection, End, Hop, Host, Opener, Outer, Path, Receiver, Stage, Translation, Verdict,
    address_text,
};
pub use probability::Probability;
pub use question::{Question, QuestionError};
pub use settings::{Environment, ProxyWishes, Settings};
