//! Figures of a run, judged against their bars and printed; `soak` copies them to docs/soak.md.

use std::time::Duration;

/// Samples of one quantity with the bar that its maximum must not pass.
pub(crate) struct Series {
    name: String,
    bar: Duration,
    samples: Vec<Duration>,
}

impl Series {
    pub(crate) fn new(name: String, bar: Duration) -> Self {
        Self { name, bar, samples: Vec::new() }
    }
    pub(crate) fn push(&mut self, sample: Duration) {
        self.samples.push(sample);
    }
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }
}

#[derive(Default)]
pub(crate) struct Figures {
    lines: Vec<String>,
    over: Vec<String>,
}

impl Figures {
    pub(crate) fn say(&mut self, line: String) {
        eprintln!("FIGURE {line}");
        self.lines.push(line);
    }

    pub(crate) fn take(&mut self, mut series: Series) {
        series.samples.sort();
        let ms = |d: Option<&Duration>| {
            d.map_or("-".to_owned(), |d| format!("{:.0}", d.as_secs_f64() * 1000.0))
        };
        let max = series.samples.last().copied().unwrap_or_default();
        let line = format!(
            "{}: n={} min {} ms, median {} ms, max {} ms (bar {} ms)",
            series.name,
            series.samples.len(),
            ms(series.samples.first()),
            ms(series.samples.get(series.samples.len() / 2)),
            ms(series.samples.last()),
            series.bar.as_millis()
        );
        if max > series.bar {
            self.over.push(line.clone());
        }
        self.say(line);
    }

    /// Fails when any maximum passed its bar.
    pub(crate) fn assert_within_bars(&self) {
        assert!(self.over.is_empty(), "over the bar:\n{}", self.over.join("\n"));
    }
}
