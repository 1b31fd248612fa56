//! In: the options of a generator outside of this process. Out: a flag among them that only models inside know.

use super::generator_options::GeneratorOptions;

/// The first flag that is given and that a model outside is not told.
pub(super) fn idle_flag(options: &GeneratorOptions) -> Option<&'static str> {
    let (stated, ella) = (&options.sampling, &options.ella);
    [
        ("--weights", options.weights.is_some()),
        ("--base", options.base.is_some()),
        ("--tokenizer", options.tokenizer.is_some()),
        ("--vae", options.vae.is_some()),
        ("--lora", !options.loras.is_empty()),
        ("--embedding", !options.embeddings.is_empty()),
        ("--ella", ella.connector.is_some()),
        ("--text-encoder", ella.text_encoder.is_some()),
        ("--ella-tokens", ella.reading.tokens.is_some()),
        ("--text-template", ella.reading.template.is_some()),
        ("--text-skip", ella.reading.skip > 0),
        ("--preset", options.preset.is_some()),
        ("--batch", options.batch.is_some()),
        ("--dtype", options.dtype != "auto"),
        ("--products", options.products.is_some()),
        ("--true-cfg", stated.true_cfg.is_some()),
        ("--scheduler", stated.scheduler.is_some()),
        ("--spacing", stated.spacing.is_some()),
        ("--karras", stated.karras.is_some()),
        ("--prediction", stated.prediction.is_some()),
        ("--rng", stated.rng.is_some()),
    ]
    .into_iter()
    .find_map(|(flag, given)| given.then_some(flag))
}
