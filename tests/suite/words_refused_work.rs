//! What the commands that load models and judges, share work or fetch refuse, word by word: each sentence with its exit code.

use dpg_bench::results::RunLock;

use super::words::{Place, words};
use super::words_shown::with_run;

#[test]
fn judges() {
    let place = with_run();
    let scripted = "judge run --judge scripted";
    let endpoint = "judge run --judge endpoint";
    let server = format!("{endpoint} --judge-model m --judge-url http://127.0.0.1:1");
    words!(
        "refused_judge",
        place,
        [
            "judge run",
            "judge run --judge nobody",
            "judge run --judge MPLUG2",
            scripted,
            format!("{scripted} --judge-rule yes --judge-answers a.csv"),
            format!("{scripted} --judge-answers nowhere.csv"),
            format!("{scripted} --judge-rule yes --judge-url http://x"),
            "judge run --judge scripted,scripted --judge-rule yes",
            "judge run --judge scripted,endpoint --judge-name a",
            "judge run --judge scripted,endpoint --judge-name a,a",
            "judge run --judge scripted,endpoint --judge-device cpu",
        ]
    );
    words!(
        "refused_judge_endpoint",
        place,
        [
            endpoint,
            format!("{endpoint} --judge-url http://x"),
            format!("{endpoint} --judge-model m --judge-url x"),
            format!("{server} --judge-key-env NO_SUCH_KEY"),
            format!("KEY='a b' {server} --judge-key-env KEY"),
            format!("{server} --judge-timeout=-1"),
            format!("{server} --judge-prompt 'Is it so?'"),
            format!("{server} --judge-retries 0 --judge-max-failures 1 --judge-concurrency 1"),
        ]
    );
    // An image of a prompt of the demo, in another size than the demo's.
    place.picture("shapes/square_and_diamond.png", 8, 8, 40);
    place.quietly(
        "import --images shapes --images-per-item 1 --benchmark demo --items square_and_diamond --out shapes_run",
    );
    let small = "run --model demo-sd --device cpu --limit 1 --images 1 --steps 1";
    words!(
        "refused_demo_judge",
        place,
        [
            "judge run --judge demo-judge",
            "judge run --judge scripted,demo-judge --judge-rule no --judge-name no,demo",
            "judge shapes_run --judge demo-judge",
            "judge run --judge scripted --judge-rule yes --judge-force",
            format!("{small} --benchmark items.csv"),
            format!("{small} --benchmark demo --width 128 --height 128"),
            format!("{small} --benchmark demo --width 128"),
        ]
    );
    place.quietly("judge shapes_run --judge demo-judge --force");
    words!(
        "refused_judge_weights",
        place,
        [
            "judge run --judge mplug",
            "judge run --judge mplug --judge-weights nowhere",
            "judge run --judge blip-vqa",
            "judge run --judge blip-vqa --judge-weights nowhere",
            "judge run --judge qwen3-vl",
            "judge run --judge qwen3-vl --judge-weights nowhere",
            "judge run --judge qwen3-vl --judge-weights pictures",
            "judge run --judge demo-judge --judge-weights x",
            "judge run --judge demo-judge --judge-revision x",
            "judge run --judge demo-judge,mplug --judge-weights demo-judge=x",
            "judge run --judge mplug,blip-vqa --judge-weights x",
            "judge run --judge mplug,blip-vqa --judge-revision x",
            "judge run --judge mplug --judge-weights x --judge-weights y",
            "judge run --judge demo-judge --judge-dtype int8",
            "judge run --judge demo-judge --judge-device tpu",
            "judge run --judge demo-judge,scripted --judge-rule yes --judge-device tpu",
            "TMPDIR=nowhere judge run --judge demo-judge --force",
        ]
    );
}

#[test]
fn controls() {
    let place = with_run();
    let own = "--judge scripted --judge-rule hash:0.7";
    let import = "import --images pictures --images-per-item 2 --benchmark items.csv --items kite";
    place.quietly(&format!("{import} --out one"));
    place.quietly(&format!("judge one {own}"));
    place.quietly(&format!("{import} --out two"));
    place.quietly(&format!("judge two {own} --shard 0/2"));
    words!(
        "refused_control",
        place,
        [
            format!("control nowhere {own}"),
            "control run",
            format!("control run {own} --kinds blue"),
            format!("control run {own} --kinds swapped,true"),
            format!("control run {own} --judge-name other"),
            "control run --judge scripted --judge-rule yes",
            "control run --judge scripted,demo-judge --judge-rule hash:0.7 --judge-name yes,scripted",
            format!("control one {own}"),
            format!("control two/shards/0-of-2 {own}"),
        ]
    );
    place.quietly(&format!("control one {own} --kinds grey"));
    place.quietly(&format!("control run {own} --kinds swapped"));
    words!("refused_control_again", place, [format!("control run {own} --seed 1")]);
    place.replace("run/controls/swapped/images.jsonl", "\"width\":8", "\"width\":9");
    words!("refused_control_images", place, [format!("control run {own}")]);
}

#[test]
fn dropped_questions() {
    let place = with_run();
    place.write("binary.csv", b"item,\xff\n");
    place.write("row.csv", b"item,question\nkite,1\nkite,\xff\n");
    place.write("columns.csv", "item,number\nkite,1\n");
    place.write("item.csv", "item,question\nkite,1\nkyte,2\n");
    place.write("number.csv", "item,question\nkite,7\n");
    place.write("word.csv", "item,question,text\nkite,first,Is this a photograph?\n");
    place.write("twice.csv", "item,question\nkite,1\ncat,1\nkite,1\n");
    place.write("good.csv", "item,question\nkite,1\n");
    let score = "score run --judge yes --drop-questions";
    words!(
        "refused_drop_questions",
        place,
        [
            format!("{score} nowhere.csv"),
            format!("{score} binary.csv"),
            format!("{score} row.csv"),
            format!("{score} columns.csv"),
            format!("{score} item.csv"),
            format!("{score} number.csv"),
            format!("{score} word.csv"),
            format!("{score} twice.csv"),
        ]
    );
    place.quietly("baseline run --judge yes --out all.json");
    words!(
        "refused_dropped_beside_all",
        place,
        ["compare all.json run --judge yes --drop-questions good.csv"]
    );
}

#[test]
fn models() {
    let place = Place::new();
    place.fixture("sd15-tiny", "sd15");
    // As wide as the published ones, so that the releases can be told apart.
    for (folder, width) in [("wide1", "768"), ("wide2", "1024")] {
        place.fixture("sd15-tiny", folder);
        let of_width = |width: &str| format!("\"cross_attention_dim\": {width}");
        place.replace(&format!("{folder}/unet/config.json"), &of_width("24"), &of_width(width));
    }
    place.fixture("sdxl-tiny", "edm");
    let (own, other) = ("EulerDiscreteScheduler", "EDMDPMSolverMultistepScheduler");
    place.replace("edm/model_index.json", own, other);
    place.fixture("sdxl-tiny", "ancestral");
    place.replace("ancestral/model_index.json", own, "EulerAncestralDiscreteScheduler");
    let demo = "generate --limit 1 --device cpu --benchmark demo";
    let tiny = format!("{demo} --model sd15 --weights sd15");
    place.write("capital.toml", "name = \"x\"\nmodel = \"SD15\"\ncheckpoint = \"sd15\"\n");
    place.write("unknown.toml", "model = \"sd15\"\ncheckpoint = \"sd15\"\nsteppes = 5\n");
    words!(
        "refused_model",
        place,
        [
            format!("{demo} --model sd16"),
            format!("{demo} --model SD15"),
            format!("{demo} --model kandinsky"),
            format!("{demo} --model flux --weights sd15"),
            format!("{demo} --model-file capital.toml"),
            format!("{demo} --model sd15"),
            format!("{demo} --model sd15 --weights nowhere"),
            format!("{demo} --model sd15 --weights home"),
            format!("{demo} --model-file nowhere.toml"),
            format!("{demo} --model-file unknown.toml"),
            format!("{demo} --model demo-sd --weights x"),
            format!("{demo} --model demo-ella --ella x"),
            format!("{demo} --model demo-ella --text-encoder x"),
            format!("{demo} --model demo-sd --base home"),
            format!("TMPDIR=nowhere {demo} --model demo-sd"),
            format!("{demo} --model sd15 --weights wide2"),
            format!("{demo} --model sd2 --weights wide1"),
            format!("{demo} --model lcm --weights sd15"),
            format!("{demo} --model playground-v2 --weights edm"),
            format!("{demo} --model pixart-alpha --weights sd15"),
            format!("{demo} --model auto"),
            format!("{demo} --model auto --weights home"),
            format!("{demo} --model auto --weights ancestral"),
            format!("{demo} --model ella-sd15 --weights sd15"),
            format!("{demo} --model ella-sd15 --weights sd15 --ella x.safetensors"),
            format!("{demo} --model ella-sdxl --weights sd15"),
            format!("{demo} --model ella-sd15 --weights sd15 --tokenizer home"),
            format!("{tiny} --ella x.safetensors"),
            format!("{tiny} --text-encoder x"),
            format!("{tiny} --ella-tokens fixed"),
            format!("{tiny} --low-memory"),
            format!("{tiny} --preset fast"),
            format!("{tiny} --preset papr"),
            format!("{tiny} --scheduler heun"),
            format!("{tiny} --scheduler eulr"),
            format!("{tiny} --scheduler lcm --steps 51"),
            format!("{tiny} --scheduler lcm --spacing trailing --steps 4"),
            format!("{tiny} --true-cfg 2"),
            format!("{tiny} --steps 0"),
            format!("{tiny} --width 100"),
            format!("{tiny} --dtype int8"),
            "generate --model demo-sd --device tpu",
            "generate --model demo-sd --device CUDA0",
            "generate --model demo-sd --dtype f61",
            format!("{tiny} --lora nowhere.safetensors"),
            format!("{tiny} --embedding nowhere.safetensors"),
            format!("{tiny} --rng gpu"),
            "run --limit 1 --device cpu --benchmark demo --model sd15 --weights sd15",
        ]
    );
    // What a build for GPUs says depends on the machine.
    if !cfg!(feature = "cuda") {
        words!(
            "refused_device",
            place,
            ["generate --model demo-sd --device cuda", "measure --device cuda:1"]
        );
    }
}

#[test]
fn shards() {
    let place = with_run();
    let judge = "judge run --judge scripted --judge-rule no --judge-name no";
    let array = "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=1";
    words!(
        "refused_shard",
        place,
        [
            format!("RANK=two {judge}"),
            format!("RANK=4 WORLD_SIZE=4 {judge}"),
            format!("RANK=0 WORLD_SIZE=0 {judge}"),
            format!("RANK=0 WORLD_SIZE=2 JOB_COMPLETION_INDEX=1 DPG_BENCH_SHARDS=2 {judge}"),
            format!("DPG_BENCH_SHARDS=4 {judge}"),
            format!("JOB_COMPLETION_INDEX=1 {judge}"),
            format!("SLURM_ARRAY_TASK_ID=1 {judge}"),
            format!("{array} {judge}"),
            format!("{array} SLURM_ARRAY_TASK_MAX=7 {judge}"),
        ]
    );
    place.quietly(&format!("{judge} --shard 0/2"));
    let import =
        "import --images pictures --images-per-item 2 --benchmark items.csv --model painter";
    let score = "--judge yes --out report";
    words!(
        "refused_unmerged",
        place,
        [
            format!("{judge} --shard 0/3"),
            judge,
            "score run",
            "agreement run",
            format!("report run {score}"),
            format!("{import} --out run"),
            format!("{import} --out run/shards/0-of-2"),
            "judge run/shards/0-of-2 --judge scripted --judge-rule no --judge-name no --shard 0/2",
            "merge run --out run/shards/0-of-2",
            "merge run run",
            "merge nowhere",
        ]
    );
}

#[test]
fn a_run_that_cannot_grow() {
    let place = Place::new();
    place.fixture("sd15-tiny", "sd15");
    let of = |more: &str| {
        format!(
            "generate --model sd15 --weights sd15 --steps 1 --device cpu --benchmark demo --out run {more}"
        )
    };
    place.quietly(&of("--limit 2 --images 2"));
    words!(
        "refused_growth",
        place,
        [
            of("--limit 1 --images 2"),
            of("--limit 2 --images 1"),
            of("--limit 3 --images 2 --seed 5"),
            of("--limit 3 --images 2 --shard 0/2"),
        ]
    );
}

#[test]
fn products_of_another_machine() {
    let place = Place::new();
    let generate =
        "generate --model demo-sd --limit 1 --images 1 --steps 1 --device cpu --benchmark demo";
    for run in ["run", "plain"] {
        place.quietly(&format!("{generate} --out {run}"));
    }
    place.quietly("judge run --judge demo-judge --device cpu");
    let others = "\"products\": \"bf16\", \"products_run\": \"amx\",";
    for stage in
        ["\"generation\": {\n    \"settings\": {", "\"demo-judge\": {\n      \"settings\": {"]
    {
        place.replace("run/manifest.json", stage, &format!("{stage}{others}"));
    }
    words!(
        "refused_other_products",
        place,
        [
            format!("{generate} --out run"),
            "judge run --judge demo-judge --device cpu".to_owned(),
            "merge run plain --out both".to_owned(),
        ]
    );
}

#[test]
fn a_shard_of_a_shard() {
    let place = Place::new();
    let generate =
        "generate --model demo-sd --limit 2 --images 1 --steps 1 --device cpu --benchmark demo";
    place.quietly(&format!("{generate} --out run --shard 0/2"));
    let again = format!("{generate} --out run/shards/0-of-2 --shard 0/2");
    words!("refused_shard_of_shard", place, [again]);
}

#[test]
fn a_run_that_somebody_works_at() {
    let place = with_run();
    let lock = RunLock::take(&place.path("run"), "judge").unwrap();
    let judge = "judge run --judge scripted --judge-rule no --judge-name no";
    words!("refused_lock", place, [judge, format!("{judge} --shard 0/2"), "merge run"]);
    drop(lock);
    place.quietly(&format!("{judge} --shard 0/2"));
    let _lock = RunLock::take(&place.path("run/shards/0-of-2"), "judge").unwrap();
    words!("refused_lock_of_shard", place, [judge, format!("{judge} --shard 0/3")]);
}

#[test]
fn what_cannot_be_fetched_or_measured() {
    let place = Place::new();
    place.fixture("mplug-judge", "bin");
    let nobody = "HF_ENDPOINT=http://127.0.0.1:1 MODELSCOPE_ENDPOINT=http://127.0.0.1:1";
    words!(
        "refused_fetch",
        place,
        [
            "fetch sd16",
            "fetch sd15 --from modelscope",
            "fetch mplug --from github",
            format!("{nobody} fetch sd15 --failures 1"),
            format!("{nobody} fetch mplug --failures 1"),
            "HF_ENDPOINT=x fetch sd15",
        ]
    );
    words!(
        "refused_convert",
        place,
        [
            "convert nowhere --out converted",
            "convert bin --out converted",
            "convert home --out converted",
        ]
    );
    let tiny = "measure --tiny --device cpu --repeats 1 --part product";
    place.quietly(&format!("{tiny} --out measured.json"));
    words!(
        "refused_measure",
        place,
        [
            format!("{tiny} --batch 0"),
            format!("{tiny} --latents 0"),
            format!("{tiny} --dtype int8"),
            format!("{tiny} --network nothing"),
            "measure --device tpu",
            "doctor --model demo-sd --measured nowhere.json",
            "doctor --model demo-sd --measured measured.json",
        ]
    );
}
