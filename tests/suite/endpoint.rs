//! The endpoint judge against a real HTTP server on loopback that behaves well, badly or not at all.

use std::path::Path;
use std::time::{Duration, Instant};

use dpg_bench::http::ApiKey;
use dpg_bench::judge::Judge;
use dpg_bench::judge::endpoint::{Address, EndpointJudge, EndpointOptions};
use dpg_bench::judge::judge_counts::JudgeCounts;
use dpg_bench::results::{AnswerOutcome, RunDirectory};
use serde_json::json;

use super::loopback::{Loopback, Received, Reply, say, well_behaved};
use super::small_run::{items, journal, judge_all, run_with_pictures};

const KEY: &str = "sk-test-0123456789";

/// Options for a server on loopback that waits little.
pub fn options(server: &Loopback) -> EndpointOptions {
    let mut options = EndpointOptions::new(Address::parse(&server.url()).unwrap(), "tiny/vlm");
    options.key = ApiKey::new(KEY).unwrap();
    options.first_wait = Duration::from_millis(2);
    options.timeout = Duration::from_secs(20);
    options
}

/// What came of judging.
pub struct Judged {
    pub run: RunDirectory,
    pub counts: anyhow::Result<JudgeCounts>,
    pub remarks: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Judged {
    /// The reasons of all failed questions.
    pub fn failures(&self) -> Vec<String> {
        let records = self.run.read_answers("j").unwrap();
        records
            .into_iter()
            .flat_map(|record| record.answers)
            .filter_map(|answer| match answer.outcome {
                AnswerOutcome::Failed { reason } => Some(reason),
                AnswerOutcome::Answered { .. } => None,
            })
            .collect()
    }

    pub fn error(&self) -> String {
        format!("{:#}", self.counts.as_ref().unwrap_err())
    }
}

/// Judges `count` items (4 images of 3 questions each) with the given options.
pub fn judge(count: usize, options: EndpointOptions) -> Judged {
    let folder = tempfile::tempdir().unwrap();
    let items = items(count);
    let run = run_with_pictures(folder.path(), &items);
    let judge = EndpointJudge::new(options).unwrap();
    let counts = judge_all(&run, &items, &judge);
    assert_no_key(run.path());
    assert!(!format!("{judge:?} {:?} {counts:?}", judge_settings(&judge)).contains(KEY));
    let remarks = judge.remarks();
    Judged { run, counts, remarks, _folder: folder }
}

fn judge_settings(judge: &EndpointJudge) -> String {
    serde_json::to_string(&judge.settings()).unwrap()
}

/// The key stands in no file under `folder`.
fn assert_no_key(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_key(&path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
            assert!(!found, "the key stands in {}", path.display());
        }
    }
}

/// The first `count` requests go wrong, the others are answered well.
fn at_first(count: usize, wrong: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Loopback {
    Loopback::start(
        move |request| {
            if request.index < count { wrong(request) } else { well_behaved(request) }
        },
    )
}

#[test]
fn questions_and_pictures_arrive_and_answers_are_kept() {
    let server = Loopback::start(well_behaved);
    let mut options = options(&server);
    options.system_prompt = Some("Be brief.".to_owned());
    options.prompt = "Q: {question} (yes/no)".to_owned();
    options.body = serde_json::from_str(r#"{"seed": null, "top_p": 0.5}"#).unwrap();
    let judged = judge(2, options);
    let counts = judged.counts.as_ref().unwrap();
    assert!(counts.is_complete());
    assert_eq!((counts.answers, counts.unparsable), (24, 0));

    let received = server.received();
    assert_eq!(received.len(), 24);
    for request in &received {
        assert_eq!(request.request_line, "POST /v1/chat/completions HTTP/1.1");
        assert_eq!(request.authorization.as_deref(), Some("Bearer sk-test-0123456789"));
        let mut body = request.body.clone();
        assert_eq!(body["messages"][0], json!({"role": "system", "content": "Be brief."}));
        assert_eq!(body["messages"].as_array().unwrap().len(), 2);
        body.as_object_mut().unwrap().remove("messages");
        assert_eq!(
            body,
            json!({
                "model": "tiny/vlm", "temperature": 0.0, "max_tokens": 32, "logprobs": true,
                "top_logprobs": 20, "top_p": 0.5
            })
        );
    }
    // Every answer in the journal is the one that the server gives to this question and picture.
    let mut said_yes = 0;
    for record in judged.run.read_answers("j").unwrap() {
        let png = std::fs::read(judged.run.image_path(&record.item, record.image)).unwrap();
        for answer in &record.answers {
            let prompt = format!(
                "Q: Is there a thing {} in item {}? (yes/no)",
                answer.question,
                record.item.trim_start_matches("item")
            );
            let request = received
                .iter()
                .find(|request| request.prompt() == prompt && request.picture() == png)
                .expect("each question about each picture is asked");
            let draw = request.draw();
            let AnswerOutcome::Answered { text, raw, yes_probability } = &answer.outcome else {
                panic!("{answer:?}")
            };
            assert_eq!(text, if draw < 0.75 { "yes" } else { "no" });
            assert_eq!(raw.as_deref(), Some(if draw < 0.75 { "Yes." } else { "No." }));
            let expected = if draw < 0.75 { 1.0 - draw / 2.0 } else { (1.0 - draw) / 2.0 };
            assert!((yes_probability.unwrap() - expected).abs() < 1e-12);
            said_yes += u32::from(text == "yes");
        }
    }
    assert!((1..24).contains(&said_yes));
}

#[test]
fn the_journal_is_the_same_at_any_concurrency_and_the_concurrency_is_bounded() {
    let late = |request: &Received| {
        let wait = Duration::from_millis(8 + (request.draw() * 16.0) as u64);
        Reply::Late(wait, Box::new(well_behaved(request)))
    };
    let mut journals = Vec::new();
    for concurrency in [1, 3, 8] {
        let server = Loopback::start(late);
        let mut options = options(&server);
        options.concurrency = concurrency;
        let judged = judge(4, options);
        assert!(judged.counts.as_ref().unwrap().is_complete());
        assert_eq!(server.most_at_one_time(), concurrency);
        journals.push(journal(&judged.run));
    }
    assert!(journals.iter().all(|bytes| *bytes == journals[0]));
}

#[test]
fn what_may_pass_is_tried_again() {
    type Wrong = fn(&Received) -> Reply;
    let wrongs: &[(&str, Wrong)] = &[
        ("500", |_| Reply::Status(500, vec![], "oops".to_owned())),
        ("429 with Retry-After", |_| {
            Reply::Status(429, vec!["Retry-After: 0".to_owned()], "{}".to_owned())
        }),
        ("429 with a date", |_| {
            let date = "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
            Reply::Status(429, vec![date], String::new())
        }),
        ("503", |_| Reply::Status(503, vec![], String::new())),
        ("408", |_| Reply::Status(408, vec![], String::new())),
        ("garbage", |_| Reply::Status(200, vec![], "\u{1}<html>not JSON".to_owned())),
        ("no choices", |_| Reply::Json(json!({"object": "chat.completion"}))),
        ("an error with 200", |_| Reply::Json(json!({"error": {"message": "overloaded"}}))),
        ("a cut body", |_| Reply::CutBody(4000)),
        ("a cut connection", |_| Reply::Cut),
        ("no HTTP", |_| Reply::Bytes(b"SSH-2.0-server\r\n\r\n".to_vec())),
        ("closed after a reply", |request| Reply::ThenClose(Box::new(well_behaved(request)))),
    ];
    let expected = {
        let server = Loopback::start(well_behaved);
        journal(&judge(1, options(&server)).run)
    };
    for (name, wrong) in wrongs {
        let server = at_first(9, *wrong);
        // One unlucky question may meet all nine.
        let mut patient = options(&server);
        patient.retries = 9;
        let judged = judge(1, patient);
        assert!(judged.counts.as_ref().unwrap().is_complete(), "{name}: {:?}", judged.failures());
        assert_eq!(journal(&judged.run), expected, "{name}");
        let asked = server.received().len();
        // `closed after a reply` answers well, if rudely: nothing needs to be asked again but what was
        // sent into a connection that was just being closed.
        let least = if *name == "closed after a reply" { 12 } else { 12 + 9 };
        assert!((least..=12 + 9).contains(&asked), "{name}: {asked} requests");
    }
}

#[test]
fn tries_end_and_the_failure_is_recorded() {
    let server = Loopback::start(|request| {
        if request.prompt().contains("thing 2") {
            Reply::Status(500, vec![], json!({"error": {"message": "bad\n weather"}}).to_string())
        } else {
            well_behaved(request)
        }
    });
    let mut options = options(&server);
    options.retries = 2;
    let judged = judge(1, options);
    let counts = judged.counts.as_ref().unwrap();
    assert_eq!((counts.images_failed, counts.failed_questions, counts.answers), (4, 4, 8));
    assert_eq!(
        judged.failures(),
        vec!["500 Internal Server Error: bad weather (3 tries)".to_owned(); 4]
    );
    assert_eq!(server.received().len(), 8 + 4 * 3);
}

#[test]
fn a_server_that_asks_for_patience_gets_it_within_reason() {
    let server =
        at_first(1, |_| Reply::Status(429, vec!["Retry-After: 1".to_owned()], "{}".into()));
    let started = Instant::now();
    assert!(judge(1, options(&server)).counts.unwrap().is_complete());
    assert!(started.elapsed() >= Duration::from_secs(1));

    let server =
        at_first(1, |_| Reply::Status(429, vec!["Retry-After: 86400".to_owned()], "{}".to_owned()));
    let judged = judge(1, options(&server));
    assert_eq!(judged.failures().len(), 1);
    assert!(judged.failures()[0].contains("asks to wait 86400 s"), "{:?}", judged.failures());
    assert_eq!(server.received().len(), 12);
}

#[test]
fn late_and_silent_servers_run_into_the_time_out() {
    for silent in [true, false] {
        let server = Loopback::start(move |request| match request.index {
            0 if silent => Reply::Never,
            0 => Reply::Late(Duration::from_millis(2500), Box::new(well_behaved(request))),
            _ => well_behaved(request),
        });
        let mut options = options(&server);
        options.timeout = Duration::from_millis(700);
        options.concurrency = 2;
        options.retries = 0;
        let started = Instant::now();
        let judged = judge(1, options.clone());
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(judged.failures(), ["no whole reply within 0.7 s"]);

        let server = at_first(1, |_| Reply::Never);
        options.address = Address::parse(&server.url()).unwrap();
        options.retries = 1;
        assert!(judge(1, options).counts.unwrap().is_complete());
    }
}

#[test]
fn a_body_without_end_is_cut_off() {
    let server = at_first(1, |_| Reply::Endless);
    let judged = judge(1, options(&server));
    assert_eq!(judged.failures(), ["the reply is larger than 4194304 bytes"]);
    assert_eq!(server.received().len(), 12);
}

#[test]
fn a_refused_question_is_not_asked_again_and_the_run_goes_on() {
    for status in [400, 403, 404, 413, 422] {
        let server = Loopback::start(move |request| {
            let second = request.prompt().contains("thing 2");
            if second && request.index > 8 {
                Reply::Status(status, vec![], format!("{{\"detail\": \"no {KEY} here\"}}"))
            } else {
                well_behaved(request)
            }
        });
        let mut options = options(&server);
        options.concurrency = 1;
        let judged = judge(1, options);
        let failures = judged.failures();
        assert_eq!(failures.len(), 1, "{status}");
        assert!(failures[0].starts_with(&status.to_string()), "{}", failures[0]);
        assert!(failures[0].ends_with(": no *** here"), "{}", failures[0]);
        assert_eq!(server.received().len(), 12);
    }
}

#[test]
fn a_wrong_key_address_or_model_stops_the_run_at_once() {
    for (status, expected) in [
        (401, "refuses the key (401 Unauthorized: Incorrect key ***)"),
        (403, "check --judge-url, --judge-model"),
        (404, "does not answer for the model `tiny/vlm` (404"),
        (302, "give the final URL"),
        (307, "give the final URL"),
    ] {
        let elsewhere = Loopback::start(well_behaved);
        let location = format!("Location: {}/chat/completions", elsewhere.url());
        let server = Loopback::start(move |_| {
            let words = json!({"error": {"message": format!("Incorrect key {KEY}")}});
            Reply::Status(status, vec![location.clone()], words.to_string())
        });
        let judged = judge(50, options(&server));
        let error = judged.error();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("/v1/chat/completions") && !error.contains(KEY), "{error}");
        assert!(server.received().len() <= 8, "{status}: {}", server.received().len());
        assert!(elsewhere.received().is_empty(), "the key was carried to another server");
        assert!(judged.run.read_answers("j").unwrap().is_empty());
    }
}

#[test]
fn a_server_that_is_not_there_or_refuses_logprobs_is_named_at_once() {
    // Nobody listens on port 1.
    let address = Address::parse("http://127.0.0.1:1/v1").unwrap();
    let mut to_nowhere = EndpointOptions::new(address, "tiny/vlm");
    to_nowhere.first_wait = Duration::from_millis(2);
    to_nowhere.retries = 1;
    let error = judge(50, to_nowhere).error();
    assert!(error.contains("no connection to the server"), "{error}");

    let picky = |request: &Received| {
        if request.body.get("logprobs").is_some() {
            let words = json!({"error": {"message": "logprobs are not supported"}});
            Reply::Status(400, vec![], words.to_string())
        } else {
            say("yes")
        }
    };
    let server = Loopback::start(picky);
    let error = judge(50, options(&server)).error();
    assert!(error.contains("use --judge-no-logprobs"), "{error}");
    assert!(server.received().len() <= 8);
    let mut plain = options(&server);
    plain.logprobs = false;
    let judged = judge(1, plain);
    assert!(judged.counts.as_ref().unwrap().is_complete());
    // A bare `yes` without logprobs leaves nothing to keep beside it.
    let line = "{\"question\":1,\"outcome\":{\"state\":\"answered\",\"text\":\"yes\"}}";
    assert!(String::from_utf8(journal(&judged.run)).unwrap().contains(line));
}

#[test]
fn a_server_that_only_fails_stops_the_run_after_so_many_failures() {
    let server = Loopback::start(|_| Reply::Status(400, vec![], "no pictures, please".to_owned()));
    let mut few = options(&server);
    few.max_failures = 10;
    let error = judge(50, few.clone()).error();
    assert!(
        error.contains("questions in a row failed") && error.contains("no pictures"),
        "{error}"
    );
    // Images in flight may end their questions; none is begun after the limit.
    assert!(server.received().len() < 10 + 8 * 3, "{}", server.received().len());
    few.max_failures = 0;
    let judged = judge(4, few);
    assert_eq!(judged.counts.as_ref().unwrap().failed_questions, 48);
}

#[test]
fn unreadable_and_empty_replies_are_answers_that_say_neither() {
    let server = Loopback::start(|request| {
        if request.prompt().contains("thing 1") {
            say("I see **nothing** of the kind")
        } else if request.prompt().contains("thing 2") {
            say("")
        } else {
            say("<think>Well, no?</think>\n**Yes**, there is.")
        }
    });
    let judged = judge(1, options(&server));
    let counts = judged.counts.as_ref().unwrap();
    assert_eq!((counts.answers, counts.unparsable, counts.failed_questions), (12, 8, 0));
    let record = &judged.run.read_answers("j").unwrap()[0];
    let outcome = |text: &str, raw: Option<&str>| AnswerOutcome::Answered {
        text: text.to_owned(),
        raw: raw.map(str::to_owned),
        yes_probability: None,
    };
    assert_eq!(record.answers[0].outcome, outcome("I see **nothing** of the kind", None));
    assert_eq!(record.answers[1].outcome, outcome("", None));
    let whole = "<think>Well, no?</think>\n**Yes**, there is.";
    assert_eq!(record.answers[2].outcome, outcome("yes", Some(whole)));
}

#[test]
fn a_run_whose_server_dies_is_resumed_to_the_bytes_of_an_undisturbed_one() {
    let items = items(4);
    let undisturbed = {
        let server = Loopback::start(well_behaved);
        journal(&judge(4, options(&server)).run)
    };
    let folder = tempfile::tempdir().unwrap();
    let run = run_with_pictures(folder.path(), &items);
    // The key is withdrawn when the third item comes up.
    let server = Loopback::start(|request| {
        if request.prompt().contains("item 2") {
            Reply::Status(401, vec![], "expired".to_owned())
        } else {
            well_behaved(request)
        }
    });
    let mut limited = options(&server);
    limited.concurrency = 3;
    let stopped = EndpointJudge::new(limited).unwrap();
    assert!(judge_all(&run, &items, &stopped).is_err());
    let part = journal(&run);
    assert!(undisturbed.starts_with(&part) && part.len() < undisturbed.len());
    assert_eq!(part.iter().filter(|&&byte| byte == b'\n').count(), 1 + 8);

    let server = Loopback::start(well_behaved);
    let resumed = EndpointJudge::new(options(&server)).unwrap();
    assert!(judge_all(&run, &items, &resumed).unwrap().is_complete());
    assert_eq!(journal(&run), undisturbed);
    assert_eq!(server.received().len(), 3 * (16 - 8), "answered images are asked again");
}
