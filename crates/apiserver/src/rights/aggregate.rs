//! Roles that are made of others: the rules of all ClusterRoles that their selectors find.

use super::rule::all;
use crate::resources::Kind;
use crate::selector::Selector;
use crate::store::{Key, Object, Store};
use serde_json::Value;
use std::sync::Arc;

/// Roles whose rules are no longer what they are made of, as they should be.
pub(crate) fn outdated(store: &Store) -> Vec<(Key, Value)> {
    let roles = || store.list(Kind::ClusterRole, None, None);
    let mut outdated = Vec::new();
    for (key, role) in roles() {
        let selectors = &role.value["aggregationRule"]["clusterRoleSelectors"];
        let Some(selectors) = selectors.as_array() else { continue };
        let selectors: Vec<Selector> = selectors.iter().filter_map(Selector::of_object).collect();
        let parts = roles().filter(|(name, part)| *name != key && chosen(&selectors, part));
        let parts: Vec<Arc<Object>> = parts.map(|(_, part)| part).collect();
        let mut rules: Vec<&Value> = Vec::new();
        for rule in parts.iter().flat_map(|part| all(&part.value["rules"])) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        let rules: Value = rules.into_iter().cloned().collect();
        let present = role.value.get("rules").filter(|rules| !rules.is_null());
        if present.map_or(all(&rules).next().is_some(), |present| *present != rules) {
            let mut role = role.value.clone();
            role["rules"] = rules;
            outdated.push((key.clone(), role));
        }
    }
    outdated
}

fn chosen(selectors: &[Selector], part: &Arc<Object>) -> bool {
    selectors.iter().any(|selector| selector.matches(part))
}
