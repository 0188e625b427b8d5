//! Hypervectors.
