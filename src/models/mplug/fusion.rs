//! In: the states of images and of questions about them. Out: the questions' states after they have
//! looked at their image and, in networks whose layers join the two, the image's states after they have
//! read the question.

use candle_core::{Result, Tensor};

use super::config::MplugConfig;
use crate::checkpoint::weights::Weights;
use crate::compute::key_groups::Group;
use crate::compute::layers::LoadResult;
use crate::models::bert::{BertLayer, FusedKeysAndValues, KeysAndValues, SelfAttentionMask};

/// The layers of the fusion encoder that are used: the last of those that the files hold.
#[derive(Debug)]
pub(super) struct Fusion {
    /// Without cross-attention where a layer joins.
    layers: Vec<FusionLayer>,
    /// Those of the layers up to the first one that joins.
    joined_keys: Option<FusedKeysAndValues>,
}

#[derive(Debug)]
struct FusionLayer {
    layer: BertLayer,
    /// Image and text go through as one sequence; else the text looks at the image.
    joins: bool,
}

/// Questions as they go through the layers.
pub(super) struct Fused {
    /// Tokens of all questions, [tokens, width].
    pub(super) text: Tensor,
    /// States of every image, or, from the first layer on that joins, of every question's own.
    pub(super) images: Vec<Tensor>,
    /// Which of the images a question is about.
    pub(super) image_of: Vec<usize>,
    /// Tokens of every question.
    pub(super) lengths: Vec<usize>,
}

impl Fusion {
    pub(super) fn load(config: &MplugConfig, weights: &Weights) -> LoadResult<Self> {
        let scope = weights.root().at("fusion_encoder.encoder.layer");
        let unused = config.hidden_layers - config.fusion_layers;
        let layers = (0..config.fusion_layers).map(|number| {
            let joins = config.joins(number);
            let encoder_width = (!joins).then_some(config.bert.width);
            let scope = scope.at(unused + number);
            Ok(FusionLayer { layer: BertLayer::load(&scope, config.bert, encoder_width)?, joins })
        });
        let mut layers = layers.collect::<LoadResult<Vec<_>>>()?;
        let shared = layers.iter_mut().take_while(|layer| !layer.joins);
        let joined_keys = FusedKeysAndValues::new(shared.map(|layer| &mut layer.layer));
        Ok(Self { layers, joined_keys })
    }

    /// Keys and values of an image's `states` [1 + patches, width] for every layer up to the first one
    /// that joins.
    pub(super) fn image_keys(&self, states: &Tensor) -> Result<Vec<KeysAndValues>> {
        if let Some(joined) = &self.joined_keys {
            return joined.of(states);
        }
        let shared = self.layers.iter().take_while(|layer| !layer.joins);
        shared.map(|layer| layer.layer.cross_keys_and_values(states)).collect()
    }

    /// Takes `fused` through all layers. `image_keys` are those of each of its images.
    pub(super) fn forward(
        &self,
        mut fused: Fused,
        image_keys: &[&[KeysAndValues]],
    ) -> Result<Fused> {
        let mut own_images = false;
        let among = SelfAttentionMask::texts(&fused.lengths);
        for (number, FusionLayer { layer, joins }) in self.layers.iter().enumerate() {
            if *joins {
                fused = join(layer, fused)?;
                own_images = true;
                continue;
            }
            let keys: Vec<KeysAndValues> = if own_images {
                fused
                    .images
                    .iter()
                    .map(|x| layer.cross_keys_and_values(x))
                    .collect::<Result<_>>()?
            } else {
                image_keys.iter().map(|keys| keys[number].clone()).collect()
            };
            let image_of_row = fused
                .image_of
                .iter()
                .zip(&fused.lengths)
                .flat_map(|(image, length)| std::iter::repeat_n(*image, *length));
            let rows = rows_of(image_of_row, keys.len());
            let groups: Vec<Group> = rows
                .iter()
                .zip(&keys)
                .map(|(rows, keys)| Group::new(rows, vec![keys.all()]))
                .collect();
            fused.text = layer.forward(&fused.text, &among, Some(&groups))?;
        }
        Ok(fused)
    }
}

/// Every question's image and tokens as one sequence through `layer`. The image's states come out added
/// to what they were, the text's do not.
fn join(layer: &BertLayer, fused: Fused) -> Result<Fused> {
    let Fused { text, images, image_of, lengths } = fused;
    let mut pieces = Vec::with_capacity(2 * lengths.len());
    let mut joined = Vec::with_capacity(lengths.len());
    let mut first = 0;
    for (image, length) in image_of.iter().zip(&lengths) {
        pieces.extend([images[*image].clone(), text.narrow(0, first, *length)?]);
        joined.push(images[*image].dim(0)? + length);
        first += length;
    }
    let out = layer.forward(&Tensor::cat(&pieces, 0)?, &SelfAttentionMask::texts(&joined), None)?;
    let (mut own_images, mut texts) = (Vec::new(), Vec::new());
    let mut first = 0;
    for ((image, length), joined) in image_of.iter().zip(&lengths).zip(&joined) {
        let patches = joined - length;
        own_images.push((&images[*image] + out.narrow(0, first, patches)?)?);
        texts.push(out.narrow(0, first + patches, *length)?);
        first += joined;
    }
    let image_of = (0..lengths.len()).collect();
    Ok(Fused { text: Tensor::cat(&texts, 0)?, images: own_images, image_of, lengths })
}

/// The rows that belong to each of `images`, from the image of every row.
pub(crate) fn rows_of(image_of_row: impl Iterator<Item = usize>, images: usize) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); images];
    for (row, image) in image_of_row.enumerate() {
        rows[image].push(row);
    }
    rows
}
