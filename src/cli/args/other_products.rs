//! In: `--allow-other-products`. Out: whether a stage may go on where products were rounded otherwise before.

/// What may differ from what is there.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct OtherProductsArgs {
    /// Go on with a run, or beside shards, whose products were rounded otherwise or ran on a machine that has other
    /// abilities; manifest.json then names the products of each sitting
    #[arg(long, help_heading = "Device")]
    pub allow_other_products: bool,
}
