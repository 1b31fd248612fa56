//! In: the tiny checkpoint in every layout that checkpoints come in, and damaged. Checks: the
//! layouts give the same numbers, and the loader refuses what is broken by file, tensor and key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::model_error::ModelError;
use dpg_bench::checkpoint::weights::Weights;
use dpg_bench::models::{ClipTextModel, UNet, VaeDecoder};

use crate::tiny_checkpoint::{
    Bounds, CLIP_FILE, Copy, F32, Tensors, UNET_CASES, UNET_FILE, VAE_CASES, VAE_FILE, clip_cases,
    read, sha256, unet_cases, vae_cases,
};

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
    let clip = ClipTextModel::load(&copy.path("text_encoder"), dtype, &device).unwrap();
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
    refused(copy.unet(), &["unet", "diffusion_pytorch_model.bin", "no zip archive"]);
    std::fs::remove_file(copy.path("unet/diffusion_pytorch_model.bin")).unwrap();
    refused(copy.unet(), &["unet", "holds no diffusion_pytorch_model.safetensors"]);
    std::fs::rename(copy.path(CLIP_FILE), copy.path("text_encoder/pytorch_model.bin")).unwrap();
    refused(copy.clip(), &["pytorch_model.bin", "no zip archive"]);
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
    unet("addition_embed_type", "text".into());
    unet("class_embed_type", "timestep".into());
    unet("dual_cross_attention", true.into());
    unet("resnet_time_scale_shift", "scale_shift".into());
    unet("mid_block_type", "UNetMidBlock2D".into());
    unet("time_cond_proj_dim", 3.into());
    unet("downsample_padding", 0.into());
    unet("down_block_types", serde_json::json!(["AttnDownBlock2D", "DownBlock2D"]));
    unet("up_block_types", serde_json::json!(["UpBlock2D"]));
    unet("block_out_channels", serde_json::json!([16, 24, 32]));
    unet("norm_num_groups", 0.into());
    unet("norm_num_groups", 5.into());
    unet("attention_head_dim", 7.into());
    unet("num_attention_heads", 8.into());
    unet("cross_attention_dim", serde_json::json!([24, 40]));
    unet("norm_eps", "small".into());
    let vae = Copy::new().configure("vae", serde_json::json!({"out_channels": 4}));
    refused(vae.vae(), &["vae", "out_channels = 4"]);
    let clip = Copy::new().configure("text_encoder", serde_json::json!({"hidden_act": "mish"}));
    refused(clip.clip(), &["text_encoder", "hidden_act", "mish"]);

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

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// One wrong byte in the header: an error or a network, never a panic.
    #[test]
    fn a_damaged_header_never_panics(position in 0_usize..18_280, byte: u8) {
        let copy = Copy::new();
        let path = copy.path(VAE_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let changed = bytes[position] != byte;
        bytes[position] = byte;
        std::fs::write(&path, &bytes).unwrap();
        let loaded = copy.vae();
        assert!(changed || loaded.is_ok());
        if let Err(error) = loaded {
            assert!(error.to_string().contains("diffusion_pytorch_model.safetensors"), "{error}");
        }
    }
}
