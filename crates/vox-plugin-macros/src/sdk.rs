//! The SDK's side: what a plugin implements and what it calls.
//!
//! Makes, in the crate that invokes `sdk!`:
//!
//! - `bindings`, what `wit-bindgen` generates: the types, and the component's imports and exports;
//! - for each export a module with its types, the trait that an author implements, a `Table` of C
//!   functions for the native carrier, and the glue for the component carrier;
//! - `host`, with a module of functions for each host interface.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use wit_parser::InterfaceId;

use crate::contract::{Contract, Interface, LIFECYCLE};
use crate::rust::{
    Paths, answer, bulk, camel, decode, docs, encode, exchanged, parameters, served_signature,
    snake, tracked, vocabulary,
};

/// Writes the SDK's side of the contract.
pub fn generate(contract: &Contract, path: &syn::LitStr) -> TokenStream {
    let module = |interface: InterfaceId| -> TokenStream {
        let name = contract.resolve.interfaces[interface]
            .name
            .as_deref()
            .unwrap_or_default();
        let module = snake(name);
        if contract.exports.iter().any(|export| export.id == interface) {
            quote!(crate::bindings::#module::exports::vox::plugin::#module)
        } else {
            quote!(crate::bindings::host_side::vox::plugin::#module)
        }
    };
    let paths = Paths {
        contract,
        module: &module,
    };
    let tracked = tracked(contract);
    let bindings = bindings(contract, path);
    let exports = contract
        .exports
        .iter()
        .map(|interface| export(&paths, interface));
    let imports = contract
        .imports
        .iter()
        .enumerate()
        .map(|(index, interface)| import(&paths, index, interface));
    let names = contract
        .imports
        .iter()
        .map(|interface| &interface.full_name);
    let count = contract.imports.len();
    let version = &contract.version;
    let bulk = bulk(&paths, &quote!(crate::vox_abi));
    let shared = vocabulary(contract, &module);
    quote! {
        #tracked
        #bindings
        #bulk
        #shared

        /// Version of the contract that this SDK was made from.
        pub const CONTRACT_VERSION: &str = #version;

        #(#exports)*

        /// What the host offers. Functions may be called while the host is inside this plugin;
        /// outside of a call they answer `error.unavailable`.
        pub mod host {
            #(#imports)*

            /// The host's interfaces, in the order that native calls count them.
            #[cfg(not(target_arch = "wasm32"))]
            pub(crate) const INTERFACES: [&str; #count] = [#(#names),*];
        }
    }
}

/// What `wit-bindgen` makes. The host's interfaces are generated once and shared by all exports.
fn bindings(contract: &Contract, path: &syn::LitStr) -> TokenStream {
    let derives = quote!([PartialEq, Clone, serde::Serialize, serde::Deserialize]);
    let shared = contract
        .types
        .iter()
        .copied()
        .chain(contract.imports.iter().map(|import| import.id))
        .map(|id| {
            let full_name = contract.resolve.id_of(id).unwrap_or_default();
            let module = snake(
                contract.resolve.interfaces[id]
                    .name
                    .as_deref()
                    .unwrap_or_default(),
            );
            quote!(#full_name: crate::bindings::host_side::vox::plugin::#module)
        })
        .collect::<Vec<_>>();
    let exports = contract.exports.iter().map(|interface| {
        let module = snake(&interface.name);
        let world = format!("{}-plugin", interface.name);
        let export_macro = format!("export_{module}");
        let default_module = format!("vox_plugin::bindings::{module}");
        quote! {
            pub mod #module {
                wit_bindgen::generate!({
                    path: #path,
                    world: #world,
                    with: { #(#shared),* },
                    additional_derives: #derives,
                    pub_export_macro: true,
                    export_macro_name: #export_macro,
                    default_bindings_module: #default_module,
                });
            }
        }
    });
    quote! {
        #[doc(hidden)]
        #[allow(missing_docs, unused_qualifications, clippy::all, clippy::undocumented_unsafe_blocks)]
        pub mod bindings {
            pub mod host_side {
                wit_bindgen::generate!({
                    path: #path,
                    world: "host-side",
                    generate_all,
                    additional_derives: #derives,
                });
            }
            #(#exports)*
        }
    }
}

fn export(paths: &Paths<'_>, interface: &Interface) -> TokenStream {
    let contract = paths.contract;
    let module = snake(&interface.name);
    let trait_name = camel(&interface.name);
    let is_lifecycle = interface.name == LIFECYCLE;
    let module_docs = docs(&interface.docs);

    let types = contract.resolve.interfaces[interface.id]
        .types
        .iter()
        .filter(|(_, id)| crate::contract::root(&contract.resolve, **id) == **id)
        .map(|(name, _)| camel(name))
        .collect::<Vec<_>>();
    let bound = (paths.module)(interface.id);

    let methods = interface.functions.iter().map(|function| {
        let docs = docs(&function.docs);
        let signature = served_signature(paths, function, &quote!(&mut self));
        quote!(#docs #signature;)
    });
    // An author meets `lifecycle` as the hand-written trait with defaults; the slot that holds
    // the author's value serves the interface itself.
    let (trait_visibility, trait_name, implementor) = if is_lifecycle {
        (
            quote!(#[doc(hidden)]),
            format_ident!("{trait_name}Exports"),
            quote!(crate::Lifecycle),
        )
    } else {
        (
            quote!(),
            trait_name.clone(),
            quote!(crate::Lifecycle + #trait_name),
        )
    };

    let native = native_table(paths, interface, &implementor, is_lifecycle);
    let component = component_glue(paths, interface, &trait_name, is_lifecycle);
    quote! {
        #module_docs
        pub mod #module {
            pub use #bound::{#(#types),*};

            #module_docs
            #trait_visibility
            pub trait #trait_name {
                #(#methods)*
            }

            #native
            #component
        }
    }
}

fn native_table(
    paths: &Paths<'_>,
    interface: &Interface,
    implementor: &TokenStream,
    is_lifecycle: bool,
) -> TokenStream {
    let abi = quote!(crate::vox_abi);
    let serve = if is_lifecycle {
        quote!(serve_slot)
    } else {
        quote!(serve)
    };
    let functions = interface.functions.iter().map(|function| {
        let name = snake(&function.name);
        let names = parameters(function);
        let decode = decode(paths, function);
        let answer = answer(paths, function, quote!(plugin.#name(#(#names),*)), &abi);
        quote! {
            unsafe extern "C" fn #name<T: #implementor>(
                this: *mut ::std::ffi::c_void,
                arguments: *const #abi::Slice,
                count: usize,
                reply: *mut #abi::Buffer,
            ) -> #abi::Status {
                // SAFETY: the host calls with an instance of this plugin, `count` live slices and
                // an empty reply, one caller at a time, as the ABI says.
                unsafe {
                    crate::native::#serve::<T>(this, arguments, count, reply, |plugin, arguments| {
                        let _ = &arguments;
                        #decode
                        Ok(#answer)
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
        /// The interface as the native carrier sees it.
        #[cfg(not(target_arch = "wasm32"))]
        #[doc(hidden)]
        pub struct Table<T>(::std::marker::PhantomData<T>);

        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            #(#functions)*

            impl<T: #implementor> Table<T> {
                const FUNCTIONS: &'static [#abi::Function] = &[#(#names::<T>),*];
                /// The table's entry in a plugin's list of interfaces.
                pub const INTERFACE: #abi::Interface =
                    #abi::Interface::new(#full_name, Self::FUNCTIONS);
            }
        };
    }
}

fn component_glue(
    paths: &Paths<'_>,
    interface: &Interface,
    trait_name: &proc_macro2::Ident,
    is_lifecycle: bool,
) -> TokenStream {
    let guest = (paths.module)(interface.id);
    let (enter, bound) = if is_lifecycle {
        (quote!(with_slot), quote!(crate::component::Exported))
    } else {
        (
            quote!(with),
            quote!(crate::component::Exported + #trait_name),
        )
    };
    let use_trait = is_lifecycle.then(|| quote!(use super::#trait_name as _;));
    let functions = interface.functions.iter().map(|function| {
        let name = snake(&function.name);
        let names = parameters(function);
        let owned = function.parameters.iter().map(|(_, ty)| paths.owned(ty));
        let passed = function
            .parameters
            .iter()
            .map(|(name, ty)| paths.hand_over(&snake(name), ty));
        let result = paths.result(function);
        quote! {
            fn #name(#(#names: #owned),*) -> #result {
                crate::component::#enter::<T, _>(|plugin| plugin.#name(#(#passed),*))
            }
        }
    });
    quote! {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[allow(unused_imports)]
            mod trait_in_scope { #use_trait }
            impl<T: #bound> #guest::Guest for crate::component::Export<T> {
                #(#functions)*
            }
        };
    }
}

fn import(paths: &Paths<'_>, index: usize, interface: &Interface) -> TokenStream {
    let contract = paths.contract;
    let module = snake(&interface.name);
    let module_docs = docs(&interface.docs);
    let bound = (paths.module)(interface.id);
    let types = contract.resolve.interfaces[interface.id]
        .types
        .iter()
        .filter(|(_, id)| crate::contract::root(&contract.resolve, **id) == **id)
        .map(|(name, _)| camel(name))
        .collect::<Vec<_>>();
    let abi = quote!(crate::vox_abi);
    let functions = interface
        .functions
        .iter()
        .enumerate()
        .map(|(position, function)| {
            let docs = docs(&function.docs);
            let name = snake(&function.name);
            let names = parameters(function);
            let types = function.parameters.iter().map(|(_, ty)| paths.borrowed(ty));
            let result = paths.result(function);
            let encode = encode(paths, function, &abi);
            let decoder = paths.decoder(function, &abi);
            let call = if function.fallible {
                quote!(call_host)
            } else {
                quote!(call_host_or_default)
            };
            let label = format!("{}.{}", interface.name, function.name);
            let as_component = match exchanged(paths, function) {
                Some(changed) => quote! {
                    #bound::#name(#(&*#names),*).and_then(|answer| {
                        crate::component::replace(#changed, &answer, #label)
                    })
                },
                None => quote!(#bound::#name(#(#names),*)),
            };
            quote! {
                #docs
                pub fn #name(#(#names: #types),*) -> #result {
                    #[cfg(target_arch = "wasm32")]
                    {
                        #as_component
                    }
                    #[cfg(not(target_arch = "wasm32"))]
                    {
                        #encode
                        crate::native::#call(#index, #position, #label, &slices, #decoder)
                    }
                }
            }
        });
    quote! {
        #module_docs
        pub mod #module {
            #[allow(unused_imports)]
            pub use #bound::{#(#types),*};
            #(#functions)*
        }
    }
}
