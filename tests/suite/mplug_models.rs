//! mPLUG's networks against a PyTorch re-implementation (fixtures/mplug-golden, made by make_mplug.py), in
//! networks that never join image and text and in two that do; and against the golden of another
//! program, where ../shared is at hand.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::weights::Weights;
use dpg_bench::models::mplug::{ImageStates, QuestionStates};
use dpg_bench::models::{Mplug, MplugConfig};
use serde_json::{Value, json};

use crate::tiny_checkpoint::{
    Bounds, F32, Tensors, compare, configure, copy_of, edit, fixture, read, sha256,
};

const CASES: [&str; 3] = ["large", "joined", "base"];
/// Logits of up to 10, after twice as many layers.
const LOGITS: Bounds = Bounds { relative: 1e-5, absolute: 1e-4 };

fn folder(case: &str) -> PathBuf {
    fixture("mplug-tiny").join(case)
}

fn golden(case: &str) -> Tensors {
    read(&fixture(&format!("mplug-golden/{case}.safetensors")))
}

fn load_as(folder: &Path, dtype: DType) -> anyhow::Result<Mplug> {
    let config = MplugConfig::read(folder)?;
    let weights = Weights::open(folder, "model", dtype, &Device::Cpu)?;
    Ok(Mplug::load(&config, &weights)?)
}

fn load(folder: &Path) -> Mplug {
    load_as(folder, DType::F32).unwrap()
}

fn refusal(folder: &Path) -> String {
    load_as(folder, DType::F32).unwrap_err().to_string()
}

/// Token ids of the case's questions, and the picture that each is about.
fn questions(case: &str) -> (Vec<Vec<u32>>, Vec<usize>) {
    let text = std::fs::read(fixture(&format!("mplug-golden/{case}.json"))).unwrap();
    let lines: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let ids = lines.iter().map(|line| serde_json::from_value(line["ids"].clone()).unwrap());
    let pictures = lines.iter().map(|line| line["picture"].as_u64().unwrap() as usize);
    (ids.collect(), pictures.collect())
}

fn encode(network: &Mplug, images: &[ImageStates], case: &str) -> QuestionStates {
    let (ids, pictures) = questions(case);
    let images: Vec<&ImageStates> = pictures.iter().map(|picture| &images[*picture]).collect();
    network.encode_questions(&images, &ids).unwrap()
}

fn all_states(questions: &QuestionStates) -> Tensor {
    let states: Vec<Tensor> =
        (0..questions.count()).map(|number| questions.states(number).unwrap()).collect();
    Tensor::cat(&states, 0).unwrap()
}

fn all_images(images: &[ImageStates]) -> Tensor {
    Tensor::stack(&images.iter().map(ImageStates::states).collect::<Vec<_>>(), 0).unwrap()
}

/// Compares with every golden tensor `<name>.wrong.*`, none of which may be met.
fn meets_no_mistake(ours: &Tensor, golden: &Tensors, name: &str, least: usize, bounds: Bounds) {
    let prefix = format!("{name}.wrong.");
    let wrong: Vec<&String> = golden.keys().filter(|key| key.starts_with(&prefix)).collect();
    assert!(wrong.len() >= least, "{wrong:?}");
    for key in wrong {
        compare(key, ours, &golden[key], bounds).unwrap_err();
    }
}

#[test]
fn images_equal_the_re_implementation() {
    for case in CASES {
        let (golden, network) = (golden(case), load(&folder(case)));
        assert!(!network.word_tables_differ());
        let images = network.encode_images(&golden["pixels"]).unwrap();
        let ours = all_images(&images);
        compare(&format!("{case} images"), &ours, &golden["images"], F32).unwrap();
        meets_no_mistake(&ours, &golden, "images", 3, F32);
        // One picture alone.
        let alone = golden["pixels"].narrow(0, 1, 1).unwrap();
        let ours = all_images(&network.encode_images(&alone).unwrap());
        let expected = golden["images"].narrow(0, 1, 1).unwrap();
        compare(&format!("{case} second image"), &ours, &expected, F32).unwrap();
    }
}

#[test]
fn questions_of_different_images_equal_the_re_implementation() {
    for case in CASES {
        let (golden, network) = (golden(case), load(&folder(case)));
        let images = network.encode_images(&golden["pixels"]).unwrap();
        let questions = encode(&network, &images, case);
        let ours = all_states(&questions);
        compare(&format!("{case} states"), &ours, &golden["states"], F32).unwrap();
        let least = if case == "large" { 4 } else { 5 };
        meets_no_mistake(&ours, &golden, "states", least, F32);
        // The other picture.
        let swapped: Vec<ImageStates> = images.iter().rev().cloned().collect();
        let ours = all_states(&encode(&network, &swapped, case));
        compare(&format!("{case} swapped"), &ours, &golden["states"], F32).unwrap_err();
        assert!(questions.states(5).unwrap_err().to_string().contains("question 5 of 5"));
    }
}

/// Two answers to each question are followed for four steps. They change places on the way, some are
/// dropped, and one is doubled.
#[test]
fn answers_are_followed_step_by_step() {
    for case in CASES {
        let (golden, network) = (golden(case), load(&folder(case)));
        let images = network.encode_images(&golden["pixels"]).unwrap();
        let questions = encode(&network, &images, case);
        let answers: Vec<Vec<Vec<u32>>> =
            golden["answers"].to_dtype(DType::U32).unwrap().to_vec3().unwrap();
        // (question, answer) of every row at every step.
        let all = |reversed: bool| -> Vec<(usize, usize)> {
            let pair = |q| if reversed { [(q, 1), (q, 0)] } else { [(q, 0), (q, 1)] };
            (0..5).flat_map(pair).collect()
        };
        let orders = [
            all(false),
            all(true),
            vec![(4, 1), (0, 0), (2, 1), (2, 0), (0, 1), (4, 1)],
            vec![(2, 0), (0, 0), (4, 1), (2, 1)],
        ];
        let run = |follow: bool| {
            let mut decoding = network.decoding(&questions);
            let mut before: Vec<(usize, usize)> = Vec::new();
            let mut results = Vec::new();
            for (step, order) in orders.iter().enumerate() {
                let parent = |row: &(usize, usize)| match (step, follow) {
                    (0, _) => row.0,
                    (_, true) => before.iter().position(|other| other == row).unwrap(),
                    // Another answer to the same question.
                    (_, false) => before.iter().position(|o| o.0 == row.0 && o != row).unwrap_or(0),
                };
                let parents: Vec<usize> = order.iter().map(parent).collect();
                let tokens: Vec<u32> = order
                    .iter()
                    .map(|(question, answer)| answers[*question][*answer][step])
                    .collect();
                let logits = decoding.step(&parents, &tokens).unwrap();
                for (row, (question, answer)) in order.iter().enumerate() {
                    let expected = &golden[&format!("logits.{question}")];
                    let expected = expected.get(*answer).unwrap().get(step).unwrap();
                    let name = format!("{case} step {step} question {question} answer {answer}");
                    let ours = logits.get(row).unwrap();
                    let result = compare(&name, &ours, &expected, LOGITS);
                    results.push(result.map(|()| (*question, *answer, ours)));
                }
                before = order.clone();
            }
            results
        };
        let ours: Vec<(usize, usize, Tensor)> =
            run(true).into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(ours.len(), 30);
        for (question, answer, logits) in &ours[26..] {
            for wrong in ["pads_seen", "no_scale"] {
                let key = format!("logits.wrong.{wrong}.{question}");
                let wrong_logits = golden[&key].get(*answer).unwrap();
                let met = compare(&key, logits, &wrong_logits, LOGITS).is_ok();
                // The third question has no padding.
                assert_eq!(met, wrong == "pads_seen" && *question == 2);
            }
        }
        let strayed = run(false);
        assert!(strayed[..10].iter().all(Result::is_ok));
        assert!(strayed[26..].iter().all(Result::is_err));
    }
}

#[test]
fn a_question_hardly_depends_on_its_batch() {
    for case in CASES {
        let (golden, network) = (golden(case), load(&folder(case)));
        let images = network.encode_images(&golden["pixels"]).unwrap();
        let together = encode(&network, &images, case);
        let (ids, pictures) = questions(case);
        let begin = |questions: &QuestionStates| {
            let rows: Vec<usize> = (0..questions.count()).collect();
            network.decoding(questions).step(&rows, &vec![101; rows.len()]).unwrap()
        };
        let logits = begin(&together);
        for (number, (ids, picture)) in ids.iter().zip(&pictures).enumerate() {
            let alone = network.encode_questions(&[&images[*picture]], std::slice::from_ref(ids));
            let expected = logits.narrow(0, number, 1).unwrap();
            compare(&format!("{case} alone"), &begin(&alone.unwrap()), &expected, LOGITS).unwrap();
        }
    }
}

#[test]
fn half_precision_comes_near() {
    let bounds = Bounds { relative: 5e-3, absolute: 5e-2 };
    let golden = golden("large");
    let network = load_as(&folder("large"), DType::F16).unwrap();
    let images = network.encode_images(&golden["pixels"]).unwrap();
    let questions = encode(&network, &images, "large");
    compare("f16 states", &all_states(&questions), &golden["states"], bounds).unwrap();
    let logits = network.decoding(&questions).step(&[0, 1], &[101, 101]).unwrap();
    assert_eq!(logits.dtype(), DType::F32);
}

/// The list of needed tensors is neither longer nor shorter than what the network asks for.
#[test]
fn exactly_the_needed_tensors_are_needed() {
    for case in CASES {
        let config = MplugConfig::read(&folder(case)).unwrap();
        let needed = Mplug::needed_tensors(&config);
        let copied = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(folder(case)).unwrap() {
            let file = file.unwrap().path();
            std::fs::copy(&file, copied.path().join(file.file_name().unwrap())).unwrap();
        }
        let path = copied.path().join("model.safetensors");
        let stored = read(&path);
        let kept: Tensors =
            needed.iter().map(|(name, _)| (name.clone(), stored[name].clone())).collect();
        assert_eq!(kept.len(), needed.len());
        assert!(needed.iter().all(|(name, shape)| stored[name].dims() == shape));
        candle_core::safetensors::save(&kept, &path).unwrap();
        load(copied.path());
        // Each in turn; for the middle case alone, to save time.
        for (name, _) in needed.iter().filter(|_| case == "joined") {
            let mut fewer = kept.clone();
            fewer.remove(name);
            candle_core::safetensors::save(&fewer, &path).unwrap();
            let message = refusal(copied.path());
            assert!(message.contains(name.as_str()) && message.contains("missing"), "{message}");
        }
    }
}

#[test]
fn contradicting_configurations_are_refused_in_a_sentence() {
    let with_yaml = |from: &str, to: &str| {
        let copied = copy_of("mplug-tiny/large");
        let path = copied.path().join("config.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        refusal(copied.path())
    };
    let with_json = |changes: Value| {
        let copied = copy_of("mplug-tiny/large");
        configure(&copied.path().join("config_bert.json"), &changes);
        refusal(copied.path())
    };
    for (from, to, words) in [
        ("image_res: 32", "image_res: 48", &["image_res 48", "17", "image_res 32"][..]),
        ("image_res: 32", "image_res: 36", &["image_res", "a multiple of the patches' 8"]),
        ("image_res: 32", "image_res: many", &["image_res", "many"]),
        ("vision_width: 64", "vision_width: 65", &["clip_vision_width", "multiple of 64"]),
        ("\nvision_width: 64", "\nvision_width: 128", &["vision_width", "clip_vision_width is 64"]),
        ("clip_name: ViT-L-14", "clip_name: RN50", &["clip_name", "RN50"]),
        ("max_length: 10", "max_length: 29", &["max_length", "28 positions"]),
        ("min_length: 1", "min_length: 11", &["max_length", "at least 11"]),
        ("beam_size: 5", "beam_size: 0", &["beam_size", "at least 1"]),
        ("beam_size: 5", "beam_size: [5", &["config.yaml", "is not YAML"]),
        ("config_bert.json", "none.json", &["none.json", "cannot be read"]),
    ] {
        let message = with_yaml(from, to);
        assert!(words.iter().all(|word| message.contains(word)), "{to}: {message}");
    }
    for (changes, words) in [
        (json!({"encoder_width": 64}), &["encoder_width", "hidden_size is 32"][..]),
        (json!({"fusion_layers": 5}), &["fusion_layers", "4 in all"]),
        (json!({"num_attention_heads": 3}), &["num_attention_heads"]),
        (json!({"hidden_act": "mish"}), &["hidden_act", "mish"]),
        (json!({"vocab_size": 150}), &["word_embeddings", "[139, 32]", "[150, 32]"]),
        (json!({"stride_layer": 0}), &["stride_layer"]),
    ] {
        let message = with_json(changes);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
    let copied = copy_of("mplug-tiny/large");
    std::fs::write(copied.path().join("config.yaml"), "- 1\n").unwrap();
    assert!(refusal(copied.path()).contains("mapping"));
    // Defaults, and keys that change nothing.
    let text = "bert_config: configs/config_bert.json\nschedular: {sched: cosine}\nalpha: 0.4\n";
    std::fs::write(copied.path().join("config.yaml"), text).unwrap();
    let config = MplugConfig::read(copied.path()).unwrap();
    let numbers = [config.image_res, config.beam_size, config.min_length, config.max_length];
    assert_eq!(numbers, [504, 5, 1, 10]);
    std::fs::write(copied.path().join("config_bert.json"), "{}").unwrap();
    let config = MplugConfig::read(copied.path()).unwrap();
    assert_eq!((config.vocab_size, config.max_positions), (30522, 512));
    // As the original: the file that is named goes before one of the same name without its folder.
    std::fs::create_dir(copied.path().join("configs")).unwrap();
    let named = copied.path().join("configs/config_bert.json");
    std::fs::write(&named, r#"{"vocab_size": 150}"#).unwrap();
    assert_eq!(MplugConfig::read(copied.path()).unwrap().vocab_size, 150);
    std::fs::remove_file(named).unwrap();
    // By default, image and text are never joined: no projection then lacks its cross-attention.
    let needed = Mplug::needed_tensors(&config);
    let numbers: usize = needed.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    // 566.0 million, one table of words standing there twice.
    assert_eq!((numbers - 30522 * 768 + 50_000) / 100_000, 5660);
}

#[test]
fn questions_and_steps_that_cannot_be_are_refused() {
    let (golden, network) = (golden("large"), load(&folder("large")));
    let message = network.encode_images(&golden["pixels"].narrow(3, 0, 24).unwrap()).unwrap_err();
    assert!(message.to_string().contains("[b, 3, 32, 32]"), "{message}");
    let images = network.encode_images(&golden["pixels"]).unwrap();
    let refused = |ids: &[Vec<u32>]| {
        let images = vec![&images[0]; 2];
        network.encode_questions(&images, ids).unwrap_err().to_string()
    };
    assert!(refused(&[vec![101, 102]]).contains("1 questions"));
    assert!(refused(&[vec![101, 102], vec![]]).contains("each has tokens"));
    assert!(refused(&[vec![101, 102], vec![101; 29]]).contains("28 positions"));
    assert!(refused(&[vec![101, 102], vec![139]]).contains("139"));
    let questions = encode(&network, &images, "large");
    let mut decoding = network.decoding(&questions);
    assert!(decoding.step(&[], &[]).is_err());
    assert!(decoding.step(&[5], &[101]).unwrap_err().to_string().contains("row 5 of 5"));
    assert!(decoding.step(&[0, 1], &[101]).is_err());
    decoding.step(&[4, 0], &[101, 101]).unwrap();
    assert!(decoding.step(&[2], &[104]).unwrap_err().to_string().contains("row 2 of 2"));
    for _ in 1..28 {
        decoding.step(&[0], &[104]).unwrap();
    }
    assert!(decoding.step(&[0], &[104]).unwrap_err().to_string().contains("28 positions"));
}

#[test]
fn two_tables_of_words_are_told() {
    let copied = copy_of("mplug-tiny/large");
    edit(&copied.path().join("model.safetensors"), |tensors| {
        let name = "text_decoder.bert.embeddings.word_embeddings.weight";
        let table = (&tensors[name] * 2.0).unwrap();
        tensors.insert(name.to_owned(), table);
    });
    let network = load(copied.path());
    assert!(network.word_tables_differ());
    // The output's table is used for both, so nothing changes.
    let golden = golden("large");
    let images = network.encode_images(&golden["pixels"]).unwrap();
    let questions = encode(&network, &images, "large");
    let logits = network.decoding(&questions).step(&[0], &[101]).unwrap().get(0).unwrap();
    let expected = golden["logits.0"].get(0).unwrap().get(0).unwrap();
    compare("two tables", &logits, &expected, LOGITS).unwrap();
}

/// A checkpoint as published, with what another program made of it.
#[test]
fn the_golden_of_another_program_is_met() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/mplug");
    if !shared.is_dir() {
        eprintln!("SKIPPED: there is no {}", shared.display());
        return;
    }
    let stored =
        candle_core::pickle::PthTensors::new(shared.join("pytorch_model.bin"), Some("module"));
    let stored = stored.unwrap();
    let config = MplugConfig::read(&shared).unwrap();
    let tensors: Tensors = Mplug::needed_tensors(&config)
        .into_iter()
        .map(|(name, _)| (name.clone(), stored.get(&name).unwrap().unwrap()))
        .collect();
    let copied = tempfile::tempdir().unwrap();
    let path = copied.path().join("model.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let weights = Weights::open_file(&path, DType::F32, &Device::Cpu).unwrap();
    let network = Mplug::load(&config, &weights).unwrap();
    let text = std::fs::read(shared.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let rows = |value: &Value| {
        let rows: Vec<Vec<f32>> = serde_json::from_value(value.clone()).unwrap();
        Tensor::new(rows, &Device::Cpu).unwrap()
    };
    let images = network.encode_images(&golden("another")["pixels"]).unwrap();
    let image = rows(&expected["image_embeds"]);
    compare("another image", images[0].states(), &image, F32).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(expected["input_ids"].clone()).unwrap();
    let ids: Vec<Vec<u32>> =
        ids.into_iter().map(|row| row.into_iter().filter(|id| *id != 0).collect()).collect();
    let questions = network.encode_questions(&vec![&images[0]; ids.len()], &ids).unwrap();
    for (number, ids) in ids.iter().enumerate() {
        let states = questions.states(number).unwrap();
        let ours = states.narrow(0, image.dim(0).unwrap(), ids.len()).unwrap();
        let golden = rows(&expected["fused_text"][number]).narrow(0, 0, ids.len()).unwrap();
        compare("another text", &ours, &golden, F32).unwrap();
        let other = rows(&expected["fused_text"][(number + 1) % 5]);
        if let Ok(other) = other.narrow(0, 0, ids.len()) {
            compare("another question", &ours, &other, F32).unwrap_err();
        }
    }
}

#[test]
fn the_fixtures_are_those_of_their_provenance() {
    let text = std::fs::read(fixture("mplug-golden/provenance.json")).unwrap();
    let provenance: Value = serde_json::from_slice(&text).unwrap();
    let files = provenance["sha256"].as_object().unwrap();
    assert!(files.len() >= 23, "{}", files.len());
    for (file, digest) in files {
        assert_eq!(sha256(&fixture(file)), digest.as_str().unwrap(), "{file}");
    }
}
