//! In: a scored run. Out: its score in the form of another tool.

mod args;
mod logs;
mod mlflow;

use anyhow::Context;

use crate::aggregate::{Protocol, Summary};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::print;
use crate::exports::event_file::EventFile;
use crate::exports::hugging_face::{CardEntry, notes};
use crate::exports::scalars::scalars;
use crate::results::{ImageOutcome, RunDirectory};
use crate::session::scoring::scored_run;
pub(crate) use args::Args;
use args::{BEGINNING, CREATED, Target, ensure_score, make_folder};

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
    let protocols = Protocol::ALL.into_iter().chain(args.protocol.map(Protocol::from));
    let complete = protocols.map(|one| summary.protocol(one)).all(|own| own.gap.is_none());
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
    let protocols = args.protocols(summary)?;
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

fn time_of(run: &RunDirectory) -> anyhow::Result<jiff::Timestamp> {
    let created = &run.manifest().created;
    created.parse().context(CREATED)
}
