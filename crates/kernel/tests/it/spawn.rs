//! Programs started in namespaces, as root and as an ordinary user alike.

use kernel::namespace::{self, Kind, Namespace};
use kernel::process::{Process, Signal};
use kernel::spawn::{Place, spawn};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The namespaces of a small world of its own; root needs no user namespace for it.
fn world() -> Vec<Kind> {
    let user = (!kernel::process::may_administer().expect("capabilities")).then_some(Kind::User);
    user.into_iter().chain([Kind::Mount, Kind::Pid, Kind::Net, Kind::Uts, Kind::Ipc]).collect()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Runs `script` at `place` and returns what it printed and its exit code.
fn run(script: &str, place: Place) -> (String, Option<i32>) {
    let (mut output, writer) = std::io::pipe().unwrap();
    let mut command = shell(script);
    command.stdout(writer);
    let process = spawn(command, place).expect("spawn");
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (text.trim().to_owned(), process.reap().expect("reap").code())
}

/// A process that stays, first of its PID namespace, until the returned pipe is dropped.
fn resident() -> (Process, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = shell(
        "mount --make-rprivate / && mount -t tmpfs resident /mnt && mount -t proc proc /proc && hostname resident && echo; cat",
    );
    let (mut ready, echo) = std::io::pipe().unwrap();
    command.stdin(reader).stdout(echo);
    let process = spawn(command, Place { make: world(), ..Place::default() }).expect("spawn");
    ready.read_exact(&mut [0]).expect("ready");
    (process, writer)
}

fn kinds_of_exec() -> Vec<Kind> {
    world().into_iter().filter(|kind| *kind != Kind::Ipc).collect()
}

fn enter(process: &Process, kinds: &[Kind]) -> Vec<Namespace> {
    let open = |kind: &Kind| Namespace::of(*kind, Path::new("/proc"), process.pid()).expect("open");
    kinds.iter().map(open).collect()
}

#[test]
fn a_new_world_has_its_own_root_and_first_process() {
    let place = || Place { make: world(), ..Place::default() };
    assert_eq!(run("echo $$ $(id -u) $(id -g)", place()), ("1 0 0".into(), Some(0)));
    assert_eq!(run("wc -l < /proc/net/dev", place()), ("3".into(), Some(0)), "only lo");
    assert_eq!(run("exit 7", place()).1, Some(7));
}

#[test]
fn a_program_enters_every_namespace_of_another() {
    let (resident, _alive) = resident();
    let place = Place { enter: enter(&resident, &kinds_of_exec()), ..Place::default() };
    let (seen, code) =
        run("hostname; stat -f -c %T /mnt; test -d /proc/1 && cat /proc/1/comm", place);
    assert_eq!((seen.as_str(), code), ("resident\ntmpfs\nsh", Some(0)));
}

#[test]
fn the_end_of_the_first_process_ends_all_others() {
    let (resident, _alive) = resident();
    let place = Place { enter: enter(&resident, &kinds_of_exec()), ..Place::default() };
    let guest = spawn(shell("sleep 60"), place).expect("spawn");
    resident.signal(Signal::SIGKILL).expect("kill");
    assert!(guest.wait(Some(Duration::from_secs(5))).expect("wait"), "guest must end");
    guest.reap().expect("reap");
    resident.reap().expect("reap");
}

#[test]
fn a_program_starts_in_its_directory_or_the_root() {
    for (directory, expected) in [("/usr/bin", "/usr/bin"), ("/no/such", "/")] {
        let place = Place { make: world(), directory: Some(directory.into()), ..Place::default() };
        assert_eq!(run("pwd", place).0, expected);
    }
}

#[test]
fn giving_up_root_succeeds_where_there_is_no_other_user() {
    let give_up = "setpriv --reuid 7 --regid 7 --clear-groups id -u";
    for (sole_user, expected) in [(false, ("", Some(127))), (true, ("0", Some(0)))] {
        let place = Place { make: vec![Kind::User], sole_user, ..Place::default() };
        let (seen, code) = run(&format!("{give_up} 2>/dev/null"), place);
        assert_eq!((seen.as_str(), code), expected);
    }
}

#[test]
fn a_missing_program_is_an_error_and_leaves_no_child() {
    for make in [vec![], world()] {
        let place = Place { make, ..Place::default() };
        let error = spawn(Command::new("/no/such/program"), place).expect_err("must fail");
        assert_eq!(error.to_string(), "start /no/such/program");
    }
}

#[test]
fn a_detached_program_lives_in_a_session_of_its_own() {
    let (reader, mut keeper) = std::io::pipe().unwrap();
    let (mut output, writer) = std::io::pipe().unwrap();
    let mut command = shell("cut -d' ' -f6 /proc/self/stat; read line; echo $line");
    command.stdin(reader).stdout(writer).stderr(Stdio::null());
    let process = spawn(command, Place { detached: true, ..Place::default() }).expect("spawn");
    process.reap().expect_err("it is not our child");
    keeper.write_all(b"done\n").unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let (session, rest) = text.split_once('\n').unwrap();
    let ours = std::fs::read_to_string("/proc/self/stat").unwrap();
    assert_ne!(Some(session), ours.rsplit(')').next().unwrap().split(' ').nth(4));
    assert_eq!(rest, "done\n");
    assert!(process.wait(Some(Duration::from_secs(5))).expect("wait"), "it ends");
}

#[test]
fn work_is_done_inside_a_network_namespace() {
    if !kernel::process::may_administer().expect("capabilities") {
        return inside_user_namespace();
    }
    let netns = namespace::make_net().expect("make");
    let devices = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap().lines().count();
    assert_eq!(namespace::in_netns(&netns, devices).expect("enter"), 3, "only lo");
    let seen =
        namespace::in_netns(&netns, || Namespace::current(Kind::Net).expect("current").is(&netns));
    assert!(seen.expect("enter"));
    assert!(
        !Namespace::current(Kind::Net).expect("current").is(&netns),
        "the caller stays outside"
    );
}

/// An ordinary user may make network namespaces only inside a user namespace: run this very test there.
fn inside_user_namespace() {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "spawn::work_is_done_inside_a_network_namespace"]);
    let place = Place { make: world(), ..Place::default() };
    let status = spawn(command, place).expect("spawn").reap().expect("reap");
    assert!(status.success());
}

#[test]
fn a_directory_shows_at_another_place_for_one_program_only() {
    let base = std::env::temp_dir().join(format!("podway-binds-{}", std::process::id()));
    let (from, to) = (base.join("from"), base.join("to"));
    std::fs::create_dir_all(&from).unwrap();
    std::fs::create_dir_all(&to).unwrap();
    std::fs::write(from.join("file"), "shown").unwrap();
    let kinds = || world().into_iter().filter(|kind| matches!(kind, Kind::User | Kind::Mount));
    let place = |to: &Path| Place {
        make: kinds().collect(),
        binds: vec![(from.clone(), to.to_owned())],
        ..Place::default()
    };
    let file = to.join("file");
    let script = format!("cat {}", file.display());
    assert_eq!(run(&script, place(&to)), ("shown".into(), Some(0)));
    assert!(!file.exists(), "nobody else sees it");
    let missing = spawn(shell("true"), place(&base.join("none")));
    assert!(missing.is_err(), "a place that is not there is said");
    let gone = Place { binds: vec![(base.join("none"), to)], ..place(&base) };
    assert_eq!(run("echo started", gone), ("started".into(), Some(0)));
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn a_program_has_a_root_of_its_own() {
    let base = std::env::temp_dir().join(format!("podway-root-{}", std::process::id()));
    let names =
        ["bin", "lib", "lib64", "usr"].map(|name| (Path::new("/").join(name), base.join(name)));
    let there: Vec<_> = names.into_iter().filter(|(from, _)| from.exists()).collect();
    there.iter().for_each(|(_, to)| std::fs::create_dir_all(to).unwrap());
    std::fs::create_dir(base.join("own")).unwrap();
    let kinds = world().into_iter().filter(|kind| matches!(kind, Kind::User | Kind::Mount));
    let root = (base.clone(), PathBuf::from("/"));
    let after = (PathBuf::from("/bin"), PathBuf::from("/own"));
    let binds = there.into_iter().chain([root, after]).collect();
    let place = Place { make: kinds.collect(), binds, ..Place::default() };
    let (listed, code) = run("pwd; echo /*; test -e /own/sh", place);
    assert_eq!(code, Some(0), "{listed}");
    assert!(listed.starts_with("/\n/bin ") && listed.ends_with("/own /usr"), "{listed}");
    assert!(base.join("usr").read_dir().unwrap().next().is_none(), "nobody else sees it");
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn a_program_has_a_machine_name_of_its_own() {
    let place = |hostname: &str| {
        let hostname = Some(hostname.to_owned());
        Place { make: world(), hostname, ..Place::default() }
    };
    assert_eq!(run("uname -n", place("web-1")), ("web-1".into(), Some(0)));
    assert_ne!(run("uname -n", Place::default()).0, "web-1", "the caller keeps its own");
    let too_long = spawn(shell("true"), place(&"x".repeat(65)));
    assert!(too_long.is_err(), "{too_long:?}");
}
