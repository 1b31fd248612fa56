//! In: a judge's answers about a run and about its controls, scored. Out: `controls/<judge>.json`, and the questions that the judge
//! says yes to whatever the image. How that looks on paper is left to `reports`.

use serde::{Deserialize, Serialize};

use super::control_figures::ControlFigures;
use super::summary::{IntervalMethod, JudgeIdentity, RunIdentity};
use crate::benchmark::MixDifference;
use crate::results::FormatVersion;
use crate::score::RunScore;

/// What [`ControlReport::kind`] says.
pub(crate) const CONTROLS: &str = "controls";

/// `controls/<judge>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ControlReport {
    /// Version of the file.
    pub format_version: FormatVersion,
    /// `controls`.
    pub kind: String,
    /// What was judged.
    pub run: RunIdentity,
    /// Who answered.
    pub judge: JudgeIdentity,
    /// How the intervals were made.
    pub intervals: IntervalMethod,
    /// About the run's own images.
    pub own: ControlFigures,
    /// About the controls that were asked, in the order of their kinds.
    pub controls: Vec<Control>,
    /// Questions with a yes to every image, where the judge was asked about other items' images and about grey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always_yes: Option<AlwaysYesCount>,
}

impl ControlReport {
    /// Whether a score is withheld.
    pub(crate) fn has_gap(&self) -> bool {
        let controls = self.controls.iter().map(|control| &control.figures);
        std::iter::once(&self.own).chain(controls).any(|figures| figures.gap.is_some())
    }
}

/// One control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Control {
    /// Its kind: `swapped`, `grey` or `true`.
    pub kind: String,
    /// Of `swapped`, the seed by which other items were dealt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Of `swapped`, how far the mixes of the questions are apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixes: Option<MixDifference>,
    /// What the judge said.
    pub figures: ControlFigures,
}

/// Questions with a yes to every image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlwaysYesCount {
    /// These.
    pub questions: u64,
    /// Of so many with an answer about the run's images, about another item's and about grey.
    pub of: u64,
}

/// A question that the judge says yes to whatever the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlwaysYes<'a> {
    pub(crate) item: &'a str,
    pub(crate) question: u32,
    pub(crate) text: &'a str,
    /// How many images it was asked about: the run's own, another item's, grey ones. To all of them the judge said yes.
    pub(crate) images: [u64; 3],
}

/// The questions with a yes to every image that they were asked about: the run's own, another item's and grey ones, at least one
/// of each; and of how many questions that could be said. All are scores under `corrected` over the same items.
pub(crate) fn always_yes<'a>(asked: [&RunScore<'a>; 3]) -> (Vec<AlwaysYes<'a>>, AlwaysYesCount) {
    let [_, swapped, grey] = asked.map(RunScore::by_id);
    let (mut found, mut of) = (Vec::new(), 0);
    for own in &asked[0].items {
        let item = own.item;
        let beside = [&swapped, &grey].map(|scores| scores.get(item.id.as_str()).copied());
        let [Some(swapped), Some(grey)] = beside else { continue };
        for (place, question) in item.graph.questions().iter().enumerate() {
            let counts = [own, swapped, grey].map(|scored| {
                let raw = scored.outcome.images.iter().map(|image| image.raw[place].weight());
                raw.flatten().fold((0, true), |(n, all), yes| (n + 1, all && yes == 1.0))
            });
            if counts.iter().any(|(images, _)| *images == 0) {
                continue;
            }
            of += 1;
            if counts.iter().all(|(_, all)| *all) {
                let images = counts.map(|(images, _)| images);
                let (item, text) = (item.id.as_str(), question.text.as_str());
                found.push(AlwaysYes { item, question: question.id, text, images });
            }
        }
    }
    let questions = found.len() as u64;
    (found, AlwaysYesCount { questions, of })
}
