//! Seeded randomness.

use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

/// What a stream of random numbers is for. Each has its own, so that what a policy draws does not change who arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// When requests arrive.
    Arrivals,
    /// How long they take to serve.
    Demands,
    /// What the policy draws.
    Policy,
    /// Which client a request arrives at.
    Clients,
    /// What servers and their machines are like.
    Servers,
}

impl Stream {
    /// The stream of a seed.
    #[must_use]
    pub fn of(self, seed: u64) -> Xoshiro256PlusPlus {
        let mut state = [0; 32];
        state[..8].copy_from_slice(&seed.to_le_bytes());
        state[8] = 1 + self as u8;
        let mut rng = Xoshiro256PlusPlus::from_seed(state);
        // A state of almost only zeros is forgotten after a few numbers.
        (0..64).for_each(|_| _ = rng.next_u64());
        rng
    }
}

/// From 0 to 1.
pub fn uniform(rng: &mut impl Rng) -> f64 {
    rng.random()
}

/// A time from the exponential distribution.
pub fn exponential(rng: &mut impl Rng, mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - uniform(rng)).ln())
}

/// From the normal distribution of mean 0 and deviation 1 (Box and Muller).
pub fn normal(rng: &mut impl Rng) -> f64 {
    let (radius, angle) = ((-2.0 * (1.0 - uniform(rng)).ln()).sqrt(), std::f64::consts::TAU * uniform(rng));
    radius * angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_seed_differ_and_come_back() {
        let first = |stream: Stream, seed| stream.of(seed).next_u64();
        assert_ne!(first(Stream::Arrivals, 1), first(Stream::Demands, 1));
        assert_ne!(first(Stream::Arrivals, 1), first(Stream::Arrivals, 2));
        assert_eq!(first(Stream::Policy, 1), first(Stream::Policy, 1));
    }

    #[test]
    fn normal_numbers_are_normal() {
        let (mut rng, count) = (Stream::Demands.of(7), 200_000);
        let numbers: Vec<f64> = (0..count).map(|_| normal(&mut rng)).collect();
        let share = |below: f64| numbers.iter().filter(|number| **number < below).count() as f64 / f64::from(count);
        for (below, expected) in [(-2.0, 0.022_75), (-1.0, 0.158_66), (0.0, 0.5), (1.0, 0.841_34), (3.0, 0.998_65)] {
            let error = (expected * (1.0 - expected) / f64::from(count)).sqrt();
            assert!((share(below) - expected).abs() < 4.0 * error, "{below}: {}, seed 7", share(below));
        }
    }

    #[test]
    fn exponential_times_have_their_mean_and_deviation() {
        let (mut rng, count) = (Stream::Demands.of(7), 200_000_u32);
        let times: Vec<f64> = (0..count).map(|_| exponential(&mut rng, Duration::from_secs(3)).as_secs_f64()).collect();
        let mean = times.iter().sum::<f64>() / f64::from(count);
        let deviation = (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / f64::from(count)).sqrt();
        // Four standard errors of the mean; the deviation's is sqrt(2) times that.
        let error = 3.0 / f64::from(count).sqrt();
        assert!(
            (mean - 3.0).abs() < 4.0 * error && (deviation - 3.0).abs() < 6.0 * error,
            "{mean} {deviation}, seed 7"
        );
    }
}
