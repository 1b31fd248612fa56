//! In: a picture's grid, or how far a text has come. Out: where each patch and token stands, as the
//! angles by which attention turns its heads and the learnt positions that a patch lies between.
//! Follows `Qwen3VLModel.get_rope_index`, both rotary embeddings and
//! `get_vision_interpolation_indices_and_weights` of transformers. In f32, as there.

use candle_core::{Device, Result};

use super::grid::Grid;
use crate::models::rotary::{RotaryEmbedding, frequencies};

/// Where each token of a text with a picture stands: (time, row, column). Text counts on by one in all
/// three; a picture's tokens stand at one time, spread over rows and columns.
#[derive(Debug, Clone, Default)]
pub(super) struct PositionIds {
    pub(super) tokens: Vec<[u32; 3]>,
    /// Where the next token of text stands.
    pub(super) next: u32,
}

impl PositionIds {
    /// After a text that came as far as `next`.
    pub(super) fn after(next: u32) -> Self {
        Self { tokens: Vec::new(), next }
    }

    /// `count` tokens of text.
    pub(super) fn text(&mut self, count: usize) {
        for _ in 0..count {
            self.tokens.push([self.next; 3]);
            self.next += 1;
        }
    }

    /// A picture of `rows` x `columns` tokens.
    pub(super) fn picture(&mut self, rows: usize, columns: usize) {
        let first = self.next;
        for row in 0..rows as u32 {
            self.tokens
                .extend((0..columns as u32).map(|column| [first, first + row, first + column]));
        }
        self.next += rows.max(columns) as u32;
    }
}

impl RotaryEmbedding {
    /// Of patches, for heads of `head` numbers: half of the frequencies turn with the row, half with
    /// the column.
    pub(super) fn of_patches(
        places: &[[usize; 2]],
        head: usize,
        theta: f32,
        device: &Device,
    ) -> Result<Self> {
        let frequencies = frequencies(head / 2, theta);
        let angles = places
            .iter()
            .flatten()
            .flat_map(|place| frequencies.iter().map(move |frequency| *place as f32 * frequency));
        Self::new(angles.collect(), places.len(), device)
    }

    /// Of tokens, for heads of `head` numbers. Of each three frequencies one turns with time, one with
    /// the row and one with the column, up to `sections` of the latter; the others turn with time.
    pub(super) fn of_tokens(
        places: &[[u32; 3]],
        head: usize,
        theta: f32,
        sections: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        let frequencies = frequencies(head, theta);
        let axis = |number: usize| match number % 3 {
            axis @ (1 | 2) if number < 3 * sections[axis - 1] => axis,
            _ => 0,
        };
        let angles = places.iter().flat_map(|place| {
            let frequencies = frequencies.iter().enumerate();
            frequencies.map(|(number, frequency)| place[axis(number)] as f32 * frequency)
        });
        Self::new(angles.collect(), places.len(), device)
    }
}

/// The four learnt positions, of a table of `side` x `side`, that each patch lies between, and the weight
/// of each. The corners of the grid lie on the corners of the table.
pub(super) fn neighbours(places: &[[usize; 2]], grid: Grid, side: usize) -> (Vec<u32>, Vec<f32>) {
    let along = |place: usize, length: usize| {
        let source = (place * (side - 1)) as f32 / (length - 1).max(1) as f32;
        let below = source.floor();
        let (share, next) = (source - below, (below as usize + 1).min(side - 1));
        [(below as usize, 1.0 - share), (next, 1.0 - (share - 1.0).abs())]
    };
    let (mut numbers, mut weights) = (Vec::new(), Vec::new());
    for [row, column] in places {
        for (row, of_row) in along(*row, grid.rows) {
            for (column, of_column) in along(*column, grid.columns) {
                numbers.push((row * side + column) as u32);
                weights.push(of_row * of_column);
            }
        }
    }
    (numbers, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_stand_square_by_square() {
        let places = Grid { rows: 4, columns: 4 }.places(2);
        assert_eq!(places[..6], [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3]]);
        assert_eq!(places[8], [2, 0]);
        assert_eq!(places.len(), 16);
    }

    #[test]
    fn text_goes_on_after_the_longer_side_of_a_picture() {
        let mut places = PositionIds::default();
        places.text(2);
        places.picture(2, 3);
        places.text(1);
        let expected = [
            [0; 3],
            [1; 3],
            [2, 2, 2],
            [2, 2, 3],
            [2, 2, 4],
            [2, 3, 2],
            [2, 3, 3],
            [2, 3, 4],
            [5; 3],
        ];
        assert_eq!(places.tokens, expected);
        assert_eq!(places.next, 6);
    }

    #[test]
    fn a_patch_between_four_learnt_positions_takes_from_each() {
        let grid = Grid { rows: 2, columns: 3 };
        let (numbers, weights) = neighbours(&[[0, 0], [1, 1], [1, 2]], grid, 4);
        assert_eq!(numbers, [0, 1, 4, 5, 13, 14, 13, 14, 15, 15, 15, 15]);
        assert_eq!(weights, [1.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
