//! The controllers against the embedded API, with kubelets that only pretend.

#[cfg(test)]
mod batches;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod elections;
#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod kubelet;
#[cfg(test)]
mod nodes;
mod real;
#[cfg(test)]
mod view;
#[cfg(test)]
mod workloads;
