//! Links, addresses, routes, neighbours and forwarding entries over `NETLINK_ROUTE`.
