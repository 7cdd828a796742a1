//! A world with the programs of its nodes, compiled when first asked for.

use crate::settings::Settings;
use model::{Node, Proxy, World};
use program::Program;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct Cluster<'a> {
    pub(crate) world: &'a World,
    pub(crate) settings: &'a Settings,
    nodes: BTreeMap<Arc<str>, Compiled>,
}

/// A node with the settings that it has of its own.
struct Compiled {
    proxy: Proxy,
    program: OnceCell<(Program, Vec<compile::Finding>)>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(world: &'a World, settings: &'a Settings) -> Self {
        let compiled = |node: &Node| {
            let proxy = settings.proxy_of(node);
            (node.meta.key.name.clone(), Compiled { proxy, program: OnceCell::new() })
        };
        Cluster { world, settings, nodes: world.nodes().map(compiled).collect() }
    }

    /// The node's program; `None` where there is no such node.
    pub(crate) fn program(&self, node: &str) -> Option<&Program> {
        Some(&self.compiled(node)?.0)
    }

    pub(crate) fn compile_findings(&self, node: &str) -> &[compile::Finding] {
        self.compiled(node).map_or(&[], |(_, findings)| findings)
    }

    /// How the node's service proxy is set; `None` where there is no such node.
    pub(crate) fn proxy(&self, node: &str) -> Option<&Proxy> {
        Some(&self.nodes.get(node)?.proxy)
    }

    fn compiled(&self, node: &str) -> Option<&(Program, Vec<compile::Finding>)> {
        let Compiled { proxy, program } = self.nodes.get(node)?;
        let settings = || compile::Settings::of(proxy);
        Some(program.get_or_init(|| compile::compile(self.world, node, &settings())))
    }

    /// The node, if it exists and is up.
    pub(crate) fn living(&self, node: &str) -> Option<&'a Node> {
        self.world.node(node).filter(|node| node.ready)
    }
}
