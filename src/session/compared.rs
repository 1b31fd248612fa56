//! In: the path of a run or of a baseline file. Out: it ready to be compared, scored where it is a run directory.

use std::path::Path;

use anyhow::{Context, ensure};

use super::scoring::scored_baseline;
use crate::aggregate::Protocol;
use crate::aggregate::baseline::{Baseline, KIND};
use crate::compare::{Comparison, Labelled, Options, compare};
use crate::results::{FORMAT_VERSION, FormatVersion};

/// The run at `path`: a run directory, which is scored by `protocol` with the answers of `judge` (`None`: those of
/// its only judge), or a baseline file. `benchmark` says where the benchmark is now, if it is not where it was.
///
/// # Errors
/// It is neither, is damaged, or cannot be scored.
pub fn load_compared(
    path: &Path,
    judge: Option<&str>,
    protocol: Protocol,
    benchmark: Option<&Path>,
) -> anyhow::Result<Labelled> {
    let label = path.display().to_string();
    let run = if path.is_dir() {
        scored_baseline(path, benchmark, judge, protocol)?
    } else {
        read_baseline(path)?
    };
    Ok(Labelled { label, run })
}

/// How the run at `other` differs from that at `base`, under `corrected` and with the answers of their only judges;
/// either may be a baseline file.
///
/// # Errors
/// One of them cannot be scored, or they are not to be compared.
///
/// ```no_run
/// let found = dpg_bench::compare_runs("results/sd15".as_ref(), "results/ella-sd15".as_ref())?;
/// let overall = &found.figures[0];
/// println!("{} items, difference {:+.2} points, p {:?}", found.items, overall.difference, overall.p);
/// # anyhow::Ok(())
/// ```
pub fn compare_runs(base: &Path, other: &Path) -> anyhow::Result<Comparison> {
    let load = |path| load_compared(path, None, Protocol::Corrected, None);
    Ok(compare(&load(base)?, &load(other)?, &Options::default())?)
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
    let categories = baseline.categories.len() as u32;
    for item in &baseline.items {
        ensure!(
            item.counts.iter().all(|&[category, yes, counted, yes_after, counted_after]| {
                category < categories && yes <= counted && yes_after <= counted_after
            }) && item.score.is_none_or(|score| (0.0..=1.0).contains(&score)),
            "{shown}: the counts of item {} cannot be; make the baseline anew",
            item.id
        );
    }
    Ok(baseline)
}
