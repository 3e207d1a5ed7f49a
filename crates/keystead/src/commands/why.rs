//! `keystead why`.

use super::{client, json};
use crate::cli::WhyArgs;
use crate::out::say;
use anyhow::Result;
use std::process::ExitCode;

/// Runs it.
pub(crate) async fn run(args: WhyArgs) -> Result<ExitCode> {
    let why = client(&args.api)?.why(&args.name).await?;
    if args.format.json {
        json(&why)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(cause) = why.cause {
        say!("cause    {cause}");
    }
    say!("what     {}", why.what);
    for (label, value) in [("since", &why.since), ("who", &why.who)] {
        if let Some(value) = value {
            say!("{label:<8} {value}");
        }
    }
    for stopped in &why.stopped {
        say!("stopped  {stopped}");
    }
    for fix in &why.fix {
        say!("fix      {fix}");
    }
    Ok(ExitCode::SUCCESS)
}
