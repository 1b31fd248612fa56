//! In: queries, keys and values as the linear layers give them, on a GPU. Out: attention, without a matrix
//! of scores in memory and without laying heads out apart.

use candle_core::{DType, Result, Tensor};

use super::driver::launch;
use super::launch::{File, Launch, Output, Sizes, grid, small};
use super::numbers::{exact, suffix, wide};
use crate::compute::cpu::attention::Scores;

/// Head sizes that a kernel is made for; smaller heads are filled up to the next one.
pub(crate) const HEADS: [usize; 6] = [40, 64, 80, 128, 160, 512];

#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[repr(C)]
struct AttentionSizes {
    query_entry: i64,
    query_row: i64,
    key_entry: i64,
    key_row: i64,
    value_entry: i64,
    value_row: i64,
    bias_entry: i64,
    bias_head: i64,
    bias_row: i64,
    bias_key: i64,
    queries: u32,
    keys: u32,
    heads: u32,
    head: u32,
    scale: f32,
    causal: u32,
}

// SAFETY: the struct of attention_sizes.cuh, field by field.
#[allow(unsafe_code)]
unsafe impl Sizes for AttentionSizes {}

/// How `attention.cu` is cut for one head size; the same rule stands there.
#[derive(Debug, PartialEq)]
struct Tiles {
    /// Queries of a block.
    queries: usize,
    threads: u32,
    shared_bytes: u32,
}

fn tiles(head: usize, has_bias: bool) -> Tiles {
    let slices = if head > 160 { 2 } else { 1 };
    let tiles_of_warp = if head <= 80 && !has_bias { 2 } else { 1 };
    let keys = match head {
        0..=80 => 64,
        81..=160 => 32,
        _ => 16,
    };
    let queries = 64 * tiles_of_warp;
    // Rows of 16-bit numbers, filled up to whole tiles, with 16 bytes between them.
    let row_bytes = 2 * (head.next_multiple_of(16) + 8);
    let shared_bytes = ((queries + 2 * keys) * row_bytes) as u32;
    Tiles { queries, threads: 128 * slices, shared_bytes }
}

/// The same for `attention_f32.cu`: its columns a thread, and its tiles.
fn tiles_f32(head: usize) -> (usize, Tiles) {
    let columns = match head {
        0..=64 => 4,
        65..=80 => 5,
        81..=160 => 10,
        _ => 32,
    };
    // Turned tiles of queries and keys, the shares, and eight rows of values.
    let numbers = 2 * 16 * 68 + 64 * 65 + 8 * 16 * columns;
    (columns, Tiles { queries: 64, threads: 256, shared_bytes: 4 * numbers as u32 })
}

/// `softmax(scale * q k^T + bias) v` for `query` [b, n, heads * d], `key` and `value` [b, m, heads * d];
/// gives [b, n, heads * d]. `None` where no kernel takes it: heads of more than 512 numbers, or in half
/// precision of a size that 8 does not divide.
pub(crate) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    Scores { scale, causal, bias, .. }: Scores,
) -> Result<Option<Tensor>> {
    let (batch, queries, width) = query.dims3()?;
    let keys = key.dim(1)?;
    if key.dims() != [batch, keys, width] || key.dims() != value.dims() {
        let (key, value) = (key.dims(), value.dims());
        candle_core::bail!("queries {:?} do not fit keys {key:?}, values {value:?}", query.dims())
    }
    if heads == 0 || !width.is_multiple_of(heads) {
        return Ok(None);
    }
    let (query, key, value) =
        (with_even_rows(query)?, with_even_rows(key)?, with_even_rows(value)?);
    let bias = bias
        .map(|bias| -> Result<Tensor> {
            // What is broadcast stays as small as it is: the kernel steps over it with strides of zero.
            exact(bias)?.broadcast_as((batch, heads, queries, keys))
        })
        .transpose()?;
    let head = width / heads;
    let scale = scale.unwrap_or_else(|| (head as f64).powf(-0.5));
    let strides = [&query, &key, &value].map(steps);
    let strides = strides.each_ref().map(Vec::as_slice);
    let call = Call { batch, queries, keys, heads, head, scale, causal };
    let bias_stride = bias.as_ref().map(|bias| bias.stride());
    let Some(plan) = plan(call, strides, bias_stride, query.dtype(), suffix(&query)?) else {
        return Ok(None);
    };
    let output = Output { shape: vec![batch, queries, width], dtype: query.dtype() };
    launch(&plan, output, &[Some(&query), Some(&key), Some(&value), bias.as_ref()]).map(Some)
}

/// Numbers from one place of each dimension to the next; zero where there is no next one.
fn steps(tensor: &Tensor) -> Vec<usize> {
    let sizes = tensor.dims().iter();
    sizes.zip(tensor.stride()).map(|(size, stride)| if *size == 1 { 0 } else { *stride }).collect()
}

/// The tensor where each row is solid and begins at a multiple of 16 bytes, else a copy.
fn with_even_rows(tensor: &Tensor) -> Result<Tensor> {
    let even = |count: &usize| count.is_multiple_of(wide(tensor));
    match steps(tensor).as_slice() {
        [entry, row, _] if [entry, row, &tensor.layout().start_offset()].into_iter().all(even) => {
            match tensor.stride().last() {
                Some(1) => Ok(tensor.clone()),
                _ => tensor.contiguous(),
            }
        }
        // A contiguous part of a larger tensor is one to candle as well.
        _ if tensor.is_contiguous() => tensor.force_contiguous(),
        _ => tensor.contiguous(),
    }
}

#[derive(Debug, Clone, Copy)]
struct Call {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    head: usize,
    scale: f64,
    causal: bool,
}

fn plan(
    call: Call,
    strides: [&[usize]; 3],
    bias: Option<&[usize]>,
    dtype: DType,
    suffix: &str,
) -> Option<Launch<AttentionSizes>> {
    let Call { batch, queries, keys, heads, head, scale, causal } = call;
    let made = HEADS.into_iter().find(|made| head <= *made)?;
    if head == 0 || keys == 0 || scale <= 0.0 {
        return None;
    }
    let (file, function, tiles) = if dtype == DType::F32 {
        let (columns, tiles) = tiles_f32(head);
        (File::AttentionF32, format!("attention_{columns}_f32"), tiles)
    } else if head.is_multiple_of(8) {
        let name = if bias.is_some() { "attention_with_bias" } else { "attention" };
        (File::Attention(made), format!("{name}_{suffix}"), tiles(made, bias.is_some()))
    } else {
        return None;
    };
    let stride = |of: usize, dimension: usize| i64::try_from(*strides[of].get(dimension)?).ok();
    let bias = |dimension: usize| {
        i64::try_from(bias.and_then(|bias| bias.get(dimension).copied()).unwrap_or(0)).ok()
    };
    let sizes = AttentionSizes {
        query_entry: stride(0, 0)?,
        query_row: stride(0, 1)?,
        key_entry: stride(1, 0)?,
        key_row: stride(1, 1)?,
        value_entry: stride(2, 0)?,
        value_row: stride(2, 1)?,
        bias_entry: bias(0)?,
        bias_head: bias(1)?,
        bias_row: bias(2)?,
        bias_key: bias(3)?,
        queries: small(queries)?,
        keys: small(keys)?,
        heads: small(heads)?,
        head: small(head)?,
        scale: (scale * std::f64::consts::LOG2_E) as f32,
        causal: causal.into(),
    };
    // A row is a 32-bit number in the kernel; its place in memory is not.
    small(heads * head)?;
    let grid = grid(queries.div_ceil(tiles.queries), heads, batch)?;
    let Tiles { threads, shared_bytes, .. } = tiles;
    Some(Launch { file, function, grid, threads, shared_bytes, sizes })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Shared memory that a block may have on the least of the devices from compute capability 8.0 on.
    const MOST_SHARED: u32 = 99 * 1024;

    fn call(head: usize) -> Call {
        let scale = (head as f64).powf(-0.5);
        Call { batch: 2, queries: 4096, keys: 77, heads: 8, head, scale, causal: false }
    }

    fn planned(call: Call, bias: Option<&[usize]>, dtype: DType) -> Option<Launch<AttentionSizes>> {
        let width = call.heads * call.head;
        let (rows, keys) = ([call.queries * width, width, 1], [call.keys * width, width, 1]);
        plan(call, [&rows, &keys, &keys], bias, dtype, "f16")
    }

    #[test]
    fn rows_that_lie_evenly_are_taken_as_they_are() {
        let all = Tensor::zeros((4, 3, 48), DType::F16, &Device::Cpu).unwrap();
        let thirds = all.narrow(2, 16, 16).unwrap();
        assert_eq!(with_even_rows(&thirds).unwrap().stride(), [144, 48, 1]);
        // One row an entry has no next one, whatever its stride.
        let single = Tensor::zeros((4, 16), DType::F16, &Device::Cpu).unwrap();
        let single = single.unsqueeze(1).unwrap();
        assert_eq!(steps(&single), [16, 0, 1]);
        assert_eq!(with_even_rows(&single).unwrap().stride(), single.stride());
        // Rows that begin off 16 bytes, or are not solid, are copied.
        for odd in [all.narrow(2, 4, 16).unwrap(), thirds.transpose(1, 2).unwrap()] {
            assert!(with_even_rows(&odd).unwrap().is_contiguous());
        }
    }

    #[test]
    fn heads_find_their_kernel_and_its_tiles() {
        let plan = planned(call(40), None, DType::F16).unwrap();
        assert_eq!((plan.file, plan.function.as_str()), (File::Attention(40), "attention_f16"));
        // 128 queries, 64 keys and as many values, in rows of 48 + 8 numbers.
        assert_eq!((plan.grid, plan.threads, plan.shared_bytes), ([32, 8, 2], 128, 256 * 56 * 2));
        assert_eq!((plan.sizes.query_entry, plan.sizes.key_row), (4096 * 320, 320));
        assert!((plan.sizes.scale - 0.228_108).abs() < 1e-5);
        for (head, file) in
            [(8, 40), (48, 64), (72, 80), (96, 128), (160, 160), (168, 512), (512, 512)]
        {
            let plan = planned(call(head), None, DType::F16).unwrap();
            assert_eq!(plan.file, File::Attention(file), "{head}");
            assert!(plan.shared_bytes <= MOST_SHARED, "{head}: {}", plan.shared_bytes);
            let rows = plan.grid[0] as usize * tiles(file, false).queries;
            assert!((4096..4096 + tiles(file, false).queries).contains(&rows), "{head}");
        }
        assert_eq!(
            tiles(512, false),
            Tiles { queries: 64, threads: 256, shared_bytes: 96 * 520 * 2 }
        );
        // What fits without asking, on any device.
        for head in [40, 64, 80, 160] {
            assert!(tiles(head, false).shared_bytes <= 48 * 1024, "{head}");
        }
        for (head, columns) in [(1, 4), (64, 4), (65, 5), (81, 10), (161, 32), (512, 32)] {
            let plan = planned(call(head), None, DType::F32).unwrap();
            assert_eq!(plan.function, format!("attention_{columns}_f32"));
            assert!(16 * columns >= head && plan.shared_bytes <= 48 * 1024, "{head}");
        }
    }

    #[test]
    fn a_bias_takes_registers_and_strides() {
        let strides = [0, 4096 * 77, 77, 1];
        let plan = planned(call(64), Some(&strides), DType::BF16).unwrap();
        assert_eq!((plan.grid[0], plan.function.as_str()), (64, "attention_with_bias_f16"));
        assert_eq!((plan.sizes.bias_entry, plan.sizes.bias_head), (0, 4096 * 77));
        assert_eq!((plan.sizes.bias_row, plan.sizes.bias_key), (77, 1));
    }

    #[test]
    fn what_no_kernel_takes_goes_back() {
        for head in [0, 4, 42, 513, 520] {
            assert_eq!(planned(call(head), None, DType::F16), None, "{head}");
        }
        assert!(planned(call(42), None, DType::F32).is_some());
        assert_eq!(planned(Call { keys: 0, ..call(64) }, None, DType::F16), None);
        assert_eq!(planned(Call { scale: -1.0, ..call(64) }, None, DType::F16), None);
        assert_eq!(planned(Call { batch: 65_536, ..call(64) }, None, DType::F16), None);
        // More queries than 2^31 are refused; places beyond 2^31 are not.
        assert_eq!(planned(Call { queries: 1 << 31, ..call(64) }, None, DType::F16), None);
        let long = planned(Call { queries: 1 << 24, ..call(64) }, None, DType::F16).unwrap();
        assert_eq!(long.sizes.query_entry, 1 << 33);
    }

    #[test]
    fn rows_that_do_not_begin_at_16_bytes_are_copied() {
        let packed = Tensor::zeros((2, 5, 3 * 40), DType::F16, &Device::Cpu).unwrap();
        let third = packed.narrow(2, 40, 40).unwrap();
        let even = with_even_rows(&third).unwrap();
        assert_eq!((even.stride(), even.layout().start_offset()), (third.stride(), 40));
        let odd = packed.narrow(2, 4, 40).unwrap();
        let copied = with_even_rows(&odd).unwrap();
        assert_eq!((copied.stride(), copied.layout().start_offset()), (&[200, 40, 1][..], 0));
        let flat = Tensor::zeros(4 + 80, DType::F16, &Device::Cpu).unwrap();
        let moved = flat.narrow(0, 4, 80).unwrap().reshape((1, 2, 40)).unwrap();
        assert_eq!(with_even_rows(&moved).unwrap().layout().start_offset(), 0);
    }

    #[test]
    fn the_tiles_are_those_of_the_kernels() {
        assert_eq!(size_of::<AttentionSizes>(), 104);
        assert_eq!(std::mem::offset_of!(AttentionSizes, scale), 96);
        let kernel = include_str!("kernels/attention.cu");
        for rule in [
            "#define SLICES (HEAD > 160 ? 2 : 1)",
            "#define M_TILES (HEAD <= 80 ? 2 : 1)",
            "#define KEYS (HEAD <= 80 ? 64 : HEAD <= 160 ? 32 : 16)",
            "#define PADDED ((HEAD + 15) / 16 * 16)",
            "#define STRIDE (PADDED + 8)",
            "attention<T, 1, true>",
        ] {
            assert!(kernel.contains(rule), "attention.cu no longer says {rule}");
        }
        let (build, driver) = (include_str!("../../../build.rs"), include_str!("driver.rs"));
        assert!(build.contains(&format!("const HEADS: [usize; 6] = {HEADS:?};")));
        for head in HEADS {
            let arm = format!("File::Attention({head}) => kernels!(\"attention_{head}\"),");
            assert!(driver.contains(&arm), "driver.rs has no {arm}");
        }
        let kernel = include_str!("kernels/attention_f32.cu");
        for rule in ["#define ROWS 64", "#define KEYS 64", "#define DEPTH 16", "#define STEP 8"] {
            assert!(kernel.contains(rule), "attention_f32.cu no longer says {rule}");
        }
    }
}
