//! Which crate may depend on which.
//!
//! 1. A crate in `crates/` depends on crates before it in the list of layers, and on no other member
//!    of the workspace; its tests may also use the test kit.
//! 2. A plugin does not reach the host, neither directly nor through another member.
//! 3. No crate in `crates/` depends on a machine learning framework.
//! 4. Only `vox-crypto` depends on crates for hashes and signatures.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// What plugins never reach.
const HOST: &str = "vox-host";
/// What the tests of every layer may use.
const TEST_KIT: &str = "vox-testkit";
/// The one crate that depends on crates for hashes and signatures.
const CRYPTO: &str = "vox-crypto";

/// Machine learning frameworks; a name that ends in `*` stands for all that begin so.
const FRAMEWORKS: &[&str] = &[
    "burn*",
    "candle*",
    "cudarc",
    "dfdx*",
    "ggml*",
    "linfa*",
    "llama-cpp*",
    "mlx*",
    "ort",
    "ort-sys",
    "smartcore",
    "tch",
    "tch-*",
    "tensorflow*",
    "torch-sys",
    "tract*",
];

/// Crates for hashes and signatures, in the same notation.
const CRYPTOGRAPHY: &[&str] = &[
    "aws-lc-*",
    "blake2*",
    "bao*",
    "blake3",
    "curve25519*",
    "ecdsa",
    "ed25519*",
    "hmac",
    "k256",
    "md-5",
    "md5",
    "openssl*",
    "p256",
    "ring",
    "rsa",
    "sha1*",
    "sha2",
    "sha3",
    "subtle",
    "signature",
    "x25519*",
    "xxhash*",
];

/// Packages that may depend on such a crate all the same, because a protocol asks for a checksum that
/// nothing secure rests on: the S3 API for MD5 in `Content-MD5`.
const CHECKSUMS: &[(&str, &str)] = &[("storage-s3", "md-5")];

/// A package of the workspace.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its directory, from the root, with `/` between the parts.
    pub directory: String,
    /// What it depends on directly.
    pub dependencies: Vec<Dependency>,
}

/// A direct dependency.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// Name of the package.
    pub name: String,
    /// True when only tests, examples and benchmarks use it.
    pub for_tests: bool,
}

/// A rule that is broken.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A crate stands in `crates/` and not in the list, or the other way about.
    NotListed {
        name: String,
    },
    NotThere {
        name: String,
    },
    /// An edge that goes up, or out of the layers.
    Upwards {
        from: String,
        to: String,
    },
    Outside {
        from: String,
        to: String,
    },
    /// A plugin reaches the host; the path begins with the plugin and ends with the host.
    PluginReachesHost {
        path: Vec<String>,
    },
    /// An edge to a crate from elsewhere that is kept out.
    Framework {
        from: String,
        to: String,
    },
    Cryptography {
        from: String,
        to: String,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListed { name } => write!(
                f,
                "{name} stands in crates/ and has no layer in ARCHITECTURE.md: add its line there"
            ),
            Self::NotThere { name } => write!(
                f,
                "{name} has a layer in ARCHITECTURE.md and does not stand in crates/"
            ),
            Self::Upwards { from, to } => write!(
                f,
                "{from} -> {to}: {to} comes after {from} in the layers, and a crate depends only \
                 on those before it"
            ),
            Self::Outside { from, to } => write!(
                f,
                "{from} -> {to}: {to} is none of the layers, and a crate in crates/ depends only \
                 on them (its tests also on {TEST_KIT})"
            ),
            Self::PluginReachesHost { path } => write!(
                f,
                "{}: a plugin never reaches {HOST}; what it needs of the host is in vox-plugin",
                path.join(" -> ")
            ),
            Self::Framework { from, to } => write!(
                f,
                "{from} -> {to}: {to} is a machine learning framework; those live in plugins"
            ),
            Self::Cryptography { from, to } => write!(
                f,
                "{from} -> {to}: only {CRYPTO} depends on crates for hashes and signatures; use \
                 what {CRYPTO} offers"
            ),
        }
    }
}

/// Every rule that these members break.
pub fn check(members: &[Member], layers: &[String]) -> Vec<Wrong> {
    let mut wrong = check_list(members, layers);
    for member in members {
        check_layers(member, members, layers, &mut wrong);
        check_foreign(member, &mut wrong);
        if member.is_plugin() {
            let path = path_to_host(member, members);
            wrong.extend(path.map(|path| Wrong::PluginReachesHost { path }));
        }
    }
    wrong
}

/// Whether the list names what is there.
fn check_list(members: &[Member], layers: &[String]) -> Vec<Wrong> {
    let there = members.iter().filter(|member| member.is_layer());
    let there: BTreeSet<&String> = there.map(|member| &member.name).collect();
    let listed: BTreeSet<&String> = layers.iter().collect();
    let not_listed = there.difference(&listed);
    let not_there = listed.difference(&there);
    not_listed
        .map(|name| Wrong::NotListed {
            name: (*name).clone(),
        })
        .chain(not_there.map(|name| Wrong::NotThere {
            name: (*name).clone(),
        }))
        .collect()
}

/// The first rule.
fn check_layers(member: &Member, members: &[Member], layers: &[String], wrong: &mut Vec<Wrong>) {
    if !member.is_layer() {
        return;
    }
    let layer = |name: &str| layers.iter().position(|layer| layer == name);
    let Some(own) = layer(&member.name) else {
        return;
    };
    for dependency in &member.dependencies {
        let (from, to) = (member.name.clone(), dependency.name.clone());
        let is_member = members.iter().any(|other| other.name == to);
        let is_test_kit = dependency.for_tests && to == TEST_KIT;
        match layer(&to) {
            Some(other) if other > own => wrong.push(Wrong::Upwards { from, to }),
            None if is_member && !is_test_kit => wrong.push(Wrong::Outside { from, to }),
            _ => {}
        }
    }
}

/// The rules on crates from elsewhere.
fn check_foreign(member: &Member, wrong: &mut Vec<Wrong>) {
    for dependency in &member.dependencies {
        let (from, to) = (member.name.clone(), dependency.name.clone());
        if member.is_layer() && is_one_of(&to, FRAMEWORKS) {
            wrong.push(Wrong::Framework { from, to });
        } else if member.name != CRYPTO
            && is_one_of(&to, CRYPTOGRAPHY)
            && !CHECKSUMS.contains(&(member.name.as_str(), to.as_str()))
        {
            wrong.push(Wrong::Cryptography { from, to });
        }
    }
}

/// The shortest way from a plugin to the host. Dependencies of the plugin's own tests count, those
/// of other members' tests do not: they are not built for it.
fn path_to_host(plugin: &Member, members: &[Member]) -> Option<Vec<String>> {
    let by_name: BTreeMap<&str, &Member> = members
        .iter()
        .map(|member| (member.name.as_str(), member))
        .collect();
    let mut seen = BTreeSet::from([plugin.name.as_str()]);
    let mut waiting = VecDeque::from([vec![plugin.name.as_str()]]);
    while let Some(path) = waiting.pop_front() {
        let last = path.last()?;
        if *last == HOST {
            return Some(path.into_iter().map(str::to_owned).collect());
        }
        let member = by_name.get(last)?;
        let built = |dependency: &&Dependency| path.len() == 1 || !dependency.for_tests;
        for dependency in member.dependencies.iter().filter(built) {
            let name = dependency.name.as_str();
            if by_name.contains_key(name) && seen.insert(name) {
                waiting.push_back([path.as_slice(), &[name]].concat());
            }
        }
    }
    None
}

/// Whether a name is in a list in which `*` at an end stands for anything.
fn is_one_of(name: &str, list: &[&str]) -> bool {
    list.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *pattern,
    })
}

impl Member {
    fn is_layer(&self) -> bool {
        self.directory.starts_with("crates/")
    }

    fn is_plugin(&self) -> bool {
        let parents = ["plugins/", "tests/plugins/", "benches/plugin"];
        parents
            .iter()
            .any(|parent| self.directory.starts_with(parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member whose directory ends in its name. A dependency that begins with `?` is for tests.
    fn member(parent: &str, name: &str, dependencies: &[&str]) -> Member {
        Member {
            name: name.into(),
            directory: format!("{parent}/{name}"),
            dependencies: dependencies
                .iter()
                .map(|name| Dependency {
                    name: name.trim_start_matches('?').into(),
                    for_tests: name.starts_with('?'),
                })
                .collect(),
        }
    }

    /// Layers `vox-crypto`, `vox-plugin`, `vox-host`, `vox-run` of which `changed` takes the place
    /// of its namesake, or comes besides.
    fn check_with(changed: Member) -> Vec<String> {
        let mut members = vec![
            member("crates", "vox-crypto", &["blake3"]),
            member("crates", "vox-plugin", &["serde"]),
            member("crates", "vox-host", &["vox-crypto", "?vox-testkit"]),
            member("crates", "vox-run", &["vox-host"]),
            member("plugins", "hello", &["vox-plugin"]),
            member("tests", "vox-testkit", &["vox-host"]),
        ];
        members.retain(|member| member.name != changed.name);
        members.push(changed);
        let layers = ["vox-crypto", "vox-plugin", "vox-host", "vox-run"].map(str::to_owned);
        check(&members, &layers)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[track_caller]
    fn assert_one(wrong: &[String], start: &str) {
        assert!(
            matches!(wrong, [one] if one.starts_with(start)),
            "{wrong:#?}"
        );
    }

    #[test]
    fn what_keeps_the_rules_passes() {
        let none: [&str; 0] = [];
        assert_eq!(
            check_with(member("plugins", "redact", &["vox-plugin", "candle-core"])),
            none
        );
    }

    #[test]
    fn an_edge_up_the_layers_is_named_also_when_only_tests_use_it() {
        for edge in ["vox-run", "?vox-run"] {
            let wrong = check_with(member("crates", "vox-host", &[edge]));
            assert_one(&wrong, "vox-host -> vox-run: vox-run comes after vox-host");
        }
    }

    #[test]
    fn only_tests_of_a_layer_use_the_test_kit() {
        let wrong = check_with(member("crates", "vox-host", &["vox-testkit"]));
        assert_one(
            &wrong,
            "vox-host -> vox-testkit: vox-testkit is none of the layers",
        );
    }

    #[test]
    fn a_crate_without_a_layer_and_a_layer_without_a_crate_are_named() {
        assert_one(
            &check_with(member("crates", "vox-new", &[])),
            "vox-new stands in crates/",
        );
        let gone = check_with(member("elsewhere", "vox-run", &[]));
        assert_one(&gone, "vox-run has a layer in ARCHITECTURE.md");
    }

    #[test]
    fn a_plugin_that_reaches_the_host_is_shown_the_way() {
        for parent in ["plugins", "tests/plugins"] {
            let wrong = check_with(member(parent, "redact", &["?vox-run"]));
            assert_one(
                &wrong,
                "redact -> vox-run -> vox-host: a plugin never reaches vox-host",
            );
        }
    }

    #[test]
    fn a_machine_learning_framework_in_a_layer_is_named() {
        let wrong = check_with(member("crates", "vox-run", &["candle-core"]));
        assert_one(
            &wrong,
            "vox-run -> candle-core: candle-core is a machine learning framework",
        );
    }

    #[test]
    fn cryptography_outside_its_crate_is_named() {
        for name in ["sha2", "ed25519-dalek", "ring"] {
            let wrong = check_with(member("crates", "vox-run", &[name]));
            assert_one(&wrong, &format!("vox-run -> {name}: only vox-crypto"));
        }
    }
}
