//! Revocation and repair, in each of the four ways, under load: how long until the last row, how
//! long until the next one.

use super::figures::{Figures, Series};
use super::load::Load;
use super::sentinel::{Cpu, LATE, Sentinel};
use super::stage::{Cluster, Stage};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) const FENCE: Duration = Duration::from_secs(1);
pub(crate) const THAW: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Disable,
    Policy,
    Deletion,
    Grant,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Disable, Self::Policy, Self::Deletion, Self::Grant];

    fn cause(self) -> &'static str {
        match self {
            Self::Disable => "key-disabled",
            Self::Policy => "policy-denies",
            Self::Deletion => "key-pending-deletion",
            Self::Grant => "grant-revoked",
        }
    }

    /// Revokes; answers the moment of KMS's answer, and what the repair needs.
    fn revoke(self, stage: &Stage, cluster: &Cluster) -> (Instant, Option<String>) {
        let key = json!({"KeyId": cluster.key_arn});
        let owner = &stage.owner;
        match self {
            Self::Disable => (owner.call("DisableKey", key).at, None),
            Self::Policy => {
                let without = json!({"KeyId": cluster.key_arn, "Policy": owner.policy(None)});
                (owner.call("PutKeyPolicy", without).at, None)
            }
            Self::Deletion => {
                let soon = json!({"KeyId": cluster.key_arn, "PendingWindowInDays": 7});
                (owner.call("ScheduleKeyDeletion", soon).at, None)
            }
            Self::Grant => {
                let volumes = stage.world.cli_json(&["volume", "list", &cluster.name, "--json"]);
                let volumes = volumes
                    .as_array()
                    .or_else(|| volumes["volumes"].as_array())
                    .expect("volumes are listed")
                    .clone();
                let volume = volumes
                    .iter()
                    .find(|v| v["disk"] == "search")
                    .expect("the search disk is there");
                let id = volume["volume"].as_str().expect("a volume has an id").to_owned();
                let grant = volume["grant_id"].as_str().expect("its grant is shown");
                let revoke = json!({"KeyId": cluster.key_arn, "GrantId": grant});
                (owner.call("RevokeGrant", revoke).at, Some(id))
            }
        }
    }

    /// Repairs; answers the moment of the repairing answer.
    fn repair(self, stage: &Stage, cluster: &Cluster, volume: Option<&str>) -> Instant {
        let key = json!({"KeyId": cluster.key_arn});
        let owner = &stage.owner;
        match self {
            Self::Disable => owner.call("EnableKey", key).at,
            Self::Policy => {
                let with = json!({"KeyId": cluster.key_arn, "Policy": owner.policy(Some(&cluster.role_arn))});
                owner.call("PutKeyPolicy", with).at
            }
            Self::Deletion => {
                owner.call("CancelKeyDeletion", key.clone());
                owner.call("EnableKey", key).at
            }
            Self::Grant => {
                let volume = volume.expect("a grant's repair names the volume");
                let (status, body) =
                    stage.api("POST", &format!("/v1/volumes/{volume}/regrant"), Value::Null);
                assert!((200..300).contains(&status), "regrant: {status} {body}");
                Instant::now()
            }
        }
    }
}

/// One cycle's figures.
struct Cycle {
    fence: Duration,
    thaw: Duration,
    shown: Duration,
    late: Option<Duration>,
}

fn cycle(
    stage: &Stage,
    cluster: &Cluster,
    load: &Load,
    way: Way,
    sentinel: &Sentinel,
    show_cause: bool,
) -> Cycle {
    let begun = Instant::now();
    let cpu = Cpu::now();
    let (revoked, volume) = way.revoke(stage, cluster);
    let shown = if show_cause {
        stage.wait(&cluster.name, "Frozen", Some(way.cause()), Duration::from_secs(5));
        revoked.elapsed()
    } else {
        Duration::ZERO
    };
    // Long enough that a row after the bar would be seen.
    std::thread::sleep((FENCE + Duration::from_millis(700)).saturating_sub(revoked.elapsed()));
    let end_of_watch = Instant::now();
    let last = load.last_row(revoked, end_of_watch);
    let repaired = way.repair(stage, cluster, volume.as_deref());
    assert_eq!(
        load.last_row(end_of_watch, repaired - Duration::from_millis(1)),
        None,
        "{way:?}: a row while frozen"
    );
    let first = load.first_commit_after(repaired, Duration::from_secs(20)).unwrap_or_else(|| {
        panic!(
            "{way:?}: no commit within 20 s of the repair: {:#}\n{}",
            stage.view(&cluster.name),
            stage.world.log_tails()
        )
    });
    if show_cause {
        stage.wait(&cluster.name, "Ready", None, Duration::from_secs(5));
    }
    let late = sentinel.worst(begun, Instant::now()).filter(|_| Cpu::now().excuses(cpu));
    Cycle {
        fence: last.map_or(Duration::ZERO, |at| at - revoked),
        thaw: first - repaired,
        shown,
        late,
    }
}

/// What is asked of one way.
pub(crate) struct Asked {
    pub(crate) way: Way,
    pub(crate) cycles: usize,
    /// Goes before the figures' names.
    pub(crate) label: &'static str,
    /// Control is there to be asked for phase and cause.
    pub(crate) show_cause: bool,
}

/// The counted cycles of one way; cycles that the sentinel excuses are repeated.
pub(crate) fn run(
    stage: &Stage,
    cluster: &Cluster,
    load: &Load,
    asked: &Asked,
    figures: &mut Figures,
) {
    let Asked { way, cycles, label, show_cause } = *asked;
    let sentinel = Sentinel::start();
    let mut fence = Series::new(format!("{label}{way:?}: last row after KMS's answer"), FENCE);
    let mut thaw = Series::new(format!("{label}{way:?}: first row after the repair"), THAW);
    let mut shown = Series::new(
        format!("{label}{way:?}: cause shown after KMS's answer"),
        Duration::from_secs(3),
    );
    let mut repeats = 0;
    while fence.len() < cycles {
        let one = cycle(stage, cluster, load, way, &sentinel, show_cause);
        let over = one.fence > FENCE || one.thaw > THAW;
        if let Some(late) = one.late.filter(|late| over && *late > LATE) {
            repeats += 1;
            figures.say(format!(
                "{label}{way:?}: repeated, a tick came {late:?} late (fence {:?}, thaw {:?})",
                one.fence, one.thaw
            ));
            assert!(
                repeats * 10 <= 3 * cycles.max(4),
                "machine too noisy: {repeats} repeats in {cycles} cycles"
            );
            continue;
        }
        fence.push(one.fence);
        thaw.push(one.thaw);
        if show_cause {
            shown.push(one.shown);
        }
        // Let the load run between two cycles.
        let resumed = Instant::now();
        load.first_commit_after(resumed + Duration::from_millis(300), Duration::from_secs(5));
    }
    figures.take(fence);
    figures.take(thaw);
    if show_cause {
        figures.take(shown);
    }
}
