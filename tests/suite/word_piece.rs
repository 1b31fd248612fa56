//! In: questions and odd texts. Checks: the ids of the slow `BertTokenizer` of transformers, as mPLUG's
//! preprocessor calls it. Goldens are made by `tests/fixtures/make_word_piece.py`.

use std::path::Path;

use dpg_bench::benchmark::{Benchmark, Strictness};
use dpg_bench::text::word_piece::WordPiece;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::tiny_checkpoint::fixture;

/// mPLUG's preprocessor keeps so many ids.
const MOST: usize = 25;

#[derive(Deserialize)]
struct Golden {
    files: std::collections::BTreeMap<String, QuestionFile>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    full_length: usize,
}

#[derive(Deserialize)]
struct QuestionFile {
    questions: usize,
    truncated: usize,
    sha256: String,
}

fn golden() -> Golden {
    let path = fixture("word_piece/golden.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn tokenizer() -> WordPiece {
    WordPiece::load(&fixture("word_piece")).unwrap()
}

/// The texts that come out otherwise with at most `most` ids.
fn disagreements(most: usize) -> Vec<String> {
    let (tokenizer, golden) = (tokenizer(), golden());
    assert!(golden.cases.len() > 500);
    let differs = |case: &Case| {
        let ours = tokenizer.encode(&case.text, Some(most)).unwrap();
        ours.ids != case.ids
            || ours.full_length != case.full_length
            || ours.truncated() != (case.full_length > MOST)
    };
    golden.cases.into_iter().filter(differs).map(|case| case.text).collect()
}

#[test]
fn ids_equal_those_of_transformers() {
    assert_eq!(disagreements(MOST), Vec::<String>::new());
}

#[test]
fn one_id_less_is_seen() {
    assert!(disagreements(MOST - 1).len() >= 6);
}

/// Every question of the shared question files, as a digest over their ids.
#[test]
fn ids_of_all_shared_questions_equal_those_of_transformers() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let tokenizer = tokenizer();
    for (name, golden) in golden().files {
        let path = shared.join(&name);
        if !path.is_file() {
            eprintln!("SKIPPED: {} is not there", path.display());
            continue;
        }
        let benchmark = Benchmark::load(&path, Strictness::Lenient).unwrap();
        let mut questions: Vec<_> =
            benchmark.items.iter().flat_map(|item| item.graph.questions()).collect();
        questions.sort_by_key(|question| question.row);
        let (mut digest, mut truncated) = (Sha256::new(), 0);
        for question in &questions {
            let encoded = tokenizer.encode(&question.text, Some(MOST)).unwrap();
            truncated += usize::from(encoded.truncated());
            let ids: Vec<String> = encoded.ids.iter().map(u32::to_string).collect();
            digest.update(format!("{}\n", ids.join(" ")));
        }
        let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            (questions.len(), truncated, hex),
            (golden.questions, golden.truncated, golden.sha256),
            "{name}"
        );
    }
}

#[test]
fn a_vocabulary_or_configuration_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = || format!("{:#}", WordPiece::load(folder.path()).err().unwrap());
    assert!(message().contains("vocab.txt: cannot be read"), "{}", message());
    std::fs::write(folder.path().join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[MASK]\nyes\n").unwrap();
    assert!(message().contains("lacks [SEP]"), "{}", message());
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(&config, "{\"do_lower_case\": false}").unwrap();
    assert!(message().contains("do_lower_case = false"), "{}", message());
    std::fs::write(&config, "{\"do_lower_case\": true, \"strip_accents\": null}").unwrap();
    std::fs::write(
        folder.path().join("vocab.txt"),
        "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nyes\r\n##s",
    )
    .unwrap();
    let small = WordPiece::load(folder.path()).unwrap();
    assert_eq!((small.len(), small.id("##s"), small.piece(5)), (7, Some(6), Some("yes")));
    assert_eq!(small.encode("Yess no", None).unwrap().ids, [2, 5, 6, 1, 3]);
    assert!(small.is_special(4) && !small.is_special(5));
}
