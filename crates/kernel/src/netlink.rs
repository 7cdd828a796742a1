//! Netlink: messages, attributes, sockets.
