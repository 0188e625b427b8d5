//! `wasi:http`: requests to the hosts that are granted.
//!
//! The name is looked up here, its addresses are checked, and the connection goes to one of those
//! addresses; there is no second lookup. A redirect is an answer like any other: following it is a
//! new request of the guest, and is checked anew. Servers prove their name with certificates of the
//! public authorities (Mozilla's list, built in); there is no proxy.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi::runtime::spawn_blocking;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::network::{LookupError, Network};

/// How long each part of a request may take unless the guest says so: the connection, the first
/// byte of the answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the requests of one instance.
pub(super) struct Requests(Arc<Network>);

impl Requests {
    pub(super) fn new(network: Arc<Network>) -> Self {
        Self(network)
    }
}

/// What drives a connection until its answer was read.
type Connection = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Requests {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        sent: Connection,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Connection), Error>> + Send> {
        // Tells of the request's body, which WASI 0.3 wants to know.
        drop(sent);
        let network = Arc::clone(&self.0);
        Box::new(async move { send(network, request, options).await })
    }
}

async fn send(
    network: Arc<Network>,
    mut request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<(Response<WasiBody>, Connection), Error> {
    let patience = |part: fn(&RequestOptions) -> Option<Duration>| {
        options.as_ref().and_then(part).unwrap_or(PATIENCE)
    };
    let target = Target::of(request.uri())?;
    let connecting = async {
        let stream = connect(network, &target).await?;
        if target.encrypted {
            let stream = encrypt(&target.host, stream).await?;
            shake_hands(stream).await
        } else {
            shake_hands(stream).await
        }
    };
    let (mut sender, connection) = timeout(patience(|options| options.connect_timeout), connecting)
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    // What is sent names the path alone; the host stands in its header.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);

    let connection = wasmtime_wasi::runtime::spawn(connection);
    let answer = sender.send_request(request);
    let answer = timeout(patience(|options| options.first_byte_timeout), answer)
        .await
        .map_err(|_| Error::ConnectionReadTimeout)??;
    let answer = answer.map(|body| body.map_err(Error::from).boxed_unsync());
    Ok((answer, Box::new(connection)))
}

/// Where a request goes.
struct Target {
    host: String,
    port: u16,
    encrypted: bool,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let encrypted = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        // `user@host` reads as one host to people and as another to programs.
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // A port that is written and is no number.
            None if authority.as_str().len() != authority.host().len() => {
                return Err(Error::HttpRequestUriInvalid);
            }
            None if encrypted => 443,
            None => 80,
        };
        Ok(Self {
            host: authority.host().to_owned(),
            port,
            encrypted,
        })
    }
}

/// Connects to an address of the target that is granted.
async fn connect(network: Arc<Network>, target: &Target) -> Result<TcpStream, Error> {
    let (host, port) = (target.host.clone(), target.port);
    let asked = Arc::clone(&network);
    let addresses = spawn_blocking(move || asked.look_up(&host, Some(port))).await;
    let addresses = addresses.map_err(|error| match error {
        LookupError::Denied => Error::HttpRequestDenied,
        LookupError::Invalid => Error::HttpRequestUriInvalid,
        LookupError::Failed(error) => Error::DnsError {
            rcode: Some(error.to_string()),
            info_code: None,
        },
    })?;
    let mut failure = Error::DestinationNotFound;
    for address in addresses {
        let address = SocketAddr::new(address, port);
        if !network.allows(address, SocketAddrUse::TcpConnect) {
            failure = Error::DestinationIpProhibited;
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Error::Connect(error),
        }
    }
    Err(failure)
}

/// What is trusted of servers; none if the cryptography cannot be set up.
static TLS: LazyLock<Option<Arc<rustls::ClientConfig>>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authorities =
        rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Some(Arc::new(config))
});

async fn encrypt(
    host: &str,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
    let config = TLS.clone().ok_or(Error::ConfigurationError)?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(name.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(Error::Tls)
}

/// Begins HTTP/1.1 on a connection; answers whom to give requests, and what drives it.
async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
) -> Result<(http1::SendRequest<WasiBody>, std::pin::Pin<Connection>), Error> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    Ok((
        sender,
        Box::pin(async move { connection.await.map_err(Error::from) }),
    ))
}
