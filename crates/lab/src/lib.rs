//! A cluster network in namespaces
