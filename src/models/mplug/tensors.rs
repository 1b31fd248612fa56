//! In: a configuration. Out: names and shapes of the tensors that the network of that configuration
//! needs, as the published checkpoints call them.

use super::config::MplugConfig;
use crate::models::tensor_list::TensorList;

/// In the order of the network's parts.
pub(super) fn needed(config: &MplugConfig) -> Vec<(String, Vec<usize>)> {
    let mut list = TensorList::new(config.bert);
    let (vision, width) = (config.vision_width, config.bert.width);
    let visual = "visual_encoder.visual";
    list.add(format!("{visual}.conv1.weight"), &[vision, 3, config.patch, config.patch]);
    list.add(format!("{visual}.class_embedding"), &[vision]);
    let positions = config.grid() * config.grid() + 1;
    list.add(format!("{visual}.positional_embedding"), &[positions, vision]);
    list.norm(&format!("{visual}.ln_pre"), vision);
    for number in 0..config.vision_layers {
        let block = format!("{visual}.transformer.resblocks.{number}");
        list.norm(&format!("{block}.ln_1"), vision);
        list.add(format!("{block}.attn.in_proj_weight"), &[3 * vision, vision]);
        list.add(format!("{block}.attn.in_proj_bias"), &[3 * vision]);
        list.linear(&format!("{block}.attn.out_proj"), vision, vision);
        list.norm(&format!("{block}.ln_2"), vision);
        list.linear(&format!("{block}.mlp.c_fc"), vision, 4 * vision);
        list.linear(&format!("{block}.mlp.c_proj"), 4 * vision, vision);
    }
    list.norm(&format!("{visual}.ln_post"), vision);
    if config.projects() {
        list.linear("visn_fc", vision, width);
        list.norm("visn_layer_norm", width);
    }
    let tables = [
        ("word_embeddings", config.vocab_size),
        ("position_embeddings", config.max_positions),
        ("token_type_embeddings", config.segments),
    ];
    list.embeddings("text_encoder.embeddings", &tables);
    for number in 0..config.text_layers {
        list.layer(&format!("text_encoder.encoder.layer.{number}"), false);
    }
    for number in 0..config.fusion_layers {
        let place = config.hidden_layers - config.fusion_layers + number;
        let layer = format!("fusion_encoder.encoder.layer.{place}");
        list.layer(&layer, !config.joins(number));
    }
    list.embeddings("text_decoder.bert.embeddings", &tables);
    for number in 0..config.decoder_layers {
        list.layer(&format!("text_decoder.bert.encoder.layer.{number}"), true);
    }
    let head = "text_decoder.cls.predictions";
    list.add(format!("{head}.decoder.weight"), &[config.vocab_size, width]);
    list.word_prediction(head, config.vocab_size);
    list.tensors
}
