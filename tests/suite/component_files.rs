//! What a component's folder may hold: weights as pickles, tensors that no part of the network takes, and keys of T5's
//! configuration that stand above others, against diffusers and transformers (fixtures/pickled-weights, made by
//! make_pickled_weights.py; fixtures/t5-keys, made by make_t5_keys.py).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::CheckpointParts;
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::generate::pipelines::ella::EllaTokens;
use dpg_bench::generate::pipelines::ella::{Ella, EllaBase, EllaFiles, EllaOptions, EllaReading};
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::Sd15;
use dpg_bench::generate::pipelines::sdxl::Sdxl;
use dpg_bench::generate::{ImageGenerator, catalog};
use dpg_bench::models::T5EncoderModel;
use serde_json::{Value, json};

use crate::addons::single_file;
use crate::tiny_checkpoint::{
    CLIP_FILE, UNET_FILE, VAE_FILE, configure, copy_of, edit, fixture, read, rows, sha256,
};
use crate::tiny_parts::{TOLERANCE, apart, of_folder};

const PICKLES: [(&str, &str); 5] = [
    ("unet", "diffusion_pytorch_model-00001-of-00002.bin"),
    ("unet", "diffusion_pytorch_model-00002-of-00002.bin"),
    ("unet", "diffusion_pytorch_model.bin.index.json"),
    ("vae", "diffusion_pytorch_model.bin"),
    ("text_encoder", "pytorch_model.bin"),
];

fn open(folder: &Path) -> anyhow::Result<Sd15> {
    let options = DiffusionOptions {
        steps: 3,
        guidance: 3.0,
        width: Some(24),
        height: Some(24),
        ..Default::default()
    };
    Sd15::load(folder, DType::F32, &Device::Cpu, options)
}

fn picture(folder: &Path) -> Tensor {
    let made = open(folder).unwrap().pictures("a small cat wearing a red scarf", &[11]);
    made.unwrap().1.get(0).unwrap()
}

/// The tiny checkpoint with pickles alone, the UNet's in halves and in two shards.
fn pickled() -> tempfile::TempDir {
    let folder = copy_of("sd15-tiny");
    for file in [UNET_FILE, VAE_FILE, CLIP_FILE] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    for (part, name) in PICKLES {
        let from = fixture("pickled-weights").join(part).join(name);
        std::fs::copy(from, folder.path().join(part).join(name)).unwrap();
    }
    folder
}

/// The same weights as safetensors.
fn not_pickled() -> tempfile::TempDir {
    let folder = copy_of("sd15-tiny");
    edit(&folder.path().join(UNET_FILE), |tensors| {
        for tensor in tensors.values_mut() {
            *tensor = tensor.to_dtype(DType::F16).unwrap();
        }
    });
    folder
}

fn rename(folder: &Path, from: &str, to: &str) {
    std::fs::rename(folder.join(from), folder.join(to)).unwrap();
}

#[test]
fn pickled_weights_make_the_pictures_of_diffusers() {
    let folder = pickled();
    assert_eq!(catalog::find("sd15").unwrap().missing(folder.path()), []);
    let made = picture(folder.path());
    let golden = read(&fixture("pickled-weights/picture.safetensors"))["picture"].clone();
    let error = apart(&made, &golden);
    eprintln!("largest error {error:.2e}");
    assert!(error <= TOLERANCE, "{error:e}");
    let safe = not_pickled();
    assert_eq!(apart(&made, &picture(safe.path())), 0.0);
    assert!(apart(&made, &picture(&fixture("sd15-tiny"))) > 0.0, "halves are other weights");
    // The record has the digests of these files.
    let weights = |folder: &Path| open(folder).unwrap().settings()["weights"].clone();
    let vae = sha256(&folder.path().join("vae/diffusion_pytorch_model.bin"));
    assert_eq!(weights(folder.path())["vae"], vae);
    let first = folder.path().join("unet").join(PICKLES[0].1);
    let unet = weights(folder.path())["unet"].clone();
    std::fs::copy(folder.path().join("unet").join(PICKLES[1].1), &first).unwrap();
    let message = format!("{:#}", open(folder.path()).err().unwrap());
    assert!(message.contains("is also in") && message.contains(PICKLES[1].1), "{message}");
    std::fs::copy(fixture("pickled-weights/unet").join(PICKLES[0].1), &first).unwrap();
    assert_eq!(weights(folder.path())["unet"], unet);
    // The other spellings of variants.
    rename(folder.path(), "text_encoder/pytorch_model.bin", "text_encoder/pytorch_model.fp16.bin");
    for index in ["bin.index.fp16", "fp16.bin.index"] {
        let to = format!("unet/diffusion_pytorch_model.{index}.json");
        rename(folder.path(), "unet/diffusion_pytorch_model.bin.index.json", &to);
        assert_eq!(catalog::find("sd15").unwrap().missing(folder.path()), []);
        assert_eq!(apart(&made, &picture(folder.path())), 0.0, "{index}");
        rename(folder.path(), &to, "unet/diffusion_pytorch_model.bin.index.json");
    }
    // Safetensors of the same variant stand above pickles.
    std::fs::copy(fixture("sd15-tiny").join(VAE_FILE), folder.path().join(VAE_FILE)).unwrap();
    std::fs::write(folder.path().join("vae/diffusion_pytorch_model.bin"), "broken").unwrap();
    assert_eq!(weights(folder.path())["vae"], sha256(&folder.path().join(VAE_FILE)));
}

#[test]
fn pickled_weights_take_adapters_and_other_autoencoders() {
    let (folder, safe) = (pickled(), not_pickled());
    let loras = vec![LoraFile { file: fixture("addons/kohya.safetensors"), weight: 1.0 }];
    let of = |checkpoint: &Path, vae: Option<PathBuf>| {
        let parts = CheckpointParts { loras: loras.clone(), vae, ..of_folder(checkpoint) };
        picture(parts.assemble().unwrap().path())
    };
    let merged = of(folder.path(), None);
    assert_eq!(apart(&merged, &of(safe.path(), None)), 0.0);
    assert!(apart(&merged, &picture(safe.path())) > 0.05);
    for vae in ["vae", "vae/diffusion_pytorch_model.bin"] {
        assert_eq!(apart(&merged, &of(safe.path(), Some(folder.path().join(vae)))), 0.0);
    }
}

#[test]
fn unreadable_pickles_are_refused_by_name() {
    let whole = std::fs::read(fixture("pickled-weights/vae/diffusion_pytorch_model.bin")).unwrap();
    let folder = pickled();
    let path = folder.path().join("vae/diffusion_pytorch_model.bin");
    let fixture_of = |name: &str| std::fs::read(fixture(&format!("pickle/{name}.bin"))).unwrap();
    for (bytes, said) in [
        (whole[..whole.len() / 2].to_vec(), "truncated"),
        (fixture_of("legacy"), "before 1.6"),
        (fixture_of("whole_module"), "save the model's state_dict()"),
        (std::fs::read(fixture("sd15-tiny").join(VAE_FILE)).unwrap(), "no zip archive"),
        (fixture_of("bare"), "is missing"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = format!("{:#}", open(folder.path()).err().unwrap());
        let named = message.contains("vae/diffusion_pytorch_model.bin");
        assert!(named && message.contains(said), "{said}: {message}");
    }
    std::fs::remove_file(&path).unwrap();
    let message = format!("{:#}", open(folder.path()).err().unwrap());
    assert!(message.contains("vae/diffusion_pytorch_model.safetensors"), "{message}");
    assert!(message.contains("diffusion_pytorch_model.bin"), "{message}");
}

/// What the commands say of a folder.
fn said(command: &str, folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    run.args([command, "--device", "cpu", "--benchmark", "demo", "--model", "sd15", "--weights"])
        .arg(folder)
        .args(more);
    let output = run.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_commands_know_pickled_weights_and_tell_of_tensors_in_nothing() {
    let folder = pickled();
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out").to_str().unwrap().to_owned();
    let dry = ["--dry-run", "--steps", "2", "--out", &out];
    let (code, text) = said("generate", folder.path(), &dry);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("belong to nothing"), "{text}");
    let (_, text) = said("doctor", folder.path(), &["--judge", "demo-judge"]);
    assert!(text.contains("4 weight files"), "{text}");

    let safe = not_pickled();
    edit(&safe.path().join(UNET_FILE), |tensors| {
        let one = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
        tensors.insert("adapter.strange.weight".to_owned(), one);
    });
    let (code, text) = said("generate", safe.path(), &dry);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("warning: unet: 1 tensors belong to nothing"), "{text}");
    assert!(text.contains("`adapter.strange.weight`"), "{text}");
}

/// Adds tensors of these names to a file.
fn add(path: &Path, names: &[&str]) {
    edit(path, |tensors| {
        for name in names {
            let one = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
            assert!(tensors.insert((*name).to_owned(), one).is_none(), "{name}");
        }
    });
}

/// That of `warnings` each of `told` is one with these words, and nothing else is told.
fn tells(warnings: &[String], told: &[&[&str]]) {
    for words in told {
        let of = |warning: &&String| words.iter().all(|word| warning.contains(word));
        assert_eq!(warnings.iter().filter(of).count(), 1, "{words:?}: {warnings:?}");
    }
    assert_eq!(warnings.len(), told.len(), "{warnings:?}");
}

#[test]
fn tensors_in_no_part_of_a_network_are_told() {
    let folder = copy_of("sd15-tiny");
    let path = |file: &str| folder.path().join(file);
    add(&path(UNET_FILE), &["down_blocks.7.resnets.0.conv1.weight", "class_embedding.weight"]);
    // Encoders, scales and counted positions are in many files, and mean nothing here.
    let usual = ["encoder.more.weight", "quant_conv.more", "decoder.conv_in.scale_input"];
    add(&path(VAE_FILE), &[&usual[..], &["decoder.mid_block.extra.weight"]].concat());
    let usual = ["text_model.embeddings.position_ids", "logit_scale", "vision_model.x.weight"];
    let usual: Vec<&str> =
        usual.into_iter().filter(|name| !read(&path(CLIP_FILE)).contains_key(*name)).collect();
    add(&path(CLIP_FILE), &[&usual[..], &["text_model.encoder.layers.9.mlp.fc1.bias"]].concat());
    tells(
        &open(folder.path()).unwrap().understood().warnings,
        &[
            &["unet: 2 tensors", "`class_embedding.weight`, `down_blocks.7", "unet/config.json"],
            &["vae: 1 tensors", "`decoder.mid_block.extra.weight`"],
            &["text_encoder: 1 tensors", "`text_model.encoder.layers.9.mlp.fc1.bias`"],
        ],
    );
    // So are those of a middle block that the configuration leaves out.
    let folder = copy_of("sd15-tiny");
    configure(&folder.path().join("unet/config.json"), &json!({"mid_block_type": null}));
    let warnings = open(folder.path()).unwrap().understood().warnings;
    tells(&warnings, &[&["unet: ", "tensors", "`mid_block.", ", ..."]]);
    // An autoencoder from elsewhere, under the names of single files.
    let scratch = tempfile::tempdir().unwrap();
    let single = single_file(scratch.path(), |tensors| {
        let one = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
        for name in ["decoder.up.0.stray.weight", "encoder.more", "loss.logvar"] {
            tensors.insert(format!("first_stage_model.{name}"), one.clone());
        }
    });
    let vae = Some(single.checkpoint);
    let parts = CheckpointParts { vae, ..of_folder(&fixture("sd15-tiny")) };
    let assembled = parts.assemble().unwrap();
    let warnings = open(assembled.path()).unwrap().understood().warnings;
    tells(&warnings, &[&["vae: 1 tensors", "`decoder.up.0.stray.weight`"]]);
    // SDXL has two text encoders.
    let folder = copy_of("sdxl-tiny");
    for part in ["text_encoder", "text_encoder_2"] {
        add(&folder.path().join(part).join("model.safetensors"), &["stray.weight"]);
    }
    let sdxl =
        Sdxl::load(folder.path(), DType::F32, &Device::Cpu, DiffusionOptions::default()).unwrap();
    tells(
        &sdxl.understood().warnings,
        &[&["text_encoder: 1 tensors", "`stray"], &["text_encoder_2: 1 tensors", "`stray"]],
    );
}

/// ELLA's T5 with changed keys.
fn t5_with(changes: &Value) -> tempfile::TempDir {
    let folder = copy_of("ella-tiny/text_encoder");
    configure(&folder.path().join("config.json"), changes);
    folder
}

fn t5(changes: &Value) -> anyhow::Result<T5EncoderModel> {
    Ok(T5EncoderModel::load(t5_with(changes).path(), DType::F32, &Device::Cpu)?)
}

#[test]
fn keys_of_t5_that_stand_above_others_are_followed_or_refused() {
    let golden = read(&fixture("t5-keys/hidden.safetensors"));
    let text = std::fs::read(fixture("t5-keys/cases.json")).unwrap();
    let cases: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
    let ids = rows(&golden["ids"]);
    assert_eq!(cases.len(), 5);
    for (name, changes) in &cases {
        let hidden = t5(changes).unwrap().forward(&ids, &[ids[0].len()]).unwrap();
        let error = apart(&hidden, &golden[name]);
        assert!(error <= 1e-4, "{name}: {error:e}");
    }
    assert!(apart(&golden["dense_act_fn"], &golden["plain"]) > 1.0);
    for (key, value) in [
        ("dense_act_fn", json!("mish2")),
        ("is_gated_act", json!("yes")),
        ("is_decoder", json!(true)),
        ("hidden_size", json!(64)),
        ("head_dim", json!(7)),
        ("num_hidden_layers", json!(2)),
        ("num_attention_heads", json!(null)),
        ("layer_norm_epsilon", json!(null)),
        ("feed_forward_proj", json!("gated-gated-gelu")),
        ("feed_forward_proj", json!("swiglu")),
    ] {
        let message = format!("{:#}", t5(&json!({ key: value })).err().unwrap());
        assert!(message.contains(key) && message.contains("config.json"), "{key}: {message}");
    }
    // Another form of the feed-forward has other tensors.
    let message = format!("{:#}", t5(&json!({"is_gated_act": false})).err().unwrap());
    assert!(message.contains("DenseReluDense.wi.weight"), "{message}");
}

#[test]
fn ella_tells_what_it_passes_over_in_t5_and_in_clip() {
    let t5 = t5_with(&json!({"strange_key": 3, "_note": 1}));
    let usual = ["decoder.final_layer_norm.weight", "lm_head.weight"];
    add(
        &t5.path().join("model.safetensors"),
        &[&usual[..], &["encoder.block.9.x.weight"]].concat(),
    );
    let checkpoint = copy_of("sd15-tiny");
    configure(&checkpoint.path().join("text_encoder/config.json"), &json!({"odd_key": 1}));
    let warnings = |tokens| {
        let files = EllaFiles {
            checkpoint: checkpoint.path().to_path_buf(),
            connector: fixture("ella-tiny/ella.safetensors"),
            text_encoder: t5.path().to_path_buf(),
        };
        let pictures =
            DiffusionOptions { steps: 2, width: Some(32), height: Some(32), ..Default::default() };
        let options =
            EllaOptions { reading: EllaReading::from(tokens), low_memory: true, pictures };
        let ella = Ella::load(EllaBase::Sd15, files, DType::F32, &Device::Cpu, options);
        ella.unwrap().understood().warnings
    };
    let folder = t5.path().to_str().unwrap();
    let of_t5: [&[&str]; 2] =
        [&[folder, "strange_key = 3"], &[folder, "1 tensors", "`encoder.block.9.x.weight`"]];
    tells(&warnings(EllaTokens::Fixed), &of_t5);
    let of_clip: &[&str] = &["text_encoder/config.json", "odd_key = 1"];
    tells(&warnings(EllaTokens::ClipAndElla), &[of_t5[0], of_t5[1], of_clip]);
}
