//! In: a text's length and a picture's grid. Out: queries and keys, turned by where each token stands. Follows `FluxPosEmbed`
//! and `apply_rotary_emb` of diffusers: a token of text stands at 0, one of the picture in its row and column.

use candle_core::{DType, Device, Result, Tensor};

/// Slowest turn, as a divisor of the quickest.
const THETA: f64 = 10_000.0;

/// Cosines and sines of angles, [tokens, width / 2] each, f32.
#[derive(Debug)]
pub(super) struct Rotary {
    cosines: Tensor,
    sines: Tensor,
}

impl Rotary {
    /// Of `words` tokens of text, then `rows` x `columns` of a picture, for `heads` heads; `axes` numbers of each turn with a
    /// first axis on which all stand at 0, with the row and with the column. Angles are f64, as there.
    pub(super) fn of(
        words: usize,
        (rows, columns): (usize, usize),
        axes: [usize; 3],
        heads: usize,
        device: &Device,
    ) -> Result<Self> {
        let frequencies = axes.map(|size| -> Vec<f64> {
            let numbers = (0..size).step_by(2);
            numbers.map(|number| 1.0 / THETA.powf(number as f64 / size as f64)).collect()
        });
        let text = (0..words).map(|_| [0.0; 3]);
        let picture = (0..rows)
            .flat_map(|row| (0..columns).map(move |column| [0.0, row as f64, column as f64]));
        let angles = text.chain(picture).flat_map(|place| {
            let of_axis = place.into_iter().zip(&frequencies);
            of_axis.flat_map(|(place, frequencies)| frequencies.iter().map(move |by| place * by))
        });
        let angles: Vec<f64> = angles.collect();
        let (tokens, half) = (words + rows * columns, axes.iter().sum::<usize>() / 2);
        // The same for each head.
        let spread = |values: Vec<f32>| -> Result<Tensor> {
            Tensor::from_vec(values, (tokens, 1, half), device)?
                .broadcast_as((tokens, heads, half))?
                .contiguous()?
                .reshape((tokens, heads * half))
        };
        Ok(Self {
            cosines: spread(angles.iter().map(|angle| angle.cos() as f32).collect())?,
            sines: spread(angles.iter().map(|angle| angle.sin() as f32).collect())?,
        })
    }

    /// `x` [b, tokens, width] turned, each number of even place in its head with the next.
    pub(super) fn turn(&self, x: &Tensor) -> Result<Tensor> {
        // Pairs are neighbours, so that all heads are to the function one.
        let exact = x.to_dtype(DType::F32)?.contiguous()?.unsqueeze(1)?;
        candle_nn::rotary_emb::rope_i(&exact, &self.cosines, &self.sines)?
            .squeeze(1)?
            .to_dtype(x.dtype())
    }
}
