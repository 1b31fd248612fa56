//! In: the shape of a product. Out: the product with the weights as they are stored and packed, for
//! `benches/products.rs` to time side by side. No result depends on it.

use candle_core::{DType, Device, Module, Result, Tensor};

use super::layers::Linear;

/// Made-up rows and weights, which lie in memory more than once, so that they can be read from cold.
#[derive(Debug)]
pub struct BothSides {
    x: Tensor,
    plain: Vec<Linear>,
    packed: Vec<Linear>,
}

impl BothSides {
    /// `rows` x `input` by `input` x `output`, f32, on the processor, with weights `copies` times.
    ///
    /// # Errors
    /// There is no memory for them, or the weights are too few to be packed.
    pub fn new(rows: usize, input: usize, output: usize, copies: usize) -> Result<Self> {
        let numbers = |rows: usize, columns: usize, step: f64| {
            let count = (rows * columns) as u32;
            let angles = Tensor::arange(0u32, count, &Device::Cpu)?.to_dtype(DType::F32)?;
            (angles * step)?.sin()?.reshape((rows, columns))
        };
        let weight = |copy: usize| numbers(output, input, 0.7 + copy as f64);
        let plain = |copy: usize| Ok(Linear::of(weight(copy)?, None));
        let packed = |copy: usize| {
            let layer = Linear::of(weight(copy)?, None).for_few_rows();
            match layer.tensor() {
                None => Ok(layer),
                Some(_) => candle_core::bail!("{output} x {input} weights are not packed"),
            }
        };
        Ok(Self {
            x: numbers(rows, input, 0.3)?,
            plain: (0..copies).map(plain).collect::<Result<_>>()?,
            packed: (0..copies).map(packed).collect::<Result<_>>()?,
        })
    }

    /// The product [rows, output] with the weights of `copy` as they are stored.
    ///
    /// # Errors
    /// There is no such copy.
    pub fn plain(&self, copy: usize) -> Result<Tensor> {
        product(&self.plain, copy, &self.x)
    }

    /// The same, packed.
    ///
    /// # Errors
    /// There is no such copy.
    pub fn packed(&self, copy: usize) -> Result<Tensor> {
        product(&self.packed, copy, &self.x)
    }
}

fn product(layers: &[Linear], copy: usize, x: &Tensor) -> Result<Tensor> {
    match layers.get(copy) {
        Some(layer) => layer.forward(x),
        None => candle_core::bail!("{} copies, no number {copy}", layers.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_make_the_same_product() {
        let both = BothSides::new(3, 512, 512, 2).unwrap();
        let values =
            |x: Result<Tensor>| x.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (plain, packed) in values(both.plain(1)).iter().zip(values(both.packed(1))) {
            assert!((plain - packed).abs() < 1e-3);
        }
        assert!(values(both.plain(0)) != values(both.plain(1)));
        assert!(both.plain(2).is_err() && BothSides::new(3, 4, 5, 1).is_err());
    }
}
