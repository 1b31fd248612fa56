//! In: the tiny checkpoints of the judges, and what PyTorch computes from them in f32 (`tests/fixtures/mplug-golden`,
//! `blip-vqa-golden`, `qwen3-vl-golden`). Checks: with rounded products, by the model of the matrix tiles, states and scores are as near
//! to those as the parts of the factors allow, and a network that lacks one of the three products of two parts is not.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::{folder, on_threads};
use crate::checkpoint::weights::Weights;
use crate::compute::golden::{Golden, errors};
use crate::compute::products::{Products, ProductsHere};
use crate::models::qwen3_vl::grid::Grid;
use crate::models::{BlipVqa, BlipVqaConfig, Mplug, MplugConfig, Qwen3Vl};

/// What a network gives, beside what it is to give.
type Outputs = Vec<(Tensor, Tensor)>;

/// Relative errors that the products may leave: two parts, and one. Each is twice what was measured, which differs from machine to
/// machine in the last digits of norms and curves alone.
struct Bounds {
    two: f64,
    one: f64,
}

/// `run` loads a network and computes.
fn holds(name: &str, bounds: &Bounds, run: impl Fn() -> Outputs + Sync) {
    let run = |products: ProductsHere| products.while_loading(&run);
    let off = |outputs: &Outputs| {
        let error = |(ours, due): &(Tensor, Tensor)| errors(name, ours, due).relative();
        outputs.iter().map(error).fold(0.0, f64::max)
    };
    let exact = off(&run(Products::F32.by_the_model()));
    let one = on_threads(1, || run(Products::Bf16.by_the_model()));
    let two = off(&run(Products::Bf16x3.by_the_model()));
    assert!(exact < bounds.two / 3.0, "{name}: {exact:e}");
    assert!(two <= bounds.two, "{name}: {two:e}");
    assert!(off(&one) <= bounds.one, "{name}: {:e}", off(&one));
    // Rounded, and by one part.
    assert!(off(&one) > 10.0 * bounds.two, "{name}: {:e}", off(&one));
    for product in [0, 2] {
        let lacking = off(&run(Products::Bf16x3.by_a_model_lacking(product)));
        assert!(lacking > 3.0 * bounds.two, "{name} without product {product}: {lacking:e}");
    }
    let bits = |outputs: &Outputs| -> Vec<u32> {
        let values = |ours: &Tensor| ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        outputs.iter().flat_map(|(ours, _)| values(ours)).map(f32::to_bits).collect()
    };
    assert!(bits(&one) == bits(&on_threads(3, || run(Products::Bf16.by_the_model()))));
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder(path)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn mplug_with_rounded_products_is_near_to_f32() {
    let golden = Golden::open("../mplug-golden/large");
    let lines = json("mplug-golden/large.json");
    let lines = lines.as_array().unwrap();
    holds("mplug", &Bounds { two: 3.2e-5, one: 3e-2 }, || {
        let folder = folder("mplug-tiny/large");
        let weights = Weights::open(&folder, "model", DType::F32, &Device::Cpu).unwrap();
        let network = Mplug::load(&MplugConfig::read(&folder).unwrap(), &weights).unwrap();
        let images = network.encode_images(&golden.get("pixels")).unwrap();
        let seen: Vec<_> =
            lines.iter().map(|line| &images[line["picture"].as_u64().unwrap() as usize]).collect();
        let asked: Vec<Vec<u32>> = lines.iter().map(|line| ids(&line["ids"])).collect();
        let questions = network.encode_questions(&seen, &asked).unwrap();
        let states: Vec<Tensor> =
            (0..questions.count()).map(|number| questions.states(number).unwrap()).collect();
        // The first answer to each question, up to its second token.
        let answers = golden.get("answers").to_dtype(DType::U32).unwrap();
        let answers: Vec<Vec<Vec<u32>>> = answers.to_vec3().unwrap();
        let rows: Vec<usize> = (0..questions.count()).collect();
        let mut decoding = network.decoding(&questions);
        let mut outputs = Vec::new();
        for step in 0..2 {
            let tokens: Vec<u32> = answers.iter().map(|answers| answers[0][step]).collect();
            let logits = decoding.step(&rows, &tokens).unwrap();
            let due = |question: usize| {
                let logits = golden.get(&format!("logits.{question}"));
                logits.get(0).unwrap().get(step).unwrap()
            };
            let due: Vec<Tensor> = (0..rows.len()).map(due).collect();
            outputs.push((logits, Tensor::stack(&due, 0).unwrap()));
        }
        let of_images: Vec<&Tensor> = images.iter().map(|image| image.states()).collect();
        outputs.push((Tensor::stack(&of_images, 0).unwrap(), golden.get("images")));
        outputs.push((Tensor::cat(&states, 0).unwrap(), golden.get("states")));
        outputs
    });
}

#[test]
fn blip_with_rounded_products_is_near_to_f32() {
    let golden = Golden::open("../blip-vqa-golden/golden");
    let rows = |name: &str| -> Vec<Vec<u32>> {
        golden.get(name).to_dtype(DType::U32).unwrap().to_vec2().unwrap()
    };
    let unpadded = |(ids, mask): (Vec<u32>, Vec<u32>)| -> Vec<u32> {
        ids.into_iter().zip(mask).filter(|(_, seen)| *seen == 1).map(|(id, _)| id).collect()
    };
    let questions: Vec<Vec<u32>> =
        rows("ids").into_iter().zip(rows("mask")).map(unpadded).collect();
    holds("blip", &Bounds { two: 3.8e-5, one: 2e-2 }, || {
        let folder = folder("blip-vqa-tiny");
        let config = BlipVqaConfig::read(&folder).unwrap();
        let weights = Weights::open(&folder, "model", DType::F32, &Device::Cpu).unwrap();
        let network = BlipVqa::load(&config, &weights).unwrap();
        let images = network.encode_images(&golden.get("pixels")).unwrap();
        let image_of: Vec<usize> =
            (0..images.len()).flat_map(|image| vec![image; questions.len()]).collect();
        let asked: Vec<Vec<u32>> = images.iter().flat_map(|_| questions.clone()).collect();
        let states = network.encode_questions(&images, &image_of, &asked).unwrap();
        let count = states.count();
        let own: Vec<Tensor> = (0..count).map(|number| states.states(number).unwrap()).collect();
        let padded = golden.get("questions").flatten(0, 1).unwrap();
        let due = |(number, ids): (usize, &Vec<u32>)| {
            padded.get(number).unwrap().narrow(0, 0, ids.len()).unwrap()
        };
        let due: Vec<Tensor> = asked.iter().enumerate().map(due).collect();
        let of_images: Vec<&Tensor> = images.iter().map(|image| image.states()).collect();
        let parents: Vec<usize> = (0..count).collect();
        let tokens = vec![config.answer_start; count];
        let logits = network.decoding(&states).step(&parents, &tokens).unwrap();
        vec![
            (Tensor::stack(&of_images, 0).unwrap(), golden.get("vision")),
            (Tensor::cat(&own, 0).unwrap(), Tensor::cat(&due, 0).unwrap()),
            (logits, golden.get("logits")),
        ]
    });
}

#[test]
fn qwen3_vl_with_rounded_products_is_near_to_f32() {
    let cases = json("qwen3-vl-golden/cases.json");
    let is_meant = |case: &&Value| case["checkpoint"] == "untied" && case["picture"] == "rounded";
    // Those of which all logits were kept.
    let cases = cases.as_array().unwrap().iter().filter(is_meant).take(2);
    let cases: Vec<&Value> = cases.collect();
    let golden = Golden::open("../qwen3-vl-golden/untied");
    let get = |name: &str| golden.get(&format!("rounded.{name}"));
    let pad = json("qwen3-vl-untied/config.json")["image_token_id"].as_u64().unwrap() as u32;
    holds("qwen3-vl", &Bounds { two: 2.8e-5, one: 1.9e-2 }, || {
        let network = Qwen3Vl::load(&folder("qwen3-vl-untied"), DType::F32, &Device::Cpu).unwrap();
        let grid = ids(&cases[0]["grid"]);
        let grid = Grid { rows: grid[1] as usize, columns: grid[2] as usize };
        let image = network.encode_image(&get("patches"), grid).unwrap();
        let mut outputs = vec![
            (image.tokens.clone(), get("vision")),
            (image.deepstack[1].clone(), get("deepstack.1")),
        ];
        // Both questions together; the logits of the token that follows each.
        let texts: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["ids"])).collect();
        let first = texts[0].iter().position(|id| *id == pad).unwrap();
        let after = texts[0].iter().rposition(|id| *id == pad).unwrap() + 1;
        let beginning = network.begin(&texts[0][..first], &image, &[]).unwrap();
        let rest: Vec<Vec<u32>> = texts.iter().map(|text| text[after..].to_vec()).collect();
        let (_, logits) = network.read(&beginning, &rest).unwrap();
        for (number, text) in texts.iter().enumerate() {
            let all = get(&format!("{number}.logits"));
            assert_eq!(all.dim(0).unwrap(), text.len());
            let due = all.get(text.len() - 1).unwrap();
            outputs.push((logits.get(number).unwrap(), due));
        }
        outputs
    });
}
