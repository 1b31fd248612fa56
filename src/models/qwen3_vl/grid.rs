//! In: nothing. Out: how a picture is cut into patches, and what the network keeps of it.

use candle_core::Tensor;

/// Rows and columns of a picture's patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// From top to bottom.
    pub rows: usize,
    /// From left to right.
    pub columns: usize,
}

impl Grid {
    /// Row and column of each patch, in the order of the patches: square by square of `merge` x `merge`,
    /// which become one token, each from its top left corner. Both sides are multiples of `merge`.
    pub fn places(self, merge: usize) -> Vec<[usize; 2]> {
        let mut places = Vec::with_capacity(self.rows * self.columns);
        for top in (0..self.rows).step_by(merge) {
            for left in (0..self.columns).step_by(merge) {
                for row in top..top + merge {
                    places.extend((left..left + merge).map(|column| [row, column]));
                }
            }
        }
        places
    }
}

/// A picture as the language network takes it.
#[derive(Debug)]
pub struct ImageStates {
    /// [rows * columns, width].
    pub(crate) tokens: Tensor,
    /// The same shape each: what is added behind the first layers.
    pub(crate) deepstack: Vec<Tensor>,
    /// Of tokens.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl ImageStates {
    /// Tokens that the picture takes in a text.
    pub fn tokens(&self) -> usize {
        self.rows * self.columns
    }
}
