//! `dpg-bench.toml` and `--config`: a run that a file sets equals the one that flags set; flags override it, and what is
//! not understood is refused.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::words::{Place, words};
use super::words_shown::with_run;

/// A run that takes a moment, as flags and as the file that says the same.
const FLAGS: &[&str] = &[
    "--limit",
    "1",
    "-n",
    "1",
    "--steps",
    "2",
    "--guidance",
    "3.5",
    "--out",
    "runs/a",
    "-j",
    "scripted",
    "--judge-rule",
    "hash:0.6",
    "--judge-name",
    "dry",
];
const FILE: &str = "limit = 1\nimages = 1\nsteps = 2\nguidance = 3.5\nout = 'runs/a'\n\
                    judge = 'scripted'\njudge_rule = 'hash:0.6'\njudge_name = 'dry'\n";

fn program(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

/// stdout and stderr of a command that must end well.
fn done(folder: &Path, arguments: &[&str]) -> [String; 2] {
    let output = program(folder, arguments);
    let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", texts[1]);
    texts
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = program(folder, arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The keys that `run --print-config` prints with these flags, without comments.
fn printed(folder: &Path, flags: &[&str]) -> String {
    let [file, _] = done(folder, &[&["run", "--print-config"], flags].concat());
    file.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// What a run is made of and what it came to, every byte.
fn results(run: &Path) -> Vec<Vec<u8>> {
    let files = ["images.jsonl", "answers/dry.jsonl", "summary/dry.json", "summary/dry.csv"];
    files.iter().map(|file| std::fs::read(run.join(file)).unwrap()).collect()
}

#[test]
fn a_run_set_by_a_file_is_the_run_set_by_flags() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [by_flags, by_file, by_print] = folders.each_ref().map(|folder| folder.path());
    let [_, said] = done(by_flags, &[&["run"], FLAGS].concat());
    assert!(!said.contains("settings from"), "{said}");
    let wanted = results(&by_flags.join("runs/a"));
    let manifest = std::fs::read(by_flags.join("runs/a/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["generation"]["settings"]["steps"], 2, "{manifest}");

    std::fs::write(by_file.join("dpg-bench.toml"), FILE).unwrap();
    let [_, said] = done(by_file, &["run"]);
    assert!(
        said.starts_with(
            "settings from dpg-bench.toml: limit, images, steps, guidance, out, judge, judge_rule, judge_name\n"
        ),
        "{said}"
    );
    assert_eq!(results(&by_file.join("runs/a")), wanted);

    let [file, _] = done(by_flags, &[&["run", "--print-config"], FLAGS].concat());
    std::fs::write(by_print.join("dpg-bench.toml"), &file).unwrap();
    done(by_print, &["run"]);
    assert_eq!(results(&by_print.join("runs/a")), wanted);
    // The file says of itself what it says.
    let [again, _] = done(by_print, &["run", "--print-config"]);
    assert_eq!(again, file);
    assert!(!by_print.join("results").exists());
}

#[test]
fn flags_override_the_file_and_no_config_passes_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("dpg-bench.toml"), FILE).unwrap();
    let all = printed(folder, &[]);
    assert_eq!(
        all,
        "images = 1\nsteps = 2\nguidance = 3.5\nlimit = 1\nout = \"runs/a\"\njudge = \"scripted\"\n\
         judge_name = \"dry\"\njudge_rule = \"hash:0.6\"\n"
    );
    assert_eq!(
        printed(folder, &["--num-inference-steps", "3", "-o", "b"]),
        all.replace("steps = 2", "steps = 3").replace("runs/a", "b")
    );
    let answers = printed(folder, &["--judge-answers", "a.csv", "--items", "x,y"]);
    let wanted = all.replace("judge_rule = \"hash:0.6\"", "judge_answers = \"a.csv\"");
    assert_eq!(answers, wanted.replace("limit", "items = [\"x\", \"y\"]\nlimit"));
    assert_eq!(printed(folder, &["--no-config", "--steps", "4"]), "steps = 4\n");
    // A file that is named takes the place of the one in the folder, and its paths begin at it.
    std::fs::create_dir(folder.join("conf")).unwrap();
    std::fs::write(folder.join("conf/b.toml"), "steps = 5\nout = 'c'\nvae = '/v'\n").unwrap();
    let wanted = "vae = \"/v\"\nsteps = 5\nout = \"conf/c\"\n";
    for place in [["--config", "conf/b.toml"], ["--config", "./conf/b.toml"]] {
        assert_eq!(printed(folder, &place).replace("./conf", "conf"), wanted);
    }
    // An error about a flag that nobody typed says where it is set.
    std::fs::write(folder.join("judges.toml"), "judge = 'mplug'\njudge_batch = 4\n").unwrap();
    let said = refused(folder, &["run", "--config", "judges.toml", "--judge", "blip-vqa"]);
    let note = "leave it out\nnote: judges.toml, line 2 sets `judge_batch`\n";
    assert!(said.ends_with(note), "{said}");
    let [file, _] = done(folder, &["--config=conf/b.toml", "run", "--print-config"]);
    assert!(file.ends_with(wanted), "{file}");
}

/// What is said of a settings file, word by word, where it is taken and where it is refused.
#[test]
fn what_is_said() {
    let place = with_run();
    place.write("shared.toml", "steps = 2\n");
    place.write("conflict.toml", "device = 'cpu'\ndevices = ['cpu']\n");
    place.write("judges.toml", "judge = 'mplug'\njudge_batch = 4\n");
    place.write("own.toml", "[command.score]\njudge = 'yes'\nformat = 'csv'\ntable = 'paper'\n");
    for (name, text) in [
        ("syntax", "steps = \n"),
        ("key", "model = 'demo-sd'\nstpes = 2\n"),
        ("hyphen", "judge-rule = 'yes'\n"),
        ("secret", "judge_key = 'abc'\n"),
        ("elsewhere", "junit = 'a.xml'\n"),
        ("type", "steps = 'two'\n"),
        ("value", "images = 0\n"),
        ("twice", "steps = 2\nnum_inference_steps = 2\n"),
        ("command", "[command.jugde]\njudge = 'scripted'\n"),
        ("table", "[run]\nsteps = 2\n"),
        ("no_table", "[command]\nrun = 2\n"),
    ] {
        place.write(&format!("bad/{name}.toml"), text);
    }
    words!(
        "settings_file",
        place,
        [
            "run --config shared.toml --images 1 --print-config",
            "run --print-config",
            "score run --config own.toml",
            "show kite --benchmark items.csv --config shared.toml",
            "run --config nowhere.toml",
            "run --config shared.toml --no-config",
            "run --config conflict.toml",
            "run --config judges.toml --judge blip-vqa",
            "run --config bad/syntax.toml",
            "run --config bad/key.toml",
            "run --config bad/hyphen.toml",
            "run --config bad/secret.toml",
            "run --config bad/elsewhere.toml",
            "run --config bad/type.toml",
            "run --config bad/value.toml",
            "run --config bad/twice.toml",
            "run --config bad/command.toml",
            "run --config bad/table.toml",
            "run --config bad/no_table.toml",
        ]
    );
}

#[test]
fn a_faulty_file_stops_every_command_but_help() {
    let place = Place::new();
    place.write("dpg-bench.toml", "\nstpes = 2\n");
    let folder = place.path("");
    for line in [&["run"][..], &["list"], &["generate", "--steps", "2"]] {
        let said = refused(&folder, line);
        let wanted = "error: dpg-bench.toml, line 2: `run` has no flag for the key `stpes`; is `steps` meant?\n";
        assert_eq!(said, wanted, "{line:?}");
    }
    for line in [
        &["help", "run"][..],
        &["run", "--help"],
        &["completions", "bash"],
        &["list", "--no-config"],
    ] {
        done(&folder, line);
    }
    assert!(refused(&folder, &["run", "--stpes", "2"]).contains("unexpected argument '--stpes'"));
    // Nothing is read of a folder or of another file.
    std::fs::remove_file(place.path("dpg-bench.toml")).unwrap();
    place.write("dpg-bench.toml/inside", "");
    let [_, said] = done(&folder, &["list"]);
    assert!(!said.contains("settings"), "{said}");
}

/// `report` cannot do without `--out`, which its table may have; other commands do not take the run's.
#[test]
fn a_command_takes_what_it_needs_from_its_own_table() {
    let place = with_run();
    let folder = place.path("");
    let line = ["report", "run", "--judge", "yes", "--benchmark", "items.csv"];
    place.write("dpg-bench.toml", "out = 'run'\n");
    assert!(refused(&folder, &line).contains("--out <DIR>"));
    place.write(
        "dpg-bench.toml",
        "out = 'run'\n[command.report]\nout = 'page'\nallow_incomplete = true\n",
    );
    let output = program(&folder, &line);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("settings from dpg-bench.toml: out, allow_incomplete\n"), "{said}");
    assert!(place.path("page/index.html").is_file(), "{said}");
}
