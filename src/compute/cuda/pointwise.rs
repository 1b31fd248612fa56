//! In: what a product or a convolution left, on a GPU. Out: the same with what comes after it, in one pass.

use candle_core::{D, DType, Result, Tensor};

use super::driver::launch;
use super::launch::{File, Launch, Output, Sizes, grid, small};
use super::numbers::{begins_wide, suffix, wide};

/// Threads of a block.
const THREADS: usize = 256;
/// Side of a tile that is turned.
const TURN: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct FinishSizes {
    count: u32,
    channels: u32,
    inner: u32,
    rows: u32,
    shift_entry: u32,
    wide: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct GateSizes {
    count: u32,
    inner: u32,
    wide: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct CurveSizes {
    count: u32,
    curve: u32,
    wide: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct TransposeSizes {
    rows: u32,
    columns: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct BesideSizes {
    count: u32,
    left: u32,
    right: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct EnlargeSizes {
    count: u32,
    steps: u32,
    height: u32,
    width: u32,
    to_height: u32,
    to_width: u32,
}

// SAFETY: the structs of pointwise.cu, field by field.
#[allow(unsafe_code)]
unsafe impl Sizes for FinishSizes {}
#[allow(unsafe_code)]
unsafe impl Sizes for GateSizes {}
#[allow(unsafe_code)]
unsafe impl Sizes for CurveSizes {}
#[allow(unsafe_code)]
unsafe impl Sizes for TransposeSizes {}
#[allow(unsafe_code)]
unsafe impl Sizes for BesideSizes {}
#[allow(unsafe_code)]
unsafe impl Sizes for EnlargeSizes {}

/// What a convolution or a product still owes its result.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PendingBias<'a> {
    /// [channels].
    pub(crate) bias: Option<&'a Tensor>,
    /// [1 or b, channels]: for all numbers of a channel.
    pub(crate) shift: Option<&'a Tensor>,
}

/// The same, contiguous, of the result's format, and of shapes that fit.
pub(crate) struct CheckedBias {
    pub(crate) bias: Option<Tensor>,
    pub(crate) shift: Option<Tensor>,
    /// Numbers from one entry's shift to the next.
    pub(crate) shift_entry: usize,
}

impl PendingBias<'_> {
    /// For `entries` of `channels` in the format `dtype`.
    pub(crate) fn checked(
        self,
        entries: usize,
        channels: usize,
        dtype: DType,
    ) -> Result<CheckedBias> {
        let ready = |tensor: Option<&Tensor>| -> Result<Option<Tensor>> {
            tensor.map(|tensor| tensor.to_dtype(dtype)?.contiguous()).transpose()
        };
        let (bias, shift) = (ready(self.bias)?, ready(self.shift)?);
        if let Some(bias) = bias.as_ref().filter(|bias| bias.elem_count() != channels) {
            candle_core::bail!("a bias {:?} does not fit {channels} channels", bias.dims())
        }
        let shift_entry = match shift.as_ref().map(Tensor::dims) {
            None => 0,
            Some([1, width]) if *width == channels => 0,
            Some([rows, width]) if (*rows, *width) == (entries, channels) => channels,
            Some(other) => {
                candle_core::bail!(
                    "shifts {other:?} do not fit {entries} maps of {channels} channels"
                )
            }
        };
        Ok(CheckedBias { bias, shift, shift_entry })
    }
}

/// Where the channels of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Channels {
    /// [b, channels, inner...].
    Second,
    /// [b..., channels].
    Last,
}

/// `x` with what is `owed` to it and `shortcut`, of its shape, added. `None` where the kernel cannot take it.
pub(crate) fn finish(
    x: &Tensor,
    channels_are: Channels,
    owed: PendingBias,
    shortcut: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let entries = x.dim(0)?;
    let channels = match channels_are {
        Channels::Second => x.dim(1)?,
        Channels::Last => x.dim(D::Minus1)?,
    };
    let numbers = x.elem_count() / (entries * channels).max(1);
    let (inner, rows) = match channels_are {
        Channels::Second => (numbers, 1),
        Channels::Last => (1, numbers),
    };
    let owed = owed.checked(entries, channels, x.dtype())?;
    let shortcut = shortcut.map(Tensor::contiguous).transpose()?;
    let CheckedBias { bias, shift, shift_entry } = &owed;
    let inputs = [Some(&x), bias.as_ref(), shift.as_ref(), shortcut.as_ref()];
    if let Some(other) = shortcut.as_ref().filter(|other| other.dims() != x.dims()) {
        candle_core::bail!("a shortcut {:?} is added to {:?}", other.dims(), x.dims())
    }
    let even = inputs.iter().flatten().all(|tensor| begins_wide(tensor));
    let wide = if even { wide(&x) } else { usize::MAX };
    let entry = Entry { channels, inner, rows };
    let Some((grid, sizes)) = plan_finish(x.elem_count(), entry, *shift_entry, wide) else {
        return Ok(None);
    };
    let function = format!("finish_{}", suffix(&x)?);
    launch(&pointwise(function, grid, sizes), Output::like(&x), &inputs).map(Some)
}

/// How an entry's numbers lie: [rows, channels, inner].
#[derive(Debug, Clone, Copy)]
struct Entry {
    channels: usize,
    inner: usize,
    rows: usize,
}

/// `wide`: numbers in 16 bytes, or more than there are where the tensors do not begin at such a place.
fn plan_finish(
    count: usize,
    Entry { channels, inner, rows }: Entry,
    shift_entry: usize,
    wide: usize,
) -> Option<([u32; 3], FinishSizes)> {
    let way = match inner {
        _ if inner.is_multiple_of(wide) => 1,
        1 if channels.is_multiple_of(wide) => 2,
        _ => 0,
    };
    let steps = if way == 0 { count } else { count / wide };
    let sizes = FinishSizes {
        count: small(count)?,
        channels: small(channels)?,
        inner: small(inner)?,
        rows: small(rows)?,
        shift_entry: small(shift_entry)?,
        wide: way,
    };
    Some((grid(steps.div_ceil(THREADS), 1, 1)?, sizes))
}

fn pointwise<S: Sizes>(function: String, grid: [u32; 3], sizes: S) -> Launch<S> {
    let threads = THREADS as u32;
    Launch { file: File::Pointwise, function, grid, threads, shared_bytes: 0, sizes }
}

/// `a * gelu(g)`, exactly, for `x` [..., 2 * inner] plus `bias` [2 * inner], whose rows are a and then g:
/// [..., inner]. `None` where the kernel cannot take it.
pub(crate) fn geglu(x: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let mut shape = x.dims().to_vec();
    let width = x.dim(D::Minus1)?;
    let owed = PendingBias { bias, shift: None }.checked(1, width, x.dtype())?;
    let Some(last) = shape.last_mut().filter(|width| width.is_multiple_of(2)) else {
        return Ok(None);
    };
    *last /= 2;
    let bias = owed.bias.as_ref();
    let even = begins_wide(&x) && bias.is_none_or(begins_wide);
    let wide = if even { wide(&x) } else { usize::MAX };
    let Some((grid, sizes)) = plan_gate(x.elem_count() / 2, width / 2, wide) else {
        return Ok(None);
    };
    let function = format!("geglu_{}", suffix(&x)?);
    let output = Output { shape, dtype: x.dtype() };
    launch(&pointwise(function, grid, sizes), output, &[Some(&x), bias]).map(Some)
}

fn plan_gate(count: usize, inner: usize, wide: usize) -> Option<([u32; 3], GateSizes)> {
    let is_wide = inner.is_multiple_of(wide);
    let steps = if is_wide { count / wide } else { count };
    let sizes = GateSizes { count: small(count)?, inner: small(inner)?, wide: is_wide.into() };
    Some((grid(steps.div_ceil(THREADS), 1, 1)?, sizes))
}

/// What numbers go through one by one, as the kernel numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActivationKind {
    /// `x * sigmoid(1.702 x)`.
    QuickGelu = 0,
    /// The exact GELU.
    Gelu = 1,
    /// Its tanh form.
    GeluTanh = 2,
    /// `x * sigmoid(x)`.
    Silu = 3,
    /// The square of `max(x, 0)`.
    SquaredRelu = 4,
}

/// `x` through a curve, rounded once. `None` where the kernel cannot take it.
pub(crate) fn curve(x: &Tensor, curve: ActivationKind) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let wide = if begins_wide(&x) { wide(&x) } else { usize::MAX };
    let Some((grid, sizes)) = plan_curve(x.elem_count(), curve, wide) else { return Ok(None) };
    let function = format!("curve_{}", suffix(&x)?);
    launch(&pointwise(function, grid, sizes), Output::like(&x), &[Some(&x)]).map(Some)
}

fn plan_curve(count: usize, curve: ActivationKind, wide: usize) -> Option<([u32; 3], CurveSizes)> {
    let is_wide = count.is_multiple_of(wide);
    let steps = if is_wide { count / wide } else { count };
    let sizes = CurveSizes { count: small(count)?, curve: curve as u32, wide: is_wide.into() };
    Some((grid(steps.div_ceil(THREADS), 1, 1)?, sizes))
}

/// `x` [b, rows, columns] turned to [b, columns, rows], with `bias` [columns] and `shortcut`, of the
/// result's shape, added. `None` where the kernel cannot take it.
pub(crate) fn transpose(
    x: &Tensor,
    bias: Option<&Tensor>,
    shortcut: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let (batch, rows, columns) = x.dims3()?;
    let owed = PendingBias { bias, shift: None }.checked(batch, columns, x.dtype())?;
    let shortcut = shortcut.map(Tensor::contiguous).transpose()?;
    if let Some(other) = shortcut.as_ref().filter(|other| other.dims() != [batch, columns, rows]) {
        candle_core::bail!("a shortcut {:?} is added to {:?}, turned", other.dims(), x.dims())
    }
    let Some((grid, sizes)) = plan_transpose(batch, rows, columns) else { return Ok(None) };
    let function = format!("turn_{}", suffix(&x)?);
    let output = Output { shape: vec![batch, columns, rows], dtype: x.dtype() };
    let inputs = [Some(&x), owed.bias.as_ref(), shortcut.as_ref()];
    launch(&pointwise(function, grid, sizes), output, &inputs).map(Some)
}

fn plan_transpose(batch: usize, rows: usize, columns: usize) -> Option<([u32; 3], TransposeSizes)> {
    let sizes = TransposeSizes { rows: small(rows)?, columns: small(columns)? };
    Some((grid(columns.div_ceil(TURN), rows.div_ceil(TURN), batch)?, sizes))
}

/// Steps of 16 bytes of `x`, which is contiguous, and of a row of `width` numbers of it; `None` where they do not
/// divide so.
fn steps(x: &Tensor, width: usize) -> Option<(usize, usize)> {
    let divides = begins_wide(x) && width.is_multiple_of(wide(x));
    divides.then(|| (x.elem_count() / wide(x), width / wide(x)))
}

/// The rows of `a` [b, n, left], each with that of `b` [b, n, right] after it: [b, n, left + right]. `None` where
/// the kernel cannot take it.
pub(crate) fn concat_rows(a: &Tensor, b: &Tensor) -> Result<Option<Tensor>> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let ((batch, rows, left), (_, _, right)) = (a.dims3()?, b.dims3()?);
    if b.dims() != [batch, rows, right] || a.dtype() != b.dtype() {
        candle_core::bail!("rows of {:?} do not stand beside {:?}", b.dims(), a.dims())
    }
    let (Some((of_a, left_steps)), Some((of_b, right_steps))) = (steps(&a, left), steps(&b, right))
    else {
        return Ok(None);
    };
    let (Some(grid), Some(count)) =
        (grid((of_a + of_b).div_ceil(THREADS), 1, 1), small(of_a + of_b))
    else {
        return Ok(None);
    };
    let sizes = BesideSizes { count, left: left_steps as u32, right: right_steps as u32 };
    let output = Output { shape: vec![batch, rows, left + right], dtype: a.dtype() };
    launch(&pointwise("beside".to_owned(), grid, sizes), output, &[Some(&a), Some(&b)]).map(Some)
}

/// `x` [b, h, w, c] enlarged to `height` x `width`, each pixel the nearest one: [b, height, width, c]. `None` where
/// the kernel cannot take it.
pub(crate) fn enlarge(x: &Tensor, height: usize, width: usize) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let (batch, from_height, from_width, channels) = x.dims4()?;
    let plan = steps(&x, channels).and_then(|(_, steps)| {
        let count = batch * height * width * steps;
        let sizes = EnlargeSizes {
            count: small(count)?,
            steps: small(steps)?,
            height: small(from_height)?,
            width: small(from_width)?,
            to_height: small(height)?,
            to_width: small(width)?,
        };
        // A place times a size is no more than 32 bits hold.
        small(height * from_height)?;
        small(width * from_width)?;
        Some((grid(count.div_ceil(THREADS), 1, 1)?, sizes))
    });
    let Some((grid, sizes)) = plan else { return Ok(None) };
    let output = Output { shape: vec![batch, height, width, channels], dtype: x.dtype() };
    launch(&pointwise("enlarge".to_owned(), grid, sizes), output, &[Some(&x)]).map(Some)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn every_number_has_a_thread() {
        // A map of 64 x 64, rows of 320 channels, an odd map, and one that does not begin at 16 bytes.
        let plan = |count, channels, inner, wide| {
            plan_finish(count, Entry { channels, inner, rows: 1 }, channels, wide)
        };
        for (count, channels, inner, wide, way, blocks) in [
            (2 * 320 * 4096, 320, 4096, 8, 1, 1280),
            (4096 * 320, 320, 1, 8, 2, 640),
            (2 * 5 * 7, 5, 7, 8, 0, 1),
            (2 * 320 * 4096, 320, 4096, usize::MAX, 0, 10_240),
            (8, 1, 8, 4, 1, 1),
        ] {
            let (grid, sizes) = plan(count, channels, inner, wide).unwrap();
            assert_eq!((sizes.wide, grid), (way, [blocks, 1, 1]), "{count} {channels} {inner}");
        }
        assert_eq!(plan(1 << 31, 1, 1 << 31, 8), None);
        assert_eq!(plan(0, 320, 64, 8), None);
        let (grid, sizes) = plan_gate(4096 * 1280, 1280, 8).unwrap();
        assert_eq!((grid, sizes.wide), ([2560, 1, 1], 1));
        assert_eq!(plan_gate(21, 7, 8).unwrap().1.wide, 0);
        assert_eq!(plan_gate(1 << 31, 1 << 31, 8), None);
        let (grid, sizes) = plan_curve(4096 * 1280, ActivationKind::Silu, 8).unwrap();
        assert_eq!((grid, sizes.wide, sizes.curve), ([2560, 1, 1], 1, 3));
        assert_eq!(plan_curve(300, ActivationKind::Gelu, 8).unwrap().0, [2, 1, 1]);
        assert_eq!(plan_curve(0, ActivationKind::Gelu, 8), None);
        let (grid, _) = plan_transpose(2, 33, 70).unwrap();
        assert_eq!(grid, [3, 2, 2]);
        // More rows than a device has blocks for in that direction.
        assert!(
            plan_transpose(1, 65_535 * 32, 1).is_some()
                && plan_transpose(1, 65_535 * 32 + 1, 1).is_none()
        );
    }

    #[test]
    fn what_is_owed_must_fit() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let (bias, one, two) = (zeros(&[6]), zeros(&[1, 6]), zeros(&[2, 6]));
        let checked =
            |bias, shift, entries| PendingBias { bias, shift }.checked(entries, 6, DType::F16);
        assert_eq!(checked(Some(&bias), Some(&one), 2).unwrap().shift_entry, 0);
        assert_eq!(checked(None, Some(&two), 2).unwrap().shift_entry, 6);
        let ready = checked(Some(&bias), None, 1).unwrap();
        assert_eq!((ready.bias.unwrap().dtype(), ready.shift_entry), (DType::F16, 0));
        assert!(checked(None, Some(&two), 3).is_err());
        assert!(checked(Some(&zeros(&[5])), None, 1).is_err());
    }

    #[test]
    fn sizes_lie_as_in_the_kernels() {
        assert_eq!((size_of::<FinishSizes>(), size_of::<GateSizes>()), (24, 12));
        assert_eq!((size_of::<TransposeSizes>(), size_of::<BesideSizes>()), (8, 12));
        assert_eq!((size_of::<CurveSizes>(), ActivationKind::SquaredRelu as u32), (12, 4));
        assert_eq!(size_of::<EnlargeSizes>(), 24);
    }
}
