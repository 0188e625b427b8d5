//! The host's side: what it calls in a plugin and what it serves to one.
//!
//! Makes, in the module that invokes `host!`:
//!
//! - `bindings`, what `wasmtime::component::bindgen!` generates: the types, and the component
//!   carrier's half of every call;
//! - for each export a module with its types, and a client struct whose methods call whichever
//!   carrier the instance has;
//! - for each host interface a trait with borrowed arguments; `Services` implements it, and both
//!   carriers reach it: components through `bindings`, native libraries through
//!   `NATIVE_INTERFACES`;
//! - `call_json`, any exported function with JSON arguments.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use wit_parser::InterfaceId;

use crate::contract::{Contract, Function, Interface, root};
use crate::rust::{
    Paths, Transport, answer, bulk, camel, decode, docs, encode, exchanged, parameters,
    served_signature, shouting, snake, tracked, vocabulary,
};

/// Writes the host's side of the contract.
pub fn generate(contract: &Contract, path: &syn::LitStr) -> TokenStream {
    let module = |interface: InterfaceId| -> TokenStream {
        let name = contract.resolve.interfaces[interface]
            .name
            .as_deref()
            .unwrap_or_default();
        let module = snake(name);
        if contract.exports.iter().any(|export| export.id == interface) {
            quote!(crate::contract::bindings::exports::vox::plugin::#module)
        } else {
            quote!(crate::contract::bindings::vox::plugin::#module)
        }
    };
    let paths = Paths {
        contract,
        module: &module,
    };
    let tracked = tracked(contract);
    let version = &contract.version;
    let shared = vocabulary(contract, &module);
    let empty_hosts = contract.types.iter().map(|id| {
        let module = module(*id);
        quote!(impl #module::Host for crate::carriers::component::State {})
    });
    let exports = contract
        .exports
        .iter()
        .enumerate()
        .map(|(index, interface)| export(&paths, index, interface));
    let imports = contract
        .imports
        .iter()
        .map(|interface| import(&paths, interface));
    let bulk = bulk(&paths, &quote!(vox_abi));
    let component = component_exports(&paths);
    let json = call_json(&paths);
    let table = native_interfaces(contract);
    let interface_table = interface_table(contract);
    quote! {
        #tracked

        /// What wasmtime generates from the contract.
        #[allow(missing_docs, unused_qualifications, clippy::all, clippy::undocumented_unsafe_blocks)]
        pub(crate) mod bindings {
            wasmtime::component::bindgen!({
                path: #path,
                world: "every-plugin",
                additional_derives: [PartialEq, Clone, serde::Serialize, serde::Deserialize],
            });
        }

        /// Version of the contract that this host speaks.
        pub const CONTRACT_VERSION: &str = #version;

        #shared
        #(#empty_hosts)*
        #(#exports)*
        #(#imports)*
        #bulk
        #component
        #table
        #interface_table
        #json
    }
}

/// The types that an interface defines itself.
fn own_types(contract: &Contract, interface: &Interface) -> Vec<proc_macro2::Ident> {
    contract.resolve.interfaces[interface.id]
        .types
        .iter()
        .filter(|(_, id)| root(&contract.resolve, **id) == **id)
        .map(|(name, _)| camel(name))
        .collect()
}

fn export(paths: &Paths<'_>, index: usize, interface: &Interface) -> TokenStream {
    let module = snake(&interface.name);
    let client = camel(&interface.name);
    let interface_docs = docs(&interface.docs);
    let types = own_types(paths.contract, interface);
    let bound = (paths.module)(interface.id);
    let abi = quote!(vox_abi);
    let methods = interface
        .functions
        .iter()
        .enumerate()
        .map(|(position, function)| {
            let docs = docs(&function.docs);
            let name = snake(&function.name);
            let call = format_ident!("call_{name}");
            let names = parameters(function);
            let types = function.parameters.iter().map(|(_, ty)| paths.borrowed(ty));
            let value = paths.value(function);
            let label = format!("{}.{}", interface.name, function.name);
            let encode = encode(paths, function, &abi);
            let decoder = paths.decoder(function, &abi);
            let weight = weight(paths, function);
            let flatten = if function.fallible {
                quote!(crate::carriers::component::flatten(result, limits))
            } else {
                quote!(result.map_err(|error| {
                    Box::new(crate::carriers::component::failure(error, limits))
                }))
            };
            let count = match &function.value {
                Some(ty) if matches!(paths.transport(ty), Transport::Bytes | Transport::Text) => {
                    quote!(if let Ok(value) = &answer {
                        self.instance.count_out(value.len());
                    })
                }
                _ => quote!(),
            };
            quote! {
                #docs
                #[inline]
                #[allow(clippy::let_and_return)]
                pub fn #name(&mut self, #(#names: #types),*) -> Result<#value, crate::CallError> {
                    let bytes = #weight;
                    let answer = self.instance.enter(
                        #label,
                        bytes,
                        |component| {
                            let (store, exports, limits) = component.parts();
                            let Some(guest) = &exports.#module else {
                                return Err(Box::new(crate::carriers::Failure::NotExported));
                            };
                            let result = guest.#call(store, #(#names),*);
                            #flatten
                        },
                        |native| {
                            #encode
                            native.call(#index, #position, &slices, #decoder)
                        },
                    );
                    #count
                    answer
                }
            }
        });
    quote! {
        #interface_docs
        pub mod #module {
            #[allow(unused_imports)]
            pub use #bound::{#(#types),*};

            #interface_docs
            #[derive(Debug)]
            pub struct #client<'a> {
                instance: &'a mut crate::Instance,
            }

            impl #client<'_> {
                #(#methods)*
            }

            impl crate::Instance {
                /// The plugin's exports of this interface.
                ///
                /// # Errors
                ///
                /// The plugin does not export it.
                pub fn #module(&mut self) -> Result<#client<'_>, crate::CallError> {
                    self.require(#index)?;
                    Ok(#client { instance: self })
                }
            }
        }
    }
}

/// The bytes of text and data among the parameters.
fn weight(paths: &Paths<'_>, function: &Function) -> TokenStream {
    let lengths = function.parameters.iter().filter_map(|(name, ty)| {
        let name = snake(name);
        match paths.transport(ty) {
            Transport::Bytes | Transport::Text => Some(quote!(#name.len())),
            Transport::Numbers | Transport::Exchanged => {
                Some(quote!(::std::mem::size_of_val::<[_]>(&#name[..])))
            }
            Transport::Scalar | Transport::Encoded => None,
        }
    });
    quote!(0 #(+ #lengths)*)
}

fn import(paths: &Paths<'_>, interface: &Interface) -> TokenStream {
    let module = snake(&interface.name);
    let trait_name = camel(&interface.name);
    let interface_docs = docs(&interface.docs);
    let types = own_types(paths.contract, interface);
    let bound = (paths.module)(interface.id);
    let abi = quote!(vox_abi);

    let methods = interface.functions.iter().map(|function| {
        let docs = docs(&function.docs);
        let signature = served_signature(paths, function, &quote!(&self));
        quote!(#docs #signature;)
    });
    let for_components = interface.functions.iter().map(|function| {
        let name = snake(&function.name);
        let names = parameters(function);
        let owned = function.parameters.iter().map(|(_, ty)| paths.owned(ty));
        let passed = function
            .parameters
            .iter()
            .map(|(name, ty)| paths.hand_over(&snake(name), ty));
        let weight = weight(paths, function);
        let (result, declare, finish) = match exchanged(paths, function) {
            // The changed numbers go back as the value.
            Some(name) => {
                let error = paths.error();
                (
                    quote!(::std::result::Result<::std::vec::Vec<f32>, #error>),
                    quote!(let mut #name = #name;),
                    quote!(answer.map(|()| #name)),
                )
            }
            None => (paths.result(function), quote!(), quote!(answer)),
        };
        quote! {
            fn #name(&mut self, #(#names: #owned),*) -> #result {
                #declare
                let services = self.services();
                let stay = services.leave_guest(#weight);
                let answer = #trait_name::#name(services, #(#passed),*);
                services.enter_guest(stay);
                #finish
            }
        }
    });
    let for_libraries = interface.functions.iter().map(|function| {
        let name = snake(&function.name);
        let names = parameters(function);
        let decode = decode(paths, function);
        let weight = weight(paths, function);
        let answer = answer(
            paths,
            function,
            quote!(#trait_name::#name(services, #(#names),*)),
            &abi,
        );
        quote! {
            unsafe extern "C" fn #name(
                this: *mut std::ffi::c_void,
                arguments: *const #abi::Slice,
                count: usize,
                reply: *mut #abi::Buffer,
            ) -> #abi::Status {
                // SAFETY: a plugin calls with the context that it was created with, which keeps
                // its services alive, with `count` live slices, and with an empty reply.
                unsafe {
                    let services = crate::carriers::native::services(this);
                    #abi::call::serve(arguments, count, reply, |arguments| {
                        let _ = &arguments;
                        #decode
                        let stay = services.leave_guest(#weight);
                        let answer = #answer;
                        services.enter_guest(stay);
                        Ok(answer)
                    })
                }
            }
        }
    });
    let names = interface
        .functions
        .iter()
        .map(|function| snake(&function.name));
    let full_name = &interface.full_name;
    quote! {
        #interface_docs
        pub mod #module {
            #[allow(unused_imports)]
            pub use #bound::{#(#types),*};

            #interface_docs
            pub trait #trait_name {
                #(#methods)*
            }

            impl #bound::Host for crate::carriers::component::State {
                #(#for_components)*
            }

            pub(super) const NATIVE: #abi::Interface = {
                #(#for_libraries)*
                #abi::Interface::new(#full_name, &[#(#names),*])
            };
        }
    }
}

/// The exports of a component, bound one interface at a time.
fn component_exports(paths: &Paths<'_>) -> TokenStream {
    let exports = &paths.contract.exports;
    let names = exports
        .iter()
        .map(|interface| snake(&interface.name))
        .collect::<Vec<_>>();
    let modules = exports
        .iter()
        .map(|interface| (paths.module)(interface.id))
        .collect::<Vec<_>>();
    let full_names = exports
        .iter()
        .map(|interface| &interface.full_name)
        .collect::<Vec<_>>();
    let positions = 0..exports.len();
    quote! {
        /// Where a component's exports are.
        pub(crate) struct ComponentIndices { #(#names: Option<#modules::GuestIndices>),* }

        /// A component instance's exports.
        pub(crate) struct ComponentExports { #(pub #names: Option<#modules::Guest>),* }

        impl ComponentIndices {
            /// Looks the exported interfaces up. `exported` says which of [`EXPORTS`] the
            /// component has by name.
            ///
            /// # Errors
            ///
            /// An interface lacks a function, or has it with another type.
            pub fn new<T>(
                pre: &wasmtime::component::InstancePre<T>,
                exported: impl Fn(usize) -> bool,
            ) -> Result<Self, (&'static str, wasmtime::Error)> {
                Ok(Self {
                    #(#names: if exported(#positions) {
                        Some(#modules::GuestIndices::new(pre).map_err(|error| (#full_names, error))?)
                    } else {
                        None
                    }),*
                })
            }

            /// Binds the exports of an instance.
            ///
            /// # Errors
            ///
            /// A function has another type than the contract's.
            pub fn load(
                &self,
                mut store: impl wasmtime::AsContextMut,
                instance: &wasmtime::component::Instance,
            ) -> wasmtime::Result<ComponentExports> {
                Ok(ComponentExports {
                    #(#names: match &self.#names {
                        Some(indices) => Some(indices.load(&mut store, instance)?),
                        None => None,
                    }),*
                })
            }
        }
    }
}

fn native_interfaces(contract: &Contract) -> TokenStream {
    let modules = contract
        .imports
        .iter()
        .map(|interface| snake(&interface.name));
    let count = contract.imports.len();
    quote! {
        /// The host's interfaces as native plugins see them.
        pub(crate) static NATIVE_INTERFACES: [vox_abi::Interface; #count] = [#(#modules::NATIVE),*];
    }
}

/// What there is to export and to import, for checks and messages.
fn interface_table(contract: &Contract) -> TokenStream {
    let entry = |interface: &Interface| {
        let name = &interface.name;
        let full_name = &interface.full_name;
        let functions = interface.functions.iter().map(|function| &function.name);
        quote!(Interface { name: #name, full_name: #full_name, functions: &[#(#functions),*] })
    };
    let exports = contract.exports.iter().map(entry);
    let imports = contract.imports.iter().map(entry);
    let constants = contract
        .exports
        .iter()
        .enumerate()
        .map(|(index, interface)| {
            let name = format_ident!("EXPORT_{}", shouting(&interface.name));
            quote!(#[allow(dead_code)] pub(crate) const #name: usize = #index;)
        });
    let export_count = contract.exports.len();
    quote! {
        /// An interface of the contract.
        #[derive(Clone, Copy, Debug)]
        pub struct Interface {
            /// Kebab-case name: `stage`.
            pub name: &'static str,
            /// Name with package and version: `vox:plugin/stage@1.0.0`.
            pub full_name: &'static str,
            /// Names of its functions, in order.
            pub functions: &'static [&'static str],
        }

        /// Interfaces that a plugin may export.
        pub const EXPORTS: [Interface; #export_count] = [#(#exports),*];
        /// Interfaces that the host serves.
        pub const IMPORTS: &[Interface] = &[#(#imports),*];
        #(#constants)*
    }
}

fn call_json(paths: &Paths<'_>) -> TokenStream {
    let arms = paths.contract.exports.iter().flat_map(|interface| {
        let module = snake(&interface.name);
        let interface_name = &interface.name;
        interface.functions.iter().map(move |function| {
            let function_name = &function.name;
            let name = snake(function_name);
            let reads = function.parameters.iter().map(|(parameter, ty)| {
                let variable = snake(parameter);
                match paths.transport(ty) {
                    Transport::Bytes => quote!(let #variable = arguments.bytes(#parameter)?;),
                    _ => {
                        let owned = paths.owned(ty);
                        quote!(let #variable = arguments.value::<#owned>(#parameter)?;)
                    }
                }
            });
            let lent = function.parameters.iter().map(|(parameter, ty)| paths.lend(&snake(parameter), ty));
            let count = function.parameters.len();
            let show = match &function.value {
                Some(ty) if matches!(paths.transport(ty), Transport::Bytes) => {
                    quote!(Ok(crate::json::from_bytes(&value)))
                }
                _ => quote!(crate::json::from_value(&value)),
            };
            let names = function.parameters.iter().map(|(parameter, _)| parameter);
            quote! {
                (#interface_name, #function_name) => {
                    #[allow(unused_mut)]
                    let mut arguments = crate::json::Arguments::new(arguments, #count, &[#(#names),*])?;
                    #(#reads)*
                    let _ = &arguments;
                    #[allow(clippy::let_unit_value)]
                    let value = instance.#module()?.#name(#(#lent),*)?;
                    #show
                }
            }
        })
    });
    quote! {
        /// Calls an exported function with JSON arguments, one for each parameter, and answers
        /// its result as JSON.
        ///
        /// # Errors
        ///
        /// There is no such function, the arguments do not fit its parameters, or the call fails.
        pub(crate) fn call_json(
            instance: &mut crate::Instance,
            interface: &str,
            function: &str,
            arguments: Vec<serde_json::Value>,
        ) -> Result<serde_json::Value, crate::json::JsonCallError> {
            match (interface, function) {
                #(#arms)*
                _ => Err(crate::json::JsonCallError::unknown(interface, function)),
            }
        }
    }
}
