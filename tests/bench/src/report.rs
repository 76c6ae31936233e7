//! What was found, for people and for programs.

use crate::{
    cells::{Cell, CellSizes, MANY, Rpc},
    drive::Measured,
    machine::Machine,
    pages::Naming,
};
use std::fmt::{self, Write as _};

/// Everything that one run found.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) lookups: Vec<LookupFigures>,
    pub(crate) regenerations: Vec<RegenerationFigures>,
    pub(crate) aims: Vec<Aim>,
}

/// One cell: a figure of each for every round.
#[derive(Debug, serde::Serialize)]
pub(crate) struct LookupFigures {
    pub(crate) name: String,
    #[serde(skip)]
    pub(crate) cell: Cell,
    pub(crate) sizes: CellSizes,
    pub(crate) coordinator: Vec<Measured>,
    pub(crate) echo: Vec<Measured>,
}

/// Regenerations at one load: a figure for every round.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RegenerationFigures {
    pub(crate) in_flight: usize,
    pub(crate) coordinator: Vec<Measured>,
}

/// What is aimed at, and what came out. Nothing fails when it is missed: figures of one machine are not those
/// of another.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Aim {
    pub(crate) what: String,
    pub(crate) aim: f64,
    pub(crate) found: Spread,
    pub(crate) reached: bool,
}

/// The median over the rounds, and the range.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values = values.into_iter().collect::<Vec<_>>();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 0 {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, least, most })
    }

    /// Of the ratio in each round: what drifts between rounds drops out.
    fn of_ratios(above: &[Measured], below: &[Measured], figure: fn(&Measured) -> f64) -> Option<Self> {
        Self::of(above.iter().zip(below).map(|(above, below)| figure(above) / figure(below)))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most } = self;
        write!(f, "{median:.2} ({least:.2}–{most:.2})")
    }
}

fn rate(measured: &Measured) -> f64 {
    measured.calls_per_second
}

fn cpu(measured: &Measured) -> f64 {
    measured.server_cpu_micros
}

fn median(rounds: &[Measured], figure: fn(&Measured) -> f64) -> f64 {
    Spread::of(rounds.iter().map(figure)).map_or(f64::NAN, |spread| spread.median)
}

/// The results beside the aims, as far as the cells for them were measured.
pub(crate) fn aims(lookups: &[LookupFigures]) -> Vec<Aim> {
    let find = |rpc, with_body| {
        let cell = Cell { rpc, naming: Naming::Key, with_body, in_flight: MANY };
        lookups.iter().find(|figures| figures.cell == cell)
    };
    let mut aims = Vec::new();
    let mut note = |what: String, aim: f64, is_upper: bool, found: Option<Spread>| {
        let Some(found) = found else { return };
        let reached = if is_upper { found.median <= aim } else { found.median >= aim };
        aims.push(Aim { what, aim, found, reached });
    };
    let unary = find(Rpc::Lookup, false);
    let stream = find(Rpc::LookupStream, false);
    for (figures, body, aim) in [(unary, "", 1.25), (find(Rpc::Lookup, true), " with 20 KB", 1.35)] {
        let ratios = figures.and_then(|it| Spread::of_ratios(&it.coordinator, &it.echo, cpu));
        note(
            format!("server CPU of a unary lookup{body}, × the bare unary echo: at most"),
            aim,
            true,
            ratios,
        );
    }
    let ratios =
        stream.zip(unary).and_then(|(it, echo)| Spread::of_ratios(&it.coordinator, &echo.echo, rate));
    note(
        "lookups/s over streams, × the calls/s of the bare unary echo: at least".to_owned(),
        6.0,
        false,
        ratios,
    );
    let found = stream.and_then(|it| Spread::of(it.coordinator.iter().map(cpu)));
    note("µs of server CPU for a lookup over a stream: at most".to_owned(), 4.0, true, found);
    aims
}

impl Report {
    /// As it stands in a README.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        let Machine { cores, processor, kernel, rustc, file_system, sync_micros } = &self.machine;
        writeln!(out, "{cores} cores of {processor}, shared by driver and server; Linux {kernel}; {rustc}.")?;
        writeln!(
            out,
            "Medians of {} rounds of {} s, in turns with the bare echo; ratios with least and most.",
            self.rounds, self.seconds
        )?;
        if !self.lookups.is_empty() {
            self.write_lookups(out)?;
        }
        if !self.regenerations.is_empty() {
            writeln!(
                out,
                "\nRegenerations (`AcquireLease` and `CommitPointer` of a new page of 2 KB), durable, on \
                 {file_system} with syncs of {sync_micros:.0} µs:\n"
            )?;
            writeln!(out, "| in flight | regenerations/s | p50 | p99 | server CPU |")?;
            writeln!(out, "|---|--:|--:|--:|--:|")?;
        }
        for RegenerationFigures { in_flight, coordinator } in &self.regenerations {
            writeln!(
                out,
                "| {in_flight} | {} | {} | {} | {:.1} µs |",
                thousands(median(coordinator, rate)),
                micros(median(coordinator, |it| it.p50_micros)),
                micros(median(coordinator, |it| it.p99_micros)),
                median(coordinator, cpu),
            )?;
        }
        if !self.aims.is_empty() {
            writeln!(out, "\n| aim ({MANY} in flight) | | found | |")?;
            writeln!(out, "|---|--:|--:|---|")?;
        }
        for Aim { what, aim, found, reached } in &self.aims {
            writeln!(out, "| {what} | {aim} | {found} | {} |", if *reached { "reached" } else { "missed" })?;
        }
        Ok(())
    }

    fn write_lookups(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "\n| warm, fresh | bytes in / out | calls/s | p50 | p99 | server CPU | echo: calls/s | \
             server CPU | calls/s ratio | CPU ratio |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for LookupFigures { name, cell, sizes, coordinator, echo } in &self.lookups {
            let sizes = match cell.rpc {
                Rpc::Lookup => sizes.unary,
                Rpc::LookupStream => sizes.stream,
            };
            let ratio = |figure| {
                Spread::of_ratios(coordinator, echo, figure)
                    .map_or_else(String::new, |ratio| ratio.to_string())
            };
            writeln!(
                out,
                "| {name} | {} / {} | {} | {} | {} | {:.1} µs | {} | {:.1} µs | {} | {} |",
                sizes.request_bytes,
                thousands(sizes.response_bytes as f64),
                thousands(median(coordinator, rate)),
                micros(median(coordinator, |it| it.p50_micros)),
                micros(median(coordinator, |it| it.p99_micros)),
                median(coordinator, cpu),
                thousands(median(echo, rate)),
                median(echo, cpu),
                ratio(rate),
                ratio(cpu),
            )?;
        }
        Ok(())
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn micros(value: f64) -> String {
    if value >= 1000.0 { format!("{:.2} ms", value / 1000.0) } else { format!("{value:.0} µs") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_range() {
        let spread = Spread::of([3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!(spread.to_string(), "2.50 (1.00–10.00)");
        assert!(Spread::of([]).is_none());
    }

    #[test]
    fn numbers_are_written_in_groups() {
        assert_eq!([7.4, 999.0, 1000.0, 1_234_567.0].map(thousands), ["7", "999", "1,000", "1,234,567"]);
        assert_eq!([999.4, 1234.0].map(micros), ["999 µs", "1.23 ms"]);
    }
}
