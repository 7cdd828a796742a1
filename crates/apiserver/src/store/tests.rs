use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a watcher knows: the resource version of each name.
type View = BTreeMap<String, String>;

fn apply(view: &mut View, event: &Event) {
    let metadata = &event.object.value["metadata"];
    let name = metadata["name"].as_str().unwrap().to_owned();
    match event.action {
        Action::Deleted => assert!(view.remove(&name).is_some(), "deleted what was not there"),
        Action::Added => {
            assert_eq!(view.insert(name, metadata["resourceVersion"].to_string()), None)
        }
        Action::Modified => {
            assert!(view.insert(name, metadata["resourceVersion"].to_string()).is_some())
        }
    }
}

fn now(store: &Store) -> View {
    let version = |(key, object): (&Key, Arc<Object>)| {
        (key.name.clone(), object.value["metadata"]["resourceVersion"].to_string())
    };
    store.list(Kind::Pod, None, None).map(version).collect()
}

proptest! {
    /// Watchers that read at any moments, in pieces of any size, see one and the same history.
    #[test]
    fn every_watcher_sees_the_same_history(
        writes in prop::collection::vec((0_u8..5, any::<bool>(), 0_usize..4, 1_usize..4), 1..120),
    ) {
        let mut store = Store::new(1000, History::default());
        let mut watchers: Vec<(u64, View, Vec<u64>)> = vec![(1000, View::new(), Vec::new()); 4];
        let read = |store: &mut Store, watcher: &mut (u64, View, Vec<u64>), limit: usize| {
            for event in store.log(Kind::Pod).after(watcher.0, u64::MAX, limit).unwrap() {
                apply(&mut watcher.1, &event);
                watcher.2.push(event.revision);
                watcher.0 = event.revision;
            }
        };
        for (name, remove, reader, limit) in writes {
            let key = Key::new("default", &format!("p{name}"));
            if remove {
                store.remove(Kind::Pod, &key);
            } else {
                store.put(Kind::Pod, key.clone(), json!({"metadata": {"name": key.name}}));
            }
            store.put(Kind::Node, Key::new("", "n"), json!({"metadata": {"name": "n"}}));
            read(&mut store, &mut watchers[reader], limit);
        }
        for watcher in &mut watchers {
            read(&mut store, watcher, usize::MAX);
            prop_assert_eq!(&watcher.1, &now(&store));
        }
        prop_assert!(watchers.iter().all(|watcher| watcher.2 == watchers[0].2));
    }

    /// A watcher that comes back either continues without a gap or is told to list again.
    #[test]
    fn a_resumed_watch_misses_nothing(
        writes in prop::collection::vec((0_u8..5, any::<bool>()), 1..80),
        pause in 0_usize..40,
    ) {
        let mut store = Store::new(0, History { events: 8, ..History::default() });
        let (mut cursor, mut view) = (0, View::new());
        for (index, (name, remove)) in writes.into_iter().enumerate() {
            let key = Key::new("default", &format!("p{name}"));
            if remove {
                store.remove(Kind::Pod, &key);
            } else {
                store.put(Kind::Pod, key.clone(), json!({"metadata": {"name": key.name}}));
            }
            if index % (pause + 1) != 0 {
                continue;
            }
            match store.log(Kind::Pod).after(cursor, u64::MAX, usize::MAX) {
                Ok(events) => events.iter().for_each(|event| apply(&mut view, event)),
                Err(Error::Expired { .. }) => view = now(&store),
                Err(error) => panic!("{error}"),
            }
            cursor = store.revision();
            prop_assert_eq!(&view, &now(&store));
        }
    }
}

/// Reads on until number `end`; how often it came too late and had to list.
fn follow(store: &Mutex<Store>, log: &Log, end: &AtomicU64, limit: usize) -> (View, usize) {
    let (mut cursor, mut view, mut lists) = (0, View::new(), 0);
    while cursor < end.load(Ordering::Acquire) {
        match log.after(cursor, u64::MAX, limit) {
            Ok(events) => {
                assert!(events.is_sorted_by_key(|event| event.revision));
                assert!(events.first().is_none_or(|event| event.revision > cursor));
                events.iter().for_each(|event| apply(&mut view, event));
                cursor = events.last().map_or(cursor, |event| event.revision);
            }
            Err(Error::Expired { .. }) => {
                let store = store.lock().unwrap();
                (cursor, view, lists) = (store.revision(), now(&store), lists + 1);
            }
            Err(error) => panic!("{error}"),
        }
        std::thread::yield_now();
    }
    (view, lists)
}

/// Followers need no lock of the store while somebody writes; who is slow lists again, and nobody misses anything.
#[test]
fn a_log_is_followed_while_it_is_written() {
    const WRITES: u64 = 3000;
    let history = History { events: 100, ..History::default() };
    let store = Mutex::new(Store::new(0, history));
    let (log, end) = (store.lock().unwrap().log(Kind::Pod), AtomicU64::new(u64::MAX));
    let views = std::thread::scope(|scope| {
        let followers = [1, 7, usize::MAX].map(|limit| {
            let (store, log, end) = (&store, &log, &end);
            scope.spawn(move || follow(store, log, end, limit))
        });
        for number in 0..WRITES {
            let key = Key::new("default", &format!("p{}", number % 7));
            let mut store = store.lock().unwrap();
            if number % 3 == 2 && store.get(Kind::Pod, &key).is_some() {
                store.remove(Kind::Pod, &key);
            } else {
                store.put(Kind::Pod, key.clone(), json!({"metadata": {"name": key.name}}));
            }
        }
        // Somebody who holds the store for good stops nobody.
        let store = store.lock().unwrap();
        let late = log.after(0, u64::MAX, 1);
        assert!(matches!(late, Err(Error::Expired { .. })), "3000 events are not kept");
        drop(store);
        end.store(WRITES, Ordering::Release);
        followers.map(|it| it.join().unwrap())
    });
    let wanted = now(&store.lock().unwrap());
    views.into_iter().for_each(|(view, lists)| assert_eq!(view, wanted, "after {lists} lists"));
}

#[test]
fn lists_one_namespace_in_pieces() {
    let mut store = Store::new(0, History { events: 8, ..History::default() });
    for (namespace, name) in [("a", "x"), ("b", "x"), ("b", "y"), ("c", "x")] {
        store.put(Kind::Pod, Key::new(namespace, name), json!({"metadata": {}}));
    }
    let names = |namespace, after: Option<&Key>| -> Vec<String> {
        let listed = store.list(Kind::Pod, namespace, after);
        listed.map(|(key, _)| format!("{}/{}", key.namespace, key.name)).collect()
    };
    assert_eq!(names(Some("b"), None), ["b/x", "b/y"]);
    assert_eq!(names(None, Some(&Key::new("b", "x"))), ["b/y", "c/x"]);
    assert_eq!(names(Some("b"), Some(&Key::new("b", "y"))), [""; 0]);
}

#[test]
fn the_history_is_bounded_in_bytes() {
    let history = History { events: 1000, bytes: 50_000 };
    let mut store = Store::new(0, history);
    let large =
        |name: &str| json!({"metadata": {"name": name}, "data": {"text": "x".repeat(1000)}});
    store.put(Kind::Node, Key::new("", "n"), json!({"metadata": {"name": "n"}}));
    for index in 0..200 {
        store.put(Kind::Pod, Key::new("default", "p"), large(&index.to_string()));
        assert!(store.remembered <= history.bytes);
    }
    assert!(store.log(Kind::Pod).after(0, u64::MAX, 1).is_err(), "the oldest are forgotten");
    let kept = store.log(Kind::Pod).after(190, u64::MAX, usize::MAX).unwrap();
    assert_eq!(kept.len(), 11);
    assert_eq!(store.log(Kind::Node).after(0, u64::MAX, 1).unwrap().len(), 1, "others keep theirs");
}

#[test]
fn a_reader_gets_no_more_than_it_may_hold() {
    let mut store = Store::new(0, History::default());
    let large = json!({"metadata": {}, "data": {"text": "x".repeat(400_000)}});
    for _ in 0..8 {
        store.put(Kind::Pod, Key::new("default", "p"), large.clone());
    }
    let piece = store.log(Kind::Pod).after(0, u64::MAX, usize::MAX).unwrap();
    assert!((1..4).contains(&piece.len()), "{}", piece.len());
    assert_eq!(piece[0].revision, 1);
}

#[test]
fn what_is_not_saved_yet_is_not_shown() {
    let mut store = Store::new(0, History::default());
    for name in ["a", "b", "c"] {
        store.put(Kind::Pod, Key::new("default", name), json!({"metadata": {"name": name}}));
    }
    let shown = store.log(Kind::Pod).after(0, 2, usize::MAX).unwrap();
    assert_eq!(shown.iter().map(|event| event.revision).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn trees_are_kept_of_the_latest_writes_only() {
    let mut store = Store::new(0, History::default());
    let object =
        |name: &str| json!({"metadata": {"name": name}, "data": {"text": "x".repeat(10_000)}});
    for index in 0..400 {
        let name = index.to_string();
        store.put(Kind::Pod, Key::new("default", &name), object(&name));
    }
    assert!(store.warm_size <= WARM);
    let old = store.get(Kind::Pod, &Key::new("default", "0")).unwrap();
    assert_eq!(old.value["metadata"]["name"], "0");
    let place = |name| &store.tables[&Kind::Pod].objects[&Key::new("default", name)];
    assert!(!place("0").is_warm() && place("399").is_warm());
}
