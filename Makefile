# Two commands matter: `make demo` and `make test`. `make help` lists the others.

CARGO ?= cargo

.PHONY: help build demo test tidy bench bench-services bench-datapath bench-userspace bench-balancer bench-failover bench-lab bench-api

help:
	@echo 'make demo            a cluster network on this machine, explained; needs Rust only, no root'
	@echo 'make test            everything that CI checks'
	@echo 'make build           target/release/podway'
	@echo 'make tidy            formatting, rules of the house, lints'
	@echo 'make bench           all benchmarks, printed as ratios'
	@echo 'make bench-services  programming up to 50 000 Services, against the shape of kube-proxy 1.36, and an agent beside an API'
	@echo 'make bench-datapath  connections and requests through a Service, against direct ones and the shapes of kube-proxy'
	@echo 'make bench-userspace connections, requests and octets through the relay of proxy mode userspace, against HAProxy'
	@echo "make bench-balancer  the same through the edge's balancer, against HAProxy"
	@echo 'make bench-failover  a virtual IP whose owner dies, against keepalived'
	@echo 'make bench-lab       from `podway lab up` to the first answered request'
	@echo "make bench-api       the lab's API server: start, memory, writes, lists, watchers; beside etcd and kube-apiserver"

build:
	$(CARGO) build --release --package podway

demo: build
	@examples/kubeadm-ha/demo.sh

test:
	@scripts/test

tidy:
	$(CARGO) fmt --all --check
	$(CARGO) xtask tidy
	$(CARGO) clippy --workspace --all-targets -- --deny warnings

bench: bench-services bench-datapath bench-userspace bench-balancer bench-failover bench-lab bench-api

bench-services: build
	@bench/services

bench-datapath:
	@bench/datapath

bench-userspace:
	@bench/userspace

bench-balancer:
	@bench/balancer

bench-failover:
	@bench/failover

bench-lab: build
	@bench/lab

bench-api: build
	@bench/api
