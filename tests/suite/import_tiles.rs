//! Files that hold several pictures, and names that other tools give: what is cut how, what is refused, and what
//! is told.

use std::path::Path;
use std::process::{Command, Output};

use dpg_bench::benchmark::Benchmark;
use dpg_bench::generate::import::error::ImportError;
use dpg_bench::generate::import::images::{ImportPlan, import_images, plan_import};
use dpg_bench::generate::import::layout::ImportRequest;
use dpg_bench::generate::import::names::Numbering;
use dpg_bench::generate::import::naming::Layout;
use dpg_bench::generate::import::tiles::Tiling;
use dpg_bench::stage_observer::Silent;
use image::{Rgb, RgbImage};

use crate::import::{all, benchmark, new_run, planned, request};

/// A smooth picture that differs from that of every other mark at its edges.
fn tile(mark: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let shade = mark * 61 % 256;
        Rgb([((shade + x) % 256) as u8, ((2 * shade + y) % 256) as u8, (255 - shade) as u8])
    })
}

/// Tiles `mark`, `mark + 1` ... of `side` pixels, row by row.
fn sheet(mark: u32, columns: u32, rows: u32, side: u32, padding: u32) -> RgbImage {
    let step = side + padding;
    let mut sheet = RgbImage::new(columns * step + padding, rows * step + padding);
    for index in 0..columns * rows {
        let (left, top) = (padding + index % columns * step, padding + index / columns * step);
        let tile = tile(mark + index, side, side);
        image::imageops::replace(&mut sheet, &tile, left.into(), top.into());
    }
    sheet
}

fn plan(benchmark: &Benchmark, request: &ImportRequest<'_>) -> Result<ImportPlan, ImportError> {
    plan_import(benchmark, &all(benchmark), request)
}

/// The imported images of item `a`.
fn imported(benchmark: &Benchmark, request: &ImportRequest<'_>) -> Vec<RgbImage> {
    let plan = plan(benchmark, request).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut run = new_run(&folder.path().join("run"), request.images_per_item);
    let summary = import_images(&mut run, &plan, None, &Silent).unwrap();
    assert_eq!(summary.failed, 0);
    (0..request.images_per_item)
        .map(|image| image::open(run.image_path("a", image)).unwrap().to_rgb8())
        .collect()
}

fn tiles(marks: std::ops::Range<u32>, side: u32) -> Vec<RgbImage> {
    marks.map(|mark| tile(mark, side, side)).collect()
}

#[test]
fn a_row_of_four_is_no_grid_until_it_is_said_to_be_a_row() {
    let benchmark = benchmark(&["a"]);
    let folder = tempfile::tempdir().unwrap();
    sheet(0, 4, 1, 16, 0).save(folder.path().join("a.png")).unwrap();
    let asked = request(folder.path());
    let error = plan(&benchmark, &asked).unwrap_err();
    assert!(matches!(error, ImportError::UnlikelyTiles { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("a.png: 2x2 tiles of 64x16 pixels would have 32x8"), "{told}");
    assert!(told.contains("--tiling 4x1"), "{told}");
    let row = ImportRequest { tiling: Some(Tiling::new(4, 1)), ..asked };
    assert_eq!(imported(&benchmark, &row), tiles(0..4, 16));
    let anyway = ImportRequest { tiling: Some(Tiling::new(2, 2)), ..asked };
    assert_eq!(imported(&benchmark, &anyway)[0].dimensions(), (32, 8));
}

#[test]
fn two_beside_each_other_are_what_the_reference_crops_with_two() {
    let benchmark = benchmark(&["a"]);
    let folder = tempfile::tempdir().unwrap();
    sheet(3, 2, 1, 16, 0).save(folder.path().join("a.png")).unwrap();
    let two = ImportRequest { images_per_item: 2, ..request(folder.path()) };
    assert_eq!(imported(&benchmark, &two), tiles(3..5, 16));
    let sized = ImportRequest { resolution: Some(16), ..two };
    assert_eq!(imported(&benchmark, &sized), tiles(3..5, 16));
    // Forgetting --images-per-item 2 is no way to get halves of them.
    let error = plan(&benchmark, &request(folder.path())).unwrap_err().to_string();
    assert!(error.contains("--tiling 2x1 --images-per-item 2"), "{error}");

    sheet(3, 2, 2, 16, 0).save(folder.path().join("a.png")).unwrap();
    let error = plan(&benchmark, &two).unwrap_err();
    assert!(matches!(error, ImportError::TwoOfWhat { .. }), "{error}");
    let first_two = ImportRequest { tiling: Some(Tiling::new(2, 2)), ..two };
    assert_eq!(imported(&benchmark, &first_two), tiles(3..5, 16));
    assert_eq!(imported(&benchmark, &sized), tiles(3..5, 16));
}

#[test]
fn single_pictures_among_grids_are_refused_and_alone_they_are_told() {
    let benchmark = benchmark(&["a", "b", "c"]);
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        sheet(0, 2, 2, 16, 0).save(folder.path().join(format!("{name}.png"))).unwrap();
    }
    let asked = request(folder.path());
    assert!(!plan(&benchmark, &asked).unwrap().tiles.without_seams);
    tile(1, 16, 16).save(folder.path().join("c.png")).unwrap();
    let error = plan(&benchmark, &asked).unwrap_err();
    assert!(matches!(error, ImportError::DifferentSizes { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("c.png of 16x16, 2 of 32x32 (a.png, ...)"), "{told}");
    let cut = ImportRequest { tiling: Some(Tiling::new(2, 2)), ..asked };
    assert_eq!(plan(&benchmark, &cut).unwrap().tiles.sizes.len(), 2);

    for name in ["a", "b"] {
        tile(7, 32, 32).save(folder.path().join(format!("{name}.png"))).unwrap();
    }
    tile(8, 32, 32).save(folder.path().join("c.png")).unwrap();
    assert!(plan(&benchmark, &asked).unwrap().tiles.without_seams);
}

#[test]
fn one_picture_an_item_may_have_any_size_but_not_look_like_a_grid() {
    let benchmark = benchmark(&["a", "b"]);
    let folder = tempfile::tempdir().unwrap();
    tile(1, 40, 24).save(folder.path().join("a.png")).unwrap();
    tile(2, 17, 61).save(folder.path().join("b.png")).unwrap();
    let one = ImportRequest { images_per_item: 1, ..request(folder.path()) };
    let planned = plan(&benchmark, &one).unwrap();
    assert!(!planned.is_grid() && planned.missing.is_empty());
    assert_eq!(imported(&benchmark, &one), [tile(1, 40, 24)]);
    for name in ["a", "b"] {
        sheet(5, 2, 2, 16, 0).save(folder.path().join(format!("{name}.png"))).unwrap();
    }
    let error = plan(&benchmark, &one).unwrap_err();
    assert!(matches!(error, ImportError::ImageOrGrid { .. }), "{error}");
    assert!(error.to_string().contains("a.png (32x32 pixels)"), "{error}");
    let first = ImportRequest { tiling: Some(Tiling::new(2, 2)), ..one };
    assert_eq!(imported(&benchmark, &first), tiles(5..6, 16));
    let whole = ImportRequest { tiling: Some(Tiling::WHOLE), ..one };
    assert_eq!(imported(&benchmark, &whole), [sheet(5, 2, 2, 16, 0)]);
}

#[test]
fn torchvisions_padding_is_refused_until_it_is_said() {
    let benchmark = benchmark(&["a"]);
    let folder = tempfile::tempdir().unwrap();
    sheet(2, 2, 2, 16, 2).save(folder.path().join("a.png")).unwrap();
    let asked = request(folder.path());
    let error = plan(&benchmark, &asked).unwrap_err();
    assert!(matches!(error, ImportError::Padded { padding: 2, .. }), "{error}");
    let padded = ImportRequest { tile_padding: Some(2), ..asked };
    assert_eq!(imported(&benchmark, &padded), tiles(2..6, 16));
    let sized = ImportRequest { resolution: Some(16), ..padded };
    assert_eq!(imported(&benchmark, &sized), tiles(2..6, 16));
    let as_it_is = ImportRequest { tile_padding: Some(0), ..asked };
    assert_eq!(imported(&benchmark, &as_it_is)[0].dimensions(), (19, 19));
    let wrong = ImportRequest { tile_padding: Some(3), ..asked };
    let error = plan(&benchmark, &wrong).unwrap_err().to_string();
    assert!(
        error.contains("38x38 pixels cannot be cut into 2x2 equal images with a padding of 3"),
        "{error}"
    );
}

#[test]
fn a_tiling_must_hold_the_images_and_have_something_to_cut() {
    let benchmark = benchmark(&["a"]);
    let folder = tempfile::tempdir().unwrap();
    sheet(0, 3, 2, 8, 0).save(folder.path().join("a.png")).unwrap();
    let six = ImportRequest {
        images_per_item: 6,
        tiling: Some(Tiling::new(3, 2)),
        ..request(folder.path())
    };
    assert_eq!(imported(&benchmark, &six), tiles(0..6, 8));
    let seven = ImportRequest { images_per_item: 7, ..six };
    let error = plan(&benchmark, &seven).unwrap_err().to_string();
    assert!(error.contains("--tiling 3x2 gives 6 tiles, not 7 images"), "{error}");
    let untold = ImportRequest { tiling: None, ..six };
    assert!(matches!(plan(&benchmark, &untold).unwrap_err(), ImportError::GridTooSmall { .. }));
    std::fs::rename(folder.path().join("a.png"), folder.path().join("a_0.png")).unwrap();
    let error = plan(&benchmark, &six).unwrap_err();
    assert!(matches!(error, ImportError::NothingToCut { layout: Layout::Flat }), "{error}");
}

fn put(folder: &Path, names: &[&str]) {
    for (mark, name) in (0..).zip(names) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        tile(mark, 16, 16).save(path).unwrap();
    }
}

#[test]
fn names_of_other_tools_are_read_as_they_are() {
    let benchmark = benchmark(&["b_2", "a"]);
    // Images per item, the files, and what each is.
    let cases: [(u32, &[&str], &[&str]); 8] = [
        (
            2,
            &["a_42.png", "a_1234.png", "b_2_42.png", "b_2_1234.png"],
            &["b_2 0 b_2_42.png", "b_2 1 b_2_1234.png", "a 0 a_42.png", "a 1 a_1234.png"],
        ),
        // A missing seed is a missing image, not another one.
        (2, &["a_42.png", "b_2_43.png"], &["b_2 1 b_2_43.png", "a 0 a_42.png"]),
        (1, &["a_42.png", "b_2_42.png"], &["b_2 0 b_2_42.png", "a 0 a_42.png"]),
        (
            2,
            &["a_900.png", "a_77.png", "b_2_13.png", "b_2_18446744073709551615.png"],
            &[
                "b_2 0 b_2_13.png",
                "b_2 1 b_2_18446744073709551615.png",
                "a 0 a_77.png",
                "a 1 a_900.png",
            ],
        ),
        (
            4,
            &["a/samples/00000.png", "a/samples/00003.png", "a/grid.png", "b_2/samples/00001.png"],
            &["b_2 1 b_2/samples/00001.png", "a 0 a/samples/00000.png", "a 3 a/samples/00003.png"],
        ),
        (4, &["a_grid.png", "b_2_grid.png"], &["b_2 0 b_2_grid.png", "a 0 a_grid.png"]),
        (4, &["a_0.png", "a_grid.png", "b_2_1.png"], &["b_2 1 b_2_1.png", "a 0 a_0.png"]),
        (2, &["a/42.png", "a/43.png"], &["a 0 a/42.png", "a 1 a/43.png"]),
    ];
    for (images_per_item, names, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), names);
        let asked = ImportRequest { images_per_item, ..request(folder.path()) };
        assert_eq!(planned(&benchmark, &asked).unwrap(), expected);
    }
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["a_10.png", "a_20.png", "a_30.png"]);
    let two = ImportRequest { images_per_item: 2, ..request(folder.path()) };
    let error = planned(&benchmark, &two).unwrap_err().to_string();
    assert!(error.contains("3 different numbers are too many for the seeds of 2"), "{error}");
}

#[test]
fn prompt_numbers_count_the_different_prompts_in_the_order_of_the_file() {
    let rows = [("x", "One."), ("y", "Two."), ("z", "One."), ("w", "Three.")]
        .map(|(id, prompt)| format!("{id},{prompt},1,0,entity - whole (x),Is there x?"));
    let header = "item_id,text,proposition_id,dependency,tuple,question_natural_language";
    let csv = format!("{header}\n{}\n", rows.join("\n"));
    let benchmark = Benchmark::from_csv(csv.as_bytes(), "memory").unwrap();
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["p00000_s0.png", "p00001_s0.png", "p00002_s0.png", "p00002_s1.png"]);
    let two = ImportRequest { images_per_item: 2, ..request(folder.path()) };
    // Items with the same prompt have the same pictures.
    let expected = [
        "x 0 p00000_s0.png",
        "y 0 p00001_s0.png",
        "z 0 p00000_s0.png",
        "w 0 p00002_s0.png",
        "w 1 p00002_s1.png",
    ];
    assert_eq!(planned(&benchmark, &two).unwrap(), expected);
    std::fs::rename(folder.path().join("p00000_s0.png"), folder.path().join("p00003_s0.png"))
        .unwrap();
    let error = planned(&benchmark, &two).unwrap_err();
    assert!(matches!(error, ImportError::PromptNumbers { prompts: 3, .. }), "{error}");
}

#[test]
fn seeds_stand_in_the_plan() {
    let benchmark = benchmark(&["a"]);
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["a_7.png", "a_99.png"]);
    let planned = plan(&benchmark, &request(folder.path())).unwrap();
    assert_eq!(planned.files.numbering, Numbering::Seeds(vec![7, 99]));
    assert_eq!(planned.missing, [("a".to_owned(), 2), ("a".to_owned(), 3)]);
}

fn import(folder: &Path, out: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.current_dir(folder).args(["import", "--images", "images", "--benchmark", "q.csv"]);
    command.args(["--out", out]).args(more).output().unwrap()
}

#[test]
fn the_command_prints_tiles_and_tells_what_a_file_lost() {
    let folder = tempfile::tempdir().unwrap();
    let header = "item_id,text,proposition_id,dependency,tuple,question_natural_language";
    let rows = ["a", "b"].map(|id| format!("{id},A prompt.,1,0,entity - whole (x),Is there x?\n"));
    std::fs::write(folder.path().join("q.csv"), format!("{header}\n{}", rows.concat())).unwrap();
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    for name in ["a.png", "b.png"] {
        sheet(0, 2, 2, 16, 2).save(images.join(name)).unwrap();
    }
    let said = |output: &Output| {
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
    };
    let refused = import(folder.path(), "run", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("say --tile-padding 2"), "{}", said(&refused));
    assert!(!folder.path().join("run").exists());
    let wrong = import(folder.path(), "run", &["--tiling", "2"]);
    assert!(said(&wrong).contains("write COLUMNSxROWS"), "{}", said(&wrong));
    let done = import(folder.path(), "run", &["--tile-padding", "2"]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let line = "2 files of 2x2 tiles of 16x16 pixels, padding 2; 4 images of each";
    assert!(said(&done).contains(line), "{}", said(&done));

    // A picture of 16 bits and one that was cut in transfer.
    std::fs::remove_dir_all(&images).unwrap();
    std::fs::create_dir(&images).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    std::fs::copy(fixtures.join("grey16.png"), images.join("a.png")).unwrap();
    let whole = std::fs::read(fixtures.join("rgb-420-baseline.jpg")).unwrap();
    std::fs::write(images.join("b.jpg"), &whole[..whole.len() * 2 / 3]).unwrap();
    let cut = import(folder.path(), "other", &["--images-per-item", "1"]);
    assert_eq!(cut.status.code(), Some(3), "{}", said(&cut));
    assert!(said(&cut).contains("1 file of 16-bit grey"), "{}", said(&cut));
    assert!(
        said(&cut).contains("b.jpg: it is no JPEG that can be decoded: it ends before"),
        "{}",
        said(&cut)
    );
}
