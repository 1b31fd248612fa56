//! What a run's thumbnail costs where its image is kept, beside the image's PNG.
//!
//! `cargo bench --bench thumbnail`

#![allow(clippy::expect_used)]

use divan::Bencher;
use dpg_bench::results::image_store::write_png;
use dpg_bench::results::thumbnail::thumbnail_of;
use image::{Rgb, RgbImage};

fn main() {
    divan::main();
}

/// Smooth with noise, as hard to pack as a photograph.
fn picture(side: u32) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(side, side, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = state >> 29;
        let of = |place: u32| (40 + place * 150 / side + noise) as u8;
        Rgb([of(x), of(y), of((x + y) / 2)])
    })
}

/// Shrinks the image and packs it as a JPEG.
#[divan::bench(args = [64, 512, 768, 1024])]
fn thumbnail(bencher: Bencher<'_, '_>, side: u32) {
    let picture = picture(side);
    bencher.bench_local(|| thumbnail_of(&picture).expect("a picture"));
}

/// Packs the image as a PNG, writes the file and syncs it.
#[divan::bench(args = [64, 512, 768, 1024])]
fn png(bencher: Bencher<'_, '_>, side: u32) {
    let picture = picture(side);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("0.png");
    bencher.bench_local(|| write_png(&path, &picture, &[]).expect("a file"));
}
