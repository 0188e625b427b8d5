//! A server's life: it starts, it drains, it is cancelled.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection;
use crate::engine::Engine;
use crate::error::ServeError;
use crate::options::Options;
use crate::service::Service;

/// How long to wait after a connection could not be taken, because there are too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where a server is in its life. It only moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Cancelled,
}

/// A server that runs. Dropping it cancels what it answers, and waits until it is over.
pub struct Server {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<Ended>>,
}

/// Ends a server, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    phase: Arc<watch::Sender<Phase>>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Answers that the engine was still computing, although it was told to end.
    pub unfinished: usize,
}

impl Server {
    /// Listens at [`Options::listen`], and serves.
    ///
    /// # Errors
    ///
    /// Nothing can listen there, or as [`Server::start`].
    pub fn bind(engine: Arc<dyn Engine>, options: Options) -> Result<Self, ServeError> {
        // Before anybody can connect.
        options.check(options.listen)?;
        let listener = TcpListener::bind(options.listen).map_err(|source| ServeError::Listen {
            address: options.listen,
            source,
        })?;
        Self::start(listener, engine, options)
    }

    /// Serves at a listener, on a thread of its own, and comes back at once.
    ///
    /// # Errors
    ///
    /// An option makes no sense, anybody could ask without a key, or the system has no thread.
    pub fn start(
        listener: TcpListener,
        engine: Arc<dyn Engine>,
        options: Options,
    ) -> Result<Self, ServeError> {
        let address = listener.local_addr()?;
        options.check(address)?;
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // An answer waits for its turn in the gate, never for a thread.
            .max_blocking_threads(options.served)
            .thread_name("vox-serve-answer")
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let phase = Arc::new(watch::Sender::new(Phase::Serving));
        let stopper = Stopper {
            phase: Arc::clone(&phase),
        };
        let service = Arc::new(Service::new(engine, options));
        let thread = thread::Builder::new()
            .name("vox-serve".to_owned())
            .spawn(move || run(runtime, listener, service, &phase))?;
        tracing::info!(%address, "serving");
        Ok(Self {
            address,
            stopper,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until somebody ended it, and it is over.
    pub fn wait(mut self) -> Ended {
        self.join()
    }

    /// Ends it as [`Stopper::drain`] does, and waits until it is over.
    pub fn shutdown(mut self) -> Ended {
        self.stopper.drain();
        self.join()
    }

    fn join(&mut self) -> Ended {
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) if !thread::panicking() => std::panic::resume_unwind(panic),
            _ => Ended { unfinished: 0 },
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper.cancel();
        self.join();
    }
}

impl Stopper {
    /// Takes no further connection or request, and refuses those that wait. What is being answered goes
    /// on for [`Options::drain_time`], and is then cancelled.
    pub fn drain(&self) {
        self.reach(Phase::Draining);
    }

    /// Cancels what is being answered, at once.
    pub fn cancel(&self) {
        self.reach(Phase::Cancelled);
    }

    fn reach(&self, wanted: Phase) {
        self.phase.send_if_modified(|phase| {
            let moves = *phase < wanted;
            *phase = wanted.max(*phase);
            moves
        });
    }
}

/// The server's thread.
fn run(
    runtime: Runtime,
    listener: tokio::net::TcpListener,
    service: Arc<Service>,
    phase: &Arc<watch::Sender<Phase>>,
) -> Ended {
    let unfinished = runtime.block_on(async {
        let mut connections = accept(listener, &service, phase).await;
        service.gate.close();
        drain(&mut connections, &service, phase).await
    });
    // Threads that do not end are left behind.
    runtime.shutdown_background();
    if unfinished > 0 {
        tracing::warn!(unfinished, "the engine did not end its answers");
    }
    Ended { unfinished }
}

/// Takes connections until the server drains.
async fn accept(
    listener: tokio::net::TcpListener,
    service: &Arc<Service>,
    phase: &Arc<watch::Sender<Phase>>,
) -> JoinSet<()> {
    let room = Arc::new(Semaphore::new(service.options.connections));
    let mut connections = JoinSet::new();
    let mut draining = pin!(reached(phase, Phase::Draining));
    loop {
        while connections.try_join_next().is_some() {}
        let next = pin!(async {
            // The semaphore is never closed, so there is always a permit in the end.
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            (permit, listener.accept().await)
        });
        // Asked first, so that no flood of connections keeps the server from its end.
        let (permit, accepted) = match select(draining.as_mut(), next).await {
            Either::Left(_) => return connections,
            Either::Right((next, _)) => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = Arc::clone(service);
                let draining = reached(phase, Phase::Draining);
                connections.spawn(async move {
                    connection::serve(service, stream, draining).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Waits for answers that go on, then cancels them. Answers how many did not end.
async fn drain(
    connections: &mut JoinSet<()>,
    service: &Service,
    phase: &Arc<watch::Sender<Phase>>,
) -> usize {
    let options = &service.options;
    let over = async |connections: &mut JoinSet<()>| {
        while connections.join_next().await.is_some() {}
        service.gate.idle().await;
    };
    let cancelled = pin!(reached(phase, Phase::Cancelled));
    let in_time = timeout(options.drain_time, over(connections));
    if let Either::Left((Ok(()), _)) = select(pin!(in_time), cancelled).await {
        return 0;
    }
    service.bench.cancel.store(true, Ordering::Release);
    // Those that do not read are waited for as little as those that do not compute.
    let _ = timeout(options.cancel_time, over(connections)).await;
    connections.shutdown().await;
    service.gate.running()
}

/// Waits until a server reached a phase.
fn reached(
    phase: &Arc<watch::Sender<Phase>>,
    wanted: Phase,
) -> impl Future<Output = ()> + Send + 'static {
    let mut phase = phase.subscribe();
    async move {
        // Where nobody can end it any longer, it has ended.
        let _ = phase.wait_for(|phase| *phase >= wanted).await;
    }
}
