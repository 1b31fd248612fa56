//! `dpg-bench audit` from the command line: its page over hostile questions, and its server, ended and killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use dpg_bench::audit::{AuditSample, LabelRecord, Labels};
use dpg_bench::reports::audit_page::{AuditPage, OpenedFrom};
use dpg_bench::results::RunDirectory;
use serde_json::Value;

use super::audit_fixture::label;
use super::words::Place;
use super::words_shown::{ITEMS, with_run};

const HOSTILE: &str = "</script><script>window.hostile=1</script><img src=x onerror=window.hostile=2>{{data}}\u{2028}";

fn hostile_run() -> Place {
    let place = Place::new();
    place.write("items.csv", ITEMS.replace("Is there a kite?", HOSTILE));
    for item in ["kite", "cat"] {
        for image in 0..2 {
            // One is larger than the page shows it.
            let (width, height) = if image == 0 { (8, 6) } else { (1600, 400) };
            place.picture(&format!("pictures/{item}_{image}.png"), width, height, 90);
        }
    }
    place.quietly(
        "import --images pictures --images-per-item 2 --benchmark items.csv --model m --out run",
    );
    place.quietly("judge run --judge scripted --judge-rule hash:0.5");
    place
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end}")).0
}

#[test]
fn the_page_is_one_file_that_holds_hostile_questions_as_text() {
    let place = hostile_run();
    place.quietly("audit run --labels-wanted 16");
    let page = std::fs::read_to_string(place.path("run/audits/audit/page.html")).unwrap();
    let sample = AuditSample::read(&place.path("run/audits/audit/sample.json")).unwrap();
    // Two scripts, the data and the page's own; nothing else begins or ends one.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<img src=x") && !page.contains('\u{2028}'));
    for word in ["http://", "https://", "src=\"", "@import", "url("] {
        assert!(!page.contains(word), "{word}");
    }
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    let parts: Vec<&str> = policy.split("; ").collect();
    for part in [
        "default-src 'none'",
        "connect-src 'none'",
        "img-src data:",
        "form-action 'none'",
        "base-uri 'none'",
    ] {
        assert!(parts.contains(&part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let data: Value =
        serde_json::from_str(between(&page, "type=\"application/json\" id=\"data\">", "</script>"))
            .unwrap();
    assert_eq!(data["sample"], sample.sha256.as_str());
    let texts: Vec<&str> =
        data["questions"].as_array().unwrap().iter().map(|q| q[2].as_str().unwrap()).collect();
    assert_eq!(texts, sample.questions.iter().map(|q| q.text.as_str()).collect::<Vec<_>>());
    assert!(texts.contains(&HOSTILE));
    let images = data["images"].as_array().unwrap();
    assert_eq!(images.len(), 4);
    for shown in images {
        let jpeg = base64::engine::general_purpose::STANDARD
            .decode(shown["jpeg"].as_str().unwrap())
            .unwrap();
        let decoded =
            image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap().to_rgb8();
        let expected = if shown["image"] == 0 { (8, 6) } else { (1024, 256) };
        assert_eq!(decoded.dimensions(), expected);
        assert!(
            decoded.pixels().all(|pixel| pixel
                .0
                .iter()
                .zip([90, 40, 7])
                .all(|(a, b)| a.abs_diff(b) < 4))
        );
    }
    // Nothing of what the judge said: a sample that differs in all that tells of it makes the same page.
    let run = RunDirectory::open(&place.path("run")).unwrap();
    let mut other = sample.clone();
    other.judge = "another".to_owned();
    other.strata.iter_mut().for_each(|stratum| stratum.name = "other".to_owned());
    other.questions.iter_mut().for_each(|asked| asked.stratum = Some(0));
    let made =
        |sample: &AuditSample, opened| AuditPage::of(&run, sample).unwrap().html(opened).unwrap();
    assert_eq!(made(&other, OpenedFrom::File), page);
    // For the server it may ask that, and nothing else is another.
    let served = made(&sample, OpenedFrom::Server);
    let back = served.replacen("connect-src 'self'", "connect-src 'none'", 1);
    assert_eq!(back.replacen("\"served\":true", "\"served\":false", 1), page);
}

#[test]
fn the_same_audit_is_taken_up_again_and_other_images_are_refused() {
    let place = with_run();
    let line = "audit run --judge scripted --labels-wanted 10 --seed 3";
    place.quietly(line);
    let read = |name: &str| std::fs::read(place.path("run/audits/audit").join(name)).unwrap();
    let before = [read("sample.json"), read("page.html")];
    std::fs::remove_file(place.path("run/audits/audit/page.html")).unwrap();
    place.quietly(line);
    assert_eq!([read("sample.json"), read("page.html")], before);
    place.quietly(&format!("{line} --name second --unit images"));
    place.picture("run/images/kite/0.png", 8, 8, 200);
    let told = place.transcript(&[line]);
    assert!(told.contains("kite/0.png is not the image that was drawn"), "{told}");
}

/// A server of the program, with its address.
fn serve(run: &Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .args(["audit".as_ref(), run.as_os_str(), "--serve".as_ref()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("open http://").unwrap_or_else(|| panic!("{line}"));
    (child, address.to_owned())
}

/// Sends a label; whether the server said that it is kept.
fn send(address: &str, record: &LabelRecord) -> bool {
    let (host, path) = address.split_once('/').unwrap();
    let Ok(mut connection) = TcpStream::connect(host) else { return false };
    let body = serde_json::to_string(record).unwrap();
    let head = format!(
        "POST /{path}labels HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut reply = String::new();
    let _ = connection.write_all(format!("{head}{body}").as_bytes());
    let _ = connection.read_to_string(&mut reply);
    reply.starts_with("HTTP/1.1 200 ")
}

#[test]
fn a_server_that_is_killed_in_the_middle_has_what_it_said_it_had() {
    let place = with_run();
    place.quietly("audit run --judge yes --labels-wanted 16");
    let folder = place.path("run/audits/audit");
    let sample = AuditSample::read(&folder.join("sample.json")).unwrap();
    let path = folder.join("labels/ann.jsonl");
    let mut kept = 0;
    for round in 0..4 {
        let (mut child, address) = serve(&place.path("run"));
        let sender = std::thread::spawn({
            let sample = sample.clone();
            move || {
                let records =
                    (0..5000).map(|n| label(&sample, n % sample.questions.len(), "ann", "yes"));
                records.take_while(|record| send(&address, record)).count()
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(150 + 70 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = sender.join().unwrap();
        assert!(acknowledged > 0);
        kept += acknowledged;
        let lines = std::fs::read_to_string(&path).unwrap().matches('\n').count() - 1;
        // At most one was written and not yet acknowledged in each round.
        assert!((kept..=kept + 1).contains(&lines), "{kept} acknowledged, {lines} there");
        kept = lines;
        let labels = Labels::read(&sample, std::slice::from_ref(&path)).unwrap();
        assert_eq!(labels.labels.len(), lines.min(sample.questions.len()));
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_server_and_a_second_server_is_refused() {
    let place = with_run();
    place.quietly("audit run --judge yes --labels-wanted 16");
    let (mut child, address) = serve(&place.path("run"));
    let told = place.transcript(&["audit run --serve"]);
    assert!(
        told.contains("exit code 2") && told.contains("is in use by `dpg-bench audit --serve`"),
        "{told}"
    );
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    // Two names that differ in letter case alone are told as they begin.
    let sample = AuditSample::read(&place.path("run/audits/audit/sample.json")).unwrap();
    for name in ["ann", "ANN", "ann", "bob"] {
        assert!(send(&address, &label(&sample, 0, name, "yes")));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("ended by SIGINT; nothing finished is lost; to go on:"), "{said}");
    let twins = "warning: `ANN` and `ann` count as two annotators; if they are one person, let them go on under one name";
    assert!(said.matches("count as two annotators").count() == 1 && said.contains(twins), "{said}");
    // The benchmark is named by a path from another folder.
    assert!(said.contains("warning: whether the run's answers are still those that the audit was drawn from cannot be seen"));
    // The next server has another address.
    let (mut child, next) = serve(&place.path("run"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(next.split_once('/').unwrap().1, address.split_once('/').unwrap().1);
}
