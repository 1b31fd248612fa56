//! In: the pooled text and the sizes of a picture. Out: what is added to the timestep's embedding.
//! Follows `addition_embed_type = "text_time"` of diffusers.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Result, Tensor};

use super::timestep::{Sinusoid, TimestepEmbedding};
use crate::checkpoint::weights::Scope;
use crate::compute::layers::LoadResult;

/// What SDXL's UNet is told beside the text's hidden states. Clones share what a network has made of it.
#[derive(Debug, Clone)]
pub struct AddedCondition {
    /// Pooled text, [b, width], or [1, width] for all entries of the batch.
    pub pooled: Tensor,
    /// Original height and width, top and left of the crop, target height and width, in pixels; the
    /// same for all entries of the batch.
    pub time_ids: Vec<f64>,
    /// By the network, the newest last.
    embedded: Arc<Mutex<Vec<Embedded>>>,
}

/// Networks whose embedding is kept: a UNet's, and that of a ControlNet beside it.
const NETWORKS: usize = 2;

/// What one network has made of it, for a batch.
#[derive(Debug)]
struct Embedded {
    network: u64,
    batch: usize,
    embedding: Tensor,
}

impl AddedCondition {
    /// Of `pooled` [1 or b, width] and `time_ids`.
    pub fn new(pooled: Tensor, time_ids: Vec<f64>) -> Self {
        Self { pooled, time_ids, embedded: Arc::default() }
    }

    /// What the network of that number makes of it for a batch, by `embed` where it is not at hand: it is the same at
    /// every timestep.
    pub(crate) fn embedding(
        &self,
        network: u64,
        batch: usize,
        embed: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut kept = self.embedded.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |kept: &&Embedded| kept.network == network && kept.batch == batch;
        if let Some(Embedded { embedding, .. }) = kept.iter().find(same) {
            return Ok(embedding.clone());
        }
        let embedding = embed()?;
        kept.retain(|kept| kept.network != network);
        if kept.len() == NETWORKS {
            kept.remove(0);
        }
        kept.push(Embedded { network, batch, embedding: embedding.clone() });
        Ok(embedding)
    }
}

/// Dimensions of the embedding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextTimeSize {
    /// How one size becomes a row of numbers.
    pub(crate) sinusoid: Sinusoid,
    /// Width of pooled text and all sizes together.
    pub(crate) input: usize,
}

/// Embeds an [`AddedCondition`].
#[derive(Debug)]
pub(crate) struct TextTimeEmbedding {
    size: TextTimeSize,
    embedding: TimestepEmbedding,
}

impl TextTimeEmbedding {
    /// The tensors under `add_embedding`.
    pub(crate) fn load(scope: &Scope, size: TextTimeSize, width: usize) -> LoadResult<Self> {
        Ok(Self { size, embedding: TimestepEmbedding::load(scope, size.input, width)? })
    }

    /// [b, time width] for a batch of `batch`. The sinusoids are f32, and only then cast: in half
    /// precision the angle of a thousand pixels means nothing.
    pub(crate) fn forward(
        &self,
        added: &AddedCondition,
        batch: usize,
        dtype: DType,
    ) -> Result<Tensor> {
        let (rows, width) = added.pooled.dims2()?;
        let sizes = added.time_ids.len();
        if self.pooled_width(sizes) != Some(width) || (rows != 1 && rows != batch) {
            candle_core::bail!(
                "pooled text {:?} with {sizes} sizes for a batch of {batch}: this UNet takes \
                 [b, {}]",
                added.pooled.dims(),
                self.pooled_width(sizes).unwrap_or(0)
            )
        }
        let mut parts = vec![added.pooled.to_dtype(DType::F32)?];
        for &size in &added.time_ids {
            let row = self.size.sinusoid.of(size, added.pooled.device())?;
            parts.push(row.repeat((rows, 1))?);
        }
        self.embedding.forward(&Tensor::cat(&parts, 1)?.to_dtype(dtype)?)
    }

    /// Width that is left for pooled text beside `sizes` sizes.
    pub(crate) fn pooled_width(&self, sizes: usize) -> Option<usize> {
        self.size.input.checked_sub(sizes * self.size.sinusoid.width).filter(|width| *width > 0)
    }
}
