//! In: maps that a ControlNet made beside a UNet. Out: the UNet's own maps with these added, as
//! `UNet2DConditionModel` of diffusers adds them; and whether the two fit.

use candle_core::{Result, Tensor};

use crate::compute::layers::sum_of_maps;

/// What a ControlNet adds to the maps of a UNet.
#[derive(Debug, Clone)]
pub struct ControlResiduals {
    /// One for each map that the way down leaves, in its order.
    pub down: Vec<Tensor>,
    /// For the map of the middle.
    pub middle: Tensor,
}

impl ControlResiduals {
    /// Adds its maps to `skips`; the map `middle` with what is added to it.
    pub(super) fn add_to(&self, skips: &mut [Tensor], middle: &Tensor) -> Result<Tensor> {
        if skips.len() != self.down.len() {
            candle_core::bail!(
                "{} maps of a ControlNet for the {} of this UNet",
                self.down.len(),
                skips.len()
            )
        }
        for (skip, residual) in skips.iter_mut().zip(&self.down) {
            *skip = sum_of_maps(skip, residual)?;
        }
        sum_of_maps(middle, &self.middle)
    }
}

/// The maps that a network's way down leaves, from the top down: two networks whose maps are to be added have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// Channels of each level.
    pub channels: Vec<usize>,
    /// Residual blocks of each level.
    pub layers: Vec<usize>,
}

impl std::fmt::Display for Levels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let listed = |numbers: &[usize]| {
            numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (channels, layers) = (listed(&self.channels), listed(&self.layers));
        write!(f, "levels of {channels} channels with {layers} residual blocks")
    }
}
