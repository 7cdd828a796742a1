//! One router of ours and one of Debian's keepalived on the same segment.

use crate::peer::Keepalived;
use crate::probe::isolated;
use crate::segment::{Host, Segment, wait};

fn wait_for_vip(host: &Host) {
    wait(&format!("the address on {}", host.name), || host.holds_vip().then_some(()));
}

#[test]
fn each_takes_over_from_the_other() {
    isolated("keepalived::each_takes_over_from_the_other", || {
        let segment = Segment::new();
        let (a, b) = (segment.host("a", 110), segment.host("b", 111));
        let theirs = Keepalived::start(&b, 150, true);
        wait_for_vip(&b);

        // Ours is better and preempts; when it resigns, theirs returns.
        let ours = a.edge(200, true, "");
        ours.wait(&["active"]);
        wait("keepalived to yield", || (!b.holds_vip()).then_some(()));
        ours.terminate();
        wait_for_vip(&b);

        // Ours is worse and waits; theirs resigns with priority 0.
        let ours = a.edge(100, true, "");
        ours.wait(&["backup"]);
        theirs.terminate();
        ours.wait(&["active"]);
        assert_eq!((a.holds_vip(), b.holds_vip()), (true, false));

        // Theirs comes back and preempts.
        let theirs = Keepalived::start(&b, 150, true);
        ours.wait(&["backup"]);
        wait_for_vip(&b);
        wait("the address to be gone", || (!a.holds_vip()).then_some(()));
        theirs.terminate();
        ours.wait(&["active"]);
    });
}

#[test]
fn without_preemption_nobody_takes_what_is_held() {
    isolated("keepalived::without_preemption_nobody_takes_what_is_held", || {
        let segment = Segment::new();
        let (a, b) = (segment.host("a", 110), segment.host("b", 111));
        let theirs = Keepalived::start(&b, 100, false);
        wait_for_vip(&b);
        let ours = a.edge(200, false, "");
        ours.wait(&["backup"]);
        // It would have preempted by now: it hears ten advertisements a second.
        assert!(ours.is_silent_for(std::time::Duration::from_secs(1)));
        assert_eq!((a.holds_vip(), b.holds_vip()), (false, true));
        theirs.terminate();
        ours.wait(&["active"]);
        let theirs = Keepalived::start(&b, 250, false);
        assert!(ours.is_silent_for(std::time::Duration::from_secs(1)));
        assert_eq!((a.holds_vip(), b.holds_vip()), (true, false));
        ours.terminate();
        wait_for_vip(&b);
        theirs.terminate();
    });
}
