//! In: tensor names of a single-file checkpoint of FLUX.1 or Stable Diffusion 3, as their publishers call them. Out: the
//! names that the networks here know, which are those of diffusers, and the forms of what is stored otherwise: queries, keys and
//! values are one tensor there, and a last modulation has shift before scale.
//!
//! Followed are `convert_flux_transformer_checkpoint_to_diffusers` and `convert_sd3_transformer_checkpoint_to_diffusers` of
//! diffusers. Names of the autoencoder are those of `ldm_names`.

use super::ldm_names::{Names, clip_names, plain};
use super::recipe::Form;

/// Where the autoencoder's tensors stand, beside `first_stage_model.`, in files that ComfyUI made.
pub(crate) const COMFY_VAE: &str = "vae.";
/// Where those of CLIP-L stand.
pub(crate) const CLIP_L: &str = "text_encoders.clip_l.transformer.";
/// Where those of CLIP-G stand.
pub(crate) const CLIP_G: &str = "text_encoders.clip_g.transformer.";
/// Where those of T5 stand, under the names of transformers.
pub(crate) const T5: &str = "text_encoders.t5xxl.transformer.";

/// Beginnings of names with those of diffusers.
type Starts = [(&'static str, &'static str)];

/// The transformer's names of a tensor that FLUX.1 calls `name`; none for one that it does not have.
pub(crate) fn flux_names(name: &str) -> Names {
    const TOP: &Starts = &[
        ("time_in.in_layer.", "time_text_embed.timestep_embedder.linear_1."),
        ("time_in.out_layer.", "time_text_embed.timestep_embedder.linear_2."),
        ("vector_in.in_layer.", "time_text_embed.text_embedder.linear_1."),
        ("vector_in.out_layer.", "time_text_embed.text_embedder.linear_2."),
        ("guidance_in.in_layer.", "time_text_embed.guidance_embedder.linear_1."),
        ("guidance_in.out_layer.", "time_text_embed.guidance_embedder.linear_2."),
        ("txt_in.", "context_embedder."),
        ("img_in.", "x_embedder."),
        ("final_layer.linear.", "proj_out."),
    ];
    const DOUBLE: &Starts = &[
        ("img_mod.lin.", "norm1.linear."),
        ("txt_mod.lin.", "norm1_context.linear."),
        ("img_attn.proj.", "attn.to_out.0."),
        ("txt_attn.proj.", "attn.to_add_out."),
        ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
        ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
        ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
        ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
        ("img_mlp.0.", "ff.net.0.proj."),
        ("img_mlp.2.", "ff.net.2."),
        ("txt_mlp.0.", "ff_context.net.0.proj."),
        ("txt_mlp.2.", "ff_context.net.2."),
    ];
    const DOUBLE_JOINED: &[(&str, [&str; 3])] = &[
        ("img_attn.qkv.", ["attn.to_q.", "attn.to_k.", "attn.to_v."]),
        ("txt_attn.qkv.", ["attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."]),
    ];
    const SINGLE: &Starts = &[
        ("modulation.lin.", "norm.linear."),
        ("linear2.", "proj_out."),
        ("norm.query_norm.scale", "attn.norm_q.weight"),
        ("norm.key_norm.scale", "attn.norm_k.weight"),
    ];
    if let Some((number, rest)) = block(name, "double_blocks.") {
        let place = format!("transformer_blocks.{number}.");
        return within(&place, rest, DOUBLE, DOUBLE_JOINED);
    }
    if let Some((number, rest)) = block(name, "single_blocks.") {
        let place = format!("single_transformer_blocks.{number}.");
        // Below queries, keys and values stand the four widths of the feed-forward.
        return match rest.strip_prefix("linear1.") {
            Some(kind) => ["attn.to_q.", "attn.to_k.", "attn.to_v.", "proj_mlp."]
                .into_iter()
                .enumerate()
                .map(|(first, own)| {
                    let count = if first < 3 { 1 } else { 4 };
                    (format!("{place}{own}{kind}"), Some(Form::Part { first, count, of: 7 }))
                })
                .collect(),
            None => within(&place, rest, SINGLE, &[]),
        };
    }
    match last_modulation(name) {
        Some(own) => own,
        None => within("", name, TOP, &[]),
    }
}

/// The transformer's names of a tensor that Stable Diffusion 3 of `layers` blocks calls `name`; none for one that it does
/// not have.
pub(crate) fn sd3_names(name: &str, layers: usize) -> Names {
    const TOP: &Starts = &[
        ("x_embedder.proj.", "pos_embed.proj."),
        ("t_embedder.mlp.0.", "time_text_embed.timestep_embedder.linear_1."),
        ("t_embedder.mlp.2.", "time_text_embed.timestep_embedder.linear_2."),
        ("y_embedder.mlp.0.", "time_text_embed.text_embedder.linear_1."),
        ("y_embedder.mlp.2.", "time_text_embed.text_embedder.linear_2."),
        ("context_embedder.", "context_embedder."),
        ("final_layer.linear.", "proj_out."),
    ];
    const BLOCK: &Starts = &[
        ("x_block.attn.proj.", "attn.to_out.0."),
        ("context_block.attn.proj.", "attn.to_add_out."),
        ("x_block.attn.ln_q.", "attn.norm_q."),
        ("x_block.attn.ln_k.", "attn.norm_k."),
        ("context_block.attn.ln_q.", "attn.norm_added_q."),
        ("context_block.attn.ln_k.", "attn.norm_added_k."),
        ("x_block.attn2.proj.", "attn2.to_out.0."),
        ("x_block.attn2.ln_q.", "attn2.norm_q."),
        ("x_block.attn2.ln_k.", "attn2.norm_k."),
        ("x_block.adaLN_modulation.1.", "norm1.linear."),
        ("context_block.adaLN_modulation.1.", "norm1_context.linear."),
        ("x_block.mlp.fc1.", "ff.net.0.proj."),
        ("x_block.mlp.fc2.", "ff.net.2."),
        ("context_block.mlp.fc1.", "ff_context.net.0.proj."),
        ("context_block.mlp.fc2.", "ff_context.net.2."),
    ];
    const JOINED: &[(&str, [&str; 3])] = &[
        ("x_block.attn.qkv.", ["attn.to_q.", "attn.to_k.", "attn.to_v."]),
        ("context_block.attn.qkv.", ["attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."]),
        ("x_block.attn2.qkv.", ["attn2.to_q.", "attn2.to_k.", "attn2.to_v."]),
    ];
    if name == "pos_embed" {
        return plain(Some("pos_embed.pos_embed".to_owned()));
    }
    if let Some((number, rest)) = block(name, "joint_blocks.") {
        let mut names = within(&format!("transformer_blocks.{number}."), rest, BLOCK, JOINED);
        // The last block makes nothing of the text, and has no more of it than shift and scale.
        if number + 1 == layers && rest.starts_with("context_block.adaLN_modulation.") {
            names.iter_mut().for_each(|(_, form)| *form = Some(Form::SwappedHalves));
        }
        return names;
    }
    match last_modulation(name) {
        Some(own) => own,
        None => within("", name, TOP, &[]),
    }
}

/// CLIP-L's names of a tensor called `name` behind [`CLIP_L`], in a file of Stable Diffusion 3: diffusers makes its projection
/// the identity, whatever the file has.
pub(crate) fn clip_l_names(name: &str) -> Names {
    let mut names = clip_names(name);
    if name.ends_with("final_layer_norm.weight") {
        names.push(("text_projection.weight".to_owned(), Some(Form::Identity)));
    }
    names
}

/// CLIP-G's names of a tensor called `name` behind [`CLIP_G`].
pub(crate) fn clip_g_names(name: &str) -> Names {
    match name {
        "text_projection.weight" => plain(Some(name.to_owned())),
        _ => clip_names(name),
    }
}

fn last_modulation(name: &str) -> Option<Names> {
    let kind = name.strip_prefix("final_layer.adaLN_modulation.1.")?;
    Some(vec![(format!("norm_out.linear.{kind}"), Some(Form::SwappedHalves))])
}

/// The number of the block that `name` is in, and its name there.
fn block<'n>(name: &'n str, start: &str) -> Option<(usize, &'n str)> {
    let (number, rest) = name.strip_prefix(start)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn within(place: &str, name: &str, starts: &Starts, joined: &[(&str, [&str; 3])]) -> Names {
    for (start, parts) in joined {
        if let Some(kind) = name.strip_prefix(start) {
            let parts = parts.iter().enumerate();
            return parts
                .map(|(number, own)| (format!("{place}{own}{kind}"), Some(Form::part(number, 3))))
                .collect();
        }
    }
    let own = starts.iter().find_map(|(start, own)| {
        let rest = name.strip_prefix(start)?;
        Some(format!("{place}{own}{rest}"))
    });
    plain(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_or_none() {
        let own = |name: &str| -> Vec<String> {
            flux_names(name).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(own("img_in.weight"), ["x_embedder.weight"]);
        assert_eq!(
            own("double_blocks.18.txt_attn.norm.key_norm.scale"),
            ["transformer_blocks.18.attn.norm_added_k.weight"]
        );
        assert_eq!(
            flux_names("single_blocks.3.linear1.bias")[3],
            (
                "single_transformer_blocks.3.proj_mlp.bias".to_owned(),
                Some(Form::Part { first: 3, count: 4, of: 7 })
            )
        );
        for unknown in ["double_blocks.x.img_mod.lin.weight", "single_blocks.0.x", "pos_embed", ""]
        {
            assert!(flux_names(unknown).is_empty(), "{unknown}");
        }
        let modulation = |block: usize| {
            sd3_names(&format!("joint_blocks.{block}.context_block.adaLN_modulation.1.bias"), 24)
        };
        assert_eq!(modulation(22)[0].1, None);
        assert_eq!(modulation(23)[0].1, Some(Form::SwappedHalves));
        assert!(sd3_names("double_blocks.0.img_mod.lin.weight", 24).is_empty());
    }
}
