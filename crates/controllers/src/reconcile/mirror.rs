//! Endpoints that somebody wrote → EndpointSlices, which are all that proxies read.

use super::packing::{self, Group};
use super::slice_writes::{Frame, delete};
use crate::cluster::Cluster;
use crate::names::Names;
use crate::record::{Endpoint, Endpoints, Family, Manager, Slice, owner_reference};
use crate::write::Write;
use model::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};

/// Further addresses of a subset are not mirrored.
const MOST: usize = 1000;
/// Annotations that say something about the Endpoints object itself.
const OWN_ANNOTATIONS: [&str; 2] =
    [Slice::TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration"];

pub(super) fn plan(cluster: &Cluster, key: &ObjectKey, names: &mut Names) -> Vec<Write> {
    let slices = cluster.slices_of(Manager::Mirroring, key);
    let by_hand = cluster.service(key).is_some_and(|service| service.base.selector.is_none());
    let endpoints = cluster.endpoints(key).filter(|found| by_hand && !found.is_skipped());
    let Some(endpoints) = endpoints else { return slices.map(delete).collect() };
    let packing = packing::pack(wanted(endpoints), slices.cloned().collect(), MOST);
    let meta = &endpoints.meta;
    let mut labels = meta.labels.clone();
    labels.insert(Slice::SERVICE_NAME.to_owned(), meta.key.name.to_string());
    labels.insert(Slice::MANAGED_BY.to_owned(), Manager::Mirroring.label().to_owned());
    let mut annotations = meta.annotations.clone();
    annotations.retain(|name, _| !OWN_ANNOTATIONS.contains(&name.as_str()));
    let frame = Frame {
        key: &meta.key,
        owner: owner_reference("v1", "Endpoints", &meta.key.name, &meta.uid),
        labels,
        annotations,
    };
    frame.writes(packing, &BTreeMap::new(), names)
}

/// By family and ports; of an address that is there twice, the ready one.
fn wanted(endpoints: &Endpoints) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut groups = BTreeMap::<Group, Vec<Endpoint>>::new();
    let mut seen = BTreeSet::new();
    for subset in &endpoints.subsets {
        for family in [Family::V4, Family::V6] {
            let group = Group { family, ports: subset.ports.clone() };
            for endpoint in subset.of_family(family).take(MOST) {
                if seen.insert((group.clone(), endpoint.address)) {
                    groups.entry(group.clone()).or_default().push(endpoint.clone());
                }
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{apply, service};
    use client::Kind;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn endpoints(subsets: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": "web", "namespace": "default", "uid": "uid-e", "labels": {"team": "a"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
            },
            "subsets": subsets,
        })
    }

    fn reconcile(cluster: &mut Cluster) -> Vec<Write> {
        let key = ObjectKey::new("default", "web");
        let writes = plan(cluster, &key, &mut Names::new(1));
        for write in &writes {
            match write {
                Write::Create(object) => apply(cluster, [object.clone()]),
                Write::Delete { kind, key, .. } => cluster.remove(*kind, key, Duration::ZERO),
                other => panic!("{other:?}"),
            }
        }
        writes
    }

    fn by_hand() -> Value {
        let mut service = service("web", json!({}));
        service["spec"]["selector"] = Value::Null;
        service
    }

    #[test]
    fn each_family_and_set_of_ports_has_a_slice() {
        let mut cluster = Cluster::default();
        let subsets = json!([
            {
                "addresses": [{"ip": "192.0.2.1", "nodeName": "n", "hostname": "h"}, {"ip": "2001:db8::1"}],
                "notReadyAddresses": [{"ip": "192.0.2.2"}, {"ip": "192.0.2.1"}],
                "ports": [{"name": "http", "port": 80}],
            },
            {"addresses": [{"ip": "192.0.2.3"}], "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]},
        ]);
        apply(&mut cluster, [by_hand(), endpoints(subsets)]);
        let writes = reconcile(&mut cluster);
        let object = |write: &Write| match write {
            Write::Create(object) => object.clone(),
            other => panic!("{other:?}"),
        };
        let objects: Vec<_> = writes.iter().map(object).collect();
        let said = |object: &Value| {
            let of = |endpoint: &Value| {
                (endpoint["addresses"][0].clone(), endpoint["conditions"]["ready"].clone())
            };
            let endpoints =
                object["endpoints"].as_array().unwrap().iter().map(of).collect::<Vec<_>>();
            json!([object["addressType"], object["ports"][0]["port"], endpoints])
        };
        let mut all: Vec<_> = objects.iter().map(|object| said(object).to_string()).collect();
        all.sort_unstable();
        assert_eq!(
            all,
            [
                r#"["IPv4",53,[["192.0.2.3",true]]]"#,
                r#"["IPv4",80,[["192.0.2.1",true],["192.0.2.2",false]]]"#,
                r#"["IPv6",80,[["2001:db8::1",true]]]"#,
            ]
        );
        let metadata = &objects[0]["metadata"];
        assert_eq!(
            metadata["labels"],
            json!({
                "team": "a", "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
            })
        );
        assert_eq!(metadata["annotations"], json!({"a": "b"}));
        assert_eq!(metadata["ownerReferences"][0]["kind"], "Endpoints");
        assert_eq!(reconcile(&mut cluster), vec![], "a second look finds nothing to do");
    }

    #[test]
    fn what_is_not_for_us_to_mirror_has_no_slices() {
        let skipped = |with: Value| {
            let mut endpoints = endpoints(json!([{"addresses": [{"ip": "192.0.2.1"}]}]));
            crate::fixture::merge(&mut endpoints["metadata"], with);
            endpoints
        };
        let some = || skipped(json!({}));
        let selecting = || service("web", json!({}));
        let rows = [
            (vec![by_hand(), some()], 1),
            (vec![some()], 0),
            (vec![selecting(), some()], 0),
            (vec![by_hand()], 0),
            (
                vec![
                    by_hand(),
                    skipped(json!({"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}})),
                ],
                0,
            ),
            (
                vec![
                    by_hand(),
                    skipped(
                        json!({"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}),
                    ),
                ],
                0,
            ),
        ];
        for (objects, expected) in rows {
            let mut cluster = Cluster::default();
            apply(&mut cluster, objects.clone());
            assert_eq!(reconcile(&mut cluster).len(), expected, "{objects:?}");
            cluster.remove(Kind::ENDPOINTS, &ObjectKey::new("default", "web"), Duration::ZERO);
            assert_eq!(reconcile(&mut cluster).len(), expected, "they go with the Endpoints");
        }
    }
}
