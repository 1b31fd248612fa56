//! In: the file of `--drop-questions`, and a benchmark. Out: the benchmark without the questions that it names, and what is recorded of
//! that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::aggregate::DroppedQuestions;
use crate::benchmark::digest::hex;
use crate::benchmark::{Benchmark, Item};
use crate::near_names::did_you_mean;

/// Questions that are to count nowhere.
#[derive(Debug, Clone)]
pub struct ToDrop {
    sha256: String,
    by_item: BTreeMap<String, BTreeSet<u32>>,
}

impl ToDrop {
    /// Reads a CSV file with the columns `item` and `question`; further columns are not looked at.
    ///
    /// # Errors
    /// It cannot be read, has no such columns, or names a question that `benchmark` does not have, or one twice.
    pub fn read(path: &Path, benchmark: &Benchmark) -> anyhow::Result<Self> {
        let shown = path.display();
        let bytes = std::fs::read(path)
            .with_context(|| format!("{shown}: the file of --drop-questions cannot be read"))?;
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes.as_slice());
        let head = reader.headers().with_context(|| format!("{shown} is no CSV file"))?.clone();
        let column = |name: &str| {
            let place =
                head.iter().position(|heading| heading.trim_start_matches('\u{feff}') == name);
            place.with_context(|| {
                format!(
                    "{shown} has no column `{name}`; --drop-questions reads the columns `item` and `question`, as \
                     `dpg-bench control` writes them"
                )
            })
        };
        let (item_column, question_column) = (column("item")?, column("question")?);
        let items: BTreeMap<&str, &Item> =
            benchmark.items.iter().map(|item| (item.id.as_str(), item)).collect();
        let mut by_item: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for (row, record) in (2..).zip(reader.records()) {
            let record = record.with_context(|| format!("{shown}, row {row} cannot be read"))?;
            let cell = |column: usize| record.get(column).unwrap_or_default().trim();
            let (id, number) = (cell(item_column), cell(question_column));
            let Some(item) = items.get(id) else {
                let near = did_you_mean(id, items.keys().copied());
                bail!(
                    "{shown}, row {row}: the benchmark has no item `{id}`{near}; mend the row or take it out"
                );
            };
            let question = number.parse().ok().filter(|&id| item.graph.position(id).is_some());
            let question = question.with_context(|| {
                format!("{shown}, row {row}: item {id} has no question `{number}`; mend the row or take it out")
            })?;
            let is_new = by_item.entry(id.to_owned()).or_default().insert(question);
            ensure!(
                is_new,
                "{shown}, row {row}: question {question} of {id} stands in an earlier row too; take one out"
            );
        }
        Ok(Self { sha256: hex(&Sha256::digest(&bytes)), by_item })
    }

    /// `benchmark` without them: what depended on one of them depends on its parents.
    pub fn apply(&self, benchmark: &Benchmark) -> Benchmark {
        benchmark.without(&self.by_item)
    }

    /// What is recorded of them beside a score of `items`.
    pub(super) fn record(&self, items: &[&Item]) -> DroppedQuestions {
        let count = |questions: &BTreeSet<u32>| questions.len() as u64;
        let own = items.iter().filter_map(|item| self.by_item.get(&item.id));
        DroppedQuestions {
            sha256: self.sha256.clone(),
            questions: self.by_item.values().map(count).sum(),
            of_these_items: own.map(count).sum(),
        }
    }
}
