//! nf_tables over `NETLINK_NETFILTER`.
