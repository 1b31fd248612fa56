//! In: items in order and the answers of a judge. Out: every item scored under a protocol. Figures
//! over items are left to `aggregate`.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::benchmark::Item;
use crate::results::{AnswerRecord, NewestAnswers};

use super::answer_grid::answer_grid;
use super::item_score::{ItemScore, score_item};
use super::verdict::{Protocol, Verdict};

/// A run under one protocol.
#[derive(Debug)]
pub struct RunScore<'a> {
    /// The rules that were followed.
    pub protocol: Protocol,
    /// The items, in the order in which their scores are added up.
    pub items: Vec<ScoredItem<'a>>,
}

impl<'a> RunScore<'a> {
    /// The items by their ids.
    pub(crate) fn by_id(&self) -> HashMap<&str, &ScoredItem<'a>> {
        self.items.iter().map(|item| (item.item.id.as_str(), item)).collect()
    }
}

/// An item with what came of it.
#[derive(Debug)]
pub struct ScoredItem<'a> {
    /// The item.
    pub item: &'a Item,
    /// Its verdicts and score.
    pub outcome: ItemScore,
}

impl RunScore<'_> {
    /// Whether a question counts with P(yes).
    pub(crate) fn states_probability(&self) -> bool {
        let images = self.items.iter().flat_map(|item| &item.outcome.images);
        images.flat_map(|image| &image.raw).any(|raw| matches!(raw, Verdict::Share(_)))
    }

    /// The scores of the items that have one, in order, in 0..=1.
    pub fn item_scores(&self) -> Vec<f64> {
        self.items.iter().filter_map(|item| item.outcome.score.as_ref().ok().copied()).collect()
    }
}

/// Scores `items`, in the order given, over `images_per_item` images each.
pub fn score_run<'a>(
    items: &[&'a Item],
    answers: &NewestAnswers<'_>,
    images_per_item: u32,
    protocol: Protocol,
) -> RunScore<'a> {
    let items = items
        .par_iter()
        .map(|&item| ScoredItem {
            item,
            outcome: score_item(
                &item.graph,
                &answer_grid(item, images_per_item, answers),
                protocol,
            ),
        })
        .collect();
    RunScore { protocol, items }
}

/// The items in the order in which a journal first names them (the order in which the script that
/// wrote an imported log met its files); those that it does not name follow in the order given.
pub(crate) fn in_journal_order<'a>(items: &[&'a Item], records: &[AnswerRecord]) -> Vec<&'a Item> {
    let mut first_seen: HashMap<&str, usize> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        first_seen.entry(&record.item).or_insert(place);
    }
    let mut ordered = items.to_vec();
    ordered.sort_by_key(|item| first_seen.get(item.id.as_str()).copied().unwrap_or(usize::MAX));
    ordered
}
