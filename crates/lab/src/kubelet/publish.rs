//! Telling the API of a pod. What could not be told is told later, and only the newest.

use client::{Client, Error, Kind};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;

const RETRY: Duration = Duration::from_millis(200);

/// A place to put a pod's status; dropping it ends the telling.
pub(super) fn start(client: &Client, namespace: &str, name: &str) -> watch::Sender<Value> {
    let (sender, mut newest) = watch::channel(Value::Null);
    let (client, namespace, name) = (client.clone(), namespace.to_owned(), name.to_owned());
    tokio::spawn(async move {
        while newest.changed().await.is_ok() {
            let status = newest.borrow_and_update().clone();
            let patch = json!({"status": status});
            let sent =
                client::patch_status(&client, Kind::POD, Some(&namespace), &name, &patch).await;
            match sent {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(pod = %format_args!("{namespace}/{name}"), %error, "status not told");
                    tokio::time::sleep(RETRY).await;
                    newest.mark_changed();
                }
            }
        }
    });
    sender
}

/// Says that nothing of the pod is left here, until that is heard.
pub(super) async fn delete(client: &Client, namespace: &str, name: &str) {
    while let Err(error) = client::delete(client, Kind::POD, Some(namespace), name, Some(0)).await {
        tracing::warn!(pod = %format_args!("{namespace}/{name}"), %error, "end not told");
        tokio::time::sleep(RETRY).await;
    }
}
