//! In: a question file in the official layout, or a folder that holds one. Out: a benchmark whose
//! graphs are valid, with every oddity that was met, or an error that lists what to mend. Which part
//! of it a run uses is left to `select`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::digest::{BenchmarkDigest, git_blob_id};
use super::error::BenchmarkError;
use super::finding::{Finding, FindingKind, Oddity};
use super::graph_findings::{fault_finding, graph_oddities, places};
use super::item::Item;
use super::official::{are_official_questions, is_official_digest};
use super::prompt_files::PromptFiles;
use super::question::QuestionId;
use super::question_graph::QuestionGraph;
use super::rows::{ItemRows, read_rows};
use crate::wording::counted;

/// What happens to faults of question graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// They are errors; the cycles of the official file, which are cut by a fixed rule, are oddities.
    #[default]
    Strict,
    /// They are oddities, and the faulty edge is ignored (a question whose number is taken is left
    /// out). Everything else that is wrong stays an error.
    Lenient,
}

/// All items of a question file.
#[derive(Debug, Clone)]
pub struct Benchmark {
    /// The items, in file order; at least one.
    pub items: Vec<Item>,
    /// SHA-256 of what is asked, in lower-case hex; see [`BenchmarkDigest`].
    pub digest: String,
    /// Where it came from.
    pub source: Source,
    /// What was noteworthy but no error, in file order.
    pub oddities: Vec<Oddity>,
}

/// Where a benchmark came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path that was asked for: a file or a folder.
    pub path: PathBuf,
    /// The question file itself.
    pub question_file: PathBuf,
    /// Git blob id of the question file, as `git hash-object` prints it.
    pub git_blob_id: String,
    /// Whether what is asked is what was published with ELLA: the official questions, about the prompts of
    /// the question file or of the prompt files beside it. Told by digests of contents, so that copies with
    /// other line ends or quoting count.
    pub official: bool,
    /// Whether the questions are the published ones, whatever the prompts.
    pub official_questions: bool,
    /// Items whose prompt came from a file in `prompts/`.
    pub prompt_files: usize,
    /// How faults of the graphs were taken.
    pub strictness: Strictness,
}

impl Benchmark {
    /// The same items without some of their questions: `dropped` has numbers by item id. What depended on a dropped question
    /// depends on its parents. Digest and source stay those of the whole.
    pub fn without(&self, dropped: &BTreeMap<String, BTreeSet<QuestionId>>) -> Self {
        let mut left = self.clone();
        for item in &mut left.items {
            if let Some(dropped) = dropped.get(&item.id) {
                item.graph = item.graph.without(dropped);
            }
        }
        left
    }

    /// Loads the CSV file at `path`, or from the folder at `path` its `dpg_bench.csv` (or its only
    /// CSV file). Where the folder has `prompts/<item>.txt`, that prompt counts, because it is what
    /// published runs gave their models; a file named directly is taken alone.
    ///
    /// # Errors
    /// The path cannot be read, holds no (or no single) question file, or its data are invalid
    /// ([`BenchmarkError::Invalid`], which lists every problem).
    pub fn load(path: &Path, strictness: Strictness) -> Result<Self, BenchmarkError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |reason| BenchmarkError::Unreadable { path, reason }
        };
        let is_folder = std::fs::metadata(path).map_err(unreadable(path))?.is_dir();
        let question_file = if is_folder { find_question_file(path)? } else { path.to_owned() };
        let bytes = std::fs::read(&question_file).map_err(unreadable(&question_file))?;
        let prompts =
            if is_folder { PromptFiles::find(&path.join("prompts"))? } else { PromptFiles::none() };
        assemble(&bytes, path.to_owned(), question_file, prompts, strictness)
    }

    /// Reads a question file that is in memory. `name` stands for its path in messages.
    ///
    /// # Errors
    /// [`BenchmarkError::Invalid`], with every problem.
    pub fn from_csv(bytes: &[u8], name: &str) -> Result<Self, BenchmarkError> {
        let name = PathBuf::from(name);
        assemble(bytes, name.clone(), name, PromptFiles::none(), Strictness::Strict)
    }

    /// The item with this id.
    pub fn item(&self, id: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id)
    }

    /// Questions of all items.
    pub fn question_count(&self) -> usize {
        self.items.iter().map(|item| item.graph.len()).sum()
    }

    /// Questions per L2 category, in name order.
    pub fn category_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for question in self.items.iter().flat_map(|item| item.graph.questions()) {
            *counts.entry(question.category.l2()).or_default() += 1;
        }
        counts
    }
}

fn find_question_file(folder: &Path) -> Result<PathBuf, BenchmarkError> {
    let official = folder.join("dpg_bench.csv");
    if official.is_file() {
        return Ok(official);
    }
    let unreadable = |reason| BenchmarkError::Unreadable { path: folder.to_owned(), reason };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_csv =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        if is_csv && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Err(BenchmarkError::NoQuestionFile { path: folder.to_owned() }),
        [only] => Ok(only.clone()),
        several => Err(BenchmarkError::SeveralQuestionFiles {
            path: folder.to_owned(),
            found: several
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
                .collect(),
        }),
    }
}

fn assemble(
    bytes: &[u8],
    path: PathBuf,
    question_file: PathBuf,
    prompts: PromptFiles,
    strictness: Strictness,
) -> Result<Benchmark, BenchmarkError> {
    let (file, git_blob_id) = rayon::join(|| read_rows(bytes), || git_blob_id(bytes));
    let (mut problems, mut oddities) = (file.problems, file.oddities);
    let mut item_rows = file.items;
    oddities.extend(prompts.without_item(&item_rows));
    let found: Vec<_> = item_rows.par_iter().map(|item| prompts.read(&item.id)).collect();
    let mut prompt_files = 0;
    for (item, found) in item_rows.iter_mut().zip(found) {
        match found {
            Ok(Some(prompt)) => {
                prompt_files += 1;
                take_prompt_file(item, prompt, &mut oddities);
            }
            Ok(None) => {
                check_own_prompt(item, &mut problems);
                if prompts.exist() {
                    let message = "there is no prompt file for it, where others have one";
                    let finding = at_first_row(FindingKind::ItemWithoutPromptFile, item, message);
                    oddities.push(finding);
                }
            }
            Err(problem) => problems.push(*problem),
        }
    }
    let (official_questions, digest) =
        rayon::join(|| are_official_questions(&item_rows), || digest_of(&item_rows));
    let checked: Vec<_> = item_rows.into_par_iter().with_min_len(16).map(checked_item).collect();
    let mut items = Vec::with_capacity(checked.len());
    for (item, unusual, faults) in checked {
        oddities.extend(unusual);
        for fault in faults {
            let is_known = official_questions && fault.kind == FindingKind::Cycle;
            if is_known || strictness == Strictness::Lenient {
                oddities.push(fault);
            } else {
                problems.push(fault);
            }
        }
        items.push(item);
    }
    if !problems.is_empty() {
        problems.sort_by_key(|problem| problem.row);
        return Err(BenchmarkError::Invalid { path: question_file, problems });
    }
    oddities.extend(unlisted_categories(&items));
    oddities.sort_by_key(|oddity| oddity.row);
    let source = Source {
        path,
        question_file,
        git_blob_id,
        official: is_official_digest(&digest),
        official_questions,
        prompt_files,
        strictness,
    };
    Ok(Benchmark { items, digest, source, oddities })
}

fn digest_of(items: &[ItemRows]) -> String {
    let mut digest = BenchmarkDigest::new();
    for item in items {
        digest.add_item(&item.id, &item.prompt, &item.questions);
    }
    digest.finish()
}

/// An item with its graph, what is unusual about that, and its faults.
fn checked_item(item: ItemRows) -> (Item, Vec<Oddity>, Vec<Finding>) {
    let mut unusual = Vec::new();
    graph_oddities(&item, &mut unusual);
    let places = places(&item);
    let (graph, faults) = QuestionGraph::build(item.questions);
    let mut found = Vec::new();
    if !item.damaged {
        let findings = faults.iter();
        found.extend(findings.map(|fault| fault_finding(&item.id, &places[fault.question], fault)));
    }
    (Item { id: item.id, prompt: item.prompt, graph }, unusual, found)
}

fn at_first_row(kind: FindingKind, item: &ItemRows, message: &str) -> Finding {
    let (row, line) = item.first_row();
    Finding::in_row(kind, row, line, message).item(&item.id)
}

/// The prompt file settles which prompt counts, so differences in the question file are no errors.
fn take_prompt_file(item: &mut ItemRows, prompt: String, oddities: &mut Vec<Oddity>) {
    if let Some(differing) = item.other_prompt.take() {
        oddities.push(differing);
    }
    if prompt != item.prompt {
        let message = "the prompt file says something else; the prompt file counts";
        oddities.push(
            at_first_row(FindingKind::PromptFileDiffers, item, message).cell("text", &item.prompt),
        );
        item.prompt = prompt;
    }
}

fn check_own_prompt(item: &ItemRows, problems: &mut Vec<Finding>) {
    problems.extend(item.other_prompt.clone());
    if item.prompt.is_empty() && !item.questions.is_empty() {
        let message = "the item has no prompt; write it into the column `text`";
        problems.push(at_first_row(FindingKind::EmptyPrompt, item, message).cell("text", ""));
    }
}

/// The L2 names of the table that the reference scorer prints for the official file.
pub const REFERENCE_CATEGORIES: [&str; 13] = [
    "attribute - color",
    "attribute - other",
    "attribute - shape",
    "attribute - size",
    "attribute - texture",
    "entity - part",
    "entity - state",
    "entity - whole",
    "global -",
    "other - count",
    "other - text",
    "relation - non-spatial",
    "relation - spatial",
];

/// One finding per unlisted name, at its first question.
fn unlisted_categories(items: &[Item]) -> Vec<Finding> {
    let mut found: BTreeMap<&str, (usize, &str, usize)> = BTreeMap::new();
    for item in items {
        for question in item.graph.questions() {
            let name = question.category.l2();
            if !REFERENCE_CATEGORIES.contains(&name) {
                found.entry(name).or_insert((question.row, &item.id, 0)).2 += 1;
            }
        }
    }
    found
        .into_iter()
        .map(|(name, (row, item, count))| {
            let message =
                format!(
                "{} of a category that is none of the official file's 13 (docs/benchmark-format.md), the first in row {row} (item `{item}`)",
                counted(count, "question")
            );
            Finding::of_file(FindingKind::UnlistedCategory, message).cell("tuple", name)
        })
        .collect()
}
