//! In: runs. Out: their benchmark scores among published ones.

use std::path::PathBuf;

use crate::aggregate::IntervalMethod;
use crate::aggregate::published::published_scores;
use crate::aggregate::readable::Withheld;
use crate::cli::args::compared::{AllowedName, ComparedArgs};
use crate::cli::commands::score::ProtocolName;
use crate::compare::Labelled;
use crate::reports::published_table::{Placed, published_terminal};

/// What a run must be for its score to stand beside published ones.
const JUDGE: &str = "mplug";

/// The published scores with those of `runs`, best first.
///
/// # Errors
/// A run cannot be scored, or is a baseline of the other protocol.
pub(crate) fn published_table(runs: &[PathBuf], compared: &ComparedArgs) -> anyhow::Result<String> {
    let compared = ComparedArgs { protocol: Some(ProtocolName::Reference), ..compared.clone() };
    let mut rows: Vec<Placed> = published_scores()?.into_iter().map(Placed::from).collect();
    let mut notes = Vec::new();
    for path in runs {
        let Labelled { label, run } = match compared.load(path) {
            Err(error) if error.is::<Withheld>() => {
                notes.push(error.to_string());
                continue;
            }
            loaded => loaded?,
        };
        anyhow::ensure!(
            run.protocol == crate::score::verdict::Protocol::Reference,
            "{label} is a baseline of the protocol `{}`; published scores are of `reference`, which \
             `dpg-bench baseline --protocol reference` writes",
            run.protocol.name()
        );
        anyhow::ensure!(
            run.run.benchmark.official || compared.allow.contains(&AllowedName::Benchmark),
            "{label} is not about the official question file, which published scores are of; leave out \
             --published, or give --allow benchmark to see it beside them all the same"
        );
        let places: Vec<usize> = (0..run.items.len()).collect();
        let overall = run.shares(&places, &[], &[]).overall;
        let interval = overall.interval(IntervalMethod::default().level);
        let Some(mean) = overall.value() else {
            notes.push(format!("{label} has no score"));
            continue;
        };
        rows.push(Placed {
            model: label.clone(),
            overall: 100.0 * mean,
            interval: interval.map(|interval| (100.0 * interval.low, 100.0 * interval.high)),
            source: "this run".to_owned(),
            ours: true,
        });
        let judge = run.judge.settings.get("judge").and_then(|judge| judge.as_str());
        for (is_so, what) in [
            (!run.run.benchmark.official, "is not about the official question file".to_owned()),
            (
                run.run.benchmark.official && run.items.len() < run.run.benchmark.items as usize,
                format!("has {} of {} items", run.items.len(), run.run.benchmark.items),
            ),
            (judge != Some(JUDGE), format!("was judged by {}, not by mPLUG-large", run.judge.name)),
            (
                run.dropped_questions.is_some(),
                run.dropped_questions
                    .as_ref()
                    .map_or(String::new(), |dropped| format!("leaves out {}", dropped.counted())),
            ),
            (!run.is_complete(), format!("is incomplete: {}", run.gap().unwrap_or_default())),
        ] {
            if is_so {
                notes.push(format!("{label} {what}: its score cannot be compared with the others"));
            }
        }
    }
    Ok(published_terminal(rows, &notes))
}
