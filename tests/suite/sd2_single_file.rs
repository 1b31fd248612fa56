//! Stable Diffusion 2 in one file, with OpenCLIP's names for the text encoder (fixtures/sd2-golden, made by make_sd2.py, where
//! diffusers' converters give back the tensors of the folders).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::checkpoint::scheduler_config::PredictionType;
use dpg_bench::generate::pipelines::sd15::{Sd15, SdModel};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::golden_pictures::{Case, assert_apart, assert_same, cases, pictures};
use crate::tiny_checkpoint::{Tensors, fixture, read};
use crate::tiny_parts::apart;

const GOLDEN: &str = "sd2-golden";
const ENCODER: &str = "cond_stage_model.model.";

#[derive(Deserialize)]
struct Names {
    /// Per component: names of diffusers with those of the latent-diffusion layout.
    names: BTreeMap<String, BTreeMap<String, String>>,
    /// Tensors that hold three.
    packed: BTreeMap<String, Vec<String>>,
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

/// The checkpoint `name` as one file, changed by `change`, over its folder's configurations.
fn single_file(folder: &Path, name: &str, change: impl Fn(&mut Tensors)) -> CheckpointParts {
    let text = std::fs::read(fixture(GOLDEN).join("single_file.json")).unwrap();
    let mut all: BTreeMap<String, Names> = serde_json::from_slice(&text).unwrap();
    let Names { names, packed } = all.remove(name).unwrap();
    let mut tensors = Tensors::new();
    for (component, names) in names {
        let stem = if component == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
        let own = read(&fixture(name).join(format!("{component}/{stem}.safetensors")));
        for (name, stored) in names {
            let tensor = match own[&name].dims() {
                [rows, columns] if stored.contains(".mid.attn_1.") => {
                    own[&name].reshape((*rows, *columns, 1, 1)).unwrap()
                }
                _ => own[&name].clone(),
            };
            tensors.insert(stored, tensor);
        }
        for (stored, parts) in packed.iter().filter(|_| component == "text_encoder") {
            let parts: Vec<&Tensor> = parts.iter().map(|part| &own[part]).collect();
            tensors.insert(stored.clone(), Tensor::cat(&parts, 0).unwrap());
        }
    }
    // What the published files hold besides: the layer that nobody needs, among others.
    for (name, shape) in [
        ("transformer.resblocks.3.ln_1.weight", vec![24]),
        ("transformer.resblocks.3.attn.in_proj_weight", vec![72, 24]),
        ("text_projection", vec![24, 24]),
        ("logit_scale", vec![1]),
        ("attn_mask", vec![77, 77]),
    ] {
        tensors.insert(format!("{ENCODER}{name}"), ones(&shape));
    }
    change(&mut tensors);
    let path = folder.join("single.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    CheckpointParts { checkpoint: path, base: Some(fixture(name)), ..Default::default() }
}

fn picture(parts: &CheckpointParts, case: &Case) -> Tensor {
    let assembled = parts.assemble().unwrap();
    let (folder, options) = (assembled.path(), case.options());
    let pipeline = Sd15::load_model(SdModel::Sd2, folder, DType::F32, &Device::Cpu, options);
    pipeline.unwrap().pictures(&case.prompt, &case.seeds).unwrap().1
}

#[test]
fn a_single_file_makes_the_pictures_of_its_folder() {
    let (cases, goldens, scratch) =
        (cases::<Case>(GOLDEN), pictures(GOLDEN), tempfile::tempdir().unwrap());
    for name in ["sd2-tiny", "sd2-base-tiny"] {
        let key = format!("{name}/negative");
        let (case, golden) = (&cases[&key], &goldens[&key]);
        assert_same(&key, &picture(&single_file(scratch.path(), name, |_| {}), case), golden);
        // Query and key the other way round in one layer.
        let wrong = single_file(scratch.path(), name, |tensors| {
            let packed = tensors
                .get_mut(&format!("{ENCODER}transformer.resblocks.1.attn.in_proj_weight"))
                .unwrap();
            let parts = packed.chunk(3, 0).unwrap();
            *packed = Tensor::cat(&[&parts[1], &parts[2], &parts[0]], 0).unwrap();
        });
        assert_apart("turned projections", apart(&picture(&wrong, case), golden));
    }
}

#[test]
fn tensors_that_are_missing_or_too_many_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let missing = single_file(scratch.path(), "sd2-tiny", |tensors| {
        tensors.remove(&format!("{ENCODER}transformer.resblocks.2.ln_2.bias")).unwrap();
    });
    let assembled = missing.assemble().unwrap();
    let options = cases::<Case>(GOLDEN)["sd2-tiny/own"].options();
    let loaded =
        Sd15::load_model(SdModel::Sd2, assembled.path(), DType::F32, &Device::Cpu, options);
    let message = format!("{:#}", loaded.err().unwrap());
    assert!(message.contains("text_model.encoder.layers.2.layer_norm2.bias"), "{message}");
    let deeper = single_file(scratch.path(), "sd2-tiny", |tensors| {
        tensors.insert(format!("{ENCODER}transformer.resblocks.4.ln_1.weight"), ones(&[24]));
    });
    let message = format!("{:#}", deeper.assemble().unwrap_err());
    assert!(message.contains("resblocks.4.ln_1.weight") && message.contains("--base"), "{message}");
}

/// A file that holds one tensor of each network, and others, over the published configurations.
fn stub(folder: &Path, others: &[(&str, Tensor)], prediction: Option<PredictionType>) -> Assembled {
    let names = [
        "model.diffusion_model.input_blocks.0.0.weight",
        "first_stage_model.decoder.conv_in.weight",
        "cond_stage_model.model.ln_final.weight",
    ];
    let mut tensors: Tensors = names.iter().map(|name| ((*name).to_owned(), ones(&[2]))).collect();
    tensors.extend(others.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())));
    let checkpoint = folder.join("stub.safetensors");
    candle_core::safetensors::save(&tensors, &checkpoint).unwrap();
    let tokenizer = Some(fixture("sd15-tiny/tokenizer"));
    let parts = CheckpointParts { checkpoint, tokenizer, prediction, ..Default::default() };
    parts.assemble().unwrap()
}

fn file(assembled: &Assembled, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(assembled.path().join(name)).unwrap()).unwrap()
}

#[test]
fn an_unmarked_file_predicts_what_diffusers_takes_it_for() {
    let scratch = tempfile::tempdir().unwrap();
    let step = |number: i64| ("global_step", Tensor::new(&[number], &Device::Cpu).unwrap());
    let mark = ("v_pred", ones(&[1]));
    for (others, wanted, due, warned) in [
        (vec![], None, json!("v_prediction"), true),
        (vec![step(875_000)], None, json!("epsilon"), false),
        (vec![step(110_000)], None, json!("v_prediction"), true),
        (vec![mark], None, json!("v_prediction"), false),
        // What the user says stands above the file, in the pipeline.
        (vec![step(110_000)], Some(PredictionType::Epsilon), json!(null), false),
    ] {
        let assembled = stub(scratch.path(), &others, wanted);
        let scheduler = file(&assembled, "scheduler/scheduler_config.json");
        assert_eq!(scheduler["prediction_type"], due);
        let warnings = assembled.understood.warnings.join("\n");
        assert_eq!(warnings.contains("--prediction epsilon"), warned, "{warnings}");
    }
}

#[test]
fn the_published_configurations_are_taken_and_the_vocabulary_pads_as_theirs() {
    let scratch = tempfile::tempdir().unwrap();
    let assembled = stub(scratch.path(), &[], None);
    assert_eq!(file(&assembled, "unet/config.json")["cross_attention_dim"], 1024);
    assert_eq!(file(&assembled, "text_encoder/config.json")["num_hidden_layers"], 23);
    assert_eq!(file(&assembled, "tokenizer/special_tokens_map.json")["pad_token"], "!");
    // Another release's model says whose it is, and names the user's file.
    let options = cases::<Case>(GOLDEN)["sd2-tiny/own"].options();
    let loaded = Sd15::load(assembled.path(), DType::F32, &Device::Cpu, options);
    let message = format!("{:#}", assembled.with_user_paths(loaded.err().unwrap()));
    assert!(message.contains("as Stable Diffusion 2.1 has it"), "{message}");
    assert!(message.contains("--model sd2"), "{message}");
}
