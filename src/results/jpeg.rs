//! In: the bytes of a JPEG. Out: the 8-bit RGB pixels that Pillow's `Image.open(..).convert("RGB")` has for it,
//! bit for bit, or why it is not taken. Decoded by libjpeg-turbo (vendored by mozjpeg), as Pillow does.
//!
//! Pillow takes some damaged files without a word and leaves grey where data are missing. Nothing damaged is
//! taken here: whatever libjpeg warns of that can cost pixels is an error.

#![allow(unsafe_code, reason = "libjpeg is a library of C")]

use std::any::Any;
use std::marker::PhantomData;
use std::os::raw::{c_int, c_ulong};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use image::RgbImage;
use mozjpeg_sys::{
    JERR_ARITH_NOTIMPL, JWRN_ADOBE_XFORM, JWRN_EXTRANEOUS_DATA, JWRN_JFIF_MAJOR, JWRN_JPEG_EOF,
    JWRN_NOT_SEQUENTIAL, jpeg_common_struct, jpeg_create_decompress, jpeg_decompress_struct,
    jpeg_destroy_decompress, jpeg_error_mgr, jpeg_finish_decompress, jpeg_mem_src,
    jpeg_read_header, jpeg_read_scanlines, jpeg_start_decompress, jpeg_std_error,
};

use super::jpeg_scans::{ScanFault, check_scans};

/// The first bytes of every JPEG.
pub(crate) const MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];

/// Bytes for one sample while a picture is unpacked: the sample and, in files of several scans, its
/// coefficient.
const BYTES_PER_SAMPLE: u64 = 3;

/// Why a JPEG is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JpegFault {
    /// It claims to be larger than what is unpacked.
    #[error("it is too large")]
    TooLarge,
    /// Its scans are not taken.
    #[error("{0}")]
    Scans(ScanFault),
    /// It has as many channels as no picture has.
    #[error("it has {0} channels")]
    Channels(u64),
    /// It holds less than it claims.
    #[error("it has fewer pixels than its header says")]
    FewerPixels,
    /// It ends early.
    #[error("it ends before the image does: it was cut")]
    Cut,
    /// It is of a kind that is not read.
    #[error("arithmetic coding is not read; save it as PNG")]
    ArithmeticCoding,
    /// There are bytes between its segments; libjpeg's words.
    #[error("{0} (if it looks whole, save it again, as PNG)")]
    ExtraneousBytes(String),
    /// Whatever else libjpeg finds; its words.
    #[error("{0}")]
    Libjpeg(String),
}

/// Width and height, from the header; `None` if there is none that libjpeg takes.
pub(crate) fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    guarded(|| Ok(Decoder::open(bytes).size())).ok()
}

/// The pixels. `largest_side` and `largest_memory` (bytes) bound what is unpacked.
///
/// # Errors
/// [`JpegFault::TooLarge`] before anything is unpacked; another of a file that is cut, damaged or of a kind
/// that is not read.
pub(super) fn decode_jpeg(
    bytes: &[u8],
    largest_side: u32,
    largest_memory: u64,
) -> Result<RgbImage, JpegFault> {
    guarded(|| {
        let decoder = Decoder::open(bytes);
        let ((width, height), channels) = (decoder.size(), decoder.channels());
        let memory = u64::from(width) * u64::from(height) * channels * BYTES_PER_SAMPLE;
        if width > largest_side || height > largest_side || memory > largest_memory {
            return Err(JpegFault::TooLarge);
        }
        check_scans(bytes).map_err(JpegFault::Scans)?;
        let samples = decoder.samples();
        // As libjpeg has it: YCbCr becomes RGB, YCCK becomes CMYK.
        let rgb = match channels {
            1 => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
            3 => samples,
            4 => samples.as_chunks::<4>().0.iter().flat_map(|inks| rgb_of_inks(*inks)).collect(),
            _ => return Err(JpegFault::Channels(channels)),
        };
        RgbImage::from_raw(width, height, rgb).ok_or(JpegFault::FewerPixels)
    })
}

/// Pillow's way from ink to light: the four values stand inverted in the file, as Adobe writes them, whoever
/// wrote it.
fn rgb_of_inks(inverted: [u8; 4]) -> [u8; 3] {
    let [cyan, magenta, yellow, black] = inverted.map(|value| 255 - u32::from(value));
    [cyan, magenta, yellow].map(|ink| {
        let light = 255 - black;
        let product = ink * light + 128;
        light.saturating_sub(((product >> 8) + product) >> 8) as u8
    })
}

/// A file whose header was read. Its functions end in the panic of [`stop`] where libjpeg finds a fault.
struct Decoder<'a> {
    /// Both stay where they are: libjpeg keeps their addresses.
    decoder: Box<jpeg_decompress_struct>,
    _errors: Box<jpeg_error_mgr>,
    _bytes: PhantomData<&'a [u8]>,
}

impl<'a> Decoder<'a> {
    fn open(bytes: &'a [u8]) -> Self {
        let mut errors = Box::new(error_manager());
        // SAFETY: the struct is plain data of C, for which zeros are valid. libjpeg initialises it, reads no
        // more than the bytes given, which outlive it, and keeps pointers to boxes that live as long. Dropping
        // frees what it allocated, also after an error.
        unsafe {
            let mut decoder: Box<jpeg_decompress_struct> = Box::new(std::mem::zeroed());
            decoder.common.err = &raw mut *errors;
            jpeg_create_decompress(&raw mut *decoder);
            let mut opened = Self { decoder, _errors: errors, _bytes: PhantomData };
            jpeg_mem_src(&mut opened.decoder, bytes.as_ptr(), bytes.len() as c_ulong);
            jpeg_read_header(&mut opened.decoder, 1);
            opened
        }
    }

    fn size(&self) -> (u32, u32) {
        (self.decoder.image_width, self.decoder.image_height)
    }

    fn channels(&self) -> u64 {
        self.decoder.num_components.unsigned_abs().into()
    }

    /// The samples of all channels, row by row.
    fn samples(mut self) -> Vec<u8> {
        let decoder = &mut *self.decoder;
        // SAFETY: the header was read. Each row has the width and the channels that libjpeg has set by then,
        // and the file is read to its end.
        unsafe {
            jpeg_start_decompress(decoder);
            let row =
                decoder.output_width as usize * decoder.output_components.unsigned_abs() as usize;
            let mut samples = vec![0; row * decoder.output_height as usize];
            for line in samples.chunks_exact_mut(row.max(1)) {
                let mut start = line.as_mut_ptr();
                jpeg_read_scanlines(decoder, &raw mut start, 1);
            }
            jpeg_finish_decompress(decoder);
            samples
        }
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        // SAFETY: it was created in `open`, and is destroyed once.
        unsafe { jpeg_destroy_decompress(&mut self.decoder) }
    }
}

/// Runs what may end in one of libjpeg's errors.
fn guarded<T>(work: impl FnOnce() -> Result<T, JpegFault>) -> Result<T, JpegFault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(fault_of(panic)))
}

fn fault_of(panic: Box<dyn Any + Send>) -> JpegFault {
    match panic.downcast::<JpegFault>() {
        Ok(fault) => *fault,
        // A fault of our own.
        Err(panic) => resume_unwind(panic),
    }
}

/// libjpeg's own handlers, but for those that would end the program or print.
fn error_manager() -> jpeg_error_mgr {
    // SAFETY: the struct is plain data of C, for which zeros are valid, and jpeg_std_error fills it.
    let mut errors = unsafe {
        let mut errors: jpeg_error_mgr = std::mem::zeroed();
        jpeg_std_error(&mut errors);
        errors
    };
    errors.error_exit = Some(stop);
    errors.emit_message = Some(hear);
    errors
}

/// Takes the way out that libjpeg asks for, a panic with a [`JpegFault`]: it must not come back.
extern "C-unwind" fn stop(decoder: &mut jpeg_common_struct) {
    let code = code_of(decoder);
    let fault = match code {
        JWRN_JPEG_EOF => JpegFault::Cut,
        JERR_ARITH_NOTIMPL => JpegFault::ArithmeticCoding,
        JWRN_EXTRANEOUS_DATA => JpegFault::ExtraneousBytes(message_of(decoder)),
        _ => JpegFault::Libjpeg(message_of(decoder)),
    };
    resume_unwind(Box::new(fault));
}

/// Hears warnings (-1) and trace messages.
extern "C-unwind" fn hear(decoder: &mut jpeg_common_struct, level: c_int) {
    // These tell of unusual headers, not of pixels.
    let harmless = [JWRN_ADOBE_XFORM, JWRN_JFIF_MAJOR, JWRN_NOT_SEQUENTIAL];
    if level < 0 && !harmless.contains(&code_of(decoder)) {
        stop(decoder);
    }
}

fn code_of(decoder: &jpeg_common_struct) -> c_int {
    // SAFETY: libjpeg calls handlers with the error manager that it found them in.
    unsafe { (*decoder.err).msg_code }
}

/// libjpeg's message in words.
fn message_of(decoder: &mut jpeg_common_struct) -> String {
    type Writes = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, *mut u8);
    type Declared = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &[u8; 80]);
    let mut text = [0; MESSAGE_LENGTH];
    // SAFETY: the manager is the one of `error_manager`, whose format_message is libjpeg's own. That writes at
    // most JMSG_LENGTH_MAX bytes with a final zero; the binding declares its buffer as read-only.
    unsafe {
        if let Some(format) = (*decoder.err).format_message {
            std::mem::transmute::<Declared, Writes>(format)(decoder, text.as_mut_ptr());
        }
    }
    let length = text.iter().position(|byte| *byte == 0).unwrap_or_default();
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// JMSG_LENGTH_MAX.
const MESSAGE_LENGTH: usize = 200;
