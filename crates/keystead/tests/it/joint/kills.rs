//! kill -9 of kms, node and control at random moments under load: no client error, no long gap,
//! nothing acknowledged lost, and every call that KMS answered has its trail record.

use super::count;
use super::figures::{Figures, Series};
use super::load::Load;
use super::outages::signal;
use super::stage::Stage;
use crate::world::{Random, World, WorldOptions};
use serde_json::json;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(super) fn run() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("killed");
    let mut random = Random::from_environment();
    let mut figures = Figures::default();
    let answered = owner_calls_while(&stage, &cluster.key_arn, || {
        for role in ["kms", "node", "control"] {
            let load = Load::start(&cluster.postgres, 4);
            let mut gaps = Series::new(
                format!("kill -9 of {role}: longest time without a commit"),
                Duration::from_secs(2),
            );
            for _ in 0..count(2, 10) {
                std::thread::sleep(Duration::from_millis(200 + random.below(1800)));
                let begun = Instant::now();
                let killed = stage.world.pid(role);
                signal(killed, libc::SIGKILL);
                stage.world.wait_for_new(role, killed, Duration::from_secs(5));
                stage.wait(&cluster.name, "Ready", None, Duration::from_secs(10));
                std::thread::sleep(Duration::from_millis(300));
                gaps.push(load.longest_gap(begun, Instant::now()));
            }
            let tally = load.finish();
            figures.say(format!(
                "kill -9 of {role}: {} rows acknowledged, {} missing, {} client errors",
                tally.acked,
                tally.missing.len(),
                tally.errors.len()
            ));
            tally.assert_whole();
            figures.take(gaps);
        }
    });
    let recorded = stage.world.trail_request_ids();
    let unrecorded: Vec<&String> = answered.iter().filter(|id| !recorded.contains(*id)).collect();
    figures.say(format!(
        "kill -9: {} answered calls of the owner, {} without a trail record",
        answered.len(),
        unrecorded.len()
    ));
    assert!(unrecorded.is_empty(), "answered without a trail record: {unrecorded:?}");
    assert!(answered.len() > 20, "the owner hardly called: {}", answered.len());
    let verify = stage.world.audit_verify();
    assert!(verify.status.success(), "audit verify: {verify:?}");
    figures.assert_within_bars();
    stage.world.stop();
}

/// The request ids of the owner's calls that KMS answered while `work` ran.
fn owner_calls_while(stage: &Stage, key: &str, work: impl FnOnce()) -> HashSet<String> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut answered = HashSet::new();
            while !stop.load(Ordering::Relaxed) {
                let input = json!({"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": {"test": "kills"}});
                if let Ok(answer) = stage.owner.try_call("GenerateDataKey", &input)
                    && answer.status == 200
                {
                    answered.insert(answer.request_id);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            answered
        });
        // The caller ends also when `work` panics.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let answered = caller.join().expect("the caller does not panic");
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        answered
    })
}
