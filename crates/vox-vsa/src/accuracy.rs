//! How exact the answers are: what theory says of random vectors.
//!
//! Of `n` unrelated members at `D` dimensions. What a role was bound to comes back, when the role is
//! unbound from a bundle of pairs, as like the original as a member is like its bundle, because
//! binding keeps similarities; so these figures are those of both.
//!
//! The figures here are for people and for choosing sizes. They are computed with the platform's
//! logarithm and exponential function, so that their last digits may differ between machines, and no
//! operation on vectors depends on them.

/// The similarity of a member to its bundle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Its mean.
    pub similarity: f64,
    /// Its standard deviation from bundle to bundle.
    pub deviation: f64,
}

/// What to expect of a member of a bipolar bundle.
///
/// A member agrees with the majority of `n` votes (`n` odd, or one more for the tie break) unless
/// the others outvote it, which makes the mean `C(n - 1, (n - 1) / 2) / 2^(n - 1)`, about
/// `sqrt(2 / (pi * n))`. Dimensions are independent, so the deviation is `sqrt((1 - mean^2) / D)`.
/// Without members, both are 0.
pub fn bipolar_member(members: usize, dimensions: usize) -> Expected {
    let similarity = bipolar_similarity(members);
    Expected {
        similarity,
        deviation: ((1.0 - similarity * similarity) / dimensions as f64).sqrt(),
    }
}

/// What to expect of a member of a ternary bundle of bipolar vectors
/// ([`bundle_beyond`](crate::Ternary::bundle_beyond); `threshold` is 0 for
/// [`bundle`](crate::Ternary::bundle)).
///
/// With `S` the sum of `n` votes, `p` the chance that it is beyond the threshold, and `m` the mean of
/// `|S| / n` where it is and of 0 where it is not, the mean is `c = m / sqrt(p)`. The deviation is
/// `sqrt((1 - c^2 - 3/4 * c^2 * (1 - p) / p) / D)`: that of a ratio of two means, to first order.
/// Where nothing can be beyond the threshold, both are 0.
pub fn ternary_member(members: usize, threshold: usize, dimensions: usize) -> Expected {
    let (mut beyond, mut agreement) = (0.0, 0.0);
    for (minus, chance) in binomial(members, 0.5).into_iter().enumerate() {
        let sum = members.abs_diff(2 * minus);
        if sum > threshold {
            beyond += chance;
            agreement += chance * sum as f64 / members as f64;
        }
    }
    if beyond == 0.0 {
        return Expected {
            similarity: 0.0,
            deviation: 0.0,
        };
    }
    let square = agreement * agreement / beyond;
    let variance = 1.0 - square - 0.75 * square * (1.0 - beyond) / beyond;
    Expected {
        similarity: square.sqrt(),
        // Rounding can take it below 0 where it is 0.
        deviation: (variance.max(0.0) / dimensions as f64).sqrt(),
    }
}

/// The chance that an [`ItemMemory`](crate::ItemMemory) of `items` random vectors takes a wrong one
/// for what was unbound from a bipolar bundle of `members` pairs.
///
/// The Hamming distance of the right item is binomial with `q = (1 - s) / 2`, where `s` is the
/// similarity of [`bipolar_member`]; that of each of the others, which are independent of the query,
/// with 1/2. So the chance is
///
/// `sum over h of P(B(D, q) = h) * (1 - (1 - P(B(D, 1/2) < h) - P(B(D, 1/2) = h) / 2)^(items - 1))`,
///
/// in which an item that is exactly as near wins half of the time. It is the formula for `p_corr` of
/// E. P. Frady, D. Kleyko, F. T. Sommer, "A theory of sequence indexing and working memory in
/// recurrent neural networks" (Neural Computation 30, 2018), with the binomial distributions that
/// bipolar vectors have in place of their normal approximation. Without members it is the chance of
/// guessing wrong.
///
/// That chance is of random vectors. Items that are like each other are confused more often, and of a
/// bundle without roles the other members are as near as the one that is looked for.
pub fn error_probability(dimensions: usize, members: usize, items: usize) -> f64 {
    let Some(others @ 1..) = items.checked_sub(1) else {
        return 0.0;
    };
    let flipped = (1.0 - bipolar_similarity(members)) / 2.0;
    let right = binomial(dimensions, flipped);
    let wrong = binomial(dimensions, 0.5);
    let (mut nearer, mut error) = (0.0, 0.0);
    for (right, wrong) in right.into_iter().zip(wrong) {
        let loses_to_one: f64 = nearer + wrong / 2.0;
        // 1 - (1 - x)^others, without losing a small x.
        error += right * -(others as f64 * (-loses_to_one.min(1.0)).ln_1p()).exp_m1();
        nearer += wrong;
    }
    error.min(1.0)
}

/// Most members of a bipolar bundle of pairs from which an [`ItemMemory`](crate::ItemMemory) of
/// `items` vectors takes a wrong one with at most this chance; 0 when even one is too many, and never
/// more than the number of dimensions.
pub fn capacity(dimensions: usize, items: usize, error: f64) -> usize {
    let fits = |members| error_probability(dimensions, members, items) <= error;
    // An even number has the votes of the odd one above it.
    let (mut most, mut too_many) = (0, dimensions / 2 + 1);
    while most < too_many {
        let middle = most + (too_many - most) / 2;
        if fits(2 * middle + 1) {
            most = middle + 1;
        } else {
            too_many = middle;
        }
    }
    (2 * most).saturating_sub(1).min(dimensions)
}

/// Mean similarity of a member to its bipolar bundle.
fn bipolar_similarity(members: usize) -> f64 {
    if members == 0 {
        return 0.0;
    }
    // C(2k, k) / 4^k, factor by factor; `2k + 1` vectors vote.
    (1..=members / 2)
        .map(|factor| 1.0 - 0.5 / factor as f64)
        .product()
}

/// The chance of each number of successes, from 0 to `trials`.
fn binomial(trials: usize, chance: f64) -> Vec<f64> {
    let (yes, no) = (chance.ln(), (-chance).ln_1p());
    let mut choices = 0.0;
    (0..=trials)
        .map(|successes| {
            let failures = trials - successes;
            // Zero times the logarithm of zero counts for nothing.
            let times = |count: usize, logarithm: f64| match count {
                0 => 0.0,
                count => count as f64 * logarithm,
            };
            let logarithm = choices + times(successes, yes) + times(failures, no);
            choices += (failures as f64 / (successes + 1) as f64).ln();
            logarithm.exp()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }

    #[test]
    fn small_bundles_have_the_fractions_of_a_majority() {
        for (members, similarity) in [(1, 1.0), (2, 0.5), (3, 0.5), (4, 0.375), (5, 0.375)] {
            close(bipolar_member(members, 100).similarity, similarity);
        }
        close(bipolar_member(1, 100).deviation, 0.0);
        close(bipolar_member(3, 10_000).deviation, 0.75_f64.sqrt() / 100.0);
    }

    #[test]
    fn an_odd_ternary_bundle_without_threshold_is_the_bipolar_one() {
        for members in [1, 3, 5, 21] {
            let (ternary, bipolar) = (
                ternary_member(members, 0, 10_000),
                bipolar_member(members, 10_000),
            );
            close(ternary.similarity, bipolar.similarity);
            // The root multiplies the rounding of what should be 0.
            assert!((ternary.deviation - bipolar.deviation).abs() < 1e-7);
        }
    }

    #[test]
    fn two_ternary_members_agree_wherever_they_are_not_zero() {
        close(ternary_member(2, 0, 100).similarity, 0.5_f64.sqrt());
        close(ternary_member(2, 0, 100).deviation, 0.125_f64.sqrt() / 10.0);
        close(ternary_member(2, 2, 100).similarity, 0.0);
    }

    #[test]
    fn chances_of_a_binomial_add_up_to_one() {
        for (trials, chance) in [(0, 0.3), (1, 0.5), (10, 0.0), (10, 1.0), (10_000, 0.25)] {
            close(binomial(trials, chance).iter().sum(), 1.0);
        }
        close(binomial(4, 0.5)[2], 0.375);
    }

    #[test]
    fn errors_are_none_without_others_and_a_guess_without_a_trace() {
        close(error_probability(1_000, 3, 1), 0.0);
        close(error_probability(1_000, 3, 0), 0.0);
        // Nothing is left of a member among none: any of four wins.
        assert!((error_probability(1_000, 0, 4) - 0.75).abs() < 0.001);
        assert!(error_probability(10_000, 3, 1_000) < 1e-100);
    }

    #[test]
    fn capacity_is_where_the_error_passes_the_bound() {
        for (dimensions, items, error) in [(256, 100, 0.01), (1_000, 1_000, 0.001), (64, 2, 0.1)] {
            let most = capacity(dimensions, items, error);
            assert!(error_probability(dimensions, most, items) <= error);
            assert!(error_probability(dimensions, most + 1, items) > error);
        }
        assert_eq!(capacity(8, 1_000_000, 0.0), 0);
        assert_eq!(capacity(1_000, 1, 0.0), 1_000);
    }
}
