//! Where models come from: the hub, a package index, an address, the catalogue.
//!
//! [`Spec`] is what a user writes, [`Catalogue`] the list of models that Vox knows by name, and
//! [`Client`] the one way in which anything is fetched; [`Hub`] and [`Index`] say what to fetch. What
//! must stay true: nothing that a server sends is written outside the folder that the caller named; a
//! file gets its name only when it is whole and has the digest that was promised; a secret goes to the
//! host it is for and nowhere else, redirects included; without encryption only this machine itself is
//! talked to, unless the caller's [`Policy`] says otherwise.

mod address;
mod catalogue;
mod client;
mod download;
mod error;
mod hub;
mod index;
mod partial;
mod spec;
mod wheel;

pub use catalogue::{Catalogue, CatalogueError, Entry, Source};
pub use client::{Client, Policy, Token};
pub use download::{Download, Downloaded, Watch};
pub use error::Error;
pub use hub::{Hub, HubFile, HubModel};
pub use index::{Index, Package};
pub use spec::{Spec, SpecError};
pub use wheel::{MAX_WHEEL_ENTRIES, extract_model};

/// Why a path that comes from elsewhere cannot be a file below a folder; `None` when it can. The same
/// paths are refused on every system.
fn path_fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.len() > 512 {
        return Some("is longer than 512 bytes");
    }
    if path.contains('\\') {
        return Some("has a backslash");
    }
    if path.contains(':') || path.contains(char::is_control) {
        return Some("has a character that not every system allows");
    }
    if path.starts_with('/') {
        return Some("is not relative");
    }
    let folders = path.strip_suffix('/').unwrap_or(path);
    for part in folders.split('/') {
        match part {
            ".." => return Some("leads out of its folder"),
            "" | "." => return Some("has an empty part"),
            part if part.ends_with(['.', ' ']) => {
                return Some("has a part that ends in a way not every system allows");
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::path_fault;

    #[test]
    fn a_path_that_could_leave_its_folder_on_any_system_is_refused() {
        for path in [
            "", "/a", "../a", "a/../b", "a\\b", "C:a", "a//b", "./a", "a/..", "a\0b", "a./b", "a ",
        ] {
            assert!(path_fault(path).is_some(), "{path:?}");
        }
        for path in ["a", "a/b.gguf", "a/", "..a", "a..b/c"] {
            assert_eq!(path_fault(path), None, "{path:?}");
        }
    }
}
