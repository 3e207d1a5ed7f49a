//! `keystead why`.

use super::{client, json};
use crate::cli::WhyArgs;
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
        println!("cause    {cause}");
    }
    println!("what     {}", why.what);
    for (label, value) in [("since", &why.since), ("who", &why.who)] {
        if let Some(value) = value {
            println!("{label:<8} {value}");
        }
    }
    for stopped in &why.stopped {
        println!("stopped  {stopped}");
    }
    for fix in &why.fix {
        println!("fix      {fix}");
    }
    Ok(ExitCode::SUCCESS)
}
