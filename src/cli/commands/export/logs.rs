//! In: a run directory. Out: files in a folder, in the shape of other harnesses' logs, one sample an image.

use anyhow::Context;

use super::args::{Args, CREATED, Target, make_folder};
use crate::aggregate::Summary;
use crate::cli::output::print::say;
use crate::exports::inspect_log::inspect_log;
use crate::exports::lm_eval::lm_eval_files;
use crate::exports::run_facts::RunFacts;
use crate::exports::samples::ScoredImages;
use crate::results::RunDirectory;
use crate::session::scoring::{WholeRun, with_scored_run};
use crate::wording::counted;

/// Writes them, and returns what the run was scored to.
pub(super) fn write_logs(args: &Args, run: &RunDirectory) -> anyhow::Result<Summary> {
    let (benchmark, judge) = (args.benchmark.as_deref(), args.judge.as_deref());
    with_scored_run(run, benchmark, judge, args.allow_incomplete, |whole| write(args, run, whole))?
}

fn write(args: &Args, run: &RunDirectory, whole: WholeRun<'_>) -> anyhow::Result<Summary> {
    let WholeRun { scored, items, images, answers } = whole;
    let summary = scored.summary;
    let out = args.out.as_ref().context("--to lm-eval and --to inspect need --out DIR")?;
    let protocols = args.protocols(&summary)?;
    let all = scored.protocols.iter().chain(scored.soft.iter().flatten());
    let wanted: Vec<_> = all.filter(|score| protocols.contains(&score.protocol)).collect();
    let facts = RunFacts::new(&summary, run.manifest(), &protocols).context(CREATED)?;
    let scored = ScoredImages {
        protocols: &wanted,
        items,
        answers,
        images,
        images_per_item: run.manifest().images_per_item,
    };
    let left_out = match args.to {
        Target::LmEval => {
            let files = lm_eval_files(&facts, &scored)?;
            let folder = out.join(&files.folder);
            let [results, samples] = &files.names;
            make_folder(&folder)?;
            let mark = ("\"dpg_bench_version\":", usize::MAX);
            args.put(&folder.join(results), &files.results, mark)?;
            let mark = ("\"metrics\":[\"score\"]", usize::MAX);
            args.put(&folder.join(samples), &files.samples, mark)?;
            files.left_out
        }
        _ => {
            let log = inspect_log(&facts, &scored)?;
            make_folder(out)?;
            let mark = ("\"packages\":{\"dpg-bench\":", usize::MAX);
            args.put(&out.join(&log.name), &log.bytes, mark)?;
            log.left_out
        }
    };
    if left_out > 0 {
        let verb = if left_out == 1 { "has no score and is" } else { "have no score and are" };
        say(&format!("{} {verb} left out", counted(left_out, "image")));
    }
    Ok(summary)
}
