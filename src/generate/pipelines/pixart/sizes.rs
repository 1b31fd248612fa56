//! In: the size that is asked for. Out: the size of PixArt's table that a picture is made in. Bringing it to the size asked for
//! is left to `diffusion`.

/// A ratio of height to width, as the table is looked up by, with height and width in sixteenths of the table's side.
type Row = (f64, usize, usize);

/// The tables for 256, 512 and 1024 pixels, which are the same but for their unit.
const SIZES: &[Row] = &[
    (0.25, 8, 32),
    (0.28, 8, 29),
    (0.32, 9, 28),
    (0.33, 9, 27),
    (0.35, 9, 26),
    (0.4, 10, 25),
    (0.42, 10, 24),
    (0.48, 11, 23),
    (0.5, 11, 22),
    (0.52, 11, 21),
    (0.57, 12, 21),
    (0.6, 12, 20),
    (0.68, 13, 19),
    (0.72, 13, 18),
    (0.78, 14, 18),
    (0.82, 14, 17),
    (0.88, 15, 17),
    (0.94, 15, 16),
    (1.0, 16, 16),
    (1.07, 16, 15),
    (1.13, 17, 15),
    (1.21, 17, 14),
    (1.29, 18, 14),
    (1.38, 18, 13),
    (1.46, 19, 13),
    (1.67, 20, 12),
    (1.75, 21, 12),
    (2.0, 22, 11),
    (2.09, 23, 11),
    (2.4, 24, 10),
    (2.5, 25, 10),
    (3.0, 27, 9),
    (4.0, 32, 8),
];

/// What the table for 2048 pixels has besides.
const MORE_SIZES: &[Row] = &[
    (0.26, 8, 31),
    (0.27, 8, 30),
    (2.89, 26, 9),
    (3.11, 28, 9),
    (3.62, 29, 8),
    (3.75, 30, 8),
    (3.88, 31, 8),
];

/// Height and width in pixels that a network for latents of `sample_size` a side makes where `height` x `width` are asked:
/// those of the nearest ratio, the smaller one where two are as near. `None` where there is no table.
pub(super) fn table_size(
    sample_size: usize,
    (height, width): (usize, usize),
) -> Option<(usize, usize)> {
    let unit = match sample_size {
        32 | 64 | 128 | 256 => sample_size / 2,
        _ => return None,
    };
    let ratio = height as f64 / width as f64;
    let more = if sample_size == 256 { MORE_SIZES } else { &[] };
    let mut rows: Vec<&Row> = SIZES.iter().chain(more).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let distance = |row: &&&Row| (row.0 - ratio).abs();
    let nearest = rows.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.map(|(_, height, width)| (height * unit, width * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_ratio_is_taken() {
        assert_eq!(table_size(128, (1024, 1024)), Some((1024, 1024)));
        assert_eq!(table_size(64, (1008, 1008)), Some((512, 512)));
        assert_eq!(table_size(32, (1, 100)), Some((128, 512)));
        assert_eq!(table_size(128, (768, 1344)), Some((768, 1344)));
        assert_eq!(table_size(128, (384, 100)), Some((2048, 512)));
        assert_eq!(table_size(256, (388, 100)), Some((3968, 1024)));
        assert_eq!(table_size(100, (384, 100)), None);
    }
}
