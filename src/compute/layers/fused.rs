//! In: layers, and what is done next with their results. Out: both in one, where the device has a kernel for
//! it: on a GPU a product's or a convolution's bias, shift and shortcut, the gate, the norm after it and
//! the turn from positions to channels each would cost a pass over memory and a launch of their own.
//! Elsewhere these are the plain layers, one after the other.

use candle_core::{D, DType, Module, Result, Tensor};

use super::channels_last::{channels_first, channels_last, is_channels_last, of_rows, rows};
#[cfg(feature = "cudnn")]
use super::channels_last::{channels_second, pixels_first};
use super::{Conv2d, GroupNorm, LayerNorm, Linear, RmsNorm, gated_by_gelu};
use crate::compute::cuda;
use crate::compute::cuda::{Channels, GroupNormWeights, PendingBias};

/// Whether the GPU's kernels take `x` with these beside it.
fn fits<'a>(x: &Tensor, others: impl IntoIterator<Item = Option<&'a Tensor>>) -> bool {
    cuda::apply(&[x]) && others.into_iter().flatten().all(|other| cuda::apply(&[x, other]))
}

/// Layers of one input as one, of whose product their results are views.
#[derive(Debug)]
pub(crate) struct FusedLinears {
    all: Linear,
    /// Of their results, in order.
    widths: Vec<usize>,
}

impl FusedLinears {
    /// On a GPU, layers of one input, all with biases or none; the layers become views of these, so that nothing is
    /// held twice. Elsewhere, and where there is no memory to join them, `None`, and the layers stay as they are: the
    /// processor's products gain nothing by it.
    pub(crate) fn on_gpu(parts: &mut [&mut Linear]) -> Option<Self> {
        let weights: Vec<&Tensor> =
            parts.iter().map(|part| part.tensor()).collect::<Option<_>>()?;
        if !cuda::apply(&weights) {
            return None;
        }
        let shared: Vec<&Linear> = parts.iter().map(|part| &**part).collect();
        let (all, views) = Linear::join(&shared).ok()?;
        for (part, view) in parts.iter_mut().zip(views) {
            **part = view;
        }
        let widths = parts.iter().map(|part| part.output_width()).collect();
        Some(Self { all, widths })
    }

    /// The results for `x` [..., in], in order: what uses them steps over what lies between their rows.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        cut(&self.all.forward(x)?, &self.widths)
    }

    /// The layers from number `first` on as one layer.
    pub(crate) fn from(&self, first: usize) -> Result<Linear> {
        let before = self.widths[..first].iter().sum();
        self.all.rows(before, self.all.output_width() - before)
    }
}

/// `all` [..., sum of `widths`] cut into parts of these widths, as views.
fn cut(all: &Tensor, widths: &[usize]) -> Result<Vec<Tensor>> {
    let mut first = 0;
    let parts = widths.iter().map(|width| {
        first += width;
        all.narrow(D::Minus1, first - width, *width)
    });
    parts.collect()
}

impl Linear {
    /// Weights [out, in], one below the other, and biases, as a layer, and each as a layer that looks at its rows there.
    fn join(parts: &[&Self]) -> Result<(Self, Vec<Self>)> {
        let biases: Vec<&Tensor> = parts.iter().filter_map(|part| part.bias()).collect();
        if !biases.is_empty() && biases.len() != parts.len() {
            candle_core::bail!("{} of {} layers have a bias", biases.len(), parts.len())
        }
        let weights: Vec<&Tensor> =
            parts.iter().map(|part| part.weight()).collect::<Result<_>>()?;
        let bias = (!biases.is_empty()).then(|| Tensor::cat(&biases, 0)).transpose()?;
        let all = Self::of(Tensor::cat(&weights, 0)?, bias);
        let mut first = 0;
        let views = weights.iter().map(|weight| {
            let rows = weight.dim(0)?;
            first += rows;
            all.rows(first - rows, rows)
        });
        let views = views.collect::<Result<_>>()?;
        Ok((all, views))
    }

    /// The layer of `count` rows from `first` on, as a view of this one.
    fn rows(&self, first: usize, count: usize) -> Result<Self> {
        let weight = self.weight()?.narrow(0, first, count)?;
        let bias = self.bias().map(|bias| bias.narrow(0, first, count)).transpose()?;
        Ok(Self::of(weight, bias))
    }

    /// `x @ weight^T` alone.
    fn product(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::Linear::new(self.weight()?.clone(), None).forward(&x.contiguous()?)
    }

    /// The layer's result with `shortcut` added, by the GPU's kernels.
    pub(crate) fn on_gpu(&self, x: &Tensor, shortcut: Option<&Tensor>) -> Result<Option<Tensor>> {
        let (Some(weight), bias) = (self.tensor(), self.bias()) else { return Ok(None) };
        if !fits(x, [Some(weight), bias, shortcut]) {
            return Ok(None);
        }
        if bias.is_none() && shortcut.is_none() {
            return self.product(x).map(Some);
        }
        let shortcut = shortcut.map(Tensor::contiguous).transpose()?;
        if let Some(done) = cuda::linear(&x.contiguous()?, weight, bias, shortcut.as_ref())? {
            return Ok(Some(done));
        }
        let (product, shortcut) = (self.product(x)?, shortcut.as_ref());
        cuda::finish(&product, Channels::Last, PendingBias { bias, shift: None }, shortcut)
    }

    /// `shortcut` and the layer's result, summed by the GPU's kernels where there are any, else each for
    /// itself: [`Linear::forward_with_shortcut`] begins its sums with the shortcut and rounds otherwise.
    pub(crate) fn forward_then_add(&self, x: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        match self.on_gpu(x, Some(shortcut))? {
            Some(done) => Ok(done),
            None => shortcut + self.forward(x)?,
        }
    }

    /// [`gated_by_gelu`] of the layer's result.
    pub(crate) fn forward_gated(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias();
        if let Some(weight) = self.tensor()
            && fits(x, [Some(weight), bias])
            && let Some(gated) = cuda::geglu(&self.product(x)?, bias)?
        {
            return Ok(gated);
        }
        gated_by_gelu(&self.forward(x)?)
    }

    /// The layer's result [b, n, c], turned to [b, c, n], on top of `shortcut`, which has as many numbers
    /// in that order; of the shape of `shortcut`. Not turned where that is a map channels last, as the result then is.
    pub(crate) fn forward_transposed_with_shortcut(
        &self,
        x: &Tensor,
        shortcut: &Tensor,
    ) -> Result<Tensor> {
        if is_channels_last(shortcut) {
            let (_, _, height, width) = shortcut.dims4()?;
            return of_rows(&self.forward_with_shortcut(x, &rows(shortcut)?)?, height, width);
        }
        let bias = self.bias();
        if let Some(weight) = self.tensor()
            && fits(x, [Some(weight), bias, Some(shortcut)])
        {
            let product = self.product(x)?;
            let (batch, positions, channels) = product.dims3()?;
            let flat = shortcut.reshape((batch, channels, positions))?;
            if let Some(turned) = cuda::transpose(&product, bias, Some(&flat))? {
                return turned.reshape(shortcut.shape());
            }
        }
        shortcut + self.forward(x)?.transpose(1, 2)?.contiguous()?.reshape(shortcut.shape())?
    }
}

impl Conv2d {
    /// The convolved map without its bias: by cuDNN where this build has it.
    fn forward_without_bias(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, config) = (self.inner.weight(), *self.inner.config());
        #[cfg(feature = "cudnn")]
        if cuda::cudnn_conv2d::applies(x, weight) {
            return self.by_cudnn(x);
        }
        candle_nn::Conv2d::new(weight.clone(), None, config).forward(&channels_first(x)?)
    }

    /// Whether it multiplies a map's rows by its filters and does nothing else.
    fn is_product_of_rows(&self, x: &Tensor) -> bool {
        let (weight, config) = (self.inner.weight(), self.inner.config());
        let is_pointwise =
            weight.dims().last() == Some(&1) && (config.stride, config.padding) == (1, 0);
        // In f32 a product is exact where a convolution may be allowed TF32.
        self.way.channels_last && is_pointwise && x.dtype() != DType::F32
    }

    /// A pointwise convolution as what it does to each pixel.
    fn of_pixels(&self) -> Result<Linear> {
        let (outputs, inputs, _, _) = self.inner.weight().dims4()?;
        let weight = self.inner.weight().reshape((outputs, inputs))?;
        Ok(Linear::of(weight, self.inner.bias().cloned()))
    }

    #[cfg(feature = "cudnn")]
    fn by_cudnn(&self, x: &Tensor) -> Result<Tensor> {
        use crate::compute::cuda::cudnn_conv2d::{ConvSettings, conv2d};
        let (weight, config) = (self.inner.weight(), self.inner.config());
        let (stride, padding) = (config.stride, config.padding);
        let setting = ConvSettings { stride, padding, channels_last: false, tf32: self.way.tf32 };
        if !self.way.channels_last {
            return conv2d(&channels_first(x)?, weight, setting);
        }
        let x = channels_last(x)?;
        if self.is_product_of_rows(&x) {
            let (_, _, height, width) = x.dims4()?;
            return of_rows(&self.of_pixels()?.product(&rows(&x)?)?, height, width);
        }
        let last = ConvSettings { channels_last: true, ..setting };
        match conv2d(&pixels_first(&x)?, &pixels_first(weight)?, last) {
            Ok(map) => channels_second(&map),
            // A cuDNN that does not take this order takes the plain one, which is slower.
            Err(_) => {
                channels_last(&conv2d(&channels_first(&x)?, &channels_first(weight)?, setting)?)
            }
        }
    }

    /// On a GPU, has `other`, to whose result this layer's is added, add this layer's bias with its own: one pass
    /// less. Elsewhere, and where there is no memory for it, both stay as they are.
    pub(crate) fn move_bias_on_gpu(&mut self, other: &mut Self) {
        let (Some(own), Some(its)) = (self.inner.bias(), other.inner.bias()) else { return };
        if !cuda::apply(&[own, its]) {
            return;
        }
        if let Ok(sum) = sum_of_biases(own, its) {
            let (weight, config) = (self.inner.weight().clone(), *self.inner.config());
            self.inner = candle_nn::Conv2d::new(weight, None, config);
            let (weight, config) = (other.inner.weight().clone(), *other.inner.config());
            other.inner = candle_nn::Conv2d::new(weight, Some(sum), config);
        }
    }

    /// [`Conv2d::forward_with_shortcut`] by the GPU's kernels.
    pub(crate) fn on_gpu(
        &self,
        x: &Tensor,
        shift: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let (weight, bias) = (self.inner.weight(), self.inner.bias());
        if !fits(x, [Some(weight), bias, shift, shortcut]) {
            return Ok(None);
        }
        if self.is_product_of_rows(x) && shift.is_none() {
            let (_, _, height, width) = x.dims4()?;
            let shortcut = shortcut.map(rows).transpose()?;
            if let Some(done) = self.of_pixels()?.on_gpu(&rows(x)?, shortcut.as_ref())? {
                return of_rows(&done, height, width).map(Some);
            }
        }
        let (map, owed) = (self.forward_without_bias(x)?, PendingBias { bias, shift });
        let done = match is_channels_last(&map) {
            _ if [bias, shift, shortcut].iter().all(Option::is_none) => Some(map),
            true => {
                let (_, _, height, width) = map.dims4()?;
                let shortcut = shortcut.map(rows).transpose()?;
                let done = cuda::finish(&rows(&map)?, Channels::Last, owed, shortcut.as_ref())?;
                done.map(|done| of_rows(&done, height, width)).transpose()?
            }
            false => {
                let shortcut = shortcut.map(channels_first).transpose()?;
                cuda::finish(&map, Channels::Second, owed, shortcut.as_ref())?
            }
        };
        match done {
            Some(done) if self.way.transposes_result => channels_last(&done).map(Some),
            done => Ok(done),
        }
    }
}

/// Rounded once.
fn sum_of_biases(one: &Tensor, other: &Tensor) -> Result<Tensor> {
    (one.to_dtype(DType::F32)? + other.to_dtype(DType::F32)?)?.to_dtype(one.dtype())
}

impl GroupNorm {
    /// The norm of `x` with what is `owed` to it, and SiLU of that where asked, by the GPU's kernels.
    pub(crate) fn on_gpu(
        &self,
        x: &Tensor,
        owed: PendingBias,
        silu: bool,
    ) -> Result<Option<Tensor>> {
        if !fits(x, [owed.bias, owed.shift]) {
            return Ok(None);
        }
        let weights = GroupNormWeights {
            weight: &self.weight,
            offset: &self.bias,
            groups: self.groups,
            eps: self.eps,
        };
        if is_channels_last(x) {
            let (_, _, height, width) = x.dims4()?;
            if let Some(done) = cuda::group_norm_last(&rows(x)?, weights, owed, silu)? {
                return of_rows(&done, height, width).map(Some);
            }
        }
        cuda::group_norm(&channels_first(x)?, weights, owed, silu)
    }

    /// SiLU of the norm of what `conv` makes of `x`, with `shift` [1 or b, channels] in between.
    pub(crate) fn forward_silu_after(
        &self,
        conv: &Conv2d,
        x: &Tensor,
        shift: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (weight, bias) = (conv.inner.weight(), conv.inner.bias());
        if fits(x, [Some(weight), bias, shift])
            && let Some(done) =
                self.on_gpu(&conv.forward_without_bias(x)?, PendingBias { bias, shift }, true)?
        {
            return Ok(done);
        }
        self.forward_silu(&conv.forward_with_shortcut(x, shift, None)?)
    }
}

impl LayerNorm {
    /// The norm of `x`, by the GPU's kernels.
    pub(crate) fn on_gpu(&self, x: &Tensor) -> Result<Option<Tensor>> {
        match cuda::apply(&[x]) {
            true => cuda::layer_norm(x, &self.weight, &self.bias, self.eps),
            false => Ok(None),
        }
    }
}

impl RmsNorm {
    /// The norm of `x` with `weight` of its format, by the GPU's kernels.
    pub(crate) fn on_gpu(&self, x: &Tensor, weight: &Tensor) -> Result<Option<Tensor>> {
        match cuda::apply(&[x, weight]) {
            true => cuda::rms_norm(x, weight, self.eps),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::compute::golden::errors;

    fn numbers(shape: &[usize], seed: f32) -> Tensor {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (seed + i as f32 * 0.7).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn layers_joined_for_a_gpu_are_their_parts_side_by_side() {
        let weights = [numbers(&[6, 4], 1.0), numbers(&[3, 4], 2.0), numbers(&[2, 4], 3.0)];
        let parts = weights.clone().map(Linear::without_bias);
        let (joined, views) = Linear::join(&parts.each_ref()).unwrap();
        let x = numbers(&[2, 5, 4], 4.0);
        let all = joined.forward(&x).unwrap();
        assert_eq!(all.dims(), [2, 5, 11]);
        let mut first = 0;
        for (weight, view) in weights.iter().zip(&views) {
            let alone = Linear::without_bias(weight.clone()).forward(&x).unwrap();
            let rows = weight.dim(0).unwrap();
            let part = all.narrow(2, first, rows).unwrap();
            assert!(errors("part", &part, &alone).within(1e-6, 1e-6));
            assert!(errors("view", &view.forward(&x).unwrap(), &alone).within(0.0, 0.0));
            first += rows;
        }
        let other = Linear::without_bias(numbers(&[2, 5], 1.0));
        assert!(Linear::join(&[&parts[0], &other]).is_err());
        // With biases, which are cut like the rows; one with a bias beside one without is refused.
        let biased = [Linear::new(numbers(&[6, 4], 1.0), numbers(&[6], 5.0)), {
            Linear::new(numbers(&[3, 4], 2.0), numbers(&[3], 6.0))
        }];
        let (joined, views) = Linear::join(&biased.each_ref()).unwrap();
        let all = joined.forward(&x).unwrap();
        let second = biased[1].forward(&x).unwrap();
        assert!(errors("biased", &all.narrow(2, 6, 3).unwrap(), &second).within(1e-6, 1e-6));
        assert!(errors("view", &views[1].forward(&x).unwrap(), &second).within(0.0, 0.0));
        assert!(Linear::join(&[&biased[0], &parts[1]]).is_err());
        // The processor keeps them apart.
        let mut parts = weights.map(Linear::without_bias);
        assert_eq!(parts.each_ref().map(Linear::output_width), [6, 3, 2]);
        assert!(FusedLinears::on_gpu(&mut parts.each_mut()).is_none());
        // Their results side by side, and some of them as one.
        let (all, _) = Linear::join(&parts.each_ref()).unwrap();
        let joined = FusedLinears { all, widths: vec![6, 3, 2] };
        let found = joined.forward(&x).unwrap();
        assert_eq!(found.len(), 3);
        for (found, part) in found.iter().zip(&parts) {
            assert!(errors("result", found, &part.forward(&x).unwrap()).within(1e-6, 1e-6));
        }
        let last = joined.from(1).unwrap().forward(&x).unwrap();
        let due = Tensor::cat(&found[1..], 2).unwrap();
        assert!(errors("the last two", &last, &due).within(1e-6, 1e-6));
    }

    #[test]
    fn rows_are_cut_into_the_results_of_each_layer() {
        let all = Tensor::arange(0.0_f32, 2.0 * 3.0 * 10.0, &Device::Cpu).unwrap();
        let parts = cut(&all.reshape((2, 3, 10)).unwrap(), &[2, 2, 3, 3]).unwrap();
        let last_row =
            |tensor: &Tensor| tensor.get(1).unwrap().get(2).unwrap().to_vec1::<f32>().unwrap();
        let found: Vec<_> = parts.iter().map(last_row).collect();
        let due =
            [vec![50.0, 51.0], vec![52.0, 53.0], vec![54.0, 55.0, 56.0], vec![57.0, 58.0, 59.0]];
        assert_eq!(found, due);
    }

    #[test]
    fn biases_add_up_and_are_rounded_once() {
        let half = |value: f32| Tensor::full(value, 1, &Device::Cpu).unwrap().to_dtype(DType::F16);
        let sum = sum_of_biases(&half(2048.0).unwrap(), &half(1.5).unwrap()).unwrap();
        // In f16 numbers about 2048 are 2 apart.
        assert_eq!(sum.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap(), [2050.0]);
        // The processor's layers keep their own.
        let conv = || Conv2d::new(numbers(&[2, 2, 1, 1], 1.0), numbers(&[2], 2.0), 1);
        let (mut one, mut other) = (conv(), conv());
        one.move_bias_on_gpu(&mut other);
        assert!(one.inner.bias().is_some());
    }

    /// What is joined equals its parts, on whatever device there is.
    #[test]
    fn joined_layers_equal_their_parts() {
        let linear = Linear::new(numbers(&[6, 4], 1.0), numbers(&[6], 2.0));
        let x = numbers(&[2, 5, 4], 3.0);
        let plain = linear.forward(&x).unwrap();
        let gated = linear.forward_gated(&x).unwrap();
        assert!(errors("gate", &gated, &gated_by_gelu(&plain).unwrap()).within(0.0, 0.0));
        let shortcut = numbers(&[2, 6, 1, 5], 4.0);
        let onto = linear.forward_transposed_with_shortcut(&x, &shortcut).unwrap();
        for (entry, row, column) in [(0, 0, 0), (1, 4, 5), (1, 2, 3)] {
            let at = |tensor: &Tensor, place: [usize; 3]| -> f32 {
                let tensor = tensor.flatten_from(2).unwrap();
                place.into_iter().fold(tensor, |t, i| t.get(i).unwrap()).to_scalar().unwrap()
            };
            let due = at(&plain, [entry, row, column]) + at(&shortcut, [entry, column, row]);
            assert_eq!(at(&onto, [entry, column, row]), due);
        }
        // A map channels last is the same map.
        let last = channels_last(&numbers(&[2, 6, 5, 1], 4.0)).unwrap();
        let onto_last = linear.forward_transposed_with_shortcut(&x, &last).unwrap();
        assert!(is_channels_last(&onto_last));
        let due = onto.reshape(last.shape()).unwrap();
        assert!(errors("channels last", &onto_last, &due).within(1e-6, 1e-6));
        assert!(linear.forward_transposed_with_shortcut(&x, &numbers(&[2, 5], 4.0)).is_err());
        let conv = Conv2d::new(numbers(&[4, 3, 3, 3], 5.0), numbers(&[4], 6.0), 1);
        let (weight, bias) = (numbers(&[4], 7.0), numbers(&[4], 8.0));
        let norm = GroupNorm::new(weight, bias, 2, 1e-5).unwrap();
        let (map, shift) = (numbers(&[2, 3, 4, 5], 9.0), numbers(&[2, 4], 10.0));
        for dtype in [DType::F32, DType::F16] {
            let (map, shift) = (map.to_dtype(dtype).unwrap(), shift.to_dtype(dtype).unwrap());
            let moved = conv.forward_with_shortcut(&map, Some(&shift), None).unwrap();
            let joined = norm.forward_silu_after(&conv, &map, Some(&shift)).unwrap();
            let apart = norm.forward_silu(&moved).unwrap();
            assert!(errors("norm", &joined, &apart).within(0.0, 0.0), "{dtype:?}");
        }
    }
}
