//! In: what `config.json` says of positions, in the keys of transformers 4 (`rope_theta`, `rope_scaling`,
//! `rope_local_base_freq`) or 5 (`rope_parameters`). Out: the frequencies by which they turn a head. In f32, as there.

use std::f32::consts::PI;

use crate::checkpoint::config::Config;
use crate::compute::layers::LoadResult;
use crate::models::rotary::frequencies;

/// Keys of what is said of positions.
const KEYS: &[&str] = &[
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "type",
];

/// Frequencies of a model whose layers share them, for heads of `head` numbers.
pub(super) fn rope(config: &Config, head: usize) -> LoadResult<Vec<f32>> {
    // As transformers 5, which takes the older key where both are there.
    let said = match config.part("rope_scaling")? {
        Some(said) => Some(said),
        None => config.part("rope_parameters")?,
    };
    let theta = config.number("rope_theta", 10_000.0)?;
    scaled(config, said.as_ref(), theta, head)
}

/// Those of Gemma 3: of layers that see everything, and of those with a window.
pub(super) fn gemma_ropes(config: &Config, head: usize) -> LoadResult<Vec<Vec<f32>>> {
    let (theta, local) = (
        config.number("rope_theta", 1_000_000.0)?,
        config.number("rope_local_base_freq", 10_000.0)?,
    );
    let Some(said) = config.part("rope_parameters")? else {
        let said = config.part("rope_scaling")?;
        return Ok(vec![
            scaled(config, said.as_ref(), theta, head)?,
            scaled(config, None, local, head)?,
        ]);
    };
    config.refuse_unless_neutral(&[("rope_scaling", &[])])?;
    let [whole, sliding] = ["full_attention", "sliding_attention"];
    if !said.unknown_keys(&[&[whole, sliding]]).is_empty() {
        let hint = "full_attention and sliding_attention are, each with its own parameters";
        return Err(config.unsupported("rope_parameters", hint));
    }
    Ok(vec![
        scaled(config, said.part(whole)?.as_ref(), theta, head)?,
        scaled(config, said.part(sliding)?.as_ref(), local, head)?,
    ])
}

/// Frequencies as `said` asks; `theta` is the base where it does not say.
fn scaled(config: &Config, said: Option<&Config>, theta: f64, head: usize) -> LoadResult<Vec<f32>> {
    let Some(said) = said else { return Ok(frequencies(head, theta as f32)) };
    // Every key of it is arithmetic.
    if let Some(unknown) = said.unknown_keys(&[KEYS]).first() {
        let key = unknown.split(" = ").next().unwrap_or(unknown);
        return Err(said.unsupported(key, "leave it out where it changes nothing"));
    }
    said.refuse_unless_neutral(&[("partial_rotary_factor", &["1", "1.0"])])?;
    let plain = frequencies(head, said.number("rope_theta", theta)? as f32);
    let needed = |key: &str| match said.number(key, f64::NAN)? {
        number if number > 0.0 => Ok(number as f32),
        _ => Err(said.unsupported(key, "a number above 0 is needed")),
    };
    let usual = said.name("type", "default")?;
    match said.name("rope_type", usual)? {
        "default" => Ok(plain),
        "linear" => {
            let factor = needed("factor")?;
            Ok(plain.into_iter().map(|frequency| frequency / factor).collect())
        }
        "llama3" => {
            let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
            let length = match said.count_if_any(1, "original_max_position_embeddings")? {
                Some(length) => length,
                None => config.count("max_position_embeddings", Some(2048))?,
            };
            let bounds = Llama3 { factor: needed("factor")?, low, high, length: length as f32 };
            Ok(plain.into_iter().map(|frequency| bounds.scaled(frequency)).collect())
        }
        _ => Err(said.unsupported("rope_type", "default, linear and llama3 are")),
    }
}

/// LLaMA 3.1's scaling: waves that are longer than the text of training are made longer still.
struct Llama3 {
    factor: f32,
    low: f32,
    high: f32,
    /// Tokens of the text of training.
    length: f32,
}

impl Llama3 {
    fn scaled(&self, frequency: f32) -> f32 {
        let Self { factor, low, high, length } = self;
        let wave = 2.0 * PI / frequency;
        if wave < length / high {
            frequency
        } else if wave > length / low {
            frequency / factor
        } else {
            let share = (length / wave - low) / (high - low);
            (1.0 - share) * frequency / factor + share * frequency
        }
    }
}
