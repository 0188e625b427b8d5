//! Which interfaces of WASI there are, and who serves each.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::p2::bindings::{self, cli, clocks, filesystem, random, sockets, sync};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView};

use super::{HasWasi, names};
use crate::carriers::component::State;

/// The interfaces, of version 0.2.
const INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Whether a component may import this interface.
pub(in crate::carriers::component) fn offers(import: &str) -> bool {
    import.split_once('@').is_some_and(|(name, version)| {
        INTERFACES.contains(&name) && (version == "0.2" || version.starts_with("0.2."))
    })
}

/// Adds every interface. Those in which a grant is asked for or a guest can wait are ours; the
/// others are wasmtime's, over what [`Wasi::new`] made.
pub(in crate::carriers::component) fn add_to_linker(
    linker: &mut Linker<State>,
) -> wasmtime::Result<()> {
    bindings::io::error::add_to_linker::<_, HasTable>(linker, |state| &mut state.wasi().table)?;
    sync::io::poll::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    sync::io::streams::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    clocks::wall_clock::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    clocks::monotonic_clock::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    random::random::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    random::insecure::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    random::insecure_seed::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    filesystem::preopens::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    sync::filesystem::types::add_to_linker::<_, HasWasi>(linker, State::wasi)?;
    add_cli(linker)?;
    add_sockets(linker)?;
    add_http(linker)
}

fn add_cli(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, |state| state.wasi().cli())
}

fn add_sockets(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<_, WasiSockets>(linker, &options, |state| {
        state.wasi().sockets()
    })?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, |state| {
        state.wasi().sockets()
    })?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, |state| {
        state.wasi().sockets()
    })?;
    sync::sockets::tcp::add_to_linker::<_, WasiSockets>(linker, |state| state.wasi().sockets())?;
    sync::sockets::udp::add_to_linker::<_, WasiSockets>(linker, |state| state.wasi().sockets())?;
    sync::sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(linker, |state| {
        state.wasi().sockets()
    })?;
    names::add_to_linker(linker)
}

fn add_http(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use wasmtime_wasi_http::p2::bindings::LinkOptions;
    use wasmtime_wasi_http::p2::bindings::sync::http::{outgoing_handler, types};

    let options = LinkOptions::default();
    outgoing_handler::add_to_linker::<_, WasiHttp>(linker, http)?;
    types::add_to_linker::<_, WasiHttp>(linker, &(&options).into(), http)
}

fn http(state: &mut State) -> WasiHttpCtxView<'_> {
    let wasi = state.wasi();
    WasiHttpCtxView {
        hooks: &mut wasi.requests,
        table: &mut wasi.table,
        ctx: &mut wasi.http,
    }
}

/// Says to the linker that an interface needs the table of handles alone.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}
