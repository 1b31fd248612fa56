//! In: an image as Python's libraries hold it: of Pillow, an array (buffer protocol) or a tensor (DLPack), known by what it can do
//! and not by its type. Out: 8-bit RGB, or a `ValueError` that says what it is instead.

use dpg_bench::{MAX_IMAGE_SIDE, RgbImage};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PyTuple};

use crate::dlpack;

/// Samples in row-major order.
pub(crate) enum Samples {
    /// 0 to 255.
    Bytes(Vec<u8>),
    /// 0 to 1.
    Singles(Vec<f32>),
    /// 0 to 1.
    Doubles(Vec<f64>),
}

/// An array with its samples copied.
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) samples: Samples,
}

/// The images of one item: one, or several as a list, a tuple or an array of four dimensions. `item` is for messages.
pub(crate) fn images_of(given: &Bound<'_, PyAny>, item: &str) -> PyResult<Vec<RgbImage>> {
    let is_list = given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>();
    if !is_list && shape_of(given).is_none_or(|shape| shape.len() != 4) {
        return Ok(vec![image_of(given, &format!("the image of {item}"))?]);
    }
    let images = given
        .try_iter()?
        .enumerate()
        .map(|(place, image)| image_of(&image?, &format!("image {place} of {item}")));
    images.collect()
}

/// One image. `name` is for messages.
pub(crate) fn image_of(given: &Bound<'_, PyAny>, name: &str) -> PyResult<RgbImage> {
    if let Some(image) = of_pillow(given)? {
        return Ok(image);
    }
    let what = || given.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    // Whoever knows the shape before copies no batch of gigabytes to find that it is none.
    if let Some(shape) = shape_of(given) {
        size_of(&shape, name)?;
    }
    let array = match of_buffer(given, name)? {
        Some(array) => array,
        None => dlpack::array_of(given, name)?.ok_or_else(|| {
            refused(name, &format!("is a {}, no image of Pillow, array or tensor", what()))
        })?,
    };
    let size = size_of(&array.shape, name)?;
    let bytes = match array.samples {
        Samples::Bytes(bytes) => bytes,
        Samples::Singles(floats) => bytes_of_singles(&floats, name)?,
        Samples::Doubles(floats) => bytes_of_doubles(&floats, name)?,
    };
    let pixels = if size.planes_first { interleaved(&bytes) } else { bytes };
    RgbImage::from_raw(size.width as u32, size.height as u32, pixels)
        .ok_or_else(|| refused(name, "holds fewer samples than its shape says"))
}

/// That `name` cannot be taken, and why.
pub(crate) fn refused(name: &str, why: &str) -> PyErr {
    PyValueError::new_err(format!("{name} {why}"))
}

/// The shape that an array or a tensor says of itself.
fn shape_of(given: &Bound<'_, PyAny>) -> Option<Vec<usize>> {
    given.getattr("shape").ok()?.extract().ok()
}

struct Size {
    width: usize,
    height: usize,
    /// (3, height, width) and not (height, width, 3).
    planes_first: bool,
}

fn size_of(shape: &[usize], name: &str) -> PyResult<Size> {
    let size = match *shape {
        [3, _, 3] => {
            return Err(refused(
                name,
                &format!("has the shape {shape:?}, which could be either order of the axes"),
            ));
        }
        [height, width, 3] => Size { width, height, planes_first: false },
        [3, height, width] => Size { width, height, planes_first: true },
        _ => {
            return Err(refused(
                name,
                &format!(
                    "has the shape {shape:?}; an RGB image is (height, width, 3) or (3, height, width)"
                ),
            ));
        }
    };
    let is_possible = |side: usize| (1..=MAX_IMAGE_SIDE as usize).contains(&side);
    if !is_possible(size.width) || !is_possible(size.height) {
        return Err(refused(
            name,
            &format!("has the shape {shape:?}; a side has 1 to {MAX_IMAGE_SIDE}"),
        ));
    }
    Ok(size)
}

/// An image of Pillow, converted as `import` converts files.
fn of_pillow(given: &Bound<'_, PyAny>) -> PyResult<Option<RgbImage>> {
    for method in ["convert", "tobytes", "mode", "size"] {
        if !given.hasattr(method)? {
            return Ok(None);
        }
    }
    let rgb = given.call_method1("convert", ("RGB",))?;
    let (width, height): (u32, u32) = rgb.getattr("size")?.extract()?;
    let bytes = rgb.call_method0("tobytes")?;
    let bytes = bytes.cast::<PyBytes>()?.as_bytes().to_vec();
    Ok(RgbImage::from_raw(width, height, bytes))
}

/// What has Python's buffer protocol.
fn of_buffer(given: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Array>> {
    let Ok(view) = PyMemoryView::from(given) else { return Ok(None) };
    let shape: Vec<usize> = view.getattr("shape")?.extract()?;
    size_of(&shape, name)?;
    let format: String = view.getattr("format")?.extract()?;
    // Rows of any stride come out in order.
    let bytes = view.call_method0("tobytes")?;
    let bytes = bytes.cast::<PyBytes>()?.as_bytes();
    let samples = match format.trim_start_matches(['@', '=', '<']) {
        "B" => Samples::Bytes(bytes.to_vec()),
        "e" => {
            let bits: Vec<u16> = words(bytes).map(u16::from_ne_bytes).collect();
            Samples::Singles(bits.reinterpret_cast::<f16>().to_f32_vec())
        }
        "f" => Samples::Singles(words(bytes).map(f32::from_ne_bytes).collect()),
        "d" => Samples::Doubles(words(bytes).map(f64::from_ne_bytes).collect()),
        _ => return Err(refused(name, &foreign_samples(&format!("of the kind `{format}`")))),
    };
    Ok(Some(Array { shape, samples }))
}

/// Why samples of that kind are not taken.
pub(crate) fn foreign_samples(kind: &str) -> String {
    format!("has samples {kind}; bytes from 0 to 255 (uint8) or floats from 0 to 1 are taken")
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// Bytes of floats from 0 to 1, rounded as diffusers rounds: to the nearest, ties to even. Adding 2^23 does that in any processor's
/// own arithmetic.
fn bytes_of_singles(floats: &[f32], name: &str) -> PyResult<Vec<u8>> {
    // All of them are looked at, which is quicker than to stop at the first.
    if !floats.iter().fold(true, |are_right, value| are_right & (0.0..=1.0).contains(value)) {
        let first = floats.iter().position(|value| !(0.0..=1.0).contains(value));
        let value = first.map(|place| f64::from(floats[place]));
        return Err(outside(value.unwrap_or(f64::NAN), name));
    }
    Ok(floats.iter().map(|value| (value * 255.0 + 8_388_608.0).to_bits() as u8).collect())
}

/// As [`bytes_of_singles`], by 2^52.
fn bytes_of_doubles(floats: &[f64], name: &str) -> PyResult<Vec<u8>> {
    if let Some(value) = floats.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        return Err(outside(*value, name));
    }
    Ok(floats
        .iter()
        .map(|value| (value * 255.0 + 4_503_599_627_370_496.0).to_bits() as u8)
        .collect())
}

fn outside(value: f64, name: &str) -> PyErr {
    refused(name, &format!("holds {value}; floats of an image are from 0 to 1"))
}

/// Red, green and blue planes as pixels.
fn interleaved(planes: &[u8]) -> Vec<u8> {
    let count = planes.len() / 3;
    let (red, rest) = planes.split_at(count);
    let (green, blue) = rest.split_at(count);
    let pixels = red.iter().zip(green).zip(blue);
    let mut bytes = vec![0; 3 * count];
    for (pixel, ((red, green), blue)) in bytes.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
        *pixel = [*red, *green, *blue];
    }
    bytes
}
