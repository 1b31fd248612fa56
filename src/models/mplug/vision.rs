//! In: normalised pictures. Out: the states of CLIP's vision transformer for every patch, through its
//! last norm and, where the widths differ, the projection to the text's width.

use candle_core::{Module, Result, Tensor};

use super::config::{MplugConfig, VISION_HEAD};
use crate::checkpoint::file_fault::FileFault;
use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Activation, LayerNorm, Linear, LoadResult, square_patches};

/// Of CLIP's norms, which no configuration names.
const EPS: f64 = 1e-5;
/// Of the norm after the projection.
const PROJECTED_EPS: f64 = 1e-12;

#[derive(Debug)]
pub(super) struct Vision {
    /// A convolution whose stride is its side: a product with the pictures' patches as rows.
    conv1: Linear,
    /// [width].
    class: Tensor,
    /// [1 + patches, width].
    positions: Tensor,
    ln_pre: LayerNorm,
    blocks: Vec<Block>,
    ln_post: LayerNorm,
    projection: Option<(Linear, LayerNorm)>,
    patch: usize,
    side: usize,
}

impl Vision {
    pub(super) fn load(config: &MplugConfig, weights: &Weights) -> LoadResult<Self> {
        let width = config.vision_width;
        let root = weights.root();
        let scope = root.at("visual_encoder.visual");
        let tokens = config.grid() * config.grid() + 1;
        check_positions(config, &scope, tokens)?;
        let conv = scope.at("conv1");
        let conv1 = conv
            .tensor("weight", &[width, 3, config.patch, config.patch])?
            .reshape((width, 3 * config.patch * config.patch))
            .map_err(|source| conv.refused("weight", source))?;
        let projection = config
            .projects()
            .then(|| {
                let target = config.bert.width;
                let linear = Linear::load(&root.at("visn_fc"), width, target)?;
                let norm = LayerNorm::load(&root.at("visn_layer_norm"), target, PROJECTED_EPS)?;
                LoadResult::Ok((linear, norm))
            })
            .transpose()?;
        let blocks = scope.at("transformer.resblocks");
        Ok(Self {
            conv1: Linear::without_bias(conv1),
            class: scope.tensor("class_embedding", &[width])?,
            positions: scope.tensor("positional_embedding", &[tokens, width])?,
            ln_pre: LayerNorm::load(&scope.at("ln_pre"), width, EPS)?,
            blocks: (0..config.vision_layers)
                .map(|number| Block::load(&blocks.at(number), width))
                .collect::<LoadResult<_>>()?,
            ln_post: LayerNorm::load(&scope.at("ln_post"), width, EPS)?,
            projection,
            patch: config.patch,
            side: config.image_res,
        })
    }

    /// States [b, 1 + patches, text width] of `pixels` [b, 3, side, side]; the class token first, then
    /// the patches row by row.
    pub(super) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let rows = square_patches(&pixels.to_dtype(self.class.dtype())?, self.side, self.patch)?;
        let batch = rows.dim(0)?;
        let patches = self.conv1.forward(&rows)?;
        let class = self.class.reshape((1, 1, ()))?.broadcast_as((batch, 1, self.class.dim(0)?))?;
        let x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?;
        let x = self.blocks.iter().try_fold(self.ln_pre.forward(&x)?, |x, b| b.forward(&x))?;
        let x = self.ln_post.forward(&x)?;
        match &self.projection {
            Some((linear, norm)) => norm.forward(&linear.forward(&x)?),
            None => Ok(x),
        }
    }
}

/// The table is not interpolated: the original takes it as it is, too.
fn check_positions(config: &MplugConfig, scope: &Scope, tokens: usize) -> LoadResult<()> {
    let Some(&[rows, _]) = scope.shape("positional_embedding") else { return Ok(()) };
    if rows == tokens {
        return Ok(());
    }
    let side = rows.saturating_sub(1).isqrt();
    let fits = if side * side + 1 == rows {
        format!(", those of image_res {}", side * config.patch)
    } else {
        String::new()
    };
    Err(ModelError::broken(
        &config.path,
        FileFault::Network(format!(
            "image_res {} and patches of {} make {tokens} positions, but the weights' table \
             visual_encoder.visual.positional_embedding has {rows}{fits}; do the two files belong \
             together?",
            config.image_res, config.patch
        )),
    ))
}

/// Self-attention and a feed-forward, each behind its norm and beside its shortcut.
#[derive(Debug)]
struct Block {
    ln_1: LayerNorm,
    /// Queries, keys and values in one product.
    in_proj: Linear,
    out_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    c_proj: Linear,
    width: usize,
}

impl Block {
    fn load(scope: &Scope, width: usize) -> LoadResult<Self> {
        let (attn, mlp) = (scope.at("attn"), scope.at("mlp"));
        Ok(Self {
            ln_1: LayerNorm::load(&scope.at("ln_1"), width, EPS)?,
            in_proj: Linear::new(
                attn.tensor("in_proj_weight", &[3 * width, width])?,
                attn.tensor("in_proj_bias", &[3 * width])?,
            ),
            out_proj: Linear::load(&attn.at("out_proj"), width, width)?,
            ln_2: LayerNorm::load(&scope.at("ln_2"), width, EPS)?,
            c_fc: Linear::load(&mlp.at("c_fc"), width, 4 * width)?,
            c_proj: Linear::load(&mlp.at("c_proj"), 4 * width, width)?,
            width,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let all = self.in_proj.forward(&self.ln_1.forward(x)?)?;
        let third = |number: usize| all.narrow(2, number * self.width, self.width);
        let heads = self.width / VISION_HEAD;
        let (visible, packing) = (AttentionMask::All, self.out_proj.packing());
        let mixed = attend(&third(0)?, &third(1)?, &third(2)?, heads, visible, packing)?;
        let x = self.out_proj.forward_with_shortcut(&mixed, x)?;
        let inner = self.c_fc.forward(&self.ln_2.forward(&x)?)?;
        self.c_proj.forward_with_shortcut(&Activation::QuickGelu.apply_to_own(inner)?, &x)
    }
}
