//! In: a map on a GPU whose channels lie side by side. Out: it normalised by groups of channels, sums in f32. How the
//! work is cut follows from the shape alone.

use candle_core::{Result, Tensor};

use super::launch::{File, Launch, Sizes, grid, small};
use super::norms::{GroupNormWeights, Plan};
use super::numbers::{begins_wide, exact, suffix, wide};
use super::pointwise::PendingBias;

/// Threads of a block that takes all rows of its channels.
const WHOLE: usize = 512;
/// Numbers of a slice that one block takes at most: 64 for each thread.
const WHOLE_NUMBERS: usize = 64 * WHOLE;
/// Threads of a block that takes a part of the rows, and the numbers of a part.
const PART: usize = 256;
const PART_NUMBERS: usize = 32 * PART;
/// Channels of a slice at least, where there are parts: their rows lie apart, and 128 bytes are read at once.
const SLICE: usize = 64;
/// Floats of shared memory that a block may have without asking.
const SHARED: usize = 48 * 1024 / 4;

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct GroupNormLastSizes {
    rows: u32,
    channels: u32,
    channels_of_group: u32,
    slice: u32,
    parts: u32,
    part_rows: u32,
    shift_entry: u32,
    eps: f32,
    silu: u32,
}

// SAFETY: the struct of group_norm_last.cu, field by field.
#[allow(unsafe_code)]
unsafe impl Sizes for GroupNormLastSizes {}

/// `x` [b, rows, c], with what is `owed` to it, normalised over groups of channels; SiLU of that where
/// `silu` says so. `None` where the kernels cannot take it.
pub(crate) fn group_norm_last(
    x: &Tensor,
    weights: GroupNormWeights,
    owed: PendingBias,
    silu: bool,
) -> Result<Option<Tensor>> {
    let x = x.contiguous()?;
    let (batch, rows, channels) = x.dims3()?;
    let owed = owed.checked(batch, channels, x.dtype())?;
    let (bias, shift) = (owed.bias.as_ref(), owed.shift.as_ref());
    let aligned = [Some(&x), bias, shift].into_iter().flatten().all(begins_wide);
    let map = Map { batch, rows, channels, wide: wide(&x) };
    let plan =
        aligned.then(|| plan(map, weights, owed.shift_entry, silu, suffix(&x).ok()?)).flatten();
    let Some(plan) = plan else { return Ok(None) };
    let (weight, offset) = (exact(weights.weight)?, exact(weights.offset)?);
    let (Plan::Whole(first) | Plan::Parts(first, _)) = &plan;
    let moments = vec![batch, weights.groups, first.sizes.parts as usize, 2];
    plan.run([Some(&x), Some(&weight), Some(&offset), bias, shift], moments).map(Some)
}

/// The map to be normalised; `wide` is how many numbers 16 bytes hold.
#[derive(Debug, Clone, Copy)]
struct Map {
    batch: usize,
    rows: usize,
    channels: usize,
    wide: usize,
}

fn plan(
    map: Map,
    weights: GroupNormWeights,
    shift_entry: usize,
    silu: bool,
    suffix: &str,
) -> Option<Plan<GroupNormLastSizes>> {
    let Map { batch, rows, channels, wide } = map;
    let fits = weights.weight.elem_count() == channels && weights.offset.elem_count() == channels;
    let groups = weights.groups;
    if !fits || groups == 0 || !channels.is_multiple_of(groups) || !channels.is_multiple_of(wide) {
        return None;
    }
    let channels_of_group = channels / groups;
    // Whole groups that end where a step of 16 bytes ends.
    let least = (1..=wide)
        .map(|count| count * channels_of_group)
        .find(|width| width.is_multiple_of(wide))?;
    let whole = rows * least <= WHOLE_NUMBERS;
    let slice = if whole { least } else { least * SLICE.div_ceil(least) }.min(channels);
    let threads = match whole {
        // Whole warps, and no more of them than there are steps of 16 bytes.
        true => (rows * slice / wide).next_multiple_of(32).clamp(32, WHOLE),
        false => PART,
    };
    let columns = slice / wide;
    let lanes = threads / columns;
    if lanes == 0 {
        return None;
    }
    let part_rows = if whole { rows } else { (PART_NUMBERS / slice).max(lanes) };
    let parts = rows.div_ceil(part_rows.max(1));
    let shared = 2 * lanes * slice + 2 * slice / channels_of_group;
    let sizes = GroupNormLastSizes {
        rows: small(rows)?,
        channels: small(channels)?,
        channels_of_group: small(channels_of_group)?,
        slice: small(slice)?,
        parts: small(parts)?,
        part_rows: small(part_rows)?,
        shift_entry: small(shift_entry)?,
        eps: weights.eps as f32,
        silu: silu.into(),
    };
    let grid = grid(parts, channels.div_ceil(slice), batch)?;
    if shared > SHARED {
        return None;
    }
    let named = |way: &str| Launch {
        file: File::GroupNormLast,
        function: format!("group_norm_last_{way}_{suffix}"),
        grid,
        threads: threads as u32,
        shared_bytes: 4 * shared as u32,
        sizes,
    };
    Some(match whole {
        true => Plan::Whole(named("whole")),
        false => Plan::Parts(named("parts"), named("apply")),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn planned(
        batch: usize,
        rows: usize,
        channels: usize,
        groups: usize,
    ) -> Option<Plan<GroupNormLastSizes>> {
        let weight = Tensor::zeros(channels, DType::F32, &Device::Cpu).unwrap();
        let weights = GroupNormWeights { weight: &weight, offset: &weight, groups, eps: 1e-5 };
        plan(Map { batch, rows, channels, wide: 8 }, weights, channels, true, "f16")
    }

    #[test]
    fn slices_are_whole_groups_and_parts_cover_the_rows() {
        // Stable Diffusion 1.5 at 64 x 64: groups of 10 channels, four of them in five steps of 16 bytes.
        let Some(Plan::Parts(parts, apply)) = planned(2, 4096, 320, 32) else { panic!() };
        assert_eq!((parts.sizes.slice, parts.sizes.part_rows, parts.sizes.parts), (80, 102, 41));
        assert_eq!((parts.grid, parts.threads), ([41, 4, 2], 256));
        assert_eq!(
            (apply.grid, apply.function.as_str()),
            (parts.grid, "group_norm_last_apply_f16")
        );
        // 25 rows of ten threads at once: means, squares, and two numbers for each of 8 groups.
        assert_eq!(apply.shared_bytes, 4 * (2 * 25 * 80 + 16));
        // 16 x 16 and 1280 channels: one block for each group.
        let Some(Plan::Whole(whole)) = planned(2, 256, 1280, 32) else { panic!() };
        assert_eq!((whole.grid, whole.threads, whole.sizes.slice), ([1, 32, 2], 512, 40));
        assert_eq!(whole.sizes.part_rows, 256);
        // All that the networks here ask for.
        for channels in [64, 128, 256, 320, 512, 640, 960, 1280, 1920, 2560] {
            for rows in [1, 5, 64, 100, 256, 1024, 4096, 16_384, 262_144, 1 << 20] {
                let plan = planned(4, rows, channels, 32).unwrap();
                let (Plan::Whole(launch) | Plan::Parts(launch, _)) = plan;
                let sizes = launch.sizes;
                assert!(sizes.slice.is_multiple_of(sizes.channels_of_group));
                assert!(sizes.slice.is_multiple_of(8) && launch.threads >= sizes.slice / 8);
                assert!(launch.grid[1] * sizes.slice >= channels as u32);
                assert!((launch.grid[1] - 1) * sizes.slice < channels as u32);
                assert_eq!(launch.grid[0], sizes.parts);
                assert!(sizes.parts * sizes.part_rows >= rows as u32, "all rows have a part");
                assert!((sizes.parts - 1) * sizes.part_rows < rows as u32, "no part is empty");
                assert!(launch.shared_bytes <= 48 * 1024, "{channels} {rows}");
            }
        }
    }

    #[test]
    fn shapes_that_do_not_divide_go_back() {
        assert!(planned(1, 9, 24, 3).is_some());
        assert_eq!(planned(1, 9, 20, 4), None);
        assert_eq!(planned(1, 9, 24, 5), None);
        // A slice that no block has the memory or the threads for.
        assert_eq!(planned(1, 4096, 8 * 1024, 1), None);
        assert_eq!(planned(65_536, 9, 24, 3), None);
    }

    #[test]
    fn sizes_lie_as_in_the_kernels() {
        assert_eq!(size_of::<GroupNormLastSizes>(), 36);
        assert_eq!(std::mem::offset_of!(GroupNormLastSizes, eps), 28);
    }
}
