//! `cargo xtask soak ROOM`: the tests of a room with their full counts, and their figures in
//! docs/soak.md with date and commit.

use crate::{proc, setup};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs the room `joint`, `objects` or `proofs`.
pub(crate) fn run(room: &str) -> Result<()> {
    let tools = setup::run()?;
    let begun = Instant::now();
    let mut command = proc::cargo(&[
        "test",
        "--profile",
        "ci",
        "-p",
        "keystead",
        "--test",
        "it",
        "--",
        "--nocapture",
        "--test-threads=1",
    ]);
    // Objects of two Regions are of the same room.
    match room {
        "objects" => command.args(["objects", "regions"]),
        _ => command.arg(room),
    };
    tools.export(&mut command);
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command
        .env("KEYSTEAD_SOAK", room)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn().context("start cargo test")?;
    drop(command);
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        if let Some(at) = line.find("FIGURE ") {
            lines.push(format!("- {}", &line[at + 7..]));
        } else if line.starts_with("test result: ") {
            lines.push(format!("- {line}"));
        }
    }
    let status = child.wait()?;
    write(room, &lines, begun.elapsed().as_secs())?;
    if !status.success() {
        bail!("the soak ended with {status}");
    }
    Ok(())
}

fn write(room: &str, lines: &[String], seconds: u64) -> Result<()> {
    let root = proc::root();
    let git = |args: &[&str]| {
        proc::output(Command::new("git").args(args).current_dir(&root))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let dirty = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() {
        ""
    } else {
        " with local changes"
    };
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    let date = proc::output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
    let path = root.join("docs/soak.md");
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|_| {
        "# Figures of soak runs\n\nWritten by `cargo xtask soak ROOM`; the newest run is the last.\n".to_owned()
    });
    text.push_str(&format!(
        "\n## {room}: {}, commit {commit}{dirty}, {seconds} s\n\n{}\n",
        date.trim(),
        lines.join("\n")
    ));
    let mut file =
        std::fs::File::create(&path).with_context(|| format!("write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    println!("figures are in {}", path.display());
    Ok(())
}
