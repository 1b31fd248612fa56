//! In: a seed. Out: the answers that `tests/fixtures/scoring/make_reference_scores.py` gives, and the
//! files that both sides score.

use std::path::{Path, PathBuf};

use dpg_bench::benchmark::{Benchmark, Item, Strictness};
use dpg_bench::results::{AnswerOutcome, AnswerRecord, QuestionAnswer};
use sha2::{Digest, Sha256};

/// The folder of the scoring fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scoring")
}

/// The question file of a golden case; `None`, said loudly, where the shared data are absent.
pub fn benchmark(file: &str) -> Option<Benchmark> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let path = match file {
        "dsg-1k" => shared.join("dsg-1k/dsg-1k-anns.csv"),
        "sample13" => shared.join("dpg_bench/sample13.csv"),
        _ => fixtures().join("odd_questions.csv"),
    };
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    }
    Some(Benchmark::load(&path, Strictness::Lenient).unwrap())
}

/// The answer to one question about one image.
pub fn answer(seed: &str, item: &str, image: u32, question: u32) -> &'static str {
    let digest = Sha256::digest(format!("{seed}|{item}|{image}|{question}"));
    let draw = u64::from_be_bytes(digest[..8].try_into().unwrap()) % 1000;
    match draw {
        0..780 => "yes",
        780..960 => "no",
        _ => ["Yes", "no ", "two, maybe", "unknown"][(draw % 4) as usize],
    }
}

/// The answers of all `items`, as a judge would record them.
pub fn records<'a>(
    items: impl IntoIterator<Item = &'a Item>,
    seed: &str,
    images: u32,
) -> Vec<AnswerRecord> {
    let record = |item: &Item, image: u32| AnswerRecord {
        item: item.id.clone(),
        image,
        pixels_sha256: None,
        answers: item
            .graph
            .questions()
            .iter()
            .map(|question| {
                let text = answer(seed, &item.id, image, question.id).to_owned();
                let outcome = AnswerOutcome::Answered { text, raw: None, yes_probability: None };
                QuestionAnswer::new(question.id, outcome)
            })
            .collect(),
    };
    items
        .into_iter()
        .flat_map(|item| (0..images).map(|image| record(item, image)).collect::<Vec<_>>())
        .collect()
}
