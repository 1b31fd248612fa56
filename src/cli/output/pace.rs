//! In: how far work is, and the time. Out: its rate and the time left in words, the same everywhere; and once a minute a
//! plain line, for where no progress bar is.

use std::time::{Duration, Instant};

/// Between two lines.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// `2.4/s`, `9.5/min`, `3.1/h`: the shortest of these times in which there is a whole one.
pub(crate) fn rate(per_second: f64) -> String {
    let (number, unit) = match per_second {
        1.0.. => (per_second, "s"),
        rate if rate * 60.0 >= 1.0 => (rate * 60.0, "min"),
        rate => (rate * 3600.0, "h"),
    };
    format!("{number:.1}/{unit}")
}

/// `19 h 42 min`, `3 min`, `12 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match (minutes / 60, minutes % 60) {
        (0, 0..=1) => format!("{seconds:.0} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// `, 2.4/s, 29 min left`, where `fresh` were done in `elapsed` and `left` are still to do; empty where that says nothing.
pub(crate) fn pace(fresh: u64, left: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if fresh == 0 || left == 0 || seconds <= 0.0 {
        return String::new();
    }
    let per_second = fresh as f64 / seconds;
    format!(", {}, {} left", rate(per_second), duration(left as f64 / per_second))
}

/// Lines on a part of the work.
pub(crate) struct MinuteLines {
    /// What is done, as `generating`, and to what, as `images`.
    what: String,
    things: &'static str,
    begun: Instant,
    done_before: u64,
    next: Instant,
}

impl MinuteLines {
    /// For work that begins `now`, where an earlier process has done `done_before` of it.
    pub(crate) fn new(what: &str, things: &'static str, done_before: u64, now: Instant) -> Self {
        let what = what.trim_end().to_owned();
        Self { what, things, begun: now, done_before, next: now + MINUTE }
    }

    /// `generating 120/4260 images, 2.4/s, 29 min left`, if a minute has gone by since the last line.
    pub(crate) fn line(&mut self, done: u64, total: u64, now: Instant) -> Option<String> {
        if now < self.next {
            return None;
        }
        self.next = now + MINUTE;
        let fresh = done.saturating_sub(self.done_before);
        let pace = pace(fresh, total.saturating_sub(done), now - self.begun);
        Some(format!("{} {done}/{total} {}{pace}", self.what, self.things))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_durations_read_alike_everywhere() {
        let rates = [239.94, 2.4052, 0.99, 0.1, 1.0 / 60.0, 0.001, 0.0].map(rate);
        assert_eq!(rates, ["239.9/s", "2.4/s", "59.4/min", "6.0/min", "1.0/min", "3.6/h", "0.0/h"]);
        let durations = [0.4, 12.0, 89.0, 121.0, 3600.0, 70_920.0].map(duration);
        assert_eq!(durations, ["0 s", "12 s", "89 s", "2 min", "1 h 0 min", "19 h 42 min"]);
        let minute = Duration::from_secs(60);
        assert_eq!(pace(10, 90, minute), ", 10.0/min, 9 min left");
        for (fresh, left, elapsed) in [(0, 90, minute), (10, 0, minute), (10, 90, Duration::ZERO)] {
            assert_eq!(pace(fresh, left, elapsed), "");
        }
    }

    #[test]
    fn a_minute_has_one_line_with_the_rate_of_this_process() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut lines = MinuteLines::new("generating   ", "images", 100, begun);
        assert_eq!(lines.line(101, 4260, at(1)), None);
        assert_eq!(lines.line(244, 4260, at(59)), None);
        let told = lines.line(244, 4260, at(60)).unwrap();
        assert_eq!(told, "generating 244/4260 images, 2.4/s, 28 min left");
        assert_eq!(lines.line(250, 4260, at(61)), None);
        assert_eq!(lines.line(387, 4260, at(119)), None);
        // One image took long; the next minute begins where its line was.
        let told = lines.line(460, 4260, at(150)).unwrap();
        assert_eq!(told, "generating 460/4260 images, 2.4/s, 26 min left");
        assert_eq!(lines.line(461, 4260, at(209)), None);
        assert!(lines.line(461, 4260, at(210)).is_some());
        let mut lines = MinuteLines::new("encoding", "prompts", 0, begun);
        assert_eq!(lines.line(0, 9, at(60)).unwrap(), "encoding 0/9 prompts");
        assert_eq!(lines.line(9, 9, at(120)).unwrap(), "encoding 9/9 prompts");
    }
}
