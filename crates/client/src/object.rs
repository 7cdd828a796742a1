//! Single objects, as whole JSON values.

use crate::{Error, Kind, Result, Watch};
use kube::Client;
use kube::core::Request;
use kube::core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy,
};
use serde_json::{Value, json};

/// Marks our writes in `metadata.managedFields`.
const MANAGER: &str = "podway";

/// The object, or `None` if there is none (or the API lacks the kind).
pub async fn get(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<Value>> {
    let request = Request::new(kind.path(namespace)).get(name, &GetParams::default());
    match send(client, request, "get", kind, name).await {
        Ok(object) => Ok(Some(object)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All objects that the watch would follow, each with `apiVersion` and `kind`, in one request.
pub async fn list(client: &Client, watch: &Watch) -> Result<Vec<Value>> {
    let params = ListParams {
        label_selector: watch.labels.clone(),
        field_selector: watch.fields.clone(),
        ..ListParams::default()
    };
    let request = Request::new(watch.kind.path(watch.namespace.as_deref())).list(&params);
    let mut list = send(client, request, "list", watch.kind, "").await?;
    let items = match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    Ok(items.into_iter().map(|item| named(watch.kind, item)).collect())
}

/// Creates the object of a manifest; one that names no namespace goes to `default`.
pub async fn create(client: &Client, manifest: &Value) -> Result<Value> {
    create_of(client, Place::of(manifest)?.kind, manifest).await
}

/// As [`create`], for a kind that this crate does not know by itself.
pub async fn create_of(client: &Client, kind: Kind, manifest: &Value) -> Result<Value> {
    let place = Place::of_kind(kind, manifest)?;
    let request = Request::new(place.path()).create(&PostParams::default(), bytes(manifest));
    send(client, request, "create", kind, &place.name).await
}

/// Replaces the object (all but its status). A manifest with `metadata.resourceVersion` only wins if that is still
/// the current one, else [`Error::Conflict`].
pub async fn replace(client: &Client, manifest: &Value) -> Result<Value> {
    let place = Place::of(manifest)?;
    let request =
        Request::new(place.path()).replace(&place.name, &PostParams::default(), bytes(manifest));
    send(client, request, "replace", place.kind, &place.name).await
}

/// Applies a JSON merge patch (RFC 7386) to the object.
pub async fn patch_merge(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
    patch: &Value,
) -> Result<Value> {
    let request = Request::new(kind.path(namespace)).patch(name, &params(), &Patch::Merge(patch));
    send(client, request, "patch", kind, name).await
}

/// Applies a JSON merge patch to the object's status subresource; the patch is a whole object: `{"status": …}`.
pub async fn patch_status(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
    patch: &Value,
) -> Result<Value> {
    send_status(client, kind, namespace, name, &Patch::Merge(patch)).await
}

/// As [`patch_status`], by a strategic merge patch: conditions of others stay as they are. With `metadata.uid` in it, it
/// holds for the object with that uid only.
pub async fn merge_status(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
    patch: &Value,
) -> Result<Value> {
    send_status(client, kind, namespace, name, &Patch::Strategic(patch)).await
}

/// Removes the object with this uid at once; false if there was none of the name, and [`Error::Conflict`] if it is
/// another by now.
pub async fn delete_this(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
    uid: &str,
) -> Result<bool> {
    let this = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
    remove(client, kind, namespace, name, &params.preconditions(this)).await
}

/// Asks for the end of the object and, behind it, of what it owns; false if there was none. `grace` in seconds; 0 removes a pod at once.
pub async fn delete(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
    grace: Option<u32>,
) -> Result<bool> {
    // Of Jobs the API would leave the pods behind unless told otherwise.
    let propagation_policy = Some(PropagationPolicy::Background);
    let params =
        DeleteParams { grace_period_seconds: grace, propagation_policy, ..DeleteParams::default() };
    remove(client, kind, namespace, name, &params).await
}

/// Gives a pod its node (`pods/binding`); [`Error::Conflict`] if it has one.
pub async fn bind(client: &Client, namespace: &str, pod: &str, node: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod, "namespace": namespace},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let request = Request::new(Kind::POD.path(Some(namespace))).create_subresource(
        "binding",
        pod,
        &PostParams::default(),
        bytes(&binding),
    );
    send(client, request, "bind", Kind::POD, pod).await.map(drop)
}

/// Asks for a token of a service account (`serviceaccounts/token`); `asked` is a `TokenRequest`, and so is the answer.
pub async fn request_token(
    client: &Client,
    namespace: &str,
    account: &str,
    asked: &Value,
) -> Result<Value> {
    let path = Kind::SERVICE_ACCOUNT.path(Some(namespace));
    let params = PostParams::default();
    let request = Request::new(path).create_subresource("token", account, &params, bytes(asked));
    send(client, request, "request a token of", Kind::SERVICE_ACCOUNT, account).await
}

async fn send_status(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
    patch: &Patch<&Value>,
) -> Result<Value> {
    let path = Request::new(kind.path(namespace));
    let request = path.patch_subresource("status", name, &params(), patch);
    send(client, request, "patch the status of", kind, name).await
}

async fn remove(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
    params: &DeleteParams,
) -> Result<bool> {
    let request = Request::new(kind.path(namespace)).delete(name, params);
    match send(client, request, "delete", kind, name).await {
        Ok(_) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Fills in the type, which items of lists lack.
pub(crate) fn named(kind: Kind, mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), kind.api_version().into());
        fields.insert("kind".into(), kind.kind.into());
    }
    object
}

async fn send(
    client: &Client,
    request: std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    verb: &'static str,
    kind: Kind,
    name: &str,
) -> Result<Value> {
    let failed = |source| Error::of_request(verb, kind, name, source);
    let request = request.map_err(|source| failed(kube::Error::BuildRequest(source)))?;
    client.request(request).await.map_err(failed)
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

fn bytes(manifest: &Value) -> Vec<u8> {
    manifest.to_string().into_bytes()
}

struct Place {
    kind: Kind,
    namespace: Option<String>,
    name: String,
}

impl Place {
    fn of(manifest: &Value) -> Result<Self> {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
        let kind =
            Kind::of(text("/apiVersion").unwrap_or_default(), text("/kind").unwrap_or_default())
                .ok_or(Error::Manifest { field: "kind" })?;
        Self::of_kind(kind, manifest)
    }

    fn of_kind(kind: Kind, manifest: &Value) -> Result<Self> {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
        let name = text("/metadata/name").or(text("/metadata/generateName"));
        let name = name.ok_or(Error::Manifest { field: "metadata.name" })?.to_owned();
        let namespace = text("/metadata/namespace").unwrap_or("default").to_owned();
        Ok(Self { kind, namespace: kind.namespaced.then_some(namespace), name })
    }

    fn path(&self) -> String {
        self.kind.path(self.namespace.as_deref())
    }
}
