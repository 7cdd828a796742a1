use crate::cluster::{Cluster, deployment, service};
use crate::view::View;
use client::Kind;
use serde_json::{Value, json};

#[tokio::test]
async fn a_deployment_comes_up_scales_rolls_and_goes() {
    let mut cluster = Cluster::start().await;
    rollout(&mut cluster).await;
    let mut view = cluster.view();
    cluster.delete(Kind::DEPLOYMENT, "web").await;
    view.until("no pods", |view| {
        view.all(Kind::POD).count() == 0 && view.all(Kind::REPLICA_SET).count() == 0
    })
    .await;
    view.until("no endpoints", |view| {
        view.slices("web")
            .iter()
            .all(|slice| slice["endpoints"].as_array().is_none_or(Vec::is_empty))
    })
    .await;
    cluster.delete(Kind::SERVICE, "web").await;
    view.until("no slices", |view| view.slices("web").is_empty()).await;
}

/// Up, scaled, rolled to another template, back again, and down to one pod.
pub(crate) async fn rollout(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    cluster.create(service()).await;
    view.until("an empty slice", |view| view.slices("web").len() == 1).await;
    cluster.create(deployment(3)).await;
    view.until("three ready", |view| view.ready_endpoints("web").len() == 3).await;
    assert_eq!(view.spread(), [("a", 1), ("b", 1), ("c", 1)].into());
    assert_eq!(view.slices("web").len(), 1);
    assert_eq!(view.slices("web")[0]["ports"][0]["port"], 9376);

    cluster.patch(Kind::DEPLOYMENT, "web", json!({"spec": {"replicas": 6}})).await;
    view.until("six ready", |view| view.ready_endpoints("web").len() == 6).await;
    assert_eq!(view.spread(), [("a", 2), ("b", 2), ("c", 2)].into());

    let new = json!({"spec": {"template": {"spec": {"containers":
        [{"name": "echo", "image": "two", "ports": [{"name": "http", "containerPort": 8080}]}]}}}});
    cluster.patch(Kind::DEPLOYMENT, "web", new).await;
    let is_over = |view: &View| {
        is_complete(view, 6)
            && view.images() == ["two"].into()
            && view.ready_endpoints("web").len() == 6
    };
    // A quarter of six, rounded down, may be missing.
    let enough = |view: &View| view.ready_endpoints("web").len() >= 5;
    view.through("all new", is_over, enough).await;
    view.until("one set of ports", |view| view.slices("web").len() == 1).await;
    assert_eq!(view.slices("web")[0]["ports"][0]["port"], 8080);

    assert_eq!(outcome(&view), ("2".to_owned(), "NewReplicaSetAvailable".to_owned()));
    let generation = &view.one(Kind::DEPLOYMENT, "web")["metadata"]["generation"];
    assert_eq!(*generation, 3, "made and changed twice; what its controller says does not count");

    let old = deployment(6)["spec"]["template"].clone();
    cluster.patch(Kind::DEPLOYMENT, "web", json!({"spec": {"template": old}})).await;
    let is_back = |view: &View| {
        view.images() == ["one"].into() && outcome(view).0 == "3" && is_complete(view, 6)
    };
    view.through("all old", is_back, enough).await;
    assert_eq!(view.all(Kind::REPLICA_SET).count(), 2);
    cluster.patch(Kind::DEPLOYMENT, "web", json!({"spec": {"revisionHistoryLimit": 0}})).await;
    view.until("no way back", |view| view.all(Kind::REPLICA_SET).count() == 1).await;

    cluster.patch(Kind::DEPLOYMENT, "web", json!({"spec": {"replicas": 1}})).await;
    view.until("one left", |view| view.all(Kind::POD).count() == 1 && is_complete(view, 1)).await;
}

fn is_complete(view: &View, replicas: u32) -> bool {
    let deployment = view.one(Kind::DEPLOYMENT, "web");
    let status = &deployment["status"];
    let counts = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
    counts.iter().all(|count| status[count] == replicas)
        && status["observedGeneration"] == deployment["metadata"]["generation"]
        && outcome(view).1 == "NewReplicaSetAvailable"
}

/// The revision of the Deployment, and why it says that it progresses.
fn outcome(view: &View) -> (String, String) {
    let deployment = view.one(Kind::DEPLOYMENT, "web");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = deployment["status"]["conditions"].as_array().into_iter().flatten();
    let progressing = conditions.into_iter().find(|it| it["type"] == "Progressing");
    let revision = &deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
    (text(revision), progressing.map(|it| text(&it["reason"])).unwrap_or_default())
}

#[tokio::test]
async fn a_deleted_pod_leaves_the_slices_and_is_replaced() {
    let cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    cluster.create(service()).await;
    cluster.create(deployment(2)).await;
    view.until("two ready", |view| view.ready_endpoints("web").len() == 2).await;
    let victim = view.ready_endpoints("web").pop_first().unwrap();
    cluster.delete(Kind::POD, &victim).await;
    view.until("a replacement", |view| {
        let ready = view.ready_endpoints("web");
        ready.len() == 2 && !ready.contains(&victim)
    })
    .await;
}

#[tokio::test]
async fn a_pod_waits_for_its_node_and_says_why() {
    let mut cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "picky"},
        "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "i"}]},
    });
    cluster.create(pod).await;
    let scheduled = |view: &View| {
        let picky = view.all(Kind::POD).find(|pod| pod["metadata"]["name"] == "picky")?;
        let conditions = picky["status"]["conditions"].as_array()?;
        conditions.iter().find(|found| found["type"] == "PodScheduled").cloned()
    };
    // Said again with each node that becomes known.
    let why = "3 node(s) not matching the pod's node selector";
    view.until("refused", |view| {
        scheduled(view).is_some_and(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["reason"] == "Unschedulable" && message.contains(why)
        })
    })
    .await;
    cluster.add_node("d", json!({"disk": "ssd"})).await;
    view.until("on d", |view| view.one(Kind::POD, "picky")["spec"]["nodeName"] == "d").await;
}

#[tokio::test]
async fn controllers_that_start_again_find_nothing_to_do() {
    let mut cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    cluster.create(service()).await;
    cluster.create(deployment(5)).await;
    view.until("settled", |view| {
        view.ready_endpoints("web").len() == 5
            && view.one(Kind::DEPLOYMENT, "web")["status"]["availableReplicas"] == 5
            && view.all(Kind::REPLICA_SET).all(|set| set["status"]["availableReplicas"] == 5)
    })
    .await;
    cluster.restart_controllers();
    let versions = |view: &View| {
        let kinds = [Kind::POD, Kind::REPLICA_SET, Kind::DEPLOYMENT];
        let objects = kinds.into_iter().flat_map(|kind| view.all(kind));
        let objects = objects.chain(view.slices("web"));
        objects.map(|object| object["metadata"]["resourceVersion"].clone()).collect::<Vec<Value>>()
    };
    let before = versions(&view);
    // Its slice comes only after everything else has been looked at.
    let mut last = service();
    last["metadata"]["name"] = "zzz".into();
    last["spec"]["selector"] = json!({"app": "none"});
    cluster.create(last).await;
    view.until("the last slice", |view| view.slices("zzz").len() == 1).await;
    assert_eq!(versions(&view), before);
}

#[tokio::test]
async fn an_api_that_comes_back_with_another_state_is_believed() {
    let mut cluster = Cluster::impatient().await;
    cluster.add_node("a", json!({})).await;
    cluster.create(service()).await;
    cluster.create(deployment(2)).await;
    cluster.view().until("two ready", |view| view.ready_endpoints("web").len() == 2).await;
    cluster.cut_power("a");
    cluster.restart_api_empty().await;
    cluster.add_node("b", json!({})).await;
    cluster.create(service()).await;
    cluster.create(deployment(1)).await;
    let mut view = cluster.view();
    // Kinds are listed anew one after the other: until all are, decisions may still be made on the old state.
    view.until("one ready, and no other", |view| {
        view.ready_endpoints("web").len() == 1 && view.spread() == [("b", 1)].into()
    })
    .await;
}

/// As many as fit into no single slice, in one go.
#[tokio::test]
async fn a_big_workload_fills_slices() {
    let cluster = Cluster::with_nodes().await;
    let mut view = cluster.view();
    cluster.create(service()).await;
    cluster.create(deployment(230)).await;
    view.until("all ready", |view| view.ready_endpoints("web").len() == 230).await;
    let sizes = view.slices("web").into_iter().filter_map(|slice| slice["endpoints"].as_array());
    let sizes: Vec<_> = sizes.map(Vec::len).collect();
    // Those that become ready together go into one slice, and are not torn apart to fill others to the brim.
    assert!(sizes.iter().all(|size| *size <= 100) && (3..=4).contains(&sizes.len()), "{sizes:?}");
}

#[tokio::test]
async fn pods_of_a_stateful_set_have_claims_that_stay() {
    claims(&mut Cluster::start().await).await;
}

pub(crate) async fn claims(cluster: &mut Cluster) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    let claim = json!({"metadata": {"name": "data", "labels": {"x": "y"}}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let containers = json!([{"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]);
    cluster
        .create(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": containers}},
                "volumeClaimTemplates": [claim]},
        }))
        .await;
    view.until("both pods", |view| view.all(Kind::POD).count() == 2).await;
    let volume = |view: &View| view.one(Kind::POD, "db-1")["spec"]["volumes"][0].clone();
    assert_eq!(volume(&view)["persistentVolumeClaim"], json!({"claimName": "data-db-1"}));
    let kind = Kind::PERSISTENT_VOLUME_CLAIM;
    let found =
        client::get(&cluster.client, kind, Some("default"), "data-db-1").await.unwrap().unwrap();
    assert_eq!(found["metadata"]["labels"], json!({"app": "db", "x": "y"}));
    assert_eq!(found["spec"]["resources"]["requests"]["storage"], "1Gi");
    let first = view.one(Kind::POD, "db-1")["metadata"]["uid"].clone();
    cluster.delete(Kind::POD, "db-1").await;
    view.until("another of the name", |view| {
        view.all(Kind::POD)
            .any(|pod| pod["metadata"]["name"] == "db-1" && pod["metadata"]["uid"] != first)
    })
    .await;
    let again =
        client::get(&cluster.client, kind, Some("default"), "data-db-1").await.unwrap().unwrap();
    assert_eq!(
        again["metadata"]["uid"], found["metadata"]["uid"],
        "it has the claim of the one before"
    );
}

#[tokio::test]
async fn claims_go_with_pods_or_with_their_set_where_it_says_so() {
    retention(&mut Cluster::start().await, true).await;
}

/// `collected`: somebody deletes what is owned by nobody who exists.
pub(crate) async fn retention(cluster: &mut Cluster, collected: bool) {
    cluster.add_nodes().await;
    let mut view = cluster.view();
    let mut claims = View::of(&cluster.client, &[Kind::PERSISTENT_VOLUME_CLAIM]);
    let claim = json!({"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let containers = json!([{"name": "c", "image": "i"}]);
    cluster
        .create(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": containers}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
                "volumeClaimTemplates": [claim]},
        }))
        .await;
    view.until("both pods", |view| view.all(Kind::POD).count() == 2).await;
    let pod = view.one(Kind::POD, "db-1")["metadata"]["uid"].clone();
    let owner = |view: &View, name: &str| {
        let claim =
            view.all(Kind::PERSISTENT_VOLUME_CLAIM).find(|it| it["metadata"]["name"] == name)?;
        Some(claim["metadata"]["ownerReferences"][0]["uid"].clone())
    };
    let set = view.one(Kind::STATEFUL_SET, "db")["metadata"]["uid"].clone();
    claims.until("of the set", |it| owner(it, "data-db-1").as_ref() == Some(&set)).await;
    for (policy, expected) in [("Retain", Value::Null), ("Delete", set.clone())] {
        let spec = json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": policy}});
        cluster.patch(Kind::STATEFUL_SET, "db", json!({"spec": spec})).await;
        claims.until(policy, |it| owner(it, "data-db-1").as_ref() == Some(&expected)).await;
    }
    cluster.patch(Kind::STATEFUL_SET, "db", json!({"spec": {"replicas": 1}})).await;
    if !collected {
        claims.until("the pod's", |it| owner(it, "data-db-1").as_ref() == Some(&pod)).await;
        return;
    }
    claims.until("gone with the pod", |it| owner(it, "data-db-1").is_none()).await;
    assert_eq!(owner(&claims, "data-db-0"), Some(set));
    cluster.delete(Kind::STATEFUL_SET, "db").await;
    claims.until("gone with the set", |it| owner(it, "data-db-0").is_none()).await;
}
