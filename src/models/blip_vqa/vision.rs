//! In: normalised pictures. Out: the states of BLIP's vision transformer for every patch, through its last
//! norm.

use candle_core::{Module, Result, Tensor};

use super::config::{BlipVqaConfig, VisionSize};
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Activation, LayerNorm, Linear, LoadResult, square_patches};

#[derive(Debug)]
pub(super) struct Vision {
    /// A convolution whose stride is its side: a product with the pictures' patches as rows.
    patch_embedding: Linear,
    /// [1, 1, width].
    class: Tensor,
    /// [1, 1 + patches, width].
    positions: Tensor,
    layers: Vec<Layer>,
    post_layernorm: LayerNorm,
    patch: usize,
    side: usize,
}

impl Vision {
    pub(super) fn load(config: &BlipVqaConfig, weights: &Weights) -> LoadResult<Self> {
        let (width, patch, size) = (config.text.width, config.patch, config.vision);
        let root = weights.root().at("vision_model");
        let embeddings = root.at("embeddings");
        let conv = embeddings.at("patch_embedding");
        let weight = conv
            .tensor("weight", &[width, 3, patch, patch])?
            .reshape((width, 3 * patch * patch))
            .map_err(|source| conv.refused("weight", source))?;
        let grid = config.image_size / patch;
        let layers = root.at("encoder.layers");
        Ok(Self {
            patch_embedding: Linear::new(weight, conv.tensor("bias", &[width])?),
            class: embeddings.tensor("class_embedding", &[1, 1, width])?,
            positions: embeddings.tensor("position_embedding", &[1, 1 + grid * grid, width])?,
            layers: (0..size.layers)
                .map(|number| Layer::load(&layers.at(number), width, size))
                .collect::<LoadResult<_>>()?,
            post_layernorm: LayerNorm::load(&root.at("post_layernorm"), width, size.eps)?,
            patch,
            side: config.image_size,
        })
    }

    /// States [b, 1 + patches, width] of `pixels` [b, 3, side, side]; the class token first, then the
    /// patches row by row.
    pub(super) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let rows = square_patches(&pixels.to_dtype(self.class.dtype())?, self.side, self.patch)?;
        let batch = rows.dim(0)?;
        let patches = self.patch_embedding.forward(&rows)?;
        let class = self.class.broadcast_as((batch, 1, self.class.dim(2)?))?;
        let x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?;
        let x = self.layers.iter().try_fold(x, |x, layer| layer.forward(&x))?;
        self.post_layernorm.forward(&x)
    }
}

/// Self-attention and a feed-forward, each behind its norm and beside its shortcut.
#[derive(Debug)]
struct Layer {
    layer_norm1: LayerNorm,
    /// Queries, keys and values in one product.
    qkv: Linear,
    projection: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    width: usize,
    heads: usize,
    activation: Activation,
}

impl Layer {
    fn load(scope: &Scope, width: usize, size: VisionSize) -> LoadResult<Self> {
        let VisionSize { inner, heads, activation, eps, .. } = size;
        let (attention, mlp) = (scope.at("self_attn"), scope.at("mlp"));
        Ok(Self {
            layer_norm1: LayerNorm::load(&scope.at("layer_norm1"), width, eps)?,
            qkv: Linear::load(&attention.at("qkv"), width, 3 * width)?,
            projection: Linear::load(&attention.at("projection"), width, width)?,
            layer_norm2: LayerNorm::load(&scope.at("layer_norm2"), width, eps)?,
            fc1: Linear::load(&mlp.at("fc1"), width, inner)?,
            fc2: Linear::load(&mlp.at("fc2"), inner, width)?,
            width,
            heads,
            activation,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let all = self.qkv.forward(&self.layer_norm1.forward(x)?)?;
        let third = |number: usize| all.narrow(2, number * self.width, self.width);
        let (visible, packing) = (AttentionMask::All, self.projection.packing());
        let mixed = attend(&third(0)?, &third(1)?, &third(2)?, self.heads, visible, packing)?;
        let x = self.projection.forward_with_shortcut(&mixed, x)?;
        let inner = self.fc1.forward(&self.layer_norm2.forward(&x)?)?;
        self.fc2.forward_with_shortcut(&self.activation.apply_to_own(inner)?, &x)
    }
}
