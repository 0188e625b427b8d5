//! What Vox makes of hypervectors is what `torchhd` makes of them, the library of the field, in its
//! MAP architecture. `xtask/reference/hypervectors.py` wrote the fixtures with it.

use std::fs;
use std::path::Path;

use vox_vsa::{Hypervector, TIE_BREAK, Ternary};

/// The lines of a fixture.
struct Fixture(Vec<Vec<String>>);

impl Fixture {
    /// All that was computed under a name, each as the words after it.
    fn all(&self, name: &str) -> Vec<&[String]> {
        let named = self.0.iter().filter(|line| line[0] == name);
        let found: Vec<_> = named.map(|line| &line[1..]).collect();
        assert!(!found.is_empty(), "the fixture has no {name}");
        found
    }

    fn one(&self, name: &str) -> &[String] {
        self.all(name)[0]
    }

    fn members(&self) -> Vec<Hypervector> {
        let members = self.all("member");
        members.iter().map(|line| bipolar(&line[0])).collect()
    }

    fn ternary(&self, name: &str) -> Ternary {
        ternary(self.one(name).last().unwrap())
    }
}

fn fixtures() -> Vec<Fixture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torchhd");
    let files = fs::read_dir(directory).unwrap();
    let fixtures: Vec<_> = files
        .map(|file| {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let words = |line: &str| line.split(' ').map(str::to_owned).collect();
            Fixture(text.lines().map(words).collect())
        })
        .collect();
    assert_eq!(fixtures.len(), 4);
    fixtures
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn bipolar(hex: &str) -> Hypervector {
    Hypervector::from_bytes(&bytes(hex)).unwrap()
}

fn ternary(hex: &str) -> Ternary {
    Ternary::from_bytes(&bytes(hex)).unwrap()
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Both round once more than the other, torchhd in 64 bits, Vox to 32.
fn assert_close(similarity: f32, expected: &str) {
    let expected: f64 = number(expected);
    assert!(
        (f64::from(similarity) - expected).abs() < 1e-6,
        "{similarity}, not {expected}"
    );
}

#[test]
fn bipolar_vectors_bind_permute_and_compare_as_in_torchhd() {
    for fixture in fixtures() {
        let members = fixture.members();
        let (a, b) = (&members[0], &members[1]);
        assert_eq!(a.dimensions(), number(&fixture.one("dimensions")[0]));
        let bound = bipolar(&fixture.one("bind")[0]);
        assert_eq!(a.bind(b).unwrap(), bound);
        assert_eq!(bound.unbind(b).unwrap(), *a);
        for line in fixture.all("permute") {
            assert_eq!(a.permute(number(&line[0])), bipolar(&line[1]));
        }
        for line in fixture.all("similarity") {
            let index: usize = number(&line[0]);
            assert_close(a.similarity(&members[index]).unwrap(), &line[1]);
        }
    }
}

/// torchhd keeps sums, and makes -1 of a tie where it normalises them.
#[test]
fn bundles_have_the_signs_of_the_sums_of_torchhd() {
    for fixture in fixtures() {
        let members = fixture.members();
        let dimensions = members[0].dimensions();
        let minus_one = Hypervector::from_bytes(&vec![0xff; dimensions / 8]).unwrap();
        let tie_break = Hypervector::symbol(TIE_BREAK, dimensions).unwrap();
        for line in fixture.all("bundle") {
            let members = &members[..number(&line[0])];
            let bundle = Ternary::bundle(members).unwrap();
            assert_eq!(bundle, ternary(&line[1]));
            let majority = Hypervector::bundle(members).unwrap();
            assert_eq!(bundle.filled(&tie_break).unwrap(), majority);
        }
        for line in fixture.all("normalized") {
            let members = &members[..number(&line[0])];
            let normalized = bipolar(&line[1]);
            let bundle = Ternary::bundle(members).unwrap();
            assert_eq!(bundle.filled(&minus_one).unwrap(), normalized);
            if members.len() % 2 == 1 {
                assert_eq!(Hypervector::bundle(members).unwrap(), normalized);
            }
        }
        for line in fixture.all("beyond") {
            let (threshold, count): (usize, usize) = (number(&line[0]), number(&line[1]));
            let bundle = Ternary::bundle_beyond(&members[..count], threshold).unwrap();
            assert_eq!(bundle, ternary(&line[2]));
        }
    }
}

#[test]
fn ternary_vectors_bind_bundle_permute_and_compare_as_in_torchhd() {
    for fixture in fixtures() {
        let members = fixture.members();
        let (x, y) = (fixture.ternary("x"), fixture.ternary("y"));
        let bound = x.bind(&y).unwrap();
        assert_eq!(bound, fixture.ternary("bind-ternary"));
        assert_eq!(bound.unbind(&y).unwrap(), fixture.ternary("unbind-ternary"));
        assert_eq!(
            x.bind(&members[1]).unwrap(),
            fixture.ternary("bind-bipolar")
        );
        assert_eq!(
            Ternary::bundle(&[&x, &y]).unwrap(),
            fixture.ternary("bundle-ternary")
        );
        let positions = number(&fixture.one("permute-ternary")[0]);
        assert_eq!(x.permute(positions), fixture.ternary("permute-ternary"));
        let similarity = |name| fixture.one(name)[0].as_str();
        assert_close(x.similarity(&y).unwrap(), similarity("similarity-ternary"));
        assert_close(
            x.similarity(&members[0]).unwrap(),
            similarity("similarity-bipolar"),
        );
    }
}
