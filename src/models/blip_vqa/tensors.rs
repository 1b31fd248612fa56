//! In: a configuration. Out: names and shapes of the tensors that the network of that configuration
//! needs, as the published checkpoints call them.

use super::config::BlipVqaConfig;
use crate::checkpoint::needed_tensors::Needed;
use crate::models::tensor_list::TensorList;

/// In the order of the network's parts. `answer_words` is the name under which the file has the table of
/// the answers' words.
pub(super) fn needed(config: &BlipVqaConfig, answer_words: &str) -> Vec<Needed> {
    let mut list = TensorList::new(config.text);
    let (width, patch, size) = (config.text.width, config.patch, config.vision);
    let embeddings = "vision_model.embeddings";
    let grid = config.image_size / patch;
    list.add(format!("{embeddings}.class_embedding"), &[1, 1, width]);
    list.add(format!("{embeddings}.position_embedding"), &[1, 1 + grid * grid, width]);
    list.add(format!("{embeddings}.patch_embedding.weight"), &[width, 3, patch, patch]);
    list.add(format!("{embeddings}.patch_embedding.bias"), &[width]);
    for number in 0..size.layers {
        let layer = format!("vision_model.encoder.layers.{number}");
        list.norm(&format!("{layer}.layer_norm1"), width);
        list.linear(&format!("{layer}.self_attn.qkv"), width, 3 * width);
        list.linear(&format!("{layer}.self_attn.projection"), width, width);
        list.norm(&format!("{layer}.layer_norm2"), width);
        list.linear(&format!("{layer}.mlp.fc1"), width, size.inner);
        list.linear(&format!("{layer}.mlp.fc2"), size.inner, width);
    }
    list.norm("vision_model.post_layernorm", width);
    let words = ("word_embeddings", config.vocabulary);
    let positions = ("position_embeddings", config.max_positions);
    list.embeddings("text_encoder.embeddings", &[words, positions]);
    list.embeddings("text_decoder.bert.embeddings", &[positions]);
    list.add(answer_words.to_owned(), &[config.vocabulary, width]);
    for text in ["text_encoder", "text_decoder.bert"] {
        for number in 0..config.text_layers {
            list.layer(&format!("{text}.encoder.layer.{number}"), true);
        }
    }
    list.word_prediction("text_decoder.cls.predictions", config.vocabulary);
    list.tensors
}
