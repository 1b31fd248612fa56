//! In: the tensors of a FLUX.1 transformer in diffusers' layout. Out: its layers as the publisher's code and XLabs' name
//! them, with the tensors that each is here. Which names a file has is left to `names`.

use std::collections::BTreeSet;

use super::notes::PEFT_START;
use crate::checkpoint::recipe::Form;
use crate::checkpoint::transformer_names::flux_names;

/// Layers of a block in which picture and text have weights of their own: `img_` or `txt_` stands before each.
const DOUBLE: [&str; 5] = ["attn.qkv", "attn.proj", "mlp.0", "mlp.2", "mod.lin"];
/// Layers of a block in which they share them.
const SINGLE: [&str; 3] = ["linear1", "linear2", "modulation.lin"];
/// Layers outside the blocks.
const OUTER: [&str; 10] = [
    "img_in",
    "txt_in",
    "time_in.in_layer",
    "time_in.out_layer",
    "vector_in.in_layer",
    "vector_in.out_layer",
    "guidance_in.in_layer",
    "guidance_in.out_layer",
    "final_layer.linear",
    "final_layer.adaLN_modulation.1",
];
/// What XLabs' attention processors call the layers of a double block.
const XLABS_DOUBLE: [(&str, &str); 4] = [
    ("processor.qkv_lora1", "img_attn.qkv"),
    ("processor.qkv_lora2", "txt_attn.qkv"),
    ("processor.proj_lora1", "img_attn.proj"),
    ("processor.proj_lora2", "txt_attn.proj"),
];
/// The same of a single block: its queries, keys and values without the rest of `linear1`, and `linear2`.
const XLABS_SINGLE: [&str; 2] = ["processor.qkv_lora", "processor.proj_lora"];

/// A tensor of the checkpoint and what of a layer's rows it takes; all of them where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'t> {
    pub(super) tensor: &'t str,
    pub(super) rows: Option<Form>,
}

/// Whether a module's name is one of XLabs'.
pub(super) fn is_xlabs(module: &str) -> bool {
    let mut ends = XLABS_DOUBLE.iter().map(|(name, _)| *name).chain(XLABS_SINGLE);
    ends.any(|end| module.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')))
}

/// Whether a module, written with dots, is called as in the publisher's code, behind PEFT's or ComfyUI's start or none.
pub(super) fn is_publishers(module: &str) -> bool {
    let module = module.strip_prefix(PEFT_START).unwrap_or(module);
    let module = module.strip_prefix("diffusion_model.").unwrap_or(module);
    let is_block =
        ["double_blocks.", "single_blocks."].iter().any(|start| module.starts_with(start));
    (is_block && !is_xlabs(module)) || OUTER.contains(&module)
}

/// The layers by name, with dots.
pub(super) fn flux_layers(tensors: &[String]) -> Vec<(String, Vec<Part<'_>>)> {
    let own: BTreeSet<&str> = tensors.iter().map(String::as_str).collect();
    let part = |tensor: &str, rows| own.get(tensor).map(|&tensor| Part { tensor, rows });
    let parts = |layer: &str| -> Vec<Part<'_>> {
        let named = flux_names(&format!("{layer}.weight"));
        let parts = named.iter().map(|(tensor, rows)| part(tensor, *rows));
        parts.collect::<Option<_>>().unwrap_or_default()
    };
    let count = |blocks: &str| {
        (0..)
            .take_while(|n| own.contains(format!("{blocks}.{n}.attn.to_q.weight").as_str()))
            .count()
    };
    let mut layers: Vec<(String, Vec<Part<'_>>)> = Vec::new();
    for n in 0..count("transformer_blocks") {
        for end in DOUBLE {
            for stream in ["img", "txt"] {
                let layer = format!("double_blocks.{n}.{stream}_{end}");
                layers.push((layer.clone(), parts(&layer)));
            }
        }
        for (xlabs, end) in XLABS_DOUBLE {
            let parts = parts(&format!("double_blocks.{n}.{end}"));
            layers.push((format!("double_blocks.{n}.{xlabs}"), parts));
        }
    }
    for n in 0..count("single_transformer_blocks") {
        let block = format!("single_blocks.{n}");
        for end in SINGLE {
            let layer = format!("{block}.{end}");
            layers.push((layer.clone(), parts(&layer)));
        }
        let [qkv, proj] = XLABS_SINGLE;
        layers.push((format!("{block}.{proj}"), parts(&format!("{block}.linear2"))));
        let thirds = ["to_q", "to_k", "to_v"].iter().enumerate().filter_map(|(number, name)| {
            let tensor = format!("single_transformer_blocks.{n}.attn.{name}.weight");
            part(&tensor, Some(Form::part(number, 3)))
        });
        layers.push((format!("{block}.{qkv}"), thirds.collect()));
    }
    layers.extend(OUTER.map(|layer| (layer.to_owned(), parts(layer))));
    layers.retain(|(_, parts)| !parts.is_empty());
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_those_of_the_checkpoint() {
        let attention = ["to_q", "to_k", "to_v"];
        let mut tensors: Vec<String> = attention
            .iter()
            .map(|name| format!("single_transformer_blocks.0.attn.{name}.weight"))
            .collect();
        tensors.push("single_transformer_blocks.0.proj_mlp.weight".into());
        tensors.push("norm_out.linear.weight".into());
        let layers = flux_layers(&tensors);
        let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
        let xlabs = "single_blocks.0.processor.qkv_lora";
        assert_eq!(names, ["single_blocks.0.linear1", xlabs, "final_layer.adaLN_modulation.1"]);
        assert_eq!(layers[0].1.len(), 4);
        let third = Part { tensor: &tensors[1], rows: Some(Form::part(1, 3)) };
        assert_eq!(layers[1].1[1], third);
        assert!(is_publishers("base_model.model.img_in") && !is_publishers(xlabs));
        assert!(is_xlabs(xlabs) && !is_xlabs("single_blocks.0.attn.processor.to_q_lora"));
    }
}
