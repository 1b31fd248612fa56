//! `--model program`: programs of the user's, here shell scripts that copy images, as they behave and misbehave.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dpg_bench::RunDirectory;
use dpg_bench::results::ImageOutcome;
use image::{Rgb, RgbImage};

use crate::generate_run::files;
use crate::kept_thumbnails::kept;

const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red kite over a stone house,,1,0,entity,whole,entity - whole (kite),Is there a kite?
cat,A small cat on a wooden chair,,1,0,entity,whole,entity - whole (cat),Is there a cat?
lamp,A brass lamp beside a window,,1,0,entity,whole,entity - whole (lamp),Is there a lamp?
";

/// Says that it has loaded, then runs `each` for every line, with `seed`, `out` and `line` set.
fn script(each: &str) -> String {
    format!(
        "#!/bin/sh
echo \"loaded on $DPG_BENCH_DEVICE\" >&2
echo '{{\"protocol\": 1, \"model\": \"copier\", \"settings\": {{\"version\": 3}}}}'
while read -r line; do
    out=$(printf '%s' \"$line\" | sed 's/.*\"out\":\"\\([^\"]*\\)\".*/\\1/')
    seed=$(printf '%s' \"$line\" | sed 's/.*\"seed\":\\([0-9]*\\).*/\\1/')
    {each}
done
"
    )
}

/// Copies one of three images by the seed.
const COPIES: &str =
    "cp \"$(dirname \"$0\")/$((seed % 3)).png\" \"$out\"; echo \"{\\\"path\\\": \\\"$out\\\"}\"";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(each: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("items.csv", QUESTIONS);
        place.program(&script(each));
        for index in 0..3u8 {
            let color = Rgb([index * 100, 7, 255 - index]);
            RgbImage::from_pixel(8, 6, color).save(place.path(&format!("{index}.png"))).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, text: &str) {
        self.write("model.sh", text);
    }

    fn generate(&self, out: &str, flags: &str) -> Output {
        let command = format!("sh {}", self.path("model.sh").display());
        Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
            .args(["generate", "--model", "program", "--program", &command])
            .args(["--benchmark", "items.csv", "--images", "2", "--out", out])
            .args(flags.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// What it says where it ends with 2, or, with images that failed, with 3.
    fn refused(&self, out: &str, flags: &str, status: i32) -> String {
        let output = self.generate(out, flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        said
    }

    fn outcomes(&self, out: &str) -> Vec<(String, u32, ImageOutcome)> {
        let records = RunDirectory::open(&self.path(out)).unwrap().read_images().unwrap();
        records.into_iter().map(|record| (record.item, record.image, record.outcome)).collect()
    }

    fn reasons(&self, out: &str) -> Vec<String> {
        let failed = |outcome| match outcome {
            ImageOutcome::Failed { reason } => Some(reason),
            ImageOutcome::Done { .. } | ImageOutcome::Filtered { .. } => None,
        };
        self.outcomes(out).into_iter().filter_map(|(.., outcome)| failed(outcome)).collect()
    }
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn pixel(path: &Path) -> [u8; 3] {
    image::open(path).unwrap().to_rgb8().get_pixel(0, 0).0
}

#[test]
fn a_program_makes_the_images_of_a_run() {
    let place = Place::new(COPIES);
    let flags = "--negative-prompt blurry --steps 4 --width 8 --height 6 --seed 5";
    let output = place.generate("run", flags);
    done(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("time per image: median ") && said.contains("(6 images)"), "{said}");
    let outcomes = place.outcomes("run");
    assert_eq!(outcomes.len(), 6);
    for (item, image, outcome) in &outcomes {
        let ImageOutcome::Done { width, height, seed, prompt_tokens, truncated, .. } = outcome
        else {
            panic!("{item} {image}: {outcome:?}");
        };
        assert_eq!((*width, *height, *prompt_tokens, *truncated), (8, 6, None, None));
        let index = (seed.unwrap() % 3) as u8;
        let shown = pixel(&place.path(&format!("run/images/{item}/{image}.png")));
        assert_eq!(shown, [index * 100, 7, 255 - index], "{item} {image}");
    }
    let run = RunDirectory::open(&place.path("run")).unwrap();
    let settings = run.manifest().generation.as_ref().unwrap().settings.clone();
    assert_eq!(settings["model"], "program");
    assert_eq!(settings["name"], "copier");
    assert_eq!(settings["program_settings"]["version"], 3);
    assert_eq!(settings["sent"]["negative_prompt"], "blurry");
    assert_eq!(settings["sent"].as_object().unwrap().len(), 4);

    // Given again there is nothing to do; a program that is another model is refused.
    let before = files(&place.path("run"));
    done(&place.generate("run", flags));
    assert!(files(&place.path("run")) == before);
    place.program(&script(COPIES).replace("\"version\": 3", "\"version\": 4"));
    let said = place.refused("run", flags, 2);
    assert!(said.contains("program_settings"), "{said}");
    let said = place.refused("run", "--steps 5", 2);
    assert!(said.contains("sent"), "{said}");
}

#[test]
fn a_program_is_sent_what_was_stated_and_no_more() {
    let place =
        Place::new(&format!("printf '%s\\n' \"$line\" >> \"$(dirname \"$0\")/lines\"; {COPIES}"));
    done(&place.generate("run", "--limit 1 --seed-mode sequential --seed 7 --guidance 2.5"));
    let lines = std::fs::read_to_string(place.path("lines")).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for (index, line) in lines.iter().enumerate() {
        let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 6, "{keys:?}");
        assert_eq!((&line["item"], &line["image"]), (&"kite".into(), &index.into()));
        assert_eq!(line["prompt"], "A red kite over a stone house");
        assert_eq!(line["seed"], 7 + index as u64);
        assert_eq!(line["guidance"], 2.5);
    }
}

/// It ends at the cat's second image until the file `mended` is there.
#[test]
fn a_program_that_ends_is_started_again_and_the_run_goes_on() {
    let ends = "case \"$line\" in *cat*) if [ ! -e mended ]; then echo x >> starts; echo 'out of memory' >&2; exit 7; fi;; esac; ";
    let place = Place::new(&format!("{ends}{COPIES}"));
    let said = place.refused("run", "", 3);
    assert!(said.contains("out of memory"), "{said}");
    let reasons = place.reasons("run");
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("exit status: 7") && reasons[0].ends_with("out of memory"));
    // Both images of the cat were asked for three times.
    assert_eq!(std::fs::read_to_string(place.path("starts")).unwrap().lines().count(), 6);
    assert_eq!(place.outcomes("run").len(), 6);

    place.write("mended", "");
    done(&place.generate("run", ""));
    done(&place.generate("whole", ""));
    let images = |run: &str| {
        let mut images = files(&place.path(run));
        images.retain(|path, _| path.extension().is_some_and(|ending| ending == "png"));
        images
    };
    assert_eq!(images("whole").len(), 6);
    assert!(images("run") == images("whole"));
}

#[test]
fn what_a_program_should_not_say_fails_that_image_alone() {
    let cat = |each: &str| format!("case \"$line\" in *cat*) {each};; *) {COPIES};; esac");
    for (each, wanted) in [
        ("echo '{\"error\": \"refused by a filter\"}'", "the program says: refused by a filter"),
        ("echo hello", "the program's reply is no JSON object: `hello`"),
        ("echo '{}'", "must have \"path\" or \"error\""),
        (
            "echo '{\"item\": \"kite\", \"image\": 1, \"error\": \"late\"}'",
            "the program's reply is of item kite, image 1, where item cat, image ",
        ),
        (
            "echo '{\"image\": 7, \"error\": \"late\"}'",
            "is of item cat, image 7, where item cat, image ",
        ),
        ("echo '{\"path\": \"nowhere.png\"}'", "nowhere.png"),
        ("echo no image > \"$out\"; echo \"{\\\"path\\\": \\\"$out\\\"}\"", "cannot be read"),
        ("sleep 60", "gave no answer in 1 s"),
    ] {
        let place = Place::new(&cat(each));
        place.refused("run", "--program-timeout 1", 3);
        let reasons = place.reasons("run");
        assert_eq!(reasons.len(), 2, "{each}: {reasons:?}");
        assert!(reasons.iter().all(|reason| reason.contains(wanted)), "{each}: {reasons:?}");
    }
    // An image of another size than asked for, in every item.
    let place = Place::new(COPIES);
    place.refused("run", "--width 16 --program-log log", 3);
    // It loaded once: an image that does not fit is no reason to load the model again.
    assert_eq!(std::fs::read_to_string(place.path("log")).unwrap(), "loaded on auto\n");
    let wanted = "the program's image is 8 pixels wide, where 16 were asked for";
    assert!(
        place.reasons("run").iter().all(|reason| reason == wanted),
        "{:?}",
        place.reasons("run")
    );
    assert_eq!(place.reasons("run").len(), 6);
    // A line that nobody asked for would shift every reply after it.
    let place = Place::new(&format!("{COPIES}; echo '{{\"path\": \"x\"}}'"));
    let output = place.generate("run", "");
    for (item, image, outcome) in place.outcomes("run") {
        if let ImageOutcome::Done { seed, .. } = outcome {
            let index = (seed.unwrap() % 3) as u8;
            let shown = pixel(&place.path(&format!("run/images/{item}/{image}.png")));
            assert_eq!(shown[0], index * 100, "{output:?}");
        }
    }
}

#[test]
fn a_program_that_does_not_start_is_told_before_the_first_prompt() {
    let place = Place::new(COPIES);
    for (text, wanted) in [
        ("exit 3", "the program ended (exit status: 3)"),
        ("echo nothing to import >&2; exit 1", "nothing to import"),
        ("echo ready; cat", "the program's first line must be like"),
        ("echo '{\"protocol\": 2, \"model\": \"m\"}'; cat", "speaks protocol 2"),
        ("echo '{\"protocol\": 1, \"model\": \" \"}'; cat", "empty \"model\""),
        ("sleep 60", "gave no answer in 1 s"),
    ] {
        place.program(text);
        let said = place.refused("run", "--program-start-timeout 1", 2);
        assert!(said.contains(wanted), "{text}: {said}");
        assert!(!place.path("run").exists(), "{text}");
    }
}

#[test]
fn each_device_has_a_program_of_its_own() {
    let place = Place::new(COPIES);
    done(&place.generate("one", ""));
    done(&place.generate("two", "--devices cpu,cuda:1 --program-log log"));
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["loaded on cpu", "loaded on cuda:1"]);
    assert!(files(&place.path("one")) == files(&place.path("two")));
    // So has each shard.
    for shard in ["0/2", "1/2"] {
        done(&place.generate("shards", &format!("--shard {shard}")));
    }
    let mut merge = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    done(&merge.args(["merge", "shards"]).current_dir(place.folder.path()).output().unwrap());
    let images = |run: &str| {
        let mut images = files(&place.path(run));
        images.retain(|path, _| path.starts_with("images") || path.starts_with("thumbnails"));
        images
    };
    assert_eq!((images("one").len(), kept(&place.path("one"))), (12, 6));
    assert!(images("one") == images("shards"));
    // A model file names it too.
    let command = format!("sh {}", place.path("model.sh").display());
    place.write("m.toml", &format!("name = 'mine'\nmodel = 'program'\nprogram = '{command}'\n"));
    let output = Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .args("generate --model-file m.toml --benchmark items.csv --limit 1".split(' '))
        .current_dir(place.folder.path())
        .output()
        .unwrap();
    done(&output);
    assert!(place.path("results/mine/images/kite/3.png").is_file());
}
