//! In: the hidden states of a language model. Out: one token for each of theirs, brought to the UNet's width by a few
//! linear layers: the MLP of the ablation in ELLA's paper (arXiv 2403.05135), of which neither weights nor code were
//! published. Its form here is a `torch.nn.Sequential` of linear layers with GELU between them, as `connector.mlp`.

use std::path::Path;

use candle_core::{DType, Module, Result, Tensor};

use crate::checkpoint::file_fault::FileFault;
use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weights::Weights;
use crate::compute::layers::{Activation, Linear, LoadResult};

/// The tensor that tells such a file from others.
pub(super) const MARK: &str = "connector.mlp.0.weight";

/// Linear layers between a language model and a UNet.
#[derive(Debug)]
pub struct MlpConnector {
    layers: Vec<Linear>,
    input: usize,
    output: usize,
    dtype: DType,
    sha256: String,
}

impl MlpConnector {
    /// The connector of `weights`, all of them, which are those of `file`.
    pub(super) fn of(file: &Path, weights: &Weights) -> LoadResult<Self> {
        let refused = |reason: String| ModelError::broken(file, FileFault::Network(reason));
        let scope = weights.root().at("connector.mlp");
        // An activation stands between two layers, and has a number too.
        let names = (0..).step_by(2).map(|number| format!("{number}.weight"));
        let shapes: Vec<&[usize]> = names.map_while(|name| scope.shape(&name)).collect();
        let mut layers = Vec::with_capacity(shapes.len());
        let mut width = None;
        for (number, shape) in shapes.iter().enumerate() {
            let number = 2 * number;
            let &[output, input] = *shape else {
                let name = format!("connector.mlp.{number}.weight");
                return Err(refused(format!(
                    "tensor `{name}` has shape {shape:?}; two dimensions are due"
                )));
            };
            let input = width.unwrap_or(input);
            layers.push(Linear::load(&scope.at(number), input, output)?);
            width = Some(output);
        }
        let (Some(first), Some(output)) = (shapes.first(), width) else {
            return Err(refused(format!(
                "tensor `{MARK}` is missing, so this is no MLP connector"
            )));
        };
        let own = |name: &str| {
            let numbered = |number: usize| {
                ["weight", "bias"]
                    .iter()
                    .any(|part| name == format!("connector.mlp.{number}.{part}"))
            };
            (0..layers.len()).any(|layer| numbered(2 * layer))
        };
        if let Some(name) = weights.names().find(|name| !own(name)) {
            return Err(refused(format!(
                "tensor `{name}` has no place in an MLP connector: linear layers are connector.mlp.0, 2, 4 \
                 and so on, with GELU between them"
            )));
        }
        Ok(Self {
            input: first[1],
            output,
            layers,
            dtype: weights.dtype(),
            sha256: weights.sha256().to_owned(),
        })
    }

    /// What the UNet attends to, [b, n, output width], of hidden states [b, n, input width].
    ///
    /// # Errors
    /// Another width.
    pub fn forward(&self, text: &Tensor) -> Result<Tensor> {
        let mut x = text.to_dtype(self.dtype)?;
        for (number, layer) in self.layers.iter().enumerate() {
            if number > 0 {
                x = Activation::Gelu.apply(&x)?;
            }
            x = layer.forward(&x)?;
        }
        Ok(x)
    }

    /// Width of the hidden states that go in.
    pub fn input_width(&self) -> usize {
        self.input
    }

    /// Width of the tokens that come out.
    pub fn output_width(&self) -> usize {
        self.output
    }

    /// Digest of the file, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
