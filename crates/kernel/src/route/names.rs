//! Interface names and the numbers the kernel means by them.

use std::collections::HashMap;

/// Names and indices of the links of one namespace at one moment.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: HashMap<u32, String>,
    indices: HashMap<String, u32>,
}

impl Names {
    pub(super) fn insert(&mut self, index: u32, name: String) {
        self.indices.insert(name.clone(), index);
        self.names.insert(index, name);
    }

    pub(super) fn name(&self, index: u32) -> Option<&str> {
        self.names.get(&index).map(String::as_str)
    }

    pub(super) fn index(&self, name: &str) -> Option<u32> {
        self.indices.get(name).copied()
    }
}
