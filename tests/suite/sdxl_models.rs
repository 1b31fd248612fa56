//! In: the tiny checkpoint of `tests/fixtures/sdxl-tiny`. Checks: SDXL's networks and its second
//! tokenizer equal what diffusers and transformers compute from it. Fixtures are made by
//! `tests/fixtures/make_sdxl.py`.

use candle_core::{DType, Device, Tensor};
use dpg_bench::models::{
    AddedCondition, ClipTextModel, ClipTextModelWithProjection, UNet, VaeDecoder,
};
use dpg_bench::text::clip::ClipTokenizer;
use serde_json::json;

use crate::tiny_checkpoint::{
    Bounds, F32, Tensors, compare, configure, copy_of, edit, fixture, read, rows, sha256,
};

/// Hidden states have a root mean square of about 3; the errors were at most 4e-6 and 7e-7.
const STATES: Bounds = Bounds { relative: 5e-6, absolute: 1e-4 };

const UNET_CASES: [&str; 4] = ["square", "wide", "odd", "single"];

fn golden(name: &str) -> Tensors {
    read(&fixture(&format!("sdxl-golden/{name}.safetensors")))
}

fn unet(folder: &std::path::Path) -> UNet {
    UNet::load(&folder.join("unet"), DType::F32, &Device::Cpu).unwrap()
}

fn added(golden: &Tensors, case: &str) -> AddedCondition {
    let time_ids: Vec<f32> = golden[&format!("{case}.time_ids")].to_vec1().unwrap();
    let time_ids = time_ids.into_iter().map(f64::from).collect();
    AddedCondition::new(golden[&format!("{case}.pooled")].clone(), time_ids)
}

fn predict(unet: &UNet, golden: &Tensors, case: &str, added: &AddedCondition) -> Tensor {
    let part = |part: &str| &golden[&format!("{case}.{part}")];
    let timestep = f64::from(part("timestep").to_vec1::<f32>().unwrap()[0]);
    unet.forward_with(part("latents"), timestep, part("context"), Some(added)).unwrap()
}

#[test]
fn the_unet_with_pooled_text_and_sizes_equals_diffusers() {
    let (unet, golden) = (unet(&fixture("sdxl-tiny")), golden("unet"));
    let check = |case: &str, ours: &Tensor| {
        compare(&format!("unet {case}"), ours, &golden[&format!("{case}.output")], F32)
    };
    for case in UNET_CASES {
        check(case, &predict(&unet, &golden, case, &added(&golden, case))).unwrap();
    }
    assert_eq!((unet.context_width(), unet.pooled_width()), (40, Some(20)));

    let right = predict(&unet, &golden, "wide", &added(&golden, "wide"));
    for wrong in ["no_added", "swapped_sizes"] {
        let wrong = &golden[&format!("wrong.wide.{wrong}")];
        compare("unet sabotage", &right, wrong, F32).unwrap_err();
    }
    // Each of the six sizes is felt, and so is each row of pooled text.
    for place in 0..6 {
        let mut other = added(&golden, "wide");
        other.time_ids[place] += 8.0;
        check("wide", &predict(&unet, &golden, "wide", &other)).unwrap_err();
    }
    let mut other = added(&golden, "wide");
    other.pooled = other.pooled.narrow(0, 0, 1).unwrap();
    check("wide", &predict(&unet, &golden, "wide", &other)).unwrap_err();
    // One row serves a whole batch.
    other.pooled = Tensor::cat(&[&other.pooled, &other.pooled], 0).unwrap();
    let twice = predict(&unet, &golden, "wide", &other);
    other.pooled = other.pooled.narrow(0, 0, 1).unwrap();
    let once = predict(&unet, &golden, "wide", &other);
    compare("one row of pooled text", &once, &twice, F32).unwrap();
}

#[test]
fn every_setting_of_sdxls_unet_is_felt() {
    let golden = golden("unet");
    for change in [
        json!({"attention_head_dim": [4, 4, 3]}),
        json!({"attention_head_dim": [4, 2, 4]}),
        json!({"flip_sin_to_cos": false}),
        json!({"transformer_layers_per_block": [3, 1, 1]}),
    ] {
        let folder = copy_of("sdxl-tiny");
        configure(&folder.path().join("unet/config.json"), &change);
        let ours = predict(&unet(folder.path()), &golden, "wide", &added(&golden, "wide"));
        compare(&change.to_string(), &ours, &golden["wide.output"], F32).unwrap_err();
    }
    let folder = copy_of("sdxl-tiny");
    let path = folder.path().join("unet/config.json");
    for (change, word) in [
        (json!({"addition_embed_type": "text"}), "addition_embed_type"),
        (
            json!({"addition_embed_type": "text_time", "addition_time_embed_dim": null}),
            "addition_time",
        ),
        (
            json!({"addition_time_embed_dim": 8, "transformer_layers_per_block": [1, 2, 2]}),
            "attentions",
        ),
    ] {
        configure(&path, &change);
        let error = UNet::load(&folder.path().join("unet"), DType::F32, &Device::Cpu);
        let message = error.err().unwrap().to_string();
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn calls_without_what_the_unet_needs_are_refused_in_words() {
    let golden = golden("unet");
    let unet = unet(&fixture("sdxl-tiny"));
    let (latents, context) = (&golden["wide.latents"], &golden["wide.context"]);
    let message = unet.forward(latents, 1.0, context).unwrap_err().to_string();
    assert!(message.contains("needs pooled text and sizes"), "{message}");
    let mut five = added(&golden, "wide");
    five.time_ids.pop();
    let message = unet.forward_with(latents, 1.0, context, Some(&five)).unwrap_err().to_string();
    assert!(message.contains("5 sizes"), "{message}");
    let sd15 = UNet::load(&fixture("sd15-tiny/unet"), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(sd15.pooled_width(), None);
    let context = Tensor::zeros((2, 7, 24), DType::F32, &Device::Cpu).unwrap();
    let added = added(&golden, "wide");
    let message = sd15.forward_with(latents, 1.0, &context, Some(&added)).unwrap_err().to_string();
    assert!(message.contains("takes no pooled text"), "{message}");
}

#[test]
fn both_text_encoders_equal_transformers() {
    let golden = golden("text_encoders");
    let (dtype, device) = (DType::F32, Device::Cpu);
    let first = ClipTextModel::load(&fixture("sdxl-tiny/text_encoder"), dtype, &device).unwrap();
    let states = first.states(&rows(&golden["first.ids"])).unwrap();
    compare("first penultimate", &states.penultimate, &golden["first.penultimate"], STATES)
        .unwrap();
    compare("first last", &states.last, &golden["first.last"], STATES).unwrap();
    compare("layers", &states.last, &golden["first.penultimate"], STATES).unwrap_err();

    let folder = copy_of("sdxl-tiny");
    let folder = folder.path().join("text_encoder_2");
    let load = || ClipTextModelWithProjection::load(&folder, dtype, &device).unwrap();
    let (states, pooled) = load().forward(&rows(&golden["second.ids"])).unwrap();
    let check = |ours: &Tensor, name: &str| compare(name, ours, &golden[name], STATES);
    check(&states.penultimate, "second.penultimate").unwrap();
    check(&states.last, "second.last").unwrap();
    check(&pooled, "second.pooled").unwrap();
    check(&states.penultimate, "wrong.tanh_penultimate").unwrap_err();
    check(&states.penultimate, "wrong.normed_penultimate").unwrap_err();
    check(&states.penultimate, "second.last").unwrap_err();
    check(&pooled, "wrong.tanh_pooled").unwrap_err();

    // The end token by either rule of transformers.
    let odd = rows(&golden["odd.ids"]);
    let (_, highest) = load().forward(&odd).unwrap();
    check(&highest, "odd.pooled_at_highest").unwrap();
    check(&highest, "odd.pooled_at_300").unwrap_err();
    configure(&folder.join("config.json"), &json!({"eos_token_id": 300}));
    let (_, at_300) = load().forward(&odd).unwrap();
    check(&at_300, "odd.pooled_at_300").unwrap();
    check(&at_300, "odd.pooled_at_highest").unwrap_err();

    // The projection is needed, and of the configured width.
    edit(&folder.join("model.safetensors"), |tensors| {
        tensors.remove("text_projection.weight");
    });
    let error =
        ClipTextModelWithProjection::load(&folder, dtype, &device).err().unwrap().to_string();
    assert!(error.contains("text_projection.weight"), "{error}");
}

#[test]
fn the_second_tokenizer_pads_with_an_exclamation_mark() {
    #[derive(serde::Deserialize)]
    struct Golden {
        text: String,
        ids: Vec<u32>,
        full_length: usize,
    }
    let text = std::fs::read(fixture("sdxl-golden/tokenizer_2.json")).unwrap();
    let goldens: Vec<Golden> = serde_json::from_slice(&text).unwrap();
    let disagreements = |folder: &str| -> Vec<String> {
        let tokenizer = ClipTokenizer::load(&fixture(folder)).unwrap();
        let differs = |golden: &&Golden| {
            let ours = tokenizer.encode(&golden.text).unwrap();
            ours.ids != golden.ids || ours.full_length != golden.full_length
        };
        goldens.iter().filter(differs).map(|golden| golden.text.clone()).collect()
    };
    assert!(goldens.len() >= 50);
    assert_eq!(disagreements("sdxl-tiny/tokenizer_2"), Vec::<String>::new());
    assert!(disagreements("sdxl-tiny/tokenizer").len() > 40);
    let marks = goldens.iter().filter(|golden| golden.text.contains('!'));
    assert!(
        marks.filter(|golden| golden.ids[1..golden.full_length.min(77)].contains(&0)).count() >= 8
    );
}

#[test]
fn the_decoder_overflows_half_precision_and_says_so() {
    let golden = golden("vae");
    let folder = copy_of("sdxl-tiny");
    let folder = folder.path().join("vae");
    let load = |dtype| VaeDecoder::load(&folder, dtype, &Device::Cpu).unwrap();
    assert_eq!(load(DType::F32).scaling_factor(), 0.13025);
    let latents = &golden["wide.latents"];
    let quiet = load(DType::F32).decode(latents).unwrap();
    compare("vae", &quiet, &golden["wide.output"], F32).unwrap();
    // Half precision alone is off by thousandths.
    let half = Bounds { relative: 2e-2, absolute: 1e-1 };
    compare("vae f16", &load(DType::F16).decode(latents).unwrap(), &golden["wide.output"], half)
        .unwrap();

    // LOUDER of make_sdxl.py.
    edit(&folder.join("diffusion_pytorch_model.safetensors"), |tensors| {
        let weight = tensors.get_mut("decoder.conv_in.weight").unwrap();
        *weight = (&*weight * 20_000.0).unwrap();
    });
    let loud = load(DType::F32).decode(latents).unwrap();
    compare("loud vae", &loud, &golden["loud.output"], F32).unwrap();
    let overflown = load(DType::F16).decode(latents).unwrap();
    let values: Vec<f32> = overflown.flatten_all().unwrap().to_vec1().unwrap();
    assert!(values.iter().any(|value| value.is_nan()), "f16 did not overflow");
    compare("loud vae in f16", &overflown, &golden["loud.output"], half).unwrap_err();

    assert!(VaeDecoder::overflows_f16(&folder).unwrap());
    configure(&folder.join("config.json"), &json!({"force_upcast": false}));
    assert!(!VaeDecoder::overflows_f16(&folder).unwrap());
    // Null is no to diffusers.
    configure(&folder.join("config.json"), &json!({"force_upcast": null}));
    assert!(!VaeDecoder::overflows_f16(&folder).unwrap());
}

#[test]
fn the_fixtures_are_those_of_their_provenance() {
    let text = std::fs::read(fixture("sdxl-golden/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let files = provenance["sha256"].as_object().unwrap();
    assert!(files.len() >= 30, "{}", files.len());
    for (file, digest) in files {
        assert_eq!(sha256(&fixture(file)), digest.as_str().unwrap(), "{file}");
    }
}

/// Stable Diffusion XL at its full dimensions, against what `scripts/full_size_sdxl.py` left in the
/// folder that `DPG_BENCH_FULL_SIZE_SDXL` names.
#[test]
#[ignore = "needs 13 GB of weights that scripts/full_size_sdxl.py makes, and 12 GB of memory"]
fn full_size_sdxl_equals_diffusers() {
    const FULL_SIZE: Bounds = Bounds { relative: 1e-5, absolute: 1e-4 };
    let folder = std::env::var_os("DPG_BENCH_FULL_SIZE_SDXL").expect("names the folder");
    let folder = std::path::Path::new(&folder);
    let golden = |name: &str| read(&folder.join(format!("{name}.safetensors")));
    let (dtype, device) = (DType::F32, Device::Cpu);

    let text = golden("text_encoder_2");
    let encoder =
        ClipTextModelWithProjection::load(&folder.join("text_encoder_2"), dtype, &device).unwrap();
    let (states, pooled) = encoder.forward(&rows(&text["ids"])).unwrap();
    compare("penultimate", &states.penultimate, &text["penultimate"], FULL_SIZE).unwrap();
    compare("pooled", &pooled, &text["pooled"], FULL_SIZE).unwrap();
    drop(encoder);

    let (unet, golden) = (unet(folder), golden("unet"));
    for case in ["small", "odd"] {
        let start = std::time::Instant::now();
        let ours = predict(&unet, &golden, case, &added(&golden, case));
        println!("unet {case}: {:.1} s", start.elapsed().as_secs_f64());
        compare(case, &ours, &golden[&format!("{case}.output")], FULL_SIZE).unwrap();
    }
}
