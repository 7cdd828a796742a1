//! `pods/portforward`: connections to a pod's ports.
//!
//! Two protocols: `SPDY/3.1+portforward.k8s.io`, SPDY within a WebSocket (kubectl since 1.31; the same without the
//! WebSocket before), a pair of streams for each connection; and `v4.channel.k8s.io`, WebSocket channels in pairs, for
//! the ports that the request names.

use super::containers::{ask, place_of};
use super::reply::Response;
use super::route::Place;
use super::spdy::{self, Output, Stream};
use super::upgrade::{self, Handshake, Socket};
use crate::containers::{Container, ContainerRequest};
use crate::error::Error;
use crate::server::ApiServer;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::Request;
use hyper::body::Incoming;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

const STREAMS: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";
const MOST_PORTS: usize = 127;

pub(super) async fn answer(
    server: Arc<ApiServer>,
    place: &Place,
    mut request: Request<Incoming>,
) -> Result<Response, Error> {
    let handshake = Handshake::of(&request, &[TUNNEL, CHANNELS], &[STREAMS])?;
    let pod = server.read(|registry| registry.get(place.resource.kind, &place.key()))?;
    let pod = place_of(&pod.value)?;
    let query = request.uri().query().unwrap_or_default();
    let ports = (handshake.protocol() == CHANNELS).then(|| ports(query)).transpose()?;
    let (upgrade, kind) = (hyper::upgrade::on(&mut request), handshake.clone());
    tokio::spawn(async move {
        match (kind, ports) {
            (Handshake::Spdy { .. }, _) => {
                let Some(connection) = upgrade::upgraded(upgrade).await else { return };
                streams(server, pod, spdy::serve(connection)).await;
            }
            (_, Some(ports)) => {
                let Some(socket) = upgrade::socket(upgrade).await else { return };
                channels(&server, &pod, &ports, socket).await;
            }
            (_, None) => {
                let Some(socket) = upgrade::socket(upgrade).await else { return };
                streams(server, pod, spdy::serve(upgrade::tunnel(socket))).await;
            }
        }
    });
    Ok(handshake.accept())
}

/// `ports=80&ports=81`, or `ports=80,81`.
fn ports(query: &str) -> Result<Vec<u16>, Error> {
    let bad = |message: String| Error::BadRequest { message };
    let parameters = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "ports");
    let mut ports = Vec::new();
    for (_, value) in parameters {
        for word in value.split(',') {
            let wrong = |_| bad(format!("unable to parse {word:?} as a port"));
            ports.push(word.trim().parse().map_err(wrong)?);
        }
    }
    // Two channels each, and their numbers are bytes.
    if ports.len() > MOST_PORTS {
        return Err(bad(format!("no more than {MOST_PORTS} ports at once")));
    }
    if ports.is_empty() {
        return Err(bad("query parameter \"ports\" is required".into()));
    }
    Ok(ports)
}

/// A connection is two streams of one `requestID`: what fails is said on the first, data goes over the second.
async fn streams(server: Arc<ApiServer>, pod: Container, mut opened: mpsc::Receiver<Stream>) {
    let mut errors: BTreeMap<String, Stream> = BTreeMap::new();
    while let Some(stream) = opened.recv().await {
        let id = stream.header("requestid").unwrap_or_default().to_owned();
        match stream.header("streamtype") {
            Some("error") => drop(errors.insert(id, stream)),
            Some("data") => {
                let Some(error) = errors.remove(&id) else { return };
                tokio::spawn(connection(server.clone(), pod.clone(), stream, error.output));
            }
            _ => return,
        }
    }
}

async fn connection(server: Arc<ApiServer>, pod: Container, data: Stream, errors: Output) {
    let port = data.header("port").unwrap_or_default().to_owned();
    let connected = match port.parse() {
        Ok(port) => connect(&server, &pod, port).await,
        Err(_) => Err(Error::BadRequest { message: format!("{port:?} is no port") }),
    };
    match connected {
        Ok(socket) => carry(socket, data).await,
        Err(error) => {
            let (uid, name) = (&pod.uid, &pod.pod);
            let message = format!("error forwarding port {port} to pod {name}, uid {uid}: {error}");
            errors.send(message.into()).await;
            data.output.close().await;
        }
    }
    errors.close().await;
}

async fn connect(server: &ApiServer, pod: &Container, port: u16) -> Result<TcpStream, Error> {
    let (reply, answer) = oneshot::channel();
    ask(server, ContainerRequest::Connect { container: pod.clone(), port, reply }, answer).await
}

async fn carry(socket: TcpStream, data: Stream) {
    let Stream { input, output, .. } = data;
    let (mut from, to) = socket.into_split();
    tokio::spawn(upgrade::pour(input, to));
    while let Some(piece) = upgrade::piece(&mut from).await {
        if !output.send(piece).await {
            return;
        }
    }
    output.close().await;
}

/// For each port a channel of data and one of errors, both of which begin with the port's number.
async fn channels(server: &ApiServer, pod: &Container, ports: &[u16], socket: Socket) {
    let (mut sink, mut source) = socket.split();
    let (outputs, mut output) = mpsc::channel::<(u8, Bytes)>(16);
    let mut inputs = Vec::new();
    for (index, port) in (0_u8..).zip(ports) {
        let (data, errors) = (index * 2, index * 2 + 1);
        for channel in [data, errors] {
            let [low, high] = port.to_le_bytes();
            if sink.send(Message::Binary(vec![channel, low, high].into())).await.is_err() {
                return;
            }
        }
        match connect(server, pod, *port).await {
            Ok(socket) => {
                let (from, to) = socket.into_split();
                inputs.push(Some(to));
                tokio::spawn(tell(from, data, outputs.clone()));
            }
            Err(error) => {
                inputs.push(None);
                // The client may have gone.
                outputs.send((errors, error.to_string().into())).await.ok();
            }
        }
    }
    drop(outputs);
    loop {
        tokio::select! {
            piece = output.recv() => {
                let Some((channel, bytes)) = piece else { break };
                let message = [&[channel][..], &bytes].concat();
                if sink.send(Message::Binary(message.into())).await.is_err() {
                    return;
                }
            }
            received = source.next() => {
                let Some(Ok(message)) = received else { return };
                let Message::Binary(bytes) = message else { continue };
                let Some((channel, bytes)) = bytes.split_first() else { continue };
                let to = inputs.get_mut(usize::from(channel / 2)).and_then(Option::as_mut);
                if let Some(to) = to.filter(|_| channel % 2 == 0)
                    && to.write_all(bytes).await.is_err()
                {
                    return;
                }
            }
        }
    }
    // The client may have gone first.
    sink.send(Message::Close(None)).await.ok();
}

/// What a connection says, under the number of its channel.
async fn tell(mut from: OwnedReadHalf, channel: u8, to: mpsc::Sender<(u8, Bytes)>) {
    while let Some(piece) = upgrade::piece(&mut from).await {
        if to.send((channel, piece)).await.is_err() {
            return;
        }
    }
}
