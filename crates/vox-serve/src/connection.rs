//! One connection, and how long its client may take.
//!
//! hyper bounds the head of a request and the time for it, `body` the body. What is left is a client that
//! does not read: a write that makes no progress for [`crate::Options::write_time`] ends the connection,
//! and with it the answer.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::metrics::Connection;
use crate::service::Service;

/// A stream whose writes end with [`io::ErrorKind::TimedOut`] where nothing could be written for long.
struct Patient {
    stream: TokioIo<TcpStream>,
    time: Duration,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
}

/// Serves a connection until it ends. Once `draining` is over, no further request is taken.
pub async fn serve(service: Arc<Service>, stream: TcpStream, draining: impl Future<Output = ()>) {
    let _connection = Connection::new(Arc::clone(&service.bench.metrics));
    // Events are small and should leave at once. Where that cannot be had, it is slower.
    let _ = stream.set_nodelay(true);
    let options = &service.options;
    let time = options.write_time;
    let stream = Patient {
        stream: TokioIo::new(stream),
        time,
        timer: Box::pin(sleep(time)),
        is_waiting: false,
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_time)
        // The buffer may be larger than it is asked to be, so that it alone bounds no head.
        .max_header_size(options.head_bytes)
        .max_buf_size(options.head_bytes);
    let was_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&was_asked);
    let answering = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let mut connection = pin!(builder.serve_connection(stream, answering));
    let ended = match select(connection.as_mut(), pin!(draining)).await {
        Either::Left((ended, _)) => ended,
        // hyper would wait for a first request.
        Either::Right(_) if !was_asked.load(Ordering::Relaxed) => return,
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

impl Patient {
    /// Lets a write's result pass, and counts the time for which it has none.
    fn bound<T>(
        &mut self,
        context: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.is_waiting = false;
            return write;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.time);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client did not read for too long (`write_time`)",
            ))),
        }
    }
}

impl Read for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(context, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.bound(context, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.stream).poll_flush(context);
        self.bound(context, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
