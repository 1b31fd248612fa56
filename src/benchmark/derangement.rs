//! In: items and a seed. Out: for each item another one with a similar mix of categories, every item once. `control` asks
//! an item's images the questions of the other one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Item;
use super::digest::hex;

/// Each item with another one whose questions its images are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derangement {
    /// Of each item, the place of the other one. Each place stands here once, and none at itself.
    pub others: Vec<usize>,
    /// How far the mixes of the two are apart.
    pub mixes: MixDifference,
}

/// How far the mix of the questions that are asked is from that of an item's own questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixDifference {
    /// Items.
    pub items: u64,
    /// Those of them that are asked as many questions of each broad category as they have themselves.
    pub alike: u64,
    /// Questions of all items.
    pub questions: u64,
    /// Over all items and broad categories, the number of questions asked less that of an item's own, without its sign.
    pub differing: u64,
}

/// Questions per broad category.
type Mix<'a> = BTreeMap<&'a str, u64>;

impl Derangement {
    /// Deals the items, so that the same items and seed always give the same. `None` below two items.
    ///
    /// Items with the same number of questions in each broad category are a group. What is left alone is grouped again by
    /// these numbers halved and rounded down, then by quarters, and so on. If one item stays alone at the end, it joins the
    /// group of the item whose mix is nearest (of several the first). In each group the items stand in the order of the
    /// SHA-256 of seed, line break and id, and each takes the questions of the next one, the last those of the first.
    pub fn new(items: &[&Item], seed: u64) -> Option<Self> {
        if items.len() < 2 {
            return None;
        }
        let mixes: Vec<Mix<'_>> = items.iter().map(|item| mix(item)).collect();
        let mut others = vec![0; items.len()];
        for mut group in groups(&mixes) {
            group.sort_by_cached_key(|&place| luck(seed, &items[place].id));
            for (number, &place) in group.iter().enumerate() {
                others[place] = group[(number + 1) % group.len()];
            }
        }
        let differences = || (0..).zip(&others).map(|(own, &other)| apart(&mixes, own, other));
        let mixes = MixDifference {
            items: items.len() as u64,
            alike: differences().filter(|&difference| difference == 0).count() as u64,
            questions: mixes.iter().flat_map(BTreeMap::values).sum(),
            differing: differences().sum(),
        };
        Some(Self { others, mixes })
    }

    /// Places of items that would be asked their own questions, or whose questions nobody or more than one is asked.
    pub fn faults(&self) -> Vec<usize> {
        let mut taken = vec![0; self.others.len()];
        for &other in &self.others {
            taken[other] += 1;
        }
        (0..taken.len()).filter(|&place| self.others[place] == place || taken[place] != 1).collect()
    }

    /// Of each item, the place of the one whose images are asked its questions.
    pub fn images_of(&self) -> Vec<usize> {
        let mut images = vec![0; self.others.len()];
        for (place, &other) in self.others.iter().enumerate() {
            images[other] = place;
        }
        images
    }
}

fn mix(item: &Item) -> Mix<'_> {
    let mut mix = Mix::new();
    for question in item.graph.questions() {
        *mix.entry(question.category.l1()).or_default() += 1;
    }
    mix
}

/// Groups of at least two.
fn groups(mixes: &[Mix<'_>]) -> Vec<Vec<usize>> {
    let largest = mixes.iter().flat_map(BTreeMap::values).copied().max().unwrap_or_default();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut alone: Vec<usize> = (0..mixes.len()).collect();
    let mut width = 1;
    while alone.len() > 1 {
        let mut alike: BTreeMap<Vec<(&str, u64)>, Vec<usize>> = BTreeMap::new();
        for place in std::mem::take(&mut alone) {
            let coarse = mixes[place].iter().map(|(name, count)| (*name, count / width));
            alike.entry(coarse.filter(|(_, count)| *count > 0).collect()).or_default().push(place);
        }
        for group in alike.into_values() {
            if group.len() > 1 { groups.push(group) } else { alone.extend(group) }
        }
        alone.sort_unstable();
        // Beyond the largest number all are alike.
        width = if width > largest { width } else { 2 * width };
    }
    if let [left] = alone[..] {
        let nearest = (0..mixes.len()).filter(|&place| place != left);
        let nearest = nearest.min_by_key(|&place| (apart(mixes, left, place), place));
        let group =
            groups.iter_mut().find(|group| nearest.is_some_and(|near| group.contains(&near)));
        group.into_iter().for_each(|group| group.push(left));
    }
    groups
}

/// Over all categories, how many questions more or fewer.
fn apart(mixes: &[Mix<'_>], one: usize, other: usize) -> u64 {
    let (one, other) = (&mixes[one], &mixes[other]);
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    let count = |mix: &Mix<'_>, name: &&str| mix.get(*name).copied().unwrap_or_default();
    names.map(|name| count(one, name).abs_diff(count(other, name))).sum()
}

fn luck(seed: u64, id: &str) -> String {
    hex(&Sha256::digest(format!("{seed}\n{id}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::{Category, DeclaredParent, Question, QuestionGraph};
    use super::*;

    /// An item with so many questions of each category.
    fn item(id: usize, counts: &[(&str, usize)]) -> Item {
        let tuples = counts.iter().flat_map(|(name, count)| vec![format!("{name} (x)"); *count]);
        let questions = (1..).zip(tuples).map(|(id, tuple)| Question {
            id,
            text: String::new(),
            category: Category::from_tuple(&tuple),
            tuple,
            declared_parents: vec![DeclaredParent::None],
            row: id as usize,
        });
        let (graph, _) = QuestionGraph::build(questions.collect());
        Item { id: format!("item{id}"), prompt: String::new(), graph }
    }

    #[test]
    fn no_item_gets_its_own_questions_whatever_the_mixes() {
        for count in 2..60 {
            let items: Vec<Item> = (0..count)
                .map(|id| item(id, &[("entity", id % 7), ("other", id * id % 11), ("b - c", 1)]))
                .collect();
            let items: Vec<&Item> = items.iter().collect();
            for seed in 0..5 {
                let found = Derangement::new(&items, seed).unwrap();
                assert_eq!(found.faults(), [] as [usize; 0], "{count} items, seed {seed}");
                assert_eq!(Derangement::new(&items, seed), Some(found));
            }
        }
    }

    #[test]
    fn a_fixed_point_and_questions_asked_twice_are_seen() {
        let mixes = MixDifference { items: 3, alike: 3, questions: 3, differing: 0 };
        let faults = |others: [usize; 3]| Derangement { others: others.into(), mixes }.faults();
        assert_eq!(faults([1, 2, 0]), [] as [usize; 0]);
        assert_eq!(faults([1, 0, 2]), [2]);
        assert_eq!(faults([1, 0, 0]), [0, 2]);
    }

    #[test]
    fn groups_are_as_fine_as_two_items_in_each_let_them_be() {
        let counts: [&[(&str, usize)]; 7] = [
            &[("a", 2), ("b", 1)],
            &[("a", 2), ("b", 1)],
            // Alike once they are halved.
            &[("a", 4), ("b", 2)],
            &[("a", 5), ("b", 3)],
            // Alike as sixteenths alone, for the last has no category in common with it.
            &[("a", 9)],
            &[("b", 8)],
            &[("a", 2), ("b", 4)],
        ];
        let items: Vec<Item> = (0..).zip(counts).map(|(id, counts)| item(id, counts)).collect();
        let mixes: Vec<Mix<'_>> = items.iter().map(mix).collect();
        assert_eq!(groups(&mixes), [vec![0, 1], vec![2, 3], vec![4, 5, 6]]);
        // The fifth alone joins the group with the nearest item.
        let five = [&mixes[..4], &mixes[6..]].concat();
        assert_eq!(groups(&five), [vec![0, 1, 4], vec![2, 3]]);
        let found = Derangement::new(&items.iter().collect::<Vec<_>>(), 0).unwrap();
        assert_eq!((found.mixes.items, found.mixes.alike, found.mixes.questions), (7, 2, 43));
    }

    #[test]
    fn one_item_alone_cannot_be_dealt() {
        let only = item(0, &[("a", 1)]);
        assert_eq!(Derangement::new(&[&only], 0), None);
        assert_eq!(Derangement::new(&[], 0), None);
    }
}
