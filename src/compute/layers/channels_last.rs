//! In: feature maps. Out: how their numbers lie in memory. A map is [b, c, h, w] in either order: plainly, a
//! channel's pixels side by side, or channels last, a pixel's channels side by side, which its strides tell. On the
//! tensor cores of a GPU cuDNN computes channels last and turns plain maps there and back; and a
//! transformer's rows are such a map as it lies. So, where a build has cuDNN, convolutions in half precision leave their
//! maps channels last, and what stands between them goes along. Everything here takes maps of both orders.

use candle_core::{Result, Tensor};

use crate::compute::cuda;

/// Whether the channels of `x` [b, c, h, w] lie side by side and the pixels of a channel do not.
pub(crate) fn is_channels_last(x: &Tensor) -> bool {
    x.rank() == 4 && !x.is_contiguous() && pixels_first(x).is_ok_and(|x| x.is_contiguous())
}

/// `x` [b, c, h, w] seen as [b, h, w, c].
pub(crate) fn pixels_first(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))
}

/// `x` [b, h, w, c] seen as [b, c, h, w].
pub(crate) fn channels_second(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 3, 1, 2))
}

/// The map `x` [b, c, h, w] as rows of channels [b, h * w, c]: as it lies where it is channels last, else turned;
/// a view where the device reads one as well.
pub(crate) fn positions(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    match is_channels_last(x) {
        true => pixels_first(x)?.reshape((batch, height * width, channels)),
        false => transposed(&x.reshape((batch, channels, height * width))?),
    }
}

/// The same, contiguous.
pub(crate) fn rows(x: &Tensor) -> Result<Tensor> {
    positions(x)?.contiguous()
}

/// Rows of channels [b, h * w, c] as the map [b, c, h, w] that they are.
pub(crate) fn of_rows(rows: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, _, channels) = rows.dims3()?;
    channels_second(&rows.contiguous()?.reshape((batch, height, width, channels))?)
}

/// The same map channels last.
pub(crate) fn channels_last(x: &Tensor) -> Result<Tensor> {
    if is_channels_last(x) {
        return Ok(x.clone());
    }
    let (_, _, height, width) = x.dims4()?;
    of_rows(&rows(x)?, height, width)
}

/// The same map, the pixels of a channel side by side.
pub(crate) fn channels_first(x: &Tensor) -> Result<Tensor> {
    if !is_channels_last(x) {
        return x.contiguous();
    }
    transposed(&rows(x)?)?.contiguous()?.reshape(x.shape())
}

/// The channels of `x`, then those of `y`, for maps of one size; in the order of `x`.
pub(crate) fn join_channels(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !is_channels_last(x) {
        return Tensor::cat(&[x, y], 1);
    }
    let (_, _, height, width) = x.dims4()?;
    let (left, right) = (rows(x)?, rows(y)?);
    let joined = match cuda::apply(&[x, y]) {
        true => cuda::concat_rows(&left, &right)?,
        false => None,
    };
    let joined = joined.map_or_else(|| Tensor::cat(&[&left, &right], 2), Ok)?;
    of_rows(&joined, height, width)
}

/// The sum of maps of one shape; channels last where both are.
pub(crate) fn sum_of_maps(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !is_channels_last(x) || !is_channels_last(y) {
        return x + y;
    }
    let (_, _, height, width) = x.dims4()?;
    of_rows(&(rows(x)? + rows(y)?)?, height, width)
}

/// `x` enlarged to `height` x `width`, each pixel the nearest one; in the order of `x`.
pub(crate) fn enlarged(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    if is_channels_last(x)
        && cuda::apply(&[x])
        && let Some(enlarged) = cuda::enlarge(&pixels_first(x)?, height, width)?
    {
        return channels_second(&enlarged);
    }
    channels_first(x)?.upsample_nearest2d(height, width)
}

/// `x` [b, c, n] turned to [b, n, c]; a view where the device reads one as well.
pub(crate) fn transposed(x: &Tensor) -> Result<Tensor> {
    if cuda::apply(&[x])
        && let Some(turned) = cuda::transpose(x, None, None)?
    {
        return Ok(turned);
    }
    x.transpose(1, 2)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn map(shape: (usize, usize, usize, usize), first: f32) -> Tensor {
        let (b, c, h, w) = shape;
        let values: Vec<f32> = (0..b * c * h * w).map(|i| first + i as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_map_is_the_same_in_either_order() {
        let plain = map((2, 3, 4, 5), 0.0);
        assert!(!is_channels_last(&plain));
        let last = channels_last(&plain).unwrap();
        assert!(is_channels_last(&last));
        assert_eq!((last.dims(), values(&last)), (plain.dims(), values(&plain)));
        assert_eq!(last.layout().stride(), [60, 1, 15, 3]);
        let back = channels_first(&last).unwrap();
        assert!(back.is_contiguous());
        assert_eq!(values(&back), values(&plain));
        // Rows are pixels, from either order.
        let expected = plain.reshape((2, 3, 20)).unwrap().transpose(1, 2).unwrap();
        for map in [&plain, &last] {
            let rows = rows(map).unwrap();
            assert!(rows.is_contiguous());
            assert_eq!((rows.dims(), values(&rows)), (expected.dims(), values(&expected)));
            assert_eq!(values(&of_rows(&rows, 4, 5).unwrap()), values(&plain));
        }
        // A map of one pixel lies the same in both orders, and counts as plain.
        assert!(!is_channels_last(&channels_last(&map((2, 3, 1, 1), 0.0)).unwrap()));
        assert!(!is_channels_last(&plain.transpose(2, 3).unwrap()));
        assert!(!is_channels_last(&plain.flatten_all().unwrap()));
    }

    #[test]
    fn maps_are_joined_and_enlarged_in_the_order_they_have() {
        let (x, y) = (map((2, 3, 2, 3), 0.0), map((2, 2, 2, 3), 100.0));
        let (last_x, last_y) = (channels_last(&x).unwrap(), channels_last(&y).unwrap());
        let due = Tensor::cat(&[&x, &y], 1).unwrap();
        for (x, y, last) in [(&x, &y, false), (&last_x, &last_y, true), (&last_x, &y, true)] {
            let joined = join_channels(x, y).unwrap();
            assert_eq!((joined.dims(), is_channels_last(&joined)), (due.dims(), last));
            assert_eq!(values(&joined), values(&due));
        }
        assert!(join_channels(&last_x, &map((1, 2, 2, 3), 0.0)).is_err());
        let (other, due) = (map((2, 3, 2, 3), 50.0), (&x + map((2, 3, 2, 3), 50.0)).unwrap());
        let last_other = channels_last(&other).unwrap();
        for (x, other, last) in
            [(&x, &other, false), (&last_x, &last_other, true), (&last_x, &other, false)]
        {
            let sum = sum_of_maps(x, other).unwrap();
            assert_eq!((values(&sum), is_channels_last(&sum)), (values(&due), last));
        }
        let due = x.upsample_nearest2d(3, 6).unwrap();
        for map in [&x, &last_x] {
            assert_eq!(values(&enlarged(map, 3, 6).unwrap()), values(&due));
        }
    }
}
