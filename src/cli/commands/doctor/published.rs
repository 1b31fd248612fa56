//! In: the flags of a run. Out: which published networks it is of, so that time and memory are told before anything is fetched; and how
//! far a recorded time is that of this run.

use std::path::Path;

use crate::checkpoint::small_files::read_component;
use crate::generate::pipelines::options::DiffusionOptions;
use crate::measure::published_flops::{self, ImageFlops, named};
use crate::measure::speed::PictureSpeed;
use crate::session::generator_options::GeneratorOptions;

/// What is known of the model's networks: by the configuration in its folder, in that of its `--base` where it is one file, or else of
/// what `fetch` gets. `None` where nothing is known of networks of this size.
pub(super) fn published(options: &GeneratorOptions) -> Option<&'static ImageFlops> {
    let found = options.find_weights(&options.model).ok().flatten();
    let folder = found.filter(|path| path.is_dir()).or_else(|| options.base.clone());
    let config = folder.and_then(|folder| network_config(&folder));
    published_flops::published(&options.model, config.as_ref())
}

fn network_config(folder: &Path) -> Option<serde_json::Value> {
    let of = |part: &str| read_component(&folder.join(part).join("config.json")).ok();
    of("transformer").or_else(|| of("unet"))
}

/// The model of a record whose networks are as large as those of `model`, or nearly.
pub(super) fn like(model: &str) -> Option<&'static str> {
    match model {
        "playground-v2" | "playground-v25" => Some("sdxl"),
        "pixart-alpha" => Some("pixart-sigma"),
        _ => None,
    }
}

/// What a recorded time is multiplied by, and in words why.
pub(super) struct Scaled {
    /// That of the calls of the network.
    pub call: f64,
    /// That of decoding.
    pub decode: f64,
    /// That of encoding a prompt.
    pub text: f64,
    /// In words, behind what was measured; nothing where the run is as it was.
    pub how: String,
}

/// How a run under `settings` differs from what `speed` was measured with: by the size of its images, its published network and
/// the texts of a call, each by counted operations. `None` where nothing is known of one of the two networks.
pub(super) fn scaled(
    speed: &PictureSpeed,
    options: &GeneratorOptions,
    settings: Option<&DiffusionOptions>,
) -> Option<Scaled> {
    let recorded = named(speed.published.as_deref().unwrap_or(&speed.model))?;
    let wanted = published(options)?;
    // Operations grow with the pixels; the rows are for their own.
    let own = |side: usize| (side as f64).powi(2);
    let pixels = match options.stated_size() {
        Some((width, height)) => f64::from(width) * f64::from(height),
        None => own(wanted.side),
    };
    let grown = |side: usize| pixels / own(side);
    let measured = own(speed.side) / own(recorded.side);
    let decode = wanted.decode * grown(wanted.side) / (recorded.decode * measured);
    let texts = settings.map_or(wanted.usual_texts(), |settings| wanted.texts(settings));
    let call = wanted.call * grown(wanted.side) * texts
        / (recorded.call * measured * recorded.usual_texts());
    let how = if wanted.name != recorded.name {
        format!(", of {}, by counted operations", recorded.title)
    } else if (call - 1.0).abs() > 1e-9 {
        ", by counted operations".to_owned()
    } else {
        String::new()
    };
    Some(Scaled { call, decode, text: wanted.text / recorded.text, how })
}
