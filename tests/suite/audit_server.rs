//! The server of an audit: who is let in, what is kept, what broken and endless requests get, and what a kill leaves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpg_bench::audit::{
    AuditFolder, AuditSample, AuditServer, LabelRecord, Labels, ServerObserver, UnitKind,
};
use dpg_bench::results::{RunDirectory, Settings};

use super::audit_fixture::{Judged, identity, label};

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl ServerObserver for Heard {
    fn labelled(&self, annotator: &str) {
        self.0.lock().unwrap().push(annotator.to_owned());
    }

    fn failed(&self, why: &str) {
        self.0.lock().unwrap().push(format!("failed: {why}"));
    }
}

fn sample() -> AuditSample {
    let answer = |_, _, question| Some((if question == 0 { "no" } else { "yes" }, None));
    Judged::new(6, answer).population(UnitKind::Questions, |population| {
        AuditSample::draw(population, identity(), 40, 1).unwrap()
    })
}

/// A server at work, as a client sees it.
struct Client {
    port: u16,
    token: String,
}

impl Client {
    /// Status and body of the reply to these bytes; `None` where the connection ends without one.
    fn talk(&self, bytes: &[u8]) -> Option<(u16, String)> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        connection.write_all(bytes).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        connection.read_to_string(&mut reply).ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        assert!(head.contains("\r\nCache-Control: no-store\r\n"), "{head}");
        Some((status, body.to_owned()))
    }

    fn status(&self, bytes: &str) -> Option<u16> {
        self.talk(bytes.as_bytes()).map(|(status, _)| status)
    }

    fn get(&self, target: &str, headers: &str) -> (u16, String) {
        self.talk(format!("GET {target} HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap()
    }

    fn post(&self, to: &str, headers: &str, body: &str) -> (u16, String) {
        let (token, length) = (&self.token, body.len());
        let head = format!("POST /{token}/{to} HTTP/1.1\r\nHost: localhost:{}\r\n", self.port);
        self.talk(format!("{head}{headers}Content-Length: {length}\r\n\r\n{body}").as_bytes())
            .unwrap()
    }

    fn send(&self, record: &LabelRecord) -> (u16, String) {
        let body = serde_json::to_string(record).unwrap();
        self.post("labels", "Content-Type: application/json\r\n", &body)
    }
}

/// What `look` finds at a server of `sample` in the run at `path`, and what the server told.
fn with_server(
    path: &Path,
    sample: &AuditSample,
    look: impl FnOnce(&Client, &AuditFolder),
) -> Vec<String> {
    let run = RunDirectory::open_or_create(path, identity(), Settings::new(), 2).unwrap();
    let folder = AuditFolder::of(&run, "audit").unwrap();
    let server = AuditServer::listen(0, "<p>PAGE".to_owned(), &folder, sample).unwrap();
    let address = server.address().unwrap();
    let token = address.trim_end_matches('/').rsplit('/').next().unwrap().to_owned();
    let client = Client { port: server.port().unwrap(), token };
    let (heard, stop) = (Heard::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let served = scope.spawn(|| server.serve(&heard, &stop));
        let found =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&client, &folder)));
        stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", client.port)));
        served.join().unwrap().unwrap();
        found.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    heard.0.into_inner().unwrap()
}

#[test]
fn only_who_knows_the_token_and_comes_from_this_machine_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample();
    let heard = with_server(folder.path(), &sample, |client, _| {
        let own = format!("/{}/", client.token);
        let port = client.port;
        assert_eq!(client.token.len(), 32);
        for host in
            ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:8137", &format!("127.0.0.1:{port}")]
        {
            let (status, body) = client.get(&own, &format!("Host: {host}\r\n"));
            assert_eq!((status, body.as_str()), (200, "<p>PAGE"), "{host}");
        }
        for host in [
            "Host: evil.example\r\n",
            "Host: 127.0.0.1.evil.example\r\n",
            "Host: localhost.evil.example:80\r\n",
            "Host: evil.example:127.0.0.1\r\n",
            "Host: 127.0.0.1@evil.example\r\n",
            "Host: \r\n",
            "",
        ] {
            assert_eq!(client.get(&own, host).0, 403, "{host}");
        }
        assert_eq!(client.get(&own, "Host: localhost\r\nHost: localhost\r\n").0, 400);
        let host = "Host: localhost\r\n";
        let wrong = client.token.replace(|c: char| c.is_ascii_digit(), "x");
        for target in [
            "/".to_owned(),
            "/favicon.ico".to_owned(),
            format!("/{wrong}/"),
            format!("/{}", client.token),
            format!("/{}x/", client.token),
            format!("//{}/", client.token),
            format!("/?{own}"),
            format!("http://localhost{own}"),
        ] {
            let (status, body) = client.get(&target, host);
            assert_eq!(status, 403, "{target}");
            assert!(!body.contains("PAGE") && !body.contains(&client.token), "{body}");
        }
        assert_eq!(client.get(&format!("{own}sample.json"), host).0, 404);
        assert_eq!(client.get(&format!("{own}labels"), host).0, 405);
        assert_eq!(client.status(&format!("DELETE {own} HTTP/1.1\r\n{host}\r\n")), Some(405));
        // A page of another origin, even one that guessed the token.
        let body = serde_json::to_string(&label(&sample, 0, "ann", "yes")).unwrap();
        let json = "Content-Type: application/json\r\n";
        for origin in ["http://evil.example", "null", "https://localhost", "http://localhost"] {
            let (status, _) = client.post("labels", &format!("{json}Origin: {origin}\r\n"), &body);
            assert_eq!(status, 403, "{origin}");
        }
        let origin = format!("Origin: http://localhost:{port}\r\n");
        assert_eq!(client.post("labels", &format!("{json}{origin}"), &body).0, 200);
    });
    assert_eq!(heard, ["ann"]);
}

#[test]
fn broken_requests_get_a_reply_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample();
    let heard = with_server(folder.path(), &sample, |client, audit| {
        let start = format!("POST /{}/labels HTTP/1.1\r\nHost: localhost\r\n", client.token);
        let json = "Content-Type: application/json\r\n";
        let good = serde_json::to_string(&label(&sample, 0, "ann", "yes")).unwrap();
        let of = |headers: &str, body: &str| client.status(&format!("{start}{headers}\r\n{body}"));
        assert_eq!(of(json, &good), Some(411));
        assert_eq!(of(&format!("{json}Transfer-Encoding: chunked\r\n"), &good), Some(411));
        for length in ["x", "-1", "+5", "", "5, 5"] {
            let headers = format!("{json}Content-Length: {length}\r\n");
            assert_eq!(of(&headers, &good), Some(400), "{length}");
        }
        for length in ["300000", "99999999999999999999999"] {
            let headers = format!("{json}Content-Length: {length}\r\n");
            assert_eq!(of(&headers, &good), Some(413), "{length}");
        }
        // A body that breaks off, and a head that does.
        assert_eq!(of(&format!("{json}Content-Length: {}\r\n", good.len() + 1), &good), None);
        assert_eq!(client.status(&start), None);
        assert_eq!(client.status(""), None);
        assert_eq!(client.status("\u{16}\u{3}\u{1} TLS, not HTTP"), Some(400));
        assert_eq!(client.status(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(60_000))), Some(431));
        let many: String = (0..90).map(|number| format!("X-{number}: 1\r\n")).collect();
        assert_eq!(client.status(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Some(400));
        for media in [
            "",
            "Content-Type: text/plain\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\n",
        ] {
            assert_eq!(client.post("labels", media, &good).0, 415, "{media}");
        }
        let post = |body: &str| {
            client.post("labels", "Content-Type: application/json; charset=utf-8\r\n", body)
        };
        for body in [
            "",
            "{",
            "[]",
            "{\"item\": 1}",
            "null",
            &good[..good.len() - 1],
            &format!("{good}{good}"),
        ] {
            let (status, said) = post(body);
            assert_eq!(
                (status, said.starts_with("This is no label (")),
                (400, true),
                "{body}: {said}"
            );
        }
        let wrong = |record: LabelRecord| {
            let (status, said) = client.send(&record);
            assert_eq!(status, 422, "{said}");
            said
        };
        let record = || label(&sample, 0, "ann", "yes");
        assert!(
            wrong(LabelRecord { question: 99, ..record() }).contains("does not ask question 99")
        );
        assert!(
            wrong(LabelRecord { annotator: "../../x".into(), ..record() })
                .contains("names no annotator")
        );
        assert!(wrong(LabelRecord { label: "maybe".into(), ..record() }).contains("is no label"));
        assert!(wrong(LabelRecord { time: "now".into(), ..record() }).contains("is no time"));
        assert!(
            wrong(LabelRecord { text: "Other?".into(), ..record() }).contains("reads otherwise")
        );
        let given = |body: &str| client.post("given", json, body).0;
        assert_eq!(given("{\"annotator\": \"../ann\"}"), 422);
        assert_eq!(given("{}"), 400);
        assert!(audit.label_files().unwrap().is_empty());
        // After all that it still answers.
        assert_eq!(post(&good).0, 200);
    });
    assert_eq!(heard, ["ann"]);
    assert!(!folder.path().join("x.jsonl").exists());
}

#[test]
fn labels_of_a_team_are_kept_each_in_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample();
    let check = |client: &Client, audit: &AuditFolder| {
        let json = "Content-Type: application/json\r\n";
        let (status, first) = client.post("given", json, "{\"annotator\": \"ann\"}");
        assert_eq!((status, first.lines().count()), (200, 1), "{first}");
        std::thread::scope(|scope| {
            for who in ["ann", "李-2", "Bea"] {
                let sample = &sample;
                scope.spawn(move || {
                    for place in 0..sample.questions.len() {
                        let said = if place % 3 == 0 { "no" } else { "yes" };
                        assert_eq!(client.send(&label(sample, place, who, said)).0, 200);
                    }
                });
            }
        });
        assert_eq!(client.send(&label(&sample, 0, "ann", "withdrawn")).0, 200);
        let (status, given) = client.post("given", json, "{\"annotator\": \"ann\"}");
        let path = audit.labels("ann").unwrap();
        assert_eq!((status, given), (200, std::fs::read_to_string(path).unwrap()));
    };
    let heard = with_server(folder.path(), &sample, check);
    assert_eq!(heard.len(), 3 * sample.questions.len() + 1);
    let run = RunDirectory::open(folder.path()).unwrap();
    let files = AuditFolder::of(&run, "audit").unwrap().label_files().unwrap();
    let labels = Labels::read(&sample, &files).unwrap();
    assert_eq!((labels.annotators(), labels.warnings.len()), (vec!["Bea", "ann", "李-2"], 0));
    assert_eq!(labels.labels.len(), 3 * sample.questions.len() - 1);
    // Another server goes on where it was; a file of something else is not touched, and that is told.
    std::fs::write(files[0].with_file_name("cy.jsonl"), "notes\n").unwrap();
    let heard = with_server(folder.path(), &sample, |client, _| {
        assert_eq!(client.send(&label(&sample, 0, "ann", "yes")).0, 200);
        let (status, said) = client.send(&label(&sample, 0, "cy", "yes"));
        assert_eq!((status, said.contains("its own window says why")), (500, true));
    });
    assert!(heard[0] == "ann" && heard[1].contains("cy.jsonl is no file of labels"), "{heard:?}");
    let labels = Labels::read(&sample, &files).unwrap();
    assert_eq!(labels.labels.len(), 3 * sample.questions.len());
}

#[cfg(unix)]
#[test]
fn a_link_in_the_folder_of_labels_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample();
    let outside = folder.path().join("outside.jsonl");
    let labels = folder.path().join("run/audits/audit/labels");
    std::fs::create_dir_all(&labels).unwrap();
    std::os::unix::fs::symlink(&outside, labels.join("ann.jsonl")).unwrap();
    let heard = with_server(&folder.path().join("run"), &sample, |client, _| {
        assert_eq!(client.send(&label(&sample, 0, "ann", "yes")).0, 500);
    });
    assert!(heard[0].contains("is a symbolic link"), "{heard:?}");
    assert!(!outside.exists());
}
