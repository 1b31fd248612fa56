//! In: options that name a model outside of this process. Out: its generators: the user's program, once for each device, or a
//! server, once for each image that it is asked for at a time.

use anyhow::Context;

use super::generator_options::GeneratorOptions;
use super::listener::Listener;
use super::{program_command, server_command};
use crate::compute::device::{describe_device, parse_device};
use crate::generate::ImageGenerator;
use crate::generate::catalog;
use crate::generate::noise::seeds::SeedMode;
use crate::generate::program::ProgramGenerator;
use crate::generate::server::ServerGenerator;

/// A model outside, ready to be asked.
pub(super) struct OutsideModels {
    /// Each is asked for one image at a time.
    pub(super) generators: Vec<Box<dyn ImageGenerator>>,
    /// Where they compute.
    pub(super) devices: Vec<String>,
    /// Base seed.
    pub(super) seed: u64,
    /// How an image's seed follows from it.
    pub(super) seed_mode: SeedMode,
}

impl OutsideModels {
    /// Whether the options name a model outside; nothing is started or asked.
    ///
    /// # Errors
    /// They do, and something of it is missing or wrong.
    pub(super) fn check(options: &GeneratorOptions) -> anyhow::Result<bool> {
        match options.model.as_str() {
            catalog::PROGRAM => program_command::resolve(options).map(|_| true),
            catalog::SERVER => server_command::resolve(options).map(|_| true),
            _ => Ok(false),
        }
    }

    /// The model outside that the options name; `None` where they name another.
    ///
    /// # Errors
    /// Something of it is missing or wrong, the program cannot be started, or there is no such server.
    pub(super) fn load(
        options: &GeneratorOptions,
        listener: &dyn Listener,
    ) -> anyhow::Result<Option<Self>> {
        match options.model.as_str() {
            catalog::PROGRAM => Self::program(options).map(Some),
            catalog::SERVER => Self::server(options, listener).map(Some),
            _ => Ok(None),
        }
    }

    fn program(options: &GeneratorOptions) -> anyhow::Result<Self> {
        let (program, seed, seed_mode) = program_command::resolve(options)?;
        let names = options.device_names();
        let mut generators: Vec<Box<dyn ImageGenerator>> = Vec::new();
        for name in &names {
            let one = ProgramGenerator::start(program.clone(), name)
                .with_context(|| format!("model {} cannot be loaded", options.model))?;
            generators.push(Box::new(one));
        }
        // Named as a judge names the same device, so that both are seen to share it.
        let described = |name: &&str| match parse_device(name) {
            Ok(device) => describe_device(&device),
            Err(_) => (*name).to_owned(),
        };
        let devices = names.iter().map(described).collect();
        Ok(Self { generators, devices, seed, seed_mode })
    }

    fn server(options: &GeneratorOptions, listener: &dyn Listener) -> anyhow::Result<Self> {
        let (server, seed, seed_mode) = server_command::resolve(options)?;
        let connected = ServerGenerator::connect(server)
            .with_context(|| format!("model {} cannot be had", options.model))?;
        let mut devices = Vec::new();
        if let Some(one) = connected.first() {
            listener.note(&format!("server: {}", one.described()));
            devices.push(format!("server {}", one.url()));
        }
        let mut generators: Vec<Box<dyn ImageGenerator>> = Vec::new();
        for one in connected {
            generators.push(Box::new(one));
        }
        Ok(Self { generators, devices, seed, seed_mode })
    }
}
