//! In: the paths of runs or of baseline files. Out: them ready to be compared, scored where they are run directories; or
//! compared, or checked.

use std::path::Path;

use anyhow::{Context, ensure};

use super::baselines::{scored_baseline, soft_baselines};
use crate::aggregate::Protocol;
use crate::aggregate::baseline::{Baseline, ItemCounts, KIND};
use crate::aggregate::readable::Withheld;
use crate::check::{Check, Gate, check};
use crate::compare::{Comparison, Labelled, Options, compare};
use crate::results::{FORMAT_VERSION, FormatVersion};
use crate::wording::counted;

/// The run at `path`: a run directory, which is scored by `protocol` with the answers of `judge` (`None`: those of
/// its only judge), or a baseline file. `benchmark` says where the benchmark is now, if it is not where it was, and `dropped`
/// names the file of questions that count nowhere, which a baseline file has left out already.
///
/// # Errors
/// It is neither, is damaged, or cannot be scored.
pub fn load_compared(
    path: &Path,
    judge: Option<&str>,
    protocol: Protocol,
    benchmark: Option<&Path>,
    dropped: Option<&Path>,
) -> anyhow::Result<Labelled> {
    let label = path.display().to_string();
    let run = if path.is_dir() {
        scored_baseline(path, benchmark, judge, dropped, protocol)?
    } else {
        read_baseline(path)?
    };
    Ok(Labelled { label, run })
}

/// A run directory under each protocol of P(yes); nothing where its judge states none, and for a baseline file, which has one
/// protocol.
///
/// # Errors
/// As [`load_compared`].
pub(crate) fn load_soft(
    path: &Path,
    judge: Option<&str>,
    benchmark: Option<&Path>,
    dropped: Option<&Path>,
) -> anyhow::Result<Vec<Labelled>> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let label = path.display().to_string();
    let found = soft_baselines(path, benchmark, judge, dropped)?.into_iter().flatten();
    Ok(found.map(|run| Labelled { label: label.clone(), run }).collect())
}

/// How the run at `other` differs from that at `base`, under `corrected`, where the judge states P(yes) under `soft` too, and with the answers of `judge` (`None`: those of
/// their only judges); either may be a baseline file, which has one judge.
///
/// # Errors
/// One of them cannot be scored, or they are not to be compared.
///
/// ```no_run
/// let found = dpg_bench::compare_runs("results/sd15".as_ref(), "results/ella-sd15".as_ref(), None)?;
/// let overall = &found.figures[0];
/// println!("{} items, difference {:+.2} points, p {:?}", found.items, overall.difference, overall.p);
/// # anyhow::Ok(())
/// ```
pub fn compare_runs(base: &Path, other: &Path, judge: Option<&str>) -> anyhow::Result<Comparison> {
    let load = |path| load_compared(path, judge, Protocol::Corrected, None, None);
    let (options, corrected) = (Options::default(), [load(base)?, load(other)?]);
    let corrected = corrected.each_ref();
    let mut found = compare(corrected[0], corrected[1], &options)?;
    match load_soft(base, judge, None, None)
        .and_then(|soft| Ok([soft, load_soft(other, judge, None, None)?]))
    {
        Err(error) if error.is::<Withheld>() => found.warnings.push(error.to_string()),
        soft => {
            let soft = soft?;
            if !soft[0].is_empty() {
                found.add_soft(corrected, [&soft[0], &soft[1]], &options);
            }
        }
    }
    Ok(found)
}

/// Whether the run at `run` is worse than that at `baseline`, a run directory or a baseline file, whose protocol counts; with the
/// answers of `judge` (`None`: those of their only judges).
///
/// # Errors
/// The gate lets nothing fail ([`GateFault`]), one of them cannot be scored, or they are not to be compared.
///
/// ```no_run
/// use dpg_bench::{Gate, Outcome, check_run};
///
/// let gate = Gate { max_drop: 1.0, alpha: 0.05, categories: Vec::new() };
/// let found = check_run("results/nightly".as_ref(), "baseline.json".as_ref(), &gate, None)?;
/// assert_ne!(found.outcome, Outcome::Failed);
/// # anyhow::Ok(())
/// ```
pub fn check_run(
    run: &Path,
    baseline: &Path,
    gate: &Gate,
    judge: Option<&str>,
) -> anyhow::Result<Check> {
    let options = Options::default();
    ensure_can_fail(gate, options.test.rounds)?;
    let baseline = load_compared(baseline, judge, Protocol::Corrected, None, None)?;
    let run = load_compared(run, judge, baseline.run.protocol, None, None)?;
    Ok(check(&baseline, &run, gate, &options)?)
}

/// Why a gate lets nothing fail.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GateFault {
    /// Its largest tolerated drop is none that a score could exceed.
    #[error("--max-drop {0} is no number of points from 0 to below 100")]
    MaxDrop(f64),
    /// Its level is no probability that a test can have.
    #[error("--alpha {0} is no probability between 0 and 0.5")]
    Alpha(f64),
    /// No p-value can be as small as it asks for.
    #[error(
        "--alpha {alpha} for {}: {rounds} rounds show no p below {least:.1e}, so that nothing could fail; {}",
        counted(*figures, "number"),
        advice(*needed)
    )]
    TooFewRounds {
        /// Level of the test.
        alpha: f64,
        /// Numbers that are checked.
        figures: usize,
        /// Random rounds of the test.
        rounds: usize,
        /// The smallest p-value that they can show.
        least: f64,
        /// Rounds that could show one small enough.
        needed: f64,
    },
}

/// What to do where so many rounds are needed.
fn advice(needed: f64) -> String {
    match needed <= 1e6 {
        true => format!("give --draws {needed} or more"),
        false => "give a larger --alpha".to_owned(),
    }
}

/// Whether a gate can fail anything, with so many random rounds of the test.
///
/// # Errors
/// It cannot.
pub fn ensure_can_fail(gate: &Gate, rounds: usize) -> Result<(), GateFault> {
    let Gate { max_drop, alpha, categories } = gate;
    let (max_drop, alpha) = (*max_drop, *alpha);
    // Neither holds NaN.
    if !(0.0..100.0).contains(&max_drop) {
        return Err(GateFault::MaxDrop(max_drop));
    }
    if !(alpha > 0.0 && alpha < 0.5) {
        return Err(GateFault::Alpha(alpha));
    }
    let figures = 1 + categories.len();
    // The least p-value of a one-sided test is one of twice the rounds and two.
    let least = 1.0 / (2.0 * rounds as f64 + 2.0);
    let level = alpha / figures as f64;
    if least < level {
        return Ok(());
    }
    let needed = (0.5 / level).ceil();
    Err(GateFault::TooFewRounds { alpha, figures, rounds, least, needed })
}

#[derive(serde::Deserialize)]
struct Head {
    format_version: FormatVersion,
    kind: String,
}

/// Reads a baseline file.
///
/// # Errors
/// It is not there, is no baseline, or is of another version.
pub fn read_baseline(path: &Path) -> anyhow::Result<Baseline> {
    let shown = path.display();
    let text = std::fs::read(path)
        .with_context(|| format!("{shown} is no run directory and no baseline that can be read"))?;
    let no_baseline =
        || format!("{shown} is no baseline; make one with `dpg-bench baseline RUN --out {shown}`");
    let head: Head = serde_json::from_slice(&text).with_context(no_baseline)?;
    ensure!(head.kind == KIND, no_baseline());
    ensure!(
        FORMAT_VERSION.can_read(head.format_version),
        "{shown} has format version {}, this program reads {FORMAT_VERSION}; make the baseline anew",
        head.format_version
    );
    let baseline: Baseline = serde_json::from_slice(&text).with_context(no_baseline)?;
    ensure!(
        baseline.unreadable_answers == 0,
        "{shown} leaves out {} answers that are neither yes nor no, so many that the score of its run is withheld; make the \
         baseline of a run that has a score",
        baseline.unreadable_answers
    );
    let categories = baseline.categories.len() as u32;
    for item in &baseline.items {
        ensure!(
            item.counts.iter().all(|&[category, yes, counted, yes_after, counted_after]| {
                category < categories && yes <= counted && yes_after <= counted_after
            }) && sums_can_be(item)
                && item.score.is_none_or(|score| (0.0..=1.0).contains(&score)),
            "{shown}: the counts of item {} cannot be; make the baseline anew",
            item.id
        );
    }
    Ok(baseline)
}

/// Whether the sums of shares of a yes are there for each entry or for none, and no larger than its counted questions.
fn sums_can_be(item: &ItemCounts) -> bool {
    let fit = |(sums, counts): (&[f64; 2], &[u32; 5])| {
        let ends = [counts[2], counts[4]].map(|counted| 0.0..=f64::from(counted) + 1e-9);
        sums.iter().zip(ends).all(|(sum, ends)| ends.contains(sum))
    };
    (item.sums.is_empty() || item.sums.len() == item.counts.len())
        && item.sums.iter().zip(&item.counts).all(fit)
}
