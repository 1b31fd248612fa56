//! In: the names of an adapter's modules for FLUX.1. Out: which of them `FluxPipeline.load_lora_weights` of diffusers
//! 0.42.1 reads, and what it leaves out. What is added here is left to `lora`.

use super::flux_layers::is_publishers;

/// How diffusers reads a file: its names decide, and then count for all of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiffusersReader {
    /// Names of kohya's sd-scripts and of ComfyUI.
    Kohya,
    /// Kohya's names of the factors behind diffusers' names of the layers.
    KohyaFactors,
    /// Diffusers' layers with underscores, as OneTrainer writes them.
    OneTrainer,
    /// Attention processors of XLabs.
    Xlabs,
    /// The publisher's names behind PEFT's start, as fal's trainer writes them.
    Fal,
    /// Names of diffusers.
    Own,
}

use DiffusersReader::{Fal, Kohya, KohyaFactors, OneTrainer, Own, Xlabs};

impl DiffusersReader {
    /// The reader of a file with tensors of these names.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Self {
        let any = |is: fn(&str) -> bool| names.clone().any(is);
        if any(|name| name.contains(".lora_down.weight")) {
            if any(|name| name.starts_with("transformer.")) {
                KohyaFactors
            } else if any(|name| name.starts_with("lora_transformer_")) {
                OneTrainer
            } else {
                Kohya
            }
        } else if any(|name| name.contains("processor")) {
            Xlabs
        } else if any(|name| name.contains("base_model")) {
            Fal
        } else {
            Own
        }
    }

    /// Whether it reads the module. Of names that the pipeline's loader passes over but a network's own loader
    /// takes, as `transformer_blocks...` alone and PEFT's, nothing is said.
    pub(super) fn reads(self, module: &str) -> bool {
        match self {
            Kohya => {
                let name = module.replacen("diffusion_model.", "lora_unet_", 1).replacen(
                    "text_encoders.clip_l.transformer.",
                    "lora_te_",
                    1,
                );
                let starts =
                    ["double_blocks", "single_blocks"].map(|kind| format!("lora_unet_{kind}"));
                starts.iter().any(|start| name.starts_with(start.as_str())) || is_clip(&name)
            }
            KohyaFactors => module.starts_with("transformer."),
            OneTrainer => module.strip_prefix("lora_transformer_").map_or_else(
                || is_clip(module),
                // Layers of a block but for attention end under the block's name alone, the last above the others.
                |layer| !layer.contains("transformer_blocks_") || layer.contains("_attn_"),
            ),
            Xlabs | Own => !is_publishers(module),
            Fal => {
                let read = ["double_blocks.", "single_blocks.", "final_layer.linear"];
                let layer = module.strip_prefix("base_model.model.");
                !is_publishers(module)
                    || layer.is_some_and(|layer| read.iter().any(|start| layer.starts_with(start)))
            }
        }
    }

    /// Whether it multiplies a module's product by alpha, where there is one.
    pub(super) fn takes_alpha(self, module: &str) -> bool {
        match self {
            KohyaFactors => false,
            Fal => !is_publishers(module),
            _ => true,
        }
    }

    /// Whether it passes over a tensor, or the module, that could not be added as a product.
    pub(super) fn leaves_out(self, name: &str) -> bool {
        let ends = [".diff", ".diff_b"].iter().any(|end| name.ends_with(end));
        self == Kohya
            && (ends || name.contains("position_embedding") || name.contains("text_projection"))
    }
}

fn is_clip(name: &str) -> bool {
    name.starts_with("lora_te_") || name.starts_with("lora_te1_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_how_a_file_is_read() {
        for (name, reader, reads) in [
            ("lora_unet_double_blocks_0_img_mlp_0.lora_down.weight", Kohya, true),
            ("diffusion_model.single_blocks.0.linear1.lora_down.weight", Kohya, true),
            ("text_encoders.clip_l.transformer.text_model.x.lora_down.weight", Kohya, true),
            ("lora_unet_img_in.lora_down.weight", Kohya, false),
            ("lora_te3_encoder_block_0.lora_down.weight", Kohya, false),
            ("transformer.proj_out.lora_down.weight", KohyaFactors, true),
            ("lora_transformer_transformer_blocks_0_attn_to_q.lora_down.weight", OneTrainer, true),
            ("lora_transformer_transformer_blocks_0_ff_net_2.lora_down.weight", OneTrainer, false),
            ("lora_transformer_x_embedder.lora_down.weight", OneTrainer, true),
            ("double_blocks.0.processor.qkv_lora1.down.weight", Xlabs, true),
            ("base_model.model.double_blocks.0.img_mlp.0.lora_A.weight", Fal, true),
            ("base_model.model.img_in.lora_A.weight", Fal, false),
            ("base_model.model.proj_out.lora_A.weight", Fal, true),
            ("diffusion_model.double_blocks.0.img_mlp.0.lora_A.weight", Own, false),
            ("transformer.proj_out.lora_A.weight", Own, true),
        ] {
            assert_eq!(DiffusersReader::of([name].into_iter()), reader, "{name}");
            let module = name.rsplitn(3, '.').nth(2).unwrap();
            assert_eq!(reader.reads(module), reads, "{name}");
        }
        assert!(Kohya.leaves_out("diffusion_model.img_in.diff_b") && !Own.leaves_out("a.diff_b"));
    }
}
