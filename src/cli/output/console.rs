//! In: what happens in a session. Out: lines and progress bars on stderr, and a stop when a signal came.

use std::path::Path;

use crate::benchmark::Benchmark;
use crate::cli::commands::watch;
use crate::cli::interrupt;
use crate::cli::output::live::Live;
use crate::cli::output::print::{say, warn};
use crate::cli::output::progress::StageProgress;
use crate::session::listener::{Listener, Stage};
use crate::stage_observer::StageObserver;
use crate::wording::counted;

/// The terminal, as a session's listener.
#[derive(Default)]
pub(crate) struct Console<'a> {
    /// Whose score so far is told beside the progress, if it is told.
    pub live: Option<&'a Live<'a>>,
}

impl Listener for Console<'_> {
    fn note(&self, text: &str) {
        say(text);
    }

    fn warning(&self, text: &str) {
        warn(text);
    }

    fn observe<'s>(&'s self, stage: Stage<'_>) -> Box<dyn StageObserver + 's> {
        let (verb, part) = match stage {
            Stage::Thumbnails => return Box::new(StageProgress::unstoppable("thumbnails")),
            Stage::Generate => ("generating".to_owned(), watch::IMAGES),
            Stage::Judge { name, at_once: 1 } => ("judging".to_owned(), name),
            // As wide as the other, so that the bars stand below each other.
            Stage::Judge { name, at_once: 2 } => ("judging   ".to_owned(), name),
            Stage::Judge { name, .. } => (format!("judging, {name}"), name),
        };
        Box::new(StageProgress::new(&verb, self.live.map(|live| live.part(part))))
    }

    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }
}

/// Says what the work is about before it starts: the benchmark, so many items and images of each, the model, the judges
/// and the folder.
pub(crate) fn say_work(
    benchmark: &Benchmark,
    items: usize,
    images: u32,
    model: Option<&str>,
    judges: &[&str],
    out: &Path,
) {
    let mut text = format!(
        "benchmark {}: {} with {} each",
        benchmark.source.path.display(),
        counted(items, "item"),
        counted(images, "image")
    );
    if let Some(model) = model {
        text += &format!("; model {model}");
    }
    match judges {
        [] => {}
        [one] => text += &format!("; judge {one}"),
        several => text += &format!("; judges {}", several.join(", ")),
    }
    say(&format!("{text}; folder {}", out.display()));
}

/// Says how a report of the run at `out` is made, named after its folder, since several runs may have one model; of several
/// judges with the answers of `judge`.
pub(crate) fn say_report(out: &Path, judge: Option<&str>) {
    let whole = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    let [run, report] = [out.to_string_lossy(), format!("reports/{name}").into()]
        .map(|word| interrupt::quoted(&word));
    let judge = judge.map_or_else(String::new, |judge| format!(" --judge {judge}"));
    say(&format!("report: dpg-bench report {run}{judge} --out {report}"));
}

/// Says what comes after a shard of the run at `out`.
pub(crate) fn say_next(out: &Path) {
    say(&format!("when all shards are done: dpg-bench merge {}", out.display()));
}
