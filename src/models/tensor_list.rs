//! In: the parts of a network, as it names them. Out: names and shapes of the tensors that it needs.

use super::bert::BertSize;
use crate::checkpoint::needed_tensors::Needed;

/// A list in the making.
pub(crate) struct TensorList {
    /// What was listed so far.
    pub(crate) tensors: Vec<Needed>,
    size: BertSize,
}

impl TensorList {
    /// An empty one; `size` is that of BERT's blocks in it.
    pub(crate) fn new(size: BertSize) -> Self {
        Self { tensors: Vec::new(), size }
    }

    /// One tensor.
    pub(crate) fn add(&mut self, name: String, shape: &[usize]) {
        self.tensors.push((name, shape.to_vec()));
    }

    /// A linear layer with its bias.
    pub(crate) fn linear(&mut self, name: &str, input: usize, output: usize) {
        self.add(format!("{name}.weight"), &[output, input]);
        self.add(format!("{name}.bias"), &[output]);
    }

    /// A norm's scale and shift.
    pub(crate) fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    /// Tables of so many rows each, and their norm.
    pub(crate) fn embeddings(&mut self, name: &str, tables: &[(&str, usize)]) {
        let width = self.size.width;
        for (table, rows) in tables {
            self.add(format!("{name}.{table}.weight"), &[*rows, width]);
        }
        self.norm(&format!("{name}.LayerNorm"), width);
    }

    /// One of BERT's layers.
    pub(crate) fn layer(&mut self, name: &str, crossed: bool) {
        let BertSize { width, inner, .. } = self.size;
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

    /// The prediction of words, without their table.
    pub(crate) fn word_prediction(&mut self, name: &str, vocabulary: usize) {
        let width = self.size.width;
        self.linear(&format!("{name}.transform.dense"), width, width);
        self.norm(&format!("{name}.transform.LayerNorm"), width);
        self.add(format!("{name}.bias"), &[vocabulary]);
    }
}
