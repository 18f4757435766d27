//! Medians and spread of repeated samples.

use serde::{Deserialize, Serialize};

/// Repeated samples of one quantity, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The middle sample.
    pub median: f64,
    /// The smallest sample.
    pub minimum: f64,
    /// The largest sample.
    pub maximum: f64,
    /// Number of samples.
    pub samples: usize,
}

impl Summary {
    /// Sums up samples; none for no samples.
    #[must_use]
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let (minimum, maximum) = (*samples.first()?, *samples.last()?);
        Some(Self { median: quantile_of_sorted(&samples, 0.5), minimum, maximum, samples: samples.len() })
    }

    /// One exact value.
    #[must_use]
    pub fn exact(value: f64) -> Self {
        Self { median: value, minimum: value, maximum: value, samples: 1 }
    }
}

/// The value below which the share `quantile` of the samples lies, between neighbours in proportion; none for no samples.
#[must_use]
pub fn quantile(mut samples: Vec<f64>, quantile: f64) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    (!samples.is_empty()).then(|| quantile_of_sorted(&samples, quantile))
}

fn quantile_of_sorted(samples: &[f64], quantile: f64) -> f64 {
    let position = quantile.clamp(0.0, 1.0) * (samples.len() - 1) as f64;
    let (below, above) = (samples[position.floor() as usize], samples[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

/// Slope of the straight line through `points` (x, y) with least squared error; none for fewer than two different x.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    let common = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_sample() {
        let summary = Summary::of(vec![5.0, 1.0, 3.0]).expect("three samples");
        assert_eq!((summary.median, summary.minimum, summary.maximum, summary.samples), (3.0, 1.0, 5.0, 3));
        assert_eq!(Summary::of(vec![2.0, 1.0]).expect("two samples").median, 1.5);
        assert_eq!(Summary::of(vec![]), None);
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        assert_eq!(quantile((0..=100).map(f64::from).collect(), 0.99), Some(99.0));
        assert_eq!(quantile(vec![10.0, 20.0], 0.25), Some(12.5));
        assert_eq!(quantile(vec![], 0.5), None);
    }

    #[test]
    fn the_slope_ignores_the_offset() {
        assert_eq!(slope(&[(0.0, 7.0), (1.0, 9.0), (2.0, 11.0)]), Some(2.0));
        assert_eq!(slope(&[(1.0, 7.0), (1.0, 9.0)]), None);
    }
}
