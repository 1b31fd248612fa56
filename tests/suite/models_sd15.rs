//! In: the tiny checkpoint of `tests/fixtures/sd15-tiny`. Checks: every network equals what
//! diffusers and transformers compute from it. Fixtures are made by `tests/fixtures/make_sd15.py`.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::models::{ClipTextModel, TextContext, UNet, VaeDecoder};

use crate::tiny_checkpoint::{
    Bounds, Copy, F32, UNET_CASES, UNET_FILE, VAE_CASES, clip_against, clip_cases, compare, digest,
    fixture, golden, read, rows, sha256, unet_against, unet_cases, vae_against, vae_cases,
};

/// Sums over up to 11,520 products, and over up to 60 layers.
const FULL_SIZE: Bounds = Bounds { relative: 1e-5, absolute: 1e-4 };

#[test]
fn the_unet_equals_diffusers() {
    let unet = Copy::new().unet().unwrap();
    unet_cases(&unet, UNET_CASES, F32).unwrap();
    assert_eq!((unet.in_channels(), unet.context_width()), (4, 24));
    assert_eq!(unet.sample_size(), Some((8, 8)));

    let (golden, sabotaged) = (golden("unet"), golden("sabotaged"));
    let ours = unet.forward(&golden["odd.latents"], 500.0, &golden["odd.context"]).unwrap();
    for wrong in ["tanh_gelu", "layer_norm_eps"] {
        let wrong = &sabotaged[&format!("unet.odd.{wrong}")];
        compare("unet sabotage", &ours, wrong, F32).unwrap_err();
    }
    let late = unet.forward(&golden["odd.latents"], 501.0, &golden["odd.context"]).unwrap();
    compare("unet a step late", &late, &golden["odd.output"], F32).unwrap_err();
}

/// Two texts, each for two latents that follow one another, against the golden of a batch of two.
#[test]
fn texts_that_serve_several_images_are_projected_once() {
    let (unet, golden) = (Copy::new().unet().unwrap(), golden("unet"));
    let part = |part: &str| golden[&format!("odd.{part}")].clone();
    let row = |tensor: &Tensor, row| tensor.narrow(0, row, 1).unwrap();
    let (latents, context, output) = (part("latents"), part("context"), part("output"));
    let timestep = f64::from(part("timestep").to_vec1::<f32>().unwrap()[0]);
    let twice = |tensor: &Tensor| {
        let rows = [0, 0, 1, 1].map(|number| row(tensor, number));
        Tensor::cat(&rows, 0).unwrap()
    };
    let texts = [0, 1].map(|number| TextContext::new(row(&context, number)));
    let run = |unet: &UNet, texts: &[&TextContext]| {
        unet.forward_contexts(&twice(&latents), timestep, texts, None).unwrap()
    };
    let (first, second) = (&texts[0], &texts[1]);
    let ours = run(&unet, &[first, second]);
    compare("shared texts", &ours, &twice(&output), F32).unwrap();
    let kept = first.cached_bytes();
    // The last of texts that go together keeps both as they are needed: one after the other.
    assert!(kept > 0 && second.cached_bytes() == 3 * kept);
    // What is kept is used, by every clone, and the halves do not mix.
    let again = run(&unet, &[&first.clone(), second]);
    compare("again", &again, &ours, Bounds { relative: 0.0, absolute: 0.0 }).unwrap();
    assert_eq!(second.cached_bytes(), 3 * kept);
    compare("swapped", &run(&unet, &[second, first]), &twice(&output), F32).unwrap_err();
    let third = TextContext::new(row(&context, 0));
    compare(
        "another partner",
        &run(&unet, &[&third, second]),
        &ours,
        Bounds { relative: 0.0, absolute: 0.0 },
    )
    .unwrap();
    let wrong = TextContext::new(row(&context, 1));
    compare("a wrong partner", &run(&unet, &[&wrong, second]), &ours, F32).unwrap_err();
    // Another network makes its own keys and values.
    let scaled = Copy::new().edit(UNET_FILE, |tensors| {
        for (name, tensor) in tensors.iter_mut() {
            if name.contains("attn2.to_k") {
                *tensor = (&*tensor * 3.0).unwrap();
            }
        }
    });
    let other = scaled.unet().unwrap();
    let fresh = [0, 1].map(|number| TextContext::new(row(&context, number)));
    let expected = run(&other, &[&fresh[0], &fresh[1]]);
    compare("louder keys", &expected, &twice(&output), F32).unwrap_err();
    let exact = Bounds { relative: 0.0, absolute: 0.0 };
    compare("other network", &run(&other, &[first, second]), &expected, exact).unwrap();
    // Three latents cannot be shared among two texts, nor can texts of two lengths.
    let three = twice(&latents).narrow(0, 0, 3).unwrap();
    unet.forward_contexts(&three, 1.0, &[first, second], None).unwrap_err();
    let short = TextContext::new(row(&context, 0).narrow(1, 0, 2).unwrap());
    unet.forward_contexts(&latents, 1.0, &[first, &short], None).unwrap_err();
    unet.forward_contexts(&latents, 1.0, &[], None).unwrap_err();
}

#[test]
fn every_unet_setting_is_felt() {
    let changes = [
        serde_json::json!({"norm_eps": 1e-3}),
        serde_json::json!({"norm_num_groups": 4}),
        serde_json::json!({"attention_head_dim": 4}),
        serde_json::json!({"attention_head_dim": [4, 8]}),
        serde_json::json!({"flip_sin_to_cos": false}),
        serde_json::json!({"freq_shift": 1}),
    ];
    for change in changes {
        let unet = Copy::new().configure("unet", change.clone()).unet().unwrap();
        unet_cases(&unet, &["square"], F32).expect_err(&change.to_string());
    }
    // Spelled differently, the same.
    let same = serde_json::json!({
        "layers_per_block": [2, 2], "attention_head_dim": [8, 8], "norm_eps": 1e-5,
        "transformer_layers_per_block": [1, 1], "only_cross_attention": false, "act_fn": "swish",
        "mid_block_type": "UNetMidBlock2DCrossAttn", "class_embed_type": null,
    });
    unet_cases(&Copy::new().configure("unet", same).unet().unwrap(), &["square"], F32).unwrap();
}

#[test]
fn the_vae_decoder_equals_diffusers() {
    let vae = Copy::new().vae().unwrap();
    vae_cases(&vae, VAE_CASES, F32).unwrap();
    assert_eq!((vae.scaling_factor(), vae.spatial_factor()), (0.18215, 8));

    let ours = vae.decode(&golden("vae")["wide.latents"]).unwrap();
    let wrong = &golden("sabotaged")["vae.wide.group_norm_eps"];
    compare("vae sabotage", &ours, wrong, F32).unwrap_err();
    let changed = Copy::new().configure("vae", serde_json::json!({"norm_num_groups": 4}));
    vae_cases(&changed.vae().unwrap(), &["wide"], F32).unwrap_err();
    let xl = Copy::new().configure("vae", serde_json::json!({"scaling_factor": 0.13025}));
    assert_eq!(xl.vae().unwrap().scaling_factor(), 0.13025);
}

#[test]
fn the_text_encoder_equals_transformers() {
    let clip = Copy::new().clip().unwrap();
    clip_cases(&clip, F32).unwrap();
    assert_eq!(clip.max_tokens(), 77);

    let ours = clip.forward(&rows(&golden("clip_text")["ids"])).unwrap();
    let wrong = &golden("sabotaged")["clip_text.no_causal_mask"];
    compare("clip_text sabotage", &ours, wrong, F32).unwrap_err();
    for change in [
        serde_json::json!({"hidden_act": "gelu"}),
        serde_json::json!({"layer_norm_eps": 1e-3}),
        serde_json::json!({"num_attention_heads": 2}),
    ] {
        let changed = Copy::new().configure("text_encoder", change.clone()).clip().unwrap();
        clip_cases(&changed, F32).expect_err(&change.to_string());
    }
}

#[test]
fn a_batch_equals_its_entries_one_by_one() {
    let copy = Copy::new();
    let (unet, vae, clip) = (copy.unet().unwrap(), copy.vae().unwrap(), copy.clip().unwrap());
    let (u, v, c) = (golden("unet"), golden("vae"), golden("clip_text"));
    for entry in 0..2 {
        let one = |tensor: &Tensor| tensor.narrow(0, entry, 1).unwrap();
        let (latents, context) = (one(&u["odd.latents"]), one(&u["odd.context"]));
        let ours = unet.forward(&latents, 500.0, &context).unwrap();
        compare("unet entry", &ours, &one(&u["odd.output"]), F32).unwrap();
        let ours = vae.decode(&one(&v["wide.latents"])).unwrap();
        compare("vae entry", &ours, &one(&v["wide.output"]), F32).unwrap();
        let ours = clip.forward(&rows(&one(&c["ids"]))).unwrap();
        compare("clip_text entry", &ours, &one(&c["hidden"]), F32).unwrap();
        // The other entry's answer is another answer.
        let other = c["hidden"].narrow(0, 1 - entry, 1).unwrap();
        compare("clip_text other entry", &ours, &other, F32).unwrap_err();
    }
}

#[test]
fn calls_that_do_not_fit_are_refused_in_words() {
    let copy = Copy::new();
    let (unet, vae, clip) = (copy.unet().unwrap(), copy.vae().unwrap(), copy.clip().unwrap());
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let latents = zeros(&[1, 4, 8, 8]);
    for context in [zeros(&[1, 77, 25]), zeros(&[2, 77, 24])] {
        let message = unet.forward(&latents, 1.0, &context).unwrap_err().to_string();
        assert!(message.contains("this UNet takes [b, 4, h, w] with [b, n, 24]"), "{message}");
    }
    let message = vae.decode(&zeros(&[1, 3, 8, 8])).unwrap_err().to_string();
    assert!(message.contains("[b, 4, h, w]"), "{message}");
    let message = clip.forward(&[vec![0, 1114]]).unwrap_err().to_string();
    assert!(message.contains("token id 1114"), "{message}");
    for ids in [vec![], vec![vec![]], vec![vec![0; 78]], vec![vec![0; 3], vec![0; 4]]] {
        let message = clip.forward(&ids).unwrap_err().to_string();
        assert!(message.contains("from 1 to 77"), "{message}");
    }
}

#[test]
fn the_fixtures_are_those_of_their_provenance() {
    let text = std::fs::read(fixture("sd15-golden/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let files = provenance["sha256"].as_object().unwrap();
    assert!(files.len() >= 25, "{}", files.len());
    for (file, digest) in files {
        assert_eq!(sha256(&fixture(file)), digest.as_str().unwrap(), "{file}");
    }
}

/// Stable Diffusion 1.5 at its full dimensions, against what `scripts/full_size_parity.py` left in
/// the folder that `DPG_BENCH_FULL_SIZE` names.
#[test]
#[ignore = "needs 4 GB of weights that scripts/full_size_parity.py makes"]
fn full_size_networks_equal_diffusers() {
    let Some(folder) = std::env::var_os("DPG_BENCH_FULL_SIZE") else {
        eprintln!("SKIPPED: DPG_BENCH_FULL_SIZE names no folder");
        return;
    };
    let folder = Path::new(&folder);
    let golden = |name: &str| read(&folder.join(format!("{name}.safetensors")));
    let (dtype, device) = (DType::F32, Device::Cpu);
    let timed = |name: &str, start: std::time::Instant| {
        println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
        std::time::Instant::now()
    };
    let start = std::time::Instant::now();
    let clip = ClipTextModel::load(&folder.join("text_encoder"), dtype, &device).unwrap();
    let start = timed("text encoder loaded", start);
    clip_against(&clip, &golden("clip_text"), FULL_SIZE).unwrap();
    let start = timed("text encoder compared", start);
    let vae = VaeDecoder::load(&folder.join("vae"), dtype, &device).unwrap();
    let start = timed("decoder loaded", start);
    vae_against(&vae, &golden("vae"), &["small"], FULL_SIZE).unwrap();
    let start = timed("decoder compared", start);
    let unet = UNet::load(&folder.join("unet"), dtype, &device).unwrap();
    let start = timed("unet loaded", start);
    let unet_golden = golden("unet");
    for name in ["small", "odd"] {
        unet_against(&unet, &unet_golden, &[name], FULL_SIZE).unwrap();
    }
    timed("unet compared", start);
    // The same bits at any number of threads: run this with RAYON_NUM_THREADS=1, 2, ...
    let latents = &unet_golden["odd.latents"];
    let output = unet.forward(latents, 21.0, &unet_golden["odd.context"]).unwrap();
    let values: Vec<f32> = output.flatten_all().unwrap().to_vec1().unwrap();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    println!("unet odd output: sha256 {}", digest(&bytes));
}
