//! In: all that may be drawn, and how many answers people are to label. Out: strata, and so many units of each, drawn at random.
//! A seed gives the same units everywhere.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::cells::Cell;
use super::population::{Population, UnitKind};
use crate::statistics::sampling::{Sampler, allocation};

/// Fewest units that are drawn of a stratum: below two nothing is known of its spread.
pub const FEWEST: u64 = 2;

/// A part of the population, of which a number of units is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stratum {
    /// What its units have in common: the names of its cells.
    pub name: String,
    /// Units that it has.
    pub units: u64,
    /// Units that are drawn, each set of so many equally likely.
    pub drawn: u64,
}

impl Stratum {
    /// How many units one that is drawn stands for.
    pub fn weight(&self) -> f64 {
        self.units as f64 / self.drawn as f64
    }
}

/// The strata of a population.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strata {
    /// In the order of their cells.
    pub strata: Vec<Stratum>,
    /// Per unit of the population, in its order, the place of its stratum.
    pub of_unit: Vec<usize>,
}

impl Strata {
    /// Strata of `population` where people are to label `labels_wanted` answers. Each cell is one. While a stratum has fewer than
    /// two units, or there are too many to draw two of each, the smallest (of equal ones the first) is joined with the stratum
    /// before or behind it: the one whose cell beside it has more words in common, else the smaller, else the one before.
    ///
    /// Of the units wanted each stratum has a number in proportion to the square root of its size, at least two.
    pub fn of(population: &Population<'_>, labels_wanted: u64) -> Self {
        let wanted = units_wanted(population, labels_wanted);
        let mut sizes = vec![0; population.cells.len()];
        population.units.iter().for_each(|unit| sizes[unit.cell] += 1);
        let mut parts: Vec<Part> = (0..sizes.len())
            .map(|cell| Part { first: cell, last: cell, units: sizes[cell] })
            .collect();
        while let Some(smallest) = to_be_joined(&parts, wanted) {
            let with = neighbour(&parts, smallest, &population.cells);
            let (before, behind) = (smallest.min(with), smallest.max(with));
            let joined = parts.remove(behind);
            parts[before].last = joined.last;
            parts[before].units += joined.units;
        }
        let sizes: Vec<u64> = parts.iter().map(|part| part.units).collect();
        let weights: Vec<f64> = sizes.iter().map(|&units| (units as f64).sqrt()).collect();
        let low: Vec<u64> = sizes.iter().map(|&units| units.min(FEWEST)).collect();
        let drawn = allocation(wanted, &weights, &low, &sizes);
        let strata = parts.iter().zip(drawn).map(|(part, drawn)| Stratum {
            name: part.name(&population.cells),
            units: part.units,
            drawn,
        });
        let stratum_of = |cell: usize| parts.iter().position(|part| cell <= part.last);
        let of_cell: Vec<usize> = (0..population.cells.len()).filter_map(stratum_of).collect();
        Self {
            strata: strata.collect(),
            of_unit: population.units.iter().map(|unit| of_cell[unit.cell]).collect(),
        }
    }

    /// Units that are drawn, of all strata.
    pub fn drawn(&self) -> u64 {
        self.strata.iter().map(|stratum| stratum.drawn).sum()
    }

    /// Draws the units: of each stratum a simple random sample without replacement. Returns their places in the population, in
    /// random order.
    pub fn draw(&self, seed: u64) -> Vec<usize> {
        let mut sampler = Sampler::of_seed(seed);
        let mut drawn = Vec::new();
        for (place, stratum) in self.strata.iter().enumerate() {
            let units: Vec<usize> =
                (0..self.of_unit.len()).filter(|&unit| self.of_unit[unit] == place).collect();
            let sample = sampler.sample(units.len(), stratum.drawn as usize);
            drawn.extend(sample.into_iter().map(|place| units[place]));
        }
        let order = sampler.sample(drawn.len(), drawn.len());
        order.into_iter().map(|place| drawn[place]).collect()
    }
}

/// How many units have so many answers: as many where units are questions, and of images so many that on average they have.
fn units_wanted(population: &Population<'_>, labels_wanted: u64) -> u64 {
    let units = population.units.len() as u64;
    match population.kind {
        UnitKind::Questions => labels_wanted.min(units),
        UnitKind::Images => {
            let answers = population.answers().max(1);
            let wanted = u128::from(labels_wanted) * u128::from(units);
            let images = wanted.div_ceil(u128::from(answers));
            u64::try_from(images).unwrap_or(units).max(FEWEST).min(units)
        }
    }
}

/// A stratum while it is made: cells that follow each other.
struct Part {
    first: usize,
    last: usize,
    units: u64,
}

impl Part {
    fn name(&self, cells: &[Cell]) -> String {
        let names: Vec<String> = cells[self.first..=self.last].iter().map(Cell::name).collect();
        names.join(" + ")
    }
}

/// The stratum that cannot stand alone.
fn to_be_joined(parts: &[Part], wanted: u64) -> Option<usize> {
    let smallest = (0..parts.len()).min_by_key(|&place| parts[place].units)?;
    let is_too_small = parts[smallest].units < FEWEST;
    let are_too_many = parts.len() as u64 * FEWEST > wanted;
    (parts.len() > 1 && (is_too_small || are_too_many)).then_some(smallest)
}

/// The stratum that the one at `place` is joined with.
fn neighbour(parts: &[Part], place: usize, cells: &[Cell]) -> usize {
    let before = place.checked_sub(1);
    let behind = Some(place + 1).filter(|&behind| behind < parts.len());
    let nearness = |&other: &usize| {
        // Where they touch.
        let edge = parts[place.max(other)].first;
        (cells[edge - 1].in_common(&cells[edge]), Reverse(parts[other].units), Reverse(other))
    };
    before.into_iter().chain(behind).max_by_key(nearness).unwrap_or(place)
}
