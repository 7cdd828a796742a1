//! Start a program in namespaces: those of others, entered, or its own, made for it.
//!
//! ```text
//! caller ──fork──► first: session, setns…, unshare…, id maps ──fork──► second: program
//!                    │  only when a PID namespace is entered           ▲ child of the caller,
//!                    └─ or made, which holds for children alone ───────┘ or of init when detached
//! ```

use crate::namespace::{self, Kind, Namespace};
use crate::process::{self, Process, Signal};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use std::ffi::{CString, OsStr};
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Where a program shall run. The default: where the caller runs.
#[derive(Debug, Default)]
pub struct Place {
    /// Namespaces to enter, in this order. A user namespace goes first: it gives the rights for the others.
    pub enter: Vec<Namespace>,
    /// Namespaces to make. With a user namespace, the caller's user and group become root in it.
    pub make: Vec<Kind>,
    /// A session of its own and no tie to the caller: not its child, none of its open files but standard ones.
    pub detached: bool,
    /// What the program is sent when the thread that started it ends.
    pub death_signal: Option<Signal>,
    /// A file system for `/sys` that shows the devices of the network namespace; needs a mount namespace made.
    pub sysfs: bool,
    /// Files and directories, and the places where they show instead of what is there, one after the other, looked up
    /// after entering; what shows at `/` is the new root, and what is gone shows nowhere. Needs a mount namespace made.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Changes of user and group succeed without effect, for a user namespace with one user in it.
    pub sole_user: bool,
    /// The directory to start in, looked up after entering; where it is missing, `/`.
    pub directory: Option<PathBuf>,
    /// Its standard input is a terminal, which shall be that of a session of its own: keys reach it as signals.
    pub terminal: bool,
    /// What the machine is called there; needs a UTS namespace made.
    pub hostname: Option<String>,
}

impl Place {
    fn forks(&self) -> bool {
        self.detached
            || self.make.contains(&Kind::Pid)
            || self.enter.iter().any(|it| it.kind() == Kind::Pid)
    }
}

/// Starts `command` at `place`.
///
/// Unless detached it becomes a child of the caller: [`Process::reap`] it.
pub fn spawn(mut command: Command, place: Place) -> Result<Process> {
    let program = command.get_program().to_string_lossy().into_owned();
    let pipe_failure = |source| Error::File { operation: "open", path: "pipe".into(), source };
    let (reports, reporter) = std::io::pipe().map_err(pipe_failure)?;
    let forks = place.forks();
    let preparation = Preparation::new(place, reporter.into());
    // SAFETY: between fork and exec `run` makes system calls on values prepared before; it takes no lock,
    // allocates nothing and touches no memory that another thread may have left half-written.
    unsafe { command.pre_exec(move || preparation.run()) };

    let _turn = process::reaping();
    let outcome = command.spawn();
    drop(command);
    let report = Report::read(reports);
    match (outcome, report) {
        (Ok(mut first), Some(Report::Pid(pid))) if forks => {
            first.wait().map_err(|source| spawn_failure(&program, source))?;
            started(pid, &program)
        }
        (Ok(child), None) => started(child.id(), &program),
        (Err(_), Some(Report::Failure(step, errno))) => Err(step.failure(errno)),
        (Err(source), Some(Report::Pid(pid))) => {
            process::forget(pid);
            Err(spawn_failure(&program, source))
        }
        (Err(source), None) => Err(spawn_failure(&program, source)),
        (Ok(_), _) => {
            Err(Error::Malformed { operation: "start program", problem: "no process number" })
        }
    }
}

fn started(pid: u32, program: &str) -> Result<Process> {
    Process::observe(pid)?.ok_or_else(|| Error::System {
        operation: "start",
        object: program.to_owned(),
        errno: Errno::ESRCH,
    })
}

fn spawn_failure(program: &str, source: std::io::Error) -> Error {
    Error::File { operation: "start", path: program.into(), source }
}

/// What the new process does before it becomes the program, with everything at hand that it needs.
struct Preparation {
    enter: Vec<(CloneFlags, OwnedFd)>,
    make: CloneFlags,
    uid_map: String,
    gid_map: String,
    detached: bool,
    forks: bool,
    death_signal: Option<Signal>,
    sysfs: bool,
    binds: Vec<(CString, CString)>,
    sole_user: bool,
    directory: Option<CString>,
    terminal: bool,
    hostname: Option<CString>,
    reporter: OwnedFd,
}

impl Preparation {
    fn new(place: Place, reporter: OwnedFd) -> Preparation {
        let forks = place.forks();
        let text = |path: PathBuf| CString::new(path.as_os_str().as_bytes()).ok();
        let binds = place.binds.into_iter();
        let binds = binds.filter_map(|(from, to)| Some((text(from)?, text(to)?))).collect();
        let directory = place.directory.and_then(text);
        let hostname = place.hostname.and_then(|name| CString::new(name).ok());
        Preparation {
            enter: place.enter.into_iter().map(|it| (it.kind().flag(), it.into())).collect(),
            make: place.make.iter().fold(CloneFlags::empty(), |all, kind| all | kind.flag()),
            uid_map: format!("0 {} 1", nix::unistd::geteuid()),
            gid_map: format!("0 {} 1", nix::unistd::getegid()),
            detached: place.detached,
            forks,
            death_signal: place.death_signal,
            sysfs: place.sysfs,
            binds,
            sole_user: place.sole_user,
            directory,
            terminal: place.terminal,
            hostname,
            reporter,
        }
    }

    fn run(&self) -> std::io::Result<()> {
        self.steps().map_err(|(step, errno)| {
            self.report(step as i32, errno as i32);
            errno.into()
        })
    }

    fn steps(&self) -> Result<(), (Step, Errno)> {
        if self.detached {
            nix::unistd::setsid().map_err(|errno| (Step::Detach, errno))?;
        }
        for (flag, file) in &self.enter {
            nix::sched::setns(file, *flag).map_err(|errno| (Step::Enter, errno))?;
        }
        nix::sched::unshare(self.make).map_err(|errno| (Step::Make, errno))?;
        if self.make.contains(CloneFlags::CLONE_NEWUSER) {
            self.map_ids().map_err(|errno| (Step::MapIds, errno))?;
        }
        if let Some(name) =
            self.hostname.as_ref().filter(|_| self.make.contains(CloneFlags::CLONE_NEWUTS))
        {
            nix::unistd::sethostname(OsStr::from_bytes(name.to_bytes()))
                .map_err(|errno| (Step::Make, errno))?;
        }
        if self.forks {
            self.fork().map_err(|errno| (Step::Fork, errno))?;
        }
        self.settle().map_err(|errno| (Step::Settle, errno))
    }

    /// One's own user and group may be mapped without privileges, the group only once setgroups(2) is given up.
    fn map_ids(&self) -> Result<(), Errno> {
        write_file(c"/proc/self/setgroups", "deny")?;
        write_file(c"/proc/self/uid_map", &self.uid_map)?;
        write_file(c"/proc/self/gid_map", &self.gid_map)
    }

    /// Returns in the new process only. It is a sibling of the old one, or, detached, its orphan.
    fn fork(&self) -> Result<(), Errno> {
        let parent = if self.detached { 0 } else { libc::CLONE_PARENT };
        let flags = parent | libc::SIGCHLD;
        // SAFETY: clone(2) without a stack or shared memory is fork(2); this process has one thread.
        let answer = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        let pid = Errno::result(answer)?;
        if pid != 0 {
            self.report(0, i32::try_from(pid).unwrap_or(i32::MAX));
            // SAFETY: ends this copy of the caller at once, without running the caller's exit handlers.
            unsafe { libc::_exit(0) };
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), Errno> {
        if self.sysfs && self.make.contains(CloneFlags::CLONE_NEWNS) {
            mount_sysfs()?;
        }
        if !self.binds.is_empty() && self.make.contains(CloneFlags::CLONE_NEWNS) {
            bind(&self.binds)?;
        }
        if let Some(directory) = &self.directory
            && nix::unistd::chdir(directory.as_c_str()).is_err()
        {
            nix::unistd::chdir(c"/")?;
        }
        if self.terminal {
            crate::terminal::adopt()?;
        }
        if self.detached {
            close_on_exec();
        }
        if self.sole_user {
            // Without it the program only tells sooner that it cannot change its user.
            crate::identity::keep().ok();
        }
        let none = nix::sys::signal::SigSet::empty();
        none.thread_set_mask()?;
        match self.death_signal {
            Some(signal) => nix::sys::prctl::set_pdeathsig(signal),
            None => Ok(()),
        }
    }

    fn report(&self, tag: i32, value: i32) {
        let mut record = [0; 8];
        record[..4].copy_from_slice(&tag.to_ne_bytes());
        record[4..].copy_from_slice(&value.to_ne_bytes());
        // A caller that no longer listens needs no report.
        nix::unistd::write(self.reporter.as_fd(), &record).ok();
    }
}

/// Mounts made here must not reach the namespace that this one was copied from.
/// Where the kernel forbids a fresh one, because the old one is partly hidden, the old one stays.
fn mount_sysfs() -> Result<(), Errno> {
    use nix::mount::{MsFlags, mount};
    mount(None::<&str>, c"/sys", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .ok();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some(c"sysfs"), c"/sys", Some(c"sysfs"), flags, None::<&str>) {
        Ok(()) | Err(Errno::EPERM | Errno::EBUSY) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Mounts made here must not reach the namespace that this one was copied from; what is unmounted there is unmounted
/// here too, so that nothing lives on for this program's sake.
fn bind(binds: &[(CString, CString)]) -> Result<(), Errno> {
    use nix::mount::{MsFlags, mount};
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, c"/", None::<&str>, slave, None::<&str>)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    for (from, to) in binds {
        let is_root = to.as_c_str() == c"/";
        let place = if is_root { from } else { to }.as_c_str();
        match mount(Some(from.as_c_str()), place, None::<&str>, flags, None::<&str>) {
            // Others may have taken it away meanwhile.
            Err(Errno::ENOENT) if is_missing(from) => {}
            other => other?,
        }
        if is_root {
            change_root(place)?;
        }
    }
    Ok(())
}

fn is_missing(path: &std::ffi::CStr) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::F_OK) == Err(Errno::ENOENT)
}

/// With one name for both, the old root lies upon the new one until it is taken away: no directory is needed for it.
fn change_root(place: &std::ffi::CStr) -> Result<(), Errno> {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    nix::unistd::chdir(place)?;
    match nix::unistd::pivot_root(c".", c".") {
        Ok(()) => umount2(c".", MntFlags::MNT_DETACH)?,
        // The first root of a kernel, an initramfs, cannot be taken away: the new one lies upon it.
        Err(Errno::EINVAL) => {
            mount(Some(c"."), c"/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
            nix::unistd::chroot(c".")?;
        }
        Err(other) => return Err(other),
    }
    nix::unistd::chdir(c"/")
}

/// Files that the caller inherited without knowing, a pipe of `make` for example, would otherwise stay open for ever.
fn close_on_exec() {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 1 << 2;
    // SAFETY: marks descriptors, closes none. Kernels before 5.11 do not know the flag.
    let answer =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if answer == 0 {
        return;
    }
    for file in 3..1024 {
        // SAFETY: marks a descriptor if there is one of that number.
        unsafe { libc::fcntl(file, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn write_file(path: &std::ffi::CStr, text: &str) -> Result<(), Errno> {
    use nix::fcntl::{OFlag, open};
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?;
    nix::unistd::write(&file, text.as_bytes()).map(drop)
}

/// Where a preparation can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Detach = 1,
    Enter,
    Make,
    MapIds,
    Fork,
    Settle,
}

impl Step {
    const ALL: [Step; 6] =
        [Step::Detach, Step::Enter, Step::Make, Step::MapIds, Step::Fork, Step::Settle];

    fn failure(self, errno: Errno) -> Error {
        let operation = match self {
            Step::Make | Step::MapIds => {
                return Error::Prevented { obstacle: namespace::diagnose(errno), errno };
            }
            Step::Detach => "leave the session",
            Step::Enter => "enter namespaces",
            Step::Fork => "start process",
            Step::Settle => "settle in namespaces",
        };
        Error::System { operation, object: "for a new program".into(), errno }
    }
}

enum Report {
    Pid(u32),
    Failure(Step, Errno),
}

impl Report {
    /// The last one counts: a failure may follow the number of the process that failed.
    fn read(mut pipe: PipeReader) -> Option<Report> {
        let mut records = Vec::new();
        pipe.read_to_end(&mut records).ok()?;
        let (tag, value) = records.last_chunk::<8>()?.split_at(4);
        let number = |bytes: &[u8]| bytes.try_into().map(i32::from_ne_bytes).ok();
        let (tag, value) = (number(tag)?, number(value)?);
        match Step::ALL.into_iter().find(|step| *step as i32 == tag) {
            Some(step) => Some(Report::Failure(step, Errno::from_raw(value))),
            None => Some(Report::Pid(value.cast_unsigned())),
        }
    }
}
