//! The controllers against the embedded API, with kubelets that only pretend.

#[cfg(test)]
mod batches;
#[cfg(test)]
mod beside;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod compare;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod elections;
#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod events;
#[cfg(test)]
mod kubelet;
#[cfg(test)]
mod legacy;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod orphans;
#[cfg(test)]
mod real;
#[cfg(test)]
mod real_server;
#[cfg(test)]
mod tainted;
#[cfg(test)]
mod theirs;
#[cfg(test)]
mod view;
#[cfg(test)]
mod workloads;
