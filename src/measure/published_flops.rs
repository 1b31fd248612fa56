//! In: nothing. Out: how much the networks of the published models compute and hold, for estimates where the weights are not
//! here. Counted by PyTorch on the real classes in their published configurations (`tests/fixtures/make_flops.py`): two
//! operations for each multiplication with an addition.

use serde_json::{Value, json};

use crate::generate::pipelines::options::DiffusionOptions;

/// Floating-point operations and sizes of a published text-to-image model, at its own picture size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageFlops {
    /// Its name in records, one of its own where a model of the catalog was published in several sizes.
    pub name: &'static str,
    /// Name in the catalog.
    pub model: &'static str,
    /// What it is called in sentences.
    pub title: &'static str,
    /// Whether this is the network of a configuration, among those of the model.
    is: fn(&Value) -> bool,
    /// Encoding a prompt, in units of 10^12 operations.
    pub text: f64,
    /// One call of the network for one picture and one text, in units of 10^12 operations.
    pub call: f64,
    /// Decoding a picture, in units of 10^12 operations.
    pub decode: f64,
    /// Share of the call that is convolution.
    pub convolution: f64,
    /// Side of the picture in pixels.
    pub side: usize,
    /// Whether guidance takes a second text in each call; else the network is told it, or does without.
    pub has_halves: bool,
    /// Numbers of all weights, by part.
    pub parameters: Parameters,
}

/// Numbers that the parts of a model hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameters {
    /// Text encoders.
    pub text: u64,
    /// UNet or transformer.
    pub network: u64,
    /// Decoder of the autoencoder.
    pub decoder: u64,
}

impl Parameters {
    /// All of them.
    pub(crate) fn all(self) -> u64 {
        self.text + self.network + self.decoder
    }
}

impl ImageFlops {
    /// Texts of each call under `options`.
    pub(crate) fn texts(&self, options: &DiffusionOptions) -> f64 {
        let negates = options.negative_prompt.is_some();
        let has_two = match self.has_halves {
            true => options.guidance > 1.0,
            false => options.true_cfg.is_some_and(|scale| scale > 1.0) && negates,
        };
        if has_two { 2.0 } else { 1.0 }
    }

    /// Texts of each call with the usual guidance.
    pub(crate) fn usual_texts(&self) -> f64 {
        if self.has_halves { 2.0 } else { 1.0 }
    }
}

/// The published model that the catalog's `model` is, by the `config.json` of its network where that is here; else the one that
/// `fetch` gets. `None` where no published one has such a network.
pub(crate) fn published(model: &str, config: Option<&Value>) -> Option<&'static ImageFlops> {
    PICTURES.iter().find(|row| row.model == model && config.is_none_or(row.is))
}

/// The published model of that name.
pub(crate) fn named(name: &str) -> Option<&'static ImageFlops> {
    PICTURES.iter().find(|row| row.name == name)
}

/// Whether a network is of latents of `side`.
fn has_side(config: &Value, side: u64) -> bool {
    config["sample_size"] == side
}

/// Whether a UNet has the widths and the texts of Stable Diffusion 1, of which the rest follows.
fn is_sd1(config: &Value) -> bool {
    config["cross_attention_dim"] == 768
        && config["block_out_channels"] == json!([320, 640, 1280, 1280])
}

/// Whether a transformer of Stable Diffusion 3 has so many blocks, with a norm of queries and keys or without.
fn is_sd3(config: &Value, layers: u64, has_norm: bool) -> bool {
    config["num_layers"] == layers && config["qk_norm"].is_null() != has_norm
}

fn is_flux(config: &Value, is_told: bool) -> bool {
    config["num_layers"] == 19
        && config["num_single_layers"] == 38
        && config["guidance_embeds"].as_bool().unwrap_or(false) == is_told
}

const DECODER: u64 = 49_490_199;
/// Of 16 channels.
const DECODER_16: u64 = 49_545_475;

const SD15: ImageFlops = ImageFlops {
    name: "sd15",
    model: "sd15",
    title: "Stable Diffusion 1.5",
    is: is_sd1,
    text: 0.0133,
    call: 0.8033,
    decode: 2.5145,
    convolution: 0.5527,
    side: 512,
    has_halves: true,
    parameters: Parameters { text: 123_060_480, network: 859_520_964, decoder: DECODER },
};

/// The text encoder has 23 layers of width 1024.
const SD2: ImageFlops = ImageFlops {
    name: "sd2",
    model: "sd2",
    title: "Stable Diffusion 2.1",
    is: |config| has_side(config, 96),
    text: 0.0451,
    call: 2.1491,
    decode: 5.7543,
    convolution: 0.4380,
    side: 768,
    parameters: Parameters { text: 340_387_840, network: 865_910_724, decoder: DECODER },
    ..SD15
};

const SDXL: ImageFlops = ImageFlops {
    name: "sdxl",
    model: "sdxl",
    title: "Stable Diffusion XL base",
    is: |config| config["transformer_layers_per_block"] == json!([1, 2, 10]),
    text: 0.1112,
    call: 6.7612,
    decode: 10.4704,
    convolution: 0.2401,
    side: 1024,
    parameters: Parameters { text: 816_081_920, network: 2_567_463_684, decoder: DECODER },
    ..SD15
};

/// For 1024 pixels, of 4,096 squares; T5 v1.1 XXL reads a prompt of some 80 tokens.
const PIXART_SIGMA: ImageFlops = ImageFlops {
    name: "pixart-sigma",
    model: "pixart-sigma",
    title: "PixArt-Sigma of 1024 pixels",
    is: |config| has_side(config, 128),
    text: 0.7434,
    call: 6.4820,
    decode: 10.4704,
    convolution: 0.0,
    side: 1024,
    has_halves: true,
    parameters: Parameters { text: 4_762_310_656, network: 610_856_096, decoder: DECODER },
};

const PIXART_SIGMA_512: ImageFlops = ImageFlops {
    name: "pixart-sigma-512",
    title: "PixArt-Sigma of 512 pixels",
    is: |config| has_side(config, 64),
    call: 1.2243,
    decode: 2.5145,
    side: 512,
    ..PIXART_SIGMA
};

/// It is told sizes as well.
const PIXART_ALPHA: ImageFlops = ImageFlops {
    name: "pixart-alpha",
    model: "pixart-alpha",
    title: "PixArt-alpha of 1024 pixels",
    parameters: Parameters { network: 611_349_152, ..PIXART_SIGMA.parameters },
    ..PIXART_SIGMA
};

/// 4,096 squares and 333 tokens; T5 v1.1 XXL reads 256.
const SD35_MEDIUM: ImageFlops = ImageFlops {
    name: "sd35-medium",
    model: "sd3",
    title: "Stable Diffusion 3.5 medium",
    is: |config| is_sd3(config, 24, true),
    text: 2.5078,
    call: 11.2496,
    decode: 10.4722,
    convolution: 0.0001,
    side: 1024,
    has_halves: true,
    parameters: Parameters { text: 5_578_392_576, network: 2_469_663_936, decoder: DECODER_16 },
};

/// 4,096 squares and 512 tokens, which T5 v1.1 XXL reads.
const FLUX_DEV: ImageFlops = ImageFlops {
    name: "flux-dev",
    model: "flux",
    title: "FLUX.1 dev",
    is: |config| is_flux(config, true),
    text: 4.8580,
    call: 74.3847,
    convolution: 0.0,
    has_halves: false,
    parameters: Parameters { text: 4_885_371_136, network: 11_901_408_320, decoder: DECODER_16 },
    ..SD35_MEDIUM
};

/// The models; of those of one name in the catalog the one first that `fetch` gets.
pub(crate) const PICTURES: &[ImageFlops] = &[
    SD15,
    SD2,
    ImageFlops {
        name: "sd2-base",
        title: "Stable Diffusion 2.1 base",
        is: |config| has_side(config, 64),
        call: 0.8043,
        decode: SD15.decode,
        convolution: 0.5202,
        side: 512,
        ..SD2
    },
    SDXL,
    ImageFlops { name: "playground-v2", model: "playground-v2", title: "Playground v2", ..SDXL },
    ImageFlops {
        name: "playground-v25",
        model: "playground-v25",
        title: "Playground v2.5",
        ..SDXL
    },
    ImageFlops {
        name: "lcm",
        model: "lcm",
        title: "LCM Dreamshaper v7",
        is: |config| is_sd1(config) && has_side(config, 96),
        call: 2.1481,
        decode: SD2.decode,
        convolution: 0.4650,
        side: 768,
        has_halves: false,
        parameters: Parameters { network: 859_602_884, ..SD15.parameters },
        ..SD15
    },
    PIXART_ALPHA,
    ImageFlops {
        name: "pixart-alpha-512",
        model: "pixart-alpha",
        title: "PixArt-alpha of 512 pixels",
        ..PIXART_SIGMA_512
    },
    PIXART_SIGMA,
    PIXART_SIGMA_512,
    SD35_MEDIUM,
    ImageFlops {
        name: "sd3-medium",
        title: "Stable Diffusion 3 medium",
        is: |config| is_sd3(config, 24, false),
        call: 8.9043,
        parameters: Parameters { network: 2_084_951_104, ..SD35_MEDIUM.parameters },
        ..SD35_MEDIUM
    },
    ImageFlops {
        name: "sd35-large",
        title: "Stable Diffusion 3.5 large",
        is: |config| is_sd3(config, 38, true),
        call: 31.1211,
        convolution: 0.0,
        parameters: Parameters { network: 8_146_280_768, ..SD35_MEDIUM.parameters },
        ..SD35_MEDIUM
    },
    FLUX_DEV,
    // T5 reads 256 tokens.
    ImageFlops {
        name: "flux-schnell",
        title: "FLUX.1 schnell",
        is: |config| is_flux(config, false),
        text: 2.4099,
        call: 69.4666,
        parameters: Parameters { network: 11_891_178_560, ..FLUX_DEV.parameters },
        ..FLUX_DEV
    },
    // flan-t5-xl reads 128 tokens; ELLA's connector, half a percent of a call, is left out.
    ImageFlops {
        name: "ella-sd15",
        model: "ella-sd15",
        title: "ELLA over Stable Diffusion 1.5",
        text: 0.2996,
        call: 0.8022,
        convolution: 0.5534,
        parameters: Parameters { text: 1_223_527_424, ..SD15.parameters },
        ..SD15
    },
    ImageFlops {
        name: "ella-sdxl",
        model: "ella-sdxl",
        title: "ELLA over Stable Diffusion XL base",
        text: 0.4107,
        call: 6.7469,
        convolution: 0.2406,
        parameters: Parameters { text: 2_039_609_344, ..SDXL.parameters },
        ..SDXL
    },
];

/// Floating-point operations of a judge, in units of 10^12.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JudgeFlops {
    /// Name in the catalog.
    pub judge: &'static str,
    /// Looking at a picture.
    pub picture: f64,
    /// Answering a question about it.
    pub question: f64,
}

/// The judges that compute here, each as it runs here: a picture is encoded once for all questions.
pub(crate) const JUDGES: &[JudgeFlops] = &[
    // ViT-L/14 at 504 pixels (1,297 positions); 25 tokens of a question, a beam of five.
    JudgeFlops { judge: "mplug", picture: 0.97, question: 0.01 },
    // ViT-B/16 at 384 pixels (577 positions).
    JudgeFlops { judge: "blip-vqa", picture: 0.11, question: 0.005 },
    // The 2B model and a picture of 512 pixels: 1,024 patches, 256 positions.
    JudgeFlops { judge: "qwen3-vl", picture: 1.7, question: 0.07 },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::catalog::MODELS;

    fn counted() -> Value {
        let text = include_str!("../../tests/fixtures/flops/counted.json");
        serde_json::from_str(text).unwrap()
    }

    /// Whether `row` is what PyTorch counted, to the last digit that stands here.
    fn holds(row: &ImageFlops, counted: &Value) -> bool {
        let theirs = &counted["models"][row.name];
        let near = |ours: f64, key: &str| {
            (ours - theirs[key].as_f64().unwrap_or(f64::NAN)).abs() <= 5.1e-5
        };
        let is = |ours: u64, key: &str| theirs["parameters"][key].as_u64() == Some(ours);
        let Parameters { text, network, decoder } = row.parameters;
        near(row.text, "text")
            && near(row.call, "call")
            && near(row.decode, "decode")
            && near(row.convolution, "convolution")
            && theirs["side"].as_u64() == Some(row.side as u64)
            && is(text, "text")
            && is(network, "network")
            && is(decoder, "decoder")
    }

    #[test]
    fn every_row_is_what_pytorch_counts_on_the_published_networks() {
        let counted = counted();
        for row in PICTURES {
            let like = match row.name {
                // SDXL's networks under another name.
                "playground-v2" | "playground-v25" => ImageFlops { name: "sdxl", ..*row },
                _ => *row,
            };
            assert!(holds(&like, &counted), "{}: {}", row.name, counted["models"][like.name]);
            let other = ImageFlops { call: like.call + 2e-4, ..like };
            assert!(!holds(&other, &counted));
        }
        let rows = counted["models"].as_object().unwrap();
        assert!(rows.keys().all(|name| named(name).is_some()));
    }

    #[test]
    fn every_model_that_is_fetched_has_a_row_and_a_network_finds_its_own() {
        for model in MODELS.iter().filter(|model| !model.is_shipped()) {
            assert!(published(model.name, None).is_some(), "{}", model.name);
        }
        let name = |model: &str, config: Value| published(model, Some(&config)).map(|row| row.name);
        let blocks = |layers: u64, norm: Value| json!({"num_layers": layers, "qk_norm": norm});
        let flux = |single: u64, told: Value| json!({"num_layers": 19, "num_single_layers": single, "guidance_embeds": told});
        for (model, config, expected) in [
            ("sd3", blocks(24, Value::Null), Some("sd3-medium")),
            ("sd3", blocks(24, "rms_norm".into()), Some("sd35-medium")),
            ("sd3", blocks(38, "rms_norm".into()), Some("sd35-large")),
            ("sd3", blocks(7, Value::Null), None),
            ("flux", flux(38, true.into()), Some("flux-dev")),
            ("flux", flux(38, false.into()), Some("flux-schnell")),
            ("flux", flux(38, Value::Null), Some("flux-schnell")),
            ("flux", flux(20, true.into()), None),
            ("sd2", json!({"sample_size": 96}), Some("sd2")),
            ("sd2", json!({"sample_size": 64}), Some("sd2-base")),
            ("pixart-alpha", json!({"sample_size": 64}), Some("pixart-alpha-512")),
            ("pixart-sigma", json!({"sample_size": 256}), None),
            (
                "sd15",
                json!({"cross_attention_dim": 768, "block_out_channels": [320, 640, 1280, 1280]}),
                Some("sd15"),
            ),
            ("sd15", json!({"cross_attention_dim": 32, "block_out_channels": [32, 64]}), None),
            ("sdxl", json!({"transformer_layers_per_block": [1, 2, 10]}), Some("sdxl")),
            ("sdxl", json!({"transformer_layers_per_block": [0, 2, 4]}), None),
        ] {
            assert_eq!(name(model, config), expected);
        }
    }

    #[test]
    fn a_second_text_goes_along_where_guidance_needs_it() {
        let options = |guidance: f64, true_cfg: Option<f64>, negative: Option<&str>| {
            let negative_prompt = negative.map(str::to_owned);
            DiffusionOptions { guidance, true_cfg, negative_prompt, ..Default::default() }
        };
        let texts = |name: &str, options: &DiffusionOptions| named(name).unwrap().texts(options);
        assert_eq!(texts("sd15", &options(7.5, None, None)), 2.0);
        assert_eq!(texts("sd15", &options(1.0, None, None)), 1.0);
        assert_eq!(texts("lcm", &options(8.5, None, None)), 1.0);
        assert_eq!(texts("flux-dev", &options(3.5, None, Some("blurry"))), 1.0);
        assert_eq!(texts("flux-dev", &options(3.5, Some(4.0), Some("blurry"))), 2.0);
    }
}
