//! In: which network, and whether it is to be tiny. Out: its configuration, as published or small and of the same make.

use serde_json::{Map, Value, json};

use crate::checkpoint::known_configs::{SD2, SD15, SDXL};

/// Which dimensions the networks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The published ones.
    Full,
    /// Of the same make, but small: to try things out.
    Tiny,
}

/// Whose UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnetModel {
    /// Stable Diffusion 1.5.
    Sd15,
    /// Stable Diffusion 2.1.
    Sd2,
    /// A latent consistency model of Stable Diffusion 1.5.
    Lcm,
    /// Stable Diffusion XL base.
    Sdxl,
}

/// Whose transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransformerModel {
    /// PixArt-Sigma of 1024 pixels.
    PixArt,
    /// Stable Diffusion 3 medium.
    Sd3,
    /// Stable Diffusion 3.5 medium.
    Sd35,
    /// FLUX.1 dev.
    Flux,
}

/// The published configuration of a part, with some keys changed where it is to be tiny.
fn published(files: &[(&str, &str)], part: &str, size: Size, tiny: Value) -> Map<String, Value> {
    let text = files.iter().find(|(path, _)| *path == part).map_or("{}", |(_, text)| text);
    changed(serde_json::from_str(text).unwrap_or_default(), size, tiny)
}

/// `full`, with some keys changed where it is to be tiny.
fn changed(full: Value, size: Size, tiny: Value) -> Map<String, Value> {
    let Value::Object(mut values) = full else { return Map::new() };
    if let (Size::Tiny, Value::Object(tiny)) = (size, tiny) {
        values.extend(tiny);
    }
    values
}

/// Configuration of a UNet.
pub(super) fn unet_config(model: UnetModel, size: Size) -> Map<String, Value> {
    let mut tiny = json!({
        "block_out_channels": [32, 64, 64, 64], "attention_head_dim": 4, "norm_num_groups": 8,
        "cross_attention_dim": 64, "sample_size": 16,
    });
    match model {
        UnetModel::Sd15 => published(SD15, "unet/config.json", size, tiny),
        UnetModel::Sd2 => {
            tiny["attention_head_dim"] = json!([2, 4, 4, 4]);
            published(SD2, "unet/config.json", size, tiny)
        }
        UnetModel::Lcm => {
            let mut config = published(SD15, "unet/config.json", size, tiny);
            config.insert("time_cond_proj_dim".to_owned(), json!(256));
            config
        }
        UnetModel::Sdxl => published(
            SDXL,
            "unet/config.json",
            size,
            json!({
                "block_out_channels": [32, 64, 64], "attention_head_dim": [2, 4, 4],
                "norm_num_groups": 8, "cross_attention_dim": 64, "sample_size": 16,
                "transformer_layers_per_block": [1, 1, 2], "addition_time_embed_dim": 16,
                "projection_class_embeddings_input_dim": 128,
            }),
        ),
    }
}

/// Configuration of a transformer with all of its blocks.
pub(super) fn transformer_config(model: TransformerModel, size: Size) -> Map<String, Value> {
    let sd3 = |more: Value| -> Map<String, Value> {
        let full = json!({
            "num_layers": 24, "num_attention_heads": 24, "attention_head_dim": 64,
            "caption_projection_dim": 1536, "joint_attention_dim": 4096,
            "pooled_projection_dim": 2048, "in_channels": 16, "out_channels": 16, "patch_size": 2,
            "pos_embed_max_size": 192, "sample_size": 128,
        });
        let tiny = json!({
            "num_layers": 4, "num_attention_heads": 4, "attention_head_dim": 16,
            "caption_projection_dim": 64, "joint_attention_dim": 64, "pooled_projection_dim": 64,
            "pos_embed_max_size": 64, "dual_attention_layers": [0, 1],
        });
        changed(full, Size::Full, Value::Null)
            .into_iter()
            .chain(changed(more, size, tiny))
            .collect()
    };
    match model {
        TransformerModel::PixArt => changed(
            json!({
                "num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72,
                "cross_attention_dim": 1152, "caption_channels": 4096, "in_channels": 4,
                "out_channels": 8, "patch_size": 2, "sample_size": 128,
                "interpolation_scale": 2, "use_additional_conditions": false,
            }),
            size,
            json!({
                "num_layers": 3, "num_attention_heads": 4, "attention_head_dim": 12,
                "cross_attention_dim": 48, "caption_channels": 64, "sample_size": 16,
            }),
        ),
        TransformerModel::Sd3 => {
            let mut config = sd3(json!({}));
            config.remove("dual_attention_layers");
            config
        }
        TransformerModel::Sd35 => {
            let dual: Vec<usize> = (0..13).collect();
            sd3(json!({
                "qk_norm": "rms_norm", "pos_embed_max_size": 384, "dual_attention_layers": dual,
            }))
        }
        TransformerModel::Flux => changed(
            json!({
                "num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24,
                "attention_head_dim": 128, "in_channels": 64, "joint_attention_dim": 4096,
                "pooled_projection_dim": 768, "axes_dims_rope": [16, 56, 56],
                "guidance_embeds": true,
            }),
            size,
            json!({
                "num_layers": 2, "num_single_layers": 3, "num_attention_heads": 4,
                "attention_head_dim": 16, "joint_attention_dim": 64, "pooled_projection_dim": 64,
                "axes_dims_rope": [2, 6, 8],
            }),
        ),
    }
}

/// Takes blocks out of a transformer's configuration until about `share` of them is left, at least one of each kind. Gives in
/// words how many of how many; `None` where all are left.
pub(super) fn keep_blocks(config: &mut Map<String, Value>, share: f64) -> Option<String> {
    let (mut left, mut all) = (0, 0);
    for key in ["num_layers", "num_single_layers"] {
        let Some(count) = config.get(key).and_then(Value::as_u64) else { continue };
        let kept = ((count as f64 * share) as u64).clamp(1, count.max(1));
        config.insert(key.to_owned(), kept.into());
        (left, all) = (left + kept, all + count);
        if let (Some(Value::Array(dual)), "num_layers") =
            (config.get_mut("dual_attention_layers"), key)
        {
            dual.retain(|layer| layer.as_u64().is_some_and(|layer| layer < kept));
        }
    }
    (left < all).then(|| format!("{left} of {all} blocks"))
}

/// Configuration of the decoder, of 4 channels or of Stable Diffusion 3's and FLUX.1's 16.
pub(super) fn vae_config(channels: usize, size: Size) -> Map<String, Value> {
    let tiny = json!({"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8});
    let mut config = published(SD15, "vae/config.json", size, tiny);
    if channels != 4 {
        let more = json!({
            "latent_channels": channels, "scaling_factor": 1.5305, "shift_factor": 0.0609,
            "use_quant_conv": false, "use_post_quant_conv": false,
        });
        config.extend(changed(more, Size::Full, Value::Null));
    }
    config
}

/// Whose text encoder of CLIP's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClipModel {
    /// ViT-L, of Stable Diffusion 1.5 and beside others.
    Large,
    /// OpenCLIP's ViT-H, of Stable Diffusion 2.
    Huge,
    /// OpenCLIP's ViT-bigG, of SDXL and Stable Diffusion 3.
    Giant,
}

/// Configuration of CLIP's text encoder.
pub(super) fn clip_config(model: ClipModel, size: Size) -> Map<String, Value> {
    let tiny = json!({
        "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
        "num_hidden_layers": 3, "vocab_size": 1000,
    });
    let (files, part) = match model {
        ClipModel::Large => (SD15, "text_encoder/config.json"),
        ClipModel::Huge => (SD2, "text_encoder/config.json"),
        ClipModel::Giant => (SDXL, "text_encoder_2/config.json"),
    };
    published(files, part, size, tiny)
}

/// Whose encoder of T5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum T5Model {
    /// flan-t5-xl, of ELLA.
    Xl,
    /// T5 v1.1 XXL, of the transformers.
    Xxl,
}

/// Configuration of T5's encoder.
pub(super) fn t5_config(model: T5Model, size: Size) -> Map<String, Value> {
    let mut full = json!({
        "d_model": 2048, "d_ff": 5120, "d_kv": 64, "num_heads": 32, "num_layers": 24,
        "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-06,
    });
    if model == T5Model::Xxl {
        full["d_model"] = json!(4096);
        full["d_ff"] = json!(10240);
        full["num_heads"] = json!(64);
    }
    let tiny = json!({
        "d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 3, "vocab_size": 1000,
    });
    changed(full, size, tiny)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configurations that PyTorch counted, where both name a key.
    #[test]
    fn published_configurations_are_those_that_were_counted() {
        let text = include_str!("../../tests/fixtures/flops/counted.json");
        let theirs: Value = serde_json::from_str(text).unwrap();
        let full = Size::Full;
        for (name, ours, least) in [
            ("unet-sd15", unet_config(UnetModel::Sd15, full), 3),
            ("unet-sd2", unet_config(UnetModel::Sd2, full), 5),
            ("unet-sdxl", unet_config(UnetModel::Sdxl, full), 10),
            ("pixart", transformer_config(TransformerModel::PixArt, full), 8),
            ("sd3-medium", transformer_config(TransformerModel::Sd3, full), 11),
            ("sd35-medium", transformer_config(TransformerModel::Sd35, full), 13),
            ("flux-dev", transformer_config(TransformerModel::Flux, full), 9),
            ("clip-l", clip_config(ClipModel::Large, full), 4),
            ("clip-h", clip_config(ClipModel::Huge, full), 4),
            ("clip-g", clip_config(ClipModel::Giant, full), 4),
            ("t5-xl", t5_config(T5Model::Xl, full), 6),
            ("t5-xxl", t5_config(T5Model::Xxl, full), 6),
            ("vae", vae_config(4, full), 3),
            ("vae-16", vae_config(16, full), 6),
        ] {
            let theirs = theirs["configs"][name].as_object().unwrap();
            let both: Vec<_> = theirs.iter().filter(|(key, _)| ours.contains_key(*key)).collect();
            assert!(both.len() >= least, "{name}: {}", both.len());
            for (key, value) in both {
                assert_eq!(&ours[key], value, "{name} {key}");
            }
        }
    }

    #[test]
    fn blocks_are_taken_out_of_both_kinds_and_it_is_said() {
        let mut flux = transformer_config(TransformerModel::Flux, Size::Full);
        assert_eq!(keep_blocks(&mut flux, 1.0), None);
        assert_eq!(keep_blocks(&mut flux, 0.25).unwrap(), "13 of 57 blocks");
        assert_eq!((&flux["num_layers"], &flux["num_single_layers"]), (&json!(4), &json!(9)));
        let mut medium = transformer_config(TransformerModel::Sd35, Size::Full);
        assert_eq!(keep_blocks(&mut medium, 0.1).unwrap(), "2 of 24 blocks");
        assert_eq!(medium["dual_attention_layers"], json!([0, 1]));
        assert_eq!(keep_blocks(&mut medium, 0.0).unwrap(), "1 of 2 blocks");
    }
}
