//! Orphans get the owner whose selector they match, and what matches no longer is let go.

use crate::claim::Claimant;
use crate::cluster::{Cluster, Keeper};
use crate::task::Task;
use crate::write::Write;
use client::Kind;
use model::Meta;

/// What the workload of this task has to take or let go before anything else can be said of it. Two whose selectors
/// overlap never fight: what one has is none of the other's business.
pub(super) fn plan(cluster: &Cluster, task: &Task) -> Vec<Write> {
    let Some(keeper) = cluster.keeper(task) else { return Vec::new() };
    let kinds = keeper.kinds().iter();
    kinds.flat_map(|kind| claims(cluster, &keeper, *kind)).collect()
}

fn claims(cluster: &Cluster, keeper: &Keeper<'_>, kind: Kind) -> Vec<Write> {
    let owner =
        Claimant { kind: keeper.kind, key: keeper.meta.key.clone(), uid: keeper.meta.uid.clone() };
    let wanted = |object: &&Meta| !object.terminating && keeper.matches(kind, object);
    let adopt = |object: &Meta| Write::Adopt {
        kind,
        key: object.key.clone(),
        uid: object.uid.clone(),
        owner: owner.clone(),
    };
    let release = |object: &Meta| Write::Release {
        kind,
        key: object.key.clone(),
        uid: object.uid.clone(),
        owner: owner.clone(),
    };
    let strange = |object: &&Meta| !keeper.matches(kind, object);
    let adopted = cluster.unkept(keeper, kind).into_iter().filter(wanted).map(adopt);
    adopted.chain(cluster.kept(keeper, kind).into_iter().filter(strange).map(release)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use model::ObjectKey;
    use proptest::prelude::{
        Just, ProptestConfig, any, prop, prop_assert_eq, prop_oneof, proptest,
    };
    use proptest::strategy::Strategy as Generator;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn set(name: &str, replicas: u32, selector: &Value, labels: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": selector}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c"}]}}},
        })
    }

    /// Selectors that overlap: the first takes what the second makes, too.
    fn wide() -> Value {
        json!({"app": "web"})
    }

    fn narrow() -> Value {
        json!({"app": "web", "tier": "front"})
    }

    fn owner(object: &Value) -> Option<&str> {
        object["metadata"]["ownerReferences"].as_array()?.first()?["name"].as_str()
    }

    fn name(object: &Value) -> String {
        object["metadata"]["name"].as_str().unwrap().to_owned()
    }

    #[derive(Debug, Clone)]
    enum Event {
        Label(usize, bool, bool),
        Orphan(usize),
        Delete(usize),
        Bare(bool),
        Scale(bool, u32),
    }

    fn event() -> impl Generator<Value = Event> {
        prop_oneof![
            (0usize..8, any::<bool>(), any::<bool>())
                .prop_map(|(place, web, front)| Event::Label(place, web, front)),
            (0usize..8).prop_map(Event::Orphan),
            (0usize..8).prop_map(Event::Delete),
            any::<bool>().prop_map(Event::Bare),
            (any::<bool>(), 0u32..4).prop_map(|(first, count)| Event::Scale(first, count)),
        ]
    }

    impl Bench {
        fn change_pod(&mut self, place: usize, change: impl FnOnce(&mut Value)) {
            let mut pods = self.pods();
            if pods.is_empty() {
                return;
            }
            let mut pod = pods.swap_remove(place % pods.len());
            change(&mut pod);
            self.store(Kind::POD, &crate::record::key(&pod).unwrap(), pod);
        }

        fn happen(&mut self, event: &Event, number: usize) {
            match *event {
                Event::Label(place, web, front) => self.change_pod(place, |pod| {
                    let labels = &mut pod["metadata"]["labels"];
                    labels["app"] = if web { "web" } else { "aside" }.into();
                    labels["tier"] = if front { "front" } else { "back" }.into();
                }),
                Event::Orphan(place) => self.change_pod(place, |pod| {
                    pod["metadata"]["ownerReferences"] = json!([]);
                }),
                Event::Delete(place) => {
                    let pods = self.pods();
                    let pod = pods.get(place % pods.len().max(1)).and_then(crate::record::key);
                    pod.into_iter().for_each(|pod| self.delete(Kind::POD, &pod));
                }
                Event::Bare(front) => self.apply(json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": format!("bare-{number}"), "namespace": "default",
                        "labels": if front { narrow() } else { wide() }},
                    "spec": {"containers": [{"name": "c"}]},
                })),
                Event::Scale(first, count) => {
                    let (name, selector) =
                        if first { ("wide", wide()) } else { ("narrow", narrow()) };
                    self.apply(set(name, count, &selector, &narrow()));
                }
            }
        }

        fn by_owner(&self) -> BTreeMap<String, Vec<Value>> {
            let mut pods = BTreeMap::<_, Vec<_>>::new();
            for pod in self.pods() {
                let owner = owner(&pod).unwrap_or_default().to_owned();
                pods.entry(owner).or_default().push(pod);
            }
            pods
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Two whose selectors overlap come to rest, each with as many pods as it wants, all of them its own by their
        /// labels; a pod that one has stays with it as long as it lives and has the labels.
        #[test]
        fn two_who_could_have_the_same_pods_do_not_fight(
            events in prop::collection::vec((event(), prop_oneof![Just(1usize), Just(usize::MAX)]), 1..12),
        ) {
            let mut bench = Bench::new();
            bench.apply(set("wide", 2, &wide(), &narrow()));
            bench.apply(set("narrow", 2, &narrow(), &narrow()));
            bench.settle();
            for (number, (event, most)) in events.into_iter().enumerate() {
                bench.happen(&event, number);
                let before: BTreeMap<_, _> = bench.pods().into_iter().map(|pod| (name(&pod), pod)).collect();
                bench.work(most);
                bench.settle();
                let after = bench.by_owner();
                for set in bench.all(Kind::REPLICA_SET) {
                    let mine = after.get(&name(&set)).map_or(0, Vec::len);
                    prop_assert_eq!(json!(mine), set["spec"]["replicas"].clone());
                }
                for pod in after.into_values().flatten() {
                    let fits = |owner: &str| {
                        let labels = &pod["metadata"]["labels"];
                        labels["app"] == "web" && (owner == "wide" || labels["tier"] == "front")
                    };
                    let (now, then) = (owner(&pod), before.get(&name(&pod)).and_then(owner));
                    prop_assert_eq!(now.is_some(), fits(now.unwrap_or("wide")), "{:?}", event);
                    if let Some(then) = then.filter(|then| fits(then)) {
                        prop_assert_eq!(now, Some(then), "{:?}", event);
                    }
                }
            }
        }
    }

    #[test]
    fn who_is_on_his_way_out_takes_nothing_and_lets_nothing_go() {
        let claims = |bench: &Bench| {
            plan(&bench.cluster, &Task::ReplicaSet(ObjectKey::new("default", "wide")))
        };
        let mut bench = Bench::new();
        let mut going = set("wide", 1, &wide(), &narrow());
        bench.apply(going.clone());
        bench.settle();
        bench.happen(&Event::Bare(false), 0);
        bench.happen(&Event::Label(1, false, false), 0);
        assert_eq!(claims(&bench).len(), 2, "one to take, one to let go");
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        going["metadata"]["finalizers"] = json!(["orphan"]);
        bench.apply(going);
        assert_eq!(claims(&bench), vec![]);
    }

    /// Its names, ended pods and what is on its way out.
    #[test]
    fn not_everything_that_has_the_labels_is_taken() {
        let pod = |name: &str, with: Value| {
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "default", "labels": wide()},
                "spec": {"containers": [{"name": "c"}]},
            });
            crate::fixture::merge(&mut pod, with);
            pod
        };
        let ended = json!({"status": {"phase": "Succeeded"}});
        let going =
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]}});
        let elsewhere = json!({"metadata": {"namespace": "other"}});
        let other = json!({"metadata": {"labels": {"app": "other"}}});
        let rows = [
            (pod("p", json!({})), "DaemonSet ReplicaSet"),
            (pod("wide-3", json!({})), "DaemonSet ReplicaSet StatefulSet"),
            (pod("wide-03", json!({})), "DaemonSet ReplicaSet"),
            (pod("wide-3", ended), "DaemonSet StatefulSet"),
            (pod("wide-3", going), ""),
            (pod("wide-3", elsewhere), ""),
            (pod("wide-3", other), ""),
        ];
        for (pod, expected) in rows {
            let mut bench = Bench::new();
            bench.store(Kind::POD, &crate::record::key(&pod).unwrap(), pod.clone());
            for kind in ["ReplicaSet", "StatefulSet", "DaemonSet"] {
                let mut set = set("wide", 1, &wide(), &wide());
                set["kind"] = kind.into();
                bench.apply(set);
            }
            let key = ObjectKey::new("default", "wide");
            let tasks = [
                Task::DaemonSet(key.clone()),
                Task::ReplicaSet(key.clone()),
                Task::StatefulSet(key),
            ];
            let takers =
                tasks.iter().flat_map(|task| plan(&bench.cluster, task)).map(|write| match write {
                    Write::Adopt { owner, .. } => owner.kind.kind,
                    other => panic!("{other:?}"),
                });
            assert_eq!(takers.collect::<Vec<_>>().join(" "), expected, "{pod}");
        }
    }
}
