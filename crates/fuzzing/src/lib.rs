//! The driver of the fuzz targets inside `cargo test`; the same targets run under libFuzzer from
//! `fuzz/`, outside the workspace.
//!
//! A target is a plain `fn(&[u8])` in the crate that it tries; it panics when an invariant breaks.
//! [`run`] gives it the committed corpus, then mutations of it for twenty seconds. An input is a
//! function of seed and number alone, so `KEYSTEAD_FUZZ=seed:number` makes the same one again.
//! An input that allocates above a bound or takes too long is a failure too.
//!
//! Of the crates that are tested this is a dev-dependency; the product never holds it.

#![warn(missing_docs)]

mod corpus;
mod meter;
mod mutate;
mod rng;

use corpus::Corpus;
use rng::Rng;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a target is tried, unless `KEYSTEAD_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 20;
/// Longest time that one input may take.
const MOST_TIME: Duration = Duration::from_secs(5);
/// Longest single allocation: so many bytes, and so many for each byte of input.
const MOST_BYTES: (usize, usize) = (2 << 20, 64);

/// Runs a target on `fuzz/corpus/<name>/` and then on mutations of it.
///
/// # Panics
/// When the target does: that is a finding. The message names seed, number and the kept input.
pub fn run(name: &str, target: fn(&[u8])) {
    let corpus = Corpus::read(name);
    if let Some((seed, number)) = replayed() {
        return attempt(name, target, &corpus.mutation(seed, number), &format!("{seed}:{number}"));
    }
    for (file, input) in &corpus.files {
        attempt(name, target, input, file);
    }
    let seed = RandomState::new().hash_one(name);
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut number = 0;
    while Instant::now() < until {
        let input = corpus.mutation(seed, number);
        attempt(name, target, &input, &format!("{seed}:{number}"));
        number += 1;
    }
    // Past the harness, which keeps what a good test prints to itself.
    let _ = writeln!(std::io::stderr(), "fuzz {name}: {number} inputs from seed {seed}");
}

fn attempt(name: &str, target: fn(&[u8]), input: &[u8], origin: &str) {
    let began = Instant::now();
    meter::reset();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let (largest, took) = (meter::largest(), began.elapsed());
    let why = if outcome.is_err() {
        "breaks an invariant".to_owned()
    } else if largest > MOST_BYTES.0 + MOST_BYTES.1 * input.len() {
        format!("allocates {largest} bytes at once")
    } else if took > MOST_TIME {
        format!("takes {took:?}")
    } else {
        return;
    };
    let kept = keep(name, origin, input);
    panic!(
        "fuzz target {name}: input {origin} {why}\n  kept in {}; once mended, it goes to fuzz/corpus/{name}/\n  again: KEYSTEAD_FUZZ={origin} cargo test --profile ci -p <crate> fuzz_{name}",
        kept.display()
    );
}

fn keep(name: &str, origin: &str, input: &[u8]) -> PathBuf {
    let file = format!("keystead-fuzz-{name}-{}", origin.replace([':', '/'], "-"));
    let path = std::env::temp_dir().join(file);
    match std::fs::write(&path, input) {
        Ok(()) => path,
        Err(e) => PathBuf::from(format!("nothing ({e})")),
    }
}

/// `KEYSTEAD_FUZZ=seed:number`.
fn replayed() -> Option<(u64, u64)> {
    let given = std::env::var("KEYSTEAD_FUZZ").ok()?;
    let pair = given.split_once(':').and_then(|(s, n)| Some((s.parse().ok()?, n.parse().ok()?)));
    Some(pair.expect("KEYSTEAD_FUZZ is seed:number, as a failure prints it"))
}

fn seconds() -> u64 {
    let given = std::env::var("KEYSTEAD_FUZZ_SECONDS").ok();
    given.map_or(SECONDS, |s| s.parse().expect("KEYSTEAD_FUZZ_SECONDS is a number"))
}

impl Corpus {
    fn mutation(&self, seed: u64, number: u64) -> Vec<u8> {
        mutate::input(&mut Rng::new(seed, number), self)
    }
}
