//! Virtual IPs by VRRP and the L4 balancer behind them
