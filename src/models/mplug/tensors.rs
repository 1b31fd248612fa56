//! In: a configuration. Out: names and shapes of the tensors that the network of that configuration
//! needs, as the published checkpoints call them.

use super::config::MplugConfig;

/// In the order of the network's parts.
pub(super) fn needed(config: &MplugConfig) -> Vec<(String, Vec<usize>)> {
    let mut list = List { tensors: Vec::new(), width: config.bert.width, inner: config.bert.inner };
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
    list.embeddings("text_encoder.embeddings", config);
    for number in 0..config.text_layers {
        list.layer(&format!("text_encoder.encoder.layer.{number}"), false);
    }
    for number in 0..config.fusion_layers {
        let place = config.hidden_layers - config.fusion_layers + number;
        let layer = format!("fusion_encoder.encoder.layer.{place}");
        list.layer(&layer, !config.joins(number));
    }
    list.embeddings("text_decoder.bert.embeddings", config);
    for number in 0..config.decoder_layers {
        list.layer(&format!("text_decoder.bert.encoder.layer.{number}"), true);
    }
    let head = "text_decoder.cls.predictions";
    list.linear(&format!("{head}.transform.dense"), width, width);
    list.norm(&format!("{head}.transform.LayerNorm"), width);
    list.add(format!("{head}.decoder.weight"), &[config.vocab_size, width]);
    list.add(format!("{head}.bias"), &[config.vocab_size]);
    list.tensors
}

struct List {
    tensors: Vec<(String, Vec<usize>)>,
    width: usize,
    inner: usize,
}

impl List {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.tensors.push((name, shape.to_vec()));
    }

    fn linear(&mut self, name: &str, input: usize, output: usize) {
        self.add(format!("{name}.weight"), &[output, input]);
        self.add(format!("{name}.bias"), &[output]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    fn embeddings(&mut self, name: &str, config: &MplugConfig) {
        for (table, rows) in [
            ("word_embeddings", config.vocab_size),
            ("position_embeddings", config.max_positions),
            ("token_type_embeddings", config.segments),
        ] {
            self.add(format!("{name}.{table}.weight"), &[rows, self.width]);
        }
        self.norm(&format!("{name}.LayerNorm"), self.width);
    }

    fn layer(&mut self, name: &str, crossed: bool) {
        let (width, inner) = (self.width, self.inner);
        let attentions = ["attention", "crossattention"];
        for attention in &attentions[..if crossed { 2 } else { 1 }] {
            for part in ["self.query", "self.key", "self.value", "output.dense"] {
                self.linear(&format!("{name}.{attention}.{part}"), width, width);
            }
            self.norm(&format!("{name}.{attention}.output.LayerNorm"), width);
        }
        self.linear(&format!("{name}.intermediate.dense"), width, inner);
        self.linear(&format!("{name}.output.dense"), inner, width);
        self.norm(&format!("{name}.output.LayerNorm"), width);
    }
}
