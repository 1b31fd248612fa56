//! Connectors beside ELLA's own, against torch (fixtures/connectors-golden, made by make_connectors.py), and pictures
//! made with them and with decoder-only language models as text encoders, against diffusers and transformers.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::ella::{
    Ella, EllaBase, EllaFiles, EllaOptions, EllaReading, EllaTokens,
};
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::models::TextConnector;
use dpg_bench::stage_observer::Silent;
use serde::Deserialize;

use crate::tiny_checkpoint::{
    F32, Tensors, compare, configure, copy_of, edit, fixture, read, sha256,
};
use crate::tiny_parts::{TOLERANCE, apart};

const ABLATION: [&str; 5] =
    ["resampler", "resampler-1", "latents-feel-time", "adaln", "adaln-zero"];

fn golden(name: &str) -> Tensors {
    read(&fixture(&format!("connectors-golden/{name}.safetensors")))
}

fn file(name: &str) -> std::path::PathBuf {
    fixture(&format!("connectors-tiny/{name}.safetensors"))
}

fn load(path: &Path) -> TextConnector {
    TextConnector::load(path, DType::F32, &Device::Cpu).unwrap()
}

fn connect(connector: &TextConnector, text: &Tensor, timestep: f64) -> Tensor {
    connector.forward(&connector.project(text).unwrap(), timestep).unwrap()
}

#[test]
fn connectors_of_the_ablation_equal_torch() {
    let golden = golden("connectors");
    for name in ABLATION.into_iter().chain(["mlp"]) {
        let connector = load(&file(name));
        assert_eq!((connector.input_width(), connector.output_width()), (32, 24), "{name}");
        let kind = match name {
            "resampler-1" | "latents-feel-time" => "resampler",
            "adaln" => "tsc",
            name => name,
        };
        assert_eq!(connector.kind(), kind);
        let feels = !matches!(name, "resampler" | "resampler-1" | "mlp");
        assert_eq!(connector.feels_time(), feels, "{name}");
        for timestep in [999.0, 20.0] {
            let ours = connect(&connector, &golden["text"], timestep);
            let expected = &golden[&format!("{name}.at_{timestep}")];
            compare(&format!("{name} at {timestep}"), &ours, expected, F32).unwrap();
            let late = connect(&connector, &golden["text"], timestep - 1.0);
            assert_eq!(compare("a step off", &late, expected, F32).is_err(), feels, "{name}");
        }
        let ours = connect(&connector, &golden["text"], 999.0);
        let wrong = format!("wrong.{name}.");
        for wrong in golden.keys().filter(|key| key.starts_with(&wrong)) {
            compare(wrong, &ours, &golden[wrong], F32).unwrap_err();
        }
    }
}

#[test]
fn the_adapter_to_sdxl_equals_torch() {
    let golden = golden("connectors");
    let adapter = load(&file("adapter"));
    assert_eq!((adapter.input_width(), adapter.output_width()), (24, 32));
    assert_eq!(
        (adapter.most_tokens(), adapter.pools(), adapter.kind()),
        (Some(40), true, "llm-to-sdxl")
    );
    assert!(!adapter.feels_time());
    // Shorter than what it takes, as long, and longer.
    for count in [1, 17, 40, 45] {
        let part = |part: &str| &golden[&format!("adapter.{count}.{part}")];
        let connected = adapter.project(part("text")).unwrap();
        let tokens = adapter.forward(&connected, 5.0).unwrap();
        compare(&format!("adapter {count} tokens"), &tokens, part("tokens"), F32).unwrap();
        let pooled = connected.pooled().unwrap();
        compare(&format!("adapter {count} pooled"), pooled, part("pooled"), F32).unwrap();
        if count == 17 {
            for wrong in ["no_gate", "seen_padding"] {
                let wrong = &golden[&format!("wrong.adapter.{wrong}")];
                compare("adapter sabotage", &tokens, wrong, F32).unwrap_err();
            }
            let other = &golden["adapter.40.pooled"];
            compare("adapter, another text", pooled, other, F32).unwrap_err();
        }
    }
}

#[test]
fn tensors_that_have_no_place_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("connector.safetensors");
    let refusal = |name: &str, change: &dyn Fn(&mut Tensors)| {
        let mut tensors = read(&file(name));
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        TextConnector::load(&path, DType::F32, &Device::Cpu).expect_err(name).to_string()
    };
    let block = "connector.perceiver_blocks.0";
    for (name, unknown) in [
        ("resampler", format!("{block}.gate_linear.bias")),
        ("resampler", format!("{block}.ln_1.linear.weight")),
        ("adaln", format!("{block}.ln_2.weight")),
        ("adaln-zero", format!("{block}.gate_linear.shift")),
        ("mlp", "connector.mlp.1.weight".to_owned()),
        ("mlp", "connector.mlp.4.bias".to_owned()),
        ("mlp", "connector.latents".to_owned()),
        ("adapter", "compression_q_proj.weight".to_owned()),
        ("adapter", "wide_attention_blocks.2.norm1.weight".to_owned()),
        ("adapter", "narrow_attention_blocks.0.attn.q_proj.weight".to_owned()),
        ("adapter", "pooled_projection.3.weight".to_owned()),
    ] {
        let message = refusal(name, &|tensors| {
            let more = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            tensors.insert(unknown.clone(), more);
        });
        assert!(message.contains(&unknown) && message.contains("no place"), "{name}: {message}");
    }
    for (name, missing) in [
        ("resampler", format!("{block}.ln_2.bias")),
        ("adaln-zero", "connector.perceiver_blocks.1.gate_linear.weight".to_owned()),
        ("adaln-zero", "time_embedding.linear_1.weight".to_owned()),
        ("mlp", "connector.mlp.2.bias".to_owned()),
        ("adapter", "pooling_token".to_owned()),
        ("adapter", "input_position_embeddings".to_owned()),
        ("adapter", "compression_attention.in_proj_bias".to_owned()),
    ] {
        let message = refusal(name, &|tensors| drop(tensors.remove(&missing).unwrap()));
        assert!(message.contains(&missing), "{name}: {message}");
    }
    // Another number of heads would be silent: the width alone can tell.
    let message = refusal("adapter", &|tensors| {
        let odd = Tensor::zeros((1, 9, 40), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("compression_queries".to_owned(), odd);
    });
    assert!(message.contains("multiple of 16"), "{message}");
}

#[derive(Debug, Clone, Deserialize)]
struct Case {
    model: String,
    text_encoder: String,
    connector: String,
    tokens: EllaTokens,
    template: Option<String>,
    skip: usize,
    prompt: String,
    negative_prompt: Option<String>,
    seed: u64,
    steps: usize,
    guidance: f64,
    width: usize,
    height: usize,
}

/// sdxl-tiny with a context as wide as the adapter's tokens.
fn wider_sdxl() -> tempfile::TempDir {
    let folder = copy_of("sdxl-tiny");
    let more = read(&file("unet-32"));
    edit(&folder.path().join("unet/diffusion_pytorch_model.safetensors"), |tensors| {
        tensors.extend(more.clone());
    });
    let wide = serde_json::json!({"cross_attention_dim": 32});
    configure(&folder.path().join("unet/config.json"), &wide);
    folder
}

impl Case {
    fn base(&self) -> EllaBase {
        if self.model == "ella-sd15" { EllaBase::Sd15 } else { EllaBase::Sdxl }
    }

    fn load(&self, sdxl: &Path, low_memory: bool) -> anyhow::Result<Ella> {
        let scheduler = match self.base() {
            EllaBase::Sd15 => SchedulerClass::DpmSolverMultistep,
            EllaBase::Sdxl => SchedulerClass::EulerDiscrete,
        };
        let pictures = DiffusionOptions {
            steps: self.steps,
            guidance: self.guidance,
            width: Some(self.width),
            height: Some(self.height),
            scheduler: Some(scheduler),
            negative_prompt: self.negative_prompt.clone(),
            ..Default::default()
        };
        let reading = EllaReading {
            // What an adapter was made for, and the connectors' own, need not be said.
            tokens: match (self.base(), self.tokens) {
                (EllaBase::Sdxl, EllaTokens::Flexible) | (EllaBase::Sd15, EllaTokens::Fixed) => {
                    None
                }
                (_, tokens) => Some(tokens),
            },
            template: self.template.clone(),
            skip: self.skip,
        };
        let files = EllaFiles {
            checkpoint: match self.base() {
                EllaBase::Sd15 => fixture("sd15-tiny"),
                EllaBase::Sdxl => sdxl.to_path_buf(),
            },
            connector: file(&self.connector),
            text_encoder: fixture(&format!("decoders-tiny/{}", self.text_encoder)),
        };
        let options = EllaOptions { reading, low_memory, pictures };
        Ella::load(self.base(), files, DType::F32, &Device::Cpu, options)
    }

    fn picture(&self, sdxl: &Path) -> Tensor {
        self.load(sdxl, false).unwrap().pictures(&self.prompt, &[self.seed]).unwrap().0
    }
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read(fixture("connectors-golden/pictures.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn pictures_with_decoders_and_connectors_equal_torch() {
    let (golden, sdxl) = (golden("pictures"), wider_sdxl());
    for (name, case) in cases() {
        let ours = case.picture(sdxl.path());
        let error = apart(&ours, &golden[&name]);
        eprintln!("{name}: largest error {error:.2e} in 0..=1");
        assert!(error <= TOLERANCE, "{name}: {error:e}");
        for wrong in golden.keys().filter(|key| key.starts_with(&format!("wrong.{name}."))) {
            let error = apart(&ours, &golden[wrong]);
            assert!(error > 1000.0 * TOLERANCE, "{wrong}: {error:e}");
        }
        // With little memory and among other prompts, the same bits.
        let mut frugal = case.load(sdxl.path(), true).unwrap();
        frugal.prepare(&["a boat", &case.prompt], &Silent).unwrap();
        frugal.pictures("a boat", &[5]).unwrap();
        let (again, ..) = frugal.pictures(&case.prompt, &[case.seed]).unwrap();
        assert_eq!(apart(&ours, &again), 0.0, "{name}");
    }
}

#[test]
fn runs_record_text_encoder_template_and_connector() {
    let (cases, sdxl) = (cases(), wider_sdxl());
    let settings = |name: &str| cases[name].load(sdxl.path(), false).unwrap().settings();
    let gemma = settings("gemma3_adapter");
    assert_eq!(gemma["pooled_text"], "connector");
    assert_eq!(gemma["connector"], "llm-to-sdxl");
    assert_eq!(gemma["ella_tokens"], "flexible");
    let told = &gemma["text_encoder"];
    assert_eq!((&told["kind"], &told["layer"]), (&"gemma3_text".into(), &"last".into()));
    assert_eq!((&told["padding_side"], &told["dtype"]), (&"left".into(), &"f32".into()));
    assert_eq!(told["skipped_tokens"], 9);
    assert!(told["template"].as_str().unwrap().contains("{prompt}"));
    // CLIP is not read, and not needed.
    for part in ["text_encoder", "text_encoder_2", "t5"] {
        assert!(gemma["weights"].get(part).is_none(), "{part}");
    }
    for part in ["llm", "llm_configuration", "ella", "unet"] {
        assert_eq!(gemma["weights"][part].as_str().unwrap().len(), 64, "{part}");
    }
    // No negative prompt is the empty text, pooled vector included.
    let case = Case { negative_prompt: None, ..cases["gemma3_adapter"].clone() };
    assert_eq!(case.load(sdxl.path(), false).unwrap().settings(), gemma);
    let other = Case { skip: 8, ..cases["gemma3_adapter"].clone() };
    assert_ne!(other.load(sdxl.path(), false).unwrap().settings(), gemma);
    let llama = settings("llama_adaln_zero");
    assert_eq!(
        (&llama["connector"], &llama["ella_tokens"]),
        (&"adaln-zero".into(), &"fixed".into())
    );
    assert!(llama["text_encoder"]["template"].is_null());

    let mut long = cases["gemma3_adapter_long"].load(sdxl.path(), false).unwrap();
    let image = &long.generate(&cases["gemma3_adapter_long"].prompt, &[1]).unwrap()[0];
    assert!(image.truncated.unwrap() && image.prompt_tokens.unwrap() > 40);
}

#[test]
fn what_does_not_go_together_is_refused_in_a_sentence() {
    let (cases, sdxl) = (cases(), wider_sdxl());
    let refusal = |name: &str, change: &dyn Fn(&mut Case)| {
        let mut case = cases[name].clone();
        change(&mut case);
        let loaded = case.load(sdxl.path(), false);
        let painted = loaded.and_then(|mut ella| ella.pictures(&case.prompt, &[1]).map(drop));
        format!("{:#}", painted.err().unwrap_or_else(|| panic!("{name} was taken")))
    };
    let llama = "llama_adaln_zero_flexible";
    for (name, change, words) in [
        (
            "gemma3_adapter",
            &|case: &mut Case| case.tokens = EllaTokens::Fixed,
            "this adapter hides it",
        ),
        (llama, &|case| case.template = Some("draw it".to_owned()), "must hold {prompt} once"),
        (
            llama,
            &|case| case.template = Some("{prompt} {prompt}".to_owned()),
            "must hold {prompt} once",
        ),
        (llama, &|case| case.skip = 5000, "--text-skip 5000 leaves nothing"),
        ("llama_mlp", &|case| case.skip = 1, "--text-skip goes with"),
        (llama, &|case| case.text_encoder = "qwen3".to_owned(), "24 wide"),
        (
            "qwen3_adapter",
            &|case| {
                (case.template, case.negative_prompt) = (None, Some(String::new()));
            },
            "makes no token",
        ),
        ("llama_mlp", &|case| case.text_encoder = "llama3".to_owned(), "24 wide"),
    ] as [(&str, &dyn Fn(&mut Case), &str); 8]
    {
        let message = refusal(name, change);
        assert!(message.contains(words), "{message}");
    }

    // Text encoders of other kinds, and padding that a connector should not see.
    let load = |kind: &str,
                changes: serde_json::Value,
                tokens: EllaTokens,
                template: Option<&str>| {
        let folder = copy_of(kind);
        configure(&folder.path().join("config.json"), &changes);
        let files = EllaFiles {
            checkpoint: fixture("sd15-tiny"),
            connector: file("adaln-zero"),
            text_encoder: folder.path().to_path_buf(),
        };
        let reading =
            EllaReading { tokens: Some(tokens), template: template.map(str::to_owned), skip: 0 };
        let pictures = DiffusionOptions { steps: 2, ..Default::default() };
        let options = EllaOptions { reading, low_memory: false, pictures };
        let loaded = Ella::load(EllaBase::Sd15, files, DType::F32, &Device::Cpu, options);
        format!("{:#}", loaded.err().unwrap())
    };
    let none = serde_json::json!({});
    let other = serde_json::json!({"model_type": "t5gemma"});
    let message = load("decoders-tiny/llama", other, EllaTokens::Fixed, None);
    assert!(message.contains("t5gemma") && message.contains("gemma3_text"), "{message}");
    let message = load("decoders-tiny/gemma3", none.clone(), EllaTokens::Fixed, None);
    assert!(message.contains("pads at the left"), "{message}");
    let message = load("decoders-tiny/llama3", none.clone(), EllaTokens::Fixed, None);
    assert!(message.contains("24 wide") || message.contains("no padding token"), "{message}");
    let message = load("ella-tiny/text_encoder", none, EllaTokens::Fixed, Some("{prompt}"));
    assert!(message.contains("--text-template is for decoder-only"), "{message}");
}

#[test]
fn the_fixtures_are_those_of_their_provenance() {
    let text = std::fs::read(fixture("connectors-golden/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let files = provenance["sha256"].as_object().unwrap();
    assert!(files.len() >= 11, "{}", files.len());
    for (file, digest) in files {
        assert_eq!(sha256(&fixture(file)), digest.as_str().unwrap(), "{file}");
    }
}

/// The flags and a model file's keys make the same images, and a run is resumed with the same words alone.
#[test]
fn the_command_tells_the_language_model_what_the_template_says() {
    let folder = tempfile::tempdir().unwrap();
    let questions = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
cat,A small cat on a wooden chair,,1,0,entity,whole,entity - whole (cat),Is there a cat?
";
    std::fs::write(folder.path().join("items.csv"), questions).unwrap();
    let (connector, encoder) = (file("adaln-zero"), fixture("decoders-tiny/llama"));
    let (connector, encoder) = (connector.to_str().unwrap(), encoder.to_str().unwrap());
    let checkpoint = fixture("sd15-tiny");
    let template = "<s>Draw: {prompt}";
    let model_file = format!(
        "name = 'other'\nmodel = 'ella-sd15'\ncheckpoint = '{}'\nella = '{connector}'\n\
         text_encoder = '{encoder}'\nella_tokens = 'flexible'\ntext_template = '{template}'\ntext_skip = 3\n",
        checkpoint.display()
    );
    std::fs::write(folder.path().join("other.toml"), model_file).unwrap();
    let generate = |out: &str, flags: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.args(["generate", "--device", "cpu", "--images", "1", "--steps", "2"]);
        command.args(["--width", "48", "--height", "32", "--benchmark", "items.csv", "--out", out]);
        let output = command.args(flags).current_dir(folder.path()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let parts =
        ["--weights", checkpoint.to_str().unwrap(), "--model", "ella-sd15", "--ella", connector];
    let reader = ["--text-encoder", encoder, "--ella-tokens", "flexible", "--text-skip", "3"];
    let told = |template| [&parts[..], &reader, &["--text-template", template]].concat();
    let image =
        |out: &str| std::fs::read(folder.path().join(out).join("images/cat/0.png")).unwrap();
    let pixels = |out: &str| image::load_from_memory(&image(out)).unwrap().into_rgb8();

    let (code, said) = generate("flags", &told(template));
    assert!(code == 0 && said.contains("transformers 5 rebuilds LLaMA's"), "{said}");
    let (code, said) = generate("keys", &["--model-file", "other.toml"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(pixels("flags"), pixels("keys"));
    let (code, said) = generate("flags", &told("<s>Paint: {prompt}"));
    assert!(code == 2 && said.contains("text_encoder") && said.contains("Paint"), "{said}");
    let (code, said) = generate("others", &told("<s>Paint: {prompt}"));
    assert_eq!(code, 0, "{said}");
    assert_ne!(pixels("flags"), pixels("others"));
    let manifest = std::fs::read_to_string(folder.path().join("flags/manifest.json")).unwrap();
    for part in ["\"kind\": \"llama\"", "Draw: {prompt}", "\"skipped_tokens\": 3", "adaln-zero"] {
        assert!(manifest.contains(part), "{part}: {manifest}");
    }
    for (flags, word) in [
        (["--text-template", "{prompt}"], "--text-template is for models ella-sd15"),
        (["--text-skip", "1"], "--text-skip is for models ella-sd15"),
    ] {
        let plain = ["--weights", checkpoint.to_str().unwrap(), "--model", "sd15"];
        let (code, said) = generate("refused", &[&plain[..], &flags].concat());
        assert!(code == 2 && said.contains(word), "{said}");
    }
}
