//! The time that the networks take at full size on the processor, call by call. Made for
//! `scripts/cpu_speed.py` and `scripts/mplug_speed.py`, which write the weights and inputs and run PyTorch in turn with this:
//!
//!     cargo bench --bench networks -- unet FOLDER
//!
//! reads FOLDER/unet/ and FOLDER/unet.inputs.safetensors, makes one call for every line on standard
//! input, and answers each with a line of JSON. The last result is left in
//! FOLDER/unet.ours.safetensors. RAYON_NUM_THREADS sets the threads.

#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use candle_core::{DType, Device, Tensor};
use dpg_bench::compute::device::Place;
use dpg_bench::compute::kept_memory;
use dpg_bench::judge::mplug::{Found, MplugJudge, MplugOptions};
use dpg_bench::models::{
    ClipTextModel, FluxTransformer, PixArtTransformer, Sd3Transformer, T5EncoderModel, TextContext,
    UNet, VaeDecoder,
};
use image::RgbImage;

fn main() -> anyhow::Result<()> {
    kept_memory::keep();
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [stage, folder] = arguments.as_slice() else {
        println!("SKIPPED: which network, and the folder that scripts/cpu_speed.py fills");
        return Ok(());
    };
    let folder = Path::new(folder);
    let inputs = folder.join(format!("{stage}.inputs.safetensors"));
    let inputs = candle_core::safetensors::load(&inputs, &Device::Cpu)
        .with_context(|| format!("{} is made by scripts/cpu_speed.py", inputs.display()))?;
    let network = network(stage, folder, inputs)?;
    let mut last = None;
    for line in std::io::stdin().lines() {
        line?;
        let (wall, before) = (Instant::now(), processor_seconds()?);
        last = Some(network()?);
        let (wall, cpu) = (wall.elapsed().as_secs_f64(), processor_seconds()? - before);
        println!("{{\"wall\": {wall:.4}, \"cpu\": {cpu:.2}, \"peak_mib\": {}}}", peak_mebibytes()?);
        std::io::stdout().flush()?;
    }
    if let Some(last) = last {
        let file = folder.join(format!("{stage}.ours.safetensors"));
        candle_core::safetensors::save(&HashMap::from([("output", last)]), file)?;
    }
    Ok(())
}

type Call = Box<dyn Fn() -> anyhow::Result<Tensor>>;

/// One forward pass of `stage` on the stored inputs.
fn network(stage: &str, folder: &Path, inputs: HashMap<String, Tensor>) -> anyhow::Result<Call> {
    let (dtype, device) = (DType::F32, Device::Cpu);
    let get = |name: &str| inputs.get(name).cloned().with_context(|| format!("no input {name}"));
    let rows = |name: &str| -> anyhow::Result<Vec<Vec<u32>>> {
        Ok(get(name)?.to_dtype(DType::U32)?.to_vec2()?)
    };
    let folder = folder.join(stage);
    Ok(match stage {
        "unet" => {
            let network = UNet::load(&folder, dtype, &device)?;
            let (latents, context) = (get("latents")?, get("context")?);
            Box::new(move || Ok(network.forward(&latents, 981.0, &context)?))
        }
        "vae" => {
            let (network, latents) = (VaeDecoder::load(&folder, dtype, &device)?, get("latents")?);
            Box::new(move || Ok(network.decode(&latents)?))
        }
        "text_encoder" => {
            let (network, ids) = (ClipTextModel::load(&folder, dtype, &device)?, rows("ids")?);
            Box::new(move || Ok(network.forward(&ids)?))
        }
        "mplug" => {
            let place = Place { device, dtype };
            let judge = MplugJudge::load(&folder, MplugOptions::new(place))?;
            let picture = get("picture")?;
            let (height, width, _) = picture.dims3()?;
            let picture =
                RgbImage::from_raw(width as u32, height as u32, picture.flatten_all()?.to_vec1()?)
                    .context("a picture of another size")?;
            let questions = std::fs::read(folder.join("questions.json"))?;
            let questions: Vec<String> = serde_json::from_slice(&questions)?;
            Box::new(move || {
                let asked = vec![questions.iter().map(String::as_str).collect()];
                let found = judge.hypotheses(std::slice::from_ref(&picture), &asked)?.concat();
                // The best answer's score and tokens.
                let row = |found: Found| -> Option<Vec<f32>> {
                    let best = found.hypotheses.into_iter().next()?;
                    let tokens = best.tokens.iter().map(|token| *token as f32);
                    Some(std::iter::once(best.score).chain(tokens).collect())
                };
                let mut rows: Vec<Vec<f32>> = found.into_iter().filter_map(row).collect();
                let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
                rows.iter_mut().for_each(|row| row.resize(longest, 0.0));
                Ok(Tensor::new(rows, &Device::Cpu)?)
            })
        }
        "t5" | "t5-xl" => {
            let (network, ids) = (T5EncoderModel::load(&folder, dtype, &device)?, rows("ids")?);
            let lengths = vec![ids[0].len(); ids.len()];
            Box::new(move || Ok(network.forward(&ids, &lengths)?))
        }
        "sd2" | "lcm" => {
            let mut network = UNet::load(&folder, dtype, &device)?;
            network.tell_guidance(7.5, &device)?;
            let (latents, context) = (get("latents")?, get("context")?);
            Box::new(move || Ok(network.forward(&latents, 481.0, &context)?))
        }
        "pixart" => {
            let mut network = PixArtTransformer::load(&folder, dtype, &device)?;
            let (latents, context) = (get("latents")?, get("context")?);
            let (_, _, height, width) = latents.dims4()?;
            network.prepare((height, width), (8 * height, 8 * width), &device)?;
            // A text of its own for each call: a run keeps what it makes of one.
            Box::new(move || {
                let text = TextContext::new(context.clone());
                Ok(network.forward_contexts(&latents, 481.0, &[&text])?)
            })
        }
        "sd3" | "sd35" => {
            let network = Sd3Transformer::load(&folder, dtype, &device)?;
            let (latents, context, pooled) = (get("latents")?, get("context")?, get("pooled")?);
            Box::new(move || Ok(network.forward(&latents, 481.0, &context, &pooled)?))
        }
        "flux" => {
            let mut network = FluxTransformer::load(&folder, dtype, &device)?;
            network.tell_guidance(7.5, &device)?;
            let (latents, context, pooled) = (get("latents")?, get("context")?, get("pooled")?);
            Box::new(move || Ok(network.forward(&latents, 481.0, &context, &pooled)?))
        }
        other => bail!("no network {other:?}: scripts/cpu_speed.py and mplug_speed.py name them"),
    })
}

/// User and system time of this process, all threads. Linux counts it in hundredths of a second.
fn processor_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| -> anyhow::Result<f64> {
        let text = after_name.split_whitespace().nth(field).context("a short /proc/self/stat")?;
        Ok(text.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// The most memory that this process has held.
fn peak_mebibytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kibibytes: u64 = line.split_whitespace().nth(1).context("no VmHWM")?.parse()?;
    Ok(kibibytes / 1024)
}
