//! Importing pictures: every layout, every way to be unclear, and pixels against Pillow's.

use std::path::{Path, PathBuf};

use dpg_bench::benchmark::{Benchmark, Item, Selection};
use dpg_bench::generate::import::error::ImportError;
use dpg_bench::generate::import::images::{ImportSummary, import_images, plan_import};
use dpg_bench::generate::import::layout::ImportRequest;
use dpg_bench::generate::import::naming::Layout;
use dpg_bench::results::{BenchmarkIdentity, ImageOutcome, RunDirectory, Settings};
use dpg_bench::stage_observer::Silent;
use image::{Rgb, RgbImage};

use super::kept_thumbnails::kept;

const HEADER: &str = "item_id,text,proposition_id,dependency,tuple,question_natural_language";

pub fn benchmark(ids: &[&str]) -> Benchmark {
    let rows: Vec<String> =
        ids.iter().map(|id| format!("{id},A prompt.,1,0,entity - whole (x),Is there x?")).collect();
    Benchmark::from_csv(format!("{HEADER}\n{}\n", rows.join("\n")).as_bytes(), "memory").unwrap()
}

pub fn request(folder: &Path) -> ImportRequest<'_> {
    ImportRequest {
        folder,
        map: None,
        images_per_item: 4,
        first_index: None,
        resolution: None,
        tiling: None,
        tile_padding: None,
    }
}

pub fn all(benchmark: &Benchmark) -> Vec<&Item> {
    benchmark.select(&Selection::default()).unwrap()
}

pub fn new_run(path: &Path, images: u32) -> RunDirectory {
    let identity = BenchmarkIdentity {
        path: "memory".into(),
        digest: "d".into(),
        official: false,
        items: 1,
        questions: 1,
        lenient: false,
    };
    RunDirectory::open_or_create(path, identity, Settings::new(), images).unwrap()
}

/// A picture whose every pixel tells where it stands and which picture it is.
fn picture(width: u32, height: u32, mark: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, mark]))
}

fn put(folder: &Path, names: &[&str]) {
    for (index, name) in names.iter().enumerate() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture(8, 8, index as u8).save_with_format(&path, image::ImageFormat::Png).unwrap();
    }
}

/// `item image name` of every planned file.
pub fn planned(
    benchmark: &Benchmark,
    request: &ImportRequest<'_>,
) -> Result<Vec<String>, ImportError> {
    let plan = plan_import(benchmark, &all(benchmark), request)?;
    Ok(plan
        .files
        .files
        .iter()
        .map(|file| format!("{} {} {}", file.item, file.image, file.name))
        .collect())
}

#[test]
fn each_layout_is_recognised_whatever_the_item_is_called() {
    let benchmark = benchmark(&["b_2", "a"]);
    let cases: [(&[&str], &[&str]); 4] = [
        (
            &["a/0.png", "a/1.webp", "b_2/3.jpg", "b_2/0.jpeg"],
            &["b_2 0 b_2/0.jpeg", "b_2 3 b_2/3.jpg", "a 0 a/0.png", "a 1 a/1.webp"],
        ),
        (&["a_1.png", "a_4.png", "b_2_2.PNG"], &["b_2 1 b_2_2.PNG", "a 0 a_1.png", "a 3 a_4.png"]),
        (&["a_00.png", "b_2_03.png"], &["b_2 3 b_2_03.png", "a 0 a_00.png"]),
        (&["a.png", "b_2.seed7.webp"], &["b_2 0 b_2.seed7.webp", "a 0 a.png"]),
    ];
    for (names, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), names);
        assert_eq!(planned(&benchmark, &request(folder.path())).unwrap(), expected);
    }
}

#[test]
fn a_name_with_two_readings_is_read_as_its_neighbours_or_refused() {
    let benchmark = benchmark(&["a", "a_1"]);
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["a_1.png"]);
    let error = planned(&benchmark, &request(folder.path())).unwrap_err();
    assert!(matches!(error, ImportError::MixedLayouts { .. }), "{error}");
    put(folder.path(), &["a_0.png"]);
    assert_eq!(
        planned(&benchmark, &request(folder.path())).unwrap(),
        ["a 0 a_0.png", "a 1 a_1.png"]
    );
    std::fs::remove_file(folder.path().join("a_0.png")).unwrap();
    put(folder.path(), &["a.png"]);
    assert_eq!(
        planned(&benchmark, &request(folder.path())).unwrap(),
        ["a 0 a.png", "a_1 0 a_1.png"]
    );
}

#[test]
fn what_cannot_be_told_is_refused_in_a_sentence() {
    let benchmark = benchmark(&["a", "b"]);
    let cases: [(&[&str], &[&str]); 7] = [
        (&["a_0.png", "b.png"], &["a_0.png", "b.png", "--map"]),
        (&["a/0.png", "b_1.png"], &["a/0.png", "b_1.png"]),
        (&["a_0.png", "b_4.png"], &["a_0.png and b_4.png", "--first-index"]),
        (&["a_1.png", "a_2.png"], &["no image 0 and no image 4", "--first-index"]),
        (&["a_0.png", "a_1.png", "a_1.webp"], &["a_1.png and a_1.webp", "image 1 of item `a`"]),
        (&["a_0.png", "a_1.png", "a_01.png"], &["a_01.png and a_1.png"]),
        (
            &["c_0.png", "readme.txt"],
            &["belongs to an item", "(2 items, such as `a`)", "--benchmark FILE", "--map"],
        ),
    ];
    for (names, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), names);
        let error = planned(&benchmark, &request(folder.path())).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["a_1.png", "a_2.png"]);
    let given = ImportRequest { first_index: Some(1), ..request(folder.path()) };
    assert_eq!(planned(&benchmark, &given).unwrap(), ["a 0 a_1.png", "a 1 a_2.png"]);
}

#[test]
fn unknown_surplus_and_missing_files_are_listed() {
    let benchmark = benchmark(&["a", "b", "c"]);
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["a_0.png", "a_1.png", "a_7.png", "b_0.png", "z_0.png", "sub/x.png"]);
    std::fs::write(folder.path().join("notes.txt"), "x").unwrap();
    std::fs::write(folder.path().join(".hidden"), "x").unwrap();
    let items: Vec<&Item> = benchmark.items.iter().filter(|item| item.id != "b").collect();
    let request = ImportRequest { images_per_item: 2, ..request(folder.path()) };
    let plan = plan_import(&benchmark, &items, &request).unwrap();
    assert_eq!(plan.files.unknown, ["notes.txt", "sub/x.png", "z_0.png"]);
    assert_eq!(plan.files.surplus, ["a_7.png"]);
    assert_eq!(plan.files.not_selected, 1);
    assert_eq!(plan.missing, [("c".to_owned(), 0), ("c".to_owned(), 1)]);
    let last: Vec<&Item> = benchmark.items.iter().filter(|item| item.id == "c").collect();
    let error = plan_import(&benchmark, &last, &request).unwrap_err().to_string();
    assert!(error.contains("4 files belong to other items of the benchmark"), "{error}");
}

#[test]
fn a_resolution_that_does_not_fit_is_refused_and_nothing_is_cropped() {
    let benchmark = benchmark(&["a", "b"]);
    let folder = tempfile::tempdir().unwrap();
    picture(16, 16, 0).save(folder.path().join("a.png")).unwrap();
    picture(15, 16, 0).save(folder.path().join("b.png")).unwrap();
    let with = |images_per_item, resolution| {
        let request = ImportRequest { images_per_item, resolution, ..request(folder.path()) };
        plan_import(&benchmark, &all(&benchmark), &request).map(|plan| plan.is_grid())
    };
    let error = with(4, None).unwrap_err().to_string();
    assert_eq!(error, "b.png: 15x16 pixels cannot be cut into 2x2 equal images");
    picture(16, 16, 0).save(folder.path().join("b.png")).unwrap();
    assert!(with(4, None).unwrap() && with(4, Some(8)).unwrap() && with(2, Some(8)).unwrap());
    for wrong in [4, 7, 16] {
        let error = with(4, Some(wrong)).unwrap_err().to_string();
        assert!(error.contains("a.png: it has 16x16 pixels, but 2x2 images of"), "{error}");
    }
    assert!(matches!(with(5, None).unwrap_err(), ImportError::GridTooSmall { images_per_item: 5 }));
    // One image per item: the picture itself, or with its side the first of a grid.
    assert!(!with(1, None).unwrap());
    assert!(!with(1, Some(16)).unwrap());
    assert!(with(1, Some(8)).unwrap());
    assert!(matches!(with(1, Some(9)).unwrap_err(), ImportError::BadSizes { .. }));
}

/// Every file of a run but its manifest.
fn contents(run: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("manifest.json") {
                found.push((
                    path.strip_prefix(run).unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                ));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_grid_is_cut_in_reading_order_and_a_resumed_import_ends_in_the_same_bytes() {
    let benchmark = benchmark(&["a", "b", "c"]);
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("grids");
    std::fs::create_dir(&images).unwrap();
    for (index, name) in ["a.png", "c.webp"].iter().enumerate() {
        picture(12, 20, index as u8).save(images.join(name)).unwrap();
    }
    std::fs::write(images.join("b.png"), b"\x89PNG\r\n\x1a\nbroken").unwrap();
    let items = all(&benchmark);
    let plan = plan_import(&benchmark, &items, &request(&images)).unwrap();
    let whole = folder.path().join("whole");
    let import =
        |run: &Path| import_images(&mut new_run(run, 4), &plan, Some("m"), &Silent).unwrap();
    assert_eq!(
        import(&whole),
        ImportSummary { done: 8, already_done: 0, failed: 4, stopped: false }
    );

    assert_eq!(kept(&whole), 8);
    let run = RunDirectory::open(&whole).unwrap();
    let records = run.read_images().unwrap();
    let order: Vec<(&str, u32)> =
        records.iter().map(|record| (record.item.as_str(), record.image)).collect();
    assert_eq!(order.len(), 12);
    assert!(order.is_sorted());
    for (index, corner) in [(0, (0, 0)), (1, (6, 0)), (2, (0, 10)), (3, (6, 10))] {
        let tile = image::open(run.image_path("c", index)).unwrap().to_rgb8();
        assert_eq!(tile.dimensions(), (6, 10));
        let first = tile.get_pixel(0, 0);
        assert_eq!((u32::from(first[0]), u32::from(first[1]), first[2]), (corner.0, corner.1, 1));
        let ImageOutcome::Done { source, seed, .. } = &records[8 + index as usize].outcome else {
            panic!()
        };
        assert_eq!((source.as_deref(), *seed), (Some(format!("c.webp#{index}").as_str()), None));
    }
    let ImageOutcome::Failed { reason } = &records[4].outcome else { panic!() };
    assert!(reason.contains("b.png"), "{reason}");
    let entry = run.manifest().generation.clone().unwrap();
    assert_eq!(entry.settings["layout"], "one_per_item");
    assert_eq!(entry.settings["folder"], "grids");

    // Again: what is there is skipped, what failed fails again, and no byte changes.
    let before = contents(&whole);
    assert_eq!(
        import(&whole),
        ImportSummary { done: 0, already_done: 8, failed: 4, stopped: false }
    );
    assert_eq!(contents(&whole), before);

    // Killed after any number of journal bytes, with or without the pictures written since.
    let journal = std::fs::read(whole.join("images.jsonl")).unwrap();
    for cut in (0..journal.len()).step_by(173) {
        let killed = folder.path().join(format!("killed{cut}"));
        new_run(&killed, 4);
        std::fs::write(killed.join("images.jsonl"), &journal[..cut]).unwrap();
        if cut % 2 == 1 {
            std::fs::create_dir_all(killed.join("images/a")).unwrap();
            std::fs::copy(whole.join("images/a/0.png"), killed.join("images/a/0.png")).unwrap();
        }
        import(&killed);
        assert_eq!(contents(&killed), before, "cut at {cut}");
    }

    // Another way to import into the same run is refused.
    let other = plan_import(
        &benchmark,
        &items[..1],
        &ImportRequest { resolution: Some(6), ..request(&images) },
    );
    assert!(other.is_err());
    let mut other = plan.clone();
    other.folder = "elsewhere".into();
    let error = import_images(&mut new_run(&whole, 4), &other, Some("m"), &Silent).unwrap_err();
    assert!(error.to_string().contains("folder"), "{error}");
}

#[test]
fn a_map_says_which_file_is_which() {
    let benchmark = benchmark(&["a", "b"]);
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["x/one.png", "two.png"]);
    let map = folder.path().join("map.jsonl");
    let plan = |text: &str| {
        std::fs::write(&map, text).unwrap();
        let request = ImportRequest { map: Some(&map), ..request(folder.path()) };
        plan_import(&benchmark, &all(&benchmark), &request)
    };
    let good = "{\"item\":\"b\",\"image\":2,\"path\":\"two.png\"}\n\n{\"item\":\"a\",\"image\":0,\"path\":\"x/one.png\"}\n";
    let planned = plan(good).unwrap();
    assert_eq!(planned.files.layout, Layout::Map);
    assert_eq!(planned.missing.len(), 6);
    let mut run = new_run(&folder.path().join("run"), 4);
    let summary = import_images(&mut run, &planned, None, &Silent).unwrap();
    assert_eq!(summary.done, 2);
    assert_eq!(run.read_images().unwrap()[0].item, "a");
    for (line, expected) in [
        (r#"{"item":"z","image":0,"path":"two.png"}"#, "line 1: the benchmark has no item `z`"),
        (r#"{"item":"a","image":-1,"path":"two.png"}"#, "line 1"),
        (r#"{"item":"a","path":"two.png"}"#, "missing field `image`"),
        (r#"{"item":"a","image":0,"path":"../two.png"}"#, "leaves the folder"),
        (r#"{"item":"a","image":0,"path":"/two.png"}"#, "leaves the folder"),
        ("nonsense", "line 1"),
    ] {
        let error = plan(line).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let twice = format!("{good}{}", r#"{"item":"a","image":0,"path":"two.png"}"#);
    assert!(matches!(plan(&twice).unwrap_err(), ImportError::Duplicate { .. }));
}

#[test]
fn a_picture_that_claims_to_be_huge_fails_alone() {
    let benchmark = benchmark(&["a"]);
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &["a_0.png", "a_1.png"]);
    // The size stands in bytes 16..24 of a PNG, its checksum in 29..33.
    let path = folder.path().join("a_1.png");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    let plan = plan_import(&benchmark, &all(&benchmark), &request(folder.path())).unwrap();
    let mut run = new_run(&folder.path().join("run"), 4);
    let summary = import_images(&mut run, &plan, None, &Silent).unwrap();
    assert_eq!((summary.done, summary.failed), (1, 1));
    let ImageOutcome::Failed { reason } = &run.read_images().unwrap()[1].outcome else { panic!() };
    assert!(reason.contains("larger than 16384x16384 pixels"), "{reason}");
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Largest difference of two pixels' channels, of 255.
fn largest_difference(ours: &[u8], theirs: &[u8]) -> u8 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn decoded_pixels_equal_those_of_pillow() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    let names = [
        "rgb.png",
        "rgba.png",
        "grey.png",
        "palette.png",
        "full.jpg",
        "halved.jpeg",
        "progressive.jpg",
        "grey.jpg",
        "lossy.webp",
        "lossless.webp",
    ];
    let mut found = Vec::new();
    for name in names {
        let folder = tempfile::tempdir().unwrap();
        let extension = name.split('.').next_back().unwrap();
        std::fs::copy(fixtures.join(name), folder.path().join(format!("a_0.{extension}"))).unwrap();
        let benchmark = benchmark(&["a"]);
        let plan = plan_import(&benchmark, &all(&benchmark), &request(folder.path())).unwrap();
        let mut run = new_run(&folder.path().join("run"), 4);
        assert_eq!(import_images(&mut run, &plan, None, &Silent).unwrap().done, 1);
        let ours = image::open(run.image_path("a", 0)).unwrap().to_rgb8().into_raw();
        let theirs = std::fs::read(fixtures.join(format!("{name}.rgb"))).unwrap();
        let difference = largest_difference(&ours, &theirs);
        if difference > 0 {
            found.push(format!("{name}: differs by {difference} of 255"));
        }
        // Sabotage: the same picture, one pixel further on, must not pass.
        let mut shifted = theirs;
        shifted.rotate_right(3);
        assert!(largest_difference(&ours, &shifted) > 8, "{name}");
    }
    assert_eq!(found, [""; 0]);
}
