//! The contract as the generators see it: interfaces with their functions, in order.
//!
//! Only what both carriers can carry is accepted: plain data. A `resource`, `flags`, `future` or
//! `stream` type in a signature is an error here, at compile time.

use std::path::Path;

use wit_parser::{InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner, WorldItem};

/// World whose imports are the host's interfaces and whose exports are all extension points.
const WORLD: &str = "every-plugin";
/// The export that every plugin has.
pub const LIFECYCLE: &str = "lifecycle";

/// All interfaces of the contract that have functions.
pub struct Contract {
    pub resolve: Resolve,
    /// Version of the package.
    pub version: String,
    /// What the host serves.
    pub imports: Vec<Interface>,
    /// What plugins serve.
    pub exports: Vec<Interface>,
    /// Interfaces that only define types.
    pub types: Vec<InterfaceId>,
    /// Files that the contract was read from, for change tracking.
    pub files: Vec<String>,
}

/// One interface.
pub struct Interface {
    pub id: InterfaceId,
    /// Kebab-case name: `stage`.
    pub name: String,
    /// Name with package and version: `vox:plugin/stage@1.0.0`.
    pub full_name: String,
    pub docs: String,
    pub functions: Vec<Function>,
}

/// One function of an interface.
pub struct Function {
    /// Kebab-case name: `should-cancel`.
    pub name: String,
    pub docs: String,
    pub parameters: Vec<(String, Type)>,
    /// The type of the value, `None` for none. That of a function with an `exchanged` parameter is
    /// left out: the changed parameter is all that it answers.
    pub value: Option<Type>,
    /// Whether the function may answer the contract's `error` instead.
    pub fallible: bool,
}

impl Contract {
    /// Reads the WIT directory `path`, relative to the crate that is being compiled.
    pub fn read(path: &str) -> Result<Self, String> {
        let root = std::env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?;
        let directory = Path::new(&root).join(path);
        let at = |error: String| format!("{}: {error}", directory.display());

        let mut resolve = Resolve::default();
        let (package, sources) = resolve
            .push_dir(&directory)
            .map_err(|error| at(format!("{error:#}")))?;
        let files = sources
            .paths()
            .map(|path| path.display().to_string())
            .collect();
        let name = resolve.packages[package].name.clone();
        let world = resolve
            .select_world(&[package], Some(WORLD))
            .map_err(|error| at(format!("{error:#}")))?;

        let mut types = Vec::new();
        let mut imports = Vec::new();
        for item in resolve.worlds[world].imports.values() {
            let WorldItem::Interface { id, .. } = item else {
                continue;
            };
            if resolve.interfaces[*id].functions.is_empty() {
                types.push(*id);
            } else {
                imports.push(interface(&resolve, *id).map_err(at)?);
            }
        }
        let mut exports = Vec::new();
        for item in resolve.worlds[world].exports.values() {
            let WorldItem::Interface { id, .. } = item else {
                continue;
            };
            let interface = interface(&resolve, *id).map_err(at)?;
            if let Some(function) = exchanging(&resolve, &interface) {
                return Err(at(format!(
                    "{}: {function}: only functions of the host can change a parameter",
                    interface.name
                )));
            }
            exports.push(interface);
        }
        let version = name
            .version
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        Ok(Self {
            resolve,
            version,
            imports,
            exports,
            types,
            files,
        })
    }
}

fn interface(resolve: &Resolve, id: InterfaceId) -> Result<Interface, String> {
    let found = &resolve.interfaces[id];
    let name = found.name.clone().ok_or("an interface without a name")?;
    let functions = found
        .functions
        .values()
        .map(|function| self::function(resolve, function).map_err(|e| format!("{name}: {e}")))
        .collect::<Result<_, _>>()?;
    Ok(Interface {
        id,
        full_name: resolve.id_of(id).ok_or("an interface without a package")?,
        docs: found.docs.contents.clone().unwrap_or_default(),
        name,
        functions,
    })
}

fn function(resolve: &Resolve, function: &wit_parser::Function) -> Result<Function, String> {
    let refuse = |error| format!("{}: {error}", function.name);
    let mut parameters = Vec::new();
    for parameter in &function.params {
        plain(resolve, &parameter.ty).map_err(refuse)?;
        parameters.push((parameter.name.clone(), parameter.ty));
    }
    let (value, fallible) = match function.result {
        Some(Type::Id(id)) => match &resolve.types[root(resolve, id)].kind {
            TypeDefKind::Result(result) => {
                if !result
                    .err
                    .is_some_and(|error| is_contract_error(resolve, error))
                {
                    return Err(refuse("its error must be `types.error`".to_owned()));
                }
                (result.ok, true)
            }
            _ => (function.result, false),
        },
        other => (other, false),
    };
    if let Some(value) = &value {
        plain(resolve, value).map_err(refuse)?;
    }
    let exchanged = parameters
        .iter()
        .filter(|(_, ty)| is_exchanged(resolve, ty))
        .count();
    let value = match (exchanged, value) {
        (0, value) => value,
        (1, Some(value)) if is_exchanged(resolve, &value) && fallible => None,
        _ => {
            return Err(refuse(
                "it must take one `exchanged` and answer it or an error".to_owned(),
            ));
        }
    };
    Ok(Function {
        name: function.name.clone(),
        docs: function.docs.contents.clone().unwrap_or_default(),
        parameters,
        value,
        fallible,
    })
}

/// Follows `use` and `type` aliases to the definition.
pub fn root(resolve: &Resolve, mut id: TypeId) -> TypeId {
    while let TypeDefKind::Type(Type::Id(next)) = resolve.types[id].kind {
        id = next;
    }
    id
}

/// The name of a function that changes a parameter.
fn exchanging<'a>(resolve: &Resolve, interface: &'a Interface) -> Option<&'a str> {
    let mut functions = interface.functions.iter();
    let found = functions.find(|function| {
        let mut parameters = function.parameters.iter();
        parameters.any(|(_, ty)| is_exchanged(resolve, ty))
    });
    found.map(|function| function.name.as_str())
}

/// Whether a type is `types.exchanged`: numbers that a call changes.
pub fn is_exchanged(resolve: &Resolve, ty: &Type) -> bool {
    is_shared_type(resolve, *ty, "exchanged")
}

fn is_contract_error(resolve: &Resolve, ty: Type) -> bool {
    is_shared_type(resolve, ty, "error")
}

fn is_shared_type(resolve: &Resolve, ty: Type, name: &str) -> bool {
    let Type::Id(id) = ty else { return false };
    let definition = &resolve.types[root(resolve, id)];
    let TypeOwner::Interface(owner) = definition.owner else {
        return false;
    };
    definition.name.as_deref() == Some(name)
        && resolve.interfaces[owner].name.as_deref() == Some("types")
}

/// Refuses types that have no serialised form.
fn plain(resolve: &Resolve, ty: &Type) -> Result<(), String> {
    let Type::Id(id) = *ty else {
        return match ty {
            Type::ErrorContext => Err("`error-context` cannot cross natively".to_owned()),
            _ => Ok(()),
        };
    };
    let all = |types: &[Type]| types.iter().try_for_each(|ty| plain(resolve, ty));
    match &resolve.types[root(resolve, id)].kind {
        TypeDefKind::Record(record) => record
            .fields
            .iter()
            .try_for_each(|field| plain(resolve, &field.ty)),
        TypeDefKind::Variant(variant) => variant
            .cases
            .iter()
            .filter_map(|case| case.ty.as_ref())
            .try_for_each(|ty| plain(resolve, ty)),
        TypeDefKind::Tuple(tuple) => all(&tuple.types),
        TypeDefKind::Option(inner) | TypeDefKind::List(inner) => plain(resolve, inner),
        TypeDefKind::Enum(_) => Ok(()),
        other => Err(format!("a `{}` cannot cross natively", other.as_str())),
    }
}
