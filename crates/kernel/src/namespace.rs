//! Namespaces: open them, make and name network namespaces, work inside one.
//!
//! A namespace is joined per thread, so the functions here either touch a thread of their own
//! ([`in_netns`], [`make_net`]) or leave joining to a new process ([`crate::spawn`]).

use crate::{Error, Result, mount};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The sorts of namespace, as in namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    User,
    Mount,
    Pid,
    Net,
    Uts,
    Ipc,
}

impl Kind {
    pub(crate) fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Net => CloneFlags::CLONE_NEWNET,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
        }
    }

    /// The name of its file in `/proc/PID/ns`.
    fn file(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mnt",
            Kind::Pid => "pid",
            Kind::Net => "net",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
        }
    }
}

/// An open namespace; it lives at least as long as this value.
#[derive(Debug)]
pub struct Namespace {
    kind: Kind,
    file: File,
}

impl Namespace {
    /// The namespace of the calling thread.
    pub fn current(kind: Kind) -> Result<Namespace> {
        Self::open(kind, &Path::new("/proc/thread-self/ns").join(kind.file()))
    }

    /// The namespace of process `pid`, as `proc` (for example `/proc`) counts processes.
    pub fn of(kind: Kind, proc: &Path, pid: u32) -> Result<Namespace> {
        Self::open(kind, &proc.join(pid.to_string()).join("ns").join(kind.file()))
    }

    /// The namespace that a file stands for: of `/proc/PID/ns`, or where one is mounted.
    pub fn open(kind: Kind, path: &Path) -> Result<Namespace> {
        let failure =
            |source| Error::File { operation: "open namespace", path: path.into(), source };
        let file = File::open(path).map_err(failure)?;
        Ok(Namespace { kind, file })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether both are the same namespace of the kernel.
    pub fn is(&self, other: &Namespace) -> bool {
        let identity = |file: &File| file.metadata().map(|it| (it.dev(), it.ino())).ok();
        identity(&self.file) == identity(&other.file)
    }

    /// Gives the namespace a name: mounts it at `path`, making the file. It lives until that is unmounted.
    pub fn pin(&self, path: &Path) -> Result<()> {
        let failure = |source| Error::File { operation: "create", path: path.into(), source };
        File::create(path).map_err(failure)?;
        mount::bind(&PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd())), path)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<Namespace> for OwnedFd {
    fn from(namespace: Namespace) -> OwnedFd {
        namespace.file.into()
    }
}

/// Undoes [`Namespace::pin`]. No such name is no error.
pub fn unpin(path: &Path) -> Result<()> {
    mount::unmount(path)?;
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { operation: "remove", path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// A new network namespace with nothing in it but a loopback device that is down.
pub fn make_net() -> Result<Namespace> {
    on_own_thread(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| refused("make", Kind::Net, errno))?;
        Namespace::current(Kind::Net)
    })
}

/// Runs `work` on a thread inside the network namespace and returns its value.
///
/// Sockets opened there stay in that namespace wherever they are used later.
pub fn in_netns<T: Send>(netns: impl AsFd, work: impl FnOnce() -> T + Send) -> Result<T> {
    let netns = netns.as_fd();
    on_own_thread(|| {
        nix::sched::setns(netns, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| refused("enter", Kind::Net, errno))?;
        Ok(work())
    })
}

/// Names the host of the calling thread's UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).map_err(|errno| Error::System {
        operation: "set hostname",
        object: name.to_owned(),
        errno,
    })
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

pub(crate) fn refused(operation: &'static str, kind: Kind, errno: Errno) -> Error {
    Error::System { operation, object: format!("{} namespace", kind.file()), errno }
}

/// Why this machine does not let its users make namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    #[error(
        "user namespaces are switched off: run `sudo sysctl -w user.max_user_namespaces=15000`, or run as root"
    )]
    NoneAllowed,
    #[error(
        "no more user namespaces are allowed: raise the sysctl user.max_user_namespaces, or end programs that hold some"
    )]
    TooMany,
    #[error(
        "ordinary users may not make user namespaces: run `sudo sysctl -w kernel.unprivileged_userns_clone=1`, or run as root"
    )]
    Unprivileged,
    #[error(
        "AppArmor keeps ordinary users from using user namespaces: run `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run as root"
    )]
    AppArmor,
    #[error(
        "this kernel is built without namespaces (CONFIG_USER_NS, CONFIG_NET_NS, CONFIG_PID_NS)"
    )]
    NotBuilt,
    #[error(
        "this environment forbids new namespaces (a container's seccomp profile?): run outside the container, or make it privileged"
    )]
    Forbidden,
}

/// Reads the machine's settings for what made the kernel answer `errno` when asked for namespaces or mounts in them.
pub fn diagnose(errno: Errno) -> Obstacle {
    let setting = |name: &str| crate::sysctl::read(name).ok();
    judge(
        errno,
        setting("user/max_user_namespaces").as_deref(),
        setting("kernel/unprivileged_userns_clone").as_deref(),
        setting("kernel/apparmor_restrict_unprivileged_userns").as_deref(),
    )
}

fn judge(errno: Errno, max: Option<&str>, clone: Option<&str>, apparmor: Option<&str>) -> Obstacle {
    match (errno, max, clone, apparmor) {
        (Errno::EINVAL | Errno::ENOSYS, ..) => Obstacle::NotBuilt,
        (_, Some("0"), _, _) => Obstacle::NoneAllowed,
        (Errno::ENOSPC | Errno::EUSERS, ..) => Obstacle::TooMany,
        (_, _, Some("0"), _) => Obstacle::Unprivileged,
        (_, _, _, Some("1")) => Obstacle::AppArmor,
        _ => Obstacle::Forbidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_obstacle_is_named_by_the_setting_behind_it() {
        let rows = [
            (Errno::ENOSPC, Some("0"), None, None, Obstacle::NoneAllowed),
            (Errno::ENOSPC, Some("9"), None, None, Obstacle::TooMany),
            (Errno::EPERM, Some("9"), Some("0"), None, Obstacle::Unprivileged),
            (Errno::EPERM, Some("9"), Some("1"), Some("1"), Obstacle::AppArmor),
            (Errno::EACCES, Some("9"), None, Some("1"), Obstacle::AppArmor),
            (Errno::EPERM, Some("9"), None, Some("0"), Obstacle::Forbidden),
            (Errno::EINVAL, Some("9"), None, None, Obstacle::NotBuilt),
        ];
        for (errno, max, clone, apparmor, expected) in rows {
            assert_eq!(
                judge(errno, max, clone, apparmor),
                expected,
                "{errno} {max:?} {clone:?} {apparmor:?}"
            );
        }
    }
}
