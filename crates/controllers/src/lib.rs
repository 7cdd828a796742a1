//! What stands behind the API: endpoint slices, workloads, allocation
