//! Processes of containers: what to start, starting it, hearing of its end.

use super::Error;
use super::console::{Console, manner};
use super::places::Mounts;
use super::spec::{Role, Spec, Surroundings, expand};
use crate::image::{self, of_image};
use kernel::namespace::{Kind, Namespace};
use kernel::process::{Process, Signal};
use kernel::spawn::{Place, spawn};
use model::{Container, Protocol};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::PipeWriter;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The hidden subcommand of `podway` that runs the built-in server.
pub const ECHO: &str = "lab-echo";
/// What the built-in server needs for its end.
const FAREWELL: Duration = Duration::from_secs(1);
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process to start for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Launch {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// The whole environment.
    pub(super) environment: Vec<(String, String)>,
    pub(super) log: PathBuf,
    /// Where it starts, if there is such a directory.
    pub(super) directory: PathBuf,
    /// None: the node's own network namespace.
    pub(super) netns: Option<PathBuf>,
    /// None: the node's own.
    pub(super) hostname: Option<String>,
    pub(super) mounts: Mounts,
    /// What its image's entry point is here, where that is a program.
    pub(super) program: Option<PathBuf>,
    /// Where people talk to it, if they can.
    pub(super) console: Option<Console>,
}

/// What a container of a pod finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Setting {
    /// What stands for its image, where that is a program.
    pub(super) program: Option<image::Program>,
    /// None: the node's own network namespace.
    pub(super) netns: Option<PathBuf>,
    pub(super) log: PathBuf,
    pub(super) mounts: Mounts,
}

/// A container that was started, and who holds its input, if it has one.
pub(super) struct Started {
    pub(super) process: Process,
    pub(super) holder: Option<Process>,
}

impl Launch {
    /// The container's command, whose program may be the image's; else, where a program stands for the image, that with
    /// the arguments. Where none does: the command, or its arguments alone as an image without an entry point takes them, where this machine
    /// has the program; else a shell for those that people can talk to, or the built-in server on the declared ports,
    /// or for an init container, which shall end, nothing at all.
    pub(super) fn plan(
        spec: &Spec,
        index: usize,
        surroundings: &Surroundings,
        setting: Setting,
    ) -> Launch {
        let Setting { program, netns, log, mounts } = setting;
        let container = &spec.pod.containers[index];
        let mut environment = spec.environment(container, surroundings);
        let written = spec.written(container);
        let manner = written.and_then(manner);
        let terminal = manner.is_some_and(|manner| manner.terminal);
        let defaults = [("PATH", DEFAULT_PATH), ("HOME", "/")];
        for (name, default) in defaults.into_iter().chain(terminal.then_some(("TERM", "xterm"))) {
            if !environment.iter().any(|(known, _)| known == name) {
                let own = std::env::var(name).ok().filter(|_| name != "TERM");
                let value = own.unwrap_or_else(|| default.to_owned());
                environment.push((name.to_owned(), value));
            }
        }
        let variables: BTreeMap<_, _> = environment.iter().cloned().collect();
        let path = variables.get("PATH").map(String::as_str).unwrap_or_default();
        let entry = program.as_ref().filter(|_| container.command.is_empty());
        let usual = entry.filter(|_| container.args.is_empty()).map(|it| &it.arguments);
        let words = container.command.iter().chain(&container.args);
        let words = words.map(|word| expand(word, &variables));
        let words = words.chain(usual.into_iter().flatten().cloned());
        let entry = entry.map(|program| program.path.to_string_lossy().into_owned());
        let words = entry.into_iter().chain(words).collect();
        let program = program.as_ref().map(|program| program.path.clone());
        let own = of_image(words, program.as_deref());
        let is_there = own.first().is_some_and(|program| has_program(program, path));
        let command = match spec.roles[index] {
            _ if is_there => own,
            _ if manner.is_some_and(|manner| manner.input) => vec!["sh".to_owned()],
            Role::Init => vec!["true".to_owned()],
            Role::Sidecar | Role::Main | Role::Ephemeral => built_in(container, spec.grace),
        };
        // What belongs to a program is beside it, as what belongs to an image is in its directory.
        let beside = program.as_ref().and_then(|program| program.parent()).map(Path::to_owned);
        let written = written.and_then(|it| it["workingDir"].as_str()).filter(|it| !it.is_empty());
        let directory = written.map(PathBuf::from).or(beside).unwrap_or_else(|| "/".into());
        let hostname = spec.own_hostname();
        Launch {
            command,
            directory,
            environment,
            log,
            netns,
            hostname,
            mounts,
            program,
            console: None,
        }
    }

    /// Starts it; it outlives the kubelet, and is its child as long as that lives.
    pub(super) fn start(&self) -> Result<Started, Error> {
        let open = || {
            if let Some(directory) = self.log.parent() {
                std::fs::create_dir_all(directory)?;
            }
            File::options().create(true).append(true).open(&self.log)
        };
        let log = open().map_err(Error::file("open", &self.log))?;
        let errors = log.try_clone().map_err(Error::file("open", &self.log))?;
        let (program, arguments) = self.command.split_first().expect("every plan has a program");
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.environment.iter().map(|(k, v)| (k, v)));
        if program == OWN_PROGRAM {
            command.arg0("podway");
        }
        let holder = self.console.as_ref().map(|console| console.attach(&mut command, &log));
        let holder = holder.transpose()?;
        let manner = self.console.as_ref().map(|console| console.manner);
        let terminal = manner.is_some_and(|manner| manner.terminal);
        if manner.is_none() {
            command.stdin(Stdio::null());
        }
        if !terminal {
            // A group of its own: what it starts can be found when it has ended. With a terminal a session makes it.
            command.stdout(log).stderr(errors).process_group(0);
        }
        let process = spawn(command, Place { terminal, ..self.place()? })?;
        Ok(Started { process, holder })
    }

    /// A command of a probe, in the container's place and with its environment. What it says goes into `output`.
    pub(super) fn start_probe(
        &self,
        words: &[String],
        output: PipeWriter,
    ) -> Result<Option<Process>, Error> {
        let words = of_image(words.to_vec(), self.program.as_deref());
        let Some((program, arguments)) = words.split_first() else { return Ok(None) };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.environment.iter().map(|(k, v)| (k, v)));
        let errors = output.try_clone().map_err(Error::file("open", "pipe".as_ref()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        Ok(Some(spawn(command, self.place()?)?))
    }

    fn place(&self) -> Result<Place, Error> {
        let netns = self.netns.as_ref().map(|path| Namespace::open(Kind::Net, path)).transpose()?;
        let (directory, binds) = (Some(self.directory.clone()), self.mounts.binds()?);
        let hostname = self.hostname.clone();
        let mount = (!binds.is_empty()).then_some(Kind::Mount);
        let make = mount.into_iter().chain(hostname.is_some().then_some(Kind::Uts)).collect();
        let enter = netns.into_iter().collect();
        Ok(Place { enter, make, binds, directory, hostname, ..Place::default() })
    }
}

pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";

fn built_in(container: &Container, grace: Duration) -> Vec<String> {
    let mut words = vec![OWN_PROGRAM.to_owned(), ECHO.to_owned()];
    for port in &container.ports {
        let flag = match port.protocol {
            Protocol::Tcp => "--port",
            Protocol::Udp => "--udp-port",
            // The built-in server does not speak it.
            Protocol::Sctp => continue,
        };
        words.extend([flag.to_owned(), port.port.to_string()]);
    }
    // It must be done before it is killed.
    let grace = grace.saturating_sub(FAREWELL).as_secs();
    words.extend(["--grace".to_owned(), grace.to_string()]);
    words
}

fn has_program(name: &str, path: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    path.split(':').any(|directory| Path::new(directory).join(name).is_file())
}

/// Waits until the process has ended, whoever started it.
pub(super) async fn ended(process: Arc<Process>) -> Option<i32> {
    match until_readable(Arc::clone(&process)) {
        // An error would mean that the runtime ends.
        Ok(handle) => drop(handle.readable().await),
        Err(error) => {
            tracing::error!(%error, "cannot wait for a container");
            return std::future::pending().await;
        }
    }
    // Not our child: a kubelet before this one started it, and nobody can tell how it ended.
    let status = process.reap().ok()?;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal))
}

/// Something of the kernel to wait for.
#[expect(deprecated, reason = "the kernel crate's handles keep their one descriptor for life")]
pub(super) fn until_readable<T: AsRawFd>(handle: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(handle, Interest::READABLE)
}

/// Kills what a container that ended left behind: processes that are still of its group.
pub(super) fn kill_group(leader: u32) {
    kill_where(|stat| group(stat) == Some(leader));
}

/// Kills every process in a network namespace that is not the caller's.
pub(super) fn kill_all_in(netns: &Path) {
    let Some(wanted) = identity(netns) else { return };
    if identity(Path::new("/proc/self/ns/net")) == Some(wanted) {
        return;
    }
    for pid in processes() {
        let theirs = Path::new("/proc").join(pid.to_string()).join("ns/net");
        if identity(&theirs) == Some(wanted) {
            kill(pid);
        }
    }
}

fn kill_where(matches: impl Fn(&str) -> bool) {
    for pid in processes() {
        let stat = Path::new("/proc").join(pid.to_string()).join("stat");
        if std::fs::read_to_string(stat).is_ok_and(|stat| matches(&stat)) {
            kill(pid);
        }
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn kill(pid: u32) {
    // One that is gone meanwhile needs no signal.
    if let Ok(Some(process)) = Process::find(pid) {
        process.signal(Signal::SIGKILL).ok();
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
}

/// Field 5 of proc_pid_stat(5); the name before it may hold anything.
fn group(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn commands_of_unknown_images_become_the_built_in_server() {
        let ports = json!([{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]);
        let rows = [
            (json!({}), "/proc/self/exe lab-echo --grace 29"),
            (json!({"ports": ports}), "/proc/self/exe lab-echo --port 80 --udp-port 53 --grace 29"),
            (json!({"args": ["netexec"]}), "/proc/self/exe lab-echo --grace 29"),
            (json!({"args": ["sleep", "1"]}), "sleep 1"),
            (json!({"command": ["no-such-program"]}), "/proc/self/exe lab-echo --grace 29"),
            (json!({"command": ["sleep"], "args": ["1"]}), "sleep 1"),
            (json!({"stdin": true, "ports": ports}), "sh"),
            (json!({"stdin": true, "args": ["sleep", "1"]}), "sleep 1"),
            (json!({"args": ["sleep", "1"], "workingDir": "/tmp"}), "sleep 1"),
            (json!({"tty": true}), "/proc/self/exe lab-echo --grace 29"),
            (json!({"command": ["/bin/sh", "-c", "$(POD_NAME) $(X)"]}), "/bin/sh -c p $(X)"),
        ];
        for (mut container, expected) in rows {
            container["name"] = "c".into();
            let spec = Spec::parse(&json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {"containers": [container]},
            }))
            .unwrap();
            let surroundings = Surroundings { node: "n".into(), ..Surroundings::default() };
            let launch = Launch::plan(&spec, 0, &surroundings, Setting::default());
            assert_eq!(launch.command.join(" "), expected);
            let directory = spec.field("/spec/containers/0/workingDir").and_then(Value::as_str);
            assert_eq!(launch.directory, Path::new(directory.unwrap_or("/")));
        }
    }

    #[test]
    fn programs_of_images_take_the_containers_arguments() {
        let rows = [
            (json!({}), "/opt/tool usual"),
            (json!({"args": ["a", "$(POD_NAME)"]}), "/opt/tool a p"),
            (json!({"args": ["sleep", "1"]}), "/opt/tool sleep 1"),
            (json!({"command": ["/tool"], "args": ["a"]}), "/opt/tool a"),
            (json!({"command": ["/tool"]}), "/opt/tool"),
            (json!({"command": ["sleep"], "args": ["1"]}), "sleep 1"),
            (json!({"command": ["no-such-program"]}), "/proc/self/exe lab-echo --grace 29"),
        ];
        let folder = std::env::temp_dir().join(format!("podway-image-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tool"), "").unwrap();
        for (mut container, expected) in rows {
            container["name"] = "c".into();
            let spec = Spec::parse(&json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {"containers": [container]},
            }))
            .unwrap();
            let program =
                image::Program { path: folder.join("tool"), arguments: vec!["usual".to_owned()] };
            let setting = Setting { program: Some(program), ..Setting::default() };
            let launch = Launch::plan(&spec, 0, &Surroundings::default(), setting);
            let folder = folder.to_str().unwrap();
            assert_eq!(launch.command.join(" ").replace(folder, "/opt"), expected);
            assert_eq!(launch.directory, Path::new(folder));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn groups_are_read_past_any_name() {
        assert_eq!(group("7 (a) b) S 1 42 3"), Some(42));
        assert_eq!(group("7 (sh"), None);
    }
}
