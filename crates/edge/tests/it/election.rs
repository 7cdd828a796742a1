//! Two edges on one segment.

use crate::probe::{isolated, wait_for_announcements};
use crate::segment::{Segment, VIP, run, wait};

#[test]
fn the_better_one_is_active_and_the_other_takes_over() {
    isolated("election::the_better_one_is_active_and_the_other_takes_over", || {
        let segment = Segment::new();
        let (a, b) = (segment.host("a", 110), segment.host("b", 111));
        let client = segment.host("client", 2);
        let second = b.edge(100, true, "");
        second.wait(&["active"]);
        let ears = client.listen_arp();
        let first = a.edge(200, true, "");
        first.wait(&["active"]);
        wait_for_announcements(&ears, a.mac(), 5);
        second.wait(&["backup"]);
        assert_eq!((a.holds_vip(), b.holds_vip()), (true, false));

        first.terminate();
        assert!(!a.holds_vip(), "a clean shutdown leaves nothing");
        second.wait(&["active"]);
        wait_for_announcements(&ears, b.mac(), 5);
    });
}

#[test]
fn a_killed_one_is_replaced_and_adopts_or_gives_up_what_it_left() {
    isolated("election::a_killed_one_is_replaced_and_adopts_or_gives_up_what_it_left", || {
        let segment = Segment::new();
        let (a, b) = (segment.host("a", 110), segment.host("b", 111));
        let first = a.edge(200, false, "");
        first.wait(&["active"]);
        let second = b.edge(100, false, "");
        second.wait(&["backup"]);

        drop(first);
        assert!(a.holds_vip(), "a killed process cannot clean up");
        let first = a.edge(200, false, "");
        first.wait(&["active"]);
        assert!(a.holds_vip());

        drop(first);
        second.wait(&["active"]);
        let first = a.edge(200, false, "");
        first.wait(&["backup"]);
        wait("the address that was left", || (!a.holds_vip()).then_some(()));
        assert!(b.holds_vip());
    });
}

#[test]
fn a_stalled_one_does_not_fight() {
    isolated("election::a_stalled_one_does_not_fight", || {
        let segment = Segment::new();
        let (a, b) = (segment.host("a", 110), segment.host("b", 111));
        let first = a.edge(200, false, "");
        first.wait(&["active"]);
        let second = b.edge(100, false, "");
        second.wait(&["backup"]);
        first.signal("STOP");
        second.wait(&["active"]);
        first.signal("CONT");
        first.wait(&["backup"]);
        assert_eq!((a.holds_vip(), b.holds_vip()), (false, true));
    });
}

#[test]
fn addresses_taken_away_and_interfaces_that_return() {
    isolated("election::addresses_taken_away_and_interfaces_that_return", || {
        let segment = Segment::new();
        let a = segment.host("a", 110);
        let edge = a.edge(200, true, "");
        edge.wait(&["active"]);
        run(&format!("ip -n a address delete {VIP}/32 dev eth0"));
        wait("the address to come back", || a.holds_vip().then_some(()));
        run("ip link delete dev a");
        edge.wait(&["initialize"]);
        run("ip link add name a type veth peer name eth0 netns a");
        run("ip link set dev a master underlay up");
        run("ip -n a link set eth0 up");
        run("ip -n a address add 10.1.1.110/24 dev eth0");
        edge.wait(&["active"]);
        assert!(a.holds_vip());
    });
}
