//! Adapters of FLUX.1 in the spellings of kohya's scripts, ComfyUI, OneTrainer, XLabs and the publisher's code, against diffusers
//! (fixtures/addons-flux-names, made by make_addons_flux_names.py).

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::checkpoint::recipe::{Form, Recipe};
use dpg_bench::checkpoint::weights::Weights;
use dpg_bench::generate::pipelines::flux::Flux;
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_within, cases};
use crate::tiny_checkpoint::{Tensors, edit, fixture, read};
use crate::tiny_parts::{apart, of_folder};
use crate::{flux_pipeline, sd3_pipeline};

const FOLDER: &str = "addons-flux-names";

/// The tiny checkpoint, and copies of adapters that a test may change.
struct Bench {
    checkpoint: TempDir,
    adapters: TempDir,
    golden: Tensors,
}

impl Bench {
    fn new() -> Self {
        Self {
            checkpoint: flux_pipeline::whole("flux-dev-tiny"),
            adapters: tempfile::tempdir().unwrap(),
            golden: read(&fixture(FOLDER).join("pictures.safetensors")),
        }
    }

    fn assemble(&self, file: &Path, weight: f64) -> anyhow::Result<Assembled> {
        assemble(self.checkpoint.path(), file, weight)
    }

    fn picture(&self, file: &Path) -> Tensor {
        picture(self.assemble(file, 1.0).unwrap().path())
    }

    fn changed(&self, name: &str, change: impl Fn(&mut Tensors)) -> PathBuf {
        let file = self.adapters.path().join(format!("{name}.safetensors"));
        std::fs::copy(adapter(name), &file).unwrap();
        edit(&file, change);
        file
    }

    fn renamed(&self, name: &str, rename: impl Fn(&str) -> String) -> PathBuf {
        self.changed(name, |tensors| {
            *tensors = tensors.drain().map(|(name, tensor)| (rename(&name), tensor)).collect();
        })
    }

    fn refusal(&self, file: &Path) -> String {
        format!("{:#}", self.assemble(file, 1.0).err().unwrap())
    }
}

/// Within one level of 255, and within 1e-5.
fn assert_same(name: &str, ours: &Tensor, theirs: &Tensor) {
    assert_within(name, ours, theirs, 1e-5);
}

fn adapter(name: &str) -> PathBuf {
    fixture(FOLDER).join(format!("{name}.safetensors"))
}

fn assemble(checkpoint: &Path, file: &Path, weight: f64) -> anyhow::Result<Assembled> {
    let loras = vec![LoraFile { file: file.to_path_buf(), weight }];
    CheckpointParts { loras, ..of_folder(checkpoint) }.assemble()
}

fn picture(folder: &Path) -> Tensor {
    let case = &cases::<Case>("flux-golden")["flux-dev-tiny/two"];
    let mut pipeline = Flux::load(folder, DType::F32, &Device::Cpu, case.options()).unwrap();
    pipeline.pictures(&case.prompt, &case.seeds).unwrap()
}

/// `up` with its rows in the order of `pieces`, which have equal heights.
fn reordered(up: &Tensor, pieces: &[usize]) -> Tensor {
    let chunks = up.chunk(pieces.len(), 0).unwrap();
    let chunks: Vec<&Tensor> = pieces.iter().map(|piece| &chunks[*piece]).collect();
    Tensor::cat(&chunks, 0).unwrap()
}

fn reorder(tensors: &mut Tensors, layer: &str, pieces: &[usize]) {
    let mut count = 0;
    for (name, tensor) in tensors.iter_mut() {
        if name.contains(layer) && name.ends_with(".lora_up.weight") {
            *tensor = reordered(tensor, pieces);
            count += 1;
        }
    }
    assert!(count > 0, "{layer}");
}

#[test]
fn adapters_in_every_spelling_give_the_pictures_of_diffusers() {
    let bench = Bench::new();
    let plain = picture(bench.checkpoint.path());
    assert_same("plain", &plain, &bench.golden["plain"]);
    for (name, changed, warnings) in [
        ("kohya", "changes 58 tensors (text_encoder 18, transformer 40)", &[][..]),
        ("kohya-split", "changes 20 tensors (transformer 20)", &[]),
        (
            "comfy",
            "changes 38 tensors (text_encoder 18, transformer 20)",
            &["6 tensors beside its products are left out, as diffusers does (`diffusion_model."][..],
        ),
        ("xlabs", "changes 24 tensors (transformer 24)", &[]),
        ("fal", "changes 41 tensors (transformer 41)", &[]),
        ("onetrainer", "changes 18 tensors (transformer 18)", &[]),
        (
            "outer",
            "changes 22 tensors (text_encoder_2 12, transformer 10)",
            &["diffusers 0.42.1 does not read 22 of its 22 layers (`lora_te3_encoder_block_0_"],
        ),
    ] {
        let assembled = bench.assemble(&adapter(name), 1.0).unwrap();
        let found = picture(assembled.path());
        assert_same(name, &found, &bench.golden[name]);
        for (other, picture) in bench.golden.iter().filter(|(other, _)| *other != name) {
            assert_apart(&format!("{name}, not {other}"), apart(&found, picture));
        }
        let told = &assembled.understood;
        assert!(told.to_string().contains(changed), "{name}: {told}");
        assert_eq!(told.warnings.len(), warnings.len(), "{name}: {told}");
        for (found, wanted) in told.warnings.iter().zip(warnings) {
            assert!(found.contains(wanted), "{found}");
        }
    }
    // Half of it, and none.
    let half = bench.assemble(&adapter("kohya"), 0.5).unwrap();
    let half = picture(half.path());
    for other in ["plain", "kohya"] {
        assert_apart(&format!("half of kohya, not {other}"), apart(&half, &bench.golden[other]));
    }
    let none = bench.assemble(&adapter("kohya"), 0.0).unwrap();
    assert_same("none of kohya", &picture(none.path()), &plain);
}

/// The same factors under names that diffusers passes over, or reads with fewer of them.
#[test]
fn the_publishers_names_may_stand_alone_and_behind_other_starts() {
    let bench = Bench::new();
    for start in ["", "diffusion_model.", "base_model.model.diffusion_model."] {
        let file = bench.renamed("fal", |name| name.replace("base_model.model.", start));
        let assembled = bench.assemble(&file, 1.0).unwrap();
        assert_same(start, &picture(assembled.path()), &bench.golden["fal"]);
        let told = assembled.understood.to_string();
        let read = "diffusers 0.42.1 does not read 27 of its 27 layers";
        assert!(told.contains(read), "{told}");
    }
    // kohya's names of the factors, with dots.
    let dotted = |name: &str| {
        let name = name.replace(".lora_A.", ".lora_down.").replace(".lora_B.", ".lora_up.");
        name.replace("base_model.model.", "diffusion_model.")
    };
    let file = bench.renamed("fal", dotted);
    assert_same("dotted", &bench.picture(&file), &bench.golden["fal"]);
    // With the adapter's own name inside, as PEFT writes it.
    let file = bench.renamed("fal", |name| name.replace(".weight", ".default.weight"));
    assert_same("named", &bench.picture(&file), &bench.golden["fal"]);
    // What PEFT's configuration says counts where it is there.
    let config = bench.adapters.path().join("adapter_config.json");
    std::fs::write(&config, r#"{"peft_type": "LORA", "lora_alpha": 3, "r": 1}"#).unwrap();
    let file = bench.changed("fal", |_| ());
    let assembled = bench.assemble(&file, 1.0).unwrap();
    assert_apart("alpha 3", apart(&picture(assembled.path()), &bench.golden["fal"]));
    let told = assembled.understood.to_string();
    assert!(told.contains("takes no alpha of files with such names"), "{told}");
    let third = bench.assemble(&file, 1.0 / 3.0).unwrap();
    assert_same("a third of alpha 3", &picture(third.path()), &bench.golden["fal"]);
}

/// Files with one thing wrong give other pictures: the comparison above sees each of these.
#[test]
fn a_wrong_order_of_rows_or_a_lost_alpha_is_seen() {
    let bench = Bench::new();
    let wrong = |what: &str, name: &str, change: &dyn Fn(&mut Tensors)| {
        let found = bench.picture(&bench.changed(name, change));
        assert_apart(what, apart(&found, &bench.golden[name]));
    };
    wrong("queries and keys", "kohya", &|tensors| reorder(tensors, "img_attn_qkv", &[1, 0, 2]));
    wrong("values of text", "kohya", &|tensors| reorder(tensors, "txt_attn_qkv", &[2, 1, 0]));
    let mlp_first = [3, 4, 5, 6, 0, 1, 2];
    wrong("mlp before queries", "kohya", &|tensors| reorder(tensors, "linear1", &mlp_first));
    wrong("parts of the split", "kohya-split", &|tensors| reorder(tensors, "qkv", &[1, 2, 0]));
    wrong("halves not exchanged", "outer", &|tensors| reorder(tensors, "adaLN", &[1, 0]));
    for name in ["kohya", "kohya-split", "comfy", "onetrainer", "outer"] {
        wrong(&format!("no alpha in {name}"), name, &|tensors| {
            tensors.retain(|name, _| !name.ends_with(".alpha"));
        });
    }
    let both = |tensors: &mut Tensors| {
        for (one, other) in [("qkv_lora1", "qkv_lora2"), ("proj_lora1", "proj_lora2")] {
            let swap = |name: &str| match name.contains(one) {
                true => name.replace(one, other),
                false => name.replace(other, one),
            };
            *tensors = tensors.drain().map(|(name, tensor)| (swap(&name), tensor)).collect();
        }
    };
    wrong("picture for text", "xlabs", &both);
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let bench = Bench::new();
    let refused = |file: &Path, words: &[&str]| {
        let message = bench.refusal(file);
        for word in words {
            assert!(message.contains(word), "{message}");
        }
    };
    let with = |base: &str, names: &[&str]| {
        bench.changed(base, |tensors| {
            let one = Tensor::ones((1, 1), DType::F32, &Device::Cpu).unwrap();
            tensors.extend(names.iter().map(|name| ((*name).to_owned(), one.clone())));
        })
    };
    let unknown = "lora_unet_double_blocks_7_img_mlp_0";
    let pair = [&format!("{unknown}.lora_down.weight"), &format!("{unknown}.lora_up.weight")];
    let pair = pair.map(String::as_str);
    refused(&with("kohya", &pair), &[unknown, "names nothing in this checkpoint"]);
    refused(&with("kohya", &["lora_unet_img_in.hada_w1_a"]), &["hada_w1_a", "not supported"]);
    refused(&with("kohya", &["lora_unet_img_in.dora_scale"]), &["dora_scale", "not supported"]);
    // Left out where diffusers does, in files that it reads so, and nowhere else.
    refused(&with("fal", &["double_blocks.0.img_mlp.0.diff_b"]), &["diff_b", "not supported"]);
    refused(
        &with("kohya", &["lora_unet_img_in.lora_up.weight"]),
        &["lacks one of its two factors"],
    );
    let control = "double_blocks.0.img_attn.norm.query_norm.scale";
    refused(&with("fal", &[control]), &["is a control adapter", "reads a picture"]);
    let alpha = "double_blocks.0.processor.qkv_lora1.alpha";
    refused(&with("xlabs", &[alpha]), &[alpha, "diffusers does not read"]);
    // The same layer under two names.
    let twice = bench.changed("kohya", |tensors| {
        let own = "transformer.transformer_blocks.0.attn.to_k";
        for (from, to) in [("lora_down", "lora_A"), ("lora_up", "lora_B")] {
            let factor =
                &tensors[&format!("lora_unet_double_blocks_0_img_attn_proj.{from}.weight")];
            tensors.insert(format!("{own}.{to}.weight"), factor.clone());
        }
    });
    refused(&twice, &["both change transformer_blocks.0.attn.to_k.weight", "keep one of the two"]);
    // Rows of another model.
    let layer = "lora_unet_single_blocks_0_linear1.lora_up.weight";
    let narrow = bench.changed("kohya", |tensors| {
        let fewer = tensors[layer].narrow(0, 0, 100).unwrap();
        tensors.insert(layer.into(), fewer);
    });
    refused(&narrow, &[layer, "made for another base model"]);
    let fewer = bench.changed("kohya", |tensors| {
        let fewer = tensors[layer].narrow(0, 0, 84).unwrap();
        tensors.insert(layer.into(), fewer);
    });
    let assembled = bench.assemble(&fewer, 1.0).unwrap();
    let case = &cases::<Case>("flux-golden")["flux-dev-tiny/two"];
    let error =
        Flux::load(assembled.path(), DType::F32, &Device::Cpu, case.options()).err().unwrap();
    assert!(format!("{error:#}").contains("made for another base model"), "{error:#}");
    // Diffusers' loader for Stable Diffusion 3 reads no such names.
    let sd3 = sd3_pipeline::whole("sd35-tiny");
    for file in ["kohya", "onetrainer"] {
        let error = assemble(sd3.path(), &adapter(file), 1.0).err().unwrap();
        assert!(format!("{error:#}").contains("reads none for Stable Diffusion 3"), "{error:#}");
    }
}

/// Files that only ComfyUI and their authors' scripts read whole: what diffusers loses of them is told.
#[test]
fn what_diffusers_reads_otherwise_is_told() {
    let bench = Bench::new();
    let told = |file: &Path| bench.assemble(file, 1.0).unwrap().understood.to_string();
    let factors = |name: &str| {
        name.replace("lora_transformer_transformer_blocks_", "transformer.transformer_blocks.")
    };
    let own = bench.renamed("onetrainer", |name| {
        let name = factors(name).replace("lora_transformer_x_embedder", "transformer.x_embedder");
        let name = name.replace(
            "lora_transformer_single_transformer_blocks_",
            "transformer.single_transformer_blocks.",
        );
        let name = name.replace(
            "lora_transformer_time_text_embed_text_embedder_",
            "transformer.time_text_embed.text_embedder.",
        );
        name.replace("_attn_", ".attn.").replace("to_out_0", "to_out.0")
    });
    assert!(told(&own).contains("takes no alpha of files with such names"), "{}", told(&own));
    assert_same("own layers", &bench.picture(&own), &bench.golden["onetrainer"]);
    let lost = bench.changed("onetrainer", |tensors| {
        let layer = "lora_transformer_transformer_blocks_0_ff_net_2";
        let factors: Tensors = [("lora_down", (1, 96)), ("lora_up", (24, 1))]
            .map(|(factor, shape)| {
                (
                    format!("{layer}.{factor}.weight"),
                    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap(),
                )
            })
            .into();
        tensors.extend(factors);
    });
    let wanted =
        "does not read 1 of its 19 layers (`lora_transformer_transformer_blocks_0_ff_net_2`, ...)";
    assert!(told(&lost).contains(wanted), "{}", told(&lost));
    let t5 = bench.renamed("outer", |name| name.replace("lora_te3_", "lora_te2_"));
    assert_same("te2", &bench.picture(&t5), &bench.golden["outer"]);
    let t5 = bench.renamed("outer", |name| {
        let dotted = ["encoder_block_", "_layer_", "_SelfAttention_", "_DenseReluDense_"]
            .iter()
            .fold(name.to_owned(), |name, part| name.replace(part, &part.replace('_', ".")));
        let name = if name.starts_with("lora_te3_") { dotted } else { name.to_owned() };
        name.replace("lora_te3_", "text_encoders.t5xxl.transformer.")
    });
    assert_same("t5xxl", &bench.picture(&t5), &bench.golden["outer"]);
    let zeros = bench.changed("comfy", |tensors| {
        for (name, tensor) in tensors.iter_mut() {
            if name.contains(".diff") || name.contains("embedding") || name.contains("projection") {
                *tensor = tensor.zeros_like().unwrap();
            }
        }
    });
    assert!(told(&zeros).contains("they are all zero"), "{}", told(&zeros));
    assert!(told(&adapter("comfy")).contains("they are not zero"));
}

/// A resume sees which rows are added where.
#[test]
fn rows_count_for_the_digest() {
    let bench = Bench::new();
    let assembled = bench.assemble(&adapter("kohya"), 1.0).unwrap();
    let (folder, stem) = (assembled.path().join("transformer"), "diffusion_pytorch_model");
    let digest =
        || Weights::open(&folder, stem, DType::F32, &Device::Cpu).unwrap().sha256().to_owned();
    let before = digest();
    assert_eq!(before, digest());
    let mut recipe = Recipe::read(&folder, stem).unwrap().unwrap();
    let added = &mut recipe.additions.get_mut("transformer_blocks.0.attn.to_k.weight").unwrap()[0];
    assert_eq!(added.rows, Some(Form::Part { first: 1, count: 1, of: 3 }));
    added.rows = Some(Form::Part { first: 2, count: 1, of: 3 });
    let text = serde_json::to_string(&recipe).unwrap();
    std::fs::write(Recipe::path(&folder, stem), text).unwrap();
    assert_ne!(before, digest());
}
