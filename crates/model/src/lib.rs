//! Kubernetes objects as one valid, indexed World
