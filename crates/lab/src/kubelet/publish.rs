//! Telling the API of a pod. What could not be told is told later, and only the newest.

use client::{Client, Error, Kind};
use model::Meta;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

const RETRY: Duration = Duration::from_millis(200);

/// Where a pod's status is put; dropping it ends the telling.
pub(super) struct Publisher {
    newest: watch::Sender<Value>,
    teller: JoinSet<()>,
}

impl Publisher {
    pub(super) fn start(client: &Client, meta: &Meta) -> Publisher {
        let (sender, newest) = watch::channel(Value::Null);
        let mut teller = JoinSet::new();
        teller.spawn(tell(client.clone(), meta.clone(), newest));
        Publisher { newest: sender, teller }
    }

    pub(super) fn put(&self, status: Value) {
        self.newest.send_if_modified(|last| {
            let is_new = *last != status;
            *last = status;
            is_new
        });
    }

    /// What is put next is told, whether or not it was told before.
    pub(super) fn forget(&self) {
        self.newest.send_if_modified(|last| {
            *last = Value::Null;
            false
        });
    }

    /// Returns when the last status has been told.
    pub(super) async fn finish(mut self) {
        drop(self.newest);
        while self.teller.join_next().await.is_some() {}
    }
}

async fn tell(client: Client, meta: Meta, mut newest: watch::Receiver<Value>) {
    while newest.changed().await.is_ok() {
        let status = newest.borrow_and_update().clone();
        // Another pod with the same name may be there by now, which must not have the status of this one.
        let patch = json!({"metadata": {"uid": meta.uid}, "status": status});
        let (namespace, name) = (&*meta.key.namespace, &*meta.key.name);
        let sent = client::merge_status(&client, Kind::POD, Some(namespace), name, &patch).await;
        match sent {
            Ok(_) | Err(Error::NotFound { .. } | Error::Conflict { .. }) => {}
            Err(error) if is_of_another(&error) => {}
            Err(error) => {
                tracing::warn!(pod = %meta.key, %error, "status not told");
                tokio::time::sleep(RETRY).await;
                newest.mark_changed();
            }
        }
    }
}

/// The API's word that the uid differs.
fn is_of_another(error: &Error) -> bool {
    let Error::Rejected { status, .. } = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.field == "metadata.uid")
}

/// Says that nothing of the pod is left here, until that is heard.
pub(super) async fn delete(client: &Client, meta: &Meta) {
    let (namespace, name) = (&*meta.key.namespace, &*meta.key.name);
    loop {
        let deleted = client::delete_this(client, Kind::POD, Some(namespace), name, &meta.uid);
        match deleted.await {
            Ok(_) | Err(Error::Conflict { .. }) => return,
            Err(error) => tracing::warn!(pod = %meta.key, %error, "end not told"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apiserver::{ApiServer, Config};
    use model::Object;

    async fn api() -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::new(&Config::new(address)).unwrap();
        tokio::spawn(server.serve(listener, std::future::pending()));
        client::connect(None, Some(&format!("http://{address}"))).await.unwrap()
    }

    async fn create(client: &Client) -> Meta {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        let created = client::create(client, &pod).await.unwrap();
        let Ok(Object::Pod(pod)) = Object::parse(&created) else { panic!("{created}") };
        pod.meta
    }

    async fn phase(client: &Client) -> Option<String> {
        let pod = client::get(client, Kind::POD, Some("default"), "p").await.unwrap()?;
        Some(pod["status"]["phase"].as_str().unwrap().to_owned())
    }

    async fn tell(client: &Client, meta: &Meta, phase: &str) {
        let publisher = Publisher::start(client, meta);
        publisher.put(json!({"phase": phase}));
        tokio::time::timeout(Duration::from_secs(20), publisher.finish()).await.unwrap();
    }

    #[tokio::test]
    async fn a_pod_has_nothing_of_an_earlier_one_with_its_name() {
        let client = api().await;
        let first = create(&client).await;
        tell(&client, &first, "Running").await;
        assert_eq!(phase(&client).await.as_deref(), Some("Running"));
        delete(&client, &first).await;
        let second = create(&client).await;
        tell(&client, &first, "Failed").await;
        delete(&client, &first).await;
        assert_eq!(phase(&client).await.as_deref(), Some("Pending"));
        tell(&client, &second, "Running").await;
        assert_eq!(phase(&client).await.as_deref(), Some("Running"));
        delete(&client, &second).await;
        assert_eq!(phase(&client).await, None);
    }
}
