//! In: a run with the answers of a judge. Out: what the judge says about images that do not fit the questions, or fit them as well as
//! can be; how often it says yes to them; and the questions that it says yes to whatever the image.

mod pictures;

use anyhow::{Context, anyhow};

use self::pictures::{Pictures, is_demo};
use super::benchmarks::selected;
use super::control_scores::{AskedImages, control_seed, is_control_of};
use super::listener::{Listener, Stage};
use super::loaded_judge::LoadedJudge;
use super::scoring::{check_has_answered, judge_identity, run_identity};
use super::watched::Watched;
use crate::aggregate::{CONTROLS, Control, ControlReport, IntervalMethod, always_yes};
use crate::benchmark::{Benchmark, Derangement};
use crate::judge::judge_counts::JudgeCounts;
use crate::judge::judge_run::judge_images;
use crate::reports::always_yes_csv;
use crate::results::atomic_write::atomic_write;
use crate::results::{ControlKind, FORMAT_VERSION, RunDirectory, RunError, RunLock};

/// The kinds that can be asked of a run where the user names none.
///
/// # Errors
/// A fault of the program itself.
pub fn possible_kinds(benchmark: &Benchmark) -> anyhow::Result<Vec<ControlKind>> {
    let has_true = is_demo(benchmark)?;
    Ok(ControlKind::ALL.into_iter().filter(|kind| *kind != ControlKind::True || has_true).collect())
}

/// That a control of that kind can be made of a run, dealt with `seed`; nothing is written.
///
/// # Errors
/// It cannot, or one with other settings was begun.
pub fn check_control(
    run: &RunDirectory,
    benchmark: &Benchmark,
    kind: ControlKind,
    seed: u64,
) -> anyhow::Result<()> {
    let items = selected(benchmark, run)?;
    Pictures::of(kind, run, benchmark, &items, seed).map(|_| ())
}

/// That `judge` has answered about the run's own images, with which its controls are compared.
///
/// # Errors
/// It has not.
pub fn check_was_asked(run: &RunDirectory, judge: &str) -> anyhow::Result<()> {
    check_has_answered(run, judge)
        .context("a control stands beside a judge's answers about the run's own images")
}

/// Puts the images of a control into the run, and its questions to the judge. What earlier sittings did is kept.
///
/// # Errors
/// The judge is set otherwise than when it answered about the run; the control was begun with other settings, or the run has other
/// images since; somebody else works there; a journal is damaged; the judge gave up; or the disk said no.
pub fn ask_control(
    run: &RunDirectory,
    benchmark: &Benchmark,
    kind: ControlKind,
    seed: u64,
    judge: &LoadedJudge,
    listener: &dyn Listener,
) -> anyhow::Result<JudgeCounts> {
    judge.check_set_as_in(run)?;
    let items = selected(benchmark, run)?;
    let pictures = Pictures::of(kind, run, benchmark, &items, seed)?;
    let manifest = run.manifest();
    let per_item = pictures.per_item(manifest.images_per_item);
    let folder = run.control_path(kind)?;
    let anew = |error: RunError| match error.changed_settings() {
        Some(others) => anyhow!(
            "this control was begun otherwise; give the same --seed and leave the run as it was, or delete {} with its answers; \
             what differs:{others}",
            folder.display()
        ),
        None => error.into(),
    };
    let _lock = RunLock::take(&folder, "control")?;
    let (about, selection) = (manifest.benchmark.clone(), manifest.selection.clone());
    let control = RunDirectory::open_or_create(&folder, about, selection, per_item);
    let mut control = control.map_err(anew)?;
    let sitting = control.begin_generation(pictures.settings(), "cpu").map_err(anew)?;
    let put = pictures.put(&control, run, &items, &|| listener.stop_requested())?;
    control.finish(&sitting, put, 0)?;

    let mut sitting = judge.begin(&mut control)?;
    let stage = Stage::Judge { name: sitting.name(), at_once: 1 };
    let observer = Watched::new(listener, stage, None);
    let counts =
        sitting.ask(|name, judge| judge_images(&control, name, &items, judge, &observer))?;
    sitting.finish(&mut control, &counts, listener)?;
    Ok(counts)
}

/// What the controls of `judge` told so far, beside its answers about the run.
///
/// # Errors
/// It has not answered about the run's own images, or a journal is damaged.
pub fn control_report(
    run: &RunDirectory,
    benchmark: &Benchmark,
    judge: &str,
) -> anyhow::Result<ControlFiles> {
    check_was_asked(run, judge)?;
    let items = selected(benchmark, run)?;
    let own = AskedImages::of(run, judge, &items)?;
    let mut asked = Vec::new();
    for kind in ControlKind::ALL {
        if let Some(control) =
            run.control(kind)?.filter(|control| is_control_of(control, run, judge))
        {
            let said = AskedImages::of(&control, judge, &items)?;
            if said.figures.answered > 0 {
                asked.push((kind, control_seed(&control), said));
            }
        }
    }
    let said = |wanted| asked.iter().find(|(kind, ..)| *kind == wanted).map(|(.., said)| said);
    let both = said(ControlKind::Swapped).zip(said(ControlKind::Grey));
    let always = both
        .map(|(swapped, grey)| always_yes([&own.corrected, &swapped.corrected, &grey.corrected]));
    let controls = asked.iter().map(|(kind, seed, said)| Control {
        kind: kind.name().to_owned(),
        seed: *seed,
        mixes: seed.and_then(|seed| Some(Derangement::new(&items, seed)?.mixes)),
        figures: said.figures.clone(),
    });
    let csv = always.as_ref().map(|(questions, _)| always_yes_csv(questions)).transpose()?;
    let report = ControlReport {
        format_version: FORMAT_VERSION,
        kind: CONTROLS.to_owned(),
        run: run_identity(run, benchmark),
        judge: judge_identity(run, judge),
        intervals: IntervalMethod::default(),
        own: own.figures,
        controls: controls.collect(),
        always_yes: always.map(|(_, count)| count),
    };
    Ok(ControlFiles { report, always_yes: csv })
}

/// What came of a judge's controls, as it is written.
pub struct ControlFiles {
    /// The numbers.
    pub(crate) report: ControlReport,
    /// The questions with a yes to every image, as CSV, where it is known which these are.
    pub(crate) always_yes: Option<Vec<u8>>,
}

impl ControlFiles {
    /// Writes `controls/<judge>.json`, and `controls/<judge>-always-yes.csv` where there is such a list.
    ///
    /// # Errors
    /// The disk said no.
    pub fn write(&self, run: &RunDirectory) -> anyhow::Result<()> {
        let [json, csv] = run.control_files(&self.report.judge.name)?;
        let mut text = serde_json::to_vec_pretty(&self.report)?;
        text.push(b'\n');
        if let Some(always_yes) = &self.always_yes {
            atomic_write(&csv, always_yes)?;
        }
        Ok(atomic_write(&json, &text)?)
    }
}
