//! In: tensor names of a single-file checkpoint in the layout of the latent-diffusion code. Out: the
//! names that the networks here know, which are those of diffusers. Reading files is left to `weights`.

use super::recipe::Form;

/// A network's names of a stored tensor, with the form in which it is stored where that is another.
pub(crate) type Names = Vec<(String, Option<Form>)>;

/// Where the UNet's tensors stand.
pub(crate) const UNET: &str = "model.diffusion_model.";
/// Where the autoencoder's tensors stand.
pub(crate) const VAE: &str = "first_stage_model.";
/// Where the tensors of CLIP's text encoder stand.
pub(crate) const TEXT_ENCODER: &str = "cond_stage_model.transformer.";

/// Where the tensors of Stable Diffusion 2's text encoder stand; they are called as behind [`SDXL_TEXT_ENCODER_2`].
pub(crate) const SD2_TEXT_ENCODER: &str = "cond_stage_model.model.";

/// Where the tensors of SDXL's first text encoder stand; they are called as behind [`TEXT_ENCODER`].
pub(crate) const SDXL_TEXT_ENCODER: &str = "conditioner.embedders.0.transformer.";
/// Where the tensors of SDXL's second text encoder stand.
pub(crate) const SDXL_TEXT_ENCODER_2: &str = "conditioner.embedders.1.model.";

/// The UNet's name of a tensor called `name` behind [`UNET`], where `layers` is the configuration's
/// `layers_per_block`; `None` for one that no UNet here has.
pub(crate) fn unet_name(name: &str, layers: usize) -> Option<String> {
    const ENDS: [(&str, &str); 7] = [
        ("time_embed.0.", "time_embedding.linear_1."),
        ("time_embed.2.", "time_embedding.linear_2."),
        ("label_emb.0.0.", "add_embedding.linear_1."),
        ("label_emb.0.2.", "add_embedding.linear_2."),
        ("input_blocks.0.0.", "conv_in."),
        ("out.0.", "conv_norm_out."),
        ("out.2.", "conv_out."),
    ];
    for (stored, own) in ENDS {
        if let Some(rest) = name.strip_prefix(stored) {
            return Some(format!("{own}{rest}"));
        }
    }
    let (part, rest) = name.split_once('.')?;
    let (block, rest) = rest.split_once('.')?;
    let block: usize = block.parse().ok()?;
    match part {
        "input_blocks" => {
            let (place, rest) = rest.split_once('.')?;
            // The first of them is conv_in; a level's last one is its downsampler.
            let (level, layer) = (block.checked_sub(1)? / (layers + 1), (block - 1) % (layers + 1));
            match (place, rest.strip_prefix("op.")) {
                ("0", Some(rest)) => {
                    Some(format!("down_blocks.{level}.downsamplers.0.conv.{rest}"))
                }
                ("0", None) => {
                    Some(format!("down_blocks.{level}.resnets.{layer}.{}", resnet(rest)?))
                }
                ("1", _) => Some(format!("down_blocks.{level}.attentions.{layer}.{rest}")),
                _ => None,
            }
        }
        "middle_block" => match block {
            0 => Some(format!("mid_block.resnets.0.{}", resnet(rest)?)),
            1 => Some(format!("mid_block.attentions.0.{rest}")),
            2 => Some(format!("mid_block.resnets.1.{}", resnet(rest)?)),
            _ => None,
        },
        "output_blocks" => {
            let (place, rest) = rest.split_once('.')?;
            let (level, layer) = (block / (layers + 1), block % (layers + 1));
            // The upsampler stands behind the attention, or in its place where a level has none.
            match (place, rest.strip_prefix("conv.")) {
                ("1" | "2", Some(rest)) => {
                    Some(format!("up_blocks.{level}.upsamplers.0.conv.{rest}"))
                }
                ("0", _) => Some(format!("up_blocks.{level}.resnets.{layer}.{}", resnet(rest)?)),
                ("1", _) => Some(format!("up_blocks.{level}.attentions.{layer}.{rest}")),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Inside a residual block of the UNet.
fn resnet(name: &str) -> Option<String> {
    replace_start(
        name,
        &[
            ("in_layers.0.", "norm1."),
            ("in_layers.2.", "conv1."),
            ("emb_layers.1.", "time_emb_proj."),
            ("out_layers.0.", "norm2."),
            ("out_layers.3.", "conv2."),
            ("skip_connection.", "conv_shortcut."),
        ],
    )
}

/// The autoencoder's name of a tensor called `name` behind [`VAE`], for a decoder of `levels` levels;
/// `None` for one that no decoder here has (the encoder's, among others).
pub(crate) fn vae_name(name: &str, levels: usize) -> Option<String> {
    if name.starts_with("post_quant_conv.") {
        return Some(name.to_owned());
    }
    let rest = name.strip_prefix("decoder.")?;
    if rest.starts_with("conv_in.") || rest.starts_with("conv_out.") {
        return Some(name.to_owned());
    }
    if let Some(own) = replace_start(
        rest,
        &[
            ("norm_out.", "conv_norm_out."),
            ("mid.block_1.", "mid_block.resnets.0."),
            ("mid.block_2.", "mid_block.resnets.1."),
            ("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
            ("mid.attn_1.q.", "mid_block.attentions.0.to_q."),
            ("mid.attn_1.k.", "mid_block.attentions.0.to_k."),
            ("mid.attn_1.v.", "mid_block.attentions.0.to_v."),
            ("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."),
        ],
    ) {
        return Some(format!("decoder.{own}"));
    }
    // Levels are counted from the finest there and from the coarsest here.
    let (level, rest) = rest.strip_prefix("up.")?.split_once('.')?;
    let level = levels.checked_sub(1)?.checked_sub(level.parse().ok()?)?;
    let place = format!("decoder.up_blocks.{level}");
    if let Some(rest) = rest.strip_prefix("upsample.conv.") {
        return Some(format!("{place}.upsamplers.0.conv.{rest}"));
    }
    let rest = rest.strip_prefix("block.")?.replace("nin_shortcut.", "conv_shortcut.");
    Some(format!("{place}.resnets.{rest}"))
}

/// One name, of a tensor that is stored as it is.
pub(crate) fn plain(name: Option<String>) -> Names {
    name.map(|name| (name, None)).into_iter().collect()
}

/// The text encoder's name of a tensor called `name` behind [`TEXT_ENCODER`]: the same, but for the
/// older files that lack `text_model.`.
pub(crate) fn clip_names(name: &str) -> Names {
    let own = || format!("text_model.{}", name.strip_prefix("text_model.").unwrap_or(name));
    plain((!name.ends_with("position_ids")).then(own))
}

/// The second text encoder's names of a tensor called `name` behind [`SDXL_TEXT_ENCODER_2`], as OpenCLIP
/// calls it, each with the form in which it is stored where that is another. Query, key and value of an
/// attention are one tensor there. Empty for one that no text encoder here has.
pub(crate) fn open_clip_names(name: &str) -> Names {
    let whole = match name {
        "positional_embedding" => Some("text_model.embeddings.position_embedding.weight"),
        "token_embedding.weight" => Some("text_model.embeddings.token_embedding.weight"),
        "ln_final.weight" => Some("text_model.final_layer_norm.weight"),
        "ln_final.bias" => Some("text_model.final_layer_norm.bias"),
        "text_projection" => {
            return vec![("text_projection.weight".to_owned(), Some(Form::Transposed))];
        }
        _ => None,
    };
    if let Some(own) = whole {
        return plain(Some(own.to_owned()));
    }
    let inside = name.strip_prefix("transformer.resblocks.").and_then(|rest| rest.split_once('.'));
    let Some((layer, rest)) = inside else { return Vec::new() };
    let layer = format!("text_model.encoder.layers.{layer}");
    if let Some(kind) = rest.strip_prefix("attn.in_proj_") {
        let parts = ["q_proj", "k_proj", "v_proj"].into_iter().enumerate();
        return parts
            .map(|(number, part)| {
                (format!("{layer}.self_attn.{part}.{kind}"), Some(Form::part(number, 3)))
            })
            .collect();
    }
    let own = replace_start(
        rest,
        &[
            ("ln_1.", "layer_norm1."),
            ("ln_2.", "layer_norm2."),
            ("mlp.c_fc.", "mlp.fc1."),
            ("mlp.c_proj.", "mlp.fc2."),
            ("attn.out_proj.", "self_attn.out_proj."),
        ],
    );
    plain(own.map(|own| format!("{layer}.{own}")))
}

/// A UNet module in the spelling of adapters made for that layout, such as
/// `input_blocks_1_1_proj_in`, in the spelling of those made for diffusers:
/// `down_blocks_0_attentions_0_proj_in`.
pub(crate) fn unet_module(spelled: &str, layers: usize) -> Option<String> {
    // Only the numbers and the names of layers in front are known to be separate words.
    let mut dotted = spelled.to_owned();
    let (part, _) =
        ["input_blocks", "middle_block", "output_blocks", "time_embed", "out", "label_emb"]
            .into_iter()
            .filter_map(|part| Some((part, spelled.strip_prefix(part)?.strip_prefix('_')?)))
            .next()?;
    let numbers = if part == "input_blocks" || part == "output_blocks" { 2 } else { 1 };
    let mut at = part.len();
    for _ in 0..=numbers {
        if dotted.as_bytes().get(at) != Some(&b'_') {
            break;
        }
        dotted.replace_range(at..=at, ".");
        let digits = dotted[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        at += 1 + digits;
        if digits == 0 {
            break;
        }
    }
    for layer in ["in_layers", "out_layers", "emb_layers"] {
        dotted = dotted.replace(&format!(".{layer}_"), &format!(".{layer}."));
    }
    let named = unet_name(&format!("{dotted}."), layers)?;
    Some(named.trim_end_matches('.').replace('.', "_"))
}

fn replace_start(name: &str, table: &[(&str, &str)]) -> Option<String> {
    table.iter().find_map(|(stored, own)| {
        let rest = name.strip_prefix(stored)?;
        Some(format!("{own}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs as the published SD1.5 has them, from its two files.
    #[test]
    fn names_of_the_published_checkpoint_are_known() {
        let pairs = [
            ("input_blocks.0.0.weight", "conv_in.weight"),
            ("input_blocks.3.0.op.bias", "down_blocks.0.downsamplers.0.conv.bias"),
            ("input_blocks.5.1.norm.weight", "down_blocks.1.attentions.1.norm.weight"),
            (
                "input_blocks.4.0.skip_connection.weight",
                "down_blocks.1.resnets.0.conv_shortcut.weight",
            ),
            ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
            ("output_blocks.5.2.conv.weight", "up_blocks.1.upsamplers.0.conv.weight"),
            ("output_blocks.11.1.proj_out.bias", "up_blocks.3.attentions.2.proj_out.bias"),
            ("middle_block.2.emb_layers.1.bias", "mid_block.resnets.1.time_emb_proj.bias"),
        ];
        for (stored, own) in pairs {
            assert_eq!(unet_name(stored, 2).as_deref(), Some(own));
        }
        for unknown in ["input_blocks.x.0.weight", "betas", "middle_block.3.norm.weight"] {
            assert_eq!(unet_name(unknown, 2), None);
        }
        assert_eq!(
            vae_name("decoder.up.3.block.0.conv1.weight", 4).as_deref(),
            Some("decoder.up_blocks.0.resnets.0.conv1.weight")
        );
        assert_eq!(vae_name("encoder.conv_in.weight", 4), None);
        assert_eq!(vae_name("decoder.up.4.block.0.conv1.weight", 4), None);
    }

    #[test]
    fn modules_of_adapters_are_respelled() {
        let pairs = [
            (
                "input_blocks_1_1_transformer_blocks_0_attn1_to_q",
                "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
            ),
            ("output_blocks_3_0_in_layers_2", "up_blocks_1_resnets_0_conv1"),
            ("middle_block_1_proj_in", "mid_block_attentions_0_proj_in"),
            ("middle_block_0_out_layers_3", "mid_block_resnets_0_conv2"),
            ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
            ("time_embed_0", "time_embedding_linear_1"),
        ];
        for (stored, own) in pairs {
            assert_eq!(unet_module(stored, 2).as_deref(), Some(own), "{stored}");
        }
        assert_eq!(unet_module("down_blocks_0_attentions_0_proj_in", 2), None);
    }
}
