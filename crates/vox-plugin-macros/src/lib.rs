//! Code generated from the plugin contract in `wit/`, so that nothing in it is written twice.
//!
//! | macro | used by | makes |
//! |---|---|---|
//! | [`sdk!`] | `vox-plugin` | author traits, their export glue for both carriers, clients for the host's interfaces |
//! | [`host!`] | `vox-host` | clients for the extension points, traits and dispatch for the host's interfaces |
//! | [`macro@plugin`] | plugin authors | the entry points of one plugin |
//!
//! `contract` reads the WIT into a small model; `rust` says how its types are spelled in Rust
//! and how they cross a call; `sdk`, `host` and `plugin` write the code.
//!
//! What must stay true: a function's position in its interface is its position in the native
//! tables on both sides, so functions are only ever appended to an interface.

mod contract;
mod host;
mod plugin;
mod rust;
mod sdk;

use proc_macro::TokenStream;

/// Generates the SDK's side of the contract. Takes the path of the WIT directory, relative to the
/// crate.
#[proc_macro]
pub fn sdk(input: TokenStream) -> TokenStream {
    generate(input, sdk::generate)
}

/// Generates the host's side of the contract. Takes the path of the WIT directory, relative to
/// the crate.
#[proc_macro]
pub fn host(input: TokenStream) -> TokenStream {
    generate(input, host::generate)
}

/// Makes a type the plugin that this crate is: `#[plugin(stage, metrics)]`.
///
/// Names the extension points that the type serves; it implements the trait of each
/// (`vox_plugin::Stage`, `vox_plugin::Metrics`, …). With `lifecycle` among the names the type
/// implements `vox_plugin::Lifecycle` and starts from its configuration; without, it starts as
/// its `Default` and has neither health checks nor saved state.
///
/// The crate then builds as a component and as a native library (`vox plugin build`). One type a
/// crate may carry this attribute.
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    plugin::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

fn generate(
    input: TokenStream,
    write: fn(&contract::Contract, &syn::LitStr) -> proc_macro2::TokenStream,
) -> TokenStream {
    let path = match syn::parse::<syn::LitStr>(input) {
        Ok(path) => path,
        Err(error) => return error.into_compile_error().into(),
    };
    match contract::Contract::read(&path.value()) {
        Ok(contract) => write(&contract, &path).into(),
        Err(error) => syn::Error::new(path.span(), error)
            .into_compile_error()
            .into(),
    }
}
