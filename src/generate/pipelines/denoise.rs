//! In: noise, a scheduler, a conditioning and a network. Out: clean latents. What the latents mean is
//! left to the pipelines.

use candle_core::{DType, Tensor};

use super::conditioning::{AddedConditions, Conditioning, TextCondition};
use crate::compute::device::keep_uploads;
use crate::generate::noise::ImageNoise;
use crate::generate::schedulers::Scheduler;
use crate::models::{AddedCondition, TextContext};

/// A network that predicts the noise (or velocity) in latents `[batch, channels, height, width]` at a
/// timestep, attending to texts `[1, tokens, width]`, each of which serves the same number of images
/// that follow one another, and told `added` beside them where it is SDXL's.
pub(crate) trait Denoiser {
    /// The prediction, of the latents' shape.
    ///
    /// # Errors
    /// The network failed.
    fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        texts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> candle_core::Result<Tensor>;
}

impl<F: Fn(&Tensor, f64, &Tensor) -> candle_core::Result<Tensor>> Denoiser for F {
    fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        texts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> candle_core::Result<Tensor> {
        if added.is_some() {
            candle_core::bail!("this network takes no pooled text and no sizes")
        }
        let images = latents.dim(0)? / texts.len().max(1);
        let rows = texts.iter().map(|text| repeat(text.states(), images));
        self(latents, timestep, &Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }
}

/// The network of a walk, and another one that takes its place in a part of the steps.
#[derive(Clone, Copy)]
pub(crate) struct Networks<'a> {
    /// Where the other one does not predict.
    pub(crate) usual: &'a dyn Denoiser,
    /// The other one, where there is one.
    pub(crate) other: Option<(StepRange, &'a dyn Denoiser)>,
}

impl<'a> Networks<'a> {
    /// One network for all steps.
    pub(crate) fn one(network: &'a dyn Denoiser) -> Self {
        Self { usual: network, other: None }
    }

    /// That of step `index` of `steps`.
    fn at(&self, index: usize, steps: usize) -> &'a dyn Denoiser {
        match self.other {
            Some((range, other)) if range.holds(index, steps) => other,
            _ => self.usual,
        }
    }
}

/// A part of a walk, as shares of its steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepRange {
    /// No step begins before it.
    pub(crate) start: f64,
    /// No step ends after it.
    pub(crate) end: f64,
}

impl StepRange {
    /// Whether step `index` of `steps` lies in it, as `controlnet_keep` of diffusers' pipelines has it.
    fn holds(self, index: usize, steps: usize) -> bool {
        let share = |index: usize| index as f64 / steps as f64;
        share(index) >= self.start && share(index + 1) <= self.end
    }
}

/// Walks from noise to latents with classifier-free guidance (arXiv 2207.12598):
/// `unconditional + guidance * (conditional - unconditional)`. The latents stay f32 throughout:
/// `[images, channels, height, width]`.
///
/// # Errors
/// The network, the conditioning or a tensor operation failed.
pub(crate) fn denoise(
    networks: Networks<'_>,
    conditioning: &dyn Conditioning,
    scheduler: &mut dyn Scheduler,
    guidance: f64,
    noise: &mut ImageNoise,
) -> candle_core::Result<Tensor> {
    denoise_up_to(networks, conditioning, scheduler, guidance, noise, usize::MAX)
}

/// As [`denoise`], but no further than `most` timesteps: to measure how long they take.
///
/// # Errors
/// As there.
pub(crate) fn denoise_up_to(
    networks: Networks<'_>,
    conditioning: &dyn Conditioning,
    scheduler: &mut dyn Scheduler,
    guidance: f64,
    noise: &mut ImageNoise,
    most: usize,
) -> candle_core::Result<Tensor> {
    let mut latents = noise.draw()?.affine(scheduler.init_noise_sigma(), 0.0)?;
    let timesteps = scheduler.timesteps().to_vec();
    let _uploads = keep_uploads(latents.device());
    let added = Added::of(conditioning.added(), latents.dim(0)?)?;
    for (index, &timestep) in timesteps.iter().enumerate().take(most) {
        let shown = scheduler.scale_model_input(index, &latents)?;
        let condition = conditioning.at(timestep)?;
        let network = networks.at(index, timesteps.len());
        let prediction = guided(network, &shown, timestep, (&condition, &added), guidance)?;
        let fresh = scheduler.wants_noise(index).then(|| noise.draw()).transpose()?;
        latents = scheduler.step(index, &latents, &prediction, fresh.as_ref())?;
    }
    Ok(latents)
}

fn guided(
    network: &dyn Denoiser,
    latents: &Tensor,
    timestep: f64,
    (condition, added): (&TextCondition, &Added),
    guidance: f64,
) -> candle_core::Result<Tensor> {
    let images = latents.dim(0)?;
    let predict = |latents: &Tensor, texts: &[&TextContext], added: Option<&AddedCondition>| {
        network.predict(latents, timestep, texts, added)?.to_dtype(DType::F32)
    };
    let conditional = &condition.conditional;
    let Some(unconditional) = &condition.unconditional else {
        return predict(latents, &[conditional], added.conditional);
    };
    let (without, with) = if unconditional.states().dims() == conditional.states().dims() {
        // Both halves in one call, as diffusers orders them.
        let both = predict(
            &Tensor::cat(&[latents, latents], 0)?,
            &[unconditional, conditional],
            added.both.as_ref(),
        )?;
        (both.narrow(0, 0, images)?, both.narrow(0, images, images)?)
    } else {
        (
            predict(latents, &[unconditional], added.unconditional)?,
            predict(latents, &[conditional], added.conditional)?,
        )
    };
    &without + ((with - &without)? * guidance)?
}

/// What the network is told beside the texts, at every timestep of a picture.
#[derive(Default)]
struct Added<'a> {
    conditional: Option<&'a AddedCondition>,
    unconditional: Option<&'a AddedCondition>,
    /// Where both halves go in one call.
    both: Option<AddedCondition>,
}

impl<'a> Added<'a> {
    fn of(conditions: Option<&'a AddedConditions>, images: usize) -> candle_core::Result<Self> {
        let Some(conditions) = conditions else { return Ok(Self::default()) };
        let conditional = Some(&conditions.conditional);
        let unconditional = conditions.unconditional.as_ref();
        let both = both_halves(unconditional, conditional, images)?;
        Ok(Self { conditional, unconditional, both })
    }
}

/// The pooled texts of both halves, one row for each of their `images`; the sizes are the same.
fn both_halves(
    unconditional: Option<&AddedCondition>,
    conditional: Option<&AddedCondition>,
    images: usize,
) -> candle_core::Result<Option<AddedCondition>> {
    let (Some(without), Some(with)) = (unconditional, conditional) else {
        return Ok(None);
    };
    if without.time_ids != with.time_ids {
        candle_core::bail!("the halves of a picture have the same sizes")
    }
    let pooled = Tensor::cat(&[&without.pooled, &with.pooled], 0)?;
    let rows: Vec<u32> = (0..2 * images).map(|row| u32::from(row >= images)).collect();
    let rows = Tensor::from_vec(rows, 2 * images, pooled.device())?;
    Ok(Some(AddedCondition::new(pooled.index_select(&rows, 0)?, with.time_ids.clone())))
}

/// `[1, tokens, width]` to `[images, tokens, width]`.
fn repeat(context: &Tensor, images: usize) -> candle_core::Result<Tensor> {
    let (_, tokens, width) = context.dims3()?;
    context.broadcast_as((images, tokens, width))?.contiguous()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::checkpoint::scheduler_config::SchedulerConfig;
    use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
    use crate::generate::noise::TorchGenerator;
    use crate::generate::pipelines::conditioning::FixedConditioning;

    const SHAPE: (usize, usize, usize) = (4, 3, 5);

    fn context(tokens: usize, value: f32) -> TextContext {
        TextContext::new(Tensor::full(value, (1, tokens, 2), &Device::Cpu).unwrap())
    }

    /// Depends on latents, time and every number of the context.
    fn network(latents: &Tensor, timestep: f64, context: &Tensor) -> candle_core::Result<Tensor> {
        let mean = context.mean_keepdim((1, 2))?.unsqueeze(3)?;
        latents.affine(0.7, timestep * 1e-3)?.sin()?.broadcast_mul(&mean)
    }

    fn run(seeds: &[u64], condition: TextCondition, guidance: f64) -> Vec<Vec<f32>> {
        let config = SchedulerConfig::from_json(
            "{\"steps_offset\": 1}",
            Some(SchedulerClass::EulerDiscrete),
        );
        let mut scheduler = config.unwrap().scheduler(6).unwrap();
        let mut noise = ImageNoise::new(seeds, SHAPE, &Device::Cpu);
        let conditioning = FixedConditioning(condition);
        let networks = Networks::one(&network);
        let latents = denoise(networks, &conditioning, scheduler.as_mut(), guidance, &mut noise);
        latents.unwrap().flatten_from(1).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let condition =
            || TextCondition { conditional: context(7, 0.9), unconditional: Some(context(7, 0.2)) };
        let together = run(&[5, 6, 7, 8], condition(), 7.5);
        for (seed, expected) in [5, 6, 7, 8].into_iter().zip(&together) {
            assert_eq!(&run(&[seed], condition(), 7.5)[0], expected);
        }
        assert_ne!(together[0], together[1]);
    }

    #[test]
    fn halves_of_different_lengths_give_what_equal_ones_give() {
        // The stand-in takes a mean, so that the number of equal tokens does not matter.
        let with = |tokens| TextCondition {
            conditional: context(7, 0.5),
            unconditional: Some(context(tokens, 0.25)),
        };
        assert_eq!(run(&[1, 2], with(7), 3.0), run(&[1, 2], with(1), 3.0));
    }

    #[test]
    fn guidance_extrapolates_from_the_unconditional_half() {
        let plain = |value| TextCondition { conditional: context(7, value), unconditional: None };
        let both = |with, without| TextCondition {
            conditional: context(7, with),
            unconditional: Some(context(7, without)),
        };
        // The stand-in is linear in the context: 0.25 + 3 * (0.5 - 0.25) = 1.
        let guided = run(&[3], both(0.5, 0.25), 3.0);
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close(&guided[0], &run(&[3], plain(1.0), 1.0)[0]));
        // The halves the other way round: 0.5 + 3 * (0.25 - 0.5) = -0.25.
        assert!(!close(&run(&[3], both(0.25, 0.5), 3.0)[0], &guided[0]));
        assert!(close(&run(&[3], both(0.25, 0.5), 3.0)[0], &run(&[3], plain(-0.25), 1.0)[0]));
    }

    #[test]
    fn another_network_predicts_in_its_part_of_the_steps() {
        let held = |start: f64, end: f64, steps: usize| -> Vec<usize> {
            (0..steps).filter(|&index| StepRange { start, end }.holds(index, steps)).collect()
        };
        assert_eq!(held(0.0, 1.0, 3), [0, 1, 2]);
        assert_eq!(held(0.3, 0.7, 8), [3, 4]);
        assert_eq!(held(0.25, 0.5, 4), [1]);
        assert_eq!(held(0.5, 1.0, 5), [3, 4]);
        assert_eq!(held(0.4, 0.41, 8), [0; 0]);
        // What floats make of a third of three steps is what Python makes of it.
        assert_eq!(held(1.0 / 3.0, 2.0 / 3.0, 3), [1]);
        let other = |latents: &Tensor, _: f64, _: &Tensor| Ok(latents.clone());
        let networks =
            Networks { usual: &network, other: Some((StepRange { start: 0.5, end: 1.0 }, &other)) };
        let latents = Tensor::ones((1, 4, 3, 5), DType::F32, &Device::Cpu).unwrap();
        let first = |index| {
            let text = context(7, 0.5);
            let made = networks.at(index, 2).predict(&latents, 1.0, &[&text], None).unwrap();
            made.flatten_all().unwrap().get(0).unwrap().to_scalar::<f32>().unwrap()
        };
        assert_eq!(first(1), 1.0);
        assert!(first(0) < 0.5);
    }

    /// Adds the first number of each row's pooled text, so that each entry shows which row it got.
    struct Pooled;

    impl Denoiser for Pooled {
        fn predict(
            &self,
            latents: &Tensor,
            _: f64,
            _: &[&TextContext],
            added: Option<&AddedCondition>,
        ) -> candle_core::Result<Tensor> {
            let added = added.unwrap();
            assert_eq!(added.time_ids, [7.0, 5.0]);
            let rows = added.pooled.narrow(1, 0, 1)?.unsqueeze(2)?.unsqueeze(3)?;
            latents.zeros_like()?.broadcast_add(&rows)
        }
    }

    #[test]
    fn each_half_gets_its_own_pooled_text() {
        let added = |value: f32, sizes: [f64; 2]| {
            let pooled = Tensor::full(value, (1, 3), &Device::Cpu).unwrap();
            AddedCondition::new(pooled, sizes.to_vec())
        };
        let latents = Tensor::zeros((2, 4, 3, 5), DType::F32, &Device::Cpu).unwrap();
        let run = |negative_tokens: Option<usize>, negative_sizes: [f64; 2]| {
            let condition = TextCondition {
                conditional: context(7, 0.0),
                unconditional: negative_tokens.map(|tokens| context(tokens, 0.0)),
            };
            let unconditional = negative_tokens.map(|_| added(0.25, negative_sizes));
            let added = AddedConditions { conditional: added(0.5, [7.0, 5.0]), unconditional };
            let added = Added::of(Some(&added), 2)?;
            let guided = guided(&Pooled, &latents, 1.0, (&condition, &added), 3.0)?;
            guided.flatten_all()?.to_vec1::<f32>()
        };
        // 0.25 + 3 * (0.5 - 0.25), whether the halves go together or, at their own lengths, apart.
        for tokens in [7, 2] {
            assert!(run(Some(tokens), [7.0, 5.0]).unwrap().iter().all(|value| *value == 1.0));
        }
        assert!(run(None, [7.0, 5.0]).unwrap().iter().all(|value| *value == 0.5));
        assert!(run(Some(7), [5.0, 7.0]).is_err());
        // A network that takes none says so.
        let condition = TextCondition { conditional: context(7, 0.0), unconditional: None };
        let added = AddedConditions { conditional: added(0.5, [7.0, 5.0]), unconditional: None };
        let added = Added::of(Some(&added), 2).unwrap();
        let error = guided(&network, &latents, 1.0, (&condition, &added), 3.0).unwrap_err();
        assert!(error.to_string().contains("takes no pooled text"), "{error}");
    }

    /// Adds fresh noise at its second of three steps.
    struct Restless(Vec<f64>);

    impl Scheduler for Restless {
        fn timesteps(&self) -> &[f64] {
            &self.0
        }

        fn wants_noise(&self, index: usize) -> bool {
            index == 1
        }

        fn step(
            &mut self,
            index: usize,
            latents: &Tensor,
            _: &Tensor,
            noise: Option<&Tensor>,
        ) -> candle_core::Result<Tensor> {
            assert_eq!(noise.is_some(), index == 1);
            noise.map_or(Ok(latents.clone()), |noise| latents + noise)
        }
    }

    #[test]
    fn fresh_noise_goes_on_in_each_images_own_stream() {
        let condition = TextCondition { conditional: context(1, 0.0), unconditional: None };
        let mut noise = ImageNoise::new(&[8, 9], SHAPE, &Device::Cpu);
        let mut scheduler = Restless(vec![3.0, 2.0, 1.0]);
        let conditioning = FixedConditioning(condition);
        let networks = Networks::one(&network);
        let latents = denoise(networks, &conditioning, &mut scheduler, 1.0, &mut noise).unwrap();
        let latents: Vec<Vec<f32>> = latents.flatten_from(1).unwrap().to_vec2().unwrap();
        for (seed, found) in [8, 9].into_iter().zip(latents) {
            let mut generator = TorchGenerator::new(seed);
            let (first, second) = (generator.randn(60), generator.randn(60));
            let sum: Vec<f32> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
            assert_eq!(found, sum);
        }
    }
}
