//! The kernel's door against the real kernel, each test in network namespaces of its own.

mod spawn;
