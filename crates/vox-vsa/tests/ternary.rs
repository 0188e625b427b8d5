//! Ternary vectors do what a plain loop over numbers does, at every length.

use proptest::prelude::*;
use vox_vsa::{Error, Hypervector, Ternary};

/// Most bytes of a plane: 1,000 dimensions, several blocks of words and a rest.
const BYTES: usize = 125;

/// The bytes of a vector whose dimensions are 0, 1 or -1.
fn packed(values: &[i32]) -> Vec<u8> {
    let plane = |bit: fn(i32) -> bool| -> Vec<u8> {
        let bytes = values.chunks(8);
        bytes
            .map(|values| {
                let bits = values.iter().enumerate();
                bits.map(|(at, value)| u8::from(bit(*value)) << at).sum()
            })
            .collect()
    };
    [plane(|value| value < 0), plane(|value| value != 0)].concat()
}

fn vector(values: &[i32]) -> Ternary {
    Ternary::from_bytes(&packed(values)).unwrap()
}

/// What a vector stands for, read from its bytes.
fn values(vector: &Ternary) -> Vec<i32> {
    let bytes = vector.to_bytes();
    let (signs, non_zero) = bytes.split_at(bytes.len() / 2);
    let bit = |plane: &[u8], index: usize| i32::from(plane[index / 8] >> (index % 8) & 1);
    (0..vector.dimensions())
        .map(|index| bit(non_zero, index) * (1 - 2 * bit(signs, index)))
        .collect()
}

fn bipolar_values(vector: &Hypervector) -> Vec<i32> {
    values(&Ternary::from(vector))
}

/// `count` lists of equally many values, 8 for each byte.
fn lists(
    count: impl Into<proptest::collection::SizeRange>,
) -> impl Strategy<Value = Vec<Vec<i32>>> {
    let count = count.into();
    (1..=BYTES).prop_flat_map(move |bytes| {
        let values = proptest::collection::vec(-1..=1, 8 * bytes);
        proptest::collection::vec(values, count.clone())
    })
}

fn bipolar(values: &[i32]) -> Hypervector {
    let signs = packed(values);
    Hypervector::from_bytes(&signs[..signs.len() / 2]).unwrap()
}

fn cosine(a: &[i32], b: &[i32]) -> f64 {
    let dot = |a: &[i32], b: &[i32]| -> i32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let norms = f64::from(dot(a, a)) * f64::from(dot(b, b));
    if norms == 0.0 {
        0.0
    } else {
        f64::from(dot(a, b)) / norms.sqrt()
    }
}

proptest! {
    #[test]
    fn bytes_read_back_as_the_same_vector(lists in lists(1)) {
        let vector = vector(&lists[0]);
        prop_assert_eq!(vector.to_bytes(), packed(&lists[0]));
        prop_assert_eq!(values(&vector), lists[0].clone());
        prop_assert_eq!(vector.dimensions(), lists[0].len());
        let non_zero = lists[0].iter().filter(|value| **value != 0).count();
        prop_assert_eq!(vector.non_zero(), non_zero);
    }

    #[test]
    fn binding_multiplies_each_dimension(lists in lists(2)) {
        let (a, b) = (vector(&lists[0]), vector(&lists[1]));
        let product: Vec<_> = lists[0].iter().zip(&lists[1]).map(|(a, b)| a * b).collect();
        let bound = a.bind(&b).unwrap();
        prop_assert_eq!(values(&bound), product);
        prop_assert_eq!(&bound, &b.bind(&a).unwrap());
        prop_assert_eq!(bound, vector(&values(&a.bind(&b).unwrap())));
    }

    #[test]
    fn unbinding_gives_back_what_the_key_did_not_lose(lists in lists(2)) {
        let (a, key) = (vector(&lists[0]), vector(&lists[1]));
        let kept = lists[0].iter().zip(&lists[1]).map(|(a, key)| a * key * key);
        let found = a.bind(&key).unwrap().unbind(&key).unwrap();
        prop_assert_eq!(values(&found), kept.collect::<Vec<_>>());
    }

    #[test]
    fn a_bipolar_key_loses_nothing(lists in lists(2)) {
        let (a, key) = (vector(&lists[0]), bipolar(&lists[1]));
        let bound = a.bind(&key).unwrap();
        prop_assert_eq!(&bound, &a.bind(&Ternary::from(&key)).unwrap());
        // Equal only if no sign is left where it is zero.
        prop_assert_eq!(bound.unbind(&key).unwrap(), a);
    }

    #[test]
    fn a_bundle_has_the_sign_of_what_is_beyond_the_threshold(
        lists in lists(1..20),
        threshold in 0_usize..25,
    ) {
        let members: Vec<_> = lists.iter().map(|values| vector(values)).collect();
        let beyond = |threshold: i32| -> Vec<i32> {
            (0..lists[0].len())
                .map(|at| lists.iter().map(|values| values[at]).sum::<i32>())
                .map(|sum| if sum.abs() > threshold { sum.signum() } else { 0 })
                .collect()
        };
        let bundle = Ternary::bundle_beyond(&members, threshold).unwrap();
        prop_assert_eq!(values(&bundle), beyond(threshold as i32));
        prop_assert_eq!(&bundle, &vector(&values(&bundle)), "a bit is set that none may be");
        prop_assert_eq!(values(&Ternary::bundle(&members).unwrap()), beyond(0));
    }

    #[test]
    fn bipolar_members_bundle_as_their_ternary_forms(lists in lists(1..9)) {
        let members: Vec<_> = lists.iter().map(|values| bipolar(values)).collect();
        let ternary: Vec<_> = members.iter().map(Ternary::from).collect();
        prop_assert_eq!(Ternary::bundle(&members).unwrap(), Ternary::bundle(&ternary).unwrap());
    }

    #[test]
    fn permuting_rotates_each_dimension(lists in lists(1), positions in -3000_isize..3000) {
        let vector = vector(&lists[0]);
        let mut rotated = lists[0].clone();
        rotated.rotate_right(positions.rem_euclid(vector.dimensions() as isize) as usize);
        let permuted = vector.permute(positions);
        prop_assert_eq!(values(&permuted), rotated);
        prop_assert_eq!(permuted.permute(-positions), vector);
    }

    #[test]
    fn similarity_is_the_cosine(lists in lists(2)) {
        let (a, b) = (vector(&lists[0]), vector(&lists[1]));
        let close = |similarity: f32, expected: f64| (f64::from(similarity) - expected).abs() < 1e-6;
        prop_assert!(close(a.similarity(&b).unwrap(), cosine(&lists[0], &lists[1])));
        prop_assert_eq!(a.similarity(&b).unwrap(), b.similarity(&a).unwrap());
        let b = bipolar(&lists[1]);
        let expected = cosine(&lists[0], &bipolar_values(&b));
        prop_assert!(close(a.similarity(&b).unwrap(), expected));
    }

    #[test]
    fn zeros_are_filled_and_nothing_else(lists in lists(2)) {
        let (a, fill) = (vector(&lists[0]), bipolar(&lists[1]));
        let filled = lists[0].iter().zip(bipolar_values(&fill));
        let filled: Vec<_> = filled.map(|(a, fill)| if *a == 0 { fill } else { *a }).collect();
        let bipolar = a.filled(&fill).unwrap();
        prop_assert_eq!(bipolar_values(&bipolar), filled);
        prop_assert_eq!(Hypervector::try_from(&Ternary::from(&bipolar)).unwrap(), bipolar.clone());
        match lists[0].iter().filter(|value| **value == 0).count() {
            0 => prop_assert_eq!(Hypervector::try_from(&a), Ok(bipolar)),
            zeros => prop_assert_eq!(Hypervector::try_from(&a), Err(Error::Zeros { zeros })),
        }
    }
}

#[test]
fn bytes_that_are_no_ternary_vector_are_refused() {
    for bytes in [0, 1, 3] {
        let refusal = Err(Error::TernaryBytes { bytes });
        assert_eq!(Ternary::from_bytes(&vec![0; bytes]), refusal);
    }
    let refusal = Err(Error::SignedZero { dimension: 11 });
    assert_eq!(Ternary::from_bytes(&[1, 0x18, 1, 0x10]), refusal);
}

#[test]
fn vectors_of_different_lengths_and_none_are_refused() {
    let (short, long) = (vector(&[0; 16]), vector(&[0; 32]));
    let mismatch = Error::Mismatch {
        left: 16,
        right: 32,
    };
    assert_eq!(short.bind(&long), Err(mismatch.clone()));
    assert_eq!(short.similarity(&long), Err(mismatch.clone()));
    assert_eq!(Ternary::bundle(&[&short, &long]), Err(mismatch.clone()));
    assert_eq!(short.filled(&bipolar(&[1; 32])), Err(mismatch));
    let nothing: [Ternary; 0] = [];
    assert_eq!(Ternary::bundle(&nothing), Err(Error::EmptyBundle));
}

#[test]
fn what_is_all_zero_is_like_nothing() {
    let (zero, one) = (vector(&[0; 16]), vector(&[1; 16]));
    assert_eq!(zero.similarity(&zero), Ok(0.0));
    assert_eq!(zero.similarity(&one), Ok(0.0));
}
