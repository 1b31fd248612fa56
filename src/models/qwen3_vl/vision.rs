//! In: the patches of one picture. Out: its tokens for the language network, and the tokens that are
//! added to that network's first layers (DeepStack). Follows `Qwen3VLVisionModel` of transformers.

use candle_core::{DType, Module, Result, Tensor};

use super::config::VisionSizes;
use super::grid::{Grid, ImageStates};
use super::positions::neighbours;
use crate::checkpoint::weights::Scope;
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Activation, LayerNorm, Linear, LoadResult};
use crate::models::rotary::RotaryEmbedding;

/// Of every norm here.
const EPS: f64 = 1e-6;

/// The network that sees.
#[derive(Debug)]
pub(super) struct Vision {
    /// The convolution over patches that do not overlap: one product.
    patches: Linear,
    /// [side * side, width], f32.
    positions: Tensor,
    blocks: Vec<Block>,
    merger: Merger,
    /// For the blocks of `sizes.tapped`.
    tapped: Vec<Merger>,
    sizes: VisionSizes,
    /// Number format of the states.
    dtype: DType,
}

impl Vision {
    pub(super) fn load(
        scope: &Scope,
        sizes: VisionSizes,
        output: usize,
        dtype: DType,
    ) -> LoadResult<Self> {
        let VisionSizes { width, channels, frames, patch, side, .. } = sizes;
        let first = scope.at("patch_embed.proj");
        let weight = first.tensor("weight", &[width, channels, frames, patch, patch])?;
        let weight = weight
            .reshape((width, channels * frames * patch * patch))
            .map_err(|source| first.refused("weight", source))?;
        let table = scope.at("pos_embed");
        let positions = table
            .tensor("weight", &[side * side, width])?
            .to_dtype(DType::F32)
            .map_err(|source| table.refused("weight", source))?;
        let mergers = scope.at("deepstack_merger_list");
        let blocks = scope.at("blocks");
        Ok(Self {
            patches: Linear::new(weight, first.tensor("bias", &[width])?),
            positions,
            blocks: (0..sizes.depth)
                .map(|number| Block::load(&blocks.at(number), &sizes))
                .collect::<LoadResult<_>>()?,
            merger: Merger::load(&scope.at("merger"), &sizes, output, false)?,
            tapped: (0..sizes.tapped.len())
                .map(|number| Merger::load(&mergers.at(number), &sizes, output, true))
                .collect::<LoadResult<_>>()?,
            sizes,
            dtype,
        })
    }

    /// See [`super::Qwen3Vl::encode_image`].
    pub(super) fn forward(&self, patches: &Tensor, grid: Grid) -> Result<ImageStates> {
        let VisionSizes { merge, side, width, heads, .. } = self.sizes;
        let fits = grid.rows.is_multiple_of(merge) && grid.columns.is_multiple_of(merge);
        if !fits || grid.rows * grid.columns == 0 || patches.dim(0)? != grid.rows * grid.columns {
            candle_core::bail!(
                "{} patches are no grid of {} x {} in squares of {merge}",
                patches.dim(0)?,
                grid.rows,
                grid.columns
            )
        }
        let device = self.positions.device();
        let places = grid.places(merge);
        let (numbers, weights) = neighbours(&places, grid, side);
        let numbers = Tensor::from_vec(numbers, 4 * places.len(), device)?;
        let weights = Tensor::from_vec(weights, (places.len(), 4, 1), device)?;
        let positions = self
            .positions
            .index_select(&numbers, 0)?
            .reshape((places.len(), 4, width))?
            .broadcast_mul(&weights)?
            .sum(1)?
            .to_dtype(self.dtype)?;
        let patches = patches.to_device(device)?.to_dtype(self.dtype)?;
        let mut x = (self.patches.forward(&patches)? + positions)?;
        let turns = RotaryEmbedding::of_patches(&places, width / heads, self.sizes.theta, device)?;
        let mut deepstack = Vec::with_capacity(self.tapped.len());
        for (number, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &turns, heads)?;
            // One merger per entry, as listed; the language network takes them in the blocks' order.
            let entry = self.sizes.tapped.iter().position(|block| *block == number);
            if let Some(merger) = entry.and_then(|entry| self.tapped.get(entry)) {
                deepstack.push(merger.forward(&x)?);
            }
        }
        Ok(ImageStates {
            tokens: self.merger.forward(&x)?,
            deepstack,
            rows: grid.rows / merge,
            columns: grid.columns / merge,
        })
    }
}

/// Attention and a feed-forward, each behind its norm and beside its shortcut.
#[derive(Debug)]
struct Block {
    attention_norm: LayerNorm,
    query_key_value: Linear,
    out: Linear,
    feed_forward_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    activation: Activation,
}

impl Block {
    fn load(scope: &Scope, sizes: &VisionSizes) -> LoadResult<Self> {
        let VisionSizes { width, inner, activation, .. } = *sizes;
        Ok(Self {
            attention_norm: LayerNorm::load(&scope.at("norm1"), width, EPS)?,
            query_key_value: Linear::load(&scope.at("attn.qkv"), width, 3 * width)?,
            out: Linear::load(&scope.at("attn.proj"), width, width)?,
            feed_forward_norm: LayerNorm::load(&scope.at("norm2"), width, EPS)?,
            inner: Linear::load(&scope.at("mlp.linear_fc1"), width, inner)?,
            outer: Linear::load(&scope.at("mlp.linear_fc2"), inner, width)?,
            activation,
        })
    }

    fn forward(&self, x: &Tensor, turns: &RotaryEmbedding, heads: usize) -> Result<Tensor> {
        let (count, width) = x.dims2()?;
        let all = self.query_key_value.forward(&self.attention_norm.forward(x)?)?;
        let turned = |third: usize| {
            let heads = all.narrow(1, third * width, width)?.reshape((count, heads, ()))?;
            turns.apply(&heads)?.reshape((1, count, width))
        };
        let value = all.narrow(1, 2 * width, width)?.unsqueeze(0)?;
        let (visible, packing) = (AttentionMask::All, self.out.packing());
        let mixed = attend(&turned(0)?, &turned(1)?, &value, heads, visible, packing)?;
        let x = self.out.forward_with_shortcut(&mixed.squeeze(0)?, x)?;
        let inner = self.inner.forward(&self.feed_forward_norm.forward(&x)?)?;
        self.outer.forward_with_shortcut(&self.activation.apply_to_own(inner)?, &x)
    }
}

/// Makes one token of each square of patches.
#[derive(Debug)]
struct Merger {
    norm: LayerNorm,
    /// Whether the norm is over the whole square rather than over each patch.
    of_squares: bool,
    /// Numbers of a square.
    square: usize,
    inner: Linear,
    outer: Linear,
}

impl Merger {
    fn load(
        scope: &Scope,
        sizes: &VisionSizes,
        output: usize,
        of_squares: bool,
    ) -> LoadResult<Self> {
        let square = sizes.width * sizes.merge * sizes.merge;
        let normed = if of_squares { square } else { sizes.width };
        Ok(Self {
            norm: LayerNorm::load(&scope.at("norm"), normed, EPS)?,
            of_squares,
            square,
            inner: Linear::load(&scope.at("linear_fc1"), square, square)?,
            outer: Linear::load(&scope.at("linear_fc2"), square, output)?,
        })
    }

    /// `x` [patches, width] to [tokens, width of the language network].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let squares = |x: &Tensor| x.reshape(((), self.square));
        let normed = if self.of_squares {
            self.norm.forward(&squares(x)?)?
        } else {
            squares(&self.norm.forward(x)?)?
        };
        // The exact GELU here, whatever the configuration says of the blocks.
        let inner = Activation::Gelu.apply(&self.inner.forward(&normed)?)?;
        self.outer.forward(&inner)
    }
}
