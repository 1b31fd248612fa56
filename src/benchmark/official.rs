//! In: the questions of a file, or its digest. Out: whether they are the published ones, and what is known
//! to be odd in those. How the published cycles are cut is left to `question_graph`.

use super::digest::QuestionsDigest;
use super::finding::{Finding, FindingKind};
use super::rows::ItemRows;

/// Items of the question file published with ELLA (`dpg_bench/dpg_bench.csv`, commit 3c228f1).
pub const OFFICIAL_ITEMS: usize = 1_065;

/// Questions of that file.
pub const OFFICIAL_QUESTIONS: usize = 14_392;

/// Digest of its questions without their prompts ([`QuestionsDigest`]).
const QUESTIONS_DIGEST: &str = "aee62b936fedd9099202a8c1d2f441123db24e3f544fc3c815088e5d0b675961";

/// Digests of the whole benchmark with the prompts of the file's own column, and with those of the files
/// published beside it, which differ in 12 items. Some published runs took the ones, some the others.
const BENCHMARK_DIGESTS: [&str; 2] = [
    "21176c66950b50b047988f85c73efdb2a631cb395b6cf66c86cb77a789dc3c0a",
    "a92717a0745b7eb3a6a9e5976a3f2eabc4ddc6912c141e130fcd582ec28ba28e",
];

/// What is odd in the file as it was published, counted by an independent script
/// (`tests/fixtures/benchmark/describe.py`).
const KNOWN_ODDITIES: [(FindingKind, usize); 9] = [
    (FindingKind::SelfLoop, 47),
    (FindingKind::FirstRowParent, 8),
    (FindingKind::Cycle, 5),
    (FindingKind::ForwardReference, 31),
    (FindingKind::RepeatedParent, 8),
    (FindingKind::UnusualNumbering, 4),
    (FindingKind::RepeatedQuestion, 20),
    (FindingKind::CategoryDisagrees, 23),
    (FindingKind::PromptFileDiffers, 12),
];

/// Whether these are the published questions, whatever the prompts, the line ends, the quoting and the
/// columns that are not read.
pub(super) fn are_official_questions(items: &[ItemRows]) -> bool {
    let questions: usize = items.iter().map(|item| item.questions.len()).sum();
    if items.len() != OFFICIAL_ITEMS || questions != OFFICIAL_QUESTIONS {
        return false;
    }
    let mut digest = QuestionsDigest::new();
    for item in items {
        digest.add_item(&item.id, &item.questions);
    }
    digest.finish() == QUESTIONS_DIGEST
}

/// Whether a benchmark with this digest asks the published questions about the published prompts.
pub(super) fn is_official_digest(digest: &str) -> bool {
    BENCHMARK_DIGESTS.contains(&digest)
}

/// Whether the published file has as many oddities of this kind as were `found`.
pub fn is_as_published(kind: FindingKind, found: &[&Finding]) -> bool {
    KNOWN_ODDITIES.contains(&(kind, found.len()))
}
