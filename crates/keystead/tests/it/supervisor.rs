//! What the supervisor promises by itself.

use crate::world::{World, WorldOptions};
use std::time::Duration;

#[test]
fn a_killed_supervisor_leaves_the_holder_and_the_next_one_adopts_it() {
    let mut world = World::start(WorldOptions::default());
    let (holder, node, api) =
        (world.pid("hold"), world.pid("node"), world.env("KEYSTEAD_API").to_owned());
    let token = world.env("KEYSTEAD_TOKEN").to_owned();
    world.kill_supervisor();
    assert_eq!(world.pid("hold"), holder, "the holder was started anew");
    world.wait_for_new("node", node, Duration::from_secs(5));
    assert_eq!(world.env("KEYSTEAD_API"), api, "the port was not kept");
    assert_eq!(world.env("KEYSTEAD_TOKEN"), token, "the owner's token was not kept");
    world.stop();
}
