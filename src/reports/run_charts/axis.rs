//! In: the values of an axis and where it lies. Out: places of values, and round ticks.

/// An axis from `from` to `to` (values), laid over pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    /// Value at the beginning.
    pub from: f64,
    /// Value at the end.
    pub to: f64,
    /// Pixel of the beginning.
    pub start: f64,
    /// Pixel of the end.
    pub end: f64,
}

impl Axis {
    /// The pixel of a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    /// Round values inside the axis, about as many as `wanted`.
    pub(crate) fn ticks(&self, wanted: f64) -> Vec<f64> {
        let step = round_step((self.to - self.from) / wanted);
        let first = (self.from / step - 1e-9).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last).map(|number| number as f64 * step).collect()
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
pub(crate) fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

/// A tick's value without needless digits.
pub(crate) fn tick_label(value: f64) -> String {
    let rounded = (value * 1000.0).round() / 1000.0;
    // No minus before a zero.
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded }).replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis { from: -3.2, to: 7.1, start: 100.0, end: 203.0 };
        assert_eq!(axis.ticks(5.0), [0.0, 5.0]);
        assert_eq!(axis.ticks(6.0), [-2.0, 0.0, 2.0, 4.0, 6.0]);
        assert_eq!((axis.at(-3.2), axis.at(7.1)), (100.0, 203.0));
        assert_eq!(tick_label(-0.0), "0");
        assert_eq!(tick_label(-2.0), "−2");
    }
}
