use super::lab::{assert_same, in_namespace, picture, run, two_links};
use crate::{Changes, forget_marked};

#[test]
fn a_mark_leads_to_its_link_and_moves_and_comes_back() {
    in_namespace("tests::marks::a_mark_leads_to_its_link_and_moves_and_comes_back", || {
        let _router = two_links();
        run("ip route add 203.0.113.9/32 via 10.1.0.1 dev wan0");
        let before = picture();
        let mut changes = Changes::unjournaled().unwrap();
        let tables = ["wan0", "wan1"].map(|name| changes.route_link(name).unwrap());
        for (mark, table) in [7, 8].into_iter().zip(tables) {
            changes.mark_link(mark, table).unwrap();
        }
        let way = |mark: u32, to: &str| run(&format!("ip route get {to} mark {mark}"));
        assert!(way(7, "198.51.100.7").contains("dev wan0"));
        assert!(way(8, "198.51.100.7").contains("dev wan1"));
        assert!(way(8, "2001:db8:f::1").contains("dev wan1"));
        assert!(way(8, "203.0.113.9").contains("dev wan0"), "a route of its own");
        changes.move_mark(8, Some(tables[0])).unwrap();
        assert!(way(8, "198.51.100.7").contains("dev wan0"));
        assert!(way(8, "2001:db8:f::1").contains("dev wan0"));
        changes.move_mark(8, Some(tables[1])).unwrap();
        assert!(way(8, "198.51.100.7").contains("dev wan1"));
        changes.move_mark(8, None).unwrap();
        assert!(way(8, "198.51.100.7").contains("dev wan1"));
        // Nothing was tracked here, so there is nothing to forget.
        forget_marked(8).unwrap();
        changes.unmark_link(7).unwrap();
        assert!(way(7, "198.51.100.7").contains("dev wan0"), "main's own choice");
        drop(changes);
        assert_same(&before, &picture());
    });
}
