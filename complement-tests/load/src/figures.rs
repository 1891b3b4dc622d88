//! Numbers, and the table of them.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use crate::target::Target;

/// One number of one run.
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
}

/// How long each of many things took.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

/// What is measured while something runs: time, and the server's processor time.
pub(crate) struct Meter<'a> {
    target: &'a Target,
    since: Instant,
    used: Duration,
}

/// The figures of all rounds, by scenario and name, in the order in which they came.
pub(crate) struct Report {
    targets: Vec<String>,
    rows: Vec<(&'static str, &'static str)>,
    values: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Figure {
    /// A number and what it is, with its unit.
    pub(crate) fn new(name: &'static str, value: f64) -> Self {
        Self { name, value }
    }

    /// A number of things.
    pub(crate) fn count(name: &'static str, count: usize) -> Self {
        Self::new(name, number(count))
    }

    /// Memory, of which the kernel tells in KiB, in MB.
    pub(crate) fn megabytes(name: &'static str, kib: u64) -> Self {
        Self::new(name, number(kib as usize) * 1.024 / 1000.0)
    }

    /// The same for each of so many, in kB.
    pub(crate) fn kilobytes_each(name: &'static str, kib: u64, count: usize) -> Self {
        Self::new(name, number(kib as usize) * 1.024 / number(count))
    }

    /// Time for each of so many.
    pub(crate) fn milliseconds_each(name: &'static str, time: Duration, count: usize) -> Self {
        Self::new(name, time.as_secs_f64() * 1000.0 / number(count))
    }
}

impl Latencies {
    /// Of these.
    pub(crate) fn of(all: impl IntoIterator<Item = Duration>) -> Self {
        let mut all: Vec<Duration> = all.into_iter().collect();
        all.sort_unstable();
        Self(all)
    }

    /// The median and the 99th percentile.
    pub(crate) fn figures(&self) -> [Figure; 2] {
        [Figure::new("p50, ms", self.percentile_ms(50)), Figure::new("p99, ms", self.percentile_ms(99))]
    }

    /// How many milliseconds so many percent of them took at most.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }
}

impl<'a> Meter<'a> {
    /// Begins to measure.
    pub(crate) fn start(target: &'a Target) -> Self {
        Self { target, since: Instant::now(), used: target.processor_time() }
    }

    /// What so many things came to: how many a second, and the server's processor time for each.
    pub(crate) fn figures(&self, per_second: &'static str, count: usize) -> [Figure; 2] {
        let (seconds, used) =
            (self.since.elapsed().as_secs_f64(), self.target.processor_time().saturating_sub(self.used));
        let each = Figure::milliseconds_each("server CPU each, ms", used, count);
        [Figure::new(per_second, number(count) / seconds), each]
    }
}

impl Report {
    /// With a column for each target.
    pub(crate) fn new(targets: Vec<String>) -> Self {
        Self { targets, rows: Vec::new(), values: BTreeMap::new() }
    }

    /// Takes in what a scenario came to on the target of a column.
    pub(crate) fn add(&mut self, column: usize, title: &'static str, figures: Vec<Figure>) {
        for figure in figures {
            let row = (title, figure.name);
            let index = self.rows.iter().position(|known| *known == row).unwrap_or_else(|| {
                self.rows.push(row);
                self.rows.len() - 1
            });
            self.values.entry((index, column)).or_default().push(figure.value);
        }
    }

    fn cell(&self, row: usize, column: usize) -> String {
        let Some(values) = self.values.get(&(row, column)) else { return String::new() };
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        match (sorted.first(), sorted.last()) {
            (Some(least), Some(most)) if sorted.len() > 1 => {
                format!("{} ({}-{})", shown(median), shown(*least), shown(*most))
            }
            _ => shown(median),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | figure | {} |", self.targets.join(" | "))?;
        writeln!(f, "| --- | --- |{}", " ---: |".repeat(self.targets.len()))?;
        let mut last = "";
        for (row, (title, name)) in self.rows.iter().enumerate() {
            let cells: Vec<String> = (0..self.targets.len()).map(|column| self.cell(row, column)).collect();
            let title = if *title == last { "" } else { title };
            writeln!(f, "| {title} | {name} | {} |", cells.join(" | "))?;
            last = self.rows[row].0;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of what was done in minutes")]
fn number(count: usize) -> f64 {
    count as f64
}

/// With as many digits as mean something.
fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Figure, Latencies, Report};

    #[test]
    fn a_table_shows_medians_and_ranges() {
        let mut report = Report::new(vec!["one".to_owned(), "two".to_owned()]);
        for value in [3.0, 1.0, 250.4] {
            report.add(0, "sending", vec![Figure::new("ms", value), Figure::count("lost", 0)]);
        }
        report.add(1, "sending", vec![Figure::new("ms", 12.34)]);
        let expected = "| what | figure | one | two |\n| --- | --- | ---: | ---: |\n\
            | sending | ms | 3.00 (1.00-250) | 12.3 |\n|  | lost | 0 (0-0) |  |\n";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let latencies = Latencies::of((1..=200).rev().map(Duration::from_millis));
        let shown: Vec<f64> = latencies.figures().iter().map(|figure| figure.value).collect();
        assert_eq!(shown, [101.0, 199.0]);
        assert!(Latencies::default().figures()[0].value.is_nan());
    }
}
