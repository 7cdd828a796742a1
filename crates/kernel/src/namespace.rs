//! Network namespaces: make, name, enter.
