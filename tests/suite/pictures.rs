//! Picture files as Pillow sees them, pixel for pixel, and files that were cut on the way. The fixtures are made
//! by `tests/fixtures/make_pictures.py`.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use dpg_bench::results::image_store::{Samples, image_header, read_image};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Expected {
    packages: BTreeMap<String, String>,
    pictures: BTreeMap<String, Pixels>,
}

#[derive(Deserialize)]
struct Pixels {
    width: u32,
    height: u32,
    sha256: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every picture of a folder against the pixels that Pillow found.
fn check_folder(folder: &Path, at_least: usize) {
    let expected: Expected =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    assert_eq!(expected.packages["pillow"], "13.0.0");
    assert!(expected.pictures.len() >= at_least);
    let mut wrong = Vec::new();
    for (name, pixels) in &expected.pictures {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let header = image_header(Cursor::new(&bytes)).unwrap();
        assert_eq!((header.width, header.height), (pixels.width, pixels.height), "{name}");
        match read_image(Cursor::new(&bytes)) {
            Ok(picture) if hex(&Sha256::digest(picture.as_raw())) == pixels.sha256 => {}
            Ok(_) => wrong.push(format!("{name}: other pixels")),
            Err(reason) => wrong.push(format!("{name}: {reason}")),
        }
    }
    assert_eq!(wrong, [""; 0], "of {}", expected.pictures.len());
}

#[test]
fn every_pixel_equals_that_of_pillow_13() {
    check_folder(&folder(), 30);
}

#[test]
#[ignore = "by hand: needs a folder made by tests/fixtures/make_pictures.py, named by PICTURES"]
fn many_pictures_equal_those_of_pillow_13() {
    check_folder(Path::new(&std::env::var("PICTURES").unwrap()), 1000);
}

#[test]
fn sixteen_bits_are_told_from_eight() {
    for (name, samples) in [
        ("grey16.png", Samples::SixteenBitGrey),
        ("grey16-transparent.png", Samples::SixteenBitGrey),
        ("grey-alpha16.png", Samples::SixteenBit),
        ("rgb16.png", Samples::SixteenBit),
        ("rgba16.png", Samples::SixteenBit),
        ("rgb-420-baseline.jpg", Samples::EightBit),
    ] {
        let header = image_header(Cursor::new(fixture(name))).unwrap();
        assert_eq!(header.samples, samples, "{name}");
    }
    let eight = std::fs::read(folder().join("../import/rgb.png")).unwrap();
    assert_eq!(image_header(Cursor::new(eight)).unwrap().samples, Samples::EightBit);
}

/// The file cut at a place, and what transfers and tools make of such a file: a tail of zeros, a closed end.
fn cut(bytes: &[u8], at: usize) -> [(&'static str, Vec<u8>); 3] {
    let kept = &bytes[..at];
    [
        ("cut", kept.to_vec()),
        ("filled with zeros", [kept, &vec![0; bytes.len() - at]].concat()),
        ("cut and closed", [kept, &[0xff, 0xd9]].concat()),
    ]
}

#[test]
fn a_jpeg_cut_anywhere_is_no_picture() {
    let mut reasons = BTreeMap::new();
    for name in [
        "rgb-420-baseline.jpg",
        "rgb-444-progressive.jpg",
        "rgb-420-progressive.jpg",
        "grey-progressive.jpg",
        "ycck-420-baseline.jpg",
        "rgb-restarts.jpg",
    ] {
        let whole = fixture(name);
        // The last two bytes close the file: without them, closing it again mends it.
        for at in 0..whole.len() - 2 {
            for (how, bytes) in cut(&whole, at) {
                let read = read_image(Cursor::new(bytes));
                let reason = read.map(drop).expect_err(&format!("{name}, {how} at {at}"));
                *reasons.entry(reason.to_string()).or_insert(0) += 1;
            }
        }
        for at in [whole.len() - 2, whole.len() - 1] {
            assert!(read_image(Cursor::new(&whole[..at])).is_err(), "{name}, cut at {at}");
        }
        assert!(read_image(Cursor::new(&whole)).is_ok(), "{name}");
    }
    let says = |part: &str| reasons.keys().any(|reason| reason.contains(part));
    assert!(says("it ends before the image does: it was cut"), "{reasons:?}");
    assert!(says("it was cut between two of them"), "{reasons:?}");
    assert!(says("premature end of data segment"), "{reasons:?}");
}

#[test]
fn bytes_after_the_picture_change_nothing_and_bytes_within_are_refused() {
    let whole = fixture("rgb-420-baseline.jpg");
    let picture = read_image(Cursor::new(&whole)).unwrap();
    let longer = [&whole[..], b"appended by a camera"].concat();
    assert_eq!(read_image(Cursor::new(longer)).unwrap(), picture);
    let (data, end) = whole.split_at(whole.len() - 2);
    let error = read_image(Cursor::new([data, &[0; 9], end].concat())).unwrap_err().to_string();
    assert!(
        error.contains("extraneous bytes before marker 0xd9") && error.contains("as PNG"),
        "{error}"
    );
}

#[test]
fn arithmetic_coding_is_refused_by_name() {
    // The frame marker of arithmetic coding in place of the baseline one.
    let mut bytes = fixture("rgb-420-baseline.jpg");
    let frame = bytes.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    bytes[frame + 1] = 0xc9;
    let error = read_image(Cursor::new(bytes)).unwrap_err().to_string();
    assert!(error.contains("arithmetic coding is not read"), "{error}");
}
