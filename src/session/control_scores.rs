//! In: a run, or a control of it, and a judge that has answered about it. Out: how often it said yes, and what a score it would
//! give by chance. Nothing is asked or written.

use std::collections::BTreeSet;

use crate::aggregate::{Chance, ControlFigures, IntervalMethod, Protocol};
use crate::benchmark::Item;
use crate::results::{ControlKind, ImageOutcome, ImageRecord, NewestAnswers, RunDirectory};
use crate::score::{RunScore, score_run};

/// A judge's answers about a run or a control, scored.
pub(super) struct AskedImages<'i> {
    /// Under `corrected`.
    pub corrected: RunScore<'i>,
    /// Its numbers.
    pub figures: ControlFigures,
}

impl<'i> AskedImages<'i> {
    /// What `judge` said about the images of `run` that `items` have there.
    ///
    /// # Errors
    /// A journal is damaged.
    pub(super) fn of(run: &RunDirectory, judge: &str, items: &[&'i Item]) -> anyhow::Result<Self> {
        let records = run.read_answers(judge)?;
        let answers = NewestAnswers::merge(&records)?;
        let images = run.manifest().images_per_item;
        let under = |protocol| score_run(items, &answers, images, protocol);
        let (corrected, soft) = (under(Protocol::Corrected), under(Protocol::Soft));
        let soft = Some(soft).filter(RunScore::states_probability);
        let level = IntervalMethod::default().level;
        let figures = ControlFigures::of(&corrected, soft.as_ref(), images, level);
        Ok(Self { corrected, figures })
    }
}

/// What `judge` said of the images of `run` with other items' questions; `None` where it was not asked, was set otherwise, or the
/// run has become about something else since. `images` is the run's journal.
///
/// # Errors
/// The control is damaged.
pub(super) fn chance(
    run: &RunDirectory,
    judge: &str,
    items: &[&Item],
    images: &[ImageRecord],
) -> anyhow::Result<Option<Chance>> {
    let Some(control) = run.control(ControlKind::Swapped)? else { return Ok(None) };
    let is_as_large = control.manifest().images_per_item == run.manifest().images_per_item;
    let is_its = is_as_large && is_control_of(&control, run, judge);
    if !is_its || !has_images_of(&control, images)? {
        return Ok(None);
    }
    let seed = control_seed(&control).unwrap_or_default();
    let AskedImages { figures, .. } = AskedImages::of(&control, judge, items)?;
    let control = ControlKind::Swapped.name().to_owned();
    Ok((figures.answered > 0).then_some(Chance { control, seed, figures }))
}

/// The seed by which a control was dealt.
pub(super) fn control_seed(control: &RunDirectory) -> Option<u64> {
    control.manifest().generation.as_ref()?.settings.get("seed")?.as_u64()
}

/// Whether the judge of that name is set in the control as in the run, and both are about the same items.
pub(super) fn is_control_of(control: &RunDirectory, run: &RunDirectory, judge: &str) -> bool {
    let (own, other) = (run.manifest(), control.manifest());
    let settings = [own, other].map(|one| one.judges.get(judge).map(|entry| &entry.settings));
    let is_alike = settings[0].is_some() && settings[0] == settings[1];
    is_alike && own.selection == other.selection && own.benchmark.digest == other.benchmark.digest
}

/// Whether every image of the control is one of the run's.
fn has_images_of(control: &RunDirectory, images: &[ImageRecord]) -> anyhow::Result<bool> {
    let own: BTreeSet<&str> = images.iter().filter_map(digest).collect();
    Ok(control.read_images()?.iter().filter_map(digest).all(|image| own.contains(image)))
}

fn digest(record: &ImageRecord) -> Option<&str> {
    match &record.outcome {
        ImageOutcome::Done { pixels_sha256, .. } => Some(pixels_sha256),
        _ => None,
    }
}
