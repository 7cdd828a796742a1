#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod election;
mod formats;
mod segment;
