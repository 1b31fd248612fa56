//! In: paths of runs and baseline files. Out: runs ready to be compared, scored where they are run
//! directories.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::score::{ProtocolName, scored_baseline};
use crate::aggregate::Protocol;
use crate::aggregate::baseline::{Baseline, KIND};
use crate::compare::{Allowed, Labelled, Options};
use crate::results::{FORMAT_VERSION, FormatVersion};
use crate::statistics::SwapTest;

/// Flags of the commands that compare.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ComparedArgs {
    /// Whose answers [default: those of the only judge]
    #[arg(long, value_name = "NAME")]
    pub judge: Option<String>,
    /// Rules by which run directories are scored [default: corrected]
    #[arg(long, value_enum, value_name = "NAME")]
    pub protocol: Option<ProtocolName>,
    /// Where the benchmark is now, if it is not where the runs were made with it
    #[arg(long, value_name = "PATH")]
    pub benchmark: Option<PathBuf>,
    /// Compare although the runs differ in it; the output says so. May be given several times
    #[arg(long, value_enum, value_name = "WHAT")]
    pub allow: Vec<AllowedName>,
    /// Random rounds of the permutation test, of which p-values and intervals of differences come
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub draws: u32,
    /// Where its random numbers begin
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub statistics_seed: u64,
}

/// In what runs may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AllowedName {
    /// The benchmark's digest
    Benchmark,
    /// The judge or its settings
    Judge,
    /// The number of images an item
    Images,
}

impl From<AllowedName> for Allowed {
    fn from(name: AllowedName) -> Self {
        match name {
            AllowedName::Benchmark => Self::Benchmark,
            AllowedName::Judge => Self::Judge,
            AllowedName::Images => Self::Images,
        }
    }
}

impl ComparedArgs {
    /// How the runs are compared.
    pub fn options(&self) -> Options {
        let (draws, seed) = (self.draws as usize, self.statistics_seed);
        Options {
            test: SwapTest { rounds: draws, seed },
            level: 0.95,
            allowed: self.allow.iter().copied().map(Allowed::from).collect(),
        }
    }

    /// The run at `path`: a run directory, which is scored, or a baseline file.
    ///
    /// # Errors
    /// It is neither, is damaged, or cannot be scored.
    pub fn load(&self, path: &Path) -> anyhow::Result<Labelled> {
        let label = path.display().to_string();
        let run = if path.is_dir() {
            let protocol = self.protocol.map_or(Protocol::Corrected, Protocol::from);
            scored_baseline(path, self.benchmark.as_deref(), self.judge.as_deref(), protocol)?
        } else {
            read_baseline(path)?
        };
        Ok(Labelled { label, run })
    }
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
