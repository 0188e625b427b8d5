//! What is done with the network.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode as HttpError, Fields, IncomingResponse, OutgoingRequest, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::Answer;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    LookUp {
        name: String,
    },
    /// Looks a name up and connects to its first address.
    ConnectByName {
        name: String,
        port: u16,
    },
    Connect {
        address: IpAddr,
        port: u16,
    },
    /// Connects and reads what is never sent.
    ReadForEver {
        address: IpAddr,
        port: u16,
    },
    /// Connects and waits in `poll` for what is never sent.
    PollForEver {
        address: IpAddr,
        port: u16,
    },
    Listen {
        address: IpAddr,
        port: u16,
    },
    Udp {
        address: IpAddr,
        port: u16,
    },
    /// Makes a request, and follows as many redirects.
    Get {
        scheme: String,
        authority: String,
        path: String,
        #[serde(default)]
        follow: u32,
    },
}

pub fn run(deed: Deed) -> Answer {
    let name = |error: ErrorCode| error.name().to_owned();
    match deed {
        Deed::LookUp { name: host } => {
            let addresses = look_up(&host).map_err(name)?;
            Ok(json!(addresses.iter().map(text).collect::<Vec<_>>()))
        }
        Deed::ConnectByName { name: host, port } => {
            let addresses = look_up(&host).map_err(name)?;
            let first = addresses.first().ok_or("no-address")?;
            connect(*first, port).map_err(name)?;
            Ok(json!("connected"))
        }
        Deed::Connect { address, port } => {
            connect(wasi_address(address), port).map_err(name)?;
            Ok(json!("connected"))
        }
        Deed::ReadForEver { address, port } => {
            let (input, _output, _socket) = connect(wasi_address(address), port).map_err(name)?;
            let _ = input.blocking_read(1);
            Ok(json!("read"))
        }
        Deed::PollForEver { address, port } => {
            let (input, _output, _socket) = connect(wasi_address(address), port).map_err(name)?;
            wasip2::io::poll::poll(&[&input.subscribe()]);
            Ok(json!("polled"))
        }
        Deed::Listen { address, port } => listen(wasi_address(address), port).map_err(name),
        Deed::Udp { address, port } => udp(wasi_address(address), port).map_err(name),
        Deed::Get {
            scheme,
            authority,
            path,
            follow,
        } => get(&scheme, &authority, &path, follow).map_err(|error| format!("{error:?}")),
    }
}

fn look_up(name: &str) -> Result<Vec<IpAddress>, ErrorCode> {
    let stream = resolve_addresses(&instance_network(), name)?;
    let mut found = Vec::new();
    loop {
        match stream.resolve_next_address() {
            Ok(Some(address)) => found.push(address),
            Ok(None) => return Ok(found),
            Err(ErrorCode::WouldBlock) => stream.subscribe().block(),
            Err(error) => return Err(error),
        }
    }
}

fn family(address: &IpAddress) -> IpAddressFamily {
    match address {
        IpAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

fn at(address: IpAddress, port: u16) -> IpSocketAddress {
    match address {
        IpAddress::Ipv4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }),
        IpAddress::Ipv6(address) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port,
            flow_info: 0,
            address,
            scope_id: 0,
        }),
    }
}

/// The socket comes last: WASI wants its streams dropped before it.
fn connect(
    address: IpAddress,
    port: u16,
) -> Result<(InputStream, OutputStream, TcpSocket), ErrorCode> {
    let socket = create_tcp_socket(family(&address))?;
    socket.start_connect(&instance_network(), at(address, port))?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok((input, output, socket)),
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(error) => return Err(error),
        }
    }
}

fn listen(address: IpAddress, port: u16) -> Result<Value, ErrorCode> {
    let socket = create_tcp_socket(family(&address))?;
    socket.start_bind(&instance_network(), at(address, port))?;
    socket.subscribe().block();
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.subscribe().block();
    socket.finish_listen()?;
    Ok(json!("listening"))
}

fn udp(address: IpAddress, port: u16) -> Result<Value, ErrorCode> {
    let socket = create_udp_socket(family(&address))?;
    let any = match address {
        IpAddress::Ipv4(_) => IpAddress::Ipv4((0, 0, 0, 0)),
        IpAddress::Ipv6(_) => IpAddress::Ipv6((0, 0, 0, 0, 0, 0, 0, 0)),
    };
    socket.start_bind(&instance_network(), at(any, 0))?;
    socket.finish_bind()?;
    socket.stream(Some(at(address, port)))?;
    Ok(json!("bound"))
}

fn get(scheme: &str, authority: &str, path: &str, follow: u32) -> Result<Value, HttpError> {
    let request = OutgoingRequest::new(Fields::new());
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let invalid = |()| HttpError::HttpRequestUriInvalid;
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    let future = outgoing_handler::handle(request, None)?;
    future.subscribe().block();
    let response = match future.get() {
        Some(Ok(response)) => response?,
        _ => return Err(HttpError::InternalError(None)),
    };
    let location = response.headers().get("location");
    if let (true, Some(location)) = (follow > 0, location.first()) {
        let location = String::from_utf8_lossy(location).into_owned();
        let (scheme, rest) = location.split_once("://").unwrap_or(("", ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        return get(scheme, authority, &format!("/{path}"), follow - 1);
    }
    Ok(json!([response.status(), body(&response)]))
}

fn body(response: &IncomingResponse) -> String {
    let mut bytes = Vec::new();
    if let Ok(body) = response.consume()
        && let Ok(stream) = body.stream()
    {
        while let Ok(mut more) = stream.blocking_read(1 << 16) {
            bytes.append(&mut more);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wasi_address(address: IpAddr) -> IpAddress {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            IpAddress::Ipv4((a, b, c, d))
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments();
            IpAddress::Ipv6((a, b, c, d, e, f, g, h))
        }
    }
}

fn text(address: &IpAddress) -> String {
    match *address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]).to_string(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => {
            IpAddr::from([a, b, c, d, e, f, g, h]).to_string()
        }
    }
}
