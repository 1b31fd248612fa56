//! Adapters of Stable Diffusion 3's and FLUX.1's transformers and text encoders, against diffusers and PEFT (fixtures/addons-sd3 and
//! addons-flux, made by make_addons_transformers.py), and of PixArt's transformer.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::generate::pipelines::flux::Flux;
use dpg_bench::generate::pipelines::sd3::Sd3;
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_same, cases};
use crate::tiny_checkpoint::{Tensors, copy_of, fixture, read};
use crate::tiny_parts::{apart, of_folder};
use crate::{flux_pipeline, sd3_pipeline};

fn with_lora(checkpoint: &Path, file: &Path, weight: f64) -> CheckpointParts {
    let loras = vec![LoraFile { file: file.to_path_buf(), weight }];
    CheckpointParts { loras, ..of_folder(checkpoint) }
}

/// A family's picture from the checkpoint in a folder.
type Picture = fn(&Path) -> Tensor;

fn sd3(folder: &Path) -> Tensor {
    let case = &cases::<Case>("sd3-golden")["sd35-tiny/negative"];
    let mut pipeline = Sd3::load(folder, DType::F32, &Device::Cpu, case.options()).unwrap();
    pipeline.pictures(&case.prompt, &case.seeds).unwrap()
}

fn flux(folder: &Path) -> Tensor {
    let case = &cases::<Case>("flux-golden")["flux-dev-tiny/two"];
    let mut pipeline = Flux::load(folder, DType::F32, &Device::Cpu, case.options()).unwrap();
    pipeline.pictures(&case.prompt, &case.seeds).unwrap()
}

fn told(assembled: &Assembled) -> String {
    format!("{:?}", assembled.understood)
}

#[test]
fn adapters_of_diffusers_and_peft_give_their_pictures() {
    let families: [(&str, TempDir, Picture, &str); 2] = [
        (
            "addons-sd3",
            sd3_pipeline::whole("sd35-tiny"),
            sd3,
            "(text_encoder 9, text_encoder_2 9, transformer ",
        ),
        (
            "addons-flux",
            flux_pipeline::whole("flux-dev-tiny"),
            flux,
            "(text_encoder 9, transformer ",
        ),
    ];
    for (family, checkpoint, picture, changed) in families {
        let golden = read(&fixture(family).join("pictures.safetensors"));
        assert_same("plain", &picture(checkpoint.path()), &golden["plain"]);
        for (name, file, weight, changed) in [
            ("diffusers", "diffusers.safetensors", 1.0, changed),
            ("diffusers:0.5", "diffusers.safetensors", 0.5, "weight 0.5: "),
            ("peft", "peft", 1.0, "(transformer "),
        ] {
            let file = fixture(family).join(file);
            let assembled = with_lora(checkpoint.path(), &file, weight).assemble().unwrap();
            let found = picture(assembled.path());
            assert_same(&format!("{family} {name}"), &found, &golden[name]);
            for (other, picture) in golden.iter().filter(|(other, _)| *other != name) {
                assert_apart(other, apart(&found, picture));
            }
            assert!(told(&assembled).contains(changed), "{}", told(&assembled));
        }
        let file = fixture(family).join("peft");
        let nothing = with_lora(checkpoint.path(), &file, 0.0).assemble().unwrap();
        assert_same("weight 0", &picture(nothing.path()), &golden["plain"]);
        assert!(told(&nothing).contains("its weight is 0"));
    }
}

#[test]
fn an_adapter_of_another_transformer_is_refused() {
    let file = fixture("addons-sd3/peft");
    let refusal = |checkpoint: &Path| {
        format!("{:#}", with_lora(checkpoint, &file, 1.0).assemble().err().unwrap())
    };
    let message = refusal(&fixture("sd15-tiny"));
    assert!(message.contains("names nothing in this checkpoint"), "{message}");
    // Without the file that states alpha.
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("adapter_model.safetensors");
    std::fs::copy(file.join("adapter_model.safetensors"), &alone).unwrap();
    let message =
        with_lora(sd3_pipeline::whole("sd35-tiny").path(), &alone, 1.0).assemble().err().unwrap();
    assert!(format!("{message:#}").contains("adapter_config.json"), "{message:#}");
}

/// The adapter's product stands in the transformer's tensor, as if it had been stored there.
#[test]
fn adapters_of_pixart_are_added_to_its_transformer() {
    let checkpoint = copy_of("pixart-sigma-tiny");
    let path = "transformer/diffusion_pytorch_model.safetensors";
    let module = "transformer_blocks.1.ff.net.2";
    let mut tensors = read(&checkpoint.path().join(path));
    let weight = tensors[&format!("{module}.weight")].clone();
    let (rows, columns) = weight.dims2().unwrap();
    let numbers = |shape: (usize, usize)| {
        let count = shape.0 * shape.1;
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin() / 8.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let (up, down) = (numbers((rows, 2)), numbers((2, columns)));
    let product = (up.matmul(&down).unwrap() * 0.5).unwrap();
    let factors = Tensors::from([
        (format!("transformer.{module}.lora_A.weight"), down),
        (format!("transformer.{module}.lora_B.weight"), up),
    ]);
    let adapter = checkpoint.path().join("adapter.safetensors");
    candle_core::safetensors::save(&factors.into_iter().collect(), &adapter).unwrap();
    let load = |folder: &Path| {
        let transformer = folder.join("transformer");
        let mut network =
            dpg_bench::models::PixArtTransformer::load(&transformer, DType::F32, &Device::Cpu)
                .unwrap();
        network.prepare((8, 8), (64, 64), &Device::Cpu).unwrap();
        let width = network.context_width();
        let text = numbers((5, width)).reshape((1, 5, width)).unwrap();
        let text = dpg_bench::models::TextContext::new(text);
        let channels = network.in_channels();
        let latents = numbers((channels, 64)).reshape((1, channels, 8, 8)).unwrap();
        network.forward_contexts(&latents, 481.0, &[&text]).unwrap()
    };
    let plain = load(checkpoint.path());
    let assembled = with_lora(checkpoint.path(), &adapter, 0.5).assemble().unwrap();
    let adapted = load(assembled.path());
    tensors.insert(format!("{module}.weight"), (weight + product).unwrap());
    let path = checkpoint.path().join(path);
    candle_core::safetensors::save(&tensors.into_iter().collect(), path).unwrap();
    assert!(apart(&adapted, &load(checkpoint.path())) < 1e-6);
    assert!(apart(&adapted, &plain) > 1e-4, "{}", apart(&adapted, &plain));
}
