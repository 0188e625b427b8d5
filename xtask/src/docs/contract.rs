//! The page on the contract: every interface of `wit/`, with its functions and types.

use std::fmt::Write as _;

use anyhow::Context;
use vox_contract::ExtensionPoint;
use wit_parser::{Function, Interface, Resolve, Type, TypeDef, TypeDefKind, WorldItem};

use super::{Page, cell};
use crate::workspace::Workspace;

/// The world that has every interface: what plugins serve as exports, what the host serves as
/// imports.
const WORLD: &str = "every-plugin";

pub fn page(workspace: &Workspace) -> anyhow::Result<Page> {
    let resolve = read(workspace)?;
    let contract = Contract::of(&resolve)?;
    let mut text = format!(
        "# The contract\n\n\
         Package `{}`, native ABI version {}. The files in `wit/` are the only definition; this \
         page shows them. A native library sends the same types as \
         [postcard](https://postcard.jamesmunns.com/wire-format) bytes.\n\n\
         | extension point | revision | interface |\n|---|---|---|\n",
        contract.package,
        vox_abi::ABI_VERSION
    );
    for point in ExtensionPoint::ALL {
        let only = if point.is_native_only() {
            "; native libraries only"
        } else {
            ""
        };
        let interface = format!("[`{point}`](#interface-{point}){only}");
        let _ = writeln!(
            text,
            "| `{point}` | {} | {interface} |",
            point.current_revision()
        );
    }
    for (heading, interfaces) in [
        ("What plugins serve", &contract.exports),
        ("What the host serves", &contract.imports),
        ("Types", &contract.types),
    ] {
        let _ = write!(text, "\n## {heading}\n");
        for interface in interfaces {
            describe(&resolve, interface, &mut text);
        }
    }
    Ok(Page {
        file: "contract.md",
        source: "`wit/`",
        text,
    })
}

/// The names, with package and version, of the interfaces that plugins may serve.
pub fn exported_interfaces(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let resolve = read(workspace)?;
    let contract = Contract::of(&resolve)?;
    let package = &contract.package;
    let (name, version) = package
        .split_once('@')
        .context("the contract has no version")?;
    let names = contract
        .exports
        .iter()
        .filter_map(|interface| interface.name.as_ref());
    Ok(names
        .map(|interface| format!("{name}/{interface}@{version}"))
        .collect())
}

fn read(workspace: &Workspace) -> anyhow::Result<Resolve> {
    let mut resolve = Resolve::default();
    resolve.push_dir(workspace.root.join("wit"))?;
    Ok(resolve)
}

/// The interfaces of the world, sorted by who serves them.
struct Contract<'r> {
    package: String,
    exports: Vec<&'r Interface>,
    imports: Vec<&'r Interface>,
    /// Those that define types alone.
    types: Vec<&'r Interface>,
}

impl<'r> Contract<'r> {
    fn of(resolve: &'r Resolve) -> anyhow::Result<Self> {
        let mut worlds = resolve.worlds.iter().map(|(_, world)| world);
        let world = worlds.find(|world| world.name == WORLD);
        let world = world.with_context(|| format!("wit/ has no world {WORLD}"))?;
        let package = world.package.context("the contract has no package")?;
        let interface = |item: &WorldItem| match item {
            WorldItem::Interface { id, .. } => Some(&resolve.interfaces[*id]),
            _ => None,
        };
        let (types, imports) = world
            .imports
            .values()
            .filter_map(interface)
            .partition(|interface| interface.functions.is_empty());
        Ok(Self {
            package: resolve.packages[package].name.to_string(),
            exports: world.exports.values().filter_map(interface).collect(),
            imports,
            types,
        })
    }
}

fn describe(resolve: &Resolve, interface: &Interface, text: &mut String) {
    let name = interface.name.as_deref().unwrap_or_default();
    // Writing to a `String` cannot fail.
    let _ = write!(
        text,
        "\n### Interface {name}\n\n{}",
        paragraph(&interface.docs)
    );
    for function in interface.functions.values() {
        let signature = signature(resolve, function);
        let _ = write!(
            text,
            "\n#### {name}.{}\n\n```wit\n{signature}\n```\n\n{}",
            function.name,
            paragraph(&function.docs)
        );
    }
    for id in interface.types.values() {
        describe_type(resolve, &resolve.types[*id], text);
    }
}

/// A type with its parts. What is only `use`d from another interface is described there.
fn describe_type(resolve: &Resolve, definition: &TypeDef, text: &mut String) {
    let name = definition.name.as_deref().unwrap_or_default();
    let optional = |ty: &Option<Type>| ty.map_or(String::new(), |ty| spell(resolve, &ty));
    let rows: Vec<(&str, String, &wit_parser::Docs)> = match &definition.kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter();
            fields
                .map(|field| (field.name.as_str(), spell(resolve, &field.ty), &field.docs))
                .collect()
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter();
            cases
                .map(|case| (case.name.as_str(), optional(&case.ty), &case.docs))
                .collect()
        }
        TypeDefKind::Enum(choices) => {
            let cases = choices.cases.iter();
            cases
                .map(|case| (case.name.as_str(), String::new(), &case.docs))
                .collect()
        }
        _ => return,
    };
    let kind = definition.kind.as_str();
    let _ = write!(
        text,
        "\n#### {kind} {name}\n\n{}",
        paragraph(&definition.docs)
    );
    let _ = write!(text, "\n| | type | |\n|---|---|---|\n");
    for (name, ty, docs) in rows {
        let ty = if ty.is_empty() { ty } else { format!("`{ty}`") };
        let docs = cell(docs.contents.as_deref().unwrap_or_default());
        let _ = writeln!(text, "| `{name}` | {ty} | {docs} |");
    }
}

fn paragraph(docs: &wit_parser::Docs) -> String {
    match &docs.contents {
        Some(text) => format!("{}\n", text.trim()),
        None => String::new(),
    }
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let parameters: Vec<String> = function
        .params
        .iter()
        .map(|parameter| format!("{}: {}", parameter.name, spell(resolve, &parameter.ty)))
        .collect();
    let result = function
        .result
        .map_or(String::new(), |ty| format!(" -> {}", spell(resolve, &ty)));
    format!(
        "{}: func({}){result};",
        function.name,
        parameters.join(", ")
    )
}

/// A type as WIT spells it.
fn spell(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else {
        return match ty {
            Type::Bool => "bool",
            Type::U8 => "u8",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 => "u64",
            Type::S8 => "s8",
            Type::S16 => "s16",
            Type::S32 => "s32",
            Type::S64 => "s64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            _ => "error-context",
        }
        .into();
    };
    let definition = &resolve.types[*id];
    if let Some(name) = &definition.name {
        return name.clone();
    }
    let optional = |ty: &Option<Type>| ty.map_or("_".into(), |ty| spell(resolve, &ty));
    match &definition.kind {
        TypeDefKind::List(item) => format!("list<{}>", spell(resolve, item)),
        TypeDefKind::Option(item) => format!("option<{}>", spell(resolve, item)),
        TypeDefKind::Result(result) => match (&result.ok, &result.err) {
            (None, None) => "result".into(),
            (ok, None) => format!("result<{}>", optional(ok)),
            (ok, err) => format!("result<{}, {}>", optional(ok), optional(err)),
        },
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<String> = tuple.types.iter().map(|ty| spell(resolve, ty)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        other => other.as_str().into(),
    }
}
