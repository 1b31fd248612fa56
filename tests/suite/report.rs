//! `dpg-bench report` as a process, over runs whose prompts, item ids, answers and folder names try to leave
//! their place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use dpg_bench::reports::drawing::text_width;
use dpg_bench::results::AnswerOutcome;
use sha2::{Digest, Sha256};

use super::report_runs::*;
use super::small_run::IMAGES;

#[test]
fn a_page_lets_only_its_own_script_and_style_run_and_gives_back_every_text() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (first(folder.path()), second(folder.path()));
    let out = folder.path().join("report");
    let page = made(&[&first, &second], &out, &[]);

    let digest = |text: &str| {
        let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
        format!("'sha256-{digest}'")
    };
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\">");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(
        policy
            .contains(&format!("script-src {};", digest(between(&page, "<script>", "</script>"))))
    );
    assert!(
        policy.contains(&format!("style-src {};", digest(between(&page, "<style>", "</style>"))))
    );
    assert!(!policy.contains("unsafe"), "{policy}");

    // Texts never open an element: the data's `<` are written otherwise, the rest is escaped.
    assert_eq!(page.matches("<script").count(), 2);
    for breach in ["<img", "<svg onload", "<b>a category", "<!-- "] {
        assert!(!page.contains(breach), "{breach}");
    }
    assert!(page.contains("second &lt;img src=x&gt;") && !page.contains("onerror=\""));
    let data = data(&page);
    for (item, (id, prompt)) in
        data["items"].as_array().unwrap().iter().zip(ITEMS.iter().zip(HOSTILE))
    {
        assert_eq!(item["id"], *id);
        assert_eq!(item["prompt"], prompt.trim());
    }
    let texts: Vec<&str> =
        data["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert!(texts.contains(&"<img src=x onerror=hostile()>"), "{texts:?}");

    // Every thumbnail that the page names is there, and is a small JPEG.
    let mut count = 0;
    for item in data["items"].as_array().unwrap() {
        for image in item["runs"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|run| run["images"].as_array().unwrap())
        {
            let address = image["picture"].as_str().unwrap();
            assert!(
                address.bytes().all(|b| b.is_ascii_alphanumeric() || b"/%-_.".contains(&b)),
                "{address}"
            );
            let picture = image::open(out.join(decoded(address))).unwrap();
            assert_eq!((picture.width(), picture.height()), (4, 4));
            count += 1;
        }
    }
    assert_eq!(count, 2 * 4 * IMAGES as usize);
    // Verdicts: in `first`, a no to question 2 zeroes question 3.
    assert_eq!(data["items"][0]["runs"][0]["images"][1]["judges"][0]["ruled"], "ynpyy");
    assert_eq!(data["items"][1]["runs"][0]["images"][0]["judges"][0]["ruled"], "yyyuy");
    assert_eq!(data["items"][0]["runs"][0]["images"][1]["score"], 60.0);
    assert_eq!(data["items"][0]["questions"][2][3], serde_json::json!([1]));

    // Files that the footer links to.
    for (at, _) in page.match_indices("href=\"tables/").chain(page.match_indices("href=\"charts/"))
    {
        let link = page[at + 6..].split('"').next().unwrap();
        assert!(out.join(link).is_file(), "{link}");
    }
}

#[test]
fn thumbnails_link_to_the_full_pictures_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (first(folder.path()), second(folder.path()));
    let plain = made(&[&first, &second], &folder.path().join("plain"), &[]);
    assert!(data(&plain)["runs"][0]["pictures"].is_null());
    // The report's folders are not there yet, and the way to the runs goes through a link.
    let reports = folder.path().join("real");
    std::fs::create_dir(&reports).unwrap();
    std::os::unix::fs::symlink(&reports, folder.path().join("link")).unwrap();
    let page = made(&[&first, &second], &folder.path().join("link/deep/er"), &["--link-images"]);
    let whole = reports.canonicalize().unwrap().join("deep/er");
    for (number, run) in [&first, &second].into_iter().enumerate() {
        let address = data(&page)["runs"][number]["pictures"].as_str().unwrap().to_owned();
        assert!(address.starts_with("../../../") && !address.contains('<'), "{address}");
        for item in ITEMS {
            let picture = whole.join(decoded(&address)).join(item).join("1.png");
            let there = run.join("images").join(item).join("1.png");
            assert_eq!(picture.canonicalize().unwrap(), there.canonicalize().unwrap());
        }
    }
}

/// Percent signs of an address back to bytes.
fn decoded(address: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = address.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| (byte.unwrap() as char).to_digit(16).unwrap() as u8;
        bytes.push(if byte == b'%' { 16 * hex(rest.next()) + hex(rest.next()) } else { byte });
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_tables_tell_what_the_answers_say() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (first(folder.path()), second(folder.path()));
    let out = folder.path().join("report");
    let page = made(&[&first, &second], &out, &["--intervals", "--both-protocols"]);
    let table = |name: &str| csv_rows(&out.join("tables").join(name));
    let number = |row: &BTreeMap<String, String>, column: &str| row[column].parse::<f64>().unwrap();

    // By hand. `first`: images 0 and 2 all yes, 1 and 3 have 3 of 5 (in item 1 one less each).
    let items = [80.0, 60.0, 80.0, 80.0];
    let mean = items.iter().sum::<f64>() / 4.0;
    // `second`: one no in 80 answers.
    let other = (95.0 + 300.0) / 4.0;
    let board = table("leaderboard.csv");
    assert_eq!(board[0]["run"], "second <img src=x>");
    assert!((number(&board[0], "score") - other).abs() < 1e-9);
    assert!((number(&board[1], "score") - mean).abs() < 1e-9);
    let of_first: Vec<f64> = table("items.csv")
        .iter()
        .filter(|row| row["run"] == "first")
        .map(|row| number(row, "score"))
        .collect();
    for (found, wanted) in of_first.iter().zip(items) {
        assert!((found - wanted).abs() < 1e-9, "{of_first:?}");
    }
    // 100, 60, 100, 60: the deviation of four scores 20 from their mean.
    let deviation = number(&table("items.csv")[0], "image_standard_deviation");
    assert!((deviation - (4.0 * 400.0_f64 / 3.0).sqrt()).abs() < 1e-9, "{deviation}");

    let differences = table("differences-2.csv");
    let row = |name: &str| differences.iter().find(|row| row["name"] == name).unwrap();
    assert!((number(row("DPG-Bench score"), "difference") - (other - mean)).abs() < 1e-9);
    // The sign of every item's difference is the same: 2 of 16 patterns of swaps are as extreme.
    assert!((number(row("DPG-Bench score"), "p") - 0.125).abs() < 1e-12);
    assert_eq!(row("DPG-Bench score")["p_holm"], "");
    assert!((number(row("attribute - color"), "difference") - 50.0).abs() < 1e-9);
    assert!(number(row("attribute - color"), "p_holm") >= number(row("attribute - color"), "p"));
    let categories = table("categories.csv");
    let color = categories
        .iter()
        .filter(|row| row["name"] == "attribute - color" && row["run"] == "first")
        .map(|row| (row["stage"].as_str(), number(row, "percent")))
        .collect::<Vec<_>>();
    assert_eq!(color, [("raw", 100.0), ("conditional", 50.0)]);

    let settings = table("settings.csv");
    assert!(settings.iter().any(|row| row["name"] == "generation.steps" && row["value"] == "5"));
    let text = std::fs::read_to_string(out.join("tables/leaderboard.md")).unwrap();
    assert!(text.contains("second \\<img src=x>"), "{text}");
    assert!(text.contains("| corrected | 95 % interval | reference | 95 % interval |"), "{text}");
    // What all runs share stands once, in a table of its own; the CSV of settings holds every row.
    let shared = table("settings-shared.csv");
    let once = |name: &str| shared.iter().filter(|row| row["name"] == name).count();
    let differing = std::fs::read_to_string(out.join("tables/settings.md")).unwrap();
    for name in settings.iter().map(|row| row["name"].as_str()) {
        let values: Vec<&str> = settings
            .iter()
            .filter(|row| row["name"] == name)
            .map(|row| row["value"].as_str())
            .collect();
        let is_shared = values.windows(2).all(|two| two[0] == two[1]);
        assert_eq!(once(name), usize::from(is_shared), "{name}");
        let line = format!("\n| {} |", name.replace('_', "\\_"));
        assert_eq!(differing.contains(&line), !is_shared, "{name}");
    }
    assert_eq!([once("generation.steps"), once("images per item")], [0, 1]);
    assert!(page.contains("Settings in which the runs differ"), "{page}");
    assert!(page.contains("Settings that all runs share"), "{page}");
    assert_eq!(board[0]["other_protocol"], "reference");
    let paper = table("paper.csv");
    let overall = paper.iter().find(|row| row["model"] == "first" && row["name"] == "overall");
    assert!((number(overall.unwrap(), "percent") - mean).abs() < 1e-9);
    let text = std::fs::read_to_string(out.join("tables/paper.tex")).unwrap();
    assert!(text.contains("Overall & Global & Entity") && text.contains("first & 75.00"), "{text}");
    assert!(text.contains("~reference &") && text.contains("\\pm"), "{text}");
    let text = std::fs::read_to_string(out.join("tables/categories.tex")).unwrap();
    assert!(text.contains("second \\textless{}img src=x\\textgreater{}"), "{text}");
    // A detailed category that is the whole of its broad one has a row in the CSV alone.
    assert!(
        !text.contains("entity - whole")
            && table("categories.csv").iter().any(|row| row["name"] == "entity - whole")
    );
}

#[test]
fn the_same_runs_give_the_same_bytes_and_inline_needs_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (first(folder.path()), second(folder.path()));
    let [a, b, one] = ["a", "b", "one"].map(|name| folder.path().join(name));
    let before = files(&first);
    made(&[&first, &second], &a, &[]);
    made(&[&first, &second], &b, &[]);
    assert!(files(&a) == files(&b));
    // Over an old report, without a trace of it or of the making; the run is only read.
    std::fs::write(a.join("old"), "").unwrap();
    made(&[&first, &second], &a, &[]);
    assert!(files(&a) == files(&b));
    assert!(files(&first) == before);
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");

    let page = made(&[&first], &one, &["--inline", "--protocol", "reference"]);
    assert!(!one.join("images").exists());
    let data = data(&page);
    assert_eq!(data["protocol"], "reference");
    let picture = data["items"][3]["runs"][0]["images"][2]["picture"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(picture.strip_prefix("data:image/jpeg;base64,").unwrap())
        .unwrap();
    assert_eq!(image::load_from_memory(&bytes).unwrap().width(), 4);
}

#[test]
fn a_run_with_gaps_is_shown_but_its_score_is_withheld() {
    let folder = tempfile::tempdir().unwrap();
    let first = first(folder.path());
    let gaps = make_run(folder.path(), "gaps", "j", |item, image, question| match (item, image) {
        (0, _) => None,
        (1, 2) => Some(AnswerOutcome::Failed { reason: "time-out <b>".into() }),
        _ => said(if question == 1 { "yes" } else { "no" }),
    });
    std::fs::remove_file(gaps.join("images").join(ITEMS[3]).join("0.png")).unwrap();
    let out = folder.path().join("report");
    let (code, shown) = report(&[&first, &gaps], &out, &[]);
    assert_eq!(code, Some(3), "{shown}");
    assert!(
        shown.contains("questions have no answer") && shown.contains("no thumbnail"),
        "{shown}"
    );
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("withheld"));
    let rows = csv_rows(&out.join("tables/differences-2.csv"));
    assert!(rows.iter().all(|row| row["level"] != "overall") && !rows.is_empty());
    let data = data(&page);
    assert!(data["items"][0]["runs"][1]["score"].is_null());
    assert_eq!(data["items"][0]["runs"][1]["why"], "no answers");
    assert_eq!(data["items"][1]["runs"][1]["images"][2]["judges"][0]["ruled"], "fffff");
    assert!(data["items"][3]["runs"][1]["images"][0]["picture"].is_null());
    assert_eq!(report(&[&first, &gaps], &out, &["--allow-incomplete"]).0, Some(0));
    assert!(
        csv_rows(&out.join("tables/differences-2.csv")).iter().any(|row| row["level"] == "overall")
    );
}

#[test]
fn what_a_killed_report_left_is_removed_and_what_another_makes_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let run = first(folder.path());
    let out = folder.path().join("reports/one");
    let unfinished = |name: &str, lock: Option<&str>| {
        let path = out.with_file_name(name);
        std::fs::create_dir_all(path.join("report")).unwrap();
        std::fs::write(path.join("report/index.html"), "").unwrap();
        lock.map(|name| std::fs::File::create(path.join(name)).unwrap())
    };
    let killed = unfinished(".report-killed", Some("lock"));
    drop(killed);
    let at_work = unfinished(".report-at-work", Some("lock")).unwrap();
    at_work.try_lock().unwrap();
    // The report that stood where the new one was to go, and a folder of others.
    for (name, more) in [(".report-moved", "old"), (".report-theirs", "notes")] {
        drop(unfinished(name, Some("lock")));
        std::fs::create_dir(out.with_file_name(name).join(more)).unwrap();
    }
    unfinished(".report-begun", Some("lock.new"));
    unfinished(".report-other", None);
    made(&[&run], &out, &[]);
    let there = std::fs::read_dir(folder.path().join("reports")).unwrap();
    let mut there: Vec<_> = there.map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    let kept = [
        ".report-at-work",
        ".report-begun",
        ".report-moved",
        ".report-other",
        ".report-theirs",
        "one",
    ];
    assert_eq!(there, kept);
}

#[test]
fn other_peoples_folders_are_left_alone_and_wrong_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = first(folder.path());
    let out = folder.path().join("mine");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("thesis.txt"), "years of work").unwrap();
    let (code, shown) = report(&[&first], &out, &[]);
    assert_eq!(code, Some(2));
    assert!(shown.contains("--force") && out.join("thesis.txt").exists(), "{shown}");
    assert_eq!(report(&[&first], &out, &["--force"]).0, Some(0));
    assert!(out.join("index.html").exists());
    assert!(folder.path().join("mine.before/thesis.txt").exists());

    // A report about the same runs is replaced, one about others is not.
    let second = second(folder.path());
    assert_eq!(report(&[&first], &out, &["--protocol", "reference"]).0, Some(0));
    let before = files(&out);
    let (code, shown) = report(&[&second], &out, &[]);
    assert_eq!(code, Some(2));
    assert!(shown.contains("a report about other runs (") && shown.contains("--force"), "{shown}");
    assert_eq!(report(&[&first, &second], &out, &[]).0, Some(2));
    assert!(files(&out) == before);
    assert_eq!(report(&[&first, &second], &out, &["--force"]).0, Some(0));
    assert_eq!(report(&[&second, &first], &out, &[]).0, Some(0));
    // A run of the same name that another model made is another run; a report of earlier versions has names alone.
    let marker = std::fs::read_to_string(out.join("report.json")).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&marker).unwrap();
    old["made_with"][0] = "0".into();
    std::fs::write(out.join("report.json"), old.to_string()).unwrap();
    assert_eq!(report(&[&second, &first], &out, &[]).0, Some(2));
    old.as_object_mut().unwrap().remove("made_with");
    std::fs::write(out.join("report.json"), old.to_string()).unwrap();
    assert_eq!(report(&[&second, &first], &out, &[]).0, Some(0));

    let out = folder.path().join("another");
    let other = folder.path().join("elsewhere");
    std::fs::create_dir(&other).unwrap();
    let other = make_run(&other, "run", "k", |_, _, _| said("yes"));
    let (code, shown) = report(&[&first, &other], &out, &[]);
    assert_eq!(code, Some(0), "the same questions elsewhere are the same benchmark: {shown}");
    assert!(shown.contains("different judges"), "{shown}");
    let manifest = std::fs::read_to_string(other.join("manifest.json")).unwrap();
    let digest = between(&manifest, "\"digest\": \"", "\"").to_owned();
    let changed = manifest.replace(&digest, &"0".repeat(64));
    std::fs::write(other.join("manifest.json"), changed).unwrap();
    let (code, shown) = report(&[&first, &other], &out, &[]);
    assert_eq!(code, Some(2));
    assert!(shown.contains("different benchmarks"), "{shown}");
    let (code, shown) = report(&[&first], &out, &["--judge", "nobody"]);
    assert_eq!(code, Some(2));
    assert!(shown.contains("nobody"), "{shown}");
}

/// A label of an SVG: its box and words.
fn labels(svg: &str) -> Vec<([f64; 4], String)> {
    let elements = svg.split("<text ").skip(1);
    let label = |element: &str| {
        let attribute = |name: &str| {
            let start = element.find(&format!("{name}=\""))? + name.len() + 2;
            Some(element[start..].split('"').next()?.to_owned())
        };
        let number = |name: &str| attribute(name).unwrap().parse::<f64>().unwrap();
        let (x, y, size) = (number("x"), number("y"), number("font-size"));
        let words = element.split_once('>').unwrap().1.split("</text>").next().unwrap();
        let mut plain = words.to_owned();
        for (escaped, c) in
            [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
        {
            plain = plain.replace(escaped, c);
        }
        let width = text_width(&plain, size, attribute("font-weight").is_some());
        let left = match attribute("text-anchor").unwrap().as_str() {
            "start" => x,
            "middle" => x - width / 2.0,
            _ => x - width,
        };
        ([left, y - 0.8 * size, left + width, y + 0.2 * size], plain)
    };
    elements.map(label).collect()
}

/// The first label that leaves a picture of this size or stands on another.
fn misplaced(labels: &[([f64; 4], String)], width: f64, height: f64) -> Option<String> {
    for (place, (a, words)) in labels.iter().enumerate() {
        if a[0] < 0.0 || a[1] < 0.0 || a[2] > width || a[3] > height {
            return Some(format!("`{words}` leaves the picture"));
        }
        for (b, other) in &labels[place + 1..] {
            if a[2] > b[0] && b[2] > a[0] && a[3] > b[1] && b[3] > a[1] {
                return Some(format!("`{words}` and `{other}`"));
            }
        }
    }
    None
}

#[test]
fn labels_of_the_charts_never_overlap_and_the_pngs_show_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = vec![first(folder.path())];
    for number in 0..6_u32 {
        let name = format!("a run with a very long name that goes on and on, number {number}");
        runs.push(make_run(folder.path(), &name, "j", |item, image, question| {
            let no = (item as u32 * 7 + image * 3 + question * number) % 5 < 2;
            said(if no { "no" } else { "yes" })
        }));
    }
    let out = folder.path().join("report");
    for count in [1, 2, 7] {
        let runs: Vec<&Path> = runs[..count].iter().map(PathBuf::as_path).collect();
        made(&runs, &out, &["--force"]);
        let charts: Vec<PathBuf> = files(&out)
            .into_keys()
            .filter(|name| name.extension().is_some_and(|extension| extension == "svg"))
            .collect();
        // Bars, radar (of up to three runs), words, seeds, and a forest for every run but the first; all items have as many
        // questions, so that there is no chart against their number.
        assert_eq!(charts.len(), 3 + usize::from(count <= 3) + count - 1, "{charts:?}");
        // The page has each once more for a narrow screen, with letters as large.
        let page = std::fs::read_to_string(out.join("index.html")).unwrap();
        let narrow: Vec<&str> = page.split("<div class=\"picture narrow\"").skip(1).collect();
        assert_eq!(narrow.len(), charts.len());
        for svg in narrow {
            let svg = svg.split("</svg>").next().unwrap();
            let (width, height) = between(svg, "viewBox=\"0 0 ", "\"").split_once(' ').unwrap();
            let (width, height): (f64, f64) = (width.parse().unwrap(), height.parse().unwrap());
            let labels = labels(svg);
            assert!(width <= 360.0 && labels.len() > 5, "{svg}");
            assert!(labels.iter().all(|(place, _)| place[3] - place[1] >= 12.0), "{labels:?}");
            assert_eq!(misplaced(&labels, width, height), None, "{count} runs: {svg}");
        }
        for name in charts {
            let svg = std::fs::read_to_string(out.join(&name)).unwrap();
            let size = between(svg.split_once('>').unwrap().0, "viewBox=\"0 0 ", "\"");
            let (width, height) = size.split_once(' ').unwrap();
            let (width, height): (f64, f64) = (width.parse().unwrap(), height.parse().unwrap());
            let mut labels = labels(&svg);
            assert!(labels.len() > 5, "{}", name.display());
            assert_eq!(misplaced(&labels, width, height), None, "{}", name.display());
            // The check sees a label that is moved onto another.
            labels[1].0 = labels[0].0;
            assert!(misplaced(&labels, width, height).is_some());

            let picture = image::open(out.join(&name).with_extension("png")).unwrap().to_rgb8();
            assert_eq!(f64::from(picture.width()), (2.0 * width).ceil());
            // Something is drawn, in the first run's blue or the other's colour, and most stays white.
            let white = picture.pixels().filter(|pixel| pixel.0 == [255; 3]).count();
            let share = white as f64 / picture.pixels().len() as f64;
            assert!((0.4..0.99).contains(&share), "{}: {share}", name.display());
        }
    }
    let eight: Vec<&Path> = std::iter::repeat_n(runs[0].as_path(), 8).collect();
    assert_eq!(report(&eight, &out, &[]).0, Some(2));
}
