//! `generate --controlnet` as a user runs it, on the tiny checkpoint: what is recorded, resumed, refused and grown.

use std::path::{Path, PathBuf};

use dpg_bench::results::image_store::{pixels_sha256, read_upright_image};
use tempfile::TempDir;

use crate::generate_run::files;
use crate::tiny_checkpoint::fixture;
use crate::words::words;
use crate::words_shown::with_pictures;

const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red kite over a stone house,,1,0,entity,whole,entity - whole (kite),Is there a kite?
cat,A small cat on a wooden chair,,1,0,entity,whole,entity - whole (cat),Is there a cat?
lamp,A brass lamp beside a window,,1,0,entity,whole,entity - whole (lamp),Is there a lamp?
";

/// A folder with a benchmark of three items and their control images.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path("items.csv"), QUESTIONS).unwrap();
        std::fs::create_dir(place.path("control")).unwrap();
        for (item, image) in [("kite", "shapes.png"), ("cat", "grey.png"), ("lamp", "turned.jpg")] {
            place.control(item, image);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts the image of the fixtures where that of `item` is.
    fn control(&self, item: &str, image: &str) {
        let (_, ending) = image.rsplit_once('.').unwrap();
        let from = fixture("controlnet-golden").join(image);
        std::fs::copy(from, self.path(&format!("control/{item}.{ending}"))).unwrap();
    }

    /// Exit code, and what was said.
    fn run(&self, words: &[&str]) -> (i32, String) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        let output = command.current_dir(self.0.path()).args(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    /// `generate` into `out` with a ControlNet.
    fn generate(&self, out: &str, more: &[&str]) -> (i32, String) {
        let (weights, network) = (fixture("sd15-tiny"), fixture("controlnet-tiny"));
        let mut words = vec!["generate", "--weights", weights.to_str().unwrap(), "--out", out];
        words.extend(["--controlnet", network.to_str().unwrap(), "--control-images", "control"]);
        words.extend(["--benchmark", "items.csv", "--images", "2"]);
        words.extend(["--steps", "2", "--width", "24", "--height", "16"]);
        words.extend(more);
        if !more.contains(&"--devices") {
            words.extend(["--device", "cpu"]);
        }
        if !more.contains(&"--model") {
            words.extend(["--model", "sd15"]);
        }
        self.run(&words)
    }

    fn made(&self, out: &str, more: &[&str]) {
        let (code, said) = self.generate(out, more);
        assert_eq!(code, 0, "{said}");
    }

    fn refused(&self, out: &str, more: &[&str]) -> String {
        let (code, said) = self.generate(out, more);
        assert_eq!(code, 2, "{said}");
        said
    }

    /// What `images.jsonl` of `run` says of the control image of each image.
    fn recorded(&self, run: &str) -> Vec<(String, Option<String>)> {
        let text = std::fs::read_to_string(self.path(run).join("images.jsonl")).unwrap();
        let lines = text.lines().skip(1);
        let records = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let words = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        records
            .map(|one| (words(&one["item"]).unwrap(), words(&one["outcome"]["control_sha256"])))
            .collect()
    }
}

fn digest(path: &Path) -> String {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    pixels_sha256(&read_upright_image(file).unwrap())
}

#[test]
fn a_run_keeps_to_its_control_images() {
    let place = Place::new();
    place.made("run", &[]);
    let whole = files(&place.path("run"));
    let due: Vec<(String, Option<String>)> = ["kite.png", "cat.png", "lamp.jpg"]
        .iter()
        .flat_map(|file| {
            let item = file.split('.').next().unwrap().to_owned();
            let digest = digest(&place.path(&format!("control/{file}")));
            [(item.clone(), Some(digest.clone())), (item, Some(digest))]
        })
        .collect();
    assert_eq!(place.recorded("run"), due);
    let png = std::fs::read(place.path("run/images/lamp/1.png")).unwrap();
    let texts = String::from_utf8_lossy(&png);
    assert!(texts.contains("control_sha256") && texts.contains(due[5].1.as_ref().unwrap()));
    let manifest = std::fs::read_to_string(place.path("run/manifest.json")).unwrap();
    for words in ["\"controlnet\": \"controlnet-tiny\"", "\"controlnet_scale\": 1.0"] {
        assert!(manifest.contains(words), "{manifest}");
    }

    // Another control image is refused, whether an image of the item is to be made or not, and nothing is changed.
    place.control("cat", "palette.png");
    for lost in ["run/images/cat/1.png", "run/images/kite/0.png"] {
        let said = place.refused("run", &[]);
        let words =
            "another control image than control now has, of 1 item: cat; put the former files back";
        assert!(said.contains(words), "{said}");
        assert_eq!(std::fs::read_to_string(place.path("run/manifest.json")).unwrap(), manifest);
        std::fs::remove_file(place.path(lost)).unwrap();
    }
    // Of the former one the run ends in the bytes of one that was not stopped; another file of its pixels is the same.
    let grey = fixture("controlnet-golden/grey.png");
    image::open(grey).unwrap().to_rgb8().save(place.path("control/cat.png")).unwrap();
    let (code, said) = place.generate("run", &[]);
    assert!(code == 0 && said.contains("2 made now"), "{said}");
    assert_eq!(files(&place.path("run")), whole);

    // Other settings are refused as such.
    let said = place.refused("run", &["--controlnet-scale", "0.5"]);
    assert!(said.contains("controlnet_scale: 1.0 in the run, 0.5 now"), "{said}");
    let said = place.refused("run", &["--control-guidance-end", "0.5"]);
    assert!(said.contains("control_guidance_end: 1.0 in the run, 0.5 now"), "{said}");
    place.made("half", &["--controlnet-scale", "0.5"]);
    assert_ne!(files(&place.path("half")), whole);

    // Without a ControlNet no record speaks of one, and no run goes on without or with it.
    let weights = fixture("sd15-tiny");
    let plain = ["generate", "--model", "sd15", "--weights", weights.to_str().unwrap()];
    let more = ["--benchmark", "items.csv", "--device", "cpu", "--images", "2", "--steps", "2"];
    let size = ["--width", "24", "--height", "16", "--out"];
    let words = |out| [&plain[..], &more, &size, &[out]].concat();
    let (code, said) = place.run(&words("plain"));
    assert_eq!(code, 0, "{said}");
    assert!(place.recorded("plain").iter().all(|(_, digest)| digest.is_none()));
    assert!(place.refused("plain", &[]).contains("controlnet_scale: - in the run, 1.0 now"));
    let (code, said) = place.run(&words("run"));
    assert!(code == 2 && said.contains("controlnet_scale: 1.0 in the run, - now"), "{said}");
}

#[test]
fn a_run_with_control_images_grows_and_is_dealt_to_shards() {
    let place = Place::new();
    place.made("whole", &["--model", "auto"]);
    let whole = files(&place.path("whole"));
    // The images of items that are not asked for may be lacking.
    std::fs::rename(place.path("control/lamp.jpg"), place.path("lamp.jpg")).unwrap();
    place.made("grown", &["--items", "kite,cat"]);
    let said = place.refused("grown", &[]);
    assert!(
        said.contains("no image for 1 of 3 items: lamp; each item needs a file control/lamp.png")
    );
    std::fs::rename(place.path("lamp.jpg"), place.path("control/lamp.jpg")).unwrap();
    place.control("kite", "rgba.png");
    assert!(place.refused("grown", &[]).contains("of 1 item: kite"));
    place.control("kite", "shapes.png");
    place.made("grown", &[]);
    assert_eq!(files(&place.path("grown")), whole);

    for shard in ["0/2", "1/2"] {
        place.made("dealt", &["--shard", shard]);
    }
    let (code, said) = place.run(&["merge", "dealt", "--remove-shards"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(files(&place.path("dealt")), whole);
    // Two devices share what they read.
    place.made("devices", &["--devices", "cpu,cpu"]);
    assert_eq!(files(&place.path("devices")), whole);
}

#[test]
fn what_is_lacking_is_told_before_anything_is_loaded() {
    let place = Place::new();
    std::fs::remove_file(place.path("control/lamp.jpg")).unwrap();
    std::fs::remove_file(place.path("control/kite.png")).unwrap();
    let said = place.refused("run", &[]);
    assert!(
        said.contains("--control-images control has no image for 2 of 3 items: kite, lamp; each item needs a file control/kite.png"),
        "{said}"
    );
    place.control("lamp", "turned.jpg");
    std::fs::write(place.path("control/kite.png"), "no image").unwrap();
    assert!(place.refused("run", &[]).contains("control image control/kite.png is no PNG"));
    place.control("kite", "shapes.png");
    place.control("kite", "turned.webp");
    let said = place.refused("run", &[]);
    assert!(said.contains("item kite has two control images"), "{said}");
    std::fs::remove_file(place.path("control/kite.webp")).unwrap();
    // What begins as an image and is none is told before the first image is made.
    let bytes = std::fs::read(place.path("control/kite.png")).unwrap();
    std::fs::write(place.path("control/kite.png"), &bytes[..bytes.len() / 2]).unwrap();
    let said = place.refused("run", &[]);
    assert!(said.contains("control image control/kite.png cannot be read"), "{said}");
    assert!(!place.path("run/images.jsonl").exists());

    let (code, said) = place.generate("dry", &["--dry-run"]);
    assert!(code == 0 && said.contains("controlnet-tiny, scale 1"), "{said}");
    for network in ["controlnet-xl-tiny", "sd15-tiny/unet"] {
        let path = fixture(network);
        let said = place.refused("run", &["--dry-run", "--controlnet", path.to_str().unwrap()]);
        assert!(said.contains("cannot be used multiple times"), "{said}");
    }
}

/// `doctor` looks for the ControlNet and for each item's image, counts its weights, and times the model with it.
#[test]
fn the_doctor_knows_of_it() {
    let place = Place::new();
    let (weights, network) = (fixture("sd15-tiny"), fixture("controlnet-tiny"));
    let doctor = |more: &[&str]| {
        let mut words = vec!["doctor", "--model", "sd15", "--weights", weights.to_str().unwrap()];
        words.extend(["--judge", "scripted", "--judge-rule", "yes", "--benchmark", "items.csv"]);
        words.extend(["--device", "cpu", "--steps", "2", "--width", "24", "--height", "16"]);
        words.extend(more);
        place.run(&words)
    };
    let network = network.to_str().unwrap();
    let control = ["--controlnet", network, "--control-images", "control"];
    let (code, said) = doctor(&control);
    assert_eq!(code, 0, "{said}");
    for words in
        ["one for each of 3 items in control", "controlnet-tiny: 1 weight files, whole", "calls of"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    std::fs::remove_file(place.path("control/cat.png")).unwrap();
    let (code, said) = doctor(&[&control[..], &["--quick"]].concat());
    assert_eq!(code, 1, "{said}");
    for words in ["no image for 1 of 3 items: cat", "estimated and recorded times leave it out"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (code, said) = doctor(&["--control-images", "control", "--quick"]);
    assert!(code == 1 && said.contains("go with --controlnet DIR"), "{said}");
}

#[test]
fn a_model_file_names_a_controlnet() {
    let place = Place::new();
    place.made("flags", &["--controlnet-scale", "0.5", "--control-guidance-end", "0.5"]);
    let text = format!(
        "name = 'mine'\nmodel = 'sd15'\ncheckpoint = '{}'\ncontrolnet = '{}'\ncontrol_images = 'control'\n\
         controlnet_scale = 0.25\ncontrol_guidance_end = 0.5\n",
        fixture("sd15-tiny").display(),
        fixture("controlnet-tiny").display()
    );
    std::fs::write(place.path("model.toml"), text).unwrap();
    // A flag stands above the file.
    let mut words = vec!["generate", "--model-file", "model.toml", "--controlnet-scale", "0.5"];
    words.extend(["--benchmark", "items.csv", "--device", "cpu", "--images", "2", "--steps", "2"]);
    words.extend(["--width", "24", "--height", "16", "--out", "file"]);
    let (code, said) = place.run(&words);
    assert_eq!(code, 0, "{said}");
    let pixels = |run: &str| std::fs::read_to_string(place.path(run).join("images.jsonl")).unwrap();
    assert_eq!(pixels("file"), pixels("flags"));
}

#[test]
fn refusals_word_by_word() {
    let place = with_pictures();
    place.fixture("controlnet-tiny", "net");
    place.fixture("controlnet-xl-tiny", "xl");
    place.fixture("sd15-tiny", "sd15");
    place.picture("control/kite.png", 8, 8, 40);
    place.picture("both/kite.png", 8, 8, 40);
    place.picture("both/cat.png", 8, 8, 50);
    let sd15 = "generate --model sd15 --weights sd15 --benchmark items.csv --device cpu";
    let model = "[[model]]\nmodel = 'sd15'\nweights = 'sd15'\ncontrolnet = 'net'\n";
    place.write(
        "table.toml",
        format!("benchmark = 'items.csv'\n{model}control_images = 'control'\n"),
    );
    words!(
        "refused_controlnet",
        place,
        [
            "generate --model pixart-sigma --controlnet net",
            "generate --model lcm --control-images control",
            "generate --model demo-sd --controlnet-scale 2",
            "generate --model program --program ./nowhere --control-guidance-start 0.5",
            "generate --model server --server-url http://gpu --control-guidance-end 0.5",
            "generate --model sd15 --control-images control",
            "generate --model sd15 --controlnet net",
            "generate --model sd15 --controlnet net --controlnet xl --control-images control",
            "generate --model sd15 --controlnet nowhere/at/all --control-images control",
            "generate --model sd15 --controlnet net --control-images nowhere",
            "generate --model sd15 --controlnet net --control-images control --control-guidance-start 1",
            "generate --model sd15 --controlnet net --control-images control --controlnet-scale nan",
            &format!("{sd15} --controlnet net --control-images control"),
            &format!("{sd15} --controlnet xl --control-images both"),
            "run --model-list table.toml --judge scripted --judge-rule yes --device cpu",
        ]
    );
}
