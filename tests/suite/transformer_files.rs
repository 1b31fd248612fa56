//! FLUX.1 and Stable Diffusion 3 in one file, as their publishers and ComfyUI make them (fixtures/transformer-files, made by
//! make_transformer_files.py, where diffusers' converters give back the tensors of the folders).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::generate::pipelines::flux::Flux;
use dpg_bench::generate::pipelines::sd3::Sd3;
use dpg_bench::generate::recognised::recognise;
use serde::Deserialize;
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_same, cases, pictures};
use crate::tiny_checkpoint::{Tensors, configure, fixture, read};
use crate::tiny_parts::{apart, of_folder};
use crate::{flux_pipeline, sd3_pipeline};

const GOLDEN: &str = "transformer-files";
const NAMES: [&str; 4] = ["flux-dev-tiny", "flux-schnell-tiny", "sd3-tiny", "sd35-tiny"];
const TRANSFORMER: &str = "model.diffusion_model.";

/// What a tensor of the file is made of.
#[derive(Deserialize)]
struct Entry {
    component: String,
    /// Stored below one another.
    of: Vec<String>,
    /// The second half first.
    swapped: bool,
}

fn is_flux(name: &str) -> bool {
    name.starts_with("flux")
}

fn weights(component: &str) -> String {
    let stem = if matches!(component, "transformer" | "vae") {
        "diffusion_pytorch_model"
    } else {
        "model"
    };
    format!("{component}/{stem}.safetensors")
}

/// A checkpoint as a folder, and the tensors of its single file.
struct Checkpoint {
    name: &'static str,
    folder: TempDir,
    tensors: Tensors,
}

impl Checkpoint {
    fn new(name: &'static str) -> Self {
        let folder =
            if is_flux(name) { flux_pipeline::whole(name) } else { sd3_pipeline::whole(name) };
        Self::of(name, folder)
    }

    /// Stable Diffusion 3 with a CLIP-L that pools to as many channels as it has.
    fn squarely_pooled(name: &'static str) -> Self {
        if is_flux(name) {
            return Self::new(name);
        }
        let folder = sd3_pipeline::whole(name);
        for part in ["text_encoder", "text_encoder_2"] {
            for file in ["config.json", "model.safetensors"] {
                let path = Path::new(part).join(file);
                std::fs::copy(fixture(GOLDEN).join(&path), folder.path().join(path)).unwrap();
            }
        }
        Self::of(name, folder)
    }

    fn of(name: &'static str, folder: TempDir) -> Self {
        let text = std::fs::read(fixture(GOLDEN).join("files.json")).unwrap();
        let mut all: BTreeMap<String, BTreeMap<String, Entry>> =
            serde_json::from_slice(&text).unwrap();
        let entries = all.remove(name).unwrap();
        let mut components: BTreeMap<String, Tensors> = BTreeMap::new();
        let mut tensors = Tensors::new();
        for (stored, Entry { component, of, swapped }) in entries {
            let path = folder.path().join(weights(&component));
            let own = components.entry(component).or_insert_with(|| read(&path));
            let parts: Vec<&Tensor> = of.iter().map(|name| &own[name]).collect();
            let mut tensor = Tensor::cat(&parts, 0).unwrap();
            if swapped {
                let halves = tensor.chunk(2, 0).unwrap();
                tensor = Tensor::cat(&[&halves[1], &halves[0]], 0).unwrap();
            }
            if let ([rows, columns], true) = (tensor.dims(), stored.contains(".mid.attn_1.")) {
                tensor = tensor.reshape((*rows, *columns, 1, 1)).unwrap();
            }
            tensors.insert(stored, tensor);
        }
        Self { name, folder, tensors }
    }

    /// The file with what `change` makes of its tensors, over the folder.
    fn parts(&self, change: impl Fn(&mut Tensors)) -> CheckpointParts {
        let mut tensors = self.tensors.clone();
        change(&mut tensors);
        let path = self.folder.path().join("single.safetensors");
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let base = Some(self.folder.path().to_path_buf());
        CheckpointParts { checkpoint: path, base, ..Default::default() }
    }

    /// The folder loses its weights of `components`.
    fn without(self, components: &[&str]) -> Self {
        for component in components {
            std::fs::remove_file(self.folder.path().join(weights(component))).unwrap();
        }
        self
    }

    fn all(&self) -> &'static [&'static str] {
        let all = &["transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"];
        if is_flux(self.name) { &all[..4] } else { all }
    }

    fn picture(&self, parts: &CheckpointParts) -> Tensor {
        let (case, assembled) = (self.case(), parts.assemble().unwrap());
        self.picture_of(&assembled, &case).unwrap()
    }

    fn case(&self) -> Case {
        let golden = if is_flux(self.name) { "flux-golden" } else { "sd3-golden" };
        cases::<Case>(golden).remove(&format!("{}/own", self.name)).unwrap()
    }

    fn picture_of(&self, assembled: &Assembled, case: &Case) -> anyhow::Result<Tensor> {
        let (folder, options) = (assembled.path(), case.options());
        let told = |error| assembled.with_user_paths(error);
        if is_flux(self.name) {
            let pipeline = Flux::load(folder, DType::F32, &Device::Cpu, options).map_err(told);
            return pipeline?.pictures(&case.prompt, &case.seeds);
        }
        let pipeline = Sd3::load(folder, DType::F32, &Device::Cpu, options).map_err(told);
        pipeline?.pictures(&case.prompt, &case.seeds)
    }

    fn refusal(&self, change: impl Fn(&mut Tensors)) -> String {
        let parts = self.parts(change);
        let loaded = parts
            .assemble()
            .and_then(|assembled| self.picture_of(&assembled, &self.case()).map(|_| ()));
        format!("{:#}", loaded.unwrap_err())
    }
}

/// The publisher's file: the transformer alone, without a prefix.
fn transformer_alone(tensors: &mut Tensors) {
    *tensors = std::mem::take(tensors)
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(TRANSFORMER)?.to_owned(), tensor)))
        .collect();
}

#[test]
fn a_whole_file_makes_the_pictures_of_diffusers() {
    let golden = pictures(GOLDEN);
    for name in NAMES {
        let checkpoint = Checkpoint::squarely_pooled(name);
        let all = checkpoint.all();
        let checkpoint = checkpoint.without(all);
        let due = &golden[&format!("{name}/own")];
        let parts = checkpoint.parts(|_| ());
        assert_same(name, &checkpoint.picture(&parts), due);
        // Twins: parts of joined tensors, and halves, in the wrong places.
        for (what, end) in
            [("parts", ".qkv.weight"), ("halves", "final_layer.adaLN_modulation.1.weight")]
        {
            let wrong = checkpoint.parts(|tensors| {
                for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.ends_with(end)) {
                    let count = if what == "parts" { 3 } else { 2 };
                    let mut parts = tensor.chunk(count, 0).unwrap();
                    assert_eq!(parts.len(), count, "{name}");
                    parts.rotate_left(1);
                    *tensor = Tensor::cat(&parts, 0).unwrap();
                }
            });
            assert_apart(&format!("{name}: {what}"), apart(&checkpoint.picture(&wrong), due));
        }
    }
}

#[test]
fn a_transformer_alone_takes_the_rest_of_the_folder() {
    for name in NAMES {
        let golden = if is_flux(name) { "flux-golden" } else { "sd3-golden" };
        let due = pictures(golden).remove(&format!("{name}/own")).unwrap();
        let checkpoint = Checkpoint::new(name).without(&["transformer"]);
        let parts = checkpoint.parts(transformer_alone);
        assert_same(name, &checkpoint.picture(&parts), &due);
        let assembled = parts.assemble().unwrap();
        // What doctor counts beside the file.
        assert_eq!(assembled.beside.len(), checkpoint.all().len() - 1);
        assert!(assembled.beside.iter().all(|folder| folder.is_dir()), "{:?}", assembled.beside);
        let report = &assembled.understood;
        let said = report.to_string();
        assert!(said.contains("transformer of ") && said.contains("text_encoder, "), "{said}");
        assert!(report.warnings.is_empty(), "{said}");
        let known = recognise(&parts.checkpoint).unwrap();
        assert_eq!(known.model, if is_flux(name) { "flux" } else { "sd3" });
    }
}

#[test]
fn eight_bit_weights_with_scales_are_read_in_parts() {
    let checkpoint = Checkpoint::new("flux-dev-tiny");
    // Numbers that eight bits hold, and a scale that makes them what they were.
    let name = format!("{TRANSFORMER}single_blocks.0.linear1");
    let rounded = |tensors: &Tensors, factor: f64| {
        let tensor = &tensors[&format!("{name}.weight")];
        let whole = (tensor * 8.0).unwrap().round().unwrap().clamp(-8f32, 8f32).unwrap();
        (whole * factor).unwrap()
    };
    let plain = checkpoint.parts(|tensors| {
        let weight = rounded(tensors, 0.125);
        tensors.insert(format!("{name}.weight"), weight);
    });
    let due = checkpoint.picture(&plain);
    let scaled = checkpoint.parts(|tensors| {
        let weight = rounded(tensors, 1.0).to_dtype(DType::F8E4M3).unwrap();
        tensors.insert(format!("{name}.weight"), weight);
        let scale = Tensor::new(0.125f32, &Device::Cpu).unwrap();
        tensors.insert(format!("{name}.scale_weight"), scale);
        let mark = Tensor::zeros(2, DType::F8E4M3, &Device::Cpu).unwrap();
        tensors.insert(format!("{TRANSFORMER}scaled_fp8"), mark);
    });
    assert!(apart(&checkpoint.picture(&scaled), &due) == 0.0);
}

#[test]
fn what_does_not_fit_is_refused_or_told() {
    let one = |count: usize| Tensor::ones(count, DType::F32, &Device::Cpu).unwrap();
    let dev = Checkpoint::new("flux-dev-tiny");
    let alone = CheckpointParts { base: None, ..dev.parts(|_| ()) };
    let message = alone.assemble().unwrap_err().to_string();
    assert!(message.contains("single.safetensors is a single file of FLUX.1"), "{message}");
    assert!(message.contains("--base DIR"), "{message}");
    // A deeper one, another model's tensors, one of FLUX.2.
    for (change, part) in [
        (("double_blocks.2.img_mod.lin.weight", false), "double_blocks.2.img_mod.lin.weight"),
        (("single_blocks.2.linear1.weight", false), "does --base fit?"),
        (("distilled_guidance_layer.in_proj.weight", false), "distilled_guidance_layer"),
        (("double_blocks.0.txt_attn.x.weight", false), "double_blocks.0.txt_attn.x.weight"),
        (("vector_in.", true), "no FLUX.1"),
        (("single_blocks.1.linear2.weight", true), "single_blocks.1"),
    ] {
        let ((name, removed), name_of) = (change, format!("{TRANSFORMER}{}", change.0));
        let message = dev.refusal(|tensors| {
            if removed {
                tensors.retain(|stored, _| !stored.starts_with(&name_of));
            } else {
                tensors.insert(name_of.clone(), one(4));
            }
        });
        assert!(message.contains(part) || message.contains("proj_out"), "{name}: {message}");
        assert!(message.contains("single.safetensors"), "{name}: {message}");
    }
    // One that is told the guidance over configurations of one that is not, and the other way round.
    let schnell = Checkpoint::new("flux-schnell-tiny");
    let config = "transformer/config.json";
    configure(&dev.folder.path().join(config), &serde_json::json!({"guidance_embeds": false}));
    let message = dev.refusal(|_| ());
    assert!(message.contains("guidance_in.") && message.contains("--base"), "{message}");
    configure(&schnell.folder.path().join(config), &serde_json::json!({"guidance_embeds": true}));
    let message = schnell.refusal(|_| ());
    assert!(message.contains("guidance_embedder"), "{message}");
    // Of the other model.
    let sd3 = Checkpoint::new("sd3-tiny");
    let other = CheckpointParts { base: Some(fixture("sd15-tiny")), ..sd3.parts(|_| ()) };
    let message = other.assemble().unwrap_err().to_string();
    assert!(message.contains("is a checkpoint of Stable Diffusion 3"), "{message}");
    let other = CheckpointParts { base: dev.parts(|_| ()).base, ..sd3.parts(|_| ()) };
    let message = other.assemble().unwrap_err().to_string();
    let due = "is a checkpoint of Stable Diffusion 3, and ";
    assert!(message.contains(due) && message.ends_with("of a FluxTransformer2DModel"), "{message}");
}

#[test]
fn strays_and_encoders_that_the_folder_lacks_are_told() {
    let checkpoint = Checkpoint::squarely_pooled("sd3-tiny");
    let stray = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    let add = |tensors: &mut Tensors| {
        for name in [
            "somebody.note",
            "text_encoders.clip_l.logit_scale",
            "text_encoders.t5xxl.spiece_model",
        ] {
            tensors.insert(name.to_owned(), stray.clone());
        }
        // diffusers puts the identity in its place.
        tensors.insert(
            "text_encoders.clip_l.transformer.text_projection.weight".to_owned(),
            stray.clone(),
        );
    };
    let parts = checkpoint.parts(add);
    let due = &pictures(GOLDEN)["sd3-tiny/own"];
    assert_same("strays", &checkpoint.picture(&parts), due);
    let warnings = parts.assemble().unwrap().understood.warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("somebody.note"), "{warnings:?}");
    assert!(!warnings[0].contains("logit_scale"), "{warnings:?}");
    std::fs::remove_dir_all(checkpoint.folder.path().join("text_encoder_3")).unwrap();
    let warnings = parts.assemble().unwrap().understood.warnings;
    assert!(
        warnings.iter().any(|line| line.contains("--base has no text_encoder_3")),
        "{warnings:?}"
    );
}

#[test]
fn adapters_are_added_to_a_file_as_to_its_folder() {
    let checkpoint = Checkpoint::new("flux-dev-tiny");
    let file = fixture("addons-flux-names/kohya.safetensors");
    let loras = vec![LoraFile { file, weight: 1.0 }];
    let with = |parts: CheckpointParts| CheckpointParts { loras: loras.clone(), ..parts };
    let of_file = checkpoint.picture(&with(checkpoint.parts(|_| ())));
    let of_folder = checkpoint.picture(&with(of_folder(checkpoint.folder.path())));
    assert_same("file", &of_file, &of_folder);
    let plain = &pictures("flux-golden")["flux-dev-tiny/own"];
    assert_apart("without the adapter", apart(&of_file, plain));
}
