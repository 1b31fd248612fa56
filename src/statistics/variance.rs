//! In: the scores of every item's images. Out: how much of their variance lies between items and how
//! much between the images of an item: the one says how many prompts a run needs, the other how many
//! images.

/// Variances of one image's score, by their source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VarianceSplit {
    /// Of the items' true means.
    pub between_items: f64,
    /// Of an image's score about its item's mean; 0 is also told where no item has two images.
    pub between_images: f64,
    /// Items with a score.
    pub items: usize,
    /// Images per item: their number over that of items, less what unequal numbers cost.
    pub images: f64,
}

impl VarianceSplit {
    /// The random-effects analysis of variance of one way (Searle, Casella and McCulloch, Variance
    /// Components, 1992, 3.6): `scores` has one slice per item. A negative component is told as 0.
    /// `None` below two items with a score.
    pub fn of(scores: &[impl AsRef<[f64]>]) -> Option<Self> {
        let groups = scores.iter().map(AsRef::as_ref).filter(|group| !group.is_empty());
        let (mut items, mut images, mut squared_sizes) = (0.0, 0.0, 0.0);
        let (mut total, mut within) = (0.0, 0.0);
        for group in groups.clone() {
            let mean = mean(group);
            items += 1.0;
            images += group.len() as f64;
            squared_sizes += (group.len() as f64).powi(2);
            total += group.iter().sum::<f64>();
            within += group.iter().map(|score| (score - mean).powi(2)).sum::<f64>();
        }
        if items < 2.0 {
            return None;
        }
        let grand_mean = total / images;
        let between: f64 =
            groups.map(|group| group.len() as f64 * (mean(group) - grand_mean).powi(2)).sum();
        let between_images = if images > items { within / (images - items) } else { 0.0 };
        let size = (images - squared_sizes / images) / (items - 1.0);
        let between_items = ((between / (items - 1.0) - between_images) / size).max(0.0);
        Some(Self { between_items, between_images, items: items as usize, images: size })
    }

    /// The variance of the mean over `items` items of `images` images each.
    pub fn of_mean(&self, items: f64, images: f64) -> f64 {
        (self.between_items + self.between_images / images) / items
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
