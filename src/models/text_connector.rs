//! In: the file of a connector between a language model and a UNet. Out: that connector, of whatever kind its tensors
//! are.

use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use super::ella_connector::{EllaConnector, ProjectedText};
use super::llm_adapter;
use super::llm_adapter::LlmAdapter;
use super::mlp_connector;
use super::mlp_connector::MlpConnector;
use crate::checkpoint::weights::Weights;
use crate::compute::layers::LoadResult;

/// A connector of any kind.
#[derive(Debug)]
pub enum TextConnector {
    /// ELLA's, and the resamplers of its ablation.
    Ella(Box<EllaConnector>),
    /// Linear layers.
    Mlp(MlpConnector),
    /// A language model in place of both of SDXL's text encoders.
    Adapter(Box<LlmAdapter>),
}

/// A text as far as it does not depend on the timestep.
#[derive(Debug, Clone)]
pub struct ConnectedText(Part);

#[derive(Debug, Clone)]
enum Part {
    /// What ELLA's connector begins with.
    Projected(ProjectedText),
    /// All that there is: tokens [b, tokens, width], and perhaps a pooled vector [b, width].
    Whole(Tensor, Option<Tensor>),
}

impl TextConnector {
    /// Loads the `.safetensors` file of a connector, as `dtype`.
    ///
    /// # Errors
    /// The file is missing or broken, or is no connector of a kind that is known here: a tensor is missing, has a
    /// shape that does not go with the others, or has no place in it.
    pub fn load(file: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let weights = Weights::open_file(file, dtype, device)?;
        let root = weights.root();
        if root.has(llm_adapter::MARK) {
            Ok(Self::Adapter(Box::new(LlmAdapter::of(file, &weights)?)))
        } else if root.has(mlp_connector::MARK) {
            Ok(Self::Mlp(MlpConnector::of(file, &weights)?))
        } else {
            Ok(Self::Ella(Box::new(EllaConnector::of(file, &weights)?)))
        }
    }

    /// The part that does not depend on the timestep, of hidden states [b, n, input width].
    ///
    /// # Errors
    /// Another width.
    pub fn project(&self, text: &Tensor) -> Result<ConnectedText> {
        Ok(ConnectedText(match self {
            Self::Ella(connector) => Part::Projected(connector.project(text)?),
            Self::Mlp(connector) => Part::Whole(connector.forward(text)?, None),
            Self::Adapter(adapter) => {
                let (tokens, pooled) = adapter.forward(text)?;
                Part::Whole(tokens, Some(pooled))
            }
        }))
    }

    /// What the UNet attends to at `timestep`: [b, tokens, output width].
    ///
    /// # Errors
    /// The tensor operation failed, or the text went through a connector of another kind.
    pub fn forward(&self, text: &ConnectedText, timestep: f64) -> Result<Tensor> {
        match (self, &text.0) {
            (Self::Ella(connector), Part::Projected(text)) => connector.forward(text, timestep),
            (Self::Mlp(_) | Self::Adapter(_), Part::Whole(tokens, _)) => Ok(tokens.clone()),
            _ => candle_core::bail!("the text went through a connector of another kind"),
        }
    }

    /// Whether what the UNet attends to depends on the timestep.
    pub fn feels_time(&self) -> bool {
        match self {
            Self::Ella(connector) => connector.feels_time(),
            Self::Mlp(_) | Self::Adapter(_) => false,
        }
    }

    /// Whether it makes the pooled vector too.
    pub fn pools(&self) -> bool {
        matches!(self, Self::Adapter(_))
    }

    /// Tokens of a text that it sees; all where there is nothing.
    pub fn most_tokens(&self) -> Option<usize> {
        match self {
            Self::Adapter(adapter) => Some(adapter.most_tokens()),
            Self::Ella(_) | Self::Mlp(_) => None,
        }
    }

    /// What kind it is, as runs record it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ella(connector) => connector.kind(),
            Self::Mlp(_) => "mlp",
            Self::Adapter(_) => "llm-to-sdxl",
        }
    }

    /// Width of the hidden states that go in.
    pub fn input_width(&self) -> usize {
        match self {
            Self::Ella(connector) => connector.input_width(),
            Self::Mlp(connector) => connector.input_width(),
            Self::Adapter(adapter) => adapter.input_width(),
        }
    }

    /// Width of the tokens that come out.
    pub fn output_width(&self) -> usize {
        match self {
            Self::Ella(connector) => connector.output_width(),
            Self::Mlp(connector) => connector.output_width(),
            Self::Adapter(adapter) => adapter.output_width(),
        }
    }

    /// Digest of the file, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        match self {
            Self::Ella(connector) => connector.sha256(),
            Self::Mlp(connector) => connector.sha256(),
            Self::Adapter(adapter) => adapter.sha256(),
        }
    }
}

impl ConnectedText {
    /// The pooled vector [b, width], where the connector makes one.
    pub fn pooled(&self) -> Option<&Tensor> {
        match &self.0 {
            Part::Projected(_) => None,
            Part::Whole(_, pooled) => pooled.as_ref(),
        }
    }
}
