//! `dpg-bench export --to mlflow` before a server on loopback that keeps MLflow's rules as documented (names, limits, states),
//! and before such that misbehave.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::compare::{Runs, dpg_bench, judge};
use super::loopback::{Loopback, Received, Reply};

/// What a server of MLflow knows.
#[derive(Default)]
struct Store {
    experiments: Vec<(String, &'static str)>,
    runs: Vec<Value>,
}

type Shared = Arc<Mutex<Store>>;

/// A server that does what MLflow's documentation says; `odd` may answer in its place.
fn server(odd: impl Fn(&Received) -> Option<Reply> + Send + Sync + 'static) -> (Loopback, Shared) {
    let store = Shared::default();
    let inner = Arc::clone(&store);
    let answer = move |request: &Received| {
        odd(request).unwrap_or_else(|| answer(&mut inner.lock().unwrap(), request))
    };
    (Loopback::start(answer), store)
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::Status(status, vec![], json!({"error_code": code, "message": message}).to_string())
}

fn invalid(message: &str) -> Reply {
    refusal(400, "INVALID_PARAMETER_VALUE", message)
}

fn call(request: &Received) -> &str {
    let path = request.target().split('?').next().unwrap();
    path.strip_prefix("/api/2.0/mlflow/").unwrap_or(path)
}

fn answer(store: &mut Store, request: &Received) -> Reply {
    let body = &request.body;
    let is_get = request.request_line.starts_with("GET ");
    match call(request) {
        "experiments/get-by-name" if is_get => {
            let (_, name) = request.target().split_once("?experiment_name=").unwrap();
            let name = name.replace("%20", " ").replace("%2F", "/");
            let place = store.experiments.iter().position(|(there, _)| *there == name);
            let Some(place) = place else {
                return refusal(404, "RESOURCE_DOES_NOT_EXIST", "no such experiment");
            };
            let stage = store.experiments[place].1;
            Reply::Json(json!({"experiment": {
                "experiment_id": place.to_string(), "name": name, "lifecycle_stage": stage,
            }}))
        }
        "experiments/create" => {
            store.experiments.push((body["name"].as_str().unwrap().to_owned(), "active"));
            Reply::Json(json!({"experiment_id": (store.experiments.len() - 1).to_string()}))
        }
        "runs/search" => {
            let filter = body["filter"].as_str().unwrap();
            let wanted = filter.split('\'').nth(3).unwrap();
            let start = "attributes.status = 'FINISHED' and tags.`dpg_bench.source` = '";
            assert!(filter.starts_with(start), "{filter}");
            let is_wanted = |run: &&Value| {
                let tags = run["data"]["tags"].as_array().unwrap();
                run["info"]["status"] == "FINISHED"
                    && body["experiment_ids"][0] == run["info"]["experiment_id"]
                    && tags.iter().any(|tag| tag["value"] == wanted)
            };
            let found: Vec<&Value> = store.runs.iter().filter(is_wanted).collect();
            Reply::Json(if found.is_empty() { json!({}) } else { json!({"runs": found}) })
        }
        "runs/create" => {
            let run = json!({
                "info": {
                    "run_id": format!("run{}", store.runs.len()), "status": "RUNNING",
                    "experiment_id": body["experiment_id"], "run_name": body["run_name"],
                    "start_time": body["start_time"],
                },
                "data": {"tags": body["tags"], "metrics": [], "params": []},
            });
            store.runs.push(run.clone());
            Reply::Json(json!({"run": run}))
        }
        "runs/log-batch" => log_batch(store, body),
        "runs/update" => {
            let Some(run) = run_of(store, body) else { return invalid("no such run") };
            for field in ["status", "end_time"] {
                run["info"][field] = body[field].clone();
            }
            Reply::Json(json!({"run_info": run["info"]}))
        }
        other => refusal(404, "ENDPOINT_NOT_FOUND", other),
    }
}

fn run_of<'s>(store: &'s mut Store, body: &Value) -> Option<&'s mut Value> {
    store.runs.iter_mut().find(|run| run["info"]["run_id"] == body["run_id"])
}

fn log_batch(store: &mut Store, body: &Value) -> Reply {
    if body.to_string().len() > 1_000_000 {
        return invalid("more than 1000000 bytes");
    }
    let Some(run) = run_of(store, body) else { return invalid("no such run") };
    let mut count = 0;
    for (kind, most) in [("metrics", 1000), ("params", 100), ("tags", 100)] {
        let entries = body[kind].as_array().cloned().unwrap_or_default();
        count += entries.len();
        if entries.len() > most || count > 1000 {
            return invalid("too many entries");
        }
        for entry in entries {
            let key = entry["key"].as_str().unwrap();
            let is_fit = |c: char| c.is_ascii_alphanumeric() || "/_.- :".contains(c);
            if !key.chars().all(is_fit) || key.contains("//") || key.chars().count() > 250 {
                return invalid(&format!("Invalid value \"{key}\" for parameter 'name'"));
            }
            if kind == "metrics" && !entry["value"].is_number() {
                return invalid("no number");
            }
            let there = run["data"][kind].as_array_mut().unwrap();
            if kind == "params" && there.iter().any(|old| old["key"] == key) {
                return invalid("Duplicate parameter keys");
            }
            there.push(entry);
        }
    }
    Reply::Json(json!({}))
}

/// Exit code, stdout and stderr; only the variables given are there of those that MLflow's clients read.
fn export(
    run: &Path,
    server: &str,
    more: &[&str],
    variables: &[(&str, &str)],
) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.arg("export").arg(run).args(["--to", "mlflow"]).args(more);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MLFLOW_")) {
        command.env_remove(name);
    }
    if !server.is_empty() {
        command.env("MLFLOW_TRACKING_URI", server);
    }
    let Output { status, stdout, stderr } =
        command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn by_key(run: &Value, kind: &str) -> BTreeMap<String, Value> {
    let entries = run["data"][kind].as_array().unwrap();
    entries
        .iter()
        .map(|entry| (entry["key"].as_str().unwrap().to_owned(), entry["value"].clone()))
        .collect()
}

#[test]
fn a_run_arrives_whole_and_once() {
    let runs = Runs::new(12);
    let run = runs.run("run", judge(), |_| 0.7);
    let (server, store) = server(|_| None);
    let flags = ["--experiment", "my models/1", "--step", "2000"];
    let (code, id, said) = export(&run, &server.origin(), &flags, &[]);
    assert_eq!((code, &*id), (0, "run0"), "{said}");
    assert!(said.contains("as run run0 of experiment `my models/1`"), "{said}");

    let (_, json, _) = dpg_bench("score", &[&run], &["--json"]);
    let summary: Value = serde_json::from_str(&json).unwrap();
    let made = store.lock().unwrap().runs[0].clone();
    assert_eq!(made["info"]["status"], "FINISHED");
    assert_eq!(store.lock().unwrap().experiments, [("my models/1".to_owned(), "active")]);
    let metrics = by_key(&made, "metrics");
    for protocol in ["reference", "corrected"] {
        let own = &summary[protocol];
        let stage = if protocol == "reference" { "raw" } else { "conditional" };
        let figures = own["l1"].as_array().unwrap().iter().chain(own["l2"].as_array().unwrap());
        let mut expected = vec![("overall".to_owned(), &own["overall"])];
        expected.extend(figures.map(|figure| {
            // The characters of `other - <b>&%: count` that MLflow refuses.
            let name = figure["name"].as_str().unwrap().replace(['<', '>', '&', '%', ':'], "_");
            (name, &figure[stage])
        }));
        assert_eq!(expected.len(), 9, "{expected:?}");
        for (name, estimate) in expected {
            for (word, field) in [
                ("", "mean"),
                (" low", "low"),
                (" high", "high"),
                (" standard error", "standard_error"),
            ] {
                let found = &metrics[&format!("dpg_bench_{protocol}/{name}{word}")];
                assert_eq!(*found, estimate[field], "{protocol} {name}{word}");
            }
        }
    }
    assert_eq!(metrics["dpg_bench_coverage/questions answered"], 192.0);
    let steps = made["data"]["metrics"].as_array().unwrap().iter().map(|metric| &metric["step"]);
    assert!(steps.clone().count() > 80 && steps.clone().all(|step| *step == 2000));
    let params = by_key(&made, "params");
    assert_eq!(params["judge"], "made-up");
    assert_eq!(params["judge.rule"], "hash");
    assert_eq!(params["protocol"], "reference, corrected");
    assert_eq!(params["benchmark.digest"], summary["run"]["benchmark"]["digest"]);

    // Nothing is sent twice, unless that is asked for.
    let before = server.received().len();
    let (code, id, said) = export(&run, &server.origin(), &flags, &[]);
    assert_eq!((code, &*id), (0, "run0"), "{said}");
    assert!(said.contains("has these numbers already; nothing was sent"), "{said}");
    let asked: Vec<String> =
        server.received()[before..].iter().map(|request| call(request).to_owned()).collect();
    assert_eq!(asked, ["experiments/get-by-name", "runs/search"]);
    let again = [&flags[..], &["--again"]].concat();
    assert_eq!(export(&run, &server.origin(), &again, &[]).1, "run1");
    // Another step is another run.
    let other = ["--experiment", "my models/1", "--step", "3000"];
    assert_eq!(export(&run, &server.origin(), &other, &[]).1, "run2");
    // The same directory with other answers is neither sent nor taken for the same.
    let journal = run.join("answers/made-up.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.replacen("\"yes\"", "\"no\"", 1)).unwrap();
    let (code, _, said) = export(&run, &server.origin(), &flags, &[]);
    assert!(code == 2 && said.contains("has other numbers of this run directory"), "{said}");
    assert_eq!(store.lock().unwrap().runs.len(), 3);
}

#[test]
fn a_large_benchmark_goes_in_several_batches() {
    let mut questions =
        "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
            .to_owned();
    for item in 0..6 {
        for number in 1..=60 {
            let kind = item * 60 + number;
            questions += &format!(
                "i{item},A cup.,,{number},0,kind {kind},x,kind {kind} - detail (cup),Is it so?\n"
            );
        }
    }
    let runs = Runs::over(&questions);
    let run = runs.run("run", judge(), |_| 0.7);
    let (server, store) = server(|_| None);
    let (code, _, said) = export(&run, &server.origin(), &[], &[]);
    assert_eq!(code, 0, "{said}");
    let received = server.received();
    let batches = received.iter().filter(|request| call(request) == "runs/log-batch").count();
    assert!((2..20).contains(&batches), "{batches}");
    let made = store.lock().unwrap().runs[0].clone();
    let metrics = by_key(&made, "metrics");
    assert!(metrics.len() > 1400 && made["info"]["status"] == "FINISHED", "{}", metrics.len());
    assert_eq!(metrics.len(), made["data"]["metrics"].as_array().unwrap().len());
}

#[test]
fn a_key_goes_out_and_is_never_shown() {
    let runs = Runs::new(3);
    let run = runs.run("run", judge(), |_| 0.7);
    let token = ("MLFLOW_TRACKING_TOKEN", "hush-hush-hush");
    let user = ("MLFLOW_TRACKING_USERNAME", "Aladdin");
    let password = ("MLFLOW_TRACKING_PASSWORD", "open sesame");
    let basic = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
    for (variables, expected) in [
        (vec![], None),
        (vec![token], Some("Bearer hush-hush-hush")),
        (vec![user, password], Some(basic)),
        // As in MLflow's clients: a password comes before a token, and one half of it is none.
        (vec![token, user, password], Some(basic)),
        (vec![token, user], Some("Bearer hush-hush-hush")),
    ] {
        let (server, _) = server(|request| {
            let said = request.authorization.clone().unwrap_or_default();
            (call(request) == "runs/log-batch")
                .then(|| Reply::Status(401, vec![], format!("not for {said} open sesame")))
        });
        let (code, _, said) = export(&run, &server.origin(), &[], &variables);
        assert_eq!(code, 2, "{said}");
        let received = server.received();
        assert!(received.iter().all(|request| request.authorization.as_deref() == expected));
        assert!(said.contains("refuses runs/log-batch with 401: not for"), "{said}");
        for secret in ["hush-hush", "QWxhZ"] {
            assert!(!said.contains(secret), "{said}");
        }
        assert!(expected != Some(basic) || !said.contains("sesame"), "{said}");
    }
}

#[test]
fn what_a_server_refuses_is_told_in_one_sentence() {
    let runs = Runs::new(3);
    let run = runs.run("run", judge(), |_| 0.7);
    type Odd = fn() -> Reply;
    let html: Odd = || Reply::Status(200, vec![], "<!doctype html><title>Log in</title>".into());
    let broken: Odd = || refusal(500, "INTERNAL_ERROR", "database is locked\n  at line 3");
    let name: Odd = || invalid("Invalid value \"a(b\" for parameter 'metrics[0].name'");
    let moved: Odd =
        || Reply::Status(302, vec!["Location: https://sso/?t=hush".into()], String::new());
    let elsewhere: Odd =
        || Reply::Json(json!({"run": {"info": {"run_id": "odd", "experiment_id": "77"}}}));
    let nameless: Odd = || Reply::Json(json!({"experiment": {"name": "dpg-bench"}}));
    let other: Odd = || Reply::Json(json!({"experiment": {"name": "x", "experiment_id": "1"}}));
    let gone: Odd = || {
        Reply::Json(json!({"experiment": {
            "name": "dpg-bench", "experiment_id": "4", "lifecycle_stage": "deleted",
        }}))
    };
    let deaf: Odd = || Reply::Json(json!({"run_info": {"status": "RUNNING"}}));
    let list: Odd = || Reply::Json(json!([1]));
    for (at, odd, expected, status) in [
        ("experiments/get-by-name", html, "with 200 and a page of HTML, which is no reply", None),
        ("experiments/get-by-name", list, "with 200 and no JSON object, which is no reply", None),
        ("experiments/get-by-name", moved, "with 302 and sends us on to https://sso/;", None),
        ("experiments/get-by-name", nameless, "without experiment/experiment_id", None),
        ("experiments/get-by-name", other, "experiment `x` where `dpg-bench` was", None),
        ("experiments/get-by-name", gone, "`dpg-bench` (id 4) is deleted on the MLflow", None),
        ("runs/create", broken, "refuses runs/create with 500: INTERNAL_ERROR: database is", None),
        (
            "runs/create",
            elsewhere,
            "in experiment 77 where 0 was asked for; its run odd is left unfinished",
            None,
        ),
        (
            "runs/log-batch",
            name,
            "INVALID_PARAMETER_VALUE: Invalid value \"a(b\" for parameter 'metrics[0].name'; its run run0 is set to \
             FAILED",
            Some("FAILED"),
        ),
        ("runs/log-batch", broken, "locked at line 3; its run run0 is set to", Some("FAILED")),
        ("runs/log-batch", html, "a page of HTML, which is no reply", Some("FAILED")),
        ("runs/update", broken, "its run run0 is left unfinished", Some("RUNNING")),
        (
            "runs/update",
            deaf,
            "with status RUNNING where FINISHED was asked for; its run run0 is left unfinished",
            Some("RUNNING"),
        ),
    ] {
        let (server, store) = server(move |request| (call(request) == at).then(odd));
        let (code, shown, said) = export(&run, &server.origin(), &[], &[]);
        assert_eq!((code, &*shown), (2, ""), "{at}: {said}");
        assert!(said.contains(expected), "{at}: {said}");
        assert!(said.contains(&server.origin()) && said.lines().count() == 1, "{at}: {said}");
        assert!(!said.contains("hush"), "{said}");
        let store = store.lock().unwrap();
        let found = store.runs.first().map(|run| run["info"]["status"].as_str().unwrap());
        assert_eq!(found, status, "{at}: {said}");
    }
}

#[test]
fn what_may_pass_is_tried_again_but_no_run_is_made_twice() {
    let runs = Runs::new(3);
    let run = runs.run("run", judge(), |_| 0.7);
    // Each call is refused once.
    let busy = |request: &Received| {
        (request.index.is_multiple_of(2))
            .then(|| Reply::Status(503, vec!["Retry-After: 0".into()], String::new()))
    };
    let (first, store) = server(busy);
    let (code, _, said) = export(&run, &first.origin(), &[], &[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(store.lock().unwrap().runs.len(), 1);
    // Whether the server made the run is not known.
    let (second, _) = server(|request| (call(request) == "runs/create").then_some(Reply::Cut));
    let (code, _, said) = export(&run, &second.origin(), &[], &[]);
    assert!(code == 2 && said.contains("does not answer runs/create: "), "{said}");
    let received = second.received();
    assert_eq!(received.iter().filter(|request| call(request) == "runs/create").count(), 1);
    // A server that says nothing.
    let (third, _) = server(|_| Some(Reply::Never));
    let variables = [("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")];
    let (code, _, said) = export(&run, &third.origin(), &[], &variables);
    assert!(code == 2 && said.contains("the server is silent"), "{said}");
}

#[test]
fn a_server_has_to_be_named_and_its_url_holds_no_secret() {
    let runs = Runs::new(3);
    let run = runs.run("run", judge(), |_| 0.7);
    for (url, more, expected) in [
        ("", vec![], "needs --tracking-uri URL or the environment variable MLFLOW_TRACKING_URI"),
        ("sqlite:///mlflow.db", vec![], "it reads like http://localhost:5000"),
        ("http://me:hush@host", vec![], "holds a user or password; leave that out and set MLFLOW_"),
        ("http://127.0.0.1:1", vec![], "no connection to the server: it was refused"),
        // A flag comes before the environment.
        ("sqlite:///mlflow.db", vec!["--tracking-uri", "http://127.0.0.1:1"], "it was refused"),
    ] {
        let (code, _, said) = export(&run, url, &more, &[]);
        assert!(code == 2 && said.contains(expected) && !said.contains("hush"), "{url}: {said}");
    }
}
