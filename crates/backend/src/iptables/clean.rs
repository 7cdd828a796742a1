//! The way back: rules go, and nothing but rules of the one whose they are.

use super::names;
use super::tool::{Error, Tool, Variant, exists};
use model::Family;
use netstate::iptables::{Delta, RuleSet, Scope, TableName};

/// Removes what Podway made in the network namespace of the calling thread, in both variants.
///
/// Its chains have kube-proxy's names. Where kube-proxy has come back since, those are kube-proxy's now and stay.
pub fn clean() -> Result<(), Error> {
    each(|rules| match has(rules, names::CANARY) {
        true if has(rules, names::KUBE_PROXY_CANARY) => without(rules, &names::is_podways),
        true => without(rules, &|it| names::is_podways(it) || names::is_kube_proxys(it)),
        false => Delta::default(),
    })
}

/// Removes what kube-proxy left, in its modes iptables and ipvs. Where Podway's rules have the place of kube-proxy's,
/// nothing of kube-proxy's is left.
pub fn remove_kube_proxys() -> Result<(), Error> {
    each(|rules| match has(rules, names::CANARY) {
        true => Delta::default(),
        false => without(rules, &names::is_kube_proxys),
    })
}

fn each(removal: impl Fn(&RuleSet) -> Delta) -> Result<(), Error> {
    for variant in Variant::ALL {
        for family in Family::ALL.into_iter().filter(|family| exists(*family)) {
            let tool = Tool { variant, family };
            match tool.save() {
                Ok(rules) => drop(tool.restore(&removal(&rules))?),
                // Where the variant is not installed, or not in the kernel, nobody can have used it.
                Err(Error::NotInstalled(_) | Error::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn has(rules: &RuleSet, chain: &str) -> bool {
    TableName::ALL.iter().any(|table| rules.chain(*table, chain).is_some())
}

fn without(rules: &RuleSet, owns: &dyn Fn(&str) -> bool) -> Delta {
    Delta::between(rules, &RuleSet::default(), &Scope { owns, unordered: &|_, _| None })
}
