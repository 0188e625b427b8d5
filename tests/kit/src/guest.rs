//! Components written by hand, for the tests of what no toolchain would make.
//!
//! A [`Guest`] is a core module in text form, wrapped by the contract's own WIT, so that its
//! functions have the flat signatures of the canonical ABI. Every function that a test does not
//! write answers "ok, and nothing": memory begins with zeros, and a result that lies at address 0
//! is `ok` with an empty payload.

use std::fmt::Write as _;
use std::sync::LazyLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

/// Every function of a guest: interface, name, parameters.
const FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "lifecycle",
        "init",
        "(param $config i32) (param $length i32)",
    ),
    ("lifecycle", "health", ""),
    ("lifecycle", "snapshot", ""),
    (
        "lifecycle",
        "restore",
        "(param $version i32) (param $state i32) (param $length i32)",
    ),
    ("lifecycle", "shutdown", ""),
    (
        "service",
        "invoke",
        "(param $service i32) (param $service_length i32) (param $request i32) (param $length i32)",
    ),
    (
        "command",
        "describe",
        "(param $verb i32) (param $length i32)",
    ),
    (
        "command",
        "run",
        "(param $verb i32) (param $length i32) (param $arguments i32) (param $count i32)",
    ),
];

/// Gives memory out from the front, and never takes any back.
const REALLOC: &str = "(local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap (i32.add (global.get $heap)
        (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (local.get $at)";

/// A plugin as a core module in text form.
///
/// What is written may use `$heap`, the address of free memory, which begins at 4096; addresses
/// from 0 to 15 must stay zero.
#[derive(Clone, Debug)]
pub struct Guest {
    imports: String,
    items: String,
    memory: String,
    realloc: String,
    bodies: Vec<(&'static str, String)>,
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}

impl Guest {
    /// A plugin that does nothing, with 128 KiB of memory.
    pub fn new() -> Self {
        Self {
            imports: String::new(),
            items: String::new(),
            memory: "2".to_owned(),
            realloc: REALLOC.to_owned(),
            bodies: Vec::new(),
        }
    }

    /// Imports a host function as `$name` (dashes as underscores): `topics`, `subscribe`, and the
    /// core type that the canonical ABI gives it.
    pub fn import(mut self, interface: &str, function: &str, kind: &str) -> Self {
        let name = function.replace('-', "_");
        let _ = writeln!(
            self.imports,
            r#"(import "vox:plugin/{interface}@1.0.0" "{function}" (func ${name} {kind}))"#
        );
        self
    }

    /// Adds other items of a core module: data, tables, functions.
    pub fn with(mut self, items: &str) -> Self {
        self.items.push_str(items);
        self.items.push('\n');
        self
    }

    /// Sets the limits of the memory, in pages of 64 KiB.
    pub fn memory(mut self, limits: &str) -> Self {
        limits.clone_into(&mut self.memory);
        self
    }

    /// Replaces the body of `cabi_realloc`, whose parameters are `$old`, `$old_size`, `$align` and
    /// `$size`.
    pub fn realloc(mut self, body: &str) -> Self {
        body.clone_into(&mut self.realloc);
        self
    }

    /// Writes the body of an exported function, which ends in the address of its result.
    pub fn does(mut self, function: &'static str, body: &str) -> Self {
        self.bodies.push((function, body.to_owned()));
        self
    }

    /// The component.
    ///
    /// # Panics
    ///
    /// When what was written is no valid WebAssembly.
    pub fn component(&self) -> Vec<u8> {
        let text = self.module();
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (resolve, world) = &*CONTRACT;
        embed_component_metadata(&mut module, resolve, *world, StringEncoding::UTF8)
            .expect("the world can be embedded");
        let mut encoder = ComponentEncoder::default();
        encoder
            .validate(true)
            .module(&module)
            .and_then(ComponentEncoder::encode)
            .unwrap_or_else(|error| panic!("{error:#}\n{text}"))
    }

    fn module(&self) -> String {
        let mut text = format!(
            "(module {} (memory $memory (export \"memory\") {})
             (global $heap (mut i32) (i32.const 4096)) {}
             (func $realloc (export \"cabi_realloc\") (param $old i32) (param $old_size i32)
                (param $align i32) (param $size i32) (result i32) {})\n",
            self.imports, self.memory, self.items, self.realloc
        );
        for (interface, function, parameters) in FUNCTIONS {
            let body = self
                .bodies
                .iter()
                .find(|(name, _)| name == function)
                .map_or("(i32.const 0)", |(_, body)| body);
            let _ = writeln!(
                text,
                r#"(func (export "vox:plugin/{interface}@1.0.0#{function}") {parameters} (result i32) {body})"#
            );
        }
        text.push(')');
        text
    }
}

/// The contract with a world of all that a guest exports.
static CONTRACT: LazyLock<(Resolve, WorldId)> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    resolve
        .push_dir(crate::checkout().join("wit"))
        .expect("the contract can be read");
    let package = resolve
        .push_str(
            "guest.wit",
            "package test:guest;
             world guest {
                include vox:plugin/lifecycle-plugin@1.0.0;
                include vox:plugin/service-plugin@1.0.0;
                include vox:plugin/command-plugin@1.0.0;
             }",
        )
        .expect("the world is well-formed");
    let world = resolve
        .select_world(&[package], Some("guest"))
        .expect("the world is there");
    (resolve, world)
});

/// A manifest for a guest.
pub(crate) fn manifest(id: &str) -> String {
    format!(
        r#"
id = "{id}"
name = "{id}"
version = "0.1.0"
description = "Written by hand"
authors = ["The Vox developers"]
license = "MIT"
host = "*"
[payload]
component = "guest.wasm"
[provides]
extension-points = {{ service = 1, command = 1 }}
services = ["{id}"]
commands = [{{ verb = "{id}", summary = "Written by hand" }}]
"#
    )
}
