//! In: scored runs over one benchmark. Out: the same side by side, item by item, for everything that a
//! report shows. Reading them is left to the command.

use std::collections::HashMap;

use crate::aggregate::shares::Stage;
use crate::aggregate::{Protocol, ProtocolSummary, Summary};
use crate::benchmark::Item;
use crate::results::{NewestAnswers, Settings};
use crate::score::{RunScore, ScoredItem};

/// What a report is about.
#[derive(Debug)]
pub struct ReportInput<'a> {
    /// The rules of the figures.
    pub protocol: Protocol,
    /// The items of all runs, in the benchmark's order.
    pub items: Vec<&'a Item>,
    /// The runs, as they were named; the first is what others are compared with.
    pub runs: Vec<ReportRun<'a>>,
}

/// One run.
#[derive(Debug)]
pub struct ReportRun<'a> {
    /// What it is called in the report; no other run is called so.
    pub name: String,
    /// Its figures.
    pub summary: Summary,
    /// What decided its results, by name.
    pub settings: Settings,
    /// Address of the folder of its full pictures, seen from the page and with a stroke at its end; `None`
    /// where the page does not link to them.
    pub pictures: Option<String>,
    /// Its judges; the figures come from the first.
    pub judges: Vec<JudgedRun<'a>>,
}

/// The answers of one judge about a run, with what they count as.
#[derive(Debug)]
pub struct JudgedRun<'a> {
    /// Name in the run directory.
    pub name: String,
    /// What was said.
    pub answers: &'a NewestAnswers<'a>,
    /// What it counts as.
    pub score: RunScore<'a>,
    places: HashMap<&'a str, usize>,
}

impl<'a> JudgedRun<'a> {
    /// A judge's answers and their score.
    pub fn new(name: String, answers: &'a NewestAnswers<'a>, score: RunScore<'a>) -> Self {
        let places = score.items.iter().enumerate();
        let places = places.map(|(place, scored)| (scored.item.id.as_str(), place)).collect();
        Self { name, answers, score, places }
    }

    /// Where an item stands in the score; `None` where the run has not selected it.
    pub fn place(&self, item: &str) -> Option<usize> {
        self.places.get(item).copied()
    }

    /// An item's verdicts and score.
    pub fn scored(&self, item: &str) -> Option<&ScoredItem<'a>> {
        Some(&self.score.items[self.place(item)?])
    }
}

impl ReportRun<'_> {
    /// The judge that the figures come from.
    pub fn judge(&self) -> Option<&JudgedRun<'_>> {
        self.judges.first()
    }

    /// An item's score in percent.
    pub fn item_score(&self, item: &str) -> Option<f64> {
        let scored = self.judge()?.scored(item)?;
        scored.outcome.score.as_ref().ok().map(|score| 100.0 * score)
    }

    /// Standard deviation of the scores of an item's images, in points; `None` below two images.
    pub(crate) fn image_deviation(&self, item: &str) -> Option<f64> {
        let scored = self.judge()?.scored(item)?;
        let scores: Vec<f64> = scored.outcome.image_scores().map(|score| 100.0 * score).collect();
        let count = scores.len() as f64;
        if count < 2.0 {
            return None;
        }
        let mean = scores.iter().sum::<f64>() / count;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        Some((squares / (count - 1.0)).sqrt())
    }
}

impl ReportInput<'_> {
    /// The stage whose category figures stand beside the score: after the rule where there is such a
    /// figure.
    pub fn stage(&self) -> Stage {
        Stage::of_categories(self.protocol)
    }

    /// A run's figures.
    pub fn figures<'s>(&self, run: &'s ReportRun<'_>) -> &'s ProtocolSummary {
        run.summary.protocol(self.protocol)
    }

    /// Places of the runs, best score first; those without stand last.
    pub(crate) fn ranked(&self) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.runs.len()).collect();
        let score = |place: usize| {
            self.figures(&self.runs[place]).overall.map_or(f64::NEG_INFINITY, |figure| figure.mean)
        };
        places.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        places
    }
}

/// Words of a prompt, as blanks part them.
pub(crate) fn words(prompt: &str) -> usize {
    prompt.split_whitespace().count()
}
