//! In: small pictures. Checks: resized to the very bytes that Pillow gives, up to version 12 and from 13
//! on. Goldens are made by `tests/fixtures/make_pillow_resize.py` with Pillow 10.3.0 and 13.0.0.

use std::collections::BTreeMap;

use dpg_bench::judge::pillow_resize::{Filter, Order, resize};
use image::RgbImage;
use sha2::{Digest, Sha256};

use crate::tiny_checkpoint::fixture;

/// `picture filter WIDTHxHEIGHT` -> start of the digest of the pixels.
fn goldens(version: &str) -> BTreeMap<String, String> {
    let path = fixture(&format!("pillow/pillow-{version}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

type Resize<'a> = &'a dyn Fn(&RgbImage, (u32, u32), Filter) -> RgbImage;

/// The cases that `resize` gives otherwise than Pillow.
fn disagreements(version: &str, resize: Resize<'_>) -> Vec<String> {
    let goldens = goldens(version);
    assert_eq!(goldens.len(), 8 * 3 * 19);
    let differs = |(case, golden): &(String, String)| {
        let words: Vec<&str> = case.split(' ').collect();
        let [name, filter, size] = words[..] else { panic!("{case}") };
        let path = fixture(&format!("pillow/{name}.png"));
        let picture = image::open(path).unwrap().to_rgb8();
        let filter = match filter {
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            _ => Filter::Lanczos,
        };
        let (width, height) = size.split_once('x').unwrap();
        let size = (width.parse().unwrap(), height.parse().unwrap());
        let resized = resize(&picture, size, filter);
        assert_eq!(resized.dimensions(), size);
        let digest = Sha256::digest(resized.as_raw());
        let start: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        start != *golden
    };
    goldens.into_iter().filter(differs).map(|(case, _)| case).collect()
}

#[test]
fn pictures_are_resized_to_the_bytes_of_pillow() {
    for (version, order) in [("10.3.0", Order::RowsFirst), ("13.0.0", Order::Pillow13)] {
        let ours = |picture: &RgbImage, size, filter| resize(picture, size, filter, order);
        assert_eq!(disagreements(version, &ours), Vec::<String>::new(), "Pillow {version}");
    }
}

/// The orders differ in 67 of the cases, a wrong filter in most of them, and so does the resize of the
/// image library.
#[test]
fn another_order_filter_or_library_is_seen() {
    let wrong_order =
        |picture: &RgbImage, size, filter| resize(picture, size, filter, Order::RowsFirst);
    let found = disagreements("13.0.0", &wrong_order);
    assert_eq!(found.len(), 67, "{found:?}");
    let wrong_filter =
        |picture: &RgbImage, size, _| resize(picture, size, Filter::Bicubic, Order::RowsFirst);
    assert!(disagreements("10.3.0", &wrong_filter).len() > 250);
    let library = |picture: &RgbImage, (width, height), filter| {
        let filter = match filter {
            Filter::Bilinear => image::imageops::FilterType::Triangle,
            Filter::Bicubic => image::imageops::FilterType::CatmullRom,
            Filter::Lanczos => image::imageops::FilterType::Lanczos3,
        };
        image::imageops::resize(picture, width, height, filter)
    };
    assert!(disagreements("10.3.0", &library).len() > 100);
}

/// The reference script shows squares alone, so the Pillow of the published numbers does not matter.
#[test]
fn squares_come_out_of_every_pillow_alike() {
    let (before, after) = (goldens("10.3.0"), goldens("13.0.0"));
    let is_square = |case: &str| {
        let size = case.rsplit(' ').next().and_then(|size| size.split_once('x'));
        case.starts_with("noise-64x64 ") && size.is_some_and(|(width, height)| width == height)
    };
    let squares: Vec<&String> = before.keys().filter(|case| is_square(case)).collect();
    assert_eq!(squares.len(), 18, "{squares:?}");
    assert!(squares.iter().all(|case| before[*case] == after[*case]));
    // From any size to any other.
    let picture = image::open(fixture("pillow/edges-64x60.png")).unwrap().to_rgb8();
    for side in [1, 5, 31, 60] {
        let square = image::imageops::crop_imm(&picture, 2, 0, side, side).to_image();
        for to in [1, 16, 33, 60, 90] {
            let made = [Order::RowsFirst, Order::Pillow13]
                .map(|order| resize(&square, (to, to), Filter::Bicubic, order));
            assert_eq!(made[0], made[1], "{side} to {to}");
        }
    }
}

#[test]
fn no_pixels_give_no_pixels() {
    let empty = RgbImage::new(0, 3);
    assert_eq!(resize(&empty, (4, 4), Filter::Bicubic, Order::RowsFirst).dimensions(), (4, 4));
    let picture = RgbImage::new(2, 2);
    assert_eq!(resize(&picture, (0, 4), Filter::Bicubic, Order::RowsFirst).dimensions(), (0, 4));
    assert_eq!(resize(&picture, (2, 2), Filter::Bicubic, Order::RowsFirst), picture);
}
