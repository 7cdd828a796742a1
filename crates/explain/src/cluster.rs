//! A world with the programs of its nodes, compiled when first asked for.

use crate::settings::Settings;
use model::{Node, World};
use program::Program;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct Cluster<'a> {
    pub(crate) world: &'a World,
    pub(crate) settings: &'a Settings,
    compiled: BTreeMap<Arc<str>, OnceCell<(Program, Vec<compile::Finding>)>>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(world: &'a World, settings: &'a Settings) -> Self {
        let compiled =
            world.nodes().map(|node| (node.meta.key.name.clone(), OnceCell::new())).collect();
        Cluster { world, settings, compiled }
    }

    /// The node's program; `None` where there is no such node.
    pub(crate) fn program(&self, node: &str) -> Option<&Program> {
        Some(&self.compiled(node)?.0)
    }

    pub(crate) fn compile_findings(&self, node: &str) -> &[compile::Finding] {
        self.compiled(node).map_or(&[], |(_, findings)| findings)
    }

    fn compiled(&self, node: &str) -> Option<&(Program, Vec<compile::Finding>)> {
        let settings = || compile::Settings::new(self.settings.cluster_cidrs.clone());
        let cell = self.compiled.get(node)?;
        Some(cell.get_or_init(|| compile::compile(self.world, node, &settings())))
    }

    /// The node, if it exists and is up.
    pub(crate) fn living(&self, node: &str) -> Option<&'a Node> {
        self.world.node(node).filter(|node| node.ready)
    }
}
