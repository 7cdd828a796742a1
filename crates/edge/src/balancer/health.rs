//! The health check of one back end: runs [`wire::machine::health::Check`] with real connections.

use super::backend::Backend;
use futures::future::{BoxFuture, FutureExt, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use wire::machine::health::{Action, Check, Config, Event, Probe};

/// Never ends; `news` is what traffic tells.
pub(super) async fn watch(
    backend: Arc<Backend>,
    config: Config,
    mut news: mpsc::Receiver<Event>,
    changed: Arc<Notify>,
) {
    let origin = Instant::now();
    let mut check = Check::new(config);
    let mut probe: BoxFuture<'static, Event> = pending().boxed();
    let mut event = Event::Start;
    loop {
        for action in check.on_event(origin.elapsed(), event) {
            match action {
                Action::Probe(id) => probe = run_probe(id, backend.config.address).boxed(),
                Action::Up | Action::Down => note(&backend, check.is_up(), &changed),
            }
        }
        event = tokio::select! {
            Some(event) = news.recv() => event,
            event = &mut probe => {
                probe = pending().boxed();
                event
            }
            () = sleep_until(origin + check.next_timer().expect("a started check has a timer")) => {
                Event::Timer
            }
        };
    }
}

/// The machine bounds the time of it.
async fn run_probe(id: Probe, address: SocketAddr) -> Event {
    match TcpStream::connect(address).await {
        Ok(_stream) => Event::Passed(id),
        Err(_refused) => Event::Failed(id),
    }
}

fn note(backend: &Backend, up: bool, changed: &Notify) {
    backend.set_up(up);
    changed.notify_one();
    let config = &backend.config;
    tracing::info!(backend = config.name, address = %config.address, up, "health changed");
}
