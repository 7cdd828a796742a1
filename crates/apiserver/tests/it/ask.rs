//! Single requests, as raw as can be.

use crate::cluster::{Cluster, in_time};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) async fn ask(
    cluster: &Cluster,
    method: &str,
    target: &str,
    media: &str,
    body: &str,
) -> (u16, Value) {
    ask_bytes(cluster, method, target, media, body.as_bytes()).await
}

pub(crate) async fn ask_bytes(
    cluster: &Cluster,
    method: &str,
    target: &str,
    media: &str,
    body: &[u8],
) -> (u16, Value) {
    let mut stream = TcpStream::connect(cluster.address).await.unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: api\r\nConnection: close\r\nContent-Type: {media}\r\n"
    );
    let request =
        [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    in_time(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (code, serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())))
}

/// What a watch that ends at once says: its events, oldest first.
pub(crate) async fn events(cluster: &Cluster, target: &str) -> Vec<Value> {
    let mut stream = TcpStream::connect(cluster.address).await.unwrap();
    // HTTP/1.0: the body is not cut into chunks.
    let request = format!("GET {target} HTTP/1.0\r\nHost: api\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    body.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}
