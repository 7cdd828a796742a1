//! A pod's network namespace, shared by its containers: what the pause container holds elsewhere.

use super::Error;
use super::container::kill_all_in;
use super::plugins::{Attachment, NetworkList, addresses};
use super::record::Sandbox;
use super::spec::Spec;
use crate::layout;
use kernel::namespace::{make_net, unpin};
use std::path::Path;

/// Makes the namespace and has the plug-ins connect it. What was made before a failure is taken away again.
pub(super) async fn make(network: &NetworkList, spec: &Spec) -> Result<Sandbox, Error> {
    let uid = &spec.pod.meta.uid;
    let netns = layout::pod_netns(uid);
    if let Some(directory) = netns.parent() {
        std::fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    }
    let container = container_id(uid);
    if netns.exists() {
        // A kubelet was killed in the middle of this.
        network.del(attachment(spec, &container, &netns), None).await?;
        unpin(&netns)?;
    }
    let path = netns.clone();
    let made = tokio::task::spawn_blocking(move || make_net()?.pin(&path)).await;
    made.expect("it neither panics nor is it cancelled while the kubelet runs")?;
    let connected = async {
        let result = network.add(attachment(spec, &container, &netns)).await?;
        match addresses(&result) {
            none if none.is_empty() => Err(Error::NoAddress { plugin: "podway".to_owned() }),
            addresses => Ok((result, addresses)),
        }
    };
    match connected.await {
        Ok((result, addresses)) => Ok(Sandbox { container, netns, result, addresses }),
        Err(error) => {
            // The error that matters is the one at hand.
            unpin(&netns).ok();
            Err(error)
        }
    }
}

/// Whether it is still as the plug-ins made it.
pub(super) async fn is_intact(network: &NetworkList, spec: &Spec, sandbox: &Sandbox) -> bool {
    let attachment = attachment(spec, &sandbox.container, &sandbox.netns);
    let checked = network.check(attachment, &sandbox.result).await;
    checked
        .inspect_err(|error| tracing::warn!(pod = %spec.pod.meta.key, %error, "network is damaged"))
        .is_ok()
}

/// Takes it away, with every process in it.
pub(super) async fn remove(
    network: Option<&NetworkList>,
    spec: &Spec,
    sandbox: &Sandbox,
) -> Result<(), Error> {
    let netns = sandbox.netns.clone();
    tokio::task::spawn_blocking(move || kill_all_in(&netns)).await.ok();
    if let Some(network) = network {
        let attachment = attachment(spec, &sandbox.container, &sandbox.netns);
        network.del(attachment, Some(&sandbox.result)).await?;
    }
    Ok(unpin(&sandbox.netns)?)
}

fn attachment<'a>(spec: &'a Spec, container: &'a str, netns: &'a Path) -> Attachment<'a> {
    let meta = &spec.pod.meta;
    Attachment {
        container,
        netns,
        namespace: &meta.key.namespace,
        pod: &meta.key.name,
        uid: &meta.uid,
    }
}

/// The uid without hyphens: hexadecimal, so that the pod's device on the node begins like its uid.
fn container_id(uid: &str) -> String {
    uid.replace('-', "")
}
