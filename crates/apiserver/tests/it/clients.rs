use crate::ask::ask;
use crate::cluster::{Cluster, in_time, object};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

fn pod(name: &str) -> DynamicObject {
    object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "echo", "ports": [{"containerPort": 9376}]}]},
    }))
}

fn service(name: &str, spec: Value) -> DynamicObject {
    object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}))
}

fn status_of(error: kube::Error) -> (u16, String, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn objects_come_go_and_change() {
    let cluster = Cluster::start(|_| {}).await;
    let pods = cluster.api("v1", "Pod");
    let (post, patch) = (PostParams::default(), PatchParams::default());
    let created = pods.create(&post, &pod("web")).await.unwrap();
    assert_eq!(created.data["status"]["phase"], "Pending");
    assert_eq!(created.data["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    assert_eq!(status_of(pods.create(&post, &pod("web")).await.unwrap_err()).1, "AlreadyExists");

    let change =
        json!({"status": {"phase": "Running", "podIP": "10.244.0.2"}, "spec": {"nodeName": "no"}});
    let running = pods.patch_status("web", &patch, &Patch::Merge(&change)).await.unwrap();
    assert_eq!(running.data["status"]["phase"], "Running");
    assert_eq!(running.data["spec"]["nodeName"], Value::Null);
    let labelled = json!({"metadata": {"labels": {"a": "b"}}, "status": null});
    let labelled = pods.patch("web", &patch, &Patch::Merge(labelled)).await;
    assert_eq!(labelled.unwrap().data["status"]["podIP"], "10.244.0.2");
    let moved = Patch::Merge(json!({"spec": {"nodeName": "n1"}}));
    let (code, _, message) = status_of(pods.patch("web", &patch, &moved).await.unwrap_err());
    let begins =
        "Pod \"web\" is invalid: spec: Forbidden: pod updates may not change fields other than";
    assert!(code == 422 && message.starts_with(begins), "{message}");
    let target = json!({"metadata": {"name": "web"}, "target": {"name": "n1"}}).to_string();
    let path = "/api/v1/namespaces/default/pods/web/binding";
    assert_eq!(ask(&cluster, "POST", path, "application/json", &target).await.0, 201);

    let stale = pods.replace("web", &post, &created).await.unwrap_err();
    let (code, reason, message) = status_of(stale);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("the object has been modified"), "{message}");

    let grace = pods
        .delete("web", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .expect("a graceful deletion");
    assert_eq!(grace.metadata.deletion_grace_period_seconds, Some(30));
    pods.delete("web", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() })
        .await
        .unwrap();
    assert!(pods.get_opt("web").await.unwrap().is_none());
}

#[tokio::test]
async fn typed_clients_understand_the_server() {
    let cluster = Cluster::start(|_| {}).await;
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), "default");
    let own = services.get("kubernetes").await.unwrap();
    assert_eq!(own.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = json!({"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.1.1.110"}]}});
    let node: Node = serde_json::from_value(node).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let listed = nodes.list(&ListParams::default()).await.unwrap();
    assert_eq!(
        listed.items[0].status.as_ref().unwrap().addresses.as_ref().unwrap()[0].address,
        "10.1.1.110"
    );
    let version = cluster.client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
}

#[tokio::test]
async fn discovery_finds_every_kind() {
    let cluster = Cluster::start(|_| {}).await;
    let groups = cluster.client.list_api_groups().await.unwrap();
    let names: Vec<_> = groups.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names[..3], ["apps", "batch", "autoscaling"]);
    let aggregated = cluster.client.list_api_groups_aggregated().await.unwrap();
    assert_eq!(aggregated.items.len(), names.len());
    let core = cluster.client.list_core_api_versions_aggregated().await.unwrap();
    assert!(core.items[0].versions[0].resources.len() >= 9);
    let discovery = kube::discovery::Discovery::new(cluster.client.clone()).run().await.unwrap();
    let gvk = kube::core::GroupVersionKind::gvk("podway.io", "v1alpha1", "VirtualIP");
    let (resource, capabilities) = discovery.resolve_gvk(&gvk).expect("a kind of ours");
    assert_eq!(resource.plural, "virtualips");
    assert!(capabilities.supports_operation(kube::discovery::verbs::WATCH));
}

#[tokio::test]
async fn replicas_are_scaled_through_the_subresource() {
    let cluster = Cluster::start(|_| {}).await;
    let sets = cluster.api("apps/v1", "StatefulSet");
    let template = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let set = json!({"metadata": {"name": "db"},
        "spec": {"replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template}});
    sets.create(&PostParams::default(), &object(set)).await.unwrap();
    let scale = sets.get_scale("db").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(1));
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("app=db"));
    let patch = json!({"spec": {"replicas": 3}});
    let scaled =
        sets.patch_scale("db", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    let set = sets.get("db").await.unwrap();
    assert_eq!(set.data["spec"]["replicas"], 3);
    assert_eq!(set.metadata.generation, Some(2));
    let patch = json!({"spec": {"replicas": -1}});
    let refused = sets.patch_scale("db", &PatchParams::default(), &Patch::Merge(patch)).await;
    assert_eq!(status_of(refused.unwrap_err()).0, 422);
}

#[tokio::test]
async fn lists_come_in_pieces_and_by_selector() {
    let cluster = Cluster::start(|_| {}).await;
    let pods = cluster.api("v1", "Pod");
    for index in 0..7 {
        let mut pod = pod(&format!("p{index}"));
        pod.labels_mut().insert("odd".into(), (index % 2).to_string());
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    let mut params = ListParams::default().limit(3);
    let (mut names, mut versions) = (Vec::new(), Vec::new());
    loop {
        let page = pods.list(&params).await.unwrap();
        versions.push(page.metadata.resource_version.clone());
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_ {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]);
    assert_eq!(versions.len(), 3);
    versions.dedup();
    assert_eq!(versions.len(), 1, "all pieces are of one moment");
    for (params, count) in [
        (ListParams::default().labels("odd=1,app in (web)"), 3),
        (ListParams::default().fields("metadata.name=p4"), 1),
        (ListParams::default().fields("status.phase!=Pending"), 0),
    ] {
        assert_eq!(pods.list(&params).await.unwrap().items.len(), count, "{params:?}");
    }
    let metadata = pods.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(metadata.items.len(), 7);
    let refused = pods.list(&ListParams::default().labels("a b")).await.unwrap_err();
    assert_eq!(status_of(refused).0, 400);
}

/// The two ways to follow a kind give the same.
#[tokio::test]
async fn watchers_follow_lists_and_streams() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let cluster = Cluster::start(|_| {}).await;
        let pods = cluster.api("v1", "Pod");
        pods.create(&PostParams::default(), &pod("first")).await.unwrap();
        let mut events = watcher(cluster.all("v1", "Pod"), config.clone()).boxed();
        let mut seen = Vec::new();
        loop {
            match in_time(events.try_next()).await.unwrap().unwrap() {
                Event::Init => seen.push("init".to_owned()),
                Event::InitApply(pod) => seen.push(format!("init {}", pod.name_any())),
                Event::InitDone => {
                    seen.push("done".into());
                    pods.create(&PostParams::default(), &pod("second")).await.unwrap();
                    pods.delete("first", &DeleteParams::default()).await.unwrap();
                }
                Event::Apply(pod) => seen.push(format!("apply {}", pod.name_any())),
                Event::Delete(pod) => {
                    seen.push(format!("delete {}", pod.name_any()));
                    break;
                }
            }
        }
        assert_eq!(
            seen,
            ["init", "init first", "done", "apply second", "apply first", "delete first"],
            "{config:?}"
        );
    }
}

#[tokio::test]
async fn a_watch_resumes_where_it_was_or_is_told_to_list() {
    let cluster = Cluster::start(|config| config.history.events = 4).await;
    let pods = cluster.api("v1", "Pod");
    let first = pods.create(&PostParams::default(), &pod("p0")).await.unwrap();
    let version = first.resource_version().unwrap();
    for index in 1..4 {
        pods.create(&PostParams::default(), &pod(&format!("p{index}"))).await.unwrap();
    }
    let events = pods.watch(&WatchParams::default().timeout(1), &version).await.unwrap();
    let names: Vec<String> = in_time(
        events
            .map(|event| match event.unwrap() {
                WatchEvent::Added(pod) => pod.name_any(),
                WatchEvent::Bookmark(_) => "bookmark".into(),
                other => panic!("{other:?}"),
            })
            .collect(),
    )
    .await;
    assert_eq!(names, ["p1", "p2", "p3", "bookmark"]);
    for index in 4..9 {
        pods.create(&PostParams::default(), &pod(&format!("p{index}"))).await.unwrap();
    }
    for stale in [version.as_str(), "1", "9007199254740991"] {
        let mut events = pods.watch(&WatchParams::default(), stale).await.unwrap().boxed();
        match in_time(events.next()).await.unwrap().unwrap() {
            WatchEvent::Error(status) => {
                assert_eq!((status.code, status.reason.as_str()), (410, "Expired"))
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A selecting watcher sees objects come into its selection and leave it.
#[tokio::test]
async fn selection_is_followed() {
    let cluster = Cluster::start(|_| {}).await;
    let pods = cluster.api("v1", "Pod");
    let params = WatchParams::default().labels("on=n1");
    let mut events = pods.watch(&params, "0").await.unwrap().boxed();
    pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let node = |name: &str| Patch::Merge(json!({"metadata": {"labels": {"on": name}}}));
    for name in ["n1", "n2"] {
        pods.patch("p", &PatchParams::default(), &node(name)).await.unwrap();
    }
    assert!(matches!(in_time(events.next()).await.unwrap().unwrap(), WatchEvent::Added(_)));
    match in_time(events.next()).await.unwrap().unwrap() {
        WatchEvent::Deleted(pod) => assert_eq!(pod.metadata.labels.unwrap()["on"], "n1"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn services_get_addresses_and_ports() {
    let cluster = Cluster::start(|_| {}).await;
    let services = cluster.api("v1", "Service");
    let post = PostParams::default();
    let port = json!([{"port": 80, "targetPort": 9376}]);
    let web =
        service("web", json!({"type": "NodePort", "ports": port, "selector": {"app": "web"}}));
    let web = services.create(&post, &web).await.unwrap();
    assert_eq!(web.data["spec"]["clusterIP"], "10.96.1.1");
    assert_eq!(web.data["spec"]["ports"][0]["nodePort"], 30_086);
    let wanted = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_086}]});
    let (code, _, message) =
        status_of(services.create(&post, &service("b", wanted)).await.unwrap_err());
    assert_eq!(code, 422);
    assert_eq!(
        message,
        r#"Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 30086: provided port is already allocated"#
    );
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let planned = services.create(&dry, &service("c", json!({"ports": port}))).await.unwrap();
    let real = services.create(&post, &service("d", json!({"ports": port}))).await.unwrap();
    let address = |service: &DynamicObject| service.data["spec"]["clusterIP"].clone();
    assert_eq!((address(&planned), address(&real)), (json!("10.96.0.0"), json!("10.96.1.2")));
    assert!(services.get_opt("c").await.unwrap().is_none());
    services.delete("web", &DeleteParams::default()).await.unwrap();
    let again = json!({"type": "NodePort", "clusterIP": "10.96.1.1", "ports": [{"port": 80, "nodePort": 30_086}]});
    services.create(&post, &service("b", again)).await.unwrap();
}

#[tokio::test]
async fn owners_and_namespaces_take_their_own_along() {
    let cluster = Cluster::start(|_| {}).await;
    let (post, delete) = (PostParams::default(), DeleteParams::default());
    let sets = cluster.api("apps/v1", "ReplicaSet");
    let labels = json!({"app": "web"});
    let set = object(
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
    );
    let set = sets.create(&post, &set).await.unwrap();
    let pods = cluster.api("v1", "Pod");
    let mut owned = pod("web-1");
    owned.metadata.owner_references = Some(vec![serde_json::from_value(
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": set.uid().unwrap()}),
    )
    .unwrap()]);
    pods.create(&post, &owned).await.unwrap();
    pods.create(&post, &pod("free")).await.unwrap();
    sets.delete("web", &delete).await.unwrap();
    assert!(pods.get_opt("web-1").await.unwrap().is_none());
    assert!(pods.get_opt("free").await.unwrap().is_some());

    let namespaces: Api<DynamicObject> = cluster.all("v1", "Namespace");
    namespaces.create(&post, &object(json!({"metadata": {"name": "shop"}}))).await.unwrap();
    let shop: Api<Pod> = Api::namespaced(cluster.client.clone(), "shop");
    let running = json!({"metadata": {"name": "p", "namespace": "shop"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    let running: Pod = serde_json::from_value(running).unwrap();
    shop.create(&post, &running).await.unwrap();
    let going =
        namespaces.delete("shop", &delete).await.unwrap().left().expect("a namespace that empties");
    assert_eq!(going.data["status"]["phase"], "Terminating");
    let (code, _, message) = status_of(shop.create(&post, &running).await.unwrap_err());
    assert_eq!(code, 403);
    assert!(message.contains("because it is being terminated"), "{message}");
    shop.delete("p", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() })
        .await
        .unwrap();
    assert!(namespaces.get_opt("shop").await.unwrap().is_none());
    assert_eq!(status_of(namespaces.delete("default", &delete).await.unwrap_err()).0, 403);
}

/// A client that never reads cannot make the server keep what it misses; what it gets is the beginning without a gap.
#[tokio::test]
async fn a_slow_watcher_is_sent_to_list_again() {
    let cluster = Cluster::start(|config| config.history.events = 16).await;
    let maps = cluster.api("v1", "ConfigMap");
    let mut events = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let text = "x".repeat(512 << 10);
    for index in 0..40 {
        let map =
            object(json!({"metadata": {"name": format!("m{index}")}, "data": {"text": text}}));
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let (count, end) = in_time(async {
        let mut count = 0;
        while let Some(event) = events.next().await {
            match event.unwrap() {
                WatchEvent::Added(map) => {
                    assert_eq!(map.name_any(), format!("m{count}"));
                    count += 1;
                }
                WatchEvent::Error(status) => return (count, Some(status.code)),
                other => panic!("{other:?}"),
            }
        }
        (count, None)
    })
    .await;
    // On a slow machine it has been cut off before.
    assert!(matches!(end, Some(410) | None) && count < 40, "{count} {end:?}");
}
