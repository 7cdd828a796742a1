//! A store whose process is killed, over and over, while many write at once.

use super::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

/// Tells this test program to be the process that is killed, with its store there.
const DIRECTORY: &str = "PODWAY_TEST_STORE";
/// More kills take longer and find more.
const KILLS: &str = "PODWAY_TEST_KILLS";
const WRITERS: usize = 6;

/// Each batch writes two objects that belong together, and adds or removes a third: `left-W` and `right-W` hold the
/// batch's number, `odd-W` is there after odd ones.
fn change(store: &mut Store, writer: usize, number: u64) -> Batch {
    let key = |side: &str| Key::new("default", &format!("{side}-{writer}"));
    for side in ["left", "right"] {
        let object = json!({"metadata": {"name": key(side).name, "uid": key(side).name}, "data": {"n": number}});
        store.put(Kind::ConfigMap, key(side), object);
    }
    if number % 2 == 1 {
        let object = json!({"metadata": {"name": key("odd").name, "uid": key("odd").name}});
        store.put(Kind::Secret, key("odd"), object);
    } else {
        store.remove(Kind::Secret, &key("odd"));
    }
    store.take_batch().expect("something was written")
}

fn opened(directory: &Path) -> (Disk, Store) {
    let disk = Disk::open(directory).expect("the file is whole");
    let mut kept = disk.load().expect("the file is whole");
    let mut store = Store::resumed(&kept, History::default());
    for kind in [Kind::ConfigMap, Kind::Secret] {
        let name = kind.resource().qualified();
        let objects = kept.objects.remove(&name).unwrap_or_default();
        store.restore(kind, kept.latest.get(&name).copied(), objects);
    }
    (disk, store)
}

fn number_of(store: &Store, side: &str, writer: usize) -> Option<u64> {
    let object = store.get(Kind::ConfigMap, &Key::new("default", &format!("{side}-{writer}")))?;
    object.value["data"]["n"].as_u64()
}

/// Writes until it is killed; a line for each write that was acknowledged.
#[test]
fn the_process_that_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let (disk, store) = opened(&directory);
    let journal = Journal::start(disk, store.revision(), |_batch| (), |_kept, _discard| ())
        .expect("a thread");
    let (store, begin) = (Mutex::new(store), Barrier::new(WRITERS));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, journal, begin) = (&store, &journal, &begin);
            scope.spawn(move || {
                let mut number = number_of(&store.lock().unwrap(), "left", writer).unwrap_or(0);
                begin.wait();
                loop {
                    number += 1;
                    let revision = append(store, journal, writer, number);
                    assert!(wait(journal, revision), "the disk failed");
                    println!("{writer} {number} {revision}");
                }
            });
        }
    });
}

fn append(store: &Mutex<Store>, journal: &Journal, writer: usize, number: u64) -> u64 {
    let mut store = store.lock().unwrap();
    let batch = change(&mut store, writer, number);
    let revision = batch.revision;
    journal.append(batch);
    revision
}

fn wait(journal: &Journal, revision: u64) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut saved = journal.saved();
        let enough =
            |saved: &Saved| !matches!(saved, Saved::Until(mark) if mark.revision < revision);
        matches!(saved.wait_for(enough).await.as_deref(), Ok(Saved::Until(_)))
    })
}

fn start(directory: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store::kills::the_process_that_is_killed", "--nocapture"]);
    command.env(DIRECTORY, directory).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// Reads what was acknowledged until the process has acknowledged `count` writes; then kills it and reads the rest.
fn run_and_kill(directory: &Path, count: usize, pause: Duration) -> Vec<[u64; 3]> {
    let (mut child, mut lines) = start(directory);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    while acknowledged.len() < count && Instant::now() < deadline {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended by itself");
        acknowledged.extend(parse(&line));
    }
    // Not at the end of a write, but anywhere in the next.
    std::thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged.extend(lines.lines().map_while(Result::ok).filter_map(|line| parse(&line)));
    acknowledged
}

/// A last line may be torn.
fn parse(line: &str) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    numbers.try_into().ok()
}

#[test]
fn killed_at_any_moment_it_loses_nothing_acknowledged_and_keeps_nothing_half() {
    let kills = std::env::var(KILLS).ok().and_then(|it| it.parse().ok()).unwrap_or(25_usize);
    let directory = std::env::temp_dir().join(format!("podway-kills-{}", std::process::id()));
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    let mut revision = 0;
    for kill in 0..kills {
        let pause = Duration::from_micros(kill as u64 * 7919 % 6000);
        for [writer, number, saved] in run_and_kill(&directory, 1 + kill % 20, pause) {
            let before = last.insert(writer, number).unwrap_or(0);
            assert!(number > before, "writer {writer} went back from {before} to {number}");
            revision = saved.max(revision);
        }
        let (_disk, store) = opened(&directory);
        assert!(store.revision() >= revision, "revision {} after {revision}", store.revision());
        for writer in 0..WRITERS {
            let number = number_of(&store, "left", writer).unwrap_or(0);
            let acknowledged = last.get(&(writer as u64)).copied().unwrap_or(0);
            assert!(number >= acknowledged, "write {acknowledged} of {writer} is lost: {number}");
            assert_eq!(number_of(&store, "right", writer).unwrap_or(0), number, "a half write");
            let odd = store.get(Kind::Secret, &Key::new("default", &format!("odd-{writer}")));
            assert_eq!(odd.is_some(), number % 2 == 1, "a half write");
            last.insert(writer as u64, number);
        }
        revision = store.revision();
    }
    std::fs::remove_dir_all(directory).unwrap();
}
