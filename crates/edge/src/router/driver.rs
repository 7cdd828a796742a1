//! The loop of one virtual router.
//!
//! ```text
//!   command ────┐
//!   packet  ────┼─► everything that waits in the socket ─► machine ─► actions on the port
//!   timer   ────┘   (before the timer: what was heard decides)
//! ```

use super::Role;
use super::port::Port;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use wire::machine::vrrp::{Action, Config, Event, Router, State};

/// Between attempts to work on an interface that is not there.
const PAUSE: Duration = Duration::from_millis(250);
/// How often an Active router makes sure that nobody took its addresses off the interface.
const INSPECTION: Duration = Duration::from_secs(1);

/// Who is told when the role changes.
pub(super) struct Observer {
    pub(super) role: watch::Sender<Role>,
    pub(super) changed: Arc<Notify>,
}

impl Observer {
    fn note(&self, config: &Config, state: State) {
        let differs = |role: &mut Role| {
            let differs = role.state != state;
            if differs {
                *role = Role { state, since: SystemTime::now() };
            }
            differs
        };
        if self.role.send_if_modified(differs) {
            let addresses = config.addresses.as_slice();
            tracing::info!(vrid = config.vrid, ?addresses, ?state, "virtual router");
            self.changed.notify_one();
        }
    }
}

/// Why the loop ended.
enum End {
    /// The command came.
    Resigned,
    /// The interface is gone.
    Lost,
}

/// Runs until `commands` closes, and resigns then.
pub(super) async fn run(
    interface: String,
    mut config: Config,
    mut commands: mpsc::UnboundedReceiver<Config>,
    observer: Observer,
) {
    let mut told = false;
    loop {
        match Port::open(&interface, config.source) {
            Ok(port) => {
                told = false;
                let mut driver = Driver::new(config, port);
                if matches!(driver.run(&mut commands, &observer).await, End::Resigned) {
                    return;
                }
                config = driver.config;
                observer.note(&config, State::Initialize);
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(interface, %error, "cannot take part in the election, will try again");
            }
            Err(_told) => {}
        }
        tokio::select! {
            command = commands.recv() => match command {
                Some(new) => config = new,
                None => return,
            },
            () = sleep(PAUSE) => {}
        }
    }
}

struct Driver {
    config: Config,
    machine: Router,
    port: Port,
    origin: Instant,
    inspect_at: Instant,
}

impl Driver {
    fn new(config: Config, port: Port) -> Self {
        let now = Instant::now();
        let machine = Router::new(config.clone());
        Driver { config, machine, port, origin: now, inspect_at: now + INSPECTION }
    }

    async fn run(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<Config>,
        observer: &Observer,
    ) -> End {
        self.start();
        loop {
            observer.note(&self.config, self.machine.state());
            let timer = self.origin + self.machine.next_timer().expect("a started router has one");
            let step = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(config) => self.configure(config),
                    None => {
                        self.resign();
                        observer.note(&self.config, State::Initialize);
                        return End::Resigned;
                    }
                },
                () = sleep_until(timer) => self.hear().and_then(|()| self.event(Event::Timer)),
                ready = self.port.readable() => ready.and_then(|()| self.hear()),
                () = sleep_until(self.inspect_at) => self.inspect(),
            };
            if let Err(error) = step
                && is_lost(&error)
            {
                tracing::warn!(%error, "the interface is gone");
                return End::Lost;
            }
        }
    }

    fn start(&mut self) {
        let holding = self.port.holds_any(self.config.addresses.as_slice());
        let holding = holding.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the addresses of the interface");
            false
        });
        // A lost interface shows itself at the next event.
        self.event(Event::Startup { holding }).ok();
    }

    fn resign(&mut self) {
        // It cannot be put off, so what fails now fails; the kernel's complaint is in the log.
        self.event(Event::Shutdown).ok();
    }

    fn configure(&mut self, config: Config) -> io::Result<()> {
        self.config = config.clone();
        let actions = self.machine.configure(self.origin.elapsed(), config);
        self.act(actions)
    }

    /// Hands in all that waits in the socket.
    fn hear(&mut self) -> io::Result<()> {
        while let Some((from, advertisement)) = self.port.receive()? {
            self.event(Event::Advertisement { from, advertisement })?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        let actions = self.machine.on_event(self.origin.elapsed(), event);
        self.act(actions)
    }

    fn inspect(&mut self) -> io::Result<()> {
        self.inspect_at = Instant::now() + INSPECTION;
        if self.machine.state() == State::Active {
            report(self.port.add(self.config.addresses.as_slice()));
        }
        Ok(())
    }

    /// An action that fails does not keep the next from being tried.
    fn act(&mut self, actions: Vec<Action>) -> io::Result<()> {
        let mut outcome = Ok(());
        for action in actions {
            let result = match action {
                Action::Send(advertisement) => self.port.send(&advertisement),
                Action::Announce(addresses) => self.port.announce(&addresses),
                Action::AddAddresses(addresses) => {
                    report(self.port.add(&addresses));
                    Ok(())
                }
                Action::RemoveAddresses(addresses) => {
                    report(self.port.remove(&addresses));
                    Ok(())
                }
            };
            if let Err(error) = &result {
                tracing::debug!(%error, "cannot send");
            }
            outcome = outcome.and(result);
        }
        outcome
    }
}

fn report(outcome: Result<(), Vec<kernel::Error>>) {
    for error in outcome.err().into_iter().flatten() {
        tracing::error!(%error, "cannot change the addresses of the interface");
    }
}

/// No such device or address: the interface these sockets are bound to was deleted. Everything else (link
/// down, buffers full) passes.
fn is_lost(error: &io::Error) -> bool {
    let lost = [kernel::Errno::ENODEV, kernel::Errno::ENXIO];
    error.raw_os_error().is_some_and(|code| lost.contains(&kernel::Errno::from_raw(code)))
}
