//! Words, adapters and vocabularies that ELLA does not read, and what the command says of those that do nothing.

use std::path::PathBuf;

use candle_core::{DType, Device};
use dpg_bench::checkpoint::assembled::CheckpointParts;
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::ella::EllaTokens;
use dpg_bench::generate::pipelines::ella::{Ella, EllaBase, EllaFiles, EllaOptions};
use dpg_bench::generate::pipelines::options::DiffusionOptions;

use crate::addon_forms::{embedding, form, lora};
use crate::tiny_checkpoint::{edit, fixture};

/// ELLA over a checkpoint that was put together.
fn ella(base: EllaBase, tokens: EllaTokens, parts: &CheckpointParts) -> anyhow::Result<Ella> {
    let assembled = parts.assemble()?;
    let connector = if base == EllaBase::Sd15 { "ella" } else { "ella-sdxl" };
    let files = EllaFiles {
        checkpoint: assembled.path().to_path_buf(),
        connector: fixture(&format!("ella-tiny/{connector}.safetensors")),
        text_encoder: fixture("ella-tiny/text_encoder"),
    };
    let pictures =
        DiffusionOptions { steps: 2, width: Some(32), height: Some(32), ..Default::default() };
    let options = EllaOptions { reading: tokens.into(), low_memory: false, pictures };
    Ella::load(base, files, DType::F32, &Device::Cpu, options)
}

#[test]
fn ella_refuses_what_it_does_not_read() {
    let modes = [EllaTokens::Fixed, EllaTokens::Flexible];
    let spelled = |path: PathBuf| path.to_str().unwrap().to_owned();
    let taught = embedding(&spelled(fixture("addons/kite.safetensors")));
    let text_alone = lora(&form("peft/text_encoder"));
    let both = lora(&form("peft"));
    let unet_alone = lora(&form("unet.safetensors"));
    let load = |tokens, parts: &CheckpointParts| ella(EllaBase::Sd15, tokens, parts);
    let idle = |ella: Ella| {
        let warnings = ella.understood().warnings;
        warnings.into_iter().filter(|text| text.starts_with("adapter ")).collect::<Vec<_>>()
    };
    for tokens in modes {
        for (parts, what) in [(&taught, "embedding"), (&text_alone, "adapter")] {
            let message = format!("{:#}", load(tokens, parts).err().unwrap());
            assert!(message.contains(what) && message.contains("would do nothing"), "{message}");
            assert!(message.contains("clip+ella reads CLIP"), "{message}");
        }
        assert_eq!(idle(load(tokens, &unet_alone).unwrap()), Vec::<String>::new());
        // Of an adapter of both, in two files or one, the text encoder's part is told.
        for parts in [&both, &lora(&fixture("addons/peft.safetensors"))] {
            let told = idle(load(tokens, parts).unwrap());
            let what = "are the text encoder's and do nothing";
            assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
        }
    }
    for parts in [&taught, &text_alone, &both] {
        let loaded = load(EllaTokens::ClipAndElla, parts).unwrap();
        assert_eq!(idle(loaded), Vec::<String>::new());
    }
    // SDXL's second encoder is asked for its pooled output in every mode.
    let sdxl = CheckpointParts { checkpoint: fixture("sdxl-tiny"), ..Default::default() };
    let kite = spelled(fixture("addons-sdxl/kite.safetensors"));
    let taught = CheckpointParts { embeddings: vec![kite.parse().unwrap()], ..sdxl.clone() };
    assert!(ella(EllaBase::Sdxl, EllaTokens::Fixed, &taught).is_ok());
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first.safetensors");
    std::fs::copy(fixture("addons-sdxl/kohya.safetensors"), &first).unwrap();
    edit(&first, |tensors| tensors.retain(|name, _| name.starts_with("lora_te1_")));
    let loras = vec![LoraFile { file: first, weight: 1.0 }];
    let first = CheckpointParts { loras, ..sdxl };
    let refused = ella(EllaBase::Sdxl, EllaTokens::Flexible, &first).err().unwrap();
    assert!(format!("{refused:#}").contains("would do nothing"), "{refused:#}");
    assert!(ella(EllaBase::Sdxl, EllaTokens::ClipAndElla, &first).is_ok());
}

const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red <kite> over a stone house,,1,0,entity,whole,entity - whole (kite),Is there a kite?
";

/// What the command says of words, adapters and vocabularies in vain.
#[test]
fn the_command_tells_what_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = folder.path().join("items.csv");
    std::fs::write(&benchmark, QUESTIONS).unwrap();
    let generate = |out: &str, more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.args(["generate", "--device", "cpu", "--images", "1", "--steps", "1"]);
        if !more.contains(&"--model") {
            command.args(["--model", "sd15"]);
        }
        command.args(["--width", "16", "--height", "16", "--weights", "tests/fixtures/sd15-tiny"]);
        command.arg("--benchmark").arg(&benchmark).arg("--out").arg(folder.path().join(out));
        let output = command.args(more).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let kite = "tests/fixtures/addons/kite.safetensors";
    let (code, said) = generate("heard", &["--embedding", kite]);
    assert!(code == 0 && !said.contains("the embedding's word"), "{said}");
    let unheard = format!("{kite}:EasyNeg");
    let (code, said) = generate("unheard", &["--embedding", &unheard]);
    assert!(code == 0 && said.contains("warning: the embedding's word `EasyNeg`"), "{said}");
    let negative = ["--embedding", &unheard, "--negative-prompt", "easyneg"];
    let (code, said) = generate("negative", &negative);
    assert!(code == 0 && !said.contains("the embedding's word"), "{said}");
    let idle = ["--lora", "tests/fixtures/addons/kohya.safetensors:0"];
    let (code, said) = generate("idle", &idle);
    assert!(code == 0 && said.contains("changes no tensor: its weight is 0"), "{said}");
    let ella = [
        "--model",
        "ella-sd15",
        "--ella",
        "tests/fixtures/ella-tiny/ella.safetensors",
        "--text-encoder",
        "tests/fixtures/ella-tiny/text_encoder",
    ];
    let words = ["--tokenizer", "tests/fixtures/sd15-tiny/tokenizer"];
    let (code, said) = generate("idle-words", &[&ella[..], &words].concat());
    assert!(code == 2 && said.contains("--tokenizer") && said.contains("clip+ella"), "{said}");
    let (code, said) = generate("idle-words", &[&ella[..], &["--embedding", kite]].concat());
    assert!(code == 2 && said.contains("would do nothing") && said.contains(kite), "{said}");
}
