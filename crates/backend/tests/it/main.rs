//! Random clusters and packets: the specification, the trace of the program, the evaluation of the
//! lowered table and the kernel itself say the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::excessive_nesting,
    clippy::print_stdout,
    reason = "tests"
)]

mod adoption;
mod agreement;
mod choice;
mod cluster;
mod dual_stack;
mod iptables_lowering;
mod iptables_reading;
mod ipvs;
mod ipvs_kernel;
mod loopback;
mod lowering;
mod oracle;
mod probe;
mod proxy;
mod refusal;
mod rolling;
mod sctp;
mod space;
mod switching;
mod testbed;
mod userspace;
