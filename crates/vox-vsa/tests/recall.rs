//! What comes back out of a bundle is as exact as the crate says.

use vox_vsa::accuracy::{Expected, bipolar_member, capacity, error_probability, ternary_member};
use vox_vsa::{Error, Hypervector, ItemMemory, Ternary};

const DIMENSIONS: usize = 10_000;

fn symbol(name: impl ToString, dimensions: usize) -> Hypervector {
    Hypervector::symbol(&name.to_string(), dimensions).unwrap()
}

/// A number below `bound`, another one for each name, at random.
fn pick(name: &str, bound: usize) -> usize {
    symbol(name, 64).words()[0] as usize % bound
}

#[test]
fn three_modalities_come_back_out_of_a_bundle_with_similarity_at_least_0_9() {
    const ITEMS: usize = 1_000;
    let roles = ["sound", "sight", "text"].map(|name| symbol(name, DIMENSIONS));
    let mut memory = ItemMemory::new(DIMENSIONS, ITEMS).unwrap();
    for item in 0..ITEMS {
        let vector = symbol(format!("item {item}"), DIMENSIONS);
        memory.insert(item, vector).unwrap();
    }
    let mut noisiest = f32::INFINITY;
    for triple in 0..200 {
        let keys = [0, 1, 2].map(|role| pick(&format!("{triple} {role}"), ITEMS));
        let pairs: Vec<_> = roles
            .iter()
            .zip(keys)
            .map(|(role, key)| role.bind(memory.get(&key).unwrap()).unwrap())
            .collect();
        let fused = Hypervector::bundle(&pairs).unwrap();
        for (role, key) in roles.iter().zip(keys) {
            let original = memory.get(&key).unwrap();
            let noisy = fused.unbind(role).unwrap();
            noisiest = noisiest.min(noisy.similarity(original).unwrap());
            let (found, vector, _) = memory.clean_up(&noisy).unwrap().unwrap();
            assert_eq!(*found, key);
            assert!(vector.similarity(original).unwrap() >= 0.9);
        }
    }
    // Before the memory it is 1/2, seldom less than five deviations of 0.0087 below.
    assert!(noisiest > 0.45, "{noisiest}");
}

/// Mean and deviation of the similarity of the first member, over many bundles.
fn measured(
    dimensions: usize,
    bundles: usize,
    members: usize,
    similarity: impl Fn(&[Hypervector]) -> f32,
) -> Expected {
    let found: Vec<f64> = (0..bundles)
        .map(|bundle| {
            let members: Vec<_> = (0..members)
                .map(|member| symbol(format!("{bundle}/{member}"), dimensions))
                .collect();
            f64::from(similarity(&members))
        })
        .collect();
    let count = bundles as f64;
    let mean = found.iter().sum::<f64>() / count;
    let squares = found.iter().map(|found| (found - mean).powi(2));
    Expected {
        similarity: mean,
        deviation: (squares.sum::<f64>() / (count - 1.0)).sqrt(),
    }
}

/// Within five standard errors: of a mean, deviation / sqrt(n); of a deviation, about
/// deviation / sqrt(2 n).
fn assert_as_expected(what: &str, measured: Expected, expected: Expected, bundles: usize) {
    let error = expected.deviation / (bundles as f64).sqrt();
    println!("{what}: {measured:?}, expected {expected:?}");
    assert!(
        (measured.similarity - expected.similarity).abs() <= 5.0 * error + 1e-6,
        "{what}: {measured:?}, not {expected:?}"
    );
    assert!(
        (measured.deviation - expected.deviation).abs() <= 5.0 * error / 2_f64.sqrt() + 1e-6,
        "{what}: {measured:?}, not {expected:?}"
    );
}

#[test]
fn members_are_as_like_their_bundle_as_the_formula_says() {
    const BUNDLES: usize = 300;
    for members in [1, 2, 3, 5, 10, 51] {
        let bipolar = measured(DIMENSIONS, BUNDLES, members, |members| {
            let bundle = Hypervector::bundle(members).unwrap();
            bundle.similarity(&members[0]).unwrap()
        });
        let expected = bipolar_member(members, DIMENSIONS);
        assert_as_expected(&format!("bipolar {members}"), bipolar, expected, BUNDLES);
        for threshold in [0, 1, 4] {
            if threshold >= members {
                continue;
            }
            let ternary = measured(DIMENSIONS, BUNDLES, members, |members| {
                let bundle = Ternary::bundle_beyond(members, threshold).unwrap();
                bundle.similarity(&members[0]).unwrap()
            });
            let expected = ternary_member(members, threshold, DIMENSIONS);
            let what = format!("ternary {members} beyond {threshold}");
            assert_as_expected(&what, ternary, expected, BUNDLES);
        }
    }
}

/// How often the memory takes a wrong item, with new vectors each time.
fn measured_error(dimensions: usize, members: usize, items: usize, trials: usize) -> f64 {
    let wrong = (0..trials).filter(|trial| {
        let mut memory = ItemMemory::new(dimensions, items).unwrap();
        for item in 0..items {
            let vector = symbol(format!("{trial}/{item}"), dimensions);
            memory.insert(item, vector).unwrap();
        }
        // Equally near items are told apart by key: the right one stands anywhere among them.
        let keys: Vec<_> = (0..members)
            .map(|member| pick(&format!("{trial} {member}"), items))
            .collect();
        let role = |member| symbol(format!("{trial} role {member}"), dimensions);
        let pairs: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(member, key)| role(member).bind(memory.get(key).unwrap()).unwrap())
            .collect();
        let bundle = Hypervector::bundle(&pairs).unwrap();
        let noisy = bundle.unbind(&role(0)).unwrap();
        *memory.nearest(&noisy).unwrap().unwrap().key != keys[0]
    });
    wrong.count() as f64 / trials as f64
}

#[test]
fn a_wrong_item_wins_as_often_as_the_formula_says() {
    const TRIALS: usize = 4_000;
    for (dimensions, members, items) in [
        (128, 3, 100),
        (256, 9, 50),
        (256, 8, 50),
        (512, 21, 20),
        (1_000, 101, 10),
        (64, 5, 2),
    ] {
        let expected = error_probability(dimensions, members, items);
        let measured = measured_error(dimensions, members, items, TRIALS);
        let deviation = (expected * (1.0 - expected) / TRIALS as f64).sqrt();
        println!("{dimensions} {members} {items}: {measured}, expected {expected}");
        assert!(
            (measured - expected).abs() <= 4.0 * deviation,
            "{dimensions} dimensions, {members} members, {items} items: \
             {measured}, not {expected}"
        );
    }
}

/// The figures of the crate's page.
#[test]
fn the_documented_capacities_are_those_of_the_formula() {
    for (dimensions, items, members) in [
        (1_000, 100, 25),
        (1_000, 1_000, 19),
        (1_000, 1_000_000, 11),
        (10_000, 100, 247),
        (10_000, 1_000, 193),
        (10_000, 1_000_000, 121),
    ] {
        assert_eq!(capacity(dimensions, items, 0.01), members);
    }
}

#[test]
fn a_memory_takes_no_more_than_its_limit_and_no_other_vectors() {
    let mut memory = ItemMemory::new(64, 2).unwrap();
    let vector = |name: &str| symbol(name, 64);
    assert_eq!(memory.nearest(&vector("a")), Ok(None));
    assert_eq!(memory.insert("a".to_owned(), vector("a")), Ok(None));
    assert_eq!(memory.insert("b".to_owned(), vector("b")), Ok(None));
    let full = Err(Error::Full { limit: 2 });
    assert_eq!(memory.insert("c".to_owned(), vector("c")), full);
    // A key that is there is not one more.
    let before = memory.insert("b".to_owned(), vector("B"));
    assert_eq!(before, Ok(Some(vector("b"))));
    assert_eq!(memory.get("b"), Some(&vector("B")));
    assert_eq!(memory.remove("a"), Some(vector("a")));
    assert_eq!(memory.insert("c".to_owned(), vector("c")), Ok(None));
    let keys: Vec<_> = memory.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["b", "c"]);
    let mismatch = Error::Mismatch {
        left: 64,
        right: 72,
    };
    let long = symbol("a", 72);
    assert_eq!(
        memory.insert("d".to_owned(), long.clone()),
        Err(mismatch.clone())
    );
    assert_eq!(memory.nearest(&long), Err(mismatch));
    let refusal = Some(Error::Dimensions { dimensions: 12 });
    assert_eq!(ItemMemory::<u8>::new(12, 2).err(), refusal);
}

#[test]
fn of_equally_near_items_the_smallest_key_wins() {
    let mut memory = ItemMemory::new(64, 3).unwrap();
    for key in [3, 1, 2] {
        memory.insert(key, symbol("same", 64)).unwrap();
    }
    let nearest = memory.nearest(&symbol("same", 64)).unwrap().unwrap();
    assert_eq!((*nearest.key, nearest.similarity), (1, 1.0));
}

#[test]
fn a_ternary_query_is_cleaned_up_too() {
    let mut memory = ItemMemory::new(DIMENSIONS, 10).unwrap();
    for item in 0..10 {
        memory.insert(item, symbol(item, DIMENSIONS)).unwrap();
    }
    let pairs = [3, 7].map(|item| {
        let role = symbol(format!("role {item}"), DIMENSIONS);
        role.bind(memory.get(&item).unwrap()).unwrap()
    });
    let bundle = Ternary::bundle(&pairs).unwrap();
    let noisy = bundle.unbind(&symbol("role 7", DIMENSIONS)).unwrap();
    let nearest = memory.nearest(&noisy).unwrap().unwrap();
    assert_eq!(*nearest.key, 7);
    // The two agree in half of the dimensions: sqrt(1/2).
    assert!((nearest.similarity - 0.707).abs() < 0.02);
    let zero = Ternary::from_bytes(&vec![0; DIMENSIONS / 4]).unwrap();
    assert_eq!(memory.nearest(&zero).unwrap().unwrap().similarity, 0.0);
}
