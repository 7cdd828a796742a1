//! Where the objects come from: the lab, a cluster, or manifests.

use super::{Explain, Misuse, Scene, kube_proxy};
use crate::daemon::block_on;
use crate::manifests;
use ::explain::{Code, Environment, Finding, imagine};
use client::{Client, Watch};
use ipnet::IpNet;
use lab::Manifest;
use lab::plan::{Plan, PlannedNode, Wishes, plan};
use model::object::ObjectError;
use model::{Kind, Object, Proxy, World};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

/// The objects of the lab that this process is in.
pub(super) fn lab(name: &str) -> anyhow::Result<Scene> {
    let status = lab::status(name)?;
    let world = block_on(async {
        world_of(&client::connect(Some(Path::new(lab::layout::KUBECONFIG)), None).await?).await
    })?;
    let mut scene = Scene::new(world, Environment::Lab);
    let settings = &mut scene.settings;
    settings.cluster_cidrs.clone_from(&status.pod_cidrs);
    settings.service_cidrs.clone_from(&status.service_cidrs);
    settings.underlay = Some(IpNet::V4(status.underlay));
    settings.client = Some(IpAddr::V4(status.client));
    settings.api_server = status.server.trim_start_matches("https://").parse().ok();
    Ok(scene)
}

/// The objects of a cluster.
pub(super) fn cluster(arguments: &Explain) -> anyhow::Result<Scene> {
    let (kubeconfig, server) = (arguments.kubeconfig.as_deref(), arguments.server.as_deref());
    let (world, kube_proxy) = block_on(async {
        let client = client::connect(kubeconfig, server).await?;
        Ok((world_of(&client).await?, kube_proxy::of_cluster(&client).await))
    })?;
    let mut scene = Scene::new(world, Environment::Cluster);
    scene.settings.kube_proxy = kube_proxy;
    scene.settings.cluster_cidrs = cluster_cidrs(arguments, &scene);
    scene.settings.service_cidrs = vec![IpNet::V4(arguments.service_cidr)];
    scene.settings.client = arguments.client_ip.map(IpAddr::V4);
    Ok(scene)
}

/// All pods' addresses: as the flag says, as the service proxies are told, or as usual.
fn cluster_cidrs(arguments: &Explain, scene: &Scene) -> Vec<IpNet> {
    if let Some(flag) = arguments.pod_cidr {
        return vec![IpNet::V4(flag)];
    }
    let announced = scene.world.nodes().filter_map(|node| node.proxy.as_ref()?.as_ref().ok());
    let mut told = announced.chain(&scene.settings.kube_proxy);
    let told = told.find(|proxy| !proxy.cluster_cidrs.is_empty());
    told.map_or_else(|| scene.settings.cluster_cidrs.clone(), |proxy| proxy.cluster_cidrs.clone())
}

/// An object that cannot be understood is left out, with a word about it.
async fn world_of(client: &Client) -> anyhow::Result<World> {
    let mut objects = Vec::new();
    for kind in Kind::ALL {
        let (api_version, name, _) = kind.names();
        let Some(kind) = client::Kind::of(api_version, name) else { continue };
        let listed = match client::list(client, &Watch::from(kind)).await {
            // A cluster without Podway has no such kind.
            Err(client::Error::NotFound { .. }) => continue,
            listed => listed?,
        };
        objects.extend(listed.iter().filter_map(understood));
    }
    Ok(World::from_objects(objects))
}

fn understood(value: &Value) -> Option<Object> {
    match Object::parse(value) {
        Ok(object) => Some(object),
        Err(ObjectError::OtherKind { .. }) => None,
        Err(ObjectError::Field(error)) => {
            let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            tracing::warn!(kind = %value["kind"], name, %error, "object not understood");
            None
        }
    }
}

/// The cluster that manifests would become.
pub(super) fn manifests(arguments: &Explain) -> anyhow::Result<Scene> {
    let documents = manifests::load(&arguments.filenames)?;
    let given: Vec<Manifest> = documents
        .into_iter()
        .map(|(document, _)| Manifest {
            source: format!("{}:{}", document.source, document.line()),
            value: document.value,
        })
        .collect();
    let kube_proxy = kube_proxy::of_manifests(&given)?;
    let wishes = Wishes {
        nodes: arguments.nodes,
        pod_cidr: arguments.pod_cidr.unwrap_or(Wishes::default().pod_cidr),
        service_cidr: arguments.service_cidr,
        families: None,
        client_ip: arguments.client_ip,
        ..Wishes::default()
    };
    let plan = plan(&given, &wishes).map_err(lab::Error::from)?;
    let objects = with_nodes(given, &plan)?;
    let imagined = imagine(objects, IpNet::V4(plan.service_cidr));
    let world = World::from_objects(imagined.iter().filter_map(understood));
    let mut scene = Scene::new(world, Environment::Lab);
    scene.settings.cluster_cidrs = plan.pod_cidrs();
    scene.settings.service_cidrs = plan.service_cidrs();
    scene.settings.underlay = Some(IpNet::V4(plan.underlay));
    scene.settings.client = Some(IpAddr::V4(plan.client));
    scene.settings.kube_proxy = kube_proxy;
    let text = "nothing runs: what the manifests leave open (pods, their nodes and addresses, endpoints) is made up as a lab would, all of it ready";
    let finding = Finding { code: Code::Imagined, text: text.to_owned(), origin: None, fix: None };
    scene.findings.push(finding);
    Ok(scene)
}

/// The manifests with the plan's nodes in the place of theirs.
fn with_nodes(manifests: Vec<Manifest>, plan: &Plan) -> anyhow::Result<Vec<Value>> {
    let is_node = |value: &Value| value["kind"] == "Node";
    let (declared, mut objects): (Vec<Value>, Vec<Value>) =
        manifests.into_iter().map(|manifest| manifest.value).partition(is_node);
    for node in &plan.nodes {
        objects.push(planned(plan, node, &declared)?);
    }
    Ok(objects)
}

fn planned(plan: &Plan, node: &PlannedNode, declared: &[Value]) -> anyhow::Result<Value> {
    let own = declared.iter().find(|value| value["metadata"]["name"] == node.name.as_str());
    let mut value = own.cloned().unwrap_or_else(
        || json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name}}),
    );
    let cidrs: Vec<_> = node.pod_cidrs(plan.families).iter().map(ToString::to_string).collect();
    value["spec"]["podCIDR"] = json!(cidrs.first());
    value["spec"]["podCIDRs"] = json!(cidrs);
    if value["status"]["addresses"].is_null() {
        let addresses = node.addresses(plan.families).into_iter();
        let entry = |address: IpAddr| json!({"type": "InternalIP", "address": address.to_string()});
        value["status"]["addresses"] = addresses.map(entry).collect();
    }
    if !node.agent_arguments.is_empty() {
        let (arguments, cidrs) = (&node.agent_arguments, plan.pod_cidrs());
        let proxy = crate::agent::proxy(&node.name, arguments, &cidrs)
            .map_err(|error| Misuse::AgentArguments { node: node.name.clone(), error })?;
        value["metadata"]["annotations"][Proxy::ANNOTATION] = proxy.annotation().into();
    }
    Ok(value)
}
