//! The attribute `#[plugin(…)]`: the entry points of one plugin for both carriers.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Ident, Item, Token, parse::Parser};

use crate::contract::LIFECYCLE;

/// The extension points that a component or native library of this contract can serve. The SDK
/// has a module of each name, so a name that is missing here or there does not compile.
const EXTENSION_POINTS: [&str; 11] = [
    "step",
    "stage",
    "modality",
    "agent",
    "metrics",
    "storage",
    "hook",
    "command",
    "service",
    "ml_backend",
    "inference_backend",
];

/// Expands the attribute.
pub fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let points = Punctuated::<Ident, Token![,]>::parse_terminated.parse2(arguments)?;
    let parsed = syn::parse2::<Item>(item.clone())?;
    let (name, generics) = match &parsed {
        Item::Struct(item) => (&item.ident, &item.generics),
        Item::Enum(item) => (&item.ident, &item.generics),
        other => {
            return Err(syn::Error::new(
                other.span(),
                "`#[plugin(…)]` goes on the struct or enum that implements the extension points",
            ));
        }
    };
    if !generics.params.is_empty() {
        return Err(syn::Error::new(
            generics.span(),
            "a plugin's type takes no parameters",
        ));
    }

    let mut served = Vec::<&Ident>::new();
    let mut own_lifecycle = false;
    for point in &points {
        if point == LIFECYCLE {
            own_lifecycle = true;
        } else if !EXTENSION_POINTS.iter().any(|known| point == known) {
            let known = EXTENSION_POINTS.join(", ");
            let message =
                format!("`{point}` is no extension point; known are {known} and lifecycle");
            return Err(syn::Error::new(point.span(), message));
        } else if served.contains(&point) {
            return Err(syn::Error::new(
                point.span(),
                format!("`{point}` is named twice"),
            ));
        } else {
            served.push(point);
        }
    }
    if served.is_empty() {
        return Err(syn::Error::new(
            proc_macro2::Span::call_site(),
            "name the extension points that this plugin serves: `#[plugin(stage)]`",
        ));
    }

    let lifecycle = (!own_lifecycle).then(|| {
        quote! {
            impl ::vox_plugin::Lifecycle for #name {
                fn init(_config: &str) -> ::vox_plugin::Result<Self> {
                    ::std::result::Result::Ok(<Self as ::std::default::Default>::default())
                }
            }
        }
    });
    let tables = served
        .iter()
        .map(|point| quote!(::vox_plugin::#point::Table::<#name>::INTERFACE));
    let count = served.len() + 1;
    let exports = served.iter().map(|point| {
        let export = quote::format_ident!("export_{point}");
        quote! {
            ::vox_plugin::bindings::#point::#export!(
                __VoxExport with_types_in ::vox_plugin::bindings::#point
            );
        }
    });
    Ok(quote! {
        #item
        #lifecycle

        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            static INTERFACES: [::vox_plugin::vox_abi::Interface; #count] = [
                ::vox_plugin::lifecycle::Table::<#name>::INTERFACE,
                #(#tables),*
            ];

            #[allow(missing_docs, unsafe_code)]
            #[unsafe(no_mangle)]
            pub static VOX_PLUGIN: ::vox_plugin::vox_abi::PluginVtable =
                ::vox_plugin::native::vtable::<#name>(&INTERFACES);
        };

        #[cfg(target_arch = "wasm32")]
        impl ::vox_plugin::component::Exported for #name {
            fn slot() -> &'static ::vox_plugin::component::Global<Self> {
                static SLOT: ::vox_plugin::component::Global<#name> =
                    ::vox_plugin::component::Global::new();
                &SLOT
            }
        }
        #[cfg(target_arch = "wasm32")]
        type __VoxExport = ::vox_plugin::component::Export<#name>;
        #[cfg(target_arch = "wasm32")]
        ::vox_plugin::bindings::lifecycle::export_lifecycle!(
            __VoxExport with_types_in ::vox_plugin::bindings::lifecycle
        );
        #(
            #[cfg(target_arch = "wasm32")]
            #exports
        )*
    })
}
