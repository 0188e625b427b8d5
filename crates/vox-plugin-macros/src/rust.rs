//! How the contract's types are spelled in Rust, and how a value crosses a call.
//!
//! Both generators follow the conventions of `wit-bindgen` and `wasmtime::component::bindgen!`:
//! a caller passes borrowed values, and a callee gets strings and byte lists borrowed and
//! everything else owned.

use heck::{ToSnakeCase, ToUpperCamelCase};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use wit_parser::{InterfaceId, Type, TypeDefKind, TypeId, TypeOwner};

use crate::contract::{Contract, Function, is_exchanged, root};

/// Where the generated types stand.
pub struct Paths<'a> {
    pub contract: &'a Contract,
    /// Module that holds the types of an interface.
    pub module: &'a dyn Fn(InterfaceId) -> TokenStream,
}

/// How a parameter travels in the native carrier.
pub enum Transport {
    /// As the bytes of a `list<u8>`.
    Bytes,
    /// As the UTF-8 bytes of a string.
    Text,
    /// As the bytes of a list of numbers as they lie in memory.
    Numbers,
    /// As `Numbers`, which the callee changes where they lie.
    Exchanged,
    /// As the little-endian bytes of a number, `bool` or `char`.
    Scalar,
    /// As the postcard encoding.
    Encoded,
}

impl Paths<'_> {
    /// The type of an owned value.
    pub fn owned(&self, ty: &Type) -> TokenStream {
        match ty {
            Type::Bool => quote!(bool),
            Type::U8 => quote!(u8),
            Type::U16 => quote!(u16),
            Type::U32 => quote!(u32),
            Type::U64 => quote!(u64),
            Type::S8 => quote!(i8),
            Type::S16 => quote!(i16),
            Type::S32 => quote!(i32),
            Type::S64 => quote!(i64),
            Type::F32 => quote!(f32),
            Type::F64 => quote!(f64),
            Type::Char => quote!(char),
            Type::String => quote!(::std::string::String),
            Type::ErrorContext => unreachable!("refused when the contract was read"),
            Type::Id(id) => match self.definition(*id) {
                TypeDefKind::List(inner) => {
                    let inner = self.owned(inner);
                    quote!(::std::vec::Vec<#inner>)
                }
                TypeDefKind::Option(inner) => {
                    let inner = self.owned(inner);
                    quote!(::std::option::Option<#inner>)
                }
                TypeDefKind::Tuple(tuple) => {
                    let types = tuple.types.iter().map(|ty| self.owned(ty));
                    quote!((#(#types,)*))
                }
                TypeDefKind::Type(alias) => self.owned(alias),
                _ => self.named(*id),
            },
        }
    }

    /// The type of a parameter that a caller passes.
    pub fn borrowed(&self, ty: &Type) -> TokenStream {
        if matches!(self.transport(ty), Transport::Exchanged) {
            return quote!(&mut [f32]);
        }
        match ty {
            Type::String => quote!(&str),
            Type::Id(id) => match self.definition(*id) {
                TypeDefKind::List(inner) => {
                    let inner = self.owned(inner);
                    quote!(&[#inner])
                }
                TypeDefKind::Option(inner) => {
                    let inner = self.borrowed(inner);
                    quote!(::std::option::Option<#inner>)
                }
                TypeDefKind::Type(alias) => self.borrowed(alias),
                _ if self.is_plain(ty) => self.owned(ty),
                _ => {
                    let owned = self.owned(ty);
                    quote!(&#owned)
                }
            },
            _ => self.owned(ty),
        }
    }

    /// The type of a parameter that a callee gets.
    pub fn received(&self, ty: &Type) -> TokenStream {
        match self.transport(ty) {
            Transport::Bytes => quote!(&[u8]),
            Transport::Text => quote!(&str),
            Transport::Numbers | Transport::Exchanged => self.borrowed(ty),
            Transport::Scalar | Transport::Encoded => self.owned(ty),
        }
    }

    /// An expression that lends the owned variable `name` as [`Paths::received`] wants it.
    pub fn hand_over(&self, name: &Ident, ty: &Type) -> TokenStream {
        match self.transport(ty) {
            Transport::Bytes | Transport::Text | Transport::Numbers => quote!(&#name),
            Transport::Exchanged => quote!(&mut #name),
            Transport::Scalar | Transport::Encoded => quote!(#name),
        }
    }

    /// How a parameter of this type travels.
    pub fn transport(&self, ty: &Type) -> Transport {
        match ty {
            Type::String => Transport::Text,
            Type::Id(_) if is_exchanged(&self.contract.resolve, ty) => Transport::Exchanged,
            Type::Id(id) => match self.definition(*id) {
                TypeDefKind::List(Type::U8) => Transport::Bytes,
                TypeDefKind::List(
                    Type::U16
                    | Type::U32
                    | Type::U64
                    | Type::S8
                    | Type::S16
                    | Type::S32
                    | Type::S64
                    | Type::F32
                    | Type::F64,
                ) => Transport::Numbers,
                TypeDefKind::Type(alias) => self.transport(alias),
                _ => Transport::Encoded,
            },
            _ => Transport::Scalar,
        }
    }

    /// Whether values of this type hold neither lists nor text: they are passed as they are.
    fn is_plain(&self, ty: &Type) -> bool {
        let Type::Id(id) = ty else {
            return !matches!(ty, Type::String);
        };
        match self.definition(*id) {
            TypeDefKind::Type(inner) | TypeDefKind::Option(inner) => self.is_plain(inner),
            TypeDefKind::Record(record) => {
                record.fields.iter().all(|field| self.is_plain(&field.ty))
            }
            TypeDefKind::Variant(variant) => variant
                .cases
                .iter()
                .all(|case| case.ty.is_none_or(|ty| self.is_plain(&ty))),
            TypeDefKind::Tuple(tuple) => tuple.types.iter().all(|ty| self.is_plain(ty)),
            TypeDefKind::Enum(_) => true,
            _ => false,
        }
    }

    /// Whether byte lists in a value of this type cross beside its encoding, as `vox_abi::call::Bulk`
    /// has it.
    pub fn is_bulk(&self, ty: &Type) -> bool {
        let Type::Id(id) = ty else { return false };
        match self.definition(*id) {
            TypeDefKind::List(Type::U8) => true,
            TypeDefKind::List(inner) | TypeDefKind::Option(inner) => self.is_bulk(inner),
            TypeDefKind::Type(alias) => self.is_bulk(alias),
            TypeDefKind::Record(record) => {
                record.fields.iter().any(|field| self.is_bulk(&field.ty))
            }
            TypeDefKind::Variant(variant) => variant
                .cases
                .iter()
                .any(|case| case.ty.is_some_and(|ty| self.is_bulk(&ty))),
            _ => false,
        }
    }

    /// The function that decodes a reply.
    pub fn decoder(&self, function: &Function, abi: &TokenStream) -> TokenStream {
        match &function.value {
            Some(ty) if self.is_bulk(ty) => quote!(#abi::call::decode_bulk),
            _ => quote!(#abi::call::decode),
        }
    }

    /// An expression that lends the owned variable `name` as [`Paths::borrowed`] wants it.
    pub fn lend(&self, name: &Ident, ty: &Type) -> TokenStream {
        match ty {
            Type::String => quote!(&#name),
            Type::Id(id) => match self.definition(*id) {
                TypeDefKind::Option(Type::String) => quote!(#name.as_deref()),
                TypeDefKind::Option(Type::Id(_)) => quote!(#name.as_ref()),
                TypeDefKind::Option(_) => quote!(#name),
                TypeDefKind::Type(alias) => self.lend(name, alias),
                _ if self.is_plain(ty) => quote!(#name),
                _ => quote!(&#name),
            },
            _ => quote!(#name),
        }
    }

    /// The error type of the contract.
    pub fn error(&self) -> TokenStream {
        let types = (self.module)(self.contract.types[0]);
        quote!(#types::Error)
    }

    /// What a function returns; without a value, `()`.
    pub fn value(&self, function: &Function) -> TokenStream {
        function
            .value
            .as_ref()
            .map_or_else(|| quote!(()), |ty| self.owned(ty))
    }

    /// The return type of an author's or a host interface's function.
    pub fn result(&self, function: &Function) -> TokenStream {
        let value = self.value(function);
        if function.fallible {
            let error = self.error();
            quote!(::std::result::Result<#value, #error>)
        } else {
            value
        }
    }

    fn definition(&self, id: TypeId) -> &TypeDefKind {
        &self.contract.resolve.types[id].kind
    }

    fn named(&self, id: TypeId) -> TokenStream {
        let definition = &self.contract.resolve.types[root(&self.contract.resolve, id)];
        let TypeOwner::Interface(owner) = definition.owner else {
            unreachable!("the contract defines types in interfaces only")
        };
        let module = (self.module)(owner);
        let name = definition
            .name
            .as_deref()
            .unwrap_or_default()
            .to_upper_camel_case();
        let name = Ident::new(&name, Span::call_site());
        quote!(#module::#name)
    }
}

/// A value identifier for a kebab-case name.
pub fn snake(name: &str) -> Ident {
    let name = name.to_snake_case();
    if syn::parse_str::<Ident>(&name).is_ok() {
        Ident::new(&name, Span::call_site())
    } else {
        // The convention of wit-bindgen for keywords.
        Ident::new(&format!("{name}_"), Span::call_site())
    }
}

/// A type identifier for a kebab-case name.
pub fn camel(name: &str) -> Ident {
    Ident::new(&name.to_upper_camel_case(), Span::call_site())
}

/// A constant identifier for a kebab-case name.
pub fn shouting(name: &str) -> Ident {
    Ident::new(&name.to_snake_case().to_uppercase(), Span::call_site())
}

/// A doc attribute.
pub fn docs(text: &str) -> TokenStream {
    let lines = text.lines().map(|line| format!(" {line}"));
    quote!(#(#[doc = #lines])*)
}

/// The name of the parameter that a function changes.
pub fn exchanged(paths: &Paths<'_>, function: &Function) -> Option<Ident> {
    let mut parameters = function.parameters.iter();
    let found = parameters.find(|(_, ty)| matches!(paths.transport(ty), Transport::Exchanged));
    found.map(|(name, _)| snake(name))
}

/// The names of a function's parameters.
pub fn parameters(function: &Function) -> Vec<Ident> {
    function
        .parameters
        .iter()
        .map(|(name, _)| snake(name))
        .collect()
}

/// Statements that decode the arguments of a call that is served natively.
pub fn decode(paths: &Paths<'_>, function: &Function) -> TokenStream {
    let lines = function
        .parameters
        .iter()
        .enumerate()
        .map(|(index, (name, ty))| {
            let name = snake(name);
            match paths.transport(ty) {
                Transport::Bytes => quote!(let #name = arguments.bytes(#index)?;),
                Transport::Text => quote!(let #name = arguments.text(#index)?;),
                Transport::Numbers => quote!(let #name = arguments.numbers(#index)?;),
                Transport::Exchanged => quote!(let #name = arguments.exchanged(#index)?;),
                Transport::Scalar => {
                    let ty = paths.owned(ty);
                    quote!(let #name = arguments.scalar::<#ty>(#index)?;)
                }
                Transport::Encoded => {
                    let ty = paths.owned(ty);
                    quote!(let #name = arguments.value::<#ty>(#index)?;)
                }
            }
        });
    quote!(#(#lines)*)
}

/// Statements that encode the arguments of a native call into an array `slices`.
pub fn encode(paths: &Paths<'_>, function: &Function, abi: &TokenStream) -> TokenStream {
    let mut encodings = Vec::new();
    let mut slices = Vec::new();
    for (name, ty) in &function.parameters {
        let name = snake(name);
        match paths.transport(ty) {
            Transport::Bytes => slices.push(quote!(#abi::Slice::new(#name))),
            Transport::Text => slices.push(quote!(#abi::Slice::new(#name.as_bytes()))),
            Transport::Numbers => slices.push(quote!(#abi::Slice::of_numbers(#name))),
            Transport::Exchanged => slices.push(quote!(#abi::Slice::of_exchanged(#name))),
            Transport::Scalar => {
                encodings.push(quote!(let #name = #abi::call::Scalar::to_bytes(#name);));
                slices.push(quote!(#abi::Slice::new(&#name)));
            }
            Transport::Encoded => {
                encodings.push(quote!(let #name = #abi::call::Encoded::new(&#name);));
                slices.push(quote!(#name.slice()));
            }
        }
    }
    let count = slices.len();
    quote! {
        #(#encodings)*
        let slices: [#abi::Slice; #count] = [#(#slices),*];
    }
}

/// An expression that turns the result of a served function into an `Answer`.
pub fn answer(
    paths: &Paths<'_>,
    function: &Function,
    result: TokenStream,
    abi: &TokenStream,
) -> TokenStream {
    let success = |value: TokenStream| match &function.value {
        Some(ty) if paths.is_bulk(ty) => quote!(#abi::call::Answer::bulk(#value)),
        Some(_) => quote!(#abi::call::Answer::value(&#value)),
        None => quote!({ let () = #value; #abi::call::Answer::Unit }),
    };
    if function.fallible {
        let success = success(quote!(value));
        quote! {
            match #result {
                ::std::result::Result::Ok(value) => #success,
                ::std::result::Result::Err(error) => #abi::call::Answer::error(&error),
            }
        }
    } else {
        success(result)
    }
}

/// `Bulk` for the records and variants of the contract that have byte lists in them.
pub fn bulk(paths: &Paths<'_>, abi: &TokenStream) -> TokenStream {
    let contract = paths.contract;
    let interfaces = contract.imports.iter().chain(&contract.exports);
    let owners = contract.types.iter().copied();
    let all = owners
        .chain(interfaces.map(|interface| interface.id))
        .flat_map(|interface| contract.resolve.interfaces[interface].types.values())
        .filter(|id| root(&contract.resolve, **id) == **id && paths.is_bulk(&Type::Id(**id)));
    let impls = all.filter_map(|id| {
        let body = match paths.definition(*id) {
            TypeDefKind::Record(record) => {
                let fields = record
                    .fields
                    .iter()
                    .filter(|field| paths.is_bulk(&field.ty))
                    .map(|field| snake(&field.name));
                quote!(#(#abi::call::Bulk::each(&mut self.#fields, visit);)*)
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant
                    .cases
                    .iter()
                    .filter(|case| case.ty.is_some_and(|ty| paths.is_bulk(&ty)))
                    .map(|case| camel(&case.name));
                quote! {
                    match self {
                        #(Self::#cases(value) => #abi::call::Bulk::each(value, visit),)*
                        #[allow(unreachable_patterns)]
                        _ => {}
                    }
                }
            }
            _ => return None,
        };
        let name = paths.named(*id);
        Some(quote! {
            impl #abi::call::Bulk for #name {
                fn each(&mut self, visit: &mut dyn FnMut(&mut ::std::vec::Vec<u8>)) {
                    #body
                }
            }
        })
    });
    quote!(#(#impls)*)
}

/// The types that interfaces share: those of `types` as they are, others in modules of their names.
pub fn vocabulary(contract: &Contract, module: &dyn Fn(InterfaceId) -> TokenStream) -> TokenStream {
    let uses = contract.types.iter().map(|id| {
        let bound = module(*id);
        let interface = &contract.resolve.interfaces[*id];
        match interface.name.as_deref().unwrap_or_default() {
            "types" => quote!(pub use #bound::*;),
            name => {
                let docs = docs(interface.docs.contents.as_deref().unwrap_or_default());
                let name = snake(name);
                quote!(#docs pub mod #name { pub use #bound::*; })
            }
        }
    });
    quote!(#(#uses)*)
}

/// A constant that makes the compiler notice changes of the contract's files.
pub fn tracked(contract: &Contract) -> TokenStream {
    let files = &contract.files;
    quote!(const _: &[&[u8]] = &[#(include_bytes!(#files)),*];)
}

/// The signature of a function as a trait method of the side that serves it.
pub fn served_signature(
    paths: &Paths<'_>,
    function: &Function,
    receiver: &TokenStream,
) -> TokenStream {
    let name = snake(&function.name);
    let names = parameters(function);
    let types = function.parameters.iter().map(|(_, ty)| paths.received(ty));
    let result = paths.result(function);
    quote!(fn #name(#receiver, #(#names: #types),*) -> #result)
}
