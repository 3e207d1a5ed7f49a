//! `keystead volume`.

use super::{client, json, or_dash, table, word};
use crate::cli::{VolumeArgs, VolumeCommand};
use crate::failure::Failure;
use crate::out::say;
use anyhow::Result;
use keystead_control::wire::VolumeView;
use keystead_types::VolumeId;
use std::process::ExitCode;

/// Runs it.
pub(crate) async fn run(args: VolumeArgs) -> Result<ExitCode> {
    match args.command {
        VolumeCommand::List { cluster, api, format } => {
            let volumes = client(&api)?.volumes(&cluster).await?;
            if format.json {
                json(&volumes)?;
            } else {
                let rows = volumes.iter().map(row).collect();
                table(["VOLUME", "DISK", "STATE", "CAUSE", "GENERATION", "GRANT"], rows);
            }
        }
        VolumeCommand::Show { volume, api, format } => {
            show(&client(&api)?.volume(&id(&volume)?).await?, format.json)?;
        }
        VolumeCommand::Regrant { volume, api, format } => {
            show(&client(&api)?.regrant(&id(&volume)?).await?, format.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn id(text: &str) -> Result<VolumeId> {
    text.parse().map_err(|e| {
        Failure::new(format!("`{text}` is no volume"))
            .why(format!("{e}"))
            .fix("keystead volume list CLUSTER")
            .into()
    })
}

fn row(v: &VolumeView) -> [String; 6] {
    [
        v.volume.to_string(),
        v.disk.clone(),
        or_dash(v.state.as_ref().map(word)),
        or_dash(v.cause),
        v.grant_generation.to_string(),
        or_dash(v.grant_id.as_ref()),
    ]
}

fn show(v: &VolumeView, as_json: bool) -> Result<()> {
    if as_json {
        return json(v);
    }
    say!("volume       {}", v.volume);
    say!("cluster      {}", v.cluster);
    say!("disk         {} ({} bytes)", v.disk, v.size_bytes);
    say!("state        {}", or_dash(v.state.as_ref().map(word)));
    say!("cause        {}", or_dash(v.cause));
    say!("generation   {} (node: {})", v.grant_generation, or_dash(v.observed_grant_generation));
    say!("grant        {}", or_dash(v.grant_id.as_ref()));
    say!("key          {}", or_dash(v.key.as_ref()));
    say!("key digest   {}", or_dash(v.key_digest.as_ref()));
    say!("message      {}", or_dash(v.message.as_ref()));
    Ok(())
}
