//! The thumbnails that runs keep with their images: every image has one, a report is the same with and without them, and one that
//! is damaged or of another image is never shown. Other ways to make a run ask [`kept`], too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dpg_bench::results::RunDirectory;
use dpg_bench::results::kept_thumbnail::read_kept;
use dpg_bench::results::thumbnail::thumbnail_of;
use image::{Rgb, RgbImage};

use super::report_runs::{ITEMS, files, first, report};
use super::small_run::IMAGES;

/// How many images the run has. Each has its thumbnail, in the bytes that a report makes of its pixels, and nothing else has one.
#[track_caller]
pub fn kept(run: &Path) -> usize {
    let names: Vec<PathBuf> = files(run).into_keys().collect();
    let of = |folder| names.iter().filter_map(move |name| name.strip_prefix(folder).ok());
    let mut count = 0;
    for name in of("images") {
        let png = run.join("images").join(name);
        let thumbnail = run.join("thumbnails").join(name).with_extension("jpg");
        let pixels = image::open(&png).unwrap().to_rgb8();
        let expected = thumbnail_of(&pixels).unwrap();
        assert!(read_kept(&thumbnail, &png) == Some(expected), "{}", thumbnail.display());
        count += 1;
    }
    assert_eq!(of("thumbnails").count(), count);
    count
}

/// As hard to shrink as one likes, each another.
fn pixels(item: usize, image: u32) -> RgbImage {
    RgbImage::from_fn(211 + image, 130, |x, y| {
        Rgb([(x * y + image) as u8, (x ^ y) as u8, item as u8 * 50])
    })
}

/// A complete run with thumbnails.
fn run_with_thumbnails(folder: &Path) -> PathBuf {
    let path = first(folder);
    let run = RunDirectory::open(&path).unwrap();
    for (number, item) in ITEMS.iter().enumerate() {
        for image in 0..IMAGES {
            run.write_image(item, image, &pixels(number, image), &[]).unwrap();
        }
    }
    assert_eq!(kept(&path), ITEMS.len() * IMAGES as usize);
    path
}

/// What a report on `run` consists of, with its thumbnails beside the page and inside it. The run is only read.
#[track_caller]
fn reports(run: &Path) -> [BTreeMap<PathBuf, Vec<u8>>; 2] {
    let before = files(run);
    let made = [&[][..], &["--inline"]].map(|flags| {
        let out = tempfile::tempdir().unwrap();
        let (code, shown) = report(&[run], &out.path().join("report"), flags);
        assert!(code == Some(0) && !shown.contains("no thumbnail"), "{shown}");
        files(out.path())
    });
    assert!(files(run) == before);
    made
}

/// Each thumbnail of `run`.
fn thumbnails(run: &Path) -> Vec<PathBuf> {
    let names = files(run).into_keys().filter(|name| name.starts_with("thumbnails"));
    names.map(|name| run.join(name)).collect()
}

/// Does something to the thumbnail with this number.
type Damage<'a> = &'a dyn Fn(usize, &Path);

#[test]
fn a_report_is_the_same_with_thumbnails_without_and_with_damaged_ones() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with_thumbnails(folder.path());
    let whole = files(&run);
    let expected = reports(&run);
    let shown = expected[0].iter().filter(|(name, _)| name.extension().is_some_and(|e| e == "jpg"));
    let shown: Vec<&Vec<u8>> = shown.map(|(_, bytes)| bytes).collect();
    assert_eq!(shown.len(), ITEMS.len() * IMAGES as usize);
    assert!(*shown[0] == thumbnail_of(&pixels(1, 0)).unwrap(), "`100% #1` comes first by name");

    let all = thumbnails(&run);
    let damages: [Damage<'_>; 6] = [
        &|_, path| std::fs::write(path, "").unwrap(),
        &|_, path| std::fs::write(path, "no picture").unwrap(),
        &|place, path| {
            let bytes = &whole[path.strip_prefix(&run).unwrap()];
            std::fs::write(path, &bytes[..bytes.len() * (place + 1) / (all.len() + 1)]).unwrap();
        },
        &|place, path| {
            let mut bytes = whole[path.strip_prefix(&run).unwrap()].clone();
            let at = bytes.len() * place / all.len();
            bytes[at] ^= 1;
            std::fs::write(path, bytes).unwrap();
        },
        // That of another image.
        &|place, path| {
            let other = &all[(place + 1) % all.len()];
            std::fs::write(path, &whole[other.strip_prefix(&run).unwrap()]).unwrap();
        },
        &|_, path| std::fs::remove_file(path).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        all.iter().enumerate().for_each(|(place, path)| damage(place, path));
        assert!(reports(&run) == expected, "damage {number}");
    }
    std::fs::remove_dir_all(run.join("thumbnails")).unwrap();
    assert!(reports(&run) == expected);
}

#[test]
fn a_thumbnail_of_an_image_that_was_replaced_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with_thumbnails(folder.path());
    let image = |number: u32| run.join("images/plain").join(format!("{number}.png"));
    // By another file, by a link to one, and by another kind of file.
    std::fs::copy(image(3), image(0)).unwrap();
    std::fs::remove_file(image(1)).unwrap();
    std::fs::hard_link(image(3), image(1)).unwrap();
    pixels(5, 2).save_with_format(image(2), image::ImageFormat::Jpeg).unwrap();
    let with = reports(&run);
    std::fs::remove_dir_all(run.join("thumbnails")).unwrap();
    assert!(reports(&run) == with);
    let shown =
        |number: u32| &with[0][&Path::new("report/images/1/plain").join(format!("{number}.jpg"))];
    assert!(shown(0) == shown(3) && shown(1) == shown(3) && shown(2) != shown(3));
}

/// Damage within a PNG is not seen by its length and end: what is shown is then the thumbnail that was made with the image.
#[test]
fn what_is_kept_is_what_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with_thumbnails(folder.path());
    let png = run.join("images/plain/1.png");
    let mut bytes = std::fs::read(&png).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 9].fill(0);
    std::fs::write(&png, bytes).unwrap();
    let beside = Path::new("report/images/1/plain/1.jpg");
    assert!(reports(&run)[0][beside] == thumbnail_of(&pixels(3, 1)).unwrap());
    std::fs::remove_file(run.join("thumbnails/plain/1.jpg")).unwrap();
    let (_, shown) = report(&[&run], &folder.path().join("report"), &[]);
    assert!(shown.contains("no thumbnail of") && shown.contains("plain/1.png"), "{shown}");
    assert!(!folder.path().join(beside).exists());
}

/// A run of three items with two images each.
#[track_caller]
fn job(folder: &Path, more: &[&str]) {
    let job = ["run", "--limit", "3", "--images", "2", "--steps", "2"];
    program(folder, &[&job, more].concat());
}

#[track_caller]
fn program(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    let output = command.current_dir(folder).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_same_command_makes_the_thumbnails_that_a_run_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let import = "import --images run/images --benchmark demo --limit 3 -n 2 --out imported";
    let import: Vec<&str> = import.split(' ').collect();
    job(folder.path(), &["--out", "run"]);
    program(folder.path(), &import);
    for (made, again) in [("run", None), ("imported", Some(&import))] {
        let made = folder.path().join(made);
        let whole = without_manifest(&made);
        assert_eq!(kept(&made), 6);
        let give_again = || match again {
            None => job(folder.path(), &["--out", "run"]),
            Some(import) => program(folder.path(), import),
        };
        let all = thumbnails(&made);
        let damages: [&dyn Fn(); 4] = [
            // As a run that was made before there were any.
            &|| std::fs::remove_dir_all(made.join("thumbnails")).unwrap(),
            // As a power cut may leave them.
            &|| std::fs::write(&all[0], "").unwrap(),
            &|| std::fs::write(&all[3], [0; 3000]).unwrap(),
            // As a kill may leave one.
            &|| {
                std::fs::write(all[5].with_file_name(".writing-1.jpg"), "half").unwrap();
                std::fs::remove_file(&all[5]).unwrap();
            },
        ];
        for (number, damage) in damages.into_iter().enumerate() {
            damage();
            give_again();
            assert!(without_manifest(&made) == whole, "{}, damage {number}", made.display());
        }
    }
    assert_eq!(RunDirectory::open(&run).unwrap().read_images().unwrap().len(), 6);
}

fn without_manifest(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(run);
    files.retain(|name, _| name != Path::new("manifest.json"));
    files
}

#[cfg(unix)]
#[test]
fn a_merge_takes_over_thumbnails_and_nothing_else_in_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for shard in ["0/2", "1/2"] {
        job(folder, &["--out", "run", "--shard", shard]);
    }
    let shards = ["0-of-2", "1-of-2"].map(|name| folder.join("run/shards").join(name));
    assert_eq!((kept(&shards[0]), kept(&shards[1])), (4, 2));
    // One is lost, one is that of another image, and a stranger has put a link in the place of the third.
    let all = thumbnails(&shards[0]);
    std::fs::remove_file(&all[0]).unwrap();
    std::fs::copy(&all[2], &all[1]).unwrap();
    std::fs::remove_file(&all[3]).unwrap();
    std::fs::write(folder.join("secret"), "not ours\n").unwrap();
    std::os::unix::fs::symlink(folder.join("secret"), &all[3]).unwrap();
    program(folder, &["merge", "run"]);
    let run = folder.join("run");
    let of_shard = |path: &PathBuf| run.join(path.strip_prefix(&shards[0]).unwrap());
    let there: Vec<bool> = all.iter().map(|path| of_shard(path).exists()).collect();
    assert_eq!(there, [false, false, true, false]);
    let mut left = files(&run);
    left.retain(|name, _| name.starts_with("thumbnails"));
    assert_eq!(left.len(), 3);
    // The command for the whole run makes the others.
    job(folder, &["--out", "run"]);
    assert_eq!(kept(&run), 6);
    job(folder, &["--out", "single"]);
    let images = |run: &str| {
        let mut files = files(&folder.join(run));
        files.retain(|name, _| name.starts_with("images") || name.starts_with("thumbnails"));
        files
    };
    assert!(images("run") == images("single"));
}
