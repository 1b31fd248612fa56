//! In: which items are wanted. Out: those items of a benchmark, in file order, the same each time.
//! Which flags say so is left to `cli`.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::error::BenchmarkError;
use super::item::Item;
use super::load::Benchmark;
use super::subset::balanced_subset;
use crate::near_names::{category_named, near};

/// A part of a benchmark. Every field that is set narrows it; the default is all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Only these items; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// Only items whose id begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Only items that have a question of this category, L1 or L2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// So many of what the others leave, chosen to keep its mix of categories and sources; always the
    /// same ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<usize>,
    /// Only the first so many of what the others leave, in file order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if !self.items.is_empty() {
            parts.push(format!("items {}", self.items.join(",")));
        }
        if let Some(prefix) = &self.prefix {
            parts.push(format!("prefix `{prefix}`"));
        }
        if let Some(category) = &self.category {
            parts.push(format!("category `{category}`"));
        }
        if let Some(subset) = self.subset {
            parts.push(format!("subset {subset}"));
        }
        if let Some(limit) = self.limit {
            parts.push(format!("limit {limit}"));
        }
        if parts.is_empty() { f.write_str("everything") } else { f.write_str(&parts.join(", ")) }
    }
}

impl Benchmark {
    /// The selected items, in file order, whatever the order in which they are named.
    ///
    /// # Errors
    /// An item or category that the benchmark has not, or nothing left.
    pub fn select(&self, selection: &Selection) -> Result<Vec<&Item>, BenchmarkError> {
        let wanted: HashSet<&str> = selection.items.iter().map(String::as_str).collect();
        self.check_items(&selection.items)?;
        let category = selection.category.as_deref();
        let category = category.map(|name| self.find_category(name.trim())).transpose()?;
        let category = category.as_deref();
        let mut selected: Vec<&Item> = self
            .items
            .iter()
            .filter(|item| wanted.is_empty() || wanted.contains(item.id.as_str()))
            .filter(|item| {
                selection.prefix.as_ref().is_none_or(|prefix| item.id.starts_with(prefix))
            })
            .filter(|item| category.is_none_or(|name| has_category(item, name)))
            .collect();
        if let Some(count) = selection.subset {
            let places = balanced_subset(&selected, count);
            selected = places.into_iter().map(|place| selected[place]).collect();
        }
        selected.truncate(selection.limit.unwrap_or(usize::MAX));
        if selected.is_empty() {
            return Err(BenchmarkError::NothingSelected { selection: selection.to_string() });
        }
        Ok(selected)
    }

    fn check_items(&self, wanted: &[String]) -> Result<(), BenchmarkError> {
        let known: HashSet<&str> = self.items.iter().map(|item| item.id.as_str()).collect();
        let unknown: Vec<(String, Vec<String>)> = wanted
            .iter()
            .filter(|id| !known.contains(id.as_str()))
            .map(|id| (id.clone(), self.near_ids(id).into_iter().map(str::to_owned).collect()))
            .collect();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(BenchmarkError::UnknownItems { items: unknown })
        }
    }

    /// The category that `name` names.
    fn find_category(&self, name: &str) -> Result<String, BenchmarkError> {
        let mut known = BTreeSet::new();
        for question in self.items.iter().flat_map(|item| item.graph.questions()) {
            known.extend([question.category.l1(), question.category.l2()]);
        }
        let found = category_named(name, known.iter().copied()).map(str::to_owned);
        found.ok_or_else(|| BenchmarkError::UnknownCategory {
            name: name.to_owned(),
            known: known.into_iter().map(str::to_owned).collect(),
        })
    }

    /// Up to three ids that are like `id`, the nearest first.
    pub fn near_ids(&self, id: &str) -> Vec<&str> {
        let mut ids = near(id, self.items.iter().map(|item| item.id.as_str()));
        ids.truncate(3);
        ids
    }
}

fn has_category(item: &Item, name: &str) -> bool {
    item.graph
        .questions()
        .iter()
        .any(|question| question.category.l1() == name || question.category.l2() == name)
}
