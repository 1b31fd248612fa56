//! Data of strangers: names and links that lead out of a run, pictures that claim to be huge, servers that
//! repeat the key. Files whose bytes are hostile: `fuzz_corpus`.

use std::path::Path;
use std::process::{Command, Output};

use dpg_bench::benchmark::Benchmark;
use dpg_bench::results::{RunDirectory, Settings};

use crate::loopback::{Loopback, Received, Reply, say, well_behaved};
use crate::report_runs::{first, report};
use crate::small_run::{items, run_with_pictures};

fn dpg_bench(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.current_dir(folder).args(arguments).env("OPENAI_API_KEY", "").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A PNG, JPEG or WebP of a few bytes whose header claims 60,000 x 60,000 pixels.
fn bombs() -> [(&'static str, Vec<u8>); 3] {
    let small = image::RgbImage::from_pixel(8, 8, image::Rgb([9, 8, 7]));
    let encoded = |format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        small.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let mut png = encoded(image::ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    // The header's own checksum, so that nothing else is wrong with it.
    let checksum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    let mut jpeg = encoded(image::ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    let mut webp = encoded(image::ImageFormat::WebP);
    // 14 bits each, less one: 16,384 x 16,384 is the largest that the lossless form can claim.
    let at = webp.windows(4).position(|four| four == b"VP8L").unwrap() + 9;
    webp[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
    [("png", png), ("jpg", jpeg), ("webp", webp)]
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn pictures_that_claim_to_be_huge_are_refused_before_they_are_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let questions = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n";
    let mut csv = questions.to_owned();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    for (name, bytes) in bombs() {
        csv += &format!("{name},a prompt,,1,0,,,entity - whole (x),Is it?\n");
        std::fs::write(folder.path().join("images").join(format!("{name}_0.{name}")), bytes)
            .unwrap();
    }
    std::fs::write(folder.path().join("q.csv"), csv).unwrap();
    let import = [
        "import",
        "--images",
        "images",
        "--benchmark",
        "q.csv",
        "--images-per-item",
        "1",
        "--out",
        "run",
    ];
    // Less memory than any of them would take.
    let command = format!(
        "ulimit -v 900000; exec '{}' {}",
        env!("CARGO_BIN_EXE_dpg-bench"),
        import.join(" ")
    );
    let output =
        Command::new("sh").args(["-c", &command]).current_dir(folder.path()).output().unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    for file in ["png_0.png", "jpg_0.jpg"] {
        let line =
            told.lines().find(|line| line.contains(file)).unwrap_or_else(|| panic!("{told}"));
        assert!(line.contains("larger than 16384x16384 pixels"), "{line}");
    }
    assert!(told.contains("webp_0.webp"), "{told}");

    // In a run, the judges and the thumbnails meet them.
    let [(_, png), ..] = bombs();
    let run = run_with_pictures(&folder.path().join("judged"), &items(1));
    std::fs::write(run.image_path("item0", 2), &png).unwrap();
    let picture = dpg_bench::judge::JudgedImage::stored(run.image_path("item0", 2), png.clone());
    let error = picture.decode().unwrap_err().to_string();
    assert!(error.contains("2.png is no readable PNG") && error.contains("larger than"), "{error}");
    let reported = first(folder.path());
    std::fs::write(reported.join("images/plain/1.png"), &png).unwrap();
    let (code, told) = report(&[&reported], &folder.path().join("report"), &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("no thumbnail of") && told.contains("larger than 16384x16384"), "{told}");
}

#[test]
fn names_from_question_files_and_manifests_stay_in_the_run() {
    for id in ["../x", "a/b", "/etc/x", "..", ".", "a\\b", ".hidden", "nul", "a\nb", "a\u{0}"] {
        let csv = format!(
            "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n\
             \"{id}\",p,,1,0,,,entity - whole (x),?\n"
        );
        assert!(Benchmark::from_csv(csv.as_bytes(), "q.csv").is_err(), "{id:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut run = run_with_pictures(&folder.path().join("run"), &items(1));
    for judge in ["../../x", "a/b", "/etc/x", "..", ".x", ""] {
        assert!(run.begin_judge(judge, Settings::new(), "cpu").is_err(), "{judge}");
        assert!(run.read_answers(judge).is_err() && run.scores_path(judge).is_err(), "{judge}");
    }
    // A manifest that names such a judge is read, and the judge refused where its files are.
    let path = folder.path().join("run/manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let hostile = text.replace(
        "\"judges\": {}",
        "\"judges\": {\"../../x\": {\"settings\": {}, \"sittings\": []}}",
    );
    assert_ne!(text, hostile);
    std::fs::write(&path, hostile).unwrap();
    let run = RunDirectory::open(&folder.path().join("run")).unwrap();
    let error = run.read_answers(&run.judges()[0]).unwrap_err().to_string();
    assert!(error.contains("`../../x` cannot name a judge"), "{error}");
}

/// A run from a stranger whose folders are links: nothing is written where they lead.
#[cfg(unix)]
#[test]
fn links_inside_a_run_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let job = ["run", "--limit", "1", "--images", "1", "--steps", "1", "--out", "run"];
    for (link, to_folder) in [
        ("images", true),
        ("images/IMAGES_OF_THE_ITEM", true),
        ("thumbnails", true),
        ("thumbnails/IMAGES_OF_THE_ITEM", true),
        ("thumbnails/IMAGES_OF_THE_ITEM/0.jpg", false),
        ("images.jsonl", false),
        ("answers", true),
        ("answers/demo-judge.jsonl", false),
        ("summary", true),
        ("scores", true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = dpg_bench(folder.path(), &job);
        assert!(output.status.success(), "{}", said(&output));
        let (run, outside) = (folder.path().join("run"), folder.path().join("outside"));
        let item =
            std::fs::read_dir(run.join("images")).unwrap().next().unwrap().unwrap().file_name();
        let link = link.replace("IMAGES_OF_THE_ITEM", item.to_str().unwrap());
        let place = run.join(&link);
        if to_folder {
            std::fs::remove_dir_all(&place).unwrap();
            std::fs::create_dir(&outside).unwrap();
        } else {
            std::fs::remove_file(&place).unwrap();
            std::fs::write(&outside, "not ours\n").unwrap();
        }
        symlink(&outside, &place).unwrap();
        let output = dpg_bench(folder.path(), &job);
        assert_eq!(output.status.code(), Some(2), "{link}: {}", said(&output));
        assert!(
            said(&output).contains(&format!("run/{link} is a symbolic link")),
            "{}",
            said(&output)
        );
        if to_folder {
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{link}");
        } else {
            assert_eq!(std::fs::read_to_string(&outside).unwrap(), "not ours\n");
        }
    }
}

/// With a stroke, which some servers write as `\/` in JSON.
const KEY: &str = "sk-hush/hush+0123456789";

fn answer(request: &Received, form: usize) -> Reply {
    let spelled: String = KEY.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
    let apart = format!("{}\u{1}{}", &KEY[..9], &KEY[9..]);
    let error = |words: &str| format!("{{\"error\": {{\"message\": \"bad key {words}\"}}}}");
    let refused = |body: String| Reply::Status(400, vec![], body);
    match form {
        0 => refused(format!("plain: {KEY}")),
        1 => refused(error(KEY)),
        2 => refused(error(&KEY.replace('/', "\\/"))),
        3 => refused(error(&spelled)),
        4 => refused(format!("in two: {apart}")),
        5 => refused(format!("{} {KEY}", "long ".repeat(39))),
        6 => Reply::Status(302, vec![format!("Location: http://else/{KEY}/v1")], String::new()),
        7 => Reply::Status(500, vec![format!("X-Echo: {KEY}")], error(KEY)),
        8 => say(&format!("Yes, with {KEY}.")),
        9 => {
            let text =
                format!("{{\"choices\": [{{\"message\": {{\"content\": \"No: {spelled}\"}}}}]}}");
            Reply::Status(200, vec!["Content-Type: application/json".into()], text)
        }
        10 => Reply::Bytes(format!("{KEY}\r\n\r\n").into_bytes()),
        _ => well_behaved(request),
    }
}

#[test]
fn the_key_of_the_endpoint_is_in_no_file_and_no_message() {
    for form in 0..12 {
        let server = Loopback::start(move |request| {
            assert!(request.authorization.as_ref().is_some_and(|value| value.contains(KEY)));
            answer(request, form)
        });
        let folder = tempfile::tempdir().unwrap();
        let generate =
            ["generate", "--limit", "1", "--images", "1", "--steps", "1", "--out", "run"];
        assert!(dpg_bench(folder.path(), &generate).status.success());
        let url = server.url();
        let judge = [
            "judge",
            "run",
            "--judge",
            "endpoint",
            "--judge-url",
            &url,
            "--judge-model",
            "m",
            "--judge-key-env",
            "HUSH",
            "--judge-retries",
            "0",
            // Every failure goes into the journal.
            "--judge-max-failures",
            "0",
            "--judge-concurrency",
            "1",
        ];
        let output = Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
            .current_dir(folder.path())
            .args(judge)
            .env("HUSH", KEY)
            .output()
            .unwrap();
        let told = said(&output);
        assert!(!server.received().is_empty(), "form {form}: {told}");
        assert_eq!(output.status.success(), form >= 8 && form != 10, "form {form}: {told}");
        let mut written = crate::generate_run::files(folder.path());
        written.insert(
            "manifest".into(),
            std::fs::read(folder.path().join("run/manifest.json")).unwrap(),
        );
        written.insert("what it said".into(), told.into_bytes());
        for (name, bytes) in &written {
            // The key, and pieces of it that would help to guess the rest.
            for piece in [KEY, "hush+", "hush/"] {
                let found = bytes.windows(piece.len()).any(|window| window == piece.as_bytes());
                assert!(!found, "form {form}: `{piece}` stands in {}", name.display());
            }
        }
        let answers = &written[Path::new("run/answers/endpoint.jsonl")];
        let marks = String::from_utf8_lossy(answers).contains("***");
        assert_eq!(marks, [0, 1, 2, 3, 4, 5, 7, 8, 9].contains(&form), "form {form}");
    }
}
