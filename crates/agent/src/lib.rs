//! The node daemon: watch, compile, difference, apply
