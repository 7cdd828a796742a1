//! The plug-in as runtimes see it: environment and standard input in, exit code and standard output back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod calls;
mod pods;
mod space;
