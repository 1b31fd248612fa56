//! In: the flags of `export`. Out: the same, and what its targets share: the score, without which nothing is exported, and the
//! writing of a file.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::aggregate::{Protocol, Summary};
use crate::cli::commands::score::ProtocolName;
use crate::cli::output::print::say;
use crate::results::atomic_write::atomic_write;
use crate::results::replaceable::{NewFile, Standing};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench export results/step-2000 --to tensorboard --step 2000 --out logs
  dpg-bench export results/sd15 --to hugging-face --dataset you/dpg-bench \\
      --source-url https://example.org/report > sd15.yaml
  dpg-bench export results/sd15 --to model-index --dataset you/dpg-bench
  dpg-bench export results/a --to mlflow --tracking-uri http://localhost:5000
  dpg-bench export results/sd15 --to inspect --out logs

Exit status: 0 done; 2 error, also where the score is withheld; 3 done by --allow-incomplete.")]
pub(crate) struct Args {
    /// Run directory
    #[arg(value_name = "RUN")]
    pub(super) run: PathBuf,
    /// The tool
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) to: Target,
    /// Whose answers the score is made of [default: those of the run's only judge]
    #[arg(short, long, value_name = "NAME")]
    pub(super) judge: Option<String>,
    /// Rules of the score [default: hugging-face and model-index corrected, others all that there are]
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) protocol: Option<ProtocolName>,
    /// tensorboard, mlflow: the training step of the model
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) step: u64,
    /// tensorboard: how many images to add, the first of each item in benchmark order
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) images: usize,
    /// tensorboard, lm-eval, inspect: the folder of the files; hugging-face, model-index: a file, in place of stdout
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "PATH")]
    pub(super) out: Option<PathBuf>,
    /// hugging-face, model-index: repository of the benchmark on the Hub
    #[arg(long, value_name = "OWNER/NAME")]
    pub(super) dataset: Option<String>,
    /// hugging-face: the benchmark's task that the score is of
    #[arg(long, value_name = "ID", default_value = "overall")]
    pub(super) task_id: String,
    /// hugging-face, model-index: where the report can be read
    #[arg(long, value_name = "URL")]
    pub(super) source_url: Option<String>,
    /// mlflow: the URL of the tracking server [default: MLFLOW_TRACKING_URI of the environment]
    #[arg(long, value_name = "URL")]
    pub(super) tracking_uri: Option<String>,
    /// mlflow: the experiment, which is made where there is none
    #[arg(long, value_name = "NAME", default_value = "dpg-bench")]
    pub(super) experiment: String,
    /// mlflow: send a run that the server has already as a new one
    #[arg(long)]
    pub(super) again: bool,
    /// Replace a file of --out that is no export
    #[arg(long, requires = "out")]
    pub(super) force: bool,
    /// Export a score even where images or answers are missing
    #[arg(long)]
    pub(super) allow_incomplete: bool,
    /// Where the benchmark is now, if it is not where the run was made with it
    #[arg(long, value_name = "PATH")]
    pub(super) benchmark: Option<PathBuf>,
}

/// A tool that reads scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Target {
    /// An event file of TensorBoard, which W&B and SwanLab read too
    Tensorboard,
    /// A file for `.eval_results/` of the model's repository on Hugging Face
    HuggingFace,
    /// The `model-index` for the head of the model's card on Hugging Face
    ModelIndex,
    /// A run on an MLflow server
    Mlflow,
    /// Results and samples in the shape of lm-evaluation-harness
    LmEval,
    /// A log of inspect_ai
    Inspect,
}

/// Bytes in which a file shows what it is.
pub(super) const BEGINNING: usize = 40;

pub(super) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// What is wrong where a run's time cannot be read.
pub(super) const CREATED: &str = "`created` in the run's manifest.json is no time";

impl Args {
    /// The rules that are asked for, and the run must have a score under each. Where nothing is said, both of yes and no, and
    /// those of P(yes) under which it has a score.
    pub(super) fn protocols(&self, summary: &Summary) -> anyhow::Result<Vec<Protocol>> {
        let asked = self.protocol.map_or(Protocol::ALL.to_vec(), |name| vec![name.into()]);
        for protocol in &asked {
            ensure_score(self, summary, *protocol)?;
        }
        let soft = Protocol::SOFT.into_iter().filter(|_| self.protocol.is_none());
        let soft = soft.filter(|protocol| summary.protocol(*protocol).overall.is_some());
        Ok(asked.into_iter().chain(soft).collect())
    }

    /// Writes a file. One that is there is replaced where it holds `mark`, as exports of this kind do within their first
    /// `within` bytes.
    pub(super) fn put(
        &self,
        path: &Path,
        bytes: &[u8],
        (mark, within): (&str, usize),
    ) -> anyhow::Result<()> {
        NewFile { path, command: "export", flag: "--out", force: self.force }.check(|there| {
            let is_export =
                there.windows(mark.len()).take(within).any(|part| part == mark.as_bytes());
            if is_export { Standing::Same } else { Standing::Foreign }
        })?;
        atomic_write(path, bytes)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        say(&format!("written: {}", path.display()));
        Ok(())
    }
}

/// The benchmark score; nothing is exported without one.
pub(super) fn ensure_score(
    args: &Args,
    summary: &Summary,
    protocol: Protocol,
) -> anyhow::Result<f64> {
    summary.ensure_has(protocol)?;
    let own = summary.protocol(protocol);
    let score = own.overall.map(|figure| figure.mean);
    score.with_context(|| {
        format!(
            "{} has no score under {}: {}; finish the run, or say --allow-incomplete",
            args.run.display(),
            protocol.name(),
            own.gap.as_deref().unwrap_or("no item was scored")
        )
    })
}
