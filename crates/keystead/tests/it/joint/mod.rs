//! The joint: a cluster under the customer's key that freezes and thaws, measured.
//!
//! `cargo xtask test` runs each scenario with few cycles; `cargo xtask soak joint` sets
//! KEYSTEAD_SOAK=joint and runs the full counts. Figures are printed as `FIGURE …` lines.

pub(crate) mod figures;
mod kills;
pub(crate) mod load;
mod neighbours;
pub(crate) mod outages;
pub(crate) mod owner;
mod pgbench;
pub(crate) mod proxy;
mod revoke;
mod sentinel;
pub(crate) mod stage;

use figures::Figures;
use load::Load;
use pgbench::Pgbench;
use revoke::{Asked, Way};
use stage::Stage;

use crate::world::{World, WorldOptions};

/// The sampled count in `test`, the full one in `soak`.
pub(crate) fn count(sample: usize, full: usize) -> usize {
    crate::count("joint", sample, full)
}

#[test]
fn revocation_freezes_within_one_second_and_repair_thaws_within_two() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("revoked");
    let mut figures = Figures::default();
    let load = Load::start(&cluster.postgres, 4);
    let pgbench = Pgbench::start(&cluster.postgres);
    for way in Way::ALL {
        let asked = Asked { way, cycles: count(2, 10), label: "", show_cause: true };
        revoke::run(&stage, &cluster, &load, &asked, &mut figures);
    }
    // The data plane does not need control: the same with control dead.
    let down = stage.world.hold_down("control");
    for way in [Way::Disable, Way::Policy, Way::Deletion] {
        let asked = Asked { way, cycles: count(1, 10), label: "control dead, ", show_cause: false };
        revoke::run(&stage, &cluster, &load, &asked, &mut figures);
    }
    drop(down);
    pgbench.finish();
    let tally = load.finish();
    figures.say(format!(
        "rows acknowledged {}, missing {}, present unacknowledged {}",
        tally.acked,
        tally.missing.len(),
        tally.unacked_present
    ));
    tally.assert_whole();
    figures.assert_within_bars();
    stage.world.stop();
}

#[test]
fn a_cut_network_closes_within_silence_and_opens_when_mended() {
    outages::network_cut();
}

#[test]
fn a_stopped_node_commits_nothing_and_wakes_to_a_closed_gate() {
    outages::node_stopped();
}

#[test]
fn a_short_outage_of_kms_freezes_nobody_and_a_long_one_does() {
    outages::kms_down();
}

#[test]
fn neighbours_do_not_feel_a_freeze() {
    neighbours::run();
}

#[test]
fn kill_9_of_kms_node_and_control_loses_nothing() {
    kills::run();
}
