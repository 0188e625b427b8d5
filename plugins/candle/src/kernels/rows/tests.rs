use super::*;
use crate::kernels::simd::tests::{levels, numbers};

/// Applies a function of vectors to numbers.
struct Map<'a> {
    x: &'a [f32],
    activation: Option<Activation>,
}

impl Kernel for Map<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut out = Vec::new();
        for x in self.x.as_chunks::<LANES>().0 {
            let x = simd.load(x);
            let y = match self.activation {
                None => exp(simd, x),
                Some(activation) => activation.of(simd, x),
            };
            let mut lanes = [0.0; LANES];
            simd.store(y, &mut lanes);
            out.extend(lanes);
        }
        out
    }
}

/// Units in the last place between a number and the true one.
fn units(x: f32, expected: f64) -> f64 {
    let nearest = expected as f32;
    let unit = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
    (f64::from(x) - expected).abs() / unit
}

#[test]
fn exponentials_are_within_two_units() {
    let x: Vec<f32> = (0..64 * 2740)
        .map(|step| -87.3 + step as f32 / 1000.0)
        .collect();
    for level in levels() {
        let y = level.run(Map {
            x: &x,
            activation: None,
        });
        let worst = x
            .iter()
            .zip(&y)
            .map(|(&x, &y)| units(y, f64::from(x).exp()));
        let worst = worst.fold(0.0, f64::max);
        assert!(worst < 2.0, "{}: {worst} units", level.name());
    }
}

#[test]
fn exponentials_of_ends_are_finite_and_of_zero_one() {
    let mut x = [0.0; LANES];
    x[1] = f32::MIN;
    x[2] = f32::MAX;
    let y = Level::best().run(Map {
        x: &x,
        activation: None,
    });
    assert_eq!(y[0], 1.0);
    assert!(y[1] >= 0.0 && y[1] < 2e-38);
    assert!(y[2].is_finite() && y[2] > 1e38);
}

#[test]
fn activations_are_those_of_their_formulas() {
    let levels = levels();
    let x: Vec<f32> = (0..1600).map(|step| (step - 800) as f32 / 40.0).collect();
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let gelu = |x: f64| {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        0.5 * x * (1.0 + u.tanh())
    };
    let cases: [(Activation, &dyn Fn(f64) -> f64); 2] =
        [(Activation::Silu, &silu), (Activation::GeluTanh, &gelu)];
    for (activation, formula) in cases {
        for &level in &levels {
            let y = level.run(Map {
                x: &x,
                activation: Some(activation),
            });
            for (&x, &y) in x.iter().zip(&y) {
                let miss = (f64::from(y) - formula(f64::from(x))).abs();
                let allowed = 1e-6 * f64::from(x).abs().max(1.0);
                assert!(miss < allowed, "{activation:?}({x}) is {y}");
            }
        }
    }
}

#[test]
fn norms_are_the_same_on_every_level_and_right() {
    let levels = levels();
    for length in [1, 16, 40, 576] {
        let (x, weight) = (numbers(1, length), numbers(2, length));
        let mean = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / length as f64;
        let mut portable = vec![0.0; length];
        rms_norm(Level::Portable, &x, &weight, 1e-5, &mut portable);
        for index in 0..length {
            let expected = f64::from(x[index]) / (mean + 1e-5).sqrt() * f64::from(weight[index]);
            assert!((f64::from(portable[index]) - expected).abs() < 2e-6);
        }
        for &level in &levels {
            let mut out = vec![0.0; length];
            rms_norm(level, &x, &weight, 1e-5, &mut out);
            assert_eq!(out, portable, "{} of {length}", level.name());
        }
    }
}

#[test]
fn turns_are_the_same_on_every_level_and_keep_lengths() {
    let levels = levels();
    for head in [2, 8, 64, 80] {
        let x = numbers(3, head);
        let angles = numbers(4, head / 2);
        let cosines: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
        let sines: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
        let mut portable = x.clone();
        rope(Level::Portable, &mut portable, &cosines, &sines);
        for index in 0..head / 2 {
            let (a, b) = (x[index], x[index + head / 2]);
            let expected = a * cosines[index] - b * sines[index];
            assert!((portable[index] - expected).abs() < 1e-6);
            let expected = b * cosines[index] + a * sines[index];
            assert!((portable[index + head / 2] - expected).abs() < 1e-6);
        }
        for &level in &levels {
            let mut out = x.clone();
            rope(level, &mut out, &cosines, &sines);
            assert_eq!(out, portable, "{} of {head}", level.name());
        }
    }
}
