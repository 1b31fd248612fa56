//! The judge `qwen3-vl` on the tiny checkpoints of `tests/fixtures/make_qwen3_vl.py`: pictures, replies and
//! P(yes) as transformers gives them, whole runs of the command, and what it says of broken checkpoints.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use candle_core::{DType, Device};
use dpg_bench::benchmark::{Benchmark, Category, DeclaredParent, Item, Question, QuestionGraph};
use dpg_bench::benchmark::{Selection, Strictness};
use dpg_bench::compute::device::Place;
use dpg_bench::judge::qwen3_vl::image_processor::ImageProcessor;
use dpg_bench::judge::qwen3_vl::{Qwen3VlJudge, Qwen3VlOptions};
use dpg_bench::judge::{Answer, Judge, JudgeRequest, JudgedImage};
use dpg_bench::models::qwen3_vl::PatchLayout;
use dpg_bench::results::RunDirectory;
use dpg_bench::results::manifest::{BenchmarkIdentity, to_settings};
use serde_json::Value;

use super::small_run::{IMAGES, put_picture};

const PICTURES: [&str; 5] = ["whole", "rounded", "shrunk", "enlarged", "wider"];
const LAYOUT: PatchLayout = PatchLayout { patch: 4, merge: 2, frames: 2, channels: 3 };

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn checkpoint(kind: &str) -> PathBuf {
    fixtures().join(format!("qwen3-vl-{kind}"))
}

fn picture(name: &str) -> JudgedImage {
    let path = fixtures().join(format!("qwen3-vl-golden/{name}.png"));
    let png = std::fs::read(&path).unwrap();
    JudgedImage::stored(path, png)
}

fn judge(kind: &str, dtype: DType, change: impl FnOnce(&mut Qwen3VlOptions)) -> Qwen3VlJudge {
    let mut options = Qwen3VlOptions::new(checkpoint(kind), Place { device: Device::Cpu, dtype });
    options.max_tokens = 8;
    change(&mut options);
    Qwen3VlJudge::load(options).unwrap()
}

/// Puts questions to a judge about one picture.
pub fn ask(judge: &dyn Judge, name: &str, texts: &[&str]) -> Vec<Result<Answer, String>> {
    let questions: Vec<Question> = (1..)
        .zip(texts)
        .map(|(id, text)| Question {
            id,
            text: (*text).to_owned(),
            tuple: "entity - whole (thing)".to_owned(),
            category: Category::from_tuple("entity - whole (thing)"),
            declared_parents: vec![DeclaredParent::None],
            row: id as usize,
        })
        .collect();
    let (graph, _) = QuestionGraph::build(questions);
    let item = Item { id: "item".to_owned(), prompt: String::new(), graph };
    let questions: Vec<&Question> = item.graph.questions().iter().collect();
    let image = picture(name);
    let request =
        JudgeRequest { item: &item, image_index: 0, image: &image, questions: &questions };
    judge.answer(&request).unwrap()
}

#[test]
fn patches_are_those_of_transformers_and_pillow_to_the_bit() {
    let golden = fixtures().join("qwen3-vl-golden/tied.safetensors");
    let golden = candle_core::safetensors::load(golden, &Device::Cpu).unwrap();
    let rules = ImageProcessor::read(&checkpoint("tied"), LAYOUT).unwrap();
    let bits = |tensor: &candle_core::Tensor| -> Vec<u32> {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    // The same rules with another middle, as if the settings had been passed over.
    let folder = tempfile::tempdir().unwrap();
    let text =
        std::fs::read_to_string(checkpoint("tied").join("preprocessor_config.json")).unwrap();
    let other = text.replacen("0.5", "0.48145466", 1);
    assert_ne!(other, text);
    std::fs::write(folder.path().join("preprocessor_config.json"), other).unwrap();
    let other = ImageProcessor::read(folder.path(), LAYOUT).unwrap();
    for name in PICTURES {
        let pixels = picture(name).decode().unwrap();
        let (ours, grid) = rules.patches(&pixels).unwrap();
        let expected = &golden[&format!("{name}.patches")];
        assert_eq!(ours.dims(), expected.dims(), "{name}");
        assert_eq!(grid.rows * grid.columns, ours.dims()[0]);
        assert!(bits(&ours) == bits(expected), "{name} differs");
        let (sabotaged, _) = other.patches(&pixels).unwrap();
        assert!(bits(&sabotaged) != bits(expected));
        let turned = image::imageops::rotate180(&pixels);
        assert!(bits(&rules.patches(&turned).unwrap().0) != bits(expected));
    }
}

#[test]
fn answers_are_the_greedy_replies_of_transformers() {
    let cases = std::fs::read(fixtures().join("qwen3-vl-golden/cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    let mut probabilities = 0;
    for (kind, dtype) in [("tied", DType::BF16), ("untied", DType::F32), ("untied", DType::BF16)] {
        for name in PICTURES {
            let of_picture: Vec<&Value> = cases
                .iter()
                .filter(|case| case["checkpoint"] == kind && case["picture"] == name)
                .collect();
            let Some(first) = of_picture.first() else { continue };
            let system = first["system"].as_str().map(str::to_owned);
            let judge = judge(kind, dtype, |options| options.system_prompt = system);
            let texts: Vec<&str> =
                of_picture.iter().map(|case| case["question"].as_str().unwrap()).collect();
            for (case, answer) in of_picture.iter().zip(ask(&judge, name, &texts)) {
                let (answer, reply) = (answer.unwrap(), case["reply"].as_str().unwrap());
                assert_eq!(answer.raw.as_deref().unwrap_or(&answer.text), reply, "{kind} {name}");
                let read = match reply {
                    "Yes" => "yes",
                    "No" => "no",
                    other => other.trim(),
                };
                assert_eq!(answer.text, read);
                let probability = case["first_token_yes_probability"].as_f64().unwrap();
                // Tokens from 350 on have no text: there the answer begins later.
                let visible = case["reply_ids"][0].as_u64().unwrap() < 350;
                if visible && reply.starts_with(|c: char| c.is_alphanumeric()) {
                    let ours = answer.yes_probability.unwrap();
                    assert!((ours - probability).abs() < 2e-5, "{ours} for {probability}");
                    probabilities += 1;
                } else if !reply.contains(char::is_alphanumeric) {
                    assert_eq!(answer.yes_probability, None);
                }
            }
        }
    }
    assert!(probabilities >= 8);
    // The prompt and the picture matter: a judge that looks at neither must not pass.
    let plain = judge("untied", DType::F32, |options| options.prompt = "{question}".to_owned());
    let cased = &cases.iter().find(|case| case["checkpoint"] == "untied").unwrap();
    let expected = cased["first_token_yes_probability"].as_f64().unwrap();
    let question = cased["question"].as_str().unwrap();
    for (judge, picture) in [(&plain, "whole"), (&judge("untied", DType::F32, |_| {}), "shrunk")] {
        let ours = ask(judge, picture, &[question])[0].clone().unwrap().yes_probability;
        assert!(ours.is_none_or(|ours| (ours - expected).abs() > 2e-5), "{ours:?}");
    }
}

#[test]
fn an_answer_does_not_depend_on_the_other_questions() {
    let judge = judge("untied", DType::BF16, |_| {});
    let texts: Vec<String> = (0..40).map(|number| format!("Is there a truck {number}?")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = ask(&judge, "whole", &texts);
    assert_eq!(together.len(), 40);
    for (text, together) in texts.iter().zip(&together).step_by(13) {
        let alone = ask(&judge, "whole", &[text])[0].clone().unwrap();
        let together = together.clone().unwrap();
        assert_eq!((&alone.text, &alone.raw), (&together.text, &together.raw));
        let difference = alone.yes_probability.unwrap() - together.yes_probability.unwrap();
        assert!(difference.abs() < 1e-6);
    }
}

/// A question file of two items and a run about it with all pictures, both in `folder`.
fn make_run(folder: &Path, name: &str) -> PathBuf {
    let mut csv = "item_id,text,keywords,proposition_id,dependency,category_broad,\
                   category_detailed,tuple,question_natural_language\n"
        .to_owned();
    for item in ["first", "second"] {
        for id in [1, 2, 3] {
            csv.push_str(&format!(
                "{item},A truck and a shed,,{id},0,entity,whole,entity - whole (truck),Is there a \
                 truck {id}?\n"
            ));
        }
    }
    let questions = folder.join("questions.csv");
    std::fs::write(&questions, csv).unwrap();
    let benchmark = Benchmark::load(&questions, Strictness::Strict).unwrap();
    let identity = BenchmarkIdentity {
        path: questions.display().to_string(),
        digest: benchmark.digest.clone(),
        official: false,
        items: 2,
        questions: 6,
        lenient: false,
    };
    let path = folder.join(name);
    let selection = to_settings(&Selection::default()).unwrap();
    let run = RunDirectory::open_or_create(&path, identity, selection, IMAGES).unwrap();
    for (shade, item) in benchmark.items.iter().enumerate() {
        for image in 0..IMAGES {
            put_picture(&run, &item.id, image, 100 * shade as u8);
        }
    }
    path
}

fn command(run: &Path, weights: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.arg("judge").arg(run).args(["--judge", "qwen3-vl", "--judge-weights"]).arg(weights);
    let output = command.args(flags).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_run_is_judged_resumed_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let weights = checkpoint("untied");
    let journal = |run: &Path| std::fs::read(run.join("answers/qwen3-vl.jsonl")).unwrap();
    let whole = make_run(folder.path(), "whole");
    let flags = ["--judge-max-tokens", "8"];
    let (code, text) = command(&whole, &weights, &flags);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("8 of 8 images judged, 24 answers"), "{text}");
    let bytes = journal(&whole);
    let lines: Vec<Value> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    // The journal's heading, and a line for each image.
    assert_eq!(lines.len(), 9);
    assert!(bytes.windows(15).any(|part| part == b"yes_probability"));
    let manifest = RunDirectory::open(&whole).unwrap().manifest().clone();
    let settings = serde_json::to_value(&manifest.judges["qwen3-vl"].settings).unwrap();
    assert_eq!(settings["judge"], "qwen3-vl");
    assert_eq!(settings["dtype"], "bf16");
    assert_eq!(settings["weights_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(settings["tokenizer_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(settings["picture"]["max_pixels"], 1536);

    // Killed after the third image, in the middle of writing the fourth.
    let torn = make_run(folder.path(), "torn");
    let third = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(3).unwrap().0;
    std::fs::create_dir_all(torn.join("answers")).unwrap();
    std::fs::copy(whole.join("manifest.json"), torn.join("manifest.json")).unwrap();
    std::fs::write(torn.join("answers/qwen3-vl.jsonl"), &bytes[..third + 30]).unwrap();
    let (code, text) = command(&torn, &weights, &flags);
    assert_eq!(code, Some(0), "{text}");
    assert!(journal(&torn) == bytes, "the resumed run has other answers");

    let (code, text) = command(&whole, &weights, &["--judge-max-tokens", "9"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--judge-name") && text.contains("max_tokens"), "{text}");
}

/// A copy of a checkpoint, to be broken.
fn copied(kind: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(checkpoint(kind)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn refused(folder: &Path) -> String {
    let place = Place { device: Device::Cpu, dtype: DType::F32 };
    let options = Qwen3VlOptions::new(folder.to_path_buf(), place);
    format!("{:#}", Qwen3VlJudge::load(options).unwrap_err())
}

#[test]
fn a_checkpoint_that_cannot_be_honoured_is_refused_in_a_sentence() {
    for (kind, file, from, to, expected) in [
        ("tied", "config.json", "\"qwen3_vl\"", "\"qwen2_5_vl\"", "model_type = \"qwen2_5_vl\""),
        ("untied", "config.json", "\"default\"", "\"yarn\"", "text_config.rope_scaling.rope_type"),
        (
            "tied",
            "config.json",
            "\"attention_bias\": false",
            "\"attention_bias\": true",
            "attention_bias",
        ),
        (
            "tied",
            "config.json",
            "\"num_key_value_heads\": 2",
            "\"num_key_value_heads\": 4",
            "num_key_value_heads",
        ),
        ("tied", "config.json", "\"hidden_size\": 48", "\"hidden_size\": 40", "out_hidden_size"),
        (
            "tied",
            "config.json",
            "\"tie_word_embeddings\": true",
            "\"tie_word_embeddings\": false",
            "lm_head.weight",
        ),
        (
            "tied",
            "config.json",
            "\"patch_size\": 4",
            "\"patch_size\": 8",
            "patch_embed.proj.weight",
        ),
        (
            "tied",
            "preprocessor_config.json",
            "\"patch_size\": 4",
            "\"patch_size\": 8",
            "patch_size",
        ),
        ("tied", "tokenizer.json", "<|vision_start|>", "<|vision|>", "<|vision_start|>"),
        (
            "untied",
            "config.json",
            "\"vocab_size\": 384",
            "\"vocab_size\": 385",
            "embed_tokens.weight",
        ),
        ("untied", "model.safetensors.index.json", "model-00002", "model-00003", "model-00003"),
    ] {
        let folder = copied(kind);
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let broken = text.replace(from, to);
        assert_ne!(text, broken, "{file} has no {from}");
        std::fs::write(&path, broken).unwrap();
        let error = refused(folder.path());
        assert!(error.contains(expected), "{from} -> {to}: {error}");
    }
    for (kind, file) in [
        ("tied", "config.json"),
        ("tied", "tokenizer.json"),
        ("tied", "preprocessor_config.json"),
        ("tied", "model.safetensors"),
        ("untied", "model-00002-of-00002.safetensors"),
    ] {
        let folder = copied(kind);
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = refused(folder.path());
        assert!(error.contains(file.trim_end_matches(".safetensors")), "{file}: {error}");
        // A torn file.
        let whole = std::fs::read(checkpoint(kind).join(file)).unwrap();
        std::fs::write(folder.path().join(file), &whole[..whole.len() / 2]).unwrap();
        let error = refused(folder.path());
        assert!(error.contains(file), "{file}: {error}");
    }
}

#[test]
fn a_picture_that_the_model_does_not_take_fails_its_questions_alone() {
    let judge = judge("tied", DType::F32, |_| {});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.png");
    image::RgbImage::new(402, 2).save(&path).unwrap();
    let png = std::fs::read(&path).unwrap();
    let image = JudgedImage::stored(path, png);
    let items = super::small_run::items(1);
    let questions: Vec<&Question> = items[0].graph.questions().iter().collect();
    let request =
        JudgeRequest { item: &items[0], image_index: 0, image: &image, questions: &questions };
    let answers = judge.answer(&request).unwrap();
    assert_eq!(answers.len(), 3);
    for answer in answers {
        assert!(answer.unwrap_err().contains("402 x 2 pixels is too long"));
    }
}
