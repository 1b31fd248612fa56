//! `run --model-list`: the runs of a list are those that each model makes alone, byte for byte; the list can be stopped and grown,
//! and what it says wrongly is refused before the first model is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::generate_run::files;
use super::words::words;
use super::words_shown::with_run;

const LIST: &str = "images = 2\nseed = 5\njudge = 'scripted'\njudge_rule = 'hash:0.6'\nlimit = 2\n\
                    [[model]]\nmodel = 'demo-sd'\nsteps = 2\n\
                    [[model]]\nmodel = 'demo-ella'\nname = 'ella 3'\nsteps = 3\nguidance = 2\n";

fn program(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.current_dir(folder).args(line.split(' ')).output().unwrap()
}

/// stdout and stderr of a command that must end well.
fn done(folder: &Path, line: &str) -> [String; 2] {
    let output = program(folder, line);
    let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(0), "{line}: {}", texts[1]);
    texts
}

/// Every file of a run, with what its manifest says of the generation.
fn whole(run: PathBuf) -> (Vec<(PathBuf, Vec<u8>)>, Value) {
    let manifest = std::fs::read(run.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    (files(&run).into_iter().collect(), manifest["generation"]["settings"].clone())
}

#[test]
fn the_runs_of_a_list_are_those_of_its_models_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("table.toml"), LIST).unwrap();
    // A settings file in the folder is not for lists.
    std::fs::write(folder.join("dpg-bench.toml"), "steps = 9\n").unwrap();
    let [shown, said] = done(folder, "run --model-list table.toml");
    assert!(!said.contains("settings from"), "{said}");
    // One row a model, then the comparison, then where the page is.
    let rows: Vec<&str> = shown.lines().filter(|line| line.starts_with("| demo-sd |")).collect();
    assert_eq!(rows.len(), 1, "{shown}");
    assert!(shown.contains("| ella 3 |"), "{shown}");
    assert!(shown.trim_end().ends_with("results/table/report/index.html"), "{shown}");
    let judging = said.matches("answers/scripted.jsonl: ").count();
    assert_eq!(judging, 2, "{said}");

    let flags = "--images 2 --seed 5 --limit 2 --judge scripted --judge-rule hash:0.6 --no-config";
    done(folder, &format!("run --model demo-sd --steps 2 --out alone/demo-sd {flags}"));
    let alone = whole(folder.join("alone/demo-sd"));
    assert_eq!(whole(folder.join("results/table/demo-sd")), alone);
    assert_eq!(alone.1["steps"], 2);
    let (_, settings) = whole(folder.join("results/table/ella 3"));
    assert_eq!((&settings["steps"], &settings["guidance"]), (&3.into(), &2.0.into()));
    assert_eq!((&settings["name"], &settings["seed"]), (&"ella 3".into(), &5.into()));
    // The comparison is that of the command.
    let mut compare = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    let runs = ["compare", "results/table/demo-sd", "results/table/ella 3", "--out", "other"];
    assert!(compare.current_dir(folder).args(runs).output().unwrap().status.success());
    for ending in ["csv", "md", "json"] {
        let read = |prefix: &str| std::fs::read(folder.join(format!("{prefix}.{ending}"))).unwrap();
        assert_eq!(read("results/table/comparison"), read("other"), "{ending}");
    }
}

#[test]
fn a_list_goes_on_where_it_was_and_takes_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let list = folder.join("table.toml");
    std::fs::write(&list, LIST.split("[[model]]\nmodel = 'demo-ella'").next().unwrap()).unwrap();
    done(folder, "run --model-list table.toml --out runs");
    let first = whole(folder.join("runs/demo-sd"));
    assert!(!folder.join("runs/comparison.json").exists());
    // As after a kill: an image and its record are gone, and so are the answers.
    let journal = folder.join("runs/demo-sd/images.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let kept: Vec<&str> = text.lines().take(3).collect();
    std::fs::write(&journal, kept.join("\n") + "\n").unwrap();
    std::fs::remove_dir_all(folder.join("runs/demo-sd/answers")).unwrap();
    std::fs::write(&list, LIST).unwrap();
    done(folder, "run --model-list table.toml --out runs");
    assert_eq!(whole(folder.join("runs/demo-sd")), first);
    assert!(folder.join("runs/comparison.json").is_file());
    let report = std::fs::read_to_string(folder.join("runs/report/index.html")).unwrap();
    assert!(report.contains("ella 3"));
    // What is typed stands above the list, as for a trial of all.
    let [_, said] = done(
        folder,
        "run --model-list table.toml --out trial --limit 1 --steps 2 --protocol reference",
    );
    assert!(said.contains("1 item with 2 images each"), "{said}");
    assert_eq!(whole(folder.join("trial/ella 3")).1["steps"], 2);
    // So do the rules of the numbers, in all that is made of them.
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("trial/comparison.json")[0]["protocol"], "reference");
    assert_eq!(read("trial/report/report.json")["protocol"], "reference");
}

#[test]
fn what_a_list_says_wrongly_is_refused_before_the_first_model() {
    let place = with_run();
    let model = |keys: &str| format!("[[model]]\nmodel = 'demo-sd'\n{keys}");
    for (name, text) in [
        ("none", "images = 2\n".to_owned()),
        ("plain", "model = 'sd15'\n".to_owned()),
        ("table", "[model]\nmodel = 'sd15'\n".to_owned()),
        ("words", "model = ['sd15']\n".to_owned()),
        ("seed", model("seed = 1\n")),
        ("judge", model("judge = 'scripted'\n")),
        ("key", model("stpes = 2\n")),
        ("value", model("steps = 'two'\n")),
        ("number", model("name = 5\n")),
        ("folder", model("name = 'a/b'\n")),
        ("taken", model("name = 'report'\n")),
        ("twice", model("steps = 2\n") + &model("steps = 3\n")),
        ("unknown", model("") + "[[model]]\nmodel = 'sd51'\n"),
        ("weights", model("") + "[[model]]\nmodel = 'sd15'\nweights = 'nowhere'\n"),
        ("conflict", model("") + "[[model]]\nmodel = 'sd15'\nmodel_file = 'm.toml'\n"),
        ("broken", "[[model\n".to_owned()),
        ("good", model("")),
    ] {
        place.write(&format!("{name}.toml"), text);
    }
    words!(
        "refused_model_list",
        place,
        [
            "run --model-list nowhere.toml",
            "run --model-list none.toml",
            "run --model-list plain.toml",
            "run --model-list table.toml",
            "run --model-list words.toml",
            "run --model-list seed.toml",
            "run --model-list judge.toml",
            "run --model-list key.toml",
            "run --model-list value.toml",
            "run --model-list number.toml",
            "run --model-list folder.toml",
            "run --model-list taken.toml",
            "run --model-list twice.toml",
            "run --model-list unknown.toml",
            "run --model-list weights.toml --judge scripted --judge-rule yes",
            "run --model-list conflict.toml",
            "run --model-list broken.toml",
            "run --model-list good.toml --model sd15",
            "run --model-list good.toml --json",
            "run --model-list good.toml --wide",
            "run --model-list good.toml --config none.toml",
            "run --model-list good.toml --shard 0/2",
            "run --model-list good.toml --live",
            "run --model-list good.toml --judge-while-generating on",
        ]
    );
    assert!(!place.path("results").exists());
}
