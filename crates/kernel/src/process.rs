//! Processes: know them for certain, wait for them, end them.
//!
//! A process is held by a file descriptor (pidfd_open(2)), never by its bare number, which the kernel re-uses.

use crate::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use nix::sys::signal::Signal;

/// What tells a process from every other, before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    /// Clock ticks from boot to its start, field 22 of proc_pid_stat(5).
    pub started: u64,
    /// The running kernel's `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}

/// A process that was alive when this value was made.
#[derive(Debug)]
pub struct Process {
    identity: Identity,
    handle: OwnedFd,
}

impl Process {
    /// The process with that number, if it lives.
    pub fn find(pid: u32) -> Result<Option<Process>> {
        Ok(Process::observe(pid)?.filter(Process::is_alive))
    }

    /// Like [`Process::find`], also where it has ended and nobody has taken its exit status yet.
    pub(crate) fn observe(pid: u32) -> Result<Option<Process>> {
        let Some(handle) = pidfd_open(pid)? else { return Ok(None) };
        let Some(started) = start_time(pid) else { return Ok(None) };
        let identity = Identity { pid, started, boot: boot_id()? };
        Ok(Some(Process { identity, handle }))
    }

    /// The very process that was noted down, if it still lives; another one with its number does not count.
    pub fn recall(identity: &Identity) -> Result<Option<Process>> {
        Ok(Process::find(identity.pid)?.filter(|found| found.identity == *identity))
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// False also for one that ended and was not yet reaped.
    pub fn is_alive(&self) -> bool {
        !matches!(self.wait(Some(Duration::ZERO)), Ok(true))
    }

    /// Waits until it has ended; false: `patience` ran out first.
    pub fn wait(&self, patience: Option<Duration>) -> Result<bool> {
        readable(self.handle.as_fd(), patience)
    }

    /// Sends `signal`. An ended process is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // SAFETY: a plain system call; no signal information is passed, which the kernel then makes up itself.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.handle.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match Errno::result(answer) {
            Ok(_) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(failure("signal", self.pid(), errno)),
        }
    }

    /// Waits for a child of this process and takes its exit status.
    pub fn reap(&self) -> Result<ExitStatus> {
        wait_for(self.pid().cast_signed(), 0)?
            .map(|(_, status)| status)
            .ok_or_else(|| failure("wait for", self.pid(), Errno::ECHILD))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}

/// Takes the exit status of any child that has ended, without waiting; for the first process of a PID namespace,
/// which inherits every orphan. None: no child has ended.
pub fn reap_any() -> Result<Option<(u32, ExitStatus)>> {
    let _turn = reaping();
    match wait_for(-1, libc::WNOHANG) {
        Err(error) if error.errno() == Some(Errno::ECHILD) => Ok(None),
        other => other,
    }
}

/// Held while a child is started: until then [`reap_any`] must not take its exit status.
pub(crate) fn reaping() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the exit status of a child that nobody will ask about.
pub(crate) fn forget(pid: u32) {
    wait_for(pid.cast_signed(), 0).ok();
}

/// Gives back to the system what is free and kept for later: after much has come and gone.
pub fn release_memory() {
    // Other C libraries keep little.
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches nothing but memory that nobody holds.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The user that this process acts as (its effective user id).
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Whether this process may make namespaces, mounts and devices without a user namespace (`CAP_SYS_ADMIN`
/// and `CAP_NET_ADMIN`), as root usually may.
pub fn may_administer() -> Result<bool> {
    let path = Path::new("/proc/self/status");
    let failure = |source| Error::File { operation: "read", path: path.into(), source };
    let status = std::fs::read_to_string(path).map_err(failure)?;
    Ok(effective_capabilities(&status).is_some_and(|held| held & ADMINISTRATION == ADMINISTRATION))
}

/// linux/capability.h: `CAP_NET_ADMIN` is 12, `CAP_NET_RAW` 13, `CAP_SYS_ADMIN` 21.
const ADMINISTRATION: u64 = 1 << 12 | 1 << 13 | 1 << 21;

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Orphaned descendants become children of this process.
pub fn adopt_orphans() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| failure("adopt orphans of", std::process::id(), errno))
}

/// From now on the keyboard's interrupt and quit reach only the other processes of the terminal.
pub fn ignore_interrupts() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: ignoring a signal installs no handler, so nothing of ours runs at an unexpected moment.
        let previous =
            unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn) };
        debug_assert!(previous.is_ok(), "SIGINT and SIGQUIT can be ignored");
    }
}

/// Signals as something to wait for instead of something that interrupts.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks these signals for the calling thread and threads started later by it, and collects them here.
    pub fn collect(signals: &[Signal]) -> Result<Signals> {
        let set: SigSet = signals.iter().copied().collect();
        let failure = |errno| failure("collect signals of", std::process::id(), errno);
        nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)
            .map_err(failure)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&set, flags).map(Signals).map_err(failure)
    }

    /// The next signal; None: `patience` ran out.
    pub fn next(&self, patience: Option<Duration>) -> Result<Option<Signal>> {
        if !readable(self.0.as_fd(), patience)? {
            return Ok(None);
        }
        let failure = |errno| failure("read signals of", std::process::id(), errno);
        let info = self.0.read_signal().map_err(failure)?;
        Ok(info.and_then(|info| Signal::try_from(info.ssi_signo.cast_signed()).ok()))
    }
}

fn readable(file: BorrowedFd<'_>, patience: Option<Duration>) -> Result<bool> {
    let deadline = patience.map(|patience| std::time::Instant::now() + patience);
    loop {
        let left = deadline.map(|it| it.saturating_duration_since(std::time::Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
        });
        match nix::poll::poll(&mut [PollFd::new(file, PollFlags::POLLIN)], timeout) {
            Ok(0) if deadline.is_none_or(|it| std::time::Instant::now() < it) => {}
            Err(Errno::EINTR) => {}
            Ok(count) => return Ok(count > 0),
            Err(errno) => return Err(failure("wait for", std::process::id(), errno)),
        }
    }
}

fn wait_for(pid: libc::pid_t, flags: libc::c_int) -> Result<Option<(u32, ExitStatus)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call, which writes nothing else.
        let answer = unsafe { libc::waitpid(pid, &raw mut status, flags | libc::__WALL) };
        match Errno::result(answer) {
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid.cast_unsigned(), ExitStatus::from_raw(status)))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failure("wait for", pid.cast_unsigned(), errno)),
        }
    }
}

fn pidfd_open(pid: u32) -> Result<Option<OwnedFd>> {
    // SAFETY: a plain system call with two numbers.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match Errno::result(answer) {
        Ok(file) => {
            let file = RawFd::try_from(file).expect("the kernel numbers files with a C int");
            // SAFETY: the kernel just made this file for us; it closes on exec and nobody else owns it.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(file) }))
        }
        Err(Errno::ESRCH | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(failure("open process", pid, errno)),
    }
}

fn start_time(pid: u32) -> Option<u64> {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    field_22(&stat)
}

/// The name in parentheses may hold anything, also spaces and parentheses, so count from its end.
fn field_22(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn boot_id() -> Result<String> {
    crate::sysctl::read("kernel/random/boot_id")
}

fn failure(operation: &'static str, pid: u32, errno: Errno) -> Error {
    Error::System { operation, object: format!("process {pid}"), errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_read_past_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["sh", "a b", "a) S 1 (", ""] {
            assert_eq!(field_22(&format!("7 ({name}) {tail}")), Some(4711), "{name:?}");
        }
        assert_eq!(field_22("7 (sh) S 1"), None);
    }

    #[test]
    fn a_process_is_recalled_only_as_itself() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let process = Process::find(child.id()).expect("find").expect("lives");
        let known = process.identity().clone();
        let stranger = Identity { started: known.started + 1, ..known.clone() };
        assert!(Process::recall(&known).expect("recall").is_some());
        assert!(Process::recall(&stranger).expect("recall").is_none());

        process.signal(Signal::SIGKILL).expect("kill");
        assert!(process.wait(Some(Duration::from_secs(5))).expect("wait"), "it ends");
        assert!(Process::recall(&known).expect("recall").is_none(), "unreaped, but gone");
        child.wait().expect("reap");
        process.signal(Signal::SIGKILL).expect("an ended process is no error");
    }
}
