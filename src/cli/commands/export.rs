//! In: a scored run. Out: its score in the form of another tool.

mod logs;
mod mlflow;

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::aggregate::{Protocol, Summary};
use crate::cli::commands::score::ProtocolName;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, say};
use crate::exports::event_file::EventFile;
use crate::exports::hugging_face::{CardEntry, notes};
use crate::exports::scalars::scalars;
use crate::results::atomic_write::atomic_write;
use crate::results::replaceable::{NewFile, Standing};
use crate::results::{ImageOutcome, RunDirectory};
use crate::session::scoring::scored_run;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench export results/step-2000 --to tensorboard --step 2000 --out logs
  dpg-bench export results/sd15 --to hugging-face --dataset you/dpg-bench \\
      --source-url https://example.org/report > sd15.yaml
  dpg-bench export results/sd15 --to model-index --dataset you/dpg-bench
  dpg-bench export results/sd15 --to mlflow --tracking-uri http://localhost:5000 --experiment sd15
  dpg-bench export results/sd15 --to inspect --out logs

Exit status: 0 done; 2 error, also where the score is withheld; 3 done by --allow-incomplete.")]
pub(crate) struct Args {
    /// Run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The tool
    #[arg(long, value_enum, value_name = "NAME")]
    to: Target,
    /// Whose answers the score is made of [default: those of the run's only judge]
    #[arg(short, long, value_name = "NAME")]
    judge: Option<String>,
    /// Rules of the score [default: hugging-face and model-index corrected, others both]
    #[arg(long, value_enum, value_name = "NAME")]
    protocol: Option<ProtocolName>,
    /// tensorboard, mlflow: the training step of the model
    #[arg(long, default_value_t = 0, value_name = "N")]
    step: u64,
    /// tensorboard: how many images to add, the first of each item in benchmark order
    #[arg(long, default_value_t = 0, value_name = "N")]
    images: usize,
    /// tensorboard, lm-eval, inspect: the folder of the files; hugging-face, model-index: a file, in place of stdout
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "PATH")]
    out: Option<PathBuf>,
    /// hugging-face, model-index: repository of the benchmark on the Hub
    #[arg(long, value_name = "OWNER/NAME")]
    dataset: Option<String>,
    /// hugging-face: the benchmark's task that the score is of
    #[arg(long, value_name = "ID", default_value = "overall")]
    task_id: String,
    /// hugging-face, model-index: where the report can be read
    #[arg(long, value_name = "URL")]
    source_url: Option<String>,
    /// mlflow: the URL of the tracking server [default: MLFLOW_TRACKING_URI of the environment]
    #[arg(long, value_name = "URL")]
    tracking_uri: Option<String>,
    /// mlflow: the experiment, which is made where there is none
    #[arg(long, value_name = "NAME", default_value = "dpg-bench")]
    experiment: String,
    /// mlflow: send a run that the server has already as a new one
    #[arg(long)]
    again: bool,
    /// Replace a file of --out that is no export
    #[arg(long, requires = "out")]
    force: bool,
    /// Export a score even where images or answers are missing
    #[arg(long)]
    allow_incomplete: bool,
    /// Where the benchmark is now, if it is not where the run was made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
}

/// A tool that reads scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
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

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let run = RunDirectory::open(&args.run)?;
    let summary = match args.to {
        Target::LmEval | Target::Inspect => logs::write_logs(args, &run)?,
        _ => export_summary(args, &run)?,
    };
    let complete = Protocol::ALL.iter().all(|protocol| summary.protocol(*protocol).gap.is_none());
    Ok(if complete { ExitStatus::Done } else { ExitStatus::Incomplete })
}

fn export_summary(args: &Args, run: &RunDirectory) -> anyhow::Result<Summary> {
    let (benchmark, judge) = (args.benchmark.as_deref(), args.judge.as_deref());
    let summary = scored_run(run, benchmark, judge, args.allow_incomplete)?;
    match args.to {
        Target::Tensorboard => write_events(args, run, &summary)?,
        Target::Mlflow => mlflow::send_run(args, run, &summary)?,
        _ => write_card(args, run, &summary)?,
    }
    Ok(summary)
}

fn write_events(args: &Args, run: &RunDirectory, summary: &Summary) -> anyhow::Result<()> {
    let out =
        args.out.as_ref().context("--to tensorboard needs --out DIR, the folder of its log")?;
    let protocols = args.protocols();
    for protocol in &protocols {
        ensure_score(args, summary, *protocol)?;
    }
    // The run's own time: a second export writes the same bytes.
    let created = time_of(run)?;
    let mut file = EventFile::new(created.as_second() as f64, args.step);
    file.scalars(&scalars(summary, &protocols));
    let mut wanted = args.images;
    for record in run.read_images()? {
        let ImageOutcome::Done { width, height, .. } = &record.outcome else { continue };
        if record.image > 0 || wanted == 0 {
            continue;
        }
        let path = run.image_path(&record.item, record.image);
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        file.image(&format!("dpg_bench_images/{}", record.item), (*width, *height), &bytes);
        wanted -= 1;
    }
    make_folder(out)?;
    // Readers take the files of a folder in the order of their names, and only those with `tfevents` in them.
    let name = format!("events.out.tfevents.{:012}.{}.dpg-bench", args.step, summary.judge.name);
    // A record's length and checksum come first.
    args.put(&out.join(name), &file.finish(), ("brain.Event:", BEGINNING))
}

fn write_card(args: &Args, run: &RunDirectory, summary: &Summary) -> anyhow::Result<()> {
    let protocol = args.protocol.map_or(Protocol::Corrected, Protocol::from);
    let score = ensure_score(args, summary, protocol)?;
    let dataset = args.dataset.as_deref().context(
        "name the benchmark's repository on the Hub with --dataset OWNER/NAME: a result belongs to one",
    )?;
    let date = time_of(run)?.strftime("%Y-%m-%d").to_string();
    let notes = notes(summary, protocol);
    let entry = CardEntry {
        model: summary.run.model.as_deref().unwrap_or("not stated"),
        dataset,
        task: &args.task_id,
        source_url: args.source_url.as_deref(),
        date: &date,
        protocol,
        score,
        notes: &notes,
    };
    let (text, begins) = match args.to {
        Target::ModelIndex => (entry.model_index(), "model-index:"),
        _ => (entry.eval_results(), "- dataset:"),
    };
    match &args.out {
        Some(path) => args.put(path, text.as_bytes(), (begins, BEGINNING)),
        None => print(&text).map(|_| ()),
    }
}

/// The benchmark score; nothing is exported without one.
fn ensure_score(args: &Args, summary: &Summary, protocol: Protocol) -> anyhow::Result<f64> {
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

fn time_of(run: &RunDirectory) -> anyhow::Result<jiff::Timestamp> {
    let created = &run.manifest().created;
    created.parse().context(CREATED)
}

/// Bytes in which a file shows what it is.
const BEGINNING: usize = 40;

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// What is wrong where a run's time cannot be read.
const CREATED: &str = "`created` in the run's manifest.json is no time";

impl Args {
    /// The rules that are asked for; both where nothing is said.
    fn protocols(&self) -> Vec<Protocol> {
        self.protocol.map_or(Protocol::ALL.to_vec(), |name| vec![name.into()])
    }

    /// Writes a file. One that is there is replaced where it holds `mark`, as exports of this kind do within their first
    /// `within` bytes.
    fn put(&self, path: &Path, bytes: &[u8], (mark, within): (&str, usize)) -> anyhow::Result<()> {
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
