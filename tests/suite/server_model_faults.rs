//! `--model server` where the server or the command line is wrong: what is tried again, what fails one image, what is told
//! before the first prompt, and what stops the run.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::image_server::{Kind, Played, asked, not_found, openai_reply, png};
use super::loopback::{Loopback, Received, Reply};
use super::server_place::{Place, asked_for, ended, good, wrong_about_cats};

#[test]
fn what_may_pass_is_tried_again() {
    let place = Place::new();
    let whole = good(Kind::VllmOmni);
    place.said(&whole.url(), "whole", "--server-api vllm-omni", 0);
    // The first tries after those of the seeds, each in its own way.
    let (played, count) = (Played::new(Kind::VllmOmni), AtomicUsize::new(0));
    let server = Loopback::start(move |request| {
        if asked(request).is_none() {
            return played.answer(request);
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            3 => Reply::Status(429, vec!["Retry-After: 0".to_owned()], "{}".to_owned()),
            4 => Reply::Status(500, vec![], "oops".to_owned()),
            5 => Reply::Status(503, vec![], json!({"detail": "the model is loading"}).to_string()),
            6 => Reply::Cut,
            7 => Reply::CutBody(4000),
            _ => played.answer(request),
        }
    });
    place.said(&server.url(), "run", "--server-api vllm-omni --server-concurrency 4", 0);
    assert!(asked_for(&server).len() >= 12);
    assert!(place.bytes("run") == place.bytes("whole"));
}

#[test]
fn a_reply_of_50_mb_is_taken() {
    let place = Place::new();
    let server = wrong_about_cats(|_, prompt, seed| {
        let image = STANDARD.encode(png(prompt, seed));
        let padding = "x".repeat(50_000_000);
        Reply::Json(json!({"metrics": padding, "data": [{ "b64_json": image }]}))
    });
    place.said(&server.url(), "run", "--server-api vllm-omni", 0);
    let whole = good(Kind::VllmOmni);
    place.said(&whole.url(), "whole", "--server-api vllm-omni", 0);
    assert!(place.bytes("run") == place.bytes("whole"));
}

#[test]
fn a_server_that_is_loading_is_waited_for() {
    let (place, played) = (Place::new(), Played::new(Kind::VllmOmni));
    let server = Loopback::start(move |request| match request.index {
        0 => Reply::Status(503, vec!["Retry-After: 0".to_owned()], String::new()),
        _ => played.answer(request),
    });
    place.said(&server.url(), "run", "--server-api auto --limit 1", 0);
}

#[test]
fn what_goes_wrong_fails_that_image_alone() {
    let place = Place::new();
    type Wrong = fn(&Received, &str, u64) -> Reply;
    let wrongs: &[(&str, Wrong)] = &[
        ("is no PNG, JPEG or WebP", |_, _, _| openai_reply(b"no image")),
        ("cannot be read", |_, prompt, seed| openai_reply(&png(prompt, seed)[..40])),
        ("no valid base64", |_, _, _| Reply::Json(json!({"data": [{"b64_json": "&&&"}]}))),
        ("web page", |_, _, _| Reply::Status(200, vec![], "<html>hello</html>".to_owned())),
        ("has no `data", |_, _, _| Reply::Json(json!({"created": 1}))),
        ("2 images, where one", |_, _, _| Reply::Json(json!({"data": [{}, {}]}))),
        ("422: prompt: too long", |_, _, _| {
            let detail = json!([{"loc": ["body", "prompt"], "msg": "too long"}]);
            Reply::Status(422, vec![], json!({"detail": detail}).to_string())
        }),
        ("waited at most", |_, _, _| {
            Reply::Status(429, vec!["Retry-After: 4000".to_owned()], "{}".to_owned())
        }),
        ("another host (cdn.example.org)", |_, _, _| {
            Reply::Json(json!({"data": [{"url": "https://cdn.example.org/x.png?key=hush"}]}))
        }),
        ("which is not followed", |_, _, _| {
            Reply::Status(302, vec!["Location: http://example.org/".to_owned()], String::new())
        }),
        ("no whole reply within 1 s", |_, _, _| Reply::Never),
        ("larger than the 64 MiB that are taken", |_, _, _| Reply::Endless),
    ];
    for (number, (wanted, wrong)) in wrongs.iter().enumerate() {
        let (server, out) = (wrong_about_cats(*wrong), format!("run{number}"));
        let timeout = if wanted.contains("within") { 1 } else { 60 };
        let flags = format!("--server-api vllm-omni --server-timeout {timeout}");
        place.said(&server.url(), &out, &flags, 3);
        let reasons = place.reasons(&out);
        assert_eq!(reasons.len(), 2, "{wanted}: {reasons:?}");
        assert!(
            reasons.iter().all(|reason| reason.contains(wanted) && !reason.contains("hush")),
            "{wanted}: {reasons:?}"
        );
        assert_eq!(place.outcomes(&out).len(), 6);
    }
    // An error of the workflow, which ComfyUI tells in its history.
    let played = Played::new(Kind::ComfyUi);
    let server = Loopback::start(move |request| match asked(request) {
        Some((prompt, _)) if prompt.contains("cat") => Reply::Json(json!({"prompt_id": "cat"})),
        _ if request.target() == "/history/cat" => {
            let error = json!({"node_id": "3", "node_type": "KSampler", "exception_message": "out of memory"});
            let messages = json!([["execution_error", error]]);
            let status = json!({"status_str": "error", "completed": false, "messages": messages});
            Reply::Json(json!({"cat": {"outputs": {}, "status": status}}))
        }
        _ => played.answer(request),
    });
    place.said(&server.origin(), "comfy", "--server-api comfyui --server-workflow flow.json", 3);
    let wanted = "ComfyUI failed at node 3 (KSampler): out of memory";
    assert_eq!(place.reasons("comfy"), [wanted, wanted]);
}

#[test]
fn what_is_wrong_is_told_before_the_first_prompt() {
    let place = Place::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}/v1", silent.local_addr().unwrap());
    drop(silent);
    let server = good(Kind::VllmOmni);
    let page =
        Loopback::start(|_| Reply::Status(200, vec![], "<!DOCTYPE html><p>hello".to_owned()));
    let empty = Loopback::start(|_| not_found());
    let locked = Loopback::start(|_| {
        Reply::Status(401, vec![], json!({"error": "Unauthorized"}).to_string())
    });
    place.write("half.json", r#"{"1": {"class_type": "SaveImage", "inputs": {"images": 5}}}"#);
    let comfy = "--server-api comfyui --server-workflow";
    for (url, flags, wanted) in [
        (&nowhere, "", "no connection to the server"),
        (&nowhere, "--server-api auto", "no connection to the server"),
        (&page.url(), "", "is a web page"),
        (&page.url(), "--server-api auto", "name its API with --server-api"),
        (&empty.url(), "", "has no /images/generations"),
        (&format!("{}/v2/x", server.origin()), "--server-api xdit", "has no /generate"),
        (&locked.url(), "", "--server-key-env"),
        (&locked.url(), "--server-api auto", "--server-key-env"),
        (
            &server.url(),
            "--server-model other/model",
            "has no model `other/model`; it lists tiny/model",
        ),
        (&server.url(), "--server-api other", "is unknown; there is openai"),
        (&server.url(), "--steps 4", "has no field for --steps"),
        (&server.url(), "--server-api sdcpp --server-model x", "leave out --server-model"),
        (
            &server.url(),
            "--server-key-env NO_SUCH_KEY",
            "NO_SUCH_KEY that --server-key-env names is not set",
        ),
        (&server.url(), "--server-body {\"seed\":1}", "would change the seed"),
        (&server.url(), "--server-timeout 0", "is no number of seconds"),
        (&server.url(), "--comfy-node prompt=6.text", "give --server-workflow"),
        (&server.url(), &format!("{comfy} nowhere.json"), "cannot be read"),
        (&server.url(), &format!("{comfy} items.csv"), "is no JSON"),
        (&server.url(), &format!("{comfy} half.json"), "cannot be used"),
        (&server.url(), &format!("{comfy} flow.json --comfy-node prompt=60.text"), "no node `60`"),
        (&server.url(), "--scheduler euler", "is not told --scheduler"),
        (&"ftp://host".to_owned(), "", "must begin with http://"),
    ] {
        let said = place.said(url, "run", flags, 2);
        assert!(said.contains(wanted), "{url} {flags}: {said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        assert!(!place.path("run").exists(), "{flags}");
    }
    for server in [&server, &page, &empty, &locked] {
        assert!(asked_for(server).is_empty());
    }
    let said =
        ended(&place.command("generate --model sd15 --server-url http://x").output().unwrap(), 2);
    assert!(said.contains("--server-url goes with --model server"), "{said}");
}

#[test]
fn a_server_that_fails_for_good_stops_the_run() {
    let place = Place::new();
    // None at all.
    let broken = |status: u16| {
        let played = Played::new(Kind::VllmOmni);
        Loopback::start(move |request| match asked(request) {
            Some(_) => {
                Reply::Status(status, vec![], json!({"error": {"message": "no GPU"}}).to_string())
            }
            None => played.answer(request),
        })
    };
    for status in [400, 401, 500] {
        let server = broken(status);
        let said =
            place.said(&server.url(), "none", "--server-api vllm-omni --server-retries 0", 2);
        assert!(said.contains("no GPU") && said.contains(&status.to_string()), "{said}");
        assert_eq!(place.outcomes("none").len(), 0);
    }
    // It goes away: what was made stays, and no image is recorded as failed.
    let played = Played::new(Kind::VllmOmni);
    let key = "the key is spent";
    let server = Loopback::start(move |request| match asked(request) {
        Some((prompt, _)) if prompt.contains("lamp") => Reply::Status(401, vec![], key.to_owned()),
        _ => played.answer(request),
    });
    let said = place.said(&server.url(), "part", "--server-api vllm-omni", 2);
    assert!(said.contains(key) && said.contains("the same command goes on"), "{said}");
    assert_eq!((place.outcomes("part").len(), place.reasons("part").len()), (4, 0));
    let server = good(Kind::VllmOmni);
    place.said(&server.url(), "part", "--server-api vllm-omni", 0);
    place.said(&server.url(), "whole", "--server-api vllm-omni", 0);
    assert!(place.bytes("part") == place.bytes("whole"));
}
