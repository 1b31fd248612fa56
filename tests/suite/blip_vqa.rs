//! BLIP-VQA against transformers (fixtures/blip-vqa-golden, made by make_blip_vqa.py): pictures, states,
//! first scores, answers. Its command is tested in `blip_vqa_command`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use dpg_bench::compute::device::Place;
use dpg_bench::judge::Judge;
use dpg_bench::judge::blip_vqa::{BlipVqaJudge, Reply};
use dpg_bench::models::blip_vqa::ImageStates;
use serde_json::{Value, json};

use super::tiny_checkpoint::{Bounds, F32, Tensors, compare, copy_of, edit, fixture, read, rows};

/// Scores of words reach 20.
const LOGITS: Bounds = Bounds { relative: 5e-6, absolute: 2e-4 };

/// Twelve layers of width 768.
const FULL: Bounds = Bounds { relative: 1e-5, absolute: 1e-3 };

fn place() -> Place {
    Place { device: Device::Cpu, dtype: DType::F32 }
}

fn load(folder: &Path) -> anyhow::Result<BlipVqaJudge> {
    BlipVqaJudge::load(folder, place())
}

fn tiny() -> BlipVqaJudge {
    load(&fixture("blip-vqa-tiny")).unwrap()
}

fn golden() -> Tensors {
    read(&fixture("blip-vqa-golden/golden.safetensors"))
}

pub fn expected() -> Value {
    let text = std::fs::read(fixture("blip-vqa-golden/golden.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The ids of the fixture's questions, without padding.
fn questions(golden: &Tensors) -> Vec<Vec<u32>> {
    let (ids, mask) = (rows(&golden["ids"]), rows(&golden["mask"]));
    let unpadded = |(ids, mask): (&Vec<u32>, &Vec<u32>)| {
        ids.iter().zip(mask).filter(|(_, seen)| **seen == 1).map(|(id, _)| *id).collect()
    };
    ids.iter().zip(&mask).map(unpadded).collect()
}

/// Of `padded` [images, questions, longest, width], what belongs to the questions: [tokens, width].
fn without_padding(padded: &Tensor, questions: &[Vec<u32>]) -> Tensor {
    let images = padded.dim(0).unwrap();
    let own: Vec<Tensor> = (0..images)
        .flat_map(|image| questions.iter().enumerate().map(move |(q, ids)| (image, q, ids.len())))
        .map(|(image, question, length)| {
            padded.get(image).unwrap().get(question).unwrap().narrow(0, 0, length).unwrap()
        })
        .collect();
    Tensor::cat(&own, 0).unwrap()
}

/// All questions about both pictures in one batch.
fn reply_to_all(judge: &BlipVqaJudge, golden: &Tensors) -> (Tensor, Vec<Reply>) {
    let images = judge.network().encode_images(&golden["pixels"]).unwrap();
    let questions = questions(golden);
    let image_of: Vec<usize> =
        (0..images.len()).flat_map(|image| vec![image; questions.len()]).collect();
    let ids: Vec<Vec<u32>> = images.iter().flat_map(|_| questions.clone()).collect();
    let states = judge.network().encode_questions(&images, &image_of, &ids).unwrap();
    let of_questions: Vec<Tensor> =
        (0..states.count()).map(|question| states.states(question).unwrap()).collect();
    let replies = judge.replies(&states).unwrap();
    (Tensor::cat(&of_questions, 0).unwrap(), replies)
}

fn logits(replies: &[Reply]) -> Tensor {
    let rows: Vec<Vec<f32>> = replies.iter().map(|reply| reply.first_logits.clone()).collect();
    Tensor::new(rows, &Device::Cpu).unwrap()
}

#[test]
fn pictures_are_prepared_to_the_bit() {
    let (judge, golden) = (tiny(), golden());
    let picture = |name: &str| {
        let path = fixture(&format!("blip-vqa-golden/{name}.png"));
        judge.pixels(&image::open(path).unwrap().to_rgb8()).unwrap()
    };
    let ours = Tensor::cat(&[picture("0"), picture("1")], 0).unwrap();
    let exact = Bounds { relative: 0.0, absolute: 0.0 };
    compare("pixels", &ours, &golden["pixels"], exact).unwrap();
    let turned = Tensor::cat(&[picture("1"), picture("0")], 0).unwrap();
    compare("pixels of the other", &turned, &golden["pixels"], exact).unwrap_err();
}

#[test]
fn vision_states_equal_transformers() {
    let (judge, golden) = (tiny(), golden());
    let images = judge.network().encode_images(&golden["pixels"]).unwrap();
    let states: Vec<Tensor> = images.iter().map(|image| image.states().clone()).collect();
    let ours = Tensor::stack(&states, 0).unwrap();
    compare("vision", &ours, &golden["vision"], F32).unwrap();
    for wrong in ["tanh_gelu", "no_last_norm"] {
        let wrong = format!("wrong.vision.{wrong}");
        compare(&wrong, &ours, &golden[&wrong], F32).unwrap_err();
    }
    let refusal = judge.network().encode_images(&golden["pixels"].narrow(3, 0, 40).unwrap());
    assert!(refusal.unwrap_err().to_string().contains("[b, 3, 48, 48]"));
}

#[test]
fn question_states_and_first_scores_equal_transformers() {
    let (judge, golden) = (tiny(), golden());
    let questions = questions(&golden);
    let (states, replies) = reply_to_all(&judge, &golden);
    compare("questions", &states, &without_padding(&golden["questions"], &questions), F32).unwrap();
    for wrong in ["no_mask", "enc_first", "tanh_gelu"] {
        let wrong = format!("wrong.questions.{wrong}");
        let golden = without_padding(&golden[&wrong], &questions);
        compare(&wrong, &states, &golden, F32).unwrap_err();
    }
    let logits = logits(&replies);
    compare("first logits", &logits, &golden["logits"], LOGITS).unwrap();
    for wrong in ["padding_seen", "enc_first", "tanh_gelu"] {
        let wrong = format!("wrong.logits.{wrong}");
        compare(&wrong, &logits, &golden[&wrong], LOGITS).unwrap_err();
    }
}

#[test]
fn answers_and_their_probability_equal_transformers() {
    let (judge, golden, expected) = (tiny(), golden(), expected());
    let (_, replies) = reply_to_all(&judge, &golden);
    let answers = expected["answers"].as_array().unwrap();
    assert_eq!(answers.len(), replies.len());
    let end = json!(3);
    let mut full = 0;
    for (reply, answer) in replies.iter().zip(answers) {
        let question = answer["question"].as_str().unwrap();
        assert_eq!(json!(judge.question_ids(question).unwrap()), answer["ids"], "{question}");
        let written = answer["sequence"].as_array().unwrap();
        let ended = written.last() == Some(&end);
        full += usize::from(!ended);
        let between = &written[1..written.len() - usize::from(ended)];
        assert_eq!(json!(reply.ids), json!(between), "{question}");
        assert_eq!(judge.text(&reply.ids).unwrap(), answer["text"].as_str().unwrap());
        let probability = answer["yes_probability"].as_f64().unwrap();
        let ours = judge.yes_probability(reply);
        assert!((ours - probability).abs() < 1e-5, "{question}: {ours}, {probability}");
    }
    assert!(full > 0 && full < replies.len(), "answers of every kind are needed");
}

#[test]
fn texts_are_joined_as_transformers_joins_them() {
    let judge = tiny();
    let expected = expected();
    let rows = expected["decoded"].as_array().unwrap();
    assert!(rows.len() > 50);
    for row in rows {
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(judge.text(&ids).unwrap(), row["text"].as_str().unwrap(), "{ids:?}");
    }
    // Blanks before marks would be left by a plain join.
    let tidy = |row: &Value| row["text"].as_str().unwrap().contains([',', '.']);
    assert!(rows.iter().any(tidy));
}

#[test]
fn a_question_is_answered_in_a_batch_as_it_is_alone() {
    let (judge, golden) = (tiny(), golden());
    let (_, together) = reply_to_all(&judge, &golden);
    let images: Vec<ImageStates> = judge.network().encode_images(&golden["pixels"]).unwrap();
    let questions = questions(&golden);
    for (image, states) in images.iter().enumerate() {
        for (number, ids) in questions.iter().enumerate() {
            let one = std::slice::from_ref(states);
            let alone =
                judge.network().encode_questions(one, &[0], std::slice::from_ref(ids)).unwrap();
            let alone = judge.replies(&alone).unwrap();
            let reply = &together[image * questions.len() + number];
            assert_eq!(alone[0].ids, reply.ids);
            let name = format!("question {number} alone");
            let both = [&alone[0], reply].map(|reply| logits(std::slice::from_ref(reply)));
            compare(&name, &both[0], &both[1], LOGITS).unwrap();
        }
    }
}

#[test]
fn files_that_differ_are_felt_or_refused() {
    let golden = golden();
    let changed = |part: &str, key: &str, value: Value| {
        let folder = copy_of("blip-vqa-tiny");
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        match part {
            "" => config[key] = value,
            part => config[part][key] = value,
        }
        std::fs::write(&path, config.to_string()).unwrap();
        folder
    };
    // What a configuration says is followed.
    for (part, key, value) in [
        ("text_config", "num_attention_heads", json!(2)),
        ("text_config", "layer_norm_eps", json!(1e-3)),
        ("text_config", "hidden_act", json!("gelu_new")),
        ("text_config", "bos_token_id", json!(7)),
        ("vision_config", "num_attention_heads", json!(4)),
        ("vision_config", "layer_norm_eps", json!(1e-3)),
    ] {
        let judge = load(changed(part, key, value).path()).unwrap();
        let (_, replies) = reply_to_all(&judge, &golden);
        compare(key, &logits(&replies), &golden["logits"], LOGITS).unwrap_err();
    }
    for (part, key, value, expected) in [
        ("", "model_type", json!("bert"), "model_type = \"bert\""),
        ("", "architectures", json!(["BlipForConditionalGeneration"]), "architectures"),
        ("", "text_config", Value::Null, "text_config = null"),
        ("", "tie_word_embeddings", json!(false), "tie_word_embeddings = false"),
        ("text_config", "hidden_act", json!("mish"), "text_config.hidden_act"),
        ("text_config", "bos_token_id", json!(4000), "an id of the vocabulary"),
        ("vision_config", "hidden_size", json!(24), "the text's width, 32"),
        ("vision_config", "image_size", json!(64), "48 x 48 pixels, but config.json's network"),
        ("vision_config", "patch_size", json!(64), "must fit into the picture"),
        ("vision_config", "num_hidden_layers", json!(3), "vision_model.encoder.layers.2"),
    ] {
        let error = load(changed(part, key, value).path()).err().expect(key);
        let error = format!("{error:#}");
        assert!(error.contains(expected), "{key}: {error}");
    }
    for (file, expected) in [
        ("config.json", "config.json: cannot be read"),
        (
            "preprocessor_config.json",
            "has neither preprocessor_config.json nor processor_config.json",
        ),
        ("vocab.txt", "has neither tokenizer.json nor vocab.txt"),
    ] {
        let folder = copy_of("blip-vqa-tiny");
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = format!("{:#}", load(folder.path()).err().expect(file));
        assert!(error.contains(expected), "{error}");
    }
    let folder = copy_of("blip-vqa-tiny");
    let vocabulary = std::fs::read_to_string(folder.path().join("vocab.txt")).unwrap();
    std::fs::write(folder.path().join("vocab.txt"), format!("{vocabulary}one\nmore\ntoo many\n"))
        .unwrap();
    let error = format!("{:#}", load(folder.path()).err().unwrap());
    assert!(error.contains("vocab.txt: it has") && error.contains("config.json only"), "{error}");
    let without = vocabulary.replace("\nyes\n", "\nyea\n");
    std::fs::write(folder.path().join("vocab.txt"), without).unwrap();
    let error = format!("{:#}", load(folder.path()).err().unwrap());
    assert!(error.contains("lacks `yes`"), "{error}");
}

/// Published files hold the answers' table of words under one name, the other, or both.
#[test]
fn the_table_of_words_is_found_under_either_name() {
    let golden = golden();
    let (own, other) = (
        "text_decoder.bert.embeddings.word_embeddings.weight",
        "text_decoder.cls.predictions.decoder.weight",
    );
    let folder = copy_of("blip-vqa-tiny");
    edit(&folder.path().join("model.safetensors"), |tensors| {
        let table = tensors.remove(own).unwrap();
        assert!(tensors.insert(other.to_owned(), table).is_none());
    });
    let (_, replies) = reply_to_all(&load(folder.path()).unwrap(), &golden);
    compare("logits", &logits(&replies), &golden["logits"], LOGITS).unwrap();
    edit(&folder.path().join("model.safetensors"), |tensors| {
        tensors.remove(other).unwrap();
    });
    let error = format!("{:#}", load(folder.path()).err().unwrap());
    assert!(error.contains(own) && error.contains("missing"), "{error}");
}

/// The same tensors in PyTorch's own format, with the copies and buffers that published files hold.
#[test]
fn pytorch_files_are_read_to_the_same_answers_and_digest() {
    let golden = golden();
    let folder = copy_of("blip-vqa-tiny");
    let safe = load(folder.path()).unwrap();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let pickled = load(folder.path()).unwrap();
    assert_eq!(pickled.settings(), safe.settings());
    assert_eq!(reply_to_all(&pickled, &golden).1, reply_to_all(&safe, &golden).1);
    BlipVqaJudge::check(folder.path()).unwrap();
    let path = folder.path().join("pytorch_model.bin");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = format!("{:#}", BlipVqaJudge::check(folder.path()).unwrap_err());
    assert!(error.contains("pytorch_model.bin"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = format!("{:#}", load(folder.path()).err().unwrap());
    assert!(error.contains("neither model.safetensors nor pytorch_model.bin"), "{error}");
}

#[test]
fn a_question_may_fill_the_positions_and_no_more() {
    let judge = tiny();
    assert_eq!(judge.question_ids(&"is ".repeat(46)).unwrap().len(), 48);
    let error = judge.question_ids(&"is ".repeat(47)).unwrap_err().to_string();
    assert!(error.contains("49 word pieces, of which this network takes 48"), "{error}");
}

/// BLIP-VQA at its full dimensions, against what `scripts/full_size_blip_vqa.py` left in the folder that
/// `DPG_BENCH_FULL_SIZE_BLIP` names.
#[test]
#[ignore = "needs 1.5 GB of weights that scripts/full_size_blip_vqa.py makes"]
fn full_size_blip_equals_transformers() {
    let folder = std::env::var_os("DPG_BENCH_FULL_SIZE_BLIP").expect("names the folder");
    let folder = PathBuf::from(folder);
    let judge = load(&folder).unwrap();
    let golden = read(&folder.join("golden.safetensors"));
    let started = Instant::now();
    let images = judge.network().encode_images(&golden["pixels"]).unwrap();
    println!("the picture: {:.2} s", started.elapsed().as_secs_f64());
    let (_, replies) = reply_to_all(&judge, &golden);
    println!("picture and all questions: {:.2} s after it", started.elapsed().as_secs_f64());
    let states = images[0].states().unsqueeze(0).unwrap();
    compare("full-size vision", &states, &golden["vision"], FULL).unwrap();
    compare("full-size first logits", &logits(&replies), &golden["logits"], FULL).unwrap();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    for (reply, answer) in replies.iter().zip(expected["answers"].as_array().unwrap()) {
        let written: Vec<u32> = serde_json::from_value(answer["sequence"].clone()).unwrap();
        let between: Vec<u32> = written[1..].iter().copied().filter(|id| *id != 102).collect();
        assert_eq!(reply.ids, between, "{}", answer["question"]);
    }
}
