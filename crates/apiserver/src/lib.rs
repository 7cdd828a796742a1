//! The embedded Kubernetes API
