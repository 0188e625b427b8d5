//! The contract as the host sees it, generated from `wit/`: types, clients for the extension
//! points, and a trait for each host interface.
//!
//! Every extension point has a module (`stage`, `step`, …) with its types and its client; the
//! types that all share stand here. [`Instance::stage`](crate::Instance::stage) and its siblings
//! make the clients.

vox_plugin_macros::host!("../../wit");
