//! The figures of a progress bar: how fast it goes, and how long it will take.
//!
//! No clock is read here: whoever measures hands in the time since the start.

use std::time::Duration;

/// How long a step's part in the speed takes to halve.
const HALF_LIFE: Duration = Duration::from_secs(15);

/// The speed of a training, smoothed over the last half minute or so.
///
/// Tokens and time are both averaged with weights that halve every 15 seconds, and divided; so a
/// step counts by how long it took, and the first steps count in full (there is nothing before them
/// to be pulled towards).
#[derive(Debug, Clone, PartialEq)]
pub struct Speed {
    now: Duration,
    tokens: f64,
    steps: f64,
    seconds: f64,
}

impl Speed {
    /// Starts at `now`: where a training resumes, the time before does not count.
    pub fn new(now: Duration) -> Self {
        Self {
            now,
            tokens: 0.0,
            steps: 0.0,
            seconds: 0.0,
        }
    }

    /// Takes note of a step that ended at `now` and took in `tokens` tokens.
    pub fn step(&mut self, now: Duration, tokens: u64) {
        let seconds = now.saturating_sub(self.now).as_secs_f64();
        let keep = 0.5_f64.powf(seconds / HALF_LIFE.as_secs_f64());
        self.now = self.now.max(now);
        self.tokens = self.tokens * keep + tokens as f64;
        self.steps = self.steps * keep + 1.0;
        self.seconds = self.seconds * keep + seconds;
    }

    /// Leaves out the time up to `now`, in which no step was made: an evaluation, a checkpoint.
    pub fn pause(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Tokens a second; none before the first step.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.tokens / self.seconds)
    }

    /// How long `steps` more will take; none before the first step.
    pub fn time_for(&self, steps: u64) -> Option<Duration> {
        (self.steps > 0.0)
            .then(|| steps as f64 * self.seconds / self.steps)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn before_the_first_step_nothing_is_known() {
        let speed = Speed::new(seconds(5));
        assert_eq!((speed.tokens_per_second(), speed.time_for(3)), (None, None));
    }

    #[test]
    fn a_steady_training_has_its_own_speed() {
        let mut speed = Speed::new(seconds(100));
        for step in 1..=50 {
            speed.step(seconds(100 + 2 * step), 1000);
            let rate = speed.tokens_per_second().unwrap();
            assert!((rate - 500.0).abs() < 1e-9, "{step}: {rate}");
        }
        let left = speed.time_for(10).unwrap().as_secs_f64();
        assert!((left - 20.0).abs() < 1e-6, "{left}");
    }

    #[test]
    fn a_change_of_speed_shows_within_a_minute() {
        let mut speed = Speed::new(seconds(0));
        for step in 1..=60 {
            speed.step(seconds(step), 100);
        }
        for step in 61..=120 {
            speed.step(seconds(step), 200);
        }
        let rate = speed.tokens_per_second().unwrap();
        assert!((190.0..200.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_pause_does_not_count() {
        let mut speed = Speed::new(seconds(0));
        speed.step(seconds(1), 100);
        speed.pause(seconds(61));
        speed.step(seconds(62), 100);
        let rate = speed.tokens_per_second().unwrap();
        assert!((rate - 100.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn a_clock_that_goes_back_and_endless_times_do_no_harm() {
        let mut speed = Speed::new(seconds(10));
        speed.step(seconds(5), 100);
        assert_eq!(speed.tokens_per_second(), None);
        speed.step(seconds(20), 100);
        assert!(speed.tokens_per_second().is_some());
        assert_eq!(speed.time_for(u64::MAX), None);
    }
}
