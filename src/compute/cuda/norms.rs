//! In: a map or rows, on a GPU. Out: them normalised, sums in f32. How the work is cut follows from the
//! shape alone.

use candle_core::{D, DType, Result, Tensor};

use super::driver::launch;
use super::launch::{File, Launch, Output, Sizes, grid, small};
use super::numbers::{begins_wide, exact, suffix, wide};
use super::pointwise::PendingBias;

/// Numbers that a thread of the group norm keeps in registers.
const KEPT: usize = 32;
/// Threads of a block that takes a whole group, at most.
const WHOLE: usize = 512;
/// Threads of a block that takes a part of one, and of the kernel for any shape.
const PART: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct GroupNormSizes {
    size: u32,
    inner: u32,
    channels_of_group: u32,
    groups: u32,
    parts: u32,
    shift_entry: u32,
    eps: f32,
    silu: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct RowNormSizes {
    rows: u64,
    width: u32,
    eps: f32,
    wide: u32,
}

// SAFETY: the structs of group_norm.cu and row_norm.cu, field by field.
#[allow(unsafe_code)]
unsafe impl Sizes for GroupNormSizes {}
#[allow(unsafe_code)]
unsafe impl Sizes for RowNormSizes {}

/// What a group norm has learnt and is set to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupNormWeights<'a> {
    /// [channels].
    pub(crate) weight: &'a Tensor,
    /// [channels].
    pub(crate) offset: &'a Tensor,
    /// Of channels.
    pub(crate) groups: usize,
    /// Added to the variance.
    pub(crate) eps: f64,
}

/// The launches of one group norm.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan<S> {
    /// A block has all numbers of its groups.
    Whole(Launch<S>),
    /// First the moments of the parts, then the norm.
    Parts(Launch<S>, Launch<S>),
}

impl<S: Sizes> Plan<S> {
    /// Runs them on `inputs`: the map, weight, offset, bias and shift. The moments have the shape
    /// `moments`, [..., parts, 2].
    pub(crate) fn run(self, inputs: [Option<&Tensor>; 5], moments: Vec<usize>) -> Result<Tensor> {
        let [x, weight, offset, bias, shift] = inputs;
        let Some(map) = x else { candle_core::bail!("a norm of nothing") };
        match self {
            Self::Whole(whole) => launch(&whole, Output::like(map), &inputs),
            Self::Parts(parts, apply) => {
                let moments = Output { shape: moments, dtype: DType::F32 };
                let moments = launch(&parts, moments, &[x, bias, shift])?;
                let inputs = [x, weight, offset, bias, shift, Some(&moments)];
                launch(&apply, Output::like(map), &inputs)
            }
        }
    }
}

/// `x` [b, c, ...], with what is `owed` to it, normalised over groups of channels; SiLU of that where
/// `silu` says so. `None` where the kernels cannot take it.
pub(crate) fn group_norm(
    x: &Tensor,
    weights: GroupNormWeights,
    owed: PendingBias,
    silu: bool,
) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    let owed = owed.checked(batch, channels, x.dtype())?;
    let inner = x.elem_count() / (batch * channels).max(1);
    let map = Map { batch, channels, inner, wide: begins_wide(&x).then(|| wide(&x)) };
    let Some(plan) = plan_group_norm(map, weights, owed.shift_entry, silu, suffix(&x)?) else {
        return Ok(None);
    };
    let (weight, offset) = (exact(weights.weight)?, exact(weights.offset)?);
    let (bias, shift) = (owed.bias.as_ref(), owed.shift.as_ref());
    let (Plan::Whole(first) | Plan::Parts(first, _)) = &plan;
    let moments = vec![batch * weights.groups, first.sizes.parts as usize, 2];
    plan.run([Some(&x), Some(&weight), Some(&offset), bias, shift], moments).map(Some)
}

/// The map to be normalised; `wide` is how many numbers 16 bytes hold, where it begins at a multiple of them.
#[derive(Debug, Clone, Copy)]
struct Map {
    batch: usize,
    channels: usize,
    inner: usize,
    wide: Option<usize>,
}

fn plan_group_norm(
    map: Map,
    weights: GroupNormWeights,
    shift_entry: usize,
    silu: bool,
    suffix: &str,
) -> Option<Plan<GroupNormSizes>> {
    let Map { batch, channels, inner, .. } = map;
    let fits = weights.weight.elem_count() == channels && weights.offset.elem_count() == channels;
    if !fits || weights.groups == 0 || !channels.is_multiple_of(weights.groups) {
        return None;
    }
    let channels_of_group = channels / weights.groups;
    let size = channels_of_group * inner;
    let rows = batch * weights.groups;
    let is_wide = map.wide.is_some_and(|wide| inner.is_multiple_of(wide));
    let (way, threads) = match size.div_ceil(KEPT).next_multiple_of(32) {
        _ if !is_wide => ("any", PART),
        // Whole warps, and no more of them than the group fills.
        threads if threads <= WHOLE => ("whole", threads.max(32)),
        _ => ("parts", PART),
    };
    let parts = if way == "parts" { size.div_ceil(PART * KEPT) } else { 1 };
    let sizes = GroupNormSizes {
        size: small(size)?,
        inner: small(inner)?,
        channels_of_group: small(channels_of_group)?,
        groups: small(weights.groups)?,
        parts: small(parts)?,
        shift_entry: small(shift_entry)?,
        eps: weights.eps as f32,
        silu: silu.into(),
    };
    let grid = grid(parts, rows, 1)?;
    let named = |way: &str| Launch {
        file: File::GroupNorm,
        function: format!("group_norm_{way}_{suffix}"),
        grid,
        threads: threads as u32,
        shared_bytes: 0,
        sizes,
    };
    Some(match way {
        "parts" => Plan::Parts(named("parts"), named("apply")),
        way => Plan::Whole(named(way)),
    })
}

/// Rows that a block takes, one for each warp.
const ROWS: usize = 4;

/// `x` [..., width] about its mean; `weight` and `bias` [width]. `None` where the kernel cannot take it.
pub(crate) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let (weight, bias) = (exact(weight)?, exact(bias)?);
    let width = x.dim(D::Minus1)?;
    if weight.elem_count() != width || bias.elem_count() != width {
        return Ok(None);
    }
    let Some(plan) = plan_row_norm(&x, width, eps, "layer")? else { return Ok(None) };
    launch(&plan, Output::like(&x), &[Some(&x), Some(&weight), Some(&bias)]).map(Some)
}

/// `x` [..., width] over the root of its mean square, times `weight` [width] of the same format. `None`
/// where the kernel cannot take it.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let weight = weight.contiguous()?;
    let width = x.dim(D::Minus1)?;
    if weight.elem_count() != width || weight.dtype() != x.dtype() {
        return Ok(None);
    }
    let Some(plan) = plan_row_norm(&x, width, eps, "rms")? else { return Ok(None) };
    launch(&plan, Output::like(&x), &[Some(&x), Some(&weight)]).map(Some)
}

fn plan_row_norm(
    x: &Tensor,
    width: usize,
    eps: f64,
    kind: &str,
) -> Result<Option<Launch<RowNormSizes>>> {
    let rows = x.elem_count() / width.max(1);
    let is_wide = begins_wide(x) && width.is_multiple_of(wide(x));
    let (Some(grid), Some(width)) = (grid(rows.div_ceil(ROWS), 1, 1), small(width)) else {
        return Ok(None);
    };
    Ok(Some(Launch {
        file: File::RowNorm,
        function: format!("{kind}_norm_{}", suffix(x)?),
        grid,
        threads: 32 * ROWS as u32,
        shared_bytes: 0,
        sizes: RowNormSizes { rows: rows as u64, width, eps: eps as f32, wide: is_wide.into() },
    }))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn plan(
        batch: usize,
        channels: usize,
        groups: usize,
        inner: usize,
    ) -> Option<Plan<GroupNormSizes>> {
        let weight = Tensor::zeros(channels, DType::F32, &Device::Cpu).unwrap();
        let weights = GroupNormWeights { weight: &weight, offset: &weight, groups, eps: 1e-5 };
        let map = Map { batch, channels, inner, wide: Some(8) };
        plan_group_norm(map, weights, channels, true, "f16")
    }

    #[test]
    fn a_group_is_cut_as_the_kernels_expect() {
        // Stable Diffusion 1.5 at 64 x 64: 320 channels in 32 groups, both halves of the guidance.
        let Some(Plan::Parts(parts, apply)) = plan(2, 320, 32, 4096) else { panic!() };
        assert_eq!((parts.grid, parts.threads), ([5, 64, 1], 256));
        assert_eq!((apply.grid, apply.function.as_str()), (parts.grid, "group_norm_apply_f16"));
        assert_eq!((parts.sizes.size, parts.sizes.parts), (40_960, 5));
        // Its last part is full; of one more number it would be a part of its own.
        assert_eq!(parts.sizes.size, 5 * 256 * 32);
        // 16 x 16 and 1280 channels: 10,240 numbers in one block of ten warps.
        let Some(Plan::Whole(whole)) = plan(2, 1280, 32, 256) else { panic!() };
        assert_eq!((whole.grid, whole.threads), ([1, 64, 1], 320));
        assert_eq!(whole.function, "group_norm_whole_f16");
        // Every number has a thread, and no more than a block has.
        for (channels, inner) in [(32, 8), (64, 8), (1280, 64), (512, 1024), (128, 1024 * 1024)] {
            match plan(1, channels, 32, inner).unwrap() {
                Plan::Whole(whole) => {
                    let kept = whole.threads * 32;
                    assert!(kept >= whole.sizes.size && kept <= 16_384, "{channels} {inner}");
                }
                Plan::Parts(parts, _) => {
                    let kept = parts.sizes.parts * 8192;
                    assert!(parts.sizes.size > 16_384 && kept >= parts.sizes.size);
                    assert!(kept - parts.sizes.size < 8192, "no part is empty");
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_divide_go_number_by_number_or_back() {
        let Some(Plan::Whole(any)) = plan(2, 6, 3, 35) else { panic!() };
        assert_eq!(
            (any.function.as_str(), any.threads, any.grid),
            ("group_norm_any_f16", 256, [1, 6, 1])
        );
        assert_eq!(plan(1, 6, 4, 8), None);
        // 2,049 entries of 32 groups are more rows than a device takes.
        assert!(plan(2047, 32, 32, 8).is_some());
        assert_eq!(plan(2048, 32, 32, 8), None);
        // A group of 2^31 numbers, too.
        assert_eq!(plan(1, 32, 1, 1 << 26), None);
        assert!(plan(1, 32, 1, 1 << 25).is_some());
    }

    #[test]
    fn rows_get_a_warp_each() {
        let x = Tensor::zeros((3, 3, 320), DType::F16, &Device::Cpu).unwrap();
        let plan = |x: &Tensor| plan_row_norm(x, x.dim(D::Minus1).unwrap(), 1e-5, "layer").unwrap();
        let first = plan(&x).unwrap();
        assert_eq!(
            (first.grid, first.threads, first.function.as_str()),
            ([3, 1, 1], 128, "layer_norm_f16")
        );
        assert_eq!((first.sizes.rows, first.sizes.width, first.sizes.wide), (9, 320, 1));
        // Rows that do not begin at 16 bytes.
        let odd = Tensor::zeros((2, 13), DType::F16, &Device::Cpu).unwrap();
        assert_eq!(plan(&odd).unwrap().sizes.wide, 0);
        let moved = Tensor::zeros(8 * 320 + 4, DType::F16, &Device::Cpu).unwrap();
        let moved = moved.narrow(0, 4, 8 * 320).unwrap().reshape((8, 320)).unwrap();
        assert_eq!(plan(&moved).unwrap().sizes.wide, 0);
        assert_eq!(plan(&Tensor::zeros((0, 8), DType::F16, &Device::Cpu).unwrap()), None);
    }

    #[test]
    fn sizes_lie_as_in_the_kernels() {
        assert_eq!((size_of::<GroupNormSizes>(), size_of::<RowNormSizes>()), (32, 24));
        assert_eq!(std::mem::offset_of!(RowNormSizes, wide), 16);
        assert_eq!(std::mem::offset_of!(GroupNormSizes, eps), 24);
    }
}
