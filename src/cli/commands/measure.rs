//! In: a device and what to measure on it. Out: a table or a record of how exact and how fast it is.

use std::path::PathBuf;

use candle_core::{DType, Device};

use crate::checkpoint::error_words::sentence;
use crate::cli::args::shared::{OutputArgs, device_name, dtype_name, products_name};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::fetch_bars::megabytes;
use crate::cli::output::print::{print, print_json, say, warn};
use crate::compute::device::{Place, describe_device, gpu_name, parse_device, parse_dtype};
use crate::compute::products::{Products, ProductsHere};
use crate::machine;
use crate::measure::image_models::ImageModel;
use crate::measure::parity::compare;
use crate::measure::rounding::Rounding;
use crate::measure::speed::Plan;
use crate::measure::{Measurements, Network, Size};
use crate::results::atomic_write::atomic_write;
use crate::results::replaceable::{NewFile, Standing};
use crate::wording::counted;

/// Share of the processor's memory that weights may take, beside what is computed.
const FOR_WEIGHTS: f64 = 0.6;
/// Side of the products at full size.
const PRODUCT: usize = 8192;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench measure --tiny   # tries it out, in seconds
  dpg-bench measure --device cuda --out measured.json
  dpg-bench measure --device cuda --part parity --dtype f32,f16,bf16
  dpg-bench measure --device cuda --part images --model sd15 \\
      --batch 1,4 --repeats 5
  dpg-bench doctor --model sd15 --judge mplug --measured measured.json

No weights are needed: the networks have the published sizes and made-up weights, so speed and rounding are \
those of a run while the images are noise. `parity` holds each network against the processor in f32, of a \
transformer as many blocks as the memory holds, \
`product` gives the device's speed in large products, `images` and `judge` the times of whole images \
and of mPLUG's answers. Exit status: 0 done, 2 error, 3 a part failed and is missing.")]
pub(crate) struct Args {
    /// `auto`, `cpu` or `cuda[:INDEX]`
    #[arg(long, default_value = "auto", value_name = "DEVICE", value_parser = device_name)]
    device: String,
    /// Number formats: `parity` compares each, the other parts use the first [default: f32 on the
    /// processor, f16 on a GPU; parity: all of f32,f16,bf16]
    #[arg(
        long,
        alias = "torch-dtype",
        value_name = "DTYPE,..",
        value_delimiter = ',',
        value_parser = dtype_name
    )]
    dtype: Vec<String>,
    /// How the factors of products are rounded on the processor: `f32`, `bf16x3`, `bf16`; all parts but `parity` are
    /// measured with each [default: f32]
    #[arg(long, value_name = "PRODUCTS,..", value_delimiter = ',', value_parser = products_name)]
    products: Vec<Products>,
    /// Parts [default: all]
    #[arg(long, value_enum, value_name = "PART,..", value_delimiter = ',')]
    part: Vec<Part>,
    /// Networks that `parity` compares [default: all]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    network: Vec<Network>,
    /// Models whose images are timed: sd15, ella-sd15, sd2, lcm, sdxl,
    /// pixart-sigma, sd3, flux [default: all that fit into the memory]
    #[arg(short, long, value_name = "NAME,..", value_delimiter = ',')]
    model: Vec<ImageModel>,
    /// Images at a time, for images and answers
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [1, 4])]
    batch: Vec<usize>,
    /// Calls that are timed, after one that is not
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeats: usize,
    /// Steps of an image [default: the model's own, for sdxl 30; tiny: 3]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Side of the latents, an eighth of the image's [default: the model's own; parity: 64, tiny: 16]
    #[arg(long, value_name = "N")]
    latents: Option<usize>,
    /// Small networks of the same make
    #[arg(long)]
    tiny: bool,
    /// Write the record here as well, after every part
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a FILE that holds no measurements, or those of another device or size
    #[arg(long, requires = "out")]
    force: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Differences from the processor in f32
    Parity,
    /// Large products
    Product,
    /// Whole images
    #[value(alias = "pictures")]
    Images,
    /// Answers of mPLUG
    Judge,
}

/// Runs the command.
///
/// # Errors
/// The device or a number format cannot be had, or the record cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    anyhow::ensure!(
        args.batch.iter().all(|&batch| batch > 0) && args.latents != Some(0),
        "--batch and --latents must be at least 1"
    );
    let device = parse_device(&args.device)?;
    let size = if args.tiny { Size::Tiny } else { Size::Full };
    if let Some(path) = &args.out {
        NewFile { path, command: "measure", flag: "--out", force: args.force }
            .check(|bytes| standing(bytes, &described(&device), size))?;
    }
    let formats = formats(args, &device)?;
    let products = products(args, &device)?;
    let mut record = Measurements::new(described(&device), size == Size::Full);
    let mut complete = true;
    for job in jobs(args, &device, size, &formats, &products) {
        say(&format!("measuring {}", job.name));
        if let Err(error) = (job.work)(&mut record) {
            warn(&format!("{} failed and is missing: {}", job.name, sentence(&error)));
            complete = false;
        }
        if let Some(path) = &args.out {
            let mut text = serde_json::to_string_pretty(&record)?;
            text.push('\n');
            atomic_write(path, text.as_bytes())?;
        }
    }
    if args.output.json {
        print_json(&record)?;
    } else {
        print(&in_words(&record))?;
    }
    Ok(if complete { ExitStatus::Done } else { ExitStatus::Incomplete })
}

struct Formats {
    /// Those that parity compares.
    compared: Vec<DType>,
    /// That of the other parts.
    first: DType,
}

fn formats(args: &Args, device: &Device) -> anyhow::Result<Formats> {
    let named = args
        .dtype
        .iter()
        .map(|name| Ok(parse_dtype(name, device)?))
        .collect::<anyhow::Result<Vec<DType>>>()?;
    Ok(match named.first() {
        Some(&first) => Formats { first, compared: named },
        None => Formats {
            first: parse_dtype("auto", device)?,
            compared: vec![DType::F32, DType::F16, DType::BF16],
        },
    })
}

/// The products to measure with; says so where they run in f32.
fn products(args: &Args, device: &Device) -> anyhow::Result<Vec<ProductsHere>> {
    let asked = if args.products.is_empty() { &[Products::F32][..] } else { &args.products };
    let mut all = Vec::new();
    for products in asked {
        let products = products.on(device)?;
        if let Some(told) = products.described().filter(|_| products.is_fallback()) {
            warn(&format!("products run in {told}"));
        }
        all.push(products);
    }
    Ok(all)
}

/// What measures something and enters it.
type Work<'a> = Box<dyn Fn(&mut Measurements) -> anyhow::Result<()> + 'a>;

/// What the bytes of a file are beside new measurements of `device`.
fn standing(bytes: &[u8], device: &str, size: Size) -> Standing {
    let there: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let (Some(of), Some(full_size)) = (there["device"].as_str(), there["full_size"].as_bool())
    else {
        return Standing::Foreign;
    };
    if of == device && full_size == (size == Size::Full) {
        return Standing::Same;
    }
    let networks = if full_size { "" } else { " with tiny networks" };
    Standing::Other(format!("the measurement of {of}{networks}"))
}

/// Something to measure, which may fail without the others.
struct Job<'a> {
    name: String,
    work: Work<'a>,
}

fn jobs<'a>(
    args: &'a Args,
    device: &'a Device,
    size: Size,
    formats: &'a Formats,
    products: &[ProductsHere],
) -> Vec<Job<'a>> {
    let wanted = |part: Part| args.part.is_empty() || args.part.contains(&part);
    let tiny = size == Size::Tiny;
    let plan = |&products: &ProductsHere| Plan {
        size,
        place: Place { device: device.clone(), dtype: formats.first },
        products,
        repeats: args.repeats,
        steps: args.steps.or(tiny.then_some(3)),
        side: args.latents,
    };
    let plans: Vec<Plan> = products.iter().map(plan).collect();
    let memory = machine::memory().map(|memory| (memory.available as f64 * FOR_WEIGHTS) as u64);
    let named = |what: String, plan: &Plan| match plan.rounding() {
        rounding if rounding == Rounding::default() => what,
        rounding => format!("{what}, {}", rounding.in_words()),
    };
    let mut jobs: Vec<Job> = Vec::new();
    for plan in plans.iter().filter(|_| wanted(Part::Product)) {
        let (plan, side) = (plan.clone(), if tiny { 256 } else { PRODUCT });
        jobs.push(Job {
            name: named(format!("products of {side} x {side}"), &plan),
            work: Box::new(move |record| {
                record.products.push(plan.product(side)?);
                Ok(())
            }),
        });
    }
    if wanted(Part::Parity) {
        let all = if args.network.is_empty() { &Network::ALL[..] } else { &args.network };
        let side = args.latents.unwrap_or(if tiny { 16 } else { 64 });
        for &network in all {
            jobs.push(Job {
                name: format!("parity of {}", network.name()),
                work: Box::new(move |record| {
                    let found = compare(network, size, side, device, &formats.compared, memory)?;
                    record.parity.extend(found);
                    Ok(())
                }),
            });
        }
    }
    for (number, plan) in plans.iter().filter(|_| wanted(Part::Images)).enumerate() {
        let all = if args.model.is_empty() { &ImageModel::ALL[..] } else { &args.model };
        for &model in all {
            let plan = plan.clone();
            let bytes = if tiny { 0 } else { model.bytes(formats.first) };
            let lacks = memory.filter(|_| device.is_cpu()).and_then(|room| too_large(bytes, room));
            if let (Some(reason), true) = (&lacks, args.model.is_empty()) {
                if number == 0 {
                    warn(&format!("images of {} are left out: {reason}", model.name()));
                }
                continue;
            }
            jobs.push(Job {
                name: named(format!("images of {}", model.name()), &plan),
                work: Box::new(move |record| {
                    if let Some(reason) = &lacks {
                        return Err(anyhow::Error::msg(reason.clone()));
                    }
                    record.pictures.extend(plan.batches(model, &args.batch)?);
                    Ok(())
                }),
            });
        }
    }
    for plan in plans.iter().filter(|_| wanted(Part::Judge)) {
        for &pictures in &args.batch {
            let plan = plan.clone();
            jobs.push(Job {
                name: named(
                    format!("answers of mplug, {} at a time", counted(pictures, "image")),
                    &plan,
                ),
                work: Box::new(move |record| {
                    record.judges.push(plan.judge(pictures)?);
                    Ok(())
                }),
            });
        }
    }
    jobs
}

/// Why a model is not measured that needs so many `bytes`, where there is no `room`.
fn too_large(bytes: u64, room: u64) -> Option<String> {
    (bytes > room).then(|| {
        let (needed, room) = (megabytes(bytes), megabytes(room));
        format!(
            "its published weights take {needed}, and there is room for {room}; try `--dtype bf16` or a machine with more memory"
        )
    })
}

/// A line of a table where the products are others from here on.
fn other_products(before: &mut Rounding, rounding: &Rounding) -> String {
    if before == rounding {
        return String::new();
    }
    before.clone_from(rounding);
    format!("  with {}\n", rounding.in_words())
}

fn described(device: &Device) -> String {
    let place = describe_device(device);
    gpu_name(device).map_or(place.clone(), |name| format!("{place}, {name}"))
}

fn in_words(record: &Measurements) -> String {
    let size =
        if record.full_size { "published sizes" } else { "tiny networks: times mean nothing" };
    let mut text = format!("{}; made-up weights, {size}\n", record.device);
    if !record.parity.is_empty() {
        text.push_str("\nAgainst the processor in f32\n");
        text.push_str("  network         format  largest error  relative error  largest number\n");
    }
    for parity in &record.parity {
        let mut broken = match parity.not_numbers {
            0 => String::new(),
            count => format!("  {count} NUMBERS ARE NONE"),
        };
        if let Some(blocks) = &parity.blocks {
            broken.push_str(&format!("  {blocks}"));
        }
        text.push_str(&format!(
            "  {:<15} {:<6} {:>14.1e} {:>15.1e} {:>15.1}{broken}\n",
            parity.network, parity.dtype, parity.largest, parity.relative, parity.scale
        ));
    }
    let peak = |rounding: &Rounding| {
        let alike = record.products.iter().filter(|product| product.rounding == *rounding);
        alike.map(|product| product.tera).fold(0.0, f64::max)
    };
    for product in &record.products {
        let rounding = match &product.rounding {
            rounding if *rounding == Rounding::default() => String::new(),
            rounding => format!(", {}", rounding.in_words()),
        };
        text.push_str(&format!(
            "\nProducts of {0} x {0} in {1}{rounding}: {2:.3} TFLOP/s\n",
            product.side, product.dtype, product.tera
        ));
    }
    if !record.pictures.is_empty() {
        text.push_str("\nImages\n");
        text.push_str(
            "  model        format  batch  pixels  steps    s/image  text, s  decode, s  TFLOP/s\n",
        );
    }
    let mut before = Rounding::default();
    for speed in &record.pictures {
        text.push_str(&other_products(&mut before, &speed.rounding));
        let peak = peak(&speed.rounding);
        let tera = speed.tera.map_or("-".to_owned(), |tera| {
            let share =
                if peak > 0.0 { format!(" ({:.0} %)", 100.0 * tera / peak) } else { String::new() };
            format!("{tera:.2}{share}")
        });
        text.push_str(&format!(
            "  {:<12} {:<7} {:>5} {:>7} {:>6} {:>10.3} {:>8.3} {:>10.3}  {tera}\n",
            speed.model,
            speed.dtype,
            speed.batch,
            speed.side,
            speed.steps,
            speed.per_picture,
            speed.text,
            speed.decode
        ));
    }
    if !record.judges.is_empty() {
        text.push_str("\nAnswers\n");
        text.push_str(
            "  judge  format    images  questions  answers/s  s/image with one question\n",
        );
    }
    let mut before = Rounding::default();
    for speed in &record.judges {
        text.push_str(&other_products(&mut before, &speed.rounding));
        text.push_str(&format!(
            "  {:<6} {:<7} {:>8} {:>10} {:>10.1} {:>11.3}\n",
            speed.judge,
            speed.dtype,
            speed.pictures,
            speed.questions,
            speed.per_second,
            speed.one_question
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_the_memory_does_not_hold_is_told_and_no_other() {
        let flux = ImageModel::Flux.bytes(DType::F32);
        let reason = too_large(flux, 14_000_000_000).unwrap();
        assert!(reason.contains("take 67.35 GB") && reason.contains("14.00 GB"), "{reason}");
        assert_eq!(too_large(ImageModel::Sd15.bytes(DType::F32), 14_000_000_000), None);
        assert_eq!(2 * ImageModel::Flux.bytes(DType::BF16), flux);
    }
}
