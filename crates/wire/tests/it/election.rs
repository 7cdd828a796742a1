//! The virtual router, one row at a time (RFC 9568 §6.4).

use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use std::time::Duration;
use wire::machine::vrrp::{Action, Config, Event, Router, State};
use wire::vrrp::{Addresses, Advertisement, Centiseconds, Interval};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 200);
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 110);

fn config(priority: u8, preempt: bool) -> Config {
    Config {
        vrid: NonZeroU8::new(51).unwrap(),
        priority: NonZeroU8::new(priority).unwrap(),
        interval: Interval::V3(Centiseconds::new(10).unwrap()),
        preempt,
        source: SOURCE,
        addresses: Addresses::new(vec![VIP]).unwrap(),
    }
}

fn advertisement(priority: u8, centiseconds: u16) -> Advertisement {
    Advertisement {
        vrid: NonZeroU8::new(51).unwrap(),
        priority,
        interval: Interval::V3(Centiseconds::new(centiseconds).unwrap()),
        addresses: Addresses::new(vec![VIP]).unwrap(),
    }
}

fn heard(last_octet: u8, priority: u8) -> Event {
    Event::Advertisement {
        from: Ipv4Addr::new(10, 1, 1, last_octet),
        advertisement: advertisement(priority, 10),
    }
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn send(priority: u8) -> Action {
    Action::Send(advertisement(priority, 10))
}

fn take_over(priority: u8) -> Vec<Action> {
    vec![send(priority), Action::AddAddresses(vec![VIP]), Action::Announce(vec![VIP])]
}

fn backup(priority: u8, preempt: bool) -> Router {
    let mut router = Router::new(config(priority, preempt));
    assert_eq!(router.on_event(at(0), Event::Startup { holding: false }), []);
    assert_eq!(router.state(), State::Backup);
    router
}

fn active(priority: u8, preempt: bool) -> Router {
    let mut router = backup(priority, preempt);
    assert_eq!(router.on_event(at(400), Event::Timer), take_over(priority));
    assert_eq!(router.state(), State::Active);
    router
}

#[test]
fn the_owner_is_active_at_once() {
    let mut router = Router::new(config(255, true));
    assert_eq!(router.on_event(at(0), Event::Startup { holding: false }), take_over(255));
}

#[test]
fn silence_makes_a_backup_active_after_three_intervals_and_the_skew() {
    let router = backup(156, true);
    // 3 × 100 ms + (256 − 156) × 100 ms / 256
    assert_eq!(
        router.next_timer(),
        Some(Duration::from_micros(339_062) + Duration::from_nanos(500))
    );
}

#[test]
fn a_backup_decides_what_to_heed() {
    // priority, preempt, heard, the timer it leads to in ms (None: as before)
    let rows = [
        (128, true, 200, Some(1000 + 350)),
        (128, true, 128, Some(1000 + 350)),
        (128, true, 100, None),
        (128, false, 100, Some(1000 + 350)),
        (128, true, 0, Some(1000 + 50)),
    ];
    for (priority, preempt, other, timer) in rows {
        let mut router = backup(priority, preempt);
        let before = router.next_timer();
        assert_eq!(router.on_event(at(1000), heard(111, other)), [], "{other}");
        assert_eq!(router.next_timer(), timer.map(at).or(before), "{priority} {preempt} {other}");
    }
}

#[test]
fn a_backup_learns_the_interval_of_the_active() {
    let mut router = backup(128, true);
    let from = Ipv4Addr::new(10, 1, 1, 111);
    let event = Event::Advertisement { from, advertisement: advertisement(200, 100) };
    assert_eq!(router.on_event(at(0), event), []);
    assert_eq!(router.next_timer(), Some(at(3500)));
}

#[test]
fn an_active_decides_whom_to_yield_to() {
    let stay = vec![send(128), Action::Announce(vec![VIP])];
    let rows = [
        (heard(111, 200), vec![Action::RemoveAddresses(vec![VIP])], State::Backup),
        (heard(111, 128), vec![Action::RemoveAddresses(vec![VIP])], State::Backup),
        (heard(109, 128), stay.clone(), State::Active),
        (heard(111, 100), stay, State::Active),
        (heard(111, 0), vec![send(128)], State::Active),
        (heard(110, 200), vec![], State::Active),
    ];
    for (event, actions, state) in rows {
        let mut router = active(128, true);
        assert_eq!(router.on_event(at(450), event.clone()), actions, "{event:?}");
        assert_eq!(router.state(), state, "{event:?}");
    }
}

#[test]
fn other_routers_versions_and_identifiers_are_not_ours() {
    let mut other = advertisement(200, 10);
    other.vrid = NonZeroU8::new(52).unwrap();
    let mut older = advertisement(200, 10);
    older.interval = Interval::V2(NonZeroU8::new(1).unwrap());
    for advertisement in [other, older] {
        let mut router = active(128, true);
        let from = Ipv4Addr::new(10, 1, 1, 111);
        assert_eq!(router.on_event(at(450), Event::Advertisement { from, advertisement }), []);
    }
}

#[test]
fn an_active_advertises_and_announces_twice() {
    let mut router = active(128, true);
    assert_eq!(router.next_timer(), Some(at(500)));
    assert_eq!(router.on_event(at(500), Event::Timer), [send(128)]);
    for millis in (600..5400).step_by(100) {
        assert_eq!(router.on_event(at(millis), Event::Timer), [send(128)]);
    }
    let both = [send(128), Action::Announce(vec![VIP])];
    assert_eq!(router.on_event(at(5400), Event::Timer), both);
    assert_eq!(router.on_event(at(10400), Event::Timer), [send(128)]);
}

#[test]
fn shutdown_resigns_and_leaves_nothing() {
    let mut router = active(128, true);
    let actions = router.on_event(at(450), Event::Shutdown);
    assert_eq!(actions, [send(0), Action::RemoveAddresses(vec![VIP])]);
    assert_eq!((router.state(), router.next_timer()), (State::Initialize, None));
    assert_eq!(backup(128, true).on_event(at(1), Event::Shutdown), []);
}

#[test]
fn what_a_killed_predecessor_left_is_kept_until_decided() {
    let start = || {
        let mut router = Router::new(config(128, true));
        assert_eq!(router.on_event(at(0), Event::Startup { holding: true }), []);
        router
    };
    let mut undisturbed = start();
    assert_eq!(undisturbed.next_timer(), Some(at(150)));
    assert_eq!(undisturbed.on_event(at(150), Event::Timer), take_over(128));
    for other in [200, 100] {
        let mut replaced = start();
        let actions = replaced.on_event(at(20), heard(111, other));
        assert_eq!(actions, [Action::RemoveAddresses(vec![VIP])], "{other}");
    }
    assert_eq!(start().on_event(at(1), Event::Shutdown), [Action::RemoveAddresses(vec![VIP])]);
}

#[test]
fn after_a_stall_the_advertisements_decide() {
    // Without preemption the router that took over meanwhile keeps the addresses.
    let mut polite = active(128, false);
    let removed = [Action::RemoveAddresses(vec![VIP])];
    assert_eq!(polite.on_event(at(2000), heard(111, 100)), removed);
    let mut eager = active(128, true);
    let asserted = [send(128), Action::Announce(vec![VIP])];
    assert_eq!(eager.on_event(at(2000), heard(111, 100)), asserted);
    // Overdue timers are not made up for.
    assert_eq!(eager.next_timer(), Some(at(2100)));
}

#[test]
fn configuration_changes_without_an_election() {
    let other = Ipv4Addr::new(10, 1, 1, 201);
    let mut router = active(128, true);
    let mut changed = config(200, true);
    changed.addresses = Addresses::new(vec![other]).unwrap();
    let actions = router.configure(at(450), changed.clone());
    let sent = Advertisement { addresses: changed.addresses.clone(), ..advertisement(200, 10) };
    let expected = [
        Action::Send(sent),
        Action::RemoveAddresses(vec![VIP]),
        Action::AddAddresses(vec![other]),
        Action::Announce(vec![other]),
    ];
    assert_eq!(actions, expected);
    assert_eq!(router.configure(at(460), changed), []);
}
