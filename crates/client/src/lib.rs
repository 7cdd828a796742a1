//! A cluster watched through the Kubernetes API
