//! A machine behind this one, which has it as its router.

use std::process::Command;

use bondwire_netns::Node;
use rustix::thread::gettid;

use crate::support::{Ended, Process, in_lab, seconds};
use crate::world::{HTTP, World};

/// Runs `ip` on a machine.
#[track_caller]
fn ip(node: &Node, line: &str) {
    let mut command = Command::new("ip");
    command.args(line.split(' '));
    Process::start(node, command).wait_end(seconds(5)).assert_done();
}

/// A machine on a cable to the client, whose end of it is `lan0`.
pub(crate) fn machine_behind(client: &Node) -> Node {
    let pc = Node::new("pc").expect("a machine");
    let thread = pc.run(gettid).as_raw_nonzero();
    ip(client, &format!("link add lan0 type veth peer name eth0 netns {thread}"));
    ip(client, "address add 192.168.77.1/24 dev lan0");
    ip(client, "link set lan0 up");
    ip(&pc, "address add 192.168.77.2/24 dev eth0");
    ip(&pc, "link set eth0 up");
    ip(&pc, "route add default via 192.168.77.1");
    pc
}

fn curl(node: &Node, url: &str) -> Ended {
    let mut command = Command::new("curl");
    command.args(["-sS", "-o", "/dev/null", "--noproxy", "*", "--max-time", "10", url]);
    Process::start(node, command).wait_end(seconds(20))
}

#[test]
fn machines_behind_this_one_are_spread() {
    in_lab("lan::machines_behind_this_one_are_spread", || {
        let mut world = World::twin();
        let pc = machine_behind(world.lab.client());
        let before = world.side.snapshot();
        world.balance(&["--lan", "lan0"]);
        let url = world.url(HTTP, 1000);
        for _ in 0..12 {
            curl(&pc, &url).assert_done();
        }
        let shares = world.shares();
        println!("shares: {shares:?}");
        assert_eq!(shares.iter().sum::<usize>(), 12, "each came with a link's own address");
        assert!(shares.iter().all(|count| *count >= 4), "{shares:?}");
        world.lab.silence("line1").expect("a link");
        world.wait_state("line1", &["down"], seconds(6));
        world.web.forget();
        for _ in 0..4 {
            curl(&pc, &url).assert_done();
        }
        assert_eq!(world.shares(), [4, 0]);
        world.side.stop().assert_done();
        world.side.snapshot().assert_same(&before);
    });
}
