//! In: the tiny checkpoint of `tests/fixtures/sd15-tiny`. Checks: every network equals what
//! diffusers and transformers compute from it, in every layout that checkpoints come in, and the
//! loader refuses what is broken. Fixtures are made by `tests/fixtures/make_sd15.py`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::models::{ClipText, ModelError, UNet, VaeDecoder, Weights};
use sha2::{Digest, Sha256};

type Tensors = HashMap<String, Tensor>;

const UNET_FILE: &str = "unet/diffusion_pytorch_model.safetensors";
const VAE_FILE: &str = "vae/diffusion_pytorch_model.safetensors";
const CLIP_FILE: &str = "text_encoder/model.safetensors";

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

fn read(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn golden(name: &str) -> Tensors {
    read(&fixture(&format!("sd15-golden/{name}.safetensors")))
}

/// Bounds on the relative (root mean square) and the largest absolute error.
#[derive(Clone, Copy)]
struct Bounds {
    relative: f64,
    absolute: f64,
}

/// f32 on the processor: outputs are of order one, so this is some tens of roundings.
const F32: Bounds = Bounds { relative: 5e-6, absolute: 5e-5 };

fn compare(name: &str, ours: &Tensor, golden: &Tensor, bounds: Bounds) -> Result<(), String> {
    assert_eq!(ours.dims(), golden.dims(), "{name}");
    let values = |tensor: &Tensor| -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let (ours, golden) = (values(ours), values(golden));
    let (mut largest, mut squares, mut scale) = (0.0, 0.0, 0.0);
    for (a, b) in ours.iter().zip(&golden) {
        let difference = (a - b).abs();
        if difference > largest || difference.is_nan() {
            largest = difference;
        }
        squares += difference * difference;
        scale += b * b;
    }
    let relative = f64::sqrt(squares / scale);
    let line = format!("{name}: max absolute error {largest:.1e}, relative error {relative:.1e}");
    println!("{line}");
    if relative <= bounds.relative && largest <= bounds.absolute { Ok(()) } else { Err(line) }
}

/// A copy of the checkpoint that a test may change.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in ["unet", "vae", "text_encoder"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
            for entry in std::fs::read_dir(fixture("sd15-tiny").join(part)).unwrap() {
                let entry = entry.unwrap();
                let target = folder.path().join(part).join(entry.file_name());
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
        Self(folder)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Changes keys of a component's `config.json`.
    fn configure(self, part: &str, changes: serde_json::Value) -> Self {
        let path = self.path(part).join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        std::fs::write(&path, config.to_string()).unwrap();
        self
    }

    /// Changes the tensors of a file.
    fn edit(self, file: &str, change: impl Fn(&mut Tensors)) -> Self {
        let path = self.path(file);
        let mut tensors = read(&path);
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        self
    }

    fn unet(&self) -> Result<UNet, ModelError> {
        UNet::load(&self.path("unet"), DType::F32, &Device::Cpu)
    }

    fn vae(&self) -> Result<VaeDecoder, ModelError> {
        VaeDecoder::load(&self.path("vae"), DType::F32, &Device::Cpu)
    }

    fn clip(&self) -> Result<ClipText, ModelError> {
        ClipText::load(&self.path("text_encoder"), DType::F32, &Device::Cpu)
    }
}

fn unet_cases(unet: &UNet, names: &[&str], bounds: Bounds) -> Result<(), String> {
    let golden = golden("unet");
    for name in names {
        let part = |part: &str| golden[&format!("{name}.{part}")].clone();
        let timestep = part("timestep").to_vec1::<f32>().unwrap()[0];
        let ours = unet.forward(&part("latents"), f64::from(timestep), &part("context")).unwrap();
        compare(&format!("unet {name}"), &ours, &part("output"), bounds)?;
    }
    Ok(())
}

fn vae_cases(vae: &VaeDecoder, names: &[&str], bounds: Bounds) -> Result<(), String> {
    let golden = golden("vae");
    for name in names {
        let ours = vae.decode(&golden[&format!("{name}.latents")]).unwrap();
        compare(&format!("vae {name}"), &ours, &golden[&format!("{name}.output")], bounds)?;
    }
    Ok(())
}

fn clip_cases(clip: &ClipText, bounds: Bounds) -> Result<(), String> {
    let golden = golden("clip_text");
    for (ids, hidden) in [("ids", "hidden"), ("short_ids", "short_hidden")] {
        let ours = clip.forward(&rows(&golden[ids])).unwrap();
        compare(&format!("clip_text {hidden}"), &ours, &golden[hidden], bounds)?;
    }
    Ok(())
}

fn rows(ids: &Tensor) -> Vec<Vec<u32>> {
    ids.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
}

const UNET_CASES: &[&str] = &["square", "wide", "odd", "long_context", "single"];
const VAE_CASES: &[&str] = &["square", "wide", "single"];

#[test]
fn the_unet_equals_diffusers() {
    let unet = Copy::new().unet().unwrap();
    unet_cases(&unet, UNET_CASES, F32).unwrap();
    assert_eq!((unet.in_channels(), unet.sample_size(), unet.context_width()), (4, 8, 24));

    let (golden, sabotaged) = (golden("unet"), golden("sabotaged"));
    let ours = unet.forward(&golden["odd.latents"], 500.0, &golden["odd.context"]).unwrap();
    for wrong in ["tanh_gelu", "layer_norm_eps"] {
        let wrong = &sabotaged[&format!("unet.odd.{wrong}")];
        compare("unet sabotage", &ours, wrong, F32).unwrap_err();
    }
    let late = unet.forward(&golden["odd.latents"], 501.0, &golden["odd.context"]).unwrap();
    compare("unet a step late", &late, &golden["odd.output"], F32).unwrap_err();
}

#[test]
fn every_unet_setting_is_felt() {
    let changes = [
        serde_json::json!({"norm_eps": 1e-3}),
        serde_json::json!({"norm_num_groups": 4}),
        serde_json::json!({"attention_head_dim": 4}),
        serde_json::json!({"attention_head_dim": [4, 8]}),
        serde_json::json!({"num_attention_heads": 2}),
        serde_json::json!({"flip_sin_to_cos": false}),
        serde_json::json!({"freq_shift": 1}),
    ];
    for change in changes {
        let unet = Copy::new().configure("unet", change.clone()).unet().unwrap();
        unet_cases(&unet, &["square"], F32).expect_err(&change.to_string());
    }
    // Spelled differently, the same.
    let same = serde_json::json!({
        "layers_per_block": [2, 2], "attention_head_dim": [8, 8], "norm_eps": null,
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
fn half_precision_files_and_arithmetic_stay_close() {
    let copy = Copy::new();
    for file in [UNET_FILE, VAE_FILE, CLIP_FILE] {
        let tensors: Tensors = read(&copy.path(file))
            .into_iter()
            .filter(|(_, tensor)| tensor.dtype() == DType::F32)
            .map(|(name, tensor)| (name, tensor.to_dtype(DType::F16).unwrap()))
            .collect();
        let half = copy.path(&file.replace(".safetensors", ".fp16.safetensors"));
        candle_core::safetensors::save(&tensors, &half).unwrap();
        std::fs::remove_file(copy.path(file)).unwrap();
    }
    // Weights rounded to half, arithmetic in f32; then all of it in half.
    let rounded = Bounds { relative: 2e-3, absolute: 1e-2 };
    let half = Bounds { relative: 5e-3, absolute: 3e-2 };
    unet_cases(&copy.unet().unwrap(), UNET_CASES, F32).unwrap_err();
    unet_cases(&copy.unet().unwrap(), UNET_CASES, rounded).unwrap();
    vae_cases(&copy.vae().unwrap(), VAE_CASES, rounded).unwrap();
    clip_cases(&copy.clip().unwrap(), rounded).unwrap();
    let (dtype, device) = (DType::F16, Device::Cpu);
    let unet = UNet::load(&copy.path("unet"), dtype, &device).unwrap();
    unet_cases(&unet, UNET_CASES, half).unwrap();
    let vae = VaeDecoder::load(&copy.path("vae"), dtype, &device).unwrap();
    vae_cases(&vae, VAE_CASES, half).unwrap();
    let clip = ClipText::load(&copy.path("text_encoder"), dtype, &device).unwrap();
    clip_cases(&clip, half).unwrap();
}

#[test]
fn the_variant_that_suits_the_number_format_is_preferred() {
    let copy = Copy::new();
    let plain = copy.path(UNET_FILE);
    let half = copy.path(&UNET_FILE.replace(".safetensors", ".fp16.safetensors"));
    let mut tensors = read(&plain);
    tensors.insert("extra".into(), Tensor::zeros(1, DType::F16, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, &half).unwrap();
    for (dtype, file) in [(DType::F32, &plain), (DType::F16, &half), (DType::BF16, &plain)] {
        let unet = UNet::load(&copy.path("unet"), dtype, &Device::Cpu).unwrap();
        assert_eq!(unet.sha256(), sha256(file), "{dtype:?}");
    }
}

fn sha256(path: &Path) -> String {
    Sha256::digest(std::fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect()
}

/// Splits a weight file in two with an index, as large checkpoints are stored.
fn shard(copy: &Copy, file: &str) -> PathBuf {
    let path = copy.path(file);
    let folder = path.parent().unwrap();
    let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut parts = [Tensors::new(), Tensors::new()];
    let mut map = BTreeMap::new();
    let sorted: BTreeMap<String, Tensor> = read(&path).into_iter().collect();
    for (number, (name, tensor)) in sorted.into_iter().enumerate() {
        let part = number % 2;
        map.insert(name.clone(), format!("{stem}-{:05}-of-00002.safetensors", part + 1));
        parts[part].insert(name, tensor);
    }
    for (number, tensors) in parts.iter().enumerate() {
        let name = format!("{stem}-{:05}-of-00002.safetensors", number + 1);
        candle_core::safetensors::save(tensors, folder.join(name)).unwrap();
    }
    std::fs::remove_file(&path).unwrap();
    let index = folder.join(format!("{stem}.safetensors.index.json"));
    std::fs::write(&index, serde_json::json!({"metadata": {}, "weight_map": map}).to_string())
        .unwrap();
    index
}

#[test]
fn weights_in_several_files_are_read_through_their_index() {
    let copy = Copy::new();
    let index = shard(&copy, UNET_FILE);
    let unet = copy.unet().unwrap();
    unet_cases(&unet, &["square"], F32).unwrap();
    assert_eq!(unet.sha256().len(), 64);

    let second = copy.path("unet/diffusion_pytorch_model-00002-of-00002.safetensors");
    std::fs::remove_file(second).unwrap();
    refused(copy.unet(), &["00002-of-00002.safetensors", "cannot be read"]);
    for (content, expected) in [
        (r#"{"weight_map": {"conv_in.weight": "../../elsewhere.safetensors"}}"#, "no plain file"),
        (r#"{"weight_map": {}}"#, "names no files"),
        ("[]", "not a shard index"),
    ] {
        std::fs::write(&index, content).unwrap();
        refused(copy.unet(), &["index.json", expected]);
    }
}

#[test]
fn old_and_new_spellings_of_a_checkpoint_load_alike() {
    let unprefixed = Copy::new().edit(CLIP_FILE, |tensors| {
        *tensors = tensors
            .drain()
            .map(|(name, tensor)| (name.replace("text_model.", ""), tensor))
            .collect();
    });
    clip_cases(&unprefixed.clip().unwrap(), F32).unwrap();

    for as_convolution in [false, true] {
        let old_names = Copy::new().edit(VAE_FILE, |tensors| {
            let pairs = [("to_q", "query"), ("to_k", "key"), ("to_v", "value")];
            let pairs = pairs.into_iter().chain([("to_out.0", "proj_attn")]);
            for (new, old) in pairs {
                for part in ["weight", "bias"] {
                    let name = |layer| format!("decoder.mid_block.attentions.0.{layer}.{part}");
                    let tensor = tensors.remove(&name(new)).unwrap();
                    let tensor = match part {
                        "weight" if as_convolution => tensor.reshape((8, 8, 1, 1)).unwrap(),
                        _ => tensor,
                    };
                    tensors.insert(name(old), tensor);
                }
            }
        });
        vae_cases(&old_names.vae().unwrap(), VAE_CASES, F32).unwrap();
    }

    let linear = Copy::new()
        .edit(UNET_FILE, |tensors| {
            for (name, tensor) in tensors.iter_mut() {
                if name.ends_with("proj_in.weight") || name.ends_with("proj_out.weight") {
                    *tensor = tensor.squeeze(3).unwrap().squeeze(2).unwrap();
                }
            }
        })
        .configure("unet", serde_json::json!({"use_linear_projection": true}));
    unet_cases(&linear.unet().unwrap(), &["square"], F32).unwrap();
}

/// The error says all of `words`.
fn refused<T>(result: Result<T, ModelError>, words: &[&str]) {
    let Err(error) = result else { panic!("loaded, where {words:?} was expected") };
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
}

#[test]
fn broken_weight_files_are_refused_by_name() {
    let copy = Copy::new();
    let path = copy.path(UNET_FILE);
    let whole = std::fs::read(&path).unwrap();
    let name = "diffusion_pytorch_model.safetensors";
    let mut longer = whole.clone();
    longer.push(0);
    let mut garbage = whole.clone();
    garbage[8..40].fill(b'x');
    let mut huge = whole.clone();
    huge[..8].fill(0xff);
    let cases: [(&[u8], &str); 9] = [
        (&whole[..whole.len() - 1], "is truncated"),
        (&whole[..whole.len() / 2], "is truncated"),
        (&whole[..1000], "is truncated"),
        (&whole[..5], "only 5 bytes"),
        (&[], "only 0 bytes"),
        (&longer, "has bytes left over"),
        (&garbage, "not a safetensors file"),
        (&huge, "not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        refused(copy.unet(), &[name, expected]);
    }
    std::fs::write(&path, &whole).unwrap();
    copy.unet().unwrap();

    std::fs::rename(&path, copy.path("unet/diffusion_pytorch_model.bin")).unwrap();
    refused(copy.unet(), &["unet", "only diffusion_pytorch_model.bin", "save_pretrained"]);
    std::fs::remove_file(copy.path("unet/diffusion_pytorch_model.bin")).unwrap();
    refused(copy.unet(), &["unet", "holds no diffusion_pytorch_model.safetensors"]);
    std::fs::rename(copy.path(CLIP_FILE), copy.path("text_encoder/pytorch_model.bin")).unwrap();
    refused(copy.clip(), &["only pytorch_model.bin"]);
    let opened = Weights::open(&copy.path("nowhere"), "model", DType::F32, &Device::Cpu);
    refused(opened, &["nowhere", "no such folder"]);
}

#[test]
fn missing_and_misshapen_tensors_are_refused_by_name() {
    let tensor = "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_k.weight";
    let missing = Copy::new().edit(UNET_FILE, |tensors| {
        tensors.remove(tensor).unwrap();
    });
    refused(missing.unet(), &["diffusion_pytorch_model.safetensors", tensor, "is missing"]);
    let wrong = Copy::new().edit(UNET_FILE, |tensors| {
        let transposed = tensors[tensor].t().unwrap().contiguous().unwrap();
        tensors.insert(tensor.into(), transposed);
    });
    refused(wrong.unet(), &[tensor, "[24, 16]", "[16, 24]"]);
    let integers = Copy::new().edit(VAE_FILE, |tensors| {
        let whole = tensors["post_quant_conv.bias"].to_dtype(DType::I64).unwrap();
        tensors.insert("post_quant_conv.bias".into(), whole);
    });
    refused(integers.vae(), &["post_quant_conv.bias", "I64"]);
    let deeper = Copy::new().configure("text_encoder", serde_json::json!({"num_hidden_layers": 3}));
    refused(deeper.clip(), &["text_model.encoder.layers.2.layer_norm1.weight", "is missing"]);
    let wider = Copy::new().configure("unet", serde_json::json!({"cross_attention_dim": 768}));
    refused(wider.unet(), &["attn2.to_k.weight", "[16, 768]", "[16, 24]"]);
}

#[test]
fn configurations_that_ask_for_other_arithmetic_are_refused_by_key() {
    let unet = |key: &str, value: serde_json::Value| {
        refused(
            Copy::new().configure("unet", serde_json::json!({key: value})).unet(),
            &["config.json", key, &value.to_string()],
        );
    };
    unet("act_fn", "mish".into());
    unet("addition_embed_type", "text_time".into());
    unet("class_embed_type", "timestep".into());
    unet("dual_cross_attention", true.into());
    unet("resnet_time_scale_shift", "scale_shift".into());
    unet("mid_block_type", "UNetMidBlock2D".into());
    unet("time_cond_proj_dim", 256.into());
    unet("downsample_padding", 0.into());
    unet("down_block_types", serde_json::json!(["AttnDownBlock2D", "DownBlock2D"]));
    unet("up_block_types", serde_json::json!(["UpBlock2D"]));
    unet("block_out_channels", serde_json::json!([16, 24, 32]));
    unet("norm_num_groups", 0.into());
    unet("norm_num_groups", 5.into());
    unet("attention_head_dim", 7.into());
    unet("cross_attention_dim", serde_json::json!([24, 24]));
    unet("norm_eps", "small".into());
    let vae = Copy::new().configure("vae", serde_json::json!({"shift_factor": 0.1}));
    refused(vae.vae(), &["vae", "shift_factor = 0.1"]);
    let clip = Copy::new().configure("text_encoder", serde_json::json!({"hidden_act": "relu"}));
    refused(clip.clip(), &["text_encoder", "hidden_act", "relu"]);

    let copy = Copy::new();
    for (content, expected) in
        [("{", "not a JSON object"), ("[]", "not a JSON object"), ("{}", "down_block_types")]
    {
        std::fs::write(copy.path("unet/config.json"), content).unwrap();
        refused(copy.unet(), &["config.json", expected]);
    }
    std::fs::remove_file(copy.path("unet/config.json")).unwrap();
    refused(copy.unet(), &["config.json", "cannot be read"]);
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
