//! In: a tensor that speaks DLPack (PyTorch, JAX, CuPy), on whatever device. Out: its samples, copied to this process's memory. The
//! layout is that of `dlpack.h` (github.com/dmlc/dlpack); the only file here that reads a foreign address.
#![expect(unsafe_code, reason = "a tensor is handed over as an address")]

use std::ffi::c_void;
use std::slice;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::pixels::{Array, Samples, foreign_samples, refused};

/// `kDLCPU` and `kDLCUDAHost`: memory that the processor reads.
const HOST: [i32; 2] = [1, 3];

/// `DLDataType`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Kind {
    code: u8,
    bits: u8,
    lanes: u16,
}

/// `DLTensor`, with which a `DLManagedTensor` begins.
#[repr(C)]
struct Tensor {
    data: *const c_void,
    device: [i32; 2],
    dimensions: i32,
    kind: Kind,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

/// The tensor `given`; `None` where it is none. `name` is for messages.
pub(crate) fn array_of(given: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Array>> {
    if !given.hasattr("__dlpack__")? || !given.hasattr("__dlpack_device__")? {
        return Ok(None);
    }
    // One that is to have a gradient is not handed over.
    let given = match given.hasattr("detach")? {
        true => given.call_method0("detach")?,
        false => given.clone(),
    };
    let (device, _): (i32, i32) = given.call_method0("__dlpack_device__")?.extract()?;
    let capsule = if HOST.contains(&device) {
        given.call_method0("__dlpack__")?
    } else if given.hasattr("cpu")? {
        given.call_method0("cpu")?.call_method0("__dlpack__")?
    } else {
        let to_host = PyDict::new(given.py());
        to_host.set_item("dl_device", (HOST[0], 0))?;
        given.call_method("__dlpack__", (), Some(&to_host))?
    };
    // Not taken over: the capsule frees it when it is dropped, after the samples were copied.
    let capsule = capsule.cast_into::<PyCapsule>()?;
    let address = capsule.pointer_checked(Some(c"dltensor"))?;
    // SAFETY: a capsule of that name holds a `DLManagedTensor` that lives as long as the capsule does, and that begins with a
    // `DLTensor`.
    let tensor = unsafe { address.cast::<Tensor>().as_ref() };
    let copied = copied(tensor, name);
    drop(capsule);
    copied.map(Some)
}

fn copied(tensor: &Tensor, name: &str) -> PyResult<Array> {
    let dimensions = usize::try_from(tensor.dimensions).unwrap_or_default();
    if dimensions != 3 {
        return Err(refused(
            name,
            &format!("is a tensor of {dimensions} dimensions; an image has 3"),
        ));
    }
    // SAFETY: `shape` points to as many numbers as the tensor has dimensions.
    let shape = unsafe { slice::from_raw_parts(tensor.shape, dimensions) };
    let mut sides = [0; 3];
    for (side, given) in sides.iter_mut().zip(shape) {
        *side = usize::try_from(*given).unwrap_or_default();
    }
    let strides = match tensor.strides.is_null() {
        true => [shape[1] * shape[2], shape[2], 1],
        // SAFETY: where there are strides, there are as many as dimensions, in elements.
        false => unsafe { [*tensor.strides, *tensor.strides.add(1), *tensor.strides.add(2)] },
    };
    let from = Elements { tensor, sides, strides };
    let Kind { code, bits, lanes } = tensor.kind;
    // SAFETY, of each: the tensor says that its elements are of that kind, and it is in this process's memory.
    let samples = match (code, bits, lanes) {
        (1, 8, 1) => Samples::Bytes(unsafe { from.copied(|value: u8| value) }),
        (2, 16, 1) => {
            let bits = unsafe { from.copied(|bits: u16| bits) };
            Samples::Singles(bits.reinterpret_cast::<f16>().to_f32_vec())
        }
        (2, 32, 1) => Samples::Singles(unsafe { from.copied(|value: f32| value) }),
        (2, 64, 1) => Samples::Doubles(unsafe { from.copied(|value: f64| value) }),
        (4, 16, 1) => {
            let bits = unsafe { from.copied(|bits: u16| bits) };
            Samples::Singles(bits.reinterpret_cast::<bf16>().to_f32_vec())
        }
        _ => {
            let kind = format!("of {bits} bits (DLPack's kind {code})");
            return Err(refused(name, &foreign_samples(&kind)));
        }
    };
    Ok(Array { shape: sides.to_vec(), samples })
}

struct Elements<'t> {
    tensor: &'t Tensor,
    sides: [usize; 3],
    /// In elements.
    strides: [i64; 3],
}

impl Elements<'_> {
    /// Each element in row-major order, as `read` reads it.
    ///
    /// # Safety
    /// The tensor has elements of the type `T` in memory that can be read.
    unsafe fn copied<T: Copy, S>(&self, read: impl Fn(T) -> S) -> Vec<S> {
        let offset = self.tensor.byte_offset as usize;
        let first = self.tensor.data.cast::<u8>().wrapping_add(offset).cast::<T>();
        let [planes, rows, columns] = self.sides;
        let mut samples = Vec::with_capacity(planes * rows * columns);
        for plane in 0..planes as i64 {
            for row in 0..rows as i64 {
                let start = plane * self.strides[0] + row * self.strides[1];
                let begin = first.wrapping_offset(start as isize);
                if self.strides[2] == 1 && columns > 0 && begin.is_aligned() {
                    // SAFETY: a row of the tensor, as the caller promises, whose elements lie one after the other and aligned.
                    let row = unsafe { slice::from_raw_parts(begin, columns) };
                    samples.extend(row.iter().map(|value| read(*value)));
                    continue;
                }
                for column in 0..columns as i64 {
                    let place = (start + column * self.strides[2]) as isize;
                    // SAFETY: within shape and strides of the tensor, as the caller promises; it need not be aligned.
                    samples.push(read(unsafe { first.wrapping_offset(place).read_unaligned() }));
                }
            }
        }
        samples
    }
}
