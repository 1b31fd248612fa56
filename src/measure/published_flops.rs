//! In: nothing. Out: how much the networks of the published models compute, for estimates where the weights
//! are not here. Counted from the published configurations: two operations for each multiplication with an
//! addition, both halves of guidance.

/// Floating-point operations of a text-to-image model at its own picture size, in units of 10^12.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageFlops {
    /// Name in the catalog.
    pub model: &'static str,
    /// Encoding a prompt.
    pub text: f64,
    /// One call of the network.
    pub call: f64,
    /// Decoding a picture.
    pub decode: f64,
    /// Share of the call that is convolution.
    pub convolution: f64,
    /// Side of the picture in pixels.
    pub side: usize,
}

const SD15: ImageFlops = ImageFlops {
    model: "sd15",
    text: 0.013,
    call: 1.607,
    decode: 2.5,
    convolution: 0.55,
    side: 512,
};

/// The model for 768 pixels; its text encoder has 23 layers of width 1024.
const SD2: ImageFlops = ImageFlops {
    model: "sd2",
    text: 0.045,
    call: 4.29,
    decode: 5.75,
    convolution: 0.44,
    side: 768,
};

const SDXL: ImageFlops = ImageFlops {
    model: "sdxl",
    text: 0.12,
    call: 13.5,
    decode: 10.5,
    convolution: 0.25,
    side: 1024,
};

/// The transformer for 1024 pixels, of 4,096 squares; T5 v1.1 XXL reads a prompt of some 80 tokens.
const PIXART: ImageFlops = ImageFlops {
    model: "pixart-alpha",
    text: 0.74,
    call: 13.0,
    decode: 10.5,
    convolution: 0.0,
    side: 1024,
};

/// Stable Diffusion 3 medium: 4,096 squares and 333 tokens; T5 v1.1 XXL reads 256.
const SD3: ImageFlops =
    ImageFlops { model: "sd3", text: 2.5, call: 17.8, decode: 10.5, convolution: 0.0, side: 1024 };

/// FLUX.1 dev, told the guidance: 4,096 squares and 512 tokens, which T5 v1.1 XXL reads.
const FLUX: ImageFlops =
    ImageFlops { model: "flux", text: 4.8, call: 74.4, decode: 10.5, convolution: 0.0, side: 1024 };

/// Of flan-t5-xl's encoder for 128 tokens.
const T5: f64 = 0.31;

/// The models.
pub(crate) const PICTURES: &[ImageFlops] = &[
    SD15,
    SD2,
    SDXL,
    ImageFlops { model: "playground-v2", ..SDXL },
    ImageFlops { model: "playground-v25", ..SDXL },
    // The published one is for 768 pixels as well, and has no second half.
    ImageFlops { model: "lcm", text: SD15.text, call: SD2.call / 2.0, ..SD2 },
    PIXART,
    ImageFlops { model: "pixart-sigma", ..PIXART },
    SD3,
    FLUX,
    ImageFlops { model: "ella-sd15", text: T5, ..SD15 },
    ImageFlops { model: "ella-sdxl", text: T5 + 0.12, ..SDXL },
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
