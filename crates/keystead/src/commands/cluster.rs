//! `keystead cluster`.

use super::progress::Progress;
use super::{client, json, or_dash, preflight, table, word};
use crate::cli::{ClusterArgs, ClusterCommand};
use crate::failure::Failure;
use crate::out::say;
use anyhow::Result;
use keystead_control::client::{Client, ClientError};
use keystead_control::wire::{Associate, ClusterView, CreateCluster, Phase, RegionView};
use keystead_types::{Region, Revocation};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs it.
pub(crate) async fn run(args: ClusterArgs) -> Result<ExitCode> {
    match args.command {
        ClusterCommand::Create {
            name,
            region,
            backup_region,
            encryption,
            template,
            evict_after,
            api,
            format,
        } => {
            let region = parsed_region(&region)?;
            let backup_region = backup_region.as_deref().map(parsed_region).transpose()?;
            let body =
                CreateCluster { name, region, backup_region, encryption, template, evict_after };
            show(&client(&api)?.create_cluster(&body).await?, format.json)?;
        }
        ClusterCommand::List { api, format } => list(client(&api)?.clusters().await?, format.json)?,
        ClusterCommand::Get { name, api, format } => {
            show(&client(&api)?.cluster(&name).await?, format.json)?;
        }
        ClusterCommand::Watch { name, until, timeout, api, format } => {
            let view = watch(&client(&api)?, &name, phase(&until)?, span(&timeout)?).await?;
            show(&view, format.json)?;
        }
        ClusterCommand::Associate { name, key_arn, backup_key_arn, revocation, api, format } => {
            let client = client(&api)?;
            let key_arns: Vec<String> = std::iter::once(key_arn).chain(backup_key_arn).collect();
            let results = preflight::perform(&client, &name, &key_arns).await?;
            if !preflight::passed(&results) {
                preflight::show(&results, format.json)?;
                return Ok(ExitCode::FAILURE);
            }
            if !format.json {
                preflight::show(&results, false)?;
            }
            let body = Associate { key_arns, revocation: revocation.map(Into::into) };
            show(&client.associate(&name, &body).await?, format.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parsed_region(text: &str) -> Result<Region> {
    text.parse().map_err(|e| {
        Failure::new(format!("`{text}` is no Region"))
            .why(format!("{e}"))
            .fix("write it as eu-central-1")
            .into()
    })
}

const ROUND: Duration = Duration::from_secs(1);
/// Control that does not answer is asked again after this: it may be starting again.
const AGAIN: Duration = Duration::from_millis(250);

async fn watch(client: &Client, name: &str, until: Phase, limit: Duration) -> Result<ClusterView> {
    let begun = Instant::now();
    let progress = Progress::start();
    let mut last = "control is asked".to_owned();
    loop {
        progress.say(&format!("{name}: waiting for {until}; {last}"));
        let left = limit.saturating_sub(begun.elapsed());
        match client.watch(name, Some(until), left.min(ROUND)).await {
            Ok(view) if view.phase == until => return Ok(view),
            Ok(view) => last = format!("it is {}: {}", view.phase, view.message),
            Err(e @ ClientError::Transport(_)) if !e.is_setting() => {
                if begun.elapsed() >= limit {
                    return Err(e.into());
                }
                "control does not answer".clone_into(&mut last);
                tokio::time::sleep(AGAIN.min(left)).await;
            }
            Err(e) => return Err(e.into()),
        }
        if begun.elapsed() >= limit {
            return Err(Failure::new(format!("{name} is not {until} after {limit:?}"))
                .why(last)
                .fix(format!("keystead why {name}"))
                .into());
        }
    }
}

fn phase(text: &str) -> Result<Phase> {
    serde_json::from_value(text.into()).map_err(|_| {
        Failure::new(format!("`{text}` is no phase"))
            .fix("one of Creating, AwaitingKey, Provisioning, Starting, Ready, Frozen, Dead, Unknown")
            .into()
    })
}

fn span(text: &str) -> Result<Duration> {
    let refuse =
        || Failure::new(format!("`{text}` is no span")).fix("write it as 500ms, 60s or 5m");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
    let count: u64 = text[..at].parse().map_err(|_| refuse())?;
    let ms = match &text[at..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(refuse().into()),
    };
    Ok(Duration::from_millis(count.checked_mul(ms).ok_or_else(refuse)?))
}

fn list(clusters: Vec<ClusterView>, as_json: bool) -> Result<()> {
    if as_json {
        return json(&clusters);
    }
    let row = |c: ClusterView| {
        [c.name, c.region.to_string(), c.phase.to_string(), or_dash(c.cause), c.message]
    };
    table(["NAME", "REGION", "PHASE", "CAUSE", "MESSAGE"], clusters.into_iter().map(row).collect());
    Ok(())
}

fn show(view: &ClusterView, as_json: bool) -> Result<()> {
    if as_json {
        return json(view);
    }
    let keys: Vec<String> = view.key_arns.iter().map(ToString::to_string).collect();
    say!("name         {} ({})", view.name, view.id);
    match &view.backup_region {
        None => say!("region       {}", view.region),
        Some(backup) => say!("region       {}, backup: {backup}", view.region),
    }
    say!("phase        {}", view.phase);
    if let Some(cause) = view.cause {
        say!("cause        {cause}");
    }
    say!("message      {}", view.message);
    say!("tenant role  {}", or_dash(view.tenant_role_arn.as_ref()));
    say!(
        "key          {}, held by: {}",
        or_dash((!keys.is_empty()).then(|| keys.join(", "))),
        view.key_held_by
    );
    if let Some(revocation) = view.revocation {
        let freezes = match revocation {
            Revocation::Any => "a refusal by either key freezes both Regions",
            Revocation::Each => "a refusal by a key freezes its own Region",
        };
        say!("revocation   {revocation}: {freezes}");
    }
    say!("postgres     {}", or_dash(view.endpoints.postgres.as_ref()));
    say!("s3           {}", or_dash(view.endpoints.s3.as_ref()));
    if view.backup_region.is_some() {
        view.regions.iter().for_each(region);
    }
    if let Some(replication) = &view.replication {
        say!(
            "replication  {} pending, {} ms behind{}",
            replication.pending,
            replication.lag_ms,
            replication.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default()
        );
    }
    if let Some(at) = &view.evict_at {
        say!("evicted at   {at}");
    }
    for condition in &view.conditions {
        let line = format!("{:<16} {:<8} {}", condition.kind, condition.status, condition.reason);
        say!("  {}", format!("{line} {}", condition.message).trim_end());
    }
    Ok(())
}

/// A Region of two on one line.
fn region(view: &RegionView) {
    let lease = or_dash(view.lease.as_ref().map(word));
    let cause = view.cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
    say!(
        "  {:<16} {:<8} lease {lease}{cause}, s3 {}",
        view.region,
        word(&view.part),
        or_dash(view.s3_endpoint.as_ref())
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_phases_are_read_or_refused() {
        assert_eq!(span("60s").expect("a span"), Duration::from_secs(60));
        assert_eq!(span("250ms").expect("a span"), Duration::from_millis(250));
        for bad in ["", "60", "s", "1.5s", "99999999999999999999h"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        assert_eq!(phase("Ready").expect("a phase"), Phase::Ready);
        assert!(phase("ready").is_err());
    }
}
