//! In: paths of runs and baseline files. Out: runs ready to be compared, scored where they are run
//! directories.

use std::path::{Path, PathBuf};

use crate::aggregate::Protocol;
use crate::cli::commands::score::ProtocolName;
use crate::compare::{Allowed, Labelled, Options};
use crate::session::compared::{load_compared, load_soft};
use crate::statistics::PermutationTest;

/// Flags of the commands that compare.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ComparedArgs {
    /// Whose answers [default: those of the only judge]
    #[arg(short, long, value_name = "NAME")]
    pub judge: Option<String>,
    /// Rules by which run directories are scored [default: corrected]
    #[arg(long, value_enum, value_name = "NAME")]
    pub protocol: Option<ProtocolName>,
    /// Where the benchmark is now, if it is not where the runs were made with it
    #[arg(long, value_name = "PATH")]
    pub benchmark: Option<PathBuf>,
    /// Leave out the questions that this file names (CSV: item, question), as `control` lists them; a baseline file has its own
    /// left out
    #[arg(long, value_name = "FILE")]
    pub drop_questions: Option<PathBuf>,
    /// Compare although the runs differ in it; the output says so. Can be repeated
    #[arg(long, value_enum, value_name = "WHAT")]
    pub allow: Vec<AllowedName>,
    /// Random rounds of the permutation test, for p-values and intervals of differences
    #[arg(long, default_value_t = DRAWS, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub draws: u32,
    /// Where its random numbers begin
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub statistics_seed: u64,
}

/// Rounds unless the user says otherwise.
const DRAWS: u32 = 10_000;

impl Default for ComparedArgs {
    /// As with none of the flags.
    fn default() -> Self {
        Self {
            judge: None,
            protocol: None,
            benchmark: None,
            drop_questions: None,
            allow: Vec::new(),
            draws: DRAWS,
            statistics_seed: 0,
        }
    }
}

/// In what runs may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AllowedName {
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
    pub(crate) fn options(&self) -> Options {
        let (draws, seed) = (self.draws as usize, self.statistics_seed);
        Options {
            test: PermutationTest { rounds: draws, seed },
            allowed: self.allow.iter().copied().map(Allowed::from).collect(),
            ..Options::default()
        }
    }

    /// The run at `path`: a run directory, which is scored, or a baseline file.
    ///
    /// # Errors
    /// It is neither, is damaged, or cannot be scored.
    pub(crate) fn load(&self, path: &Path) -> anyhow::Result<Labelled> {
        let protocol = self.protocol.map_or(Protocol::Corrected, Protocol::from);
        let (judge, dropped) = (self.judge.as_deref(), self.drop_questions.as_deref());
        load_compared(path, judge, protocol, self.benchmark.as_deref(), dropped)
    }

    /// The run at `path` under the protocols of P(yes); nothing where its judge states none, for a baseline file, and where a
    /// protocol was chosen.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_soft(&self, path: &Path) -> anyhow::Result<Vec<Labelled>> {
        match self.protocol {
            None => {
                let (judge, dropped) = (self.judge.as_deref(), self.drop_questions.as_deref());
                load_soft(path, judge, self.benchmark.as_deref(), dropped)
            }
            Some(_) => Ok(Vec::new()),
        }
    }
}
