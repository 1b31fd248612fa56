//! The judge `mplug` as a whole: the goldens of tests/fixtures/mplug-golden (made by make_mplug.py) and
//! of the shared folder, P(yes), conversion, resuming, and what is said of a model that is not whole.

use std::path::Path;
use std::process::Output;

use candle_core::{DType, Device};
use dpg_bench::compute::device::Place;
use dpg_bench::judge::Judge;
use dpg_bench::judge::mplug::{Found, MplugJudge, MplugOptions, convert};
use dpg_bench::judge::pillow_resize::Order;
use dpg_bench::results::{AnswerOutcome, QuestionAnswer, RunDirectory};
use image::RgbImage;
use serde::Deserialize;
use serde_json::Value;

use super::judge_command::{command, make_run};
use super::small_run::{items, journal, judge_all, put_picture, run_with_pictures};
use super::tiny_checkpoint::{edit, fixture, read};

const MODELS: [&str; 3] = ["large", "joined", "base"];
/// Scores of hypotheses, which reach 10; 2.2e-5 was seen.
const SCORES: f64 = 6e-5;
const YES: usize = 104;

#[derive(Debug, Deserialize)]
struct Golden {
    picture: usize,
    question: String,
    answer: String,
    steps: usize,
    hypotheses: Vec<GoldenHypothesis>,
}

#[derive(Debug, Deserialize)]
struct GoldenHypothesis {
    score: f64,
    ids: Vec<u32>,
}

fn goldens(model: &str) -> Vec<Golden> {
    let path = fixture(&format!("mplug-golden/{model}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn picture(path: &Path) -> RgbImage {
    image::open(path).unwrap().to_rgb8()
}

fn pictures() -> Vec<RgbImage> {
    (0..2).map(|number| picture(&fixture(&format!("mplug-tiny/picture_{number}.png")))).collect()
}

/// As the fixtures were made: with Pillow 13, and all hypotheses of the original.
fn options() -> MplugOptions {
    let place = Place { device: Device::Cpu, dtype: DType::F32 };
    MplugOptions { order: Order::Pillow13, early_stopping: false, ..MplugOptions::new(place) }
}

fn tiny(model: &str, options: MplugOptions) -> MplugJudge {
    MplugJudge::load(&fixture(&format!("mplug-tiny/{model}")), options).unwrap()
}

/// What `judge` finds for the questions of `goldens`, all of them together, in their order.
fn found(judge: &MplugJudge, pictures: &[RgbImage], goldens: &[Golden]) -> Vec<Found> {
    let of = |number: usize| -> Vec<&str> {
        let asked = goldens.iter().filter(|golden| golden.picture == number);
        asked.map(|golden| golden.question.as_str()).collect()
    };
    let questions: Vec<Vec<&str>> = (0..pictures.len()).map(of).collect();
    let mut found: Vec<_> =
        judge.hypotheses(pictures, &questions).unwrap().into_iter().map(Vec::into_iter).collect();
    goldens.iter().map(|golden| found[golden.picture].next().unwrap()).collect()
}

/// What differs: an answer's tokens, the number of steps, or a score by more than `bound`; and the
/// largest difference of a score of like tokens.
fn differences(found: &[Found], goldens: &[Golden], bound: f64) -> (Vec<String>, f64) {
    let (mut differences, mut largest) = (Vec::new(), 0.0_f64);
    for (found, golden) in found.iter().zip(goldens) {
        let tokens = |index: usize| found.hypotheses.get(index).map(|h| &h.tokens);
        let expected: Vec<_> = golden.hypotheses.iter().map(|h| &h.ids).collect();
        let same = (0..expected.len()).all(|index| tokens(index) == Some(expected[index]));
        if !same || found.hypotheses.len() != expected.len() || found.steps != golden.steps {
            differences.push(format!("{}: {found:?}", golden.question));
            continue;
        }
        for (ours, golden_hypothesis) in found.hypotheses.iter().zip(&golden.hypotheses) {
            let difference = (f64::from(ours.score) - golden_hypothesis.score).abs();
            largest = largest.max(difference);
            if difference > bound {
                differences.push(format!("{}: off by {difference:e}", golden.question));
            }
        }
    }
    (differences, largest)
}

#[test]
fn hypotheses_scores_and_steps_equal_the_goldens() {
    for model in MODELS {
        let goldens = goldens(model);
        let (found, largest) =
            differences(&found(&tiny(model, options()), &pictures(), &goldens), &goldens, SCORES);
        println!("{model}: scores differ by {largest:.1e} at most");
        assert_eq!(found, Vec::<String>::new(), "{model}");
    }
}

/// Each deviation from the original is seen by the same check.
#[test]
fn a_greedy_search_another_penalty_one_token_less_or_other_pixels_are_seen() {
    for (what, change) in [
        ("greedy", (|o| MplugOptions { beam_width: Some(1), ..o }) as fn(MplugOptions) -> _),
        ("penalty", |o| MplugOptions { alpha: 0.4, ..o }),
        ("24 tokens", |o| MplugOptions { question_tokens: 24, ..o }),
        ("order of passes", |o| MplugOptions { order: Order::RowsFirst, ..o }),
    ] {
        let goldens = goldens("large");
        let judge = tiny("large", change(options()));
        let (found, _) = differences(&found(&judge, &pictures(), &goldens), &goldens, SCORES);
        println!("{what}: {} questions differ", found.len());
        assert!(!found.is_empty(), "{what}");
        // The 25th token matters to the one question that has it, the order to the one odd picture.
        let all = !matches!(what, "24 tokens" | "order of passes");
        assert!(
            all || found.iter().all(|line| {
                goldens.iter().any(|golden| {
                    line.starts_with(&golden.question)
                        && (golden.question.len() > 80 || golden.picture == 1)
                })
            }),
            "{what}: {found:?}"
        );
    }
}

#[test]
fn the_probability_of_yes_is_that_of_the_first_step() {
    let goldens_of = goldens("large");
    let found = found(&tiny("large", options()), &pictures(), &goldens_of);
    let tensors = read(&fixture("mplug-golden/large.safetensors"));
    for (number, found) in found.iter().enumerate() {
        let logits = tensors[&format!("logits.{number}")].get(0).unwrap().get(0).unwrap();
        let logits: Vec<f64> = logits.to_dtype(DType::F64).unwrap().to_vec1().unwrap();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let golden = logits[YES].exp() / sum;
        assert!((found.watched - golden).abs() < 1e-6, "{} {golden}", found.watched);
        assert!((found.watched - logits[YES + 1].exp() / sum).abs() > 1e-4);
    }
}

/// One by one, together, in another order: the same answers; the numbers differ by rounding.
#[test]
fn what_is_asked_together_changes_no_answer() {
    for model in MODELS {
        let (judge, pictures) = (tiny(model, options()), pictures());
        let questions =
            ["is there a cat?", "Are the two dogs red?", "no", "is the cat on a table?"];
        let every = |count: usize| vec![questions.to_vec(); count];
        let together = judge.hypotheses(&pictures, &every(2)).unwrap();
        let many: Vec<RgbImage> = pictures.iter().cycle().take(5).cloned().collect();
        let more = judge.hypotheses(&many, &every(5)).unwrap();
        let mut largest = 0.0_f64;
        let mut like = |one: &Found, other: &Found| {
            assert_eq!(one.hypotheses[0].tokens, other.hypotheses[0].tokens, "{model}");
            largest = largest.max((one.watched - other.watched).abs());
        };
        for (index, picture) in pictures.iter().enumerate() {
            let alone = judge.hypotheses(std::slice::from_ref(picture), &every(1)).unwrap();
            for (number, question) in questions.iter().enumerate() {
                let asked = [vec![*question]];
                let one = judge.hypotheses(std::slice::from_ref(picture), &asked).unwrap();
                like(&one[0][0], &alone[0][number]);
                like(&together[index][number], &alone[0][number]);
                like(&more[index + 2][number], &alone[0][number]);
            }
        }
        println!("{model}: P(yes) differs by {largest:.1e} at most");
        assert!(largest < 2e-6, "{model}: {largest:e}");
    }
}

#[test]
fn leaving_early_changes_no_answer() {
    for model in MODELS {
        let goldens = goldens(model);
        let judge = tiny(model, MplugOptions { early_stopping: true, ..options() });
        for (found, golden) in found(&judge, &pictures(), &goldens).iter().zip(&goldens) {
            assert_eq!(found.hypotheses[0].tokens, golden.hypotheses[0].ids, "{model}");
            assert!(found.steps <= golden.steps);
        }
    }
}

/// The shared golden: a checkpoint as published, read as it is.
#[test]
fn the_shared_golden_is_answered_as_expected() {
    #[derive(Deserialize)]
    struct Expected {
        questions: Vec<String>,
        answers: Vec<String>,
        steps: Vec<usize>,
        nbest: Vec<Vec<GoldenHypothesis>>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/mplug");
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is not there", folder.display());
        return;
    }
    let text = std::fs::read(folder.join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&text).unwrap();
    let answers = expected.questions.into_iter().zip(expected.answers);
    let goldens: Vec<Golden> = answers
        .zip(expected.steps.into_iter().zip(expected.nbest))
        .map(|((question, answer), (steps, hypotheses))| Golden {
            picture: 0,
            question,
            answer,
            steps,
            hypotheses,
        })
        .collect();
    let judge = MplugJudge::load(&folder, options()).unwrap();
    let pictures = [picture(&folder.join("image.png"))];
    let mut found = found(&judge, &pictures, &goldens);
    for (found, golden) in found.iter_mut().zip(&goldens) {
        // The golden keeps the best few of them.
        found.hypotheses.truncate(golden.hypotheses.len());
    }
    let (found, largest) = differences(&found, &goldens, SCORES);
    println!("shared golden: scores differ by {largest:.1e} at most");
    assert_eq!(found, Vec::<String>::new());
    assert!(goldens.iter().all(|golden| golden.answer == "yes"));
}

/// A folder as published: the tiny model's files with its weights as a pickle.
fn published() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.yaml", "config_bert.json", "configuration.json", "vocab.txt"] {
        let file = fixture(&format!("mplug-tiny/large/{name}"));
        std::fs::copy(file, folder.path().join(name)).unwrap();
    }
    let weights = fixture("mplug-judge/pytorch_model.bin");
    std::fs::copy(weights, folder.path().join("pytorch_model.bin")).unwrap();
    folder
}

#[test]
fn the_published_pickle_and_its_conversion_are_one_model() {
    let published = published();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/converted");
    let converted = convert(published.path(), &out, "dpg-bench 0").unwrap();
    assert!(converted.left_out == 6, "{converted:?}");
    let names: Vec<_> = {
        let entries = std::fs::read_dir(&out).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let expected =
        ["config.yaml", "config_bert.json", "configuration.json", "model.safetensors", "vocab.txt"];
    assert_eq!(names, expected);
    let others = std::fs::read_dir(out.parent().unwrap()).unwrap().count();
    assert_eq!(others, 1, "nothing is left beside the folder");
    let size = std::fs::metadata(out.join("model.safetensors")).unwrap().len();
    assert!(size > converted.tensor_bytes && size < converted.tensor_bytes + 40_000);
    let notes = dpg_bench::checkpoint::safetensors_file::contents(&out.join("model.safetensors"));
    let notes = notes.unwrap().notes;
    assert_eq!(notes["source"], "pytorch_model.bin");
    assert_eq!(notes["tensors_sha256"], converted.tensors_sha256);

    let goldens = goldens("large");
    let original = tiny("large", options());
    for path in [published.path().to_owned(), out.clone(), out.join("model.safetensors")] {
        let judge = MplugJudge::load(&path, options()).unwrap();
        assert_eq!(judge.settings(), original.settings());
        assert_eq!(judge.settings()["weights"]["tensors_sha256"], converted.tensors_sha256);
        let (found, _) = differences(&found(&judge, &pictures(), &goldens), &goldens, SCORES);
        assert_eq!(found, Vec::<String>::new());
    }
    let again = format!("{:#}", convert(published.path(), &out, "").unwrap_err());
    assert!(again.contains("not empty"), "{again}");
}

/// Two tables where the original has one: the output's is used for both, as there, and it is told.
#[test]
fn word_tables_that_differ_are_told() {
    let published = published();
    let path = published.path().join("model.safetensors");
    std::fs::copy(fixture("mplug-tiny/large/model.safetensors"), &path).unwrap();
    assert_eq!(MplugJudge::load(&path, options()).unwrap().warnings(), [""; 0]);
    edit(&path, |tensors| {
        let name = "text_decoder.bert.embeddings.word_embeddings.weight";
        let table = tensors.get_mut(name).unwrap();
        *table = table.zeros_like().unwrap();
    });
    let judge = MplugJudge::load(&path, options()).unwrap();
    assert!(judge.warnings()[0].contains("two different tables"));
    let goldens = goldens("large");
    let (found, _) = differences(&found(&judge, &pictures(), &goldens), &goldens, SCORES);
    assert_eq!(found, Vec::<String>::new());
    let other = tiny("large", options()).settings();
    assert_ne!(judge.settings()["weights"], other["weights"]);
}

fn yes_probabilities(run: &RunDirectory) -> usize {
    let records = run.read_answers("j").unwrap();
    let answers = records.iter().flat_map(|record| &record.answers);
    answers
        .filter(|answer| match &answer.outcome {
            AnswerOutcome::Answered { yes_probability, .. } => {
                yes_probability.is_some_and(|p| p > 0.0 && p < 1.0)
            }
            AnswerOutcome::Failed { .. } => false,
        })
        .count()
}

/// A run cut anywhere and resumed ends in the same journal, however many pictures are asked about
/// together; and that number changes no answer.
#[test]
fn a_resumed_run_ends_in_the_same_bytes() {
    let published = published();
    let load = |together: usize| {
        let options = MplugOptions { together, ..options() };
        MplugJudge::load(published.path(), options).unwrap()
    };
    let items = items(3);
    let folder = tempfile::tempdir().unwrap();
    let run = run_with_pictures(folder.path(), &items);
    let path = folder.path().join("answers/j.jsonl");
    let texts = || -> Vec<String> {
        let records = run.read_answers("j").unwrap();
        let answers = records.iter().flat_map(|record| &record.answers);
        let text = |answer: &QuestionAnswer| match &answer.outcome {
            AnswerOutcome::Answered { text, .. } => text.clone(),
            AnswerOutcome::Failed { reason } => panic!("{reason}"),
        };
        answers.map(text).collect()
    };
    let mut told: Option<Vec<String>> = None;
    let mut lines = Vec::new();
    let mut whole = Vec::new();
    for together in [1, 3, 5, 12] {
        let judge = load(together);
        let _ = std::fs::remove_file(&path);
        let counts = judge_all(&run, &items, &judge).unwrap();
        assert!(counts.is_complete() && counts.answers == 36 && counts.questions_cut == 0);
        assert_eq!((counts.finished_now, yes_probabilities(&run)), (12, 36));
        whole = journal(&run);
        assert_eq!(*told.get_or_insert_with(texts), texts(), "{together} together");
        let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        lines = ends.map(|(at, _)| at + 1).collect();
        for cut in [lines[0], lines[3], lines[7] + 9, lines[8], lines[11]] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let left = 12 - (lines.iter().filter(|&&line| line <= cut).count() as u64 - 1);
            let counts = judge_all(&run, &items, &judge).unwrap();
            assert!(journal(&run) == whole, "cut at {cut}, {together} together");
            assert_eq!((counts.finished_now, counts.images_done), (left, 12));
        }
    }
    // One broken picture among several: its questions fail, the others are answered.
    std::fs::write(&path, &whole[..lines[0]]).unwrap();
    std::fs::write(run.image_path("item1", 2), b"no picture").unwrap();
    let counts = judge_all(&run, &items, &load(12)).unwrap();
    assert_eq!((counts.images_done, counts.images_failed, counts.failed_questions), (11, 1, 3));
    put_picture(&run, "item1", 2, 1);
    let counts = judge_all(&run, &items, &load(12)).unwrap();
    assert!(counts.is_complete() && counts.finished_now == 1);
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn as_a_command_it_warns_of_long_questions_and_stands_in_the_summary() {
    let published = published();
    let weights = published.path().to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path());
    let flags = [
        "--judge",
        "mplug",
        "--judge-weights",
        weights,
        "--judge-batch",
        "3",
        "--judge-revision",
        "v1",
    ];
    let output = command(&run, &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let opened = RunDirectory::open(&run).unwrap();
    let entry = &opened.manifest().judges["mplug"];
    let digest = entry.settings["weights"]["tensors_sha256"].as_str().unwrap();
    assert_eq!(digest, tiny("large", options()).settings()["weights"]["tensors_sha256"]);
    assert_eq!(entry.settings["weights"]["revision"], "v1");
    assert!(entry.sittings[0].device.starts_with("cpu"));
    assert!(!said(&output).contains("tokens"), "{}", said(&output));

    let score = std::process::Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .args(["score", run.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let summary: Value = serde_json::from_slice(&score.stdout).unwrap();
    assert_eq!(summary["judge"]["settings"]["weights"]["tensors_sha256"], digest);
    assert_eq!(summary["judge"]["settings"]["beam"]["width"], 5);

    // Other weights under the same name are refused.
    let flags = ["--judge", "mplug", "--judge-weights", weights];
    let output = command(&run, &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("weights.revision"), "{}", said(&output));

    // A question that is longer than what is read.
    let long = format!("Is there {}?", "a cat, ".repeat(12));
    let mut items = items(1);
    let mut questions: Vec<_> = items[0].graph.questions().to_vec();
    questions[1].text = long;
    items[0].graph = dpg_bench::benchmark::question_graph::QuestionGraph::build(questions).0;
    let folder = tempfile::tempdir().unwrap();
    let run = run_with_pictures(folder.path(), &items);
    let counts = judge_all(&run, &items, &tiny("large", options())).unwrap();
    assert_eq!(counts.questions_cut, 1);
    let records = run.read_answers("j").unwrap();
    let cut: Vec<_> = records[0].answers.iter().map(|answer| answer.tokens_cut).collect();
    // is there (a cat ,) x 12 ?, [CLS] and [SEP]: 41 tokens, of which 25 are read.
    assert_eq!(cut, [None, Some(16), None]);
}

/// What is said of the published folder after `damage`, as an error of the library and of the command.
fn said_of(damage: impl Fn(&Path)) -> String {
    let published = published();
    damage(published.path());
    let error = format!("{:#}", MplugJudge::load(published.path(), options()).err().unwrap());
    let checked = format!("{:#}", MplugJudge::check(published.path()).unwrap_err());
    assert_eq!(error, checked);
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn a_model_that_is_not_whole_is_refused_by_name() {
    let remove = |name: &'static str| {
        move |folder: &Path| {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
    };
    let write = |name: &'static str, text: &'static str| {
        move |folder: &Path| {
            std::fs::write(folder.join(name), text).unwrap();
        }
    };
    let replace = |name: &'static str, from: &'static str, to: &'static str| {
        move |folder: &Path| {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(folder.join(name), text.replace(from, to)).unwrap();
        }
    };
    for (error, part) in [
        (said_of(remove("pytorch_model.bin")), "neither pytorch_model.bin nor model.safetensors"),
        (said_of(remove("vocab.txt")), "vocab.txt: cannot be read"),
        (said_of(remove("config.yaml")), "config.yaml: cannot be read"),
        (said_of(remove("config_bert.json")), "config_bert.json: cannot be read"),
        (
            said_of(write("configuration.json", "{\"task\": \"image-captioning\"}")),
            "task image-captioning",
        ),
        (
            said_of(write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nyes\n")),
            "vocab.txt has 6 lines",
        ),
        (
            said_of(write("pytorch_model.bin", "<html>not found</html>")),
            "pytorch_model.bin: is no checkpoint",
        ),
        (
            said_of(replace("config.yaml", "image_res: 32", "image_res: 40")),
            "`visual_encoder.visual.positional_embedding` has shape [17, 64]",
        ),
        (
            said_of(replace("config.yaml", "clip_vision_layers: 2", "clip_vision_layers: 3")),
            "`visual_encoder.visual.transformer.resblocks.2.",
        ),
        (
            said_of(|folder| {
                let path = folder.join("model.safetensors");
                std::fs::copy(fixture("mplug-tiny/large/model.safetensors"), &path).unwrap();
                edit(&path, |tensors| {
                    tensors.remove("visn_fc.bias").unwrap();
                });
            }),
            "tensor `visn_fc.bias` is missing (1 of",
        ),
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path());
    let output =
        command(&run, &["--judge", "mplug", "--judge-weights", "no/such/folder"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert_eq!(said.lines().last(), Some("error: there is no model at no/such/folder"));
}
