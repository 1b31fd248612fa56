//! What the command line refuses, word by word: each sentence with its exit code. `every_sentence.rs` says which
//! sentences of `src/cli` and `src/session` are not among them, and why.

use super::words::{Place, words};
use super::words_shown::{ITEMS, with_pictures, with_run};

#[test]
fn flags_that_mean_nothing() {
    let place = with_run();
    place.write("half.json", "{\"1\": {}}");
    words!(
        "refused_usage",
        place,
        [
            "scroe run",
            "score",
            "score run --protocol other",
            "generate --model sd15 --model-file x.toml",
            "generate --model program",
            "generate --model program --program ' '",
            "generate --model program --program ./nowhere --scheduler euler",
            "generate --model program --program ./nowhere --products bf16",
            "generate --model sd15 --products bf16x2",
            "generate --model program --program ./nowhere",
            "generate --model sd15 --program ./nowhere",
            "generate --model server",
            "generate --model server --server-url gpu:8000",
            "generate --model server --server-url http://gpu/?key=1",
            "generate --model server --server-url http://gpu --scheduler euler",
            "generate --model server --server-url http://gpu --program ./nowhere",
            "generate --model server --server-url http://gpu --server-api other",
            "generate --model server --server-url http://gpu --server-timeout 0",
            "generate --model server --server-url http://gpu --server-concurrency 0",
            "generate --model server --server-url http://gpu --server-key-env NO_SUCH_KEY",
            "generate --model server --server-url http://gpu --comfy-node prompt=6.text",
            "generate --model server --server-url http://gpu --server-workflow nowhere.json",
            "generate --model server --server-url http://gpu --server-workflow items.csv",
            "generate --model server --server-url http://gpu --server-workflow half.json",
            "generate --model server --server-url http://127.0.0.1:9 --benchmark items.csv",
            "generate --model sd15 --server-url http://gpu",
            "run --shard 4/4",
            "run --shard half",
            "judge run --judge scripted --judge-rule maybe",
            "judge run --judge endpoint --judge-body [1]",
            "compare",
            "fetch",
            "import --images pictures --tiling 2",
            "man scroe",
            "measure --part images --model sd51",
            "measure --part parity --network unett",
            "score run --quiet --verbose",
            "score run --color sometimes",
        ]
    );
}

#[test]
fn benchmarks() {
    let place = with_run();
    place.write("bad.csv", ITEMS.replace("\"2,4\"", "9"));
    place.write("folder/a.csv", "");
    place.write("folder/b.csv", "");
    words!(
        "refused_benchmark",
        place,
        [
            "validate nowhere.csv",
            "validate folder",
            "validate home",
            "validate bad.csv",
            "validate bad.csv --json",
            "validate",
            "validate bad.csv --example",
            "show kite --benchmark bad.csv",
            "show kite --benchmark item.csv",
            "show kite --benchmark Demo",
            "show kite --benchmark nowhere/else",
            "show kit --benchmark items.csv",
            "import --images pictures --benchmark items.csv --items kite,dog",
            "import --images pictures --benchmark items.csv --category colour",
            "import --images pictures --benchmark items.csv --prefix x",
            "score run --judge yes --benchmark bad.csv",
            "score run --judge yes --benchmark demo",
        ]
    );
    words!(
        "refused_no_benchmark",
        place,
        ["import --images pictures", "generate --model program --program x"]
    );
    place.write("benchmark/dpg/fetch.json", "{}");
    words!("refused_benchmark_in_part", place, ["import --images pictures"]);
}

#[test]
fn names_of_hugging_face() {
    let place = Place::new();
    for revision in ["a", "b"] {
        let hub = "home/.cache/huggingface/hub/models--some--thing/snapshots";
        place.write(&format!("{hub}/{revision}/x"), "");
    }
    words!(
        "refused_hub_name",
        place,
        [
            "generate --benchmark demo --model sd15 --weights some/model",
            "generate --benchmark demo --model sd15 --weights some/thing",
        ]
    );
}

#[test]
fn run_directories() {
    let place = with_run();
    let judge = "judge run --judge scripted --judge-rule";
    let import = "import --images pictures --images-per-item 2 --benchmark items.csv --out run";
    words!(
        "refused_run",
        place,
        [
            "score nowhere",
            "judge nowhere --judge scripted --judge-rule yes",
            "watch nowhere",
            format!("{judge} no"),
            format!("{judge} no --judge-name 'a/b'"),
            "judge run --remove nobody".to_owned(),
            "judge run --remove yse".to_owned(),
            format!("{import} --items kite"),
            format!("{import} --model other"),
        ]
    );
    place.replace("run/manifest.json", "\"selection\": {}", "\"selection\": {\"items\": 5}");
    words!("refused_run_selection", place, ["score run --judge yes"]);
    place.replace(
        "run/manifest.json",
        "\"format_version\": \"1.0\"",
        "\"format_version\": \"9.0\"",
    );
    words!("refused_run_version", place, ["score run --judge yes"]);
    place.write("run/manifest.json", "{");
    words!("refused_run_manifest", place, ["score run --judge yes"]);
}

#[test]
fn figures() {
    let place = with_run();
    place.quietly("import --images pictures --images-per-item 2 --benchmark items.csv --out bare");
    words!(
        "refused_score",
        place,
        [
            "score run",
            "score bare",
            "score run --judge nobody",
            "score run --judge Yes",
            "report run --judge scriptd --out report",
            "score bare --judge nobody",
            "agreement bare",
            "agreement run --judges yes",
            "agreement run --judges yes,yes",
            "agreement run --judges yes,nobody",
            "baseline nowhere --out baseline.json",
            "baseline run --out baseline.json",
            "report run --out report",
            "report bare --out report",
            "report run --judge yes --out pictures",
            "report run --judge yes --out never --protocol soft_tifa_gm",
            "report run --judge yes --out never --protocol soft",
            "score run --judge yes --protocol soft",
            "compare run run --judge yes --protocol soft_tifa_gm",
        ]
    );
}

#[test]
fn audits() {
    let place = with_run();
    place.quietly("import --images pictures --images-per-item 2 --benchmark items.csv --out bare");
    place.quietly("audit run --judge yes --labels-wanted 8");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let pattern = format!(r"\b{port}\b");
    words!("refused_audit", place, masks: &[("[PORT]", pattern.as_str())], [
        "audit run",
        "audit run --labels-wanted 1",
        "audit run --labels-wanted 8",
        "audit run --labels-wanted 8 --judge nobody",
        "audit run --labels-wanted 8 --judge yes --name ../elsewhere",
        "audit run --labels-wanted 8 --judge yes --unit pages",
        "audit run --judge yes --serve",
        "audit run --serve --json",
        "audit bare --labels-wanted 8",
        "audit bare --serve",
        "audit run --labels-wanted 9 --judge yes",
        "audit run --serve --name audti",
        format!("audit run --serve {port}"),
        "audit run --labels",
        "audit run --labels nowhere.jsonl",
        "audit run --labels --serve",
        "compare run run --audit",
        "compare run run --audit audti",
    ]);
    std::fs::remove_file(place.path("run/images/cat/1.png")).unwrap();
    place.replace(
        "run/audits/audit/sample.json",
        "\"kind\": \"audit sample\"",
        "\"kind\": \"other\"",
    );
    words!(
        "refused_audit_files",
        place,
        ["audit run --labels-wanted 9 --judge scripted --name new", "audit run --serve"]
    );
}

#[test]
fn files_about_something_else() {
    let place = with_run();
    place.quietly("import --images pictures --images-per-item 2 --benchmark items.csv --model other --out other");
    place.quietly("judge other --judge scripted --judge-rule yes --judge-name yes");
    let tiny = "measure --tiny --device cpu --repeats 1 --part product";
    place.quietly("report run --judge yes --out report");
    place.quietly("report run --judge yes --out report");
    place.quietly("compare run other --judge yes --out made");
    place.quietly("compare run other --judge yes --out made");
    place.quietly("baseline run --judge yes --out baseline.json");
    place.quietly("baseline run --judge yes --out baseline.json");
    place.quietly("compare other run --judge yes --out forced");
    place.quietly("compare run other --judge yes --out forced --force");
    place.write("notes.csv", "my notes");
    words!(
        "refused_to_replace",
        place,
        [
            "report other --judge yes --out report",
            "compare other run --judge yes --out made",
            "compare run other --judge yes --out notes",
            "baseline run --judge scripted --out baseline.json",
            "baseline other --judge yes --out baseline.json",
            "baseline run --judge yes --out notes.csv",
            "check run --judge yes --baseline baseline.json --junit notes.csv",
            format!("{tiny} --out baseline.json"),
        ]
    );
}

#[test]
fn answers_about_other_pictures() {
    let place = with_run();
    let journal = std::fs::read_to_string(place.path("run/answers/yes.jsonl")).unwrap();
    let (_, digest) = journal.split_once("\"pixels_sha256\":\"").unwrap();
    place.replace("run/answers/yes.jsonl", &digest[..64], &"0".repeat(64));
    words!(
        "refused_other_pictures",
        place,
        ["agreement run", "score run --judge yes", "report run --judge yes --out report",]
    );
}

#[test]
fn comparisons() {
    let place = with_run();
    place.quietly("baseline run --judge yes --out baseline.json");
    place.write("no.json", "{}");
    place.write("other.json", "{\"format_version\": \"1.0\", \"kind\": \"summary\"}");
    for (file, from, to) in [
        ("newer.json", "\"format_version\":\"1.0\"", "\"format_version\":\"9.0\""),
        ("short.json", "\"items\":[", "\"itemz\":["),
        ("counts.json", "\"counts\":[[", "\"counts\":[[99,9,9,9,9],["),
        ("unread.json", "\"items\":[", "\"unreadable_answers\":5,\"items\":["),
    ] {
        std::fs::copy(place.path("baseline.json"), place.path(file)).unwrap();
        place.replace(file, from, to);
    }
    words!(
        "refused_compare",
        place,
        [
            "history run run --judge yes",
            "export run --judge yes --to tensorboard",
            "export run --judge yes --to hugging-face",
            "export run --judge yes --to model-index --dataset a/b --out items.csv",
            "export run --judge yes --to model-index --dataset a/b --out items.csv/x",
            "export run --judge yes --to tensorboard --out items.csv/x",
            "history run run --judge yes --steps 1",
            "history run run --judge yes --steps 1,1",
            "history run run --judge yes --steps 1,2 --out items.csv/x",
            "compare run",
            "compare run run --published --json",
            "compare run --judge yes --published",
            "compare run nowhere --judge yes",
            "compare no.json run --judge yes",
            "compare other.json run --judge yes",
            "compare newer.json run --judge yes",
            "compare short.json run --judge yes",
            "compare counts.json run --judge yes",
            "compare unread.json run --judge yes",
            "compare baseline.json --published",
            "compare baseline.json run --judge scripted",
            "compare run run --judge yes --out items.csv/x",
        ]
    );
    words!(
        "refused_export_elsewhere",
        place,
        [
            "export run --judge yes --to lm-eval",
            "export run --judge yes --to inspect --out items.csv/x",
            "export run --judge yes --to mlflow",
            "export run --judge yes --to mlflow --tracking-uri sqlite:///mlflow.db",
            "export run --judge yes --to mlflow --tracking-uri http://127.0.0.1:1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT=soon export run --judge yes --to mlflow --tracking-uri http://127.0.0.1:1",
        ]
    );
    place.quietly(
        "import --images pictures --images-per-item 2 --benchmark items.csv --model m --out old",
    );
    place.quietly("judge old --judge scripted --judge-rule yes");
    place.replace("old/manifest.json", "\"created\": \"20", "\"created\": \"x20");
    std::fs::remove_file(place.path("pictures/kite_1.png")).unwrap();
    words!(
        "refused_export",
        place,
        [
            "import --images pictures --images-per-item 2 --benchmark items.csv --model m --out part",
            "judge part --judge scripted --judge-rule yes",
            "export part --to model-index --dataset a/b",
            "export part --to model-index --dataset a/b --allow-incomplete",
            "export old --to tensorboard --out logs",
            "export old --to inspect --out logs",
        ]
    );
    words!(
        "refused_check",
        place,
        [
            "check run --baseline baseline.json --max-drop=-1",
            "check run --baseline baseline.json --max-drop 100",
            "check run --baseline baseline.json --alpha 0.6",
            "check run --baseline baseline.json --alpha 0.0001 --draws 100",
            "check run --baseline baseline.json --alpha 0.0000001 --category entity",
            "check run --baseline baseline.json --judge yes --category colour",
            "GITHUB_STEP_SUMMARY=nowhere/summary check run --baseline baseline.json --judge yes --github",
            "check nowhere --baseline baseline.json",
        ]
    );
}

#[test]
fn benchmarks_that_differ() {
    let place = with_run();
    place.write("others.csv", ITEMS.replace("Two small cats", "Two large cats"));
    let import = "import --images pictures --images-per-item 2 --benchmark others.csv --out other";
    place.quietly(import);
    place.quietly("judge other --judge scripted --judge-rule yes --judge-name yes");
    words!(
        "refused_differing_runs",
        place,
        [
            "report run other --judge yes --out report",
            "compare run other --judge yes",
            "merge run other --out all",
        ]
    );
}

#[test]
fn pictures_made_elsewhere() {
    let place = with_pictures();
    place.write("broken/kite_0.png", "no picture");
    place.picture("odd/kite.png", 15, 15, 9);
    place.write("map.jsonl", "{\"item\": \"kite\", \"image\": 0, \"path\": \"../items.csv\"}\n");
    let import = "import --benchmark items.csv";
    words!(
        "refused_import",
        place,
        [
            format!("{import} --images nowhere"),
            format!("{import} --images home"),
            format!("{import} --images broken --out run"),
            format!("{import} --images odd"),
            format!("{import} --images pictures --resolution 512"),
            format!("{import} --images pictures --map map.jsonl"),
            format!("{import} --images pictures --map nowhere.jsonl"),
        ]
    );
}

#[test]
fn logs_and_tables_of_others() {
    let place = Place::new();
    for file in ["odd_detail.txt", "odd_questions.csv"] {
        place.fixture(&format!("scoring/{file}"), file);
    }
    place.write("items.csv", ITEMS);
    place.write("latin.txt", b"out, a\nout, \xe4\n");
    let mut other = std::fs::read_to_string(place.path("odd_detail.txt")).unwrap();
    let log = "import-log --benchmark odd_questions.csv --lenient --out log";
    place.quietly(&format!("{log} odd_detail.txt"));
    other.truncate(other.trim_end().rfind('\n').unwrap() + 1);
    place.write("shorter.txt", other);
    words!(
        "refused_import_log",
        place,
        [
            format!("{log} nowhere.txt"),
            format!("{log} latin.txt"),
            "import-log --benchmark items.csv --out run odd_detail.txt",
            format!("{log} shorter.txt"),
        ]
    );
    // As after an edit of the manifest: the journal itself is looked at too.
    place.replace("log/answers/reference-log.jsonl", "\"text\":\"yes\"", "\"text\":\"no\"");
    words!("refused_import_log_answers", place, [format!("{log} odd_detail.txt")]);
    place.write("empty.md", "no figures\n");
    words!(
        "refused_forensics",
        place,
        ["forensics nowhere.md", "forensics empty.md", "forensics - < latin.txt",]
    );
}
