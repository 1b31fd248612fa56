//! What the commands usually print, word by word, over a few pictures of one colour and the demo's small models.

use super::words::{MACHINE, Place, words};

/// Two items with eight questions of all five broad categories.
pub const ITEMS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A photograph of a red kite over a house,,1,0,global,,global - (photograph),Is this a photograph?
kite,A photograph of a red kite over a house,,2,0,entity,whole,entity - whole (kite),Is there a kite?
kite,A photograph of a red kite over a house,,3,2,attribute,color,\"attribute - color (kite, red)\",Is the kite red?
kite,A photograph of a red kite over a house,,4,0,entity,whole,entity - whole (house),Is there a house?
kite,A photograph of a red kite over a house,,5,\"2,4\",relation,spatial,\"relation - spatial (kite, house, over)\",Is the kite over the house?
cat,Two small cats,,1,0,entity,whole,entity - whole (cats),Are there cats?
cat,Two small cats,,2,1,other,count,\"other - count (cats, ==2)\",Are there two cats?
cat,Two small cats,,3,1,attribute,size,\"attribute - size (cats, small)\",Are the cats small?
";
const IMPORT: &str =
    "import --images pictures --images-per-item 2 --benchmark items.csv --model painter";
const HASH: &str = "--judge scripted --judge-rule hash:0.7";
const YES: &str = "--judge scripted --judge-rule yes --judge-name yes";

/// A place with [`ITEMS`] in `items.csv` and two pictures of each in `pictures`.
pub fn with_pictures() -> Place {
    let place = Place::new();
    place.write("items.csv", ITEMS);
    for (shade, item) in (0..).zip(["kite", "cat"]) {
        for image in 0..2 {
            place.picture(&format!("pictures/{item}_{image}.png"), 8, 8, 40 * shade + image);
        }
    }
    place
}

/// The same with the run `run`, which the judges `scripted` and `yes` have answered about.
pub fn with_run() -> Place {
    let place = with_pictures();
    place.quietly(&format!("{IMPORT} --out run"));
    place.quietly(&format!("judge run {HASH}"));
    place.quietly(&format!("judge run {YES}"));
    place
}

/// A place with three runs over the 72 prompts of the demo: `good`, `near`, which is a little worse, and `bad`.
pub fn with_gate() -> Place {
    let place = Place::new();
    let questions = include_str!("../../benchmark/demo/dpg_bench.csv");
    let mut reader = csv::Reader::from_reader(questions.as_bytes());
    for row in reader.records() {
        place.picture(&format!("pictures/{}.png", &row.unwrap()[0]), 8, 8, 40);
    }
    for (run, rule) in [("good", "hash:0.9"), ("near", "hash:0.89"), ("bad", "hash:0.4")] {
        let import =
            "import --images pictures --images-per-item 1 --benchmark demo --model painter";
        place.quietly(&format!("{import} --out {run}"));
        place.quietly(&format!("judge {run} --judge scripted --judge-rule {rule}"));
    }
    place
}

#[test]
fn a_question_file() {
    let place = with_pictures();
    place.fixture("scoring/odd_questions.csv", "odd.csv");
    words!(
        "shown_validate",
        place,
        [
            "validate items.csv",
            "validate odd.csv",
            "validate odd.csv --lenient",
            "validate odd.csv --json",
            "validate --example",
        ]
    );
    words!(
        "shown_show",
        place,
        [
            "show kite --benchmark items.csv",
            "show kite --benchmark items.csv --dot",
            "show cat --benchmark items.csv --json",
            "show square_and_diamond",
        ]
    );
}

#[test]
fn what_there_is() {
    let place = Place::new();
    place.fixture("sd15-tiny", "sd15");
    words!("shown_list", place, ["list", "list --weights sd15"]);
    words!("shown_fetch", place, ["fetch --list", "fetch --offline sd15 mplug ella-sdxl"]);
    let script = &[("[THE SCRIPT]", r"(?s)_dpg__bench\(\) \{.*nosort[^\n]*")];
    words!("shown_completions", place, masks: script, ["completions bash"]);
    words!("shown_man", place, ["man list"]);
}

#[test]
fn pictures_made_elsewhere() {
    let place = with_pictures();
    place.picture("pictures/dog_0.png", 8, 8, 9);
    place.picture("part/kite_0.png", 8, 8, 9);
    place.picture("grids/kite.png", 16, 16, 9);
    place.picture("grids/cat.png", 16, 16, 9);
    words!(
        "shown_import",
        place,
        [
            format!("{IMPORT} --out run"),
            format!("{IMPORT} --out run"),
            format!("{IMPORT} --out json --json"),
            "import --images part --images-per-item 2 --benchmark items.csv",
            "import --images grids --benchmark items.csv",
            "import --images grids --benchmark items.csv --items kite --out one",
        ]
    );
}

#[test]
fn questions_put_to_a_judge() {
    let place = with_pictures();
    place.quietly(&format!("{IMPORT} --out run"));
    let rows = "kite,*,1,yes\nkite,*,2,no\nkite,*,3,perhaps\nkite,*,4,yes\nkite,*,5,yes\n";
    place.write("answers.csv", format!("item,image,question,answer\n{rows}"));
    words!(
        "shown_judge",
        place,
        [
            "watch run --once",
            format!("judge run {HASH}"),
            format!("judge run {HASH}"),
            "judge run --judge scripted --judge-answers answers.csv --judge-name told",
            "judge run --remove told",
            "judge run --judge scripted,endpoint --judge-rule yes --judge-url http://127.0.0.1:1 --judge-model m --judge-max-failures 2 --judge-concurrency 1 --judge-retries 0 --judge-name a,b",
            "watch run --once",
        ]
    );
}

#[test]
fn figures() {
    let place = with_run();
    words!(
        "shown_score",
        place,
        ["score run --judge scripted", "score run --judge yes,scripted --protocol reference",]
    );
    words!("shown_watch", place, ["watch run"]);
    let control = format!("control run {HASH}");
    let list = "run/controls/scripted-always-yes.csv";
    let dropping = format!("score run --judge scripted --drop-questions {list}");
    words!(
        "shown_control",
        place,
        [
            format!("{control} --kinds swapped"),
            control,
            "score run --judge scripted".to_owned(),
            format!("{dropping} --protocol corrected"),
        ]
    );
    words!(
        "shown_agreement",
        place,
        ["agreement run", "agreement run --judges yes,scripted --worst 1"]
    );
    words!("shown_audit", place, masks: &[("[SIZE]", r"\d+\.\d+ MB\b")], [
        "audit run --judge yes --labels-wanted 8",
        "audit run --judge yes --labels-wanted 8",
        "audit run --judge scripted --labels-wanted 12 --unit images --name whole",
        "audit run --judge scripted --labels-wanted 5 --seed 1 --name third --json",
    ]);
    words!("shown_report", place, masks: &[("[SIZE]", r"\d+\.\d+ MB\b")], [
        "report run --judge yes --out report",
        "report run --judge scripted --out report",
        "report run run --judge scripted --out both --inline",
    ]);
}

#[test]
fn probabilities() {
    let place = with_pictures();
    let numbers = |first: f64, others: f64| {
        let mut text = "item,image,question,answer,yes_probability\n".to_owned();
        for (item, questions) in [("kite", 5), ("cat", 3)] {
            for image in 0..2 {
                for question in 1..=questions {
                    let p = if question == 1 + image { first } else { others };
                    let answer = if p < 0.5 { "no" } else { "yes" };
                    text += &format!("{item},{image},{question},{answer},{p}\n");
                }
            }
        }
        text
    };
    for (run, first, others) in [("run", 0.4, 0.9), ("other", 0.6, 0.95)] {
        place.quietly(&format!("{IMPORT} --out {run}"));
        let answers = numbers(first, others);
        // One answer states none.
        place.write("answers.csv", answers.replacen("yes,0.9\n", "yes,\n", 1));
        place.quietly(&format!("judge {run} --judge scripted --judge-answers answers.csv"));
    }
    words!(
        "shown_soft",
        place,
        [
            "score run",
            "score run --protocol soft --wide",
            "score run --protocol soft_tifa_gm",
            "score run --table paper --protocol soft --intervals",
            "baseline run --protocol soft --out soft.json",
            "compare run other --allow judge",
        ]
    );
}

#[test]
fn runs_compared() {
    let place = with_run();
    words!(
        "shown_compare",
        place,
        [
            "baseline run --judge yes --out baseline.json",
            "compare baseline.json run --judge scripted --allow judge",
            "history run run --judge yes --steps 2000,1000 --out history",
            "export run --judge yes --to tensorboard --step 2000 --out logs",
            "export run --judge yes --to model-index --dataset me/dpg-bench",
            "compare run run --judge yes --out compared",
            "compare run --judge yes --published --allow benchmark",
        ]
    );
    let stamp = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(-00-00_dpg-bench_[0-9a-f]{22})?\b";
    words!("shown_export_logs", place, masks: &[("[STAMP]", stamp)], [
        "export run --judge yes --to inspect --out logs",
        "export run --judge yes --to lm-eval --out logs",
    ]);
    let place = with_gate();
    words!(
        "shown_check",
        place,
        [
            "baseline good --out baseline.json",
            "check good --baseline baseline.json",
            "check bad --baseline good --allow judge --category entity --category 'attribute - color'",
            "check near --baseline good --allow judge",
            "check near --baseline good --allow judge --undecided-passes",
            "check bad --baseline baseline.json --allow judge --github",
        ]
    );
}

#[test]
fn a_log_and_a_table_of_others() {
    let place = Place::new();
    for file in ["odd_detail.txt", "odd_results.txt", "odd_questions.csv"] {
        place.fixture(&format!("scoring/{file}"), file);
    }
    let results = std::fs::read_to_string(place.path("odd_results.txt")).unwrap();
    place.write("other_results.txt", results.replacen("0.9375", "0.5", 1));
    let log = "import-log odd_detail.txt --benchmark odd_questions.csv --lenient";
    words!(
        "shown_import_log",
        place,
        [
            format!("{log} --results odd_results.txt --out log"),
            format!("{log} --results other_results.txt --out log"),
            format!("{log} --out log --json"),
            "watch log --once",
        ]
    );
    place.write(
        "table.md",
        "| | Global | Entity | Attribute |\n|---|---|---|---|\n| A | 80.24 | 88.10 | x |\n",
    );
    place.write("scores.txt", "Global 80.26 Other 73.91\n");
    place.write("means.txt", "Overall 80.26\n");
    words!(
        "shown_forensics",
        place,
        [
            "forensics table.md",
            "forensics - < scores.txt",
            "forensics scores.txt --json",
            "forensics means.txt",
        ]
    );
}

#[test]
fn the_demos_models() {
    let place = Place::new();
    let short = "--limit 1 --images 1 --steps 1 --device cpu --benchmark demo";
    words!(
        "shown_run",
        place,
        [
            format!("run --model demo-sd {short} --judge scripted --judge-rule yes --out run"),
            format!(
                "run --model demo-sd {short} --judge scripted --judge-rule yes --out run --protocol corrected --live \
                 --judge-while-generating off"
            ),
            format!(
                "run --model demo-sd {short} --judge demo-judge --out dealt --shard 0/1 --json"
            ),
        ]
    );
    words!(
        "shown_generate",
        place,
        [
            format!("generate --model demo-ella {short} --dry-run"),
            format!("generate --model demo-ella {short} --out made"),
            format!("generate --model demo-ella {short} --out listed --json"),
            format!("generate --model demo-sd {short} --preset paper --dry-run"),
        ]
    );
    // Its figures are those of pictures, which round otherwise on other processors.
    let tables = &[
        ("--- stdout\n[TABLES]\n--- stderr", r"(?s)--- stdout\n.*--- stderr"),
        ("[SIZE]", r"\d+\.\d+ MB\b"),
    ];
    words!("shown_demo", place, masks: tables, ["demo --out demo --subset 1 --images 1 --steps 1"]);
}

#[test]
fn shards_joined() {
    let place = Place::new();
    let short = "--model demo-sd --limit 3 --images 1 --steps 1 --device cpu --benchmark demo";
    let half = format!("generate {short} --out run");
    words!(
        "shown_merge",
        place,
        [
            format!("{half} --shard 0/2"),
            "merge run",
            format!("SLURM_ARRAY_TASK_ID=1 DPG_BENCH_SHARDS=2 {half}"),
            format!("RANK=3 WORLD_SIZE=4 generate {short} --out small"),
            format!("RANK=0 WORLD_SIZE=1 {half} --shard 1/2"),
            "merge run --remove-shards",
            "merge run",
            "merge run --json",
            format!("{half} --shard 3/4"),
        ]
    );
}

#[test]
fn the_machine() {
    let place = Place::new();
    place.write("items.csv", ITEMS);
    let here = "--device cpu --judge-device cpu --benchmark items.csv";
    let demo = "--device cpu --judge-device cpu --benchmark demo --limit 2";
    words!("shown_doctor", place, masks: MACHINE, [
        format!("doctor {demo} --model demo-sd --images 1 --steps 1"),
        format!("doctor {here} --model demo-sd --images 1 --steps 1 --quick"),
        format!("doctor {here} --model sd15 --judge mplug --quick"),
        "doctor --device cpu --model sd15 --weights nowhere --benchmark nowhere.csv --quick",
    ]);
    let tiny = "measure --tiny --device cpu --repeats 1 --batch 1";
    words!("shown_measure", place, masks: MACHINE, [
        format!("{tiny} --part parity,product,judge --network vae --out measured.json"),
        format!("{tiny} --part images --model sd15"),
        "doctor --device cpu --model demo-sd --measured measured.json",
    ]);
}

#[test]
fn weights_rewritten() {
    let place = Place::new();
    place.fixture("mplug-tiny/base", "mplug");
    words!(
        "shown_convert",
        place,
        ["convert mplug --out converted", "convert mplug --out converted"]
    );
}
