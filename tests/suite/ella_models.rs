//! T5's encoder and ELLA's connector against transformers and torch.nn (fixtures/ella-golden, made by
//! make_ella.py).

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::models::{EllaConnector, T5EncoderModel};

use crate::tiny_checkpoint::{Bounds, F32, Tensors, compare, fixture, read, rows, sha256};

/// Hidden states of root mean square near 5.
const T5: Bounds = Bounds { relative: 5e-6, absolute: 1e-4 };
/// f16 has 11 bits, 5e-4 a rounding; values reach 20.
const HALF: Bounds = Bounds { relative: 2e-3, absolute: 1e-1 };

fn golden(name: &str) -> Tensors {
    read(&fixture(&format!("ella-golden/{name}.safetensors")))
}

fn t5(folder: &Path, dtype: DType) -> T5EncoderModel {
    T5EncoderModel::load(folder, dtype, &Device::Cpu).unwrap()
}

fn lengths(tensor: &Tensor) -> Vec<usize> {
    tensor.to_vec1::<i64>().unwrap().into_iter().map(|length| length as usize).collect()
}

/// A copy of a folder of `ella-tiny` that a test may change.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("ella-tiny").join(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

#[test]
fn t5_equals_transformers() {
    let golden = golden("t5");
    let encoder = t5(&fixture("ella-tiny/text_encoder"), DType::F32);
    assert_eq!(encoder.width(), 32);
    // Two rows of 128, most of the second padding; the padding's own rows are compared too.
    let ours = encoder.forward(&rows(&golden["ids"]), &lengths(&golden["lengths"])).unwrap();
    compare("t5 padded", &ours, &golden["hidden"], T5).unwrap();
    for wrong in ["no_mask", "erf_gelu", "scaled_scores"] {
        compare(&format!("t5 against {wrong}"), &ours, &golden[wrong], T5).unwrap_err();
    }
    for (ids, hidden) in [("short_ids", "short_hidden"), ("long_ids", "long_hidden")] {
        let ids = rows(&golden[ids]);
        let ours = encoder.forward(&ids, &vec![ids[0].len(); ids.len()]).unwrap();
        compare(&format!("t5 {hidden}"), &ours, &golden[hidden], T5).unwrap();
    }
}

#[test]
fn a_row_hardly_depends_on_its_batch_or_its_padding() {
    let golden = golden("t5");
    let encoder = t5(&fixture("ella-tiny/text_encoder"), DType::F32);
    let (ids, lengths) = (rows(&golden["ids"]), lengths(&golden["lengths"]));
    let alone = encoder.forward(&[ids[0][..lengths[0]].to_vec()], &lengths[..1]).unwrap();
    let padded = golden["hidden"].narrow(0, 0, 1).unwrap().narrow(1, 0, lengths[0]).unwrap();
    compare("t5 unpadded", &alone, &padded, T5).unwrap();
}

#[test]
fn t5_without_gate_in_shards_equals_transformers() {
    let golden = golden("t5");
    let folder = fixture("ella-tiny/t5-relu");
    assert!(folder.join("model.safetensors.index.json").is_file());
    let run = |folder: &Path| {
        let ours = t5(folder, DType::F32)
            .forward(&rows(&golden["relu_ids"]), &lengths(&golden["relu_lengths"]))
            .unwrap();
        compare("t5 relu", &ours, &golden["relu_hidden"], T5)
    };
    run(&folder).unwrap();
    for (from, to) in [
        ("\"dense_act_fn\": \"relu\"", "\"dense_act_fn\": \"gelu\""),
        ("\"layer_norm_epsilon\": 1e-05", "\"layer_norm_epsilon\": 1e-03"),
        ("\"relative_attention_max_distance\": 128", "\"relative_attention_max_distance\": 64"),
    ] {
        let changed = copy("t5-relu");
        let path = changed.path().join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        run(changed.path()).expect_err(to);
    }
}

#[test]
fn t5_in_half_precision_clamps_as_transformers_does() {
    let golden = golden("t5");
    let (ids, lengths) = (rows(&golden["ids"]), lengths(&golden["lengths"]));
    let run = |folder: &Path, dtype: DType| {
        t5(folder, dtype).forward(&ids, &lengths).unwrap().to_dtype(DType::F32).unwrap()
    };
    let ours = run(&fixture("ella-tiny/text_encoder"), DType::F16);
    compare("t5 f16", &ours, &golden["half.hidden"], HALF).unwrap();
    compare("t5 f16 against f32", &ours, &golden["hidden"], HALF).unwrap();

    // A feed-forward that leaves f16's range.
    let changed = copy("text_encoder");
    let path = changed.path().join("model.safetensors");
    let mut tensors = read(&path);
    let name = "encoder.block.1.layer.1.DenseReluDense.wo.weight".to_owned();
    tensors.insert(name, golden["half.overflowing_wo"].clone());
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let ours = run(changed.path(), DType::F16);
    compare("t5 f16 clamped", &ours, &golden["half.clamped"], HALF).unwrap();
    // Without the clamp: f32, where nothing overflows.
    let unclamped = run(changed.path(), DType::F32);
    compare("t5 f32 unclamped", &unclamped, &golden["half.clamped"], HALF).unwrap_err();
}

#[test]
fn unusable_t5_input_and_folders_are_refused() {
    let encoder = t5(&fixture("ella-tiny/text_encoder"), DType::F32);
    let refusal = |ids: &[Vec<u32>], lengths: &[usize]| {
        encoder.forward(ids, lengths).unwrap_err().to_string()
    };
    assert!(refusal(&[vec![5, 6], vec![7]], &[2, 1]).contains("one length"));
    assert!(refusal(&[vec![5, 400]], &[2]).contains("400"));
    assert!(refusal(&[vec![5, 6]], &[0]).contains("[0]"));
    assert!(refusal(&[vec![5, 6]], &[3]).contains("[3]"));
    assert!(refusal(&[vec![5, 6]], &[2, 2]).contains("1 rows"));

    let changed = copy("text_encoder");
    let path = changed.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("gated-gelu", "gated-swiglu")).unwrap();
    let message =
        T5EncoderModel::load(changed.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("feed_forward_proj") && message.contains("swiglu"), "{message}");
    // UMT5 has positions in every block, which T5 would pass over.
    std::fs::write(&path, text.replace("\"t5\"", "\"umt5\"")).unwrap();
    let message =
        T5EncoderModel::load(changed.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("model_type = \"umt5\""), "{message}");
}

fn connector(path: &Path, dtype: DType) -> EllaConnector {
    EllaConnector::load(path, dtype, &Device::Cpu).unwrap()
}

fn connect(connector: &EllaConnector, text: &Tensor, timestep: f64) -> Tensor {
    let projected = connector.project(text).unwrap();
    connector.forward(&projected, timestep).unwrap().to_dtype(DType::F32).unwrap()
}

/// Every timestep of the goldens called `name`.
fn connector_cases(connector: &EllaConnector, golden: &Tensors, name: &str, bounds: Bounds) {
    let text = &golden[&format!("{name}.text")];
    for timestep in [999.0, 20.0, 261.25] {
        let expected = &golden[&format!("{name}.at_{timestep}")];
        let ours = connect(connector, text, timestep);
        compare(&format!("connector {name} at {timestep}"), &ours, expected, bounds).unwrap();
        let late = connect(connector, text, timestep - 1.0);
        compare("connector a step off", &late, expected, bounds).unwrap_err();
    }
}

#[test]
fn the_connector_equals_torch() {
    let golden = golden("connector");
    let tiny = connector(&fixture("ella-tiny/ella.safetensors"), DType::F32);
    assert_eq!((tiny.input_width(), tiny.output_width(), tiny.tokens()), (32, 24, 10));
    connector_cases(&tiny, &golden, "tiny", F32);
    let ours = connect(&tiny, &golden["tiny.text"], 999.0);
    for wrong in ["gelu", "eps", "heads"] {
        compare(wrong, &ours, &golden[&format!("tiny.wrong.{wrong}")], F32).unwrap_err();
    }

    // Without input projection, with an output projection and a time of another width.
    let wide = connector(&fixture("ella-tiny/ella-wide.safetensors"), DType::F32);
    assert_eq!((wide.input_width(), wide.output_width(), wide.tokens()), (40, 48, 5));
    connector_cases(&wide, &golden, "wide", F32);
}

#[test]
fn the_connector_in_half_precision_keeps_its_sinusoids() {
    let golden = golden("connector");
    let half = connector(&fixture("ella-tiny/ella.safetensors"), DType::F16);
    let ours = connect(&half, &golden["tiny.text"], 999.0);
    compare("connector f16", &ours, &golden["tiny.half"], HALF).unwrap();
    compare("connector f16 against f32", &ours, &golden["tiny.at_999"], HALF).unwrap();
    compare("connector f16 off", &ours, &golden["tiny.at_20"], HALF).unwrap_err();
}

#[test]
fn a_file_that_is_no_connector_is_refused() {
    let refusal =
        |path: &Path| EllaConnector::load(path, DType::F32, &Device::Cpu).unwrap_err().to_string();
    let message = refusal(&fixture("ella-tiny/text_encoder/model.safetensors"));
    assert!(message.contains("connector.latents") && message.contains("no ELLA"), "{message}");
    let message = refusal(Path::new("no/such/ella.safetensors"));
    assert!(message.contains("no/such/ella.safetensors"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ella.safetensors");
    let changed = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = read(&fixture("ella-tiny/ella.safetensors"));
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        refusal(&path)
    };
    let missing = "connector.perceiver_blocks.1.ln_2.linear.weight";
    let message = changed(&|tensors| drop(tensors.remove(missing)));
    assert!(message.contains(missing), "{message}");
    let message = changed(&|tensors| {
        let odd = Tensor::zeros((10, 25), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("connector.latents".into(), odd);
    });
    assert!(
        message.contains("connector.latents") && message.contains("multiple of 8"),
        "{message}"
    );
    // What the original, which loads strictly, would refuse as well.
    for unknown in [
        "time_embedding.cond_proj.weight",
        "connector.perceiver_blocks.7.ln_1.linear.bias",
        "connector.perceiver_blocks.0.attn.bias_k",
        "connector.proj_mid.weight",
    ] {
        let message = changed(&|tensors| {
            let more = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            tensors.insert(unknown.into(), more);
        });
        assert!(message.contains(unknown) && message.contains("no place"), "{message}");
    }
}

#[test]
fn the_fixtures_are_those_of_their_provenance() {
    let text = std::fs::read(fixture("ella-golden/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let files = provenance["sha256"].as_object().unwrap();
    assert!(files.len() >= 15, "{}", files.len());
    for (file, digest) in files {
        assert_eq!(sha256(&fixture(file)), digest.as_str().unwrap(), "{file}");
    }
}

/// See scripts/full_size_ella.py.
#[test]
#[ignore = "needs DPG_BENCH_FULL_SIZE_ELLA, a folder made by scripts/full_size_ella.py"]
fn the_connector_at_its_published_size_equals_torch() {
    let folder = PathBuf::from(std::env::var("DPG_BENCH_FULL_SIZE_ELLA").unwrap());
    let connector = connector(&folder.join("ella.safetensors"), DType::F32);
    assert_eq!(
        (connector.input_width(), connector.output_width(), connector.tokens()),
        (2048, 768, 64)
    );
    let golden = read(&folder.join("golden.safetensors"));
    connector_cases(&connector, &golden, "full", Bounds { relative: 1e-5, absolute: 1e-4 });
}
