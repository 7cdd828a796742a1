//! The only crate with system calls: netlink, namespaces, raw sockets
