//! How many requests are answered at once, and how many wait for their turn.
//!
//! Turns are given in the order in which requests came. A request that waits holds its parsed body and
//! nothing else; it is gone when its client is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::refusal::Refusal;

/// How much the newest answer counts in the mean time of one.
const NEWEST: f64 = 0.2;
/// Bounds of `Retry-After`, in seconds.
const RETRY: (f64, f64) = (1.0, 60.0);

/// The gate.
#[derive(Debug)]
pub struct Gate {
    turns: Arc<Semaphore>,
    served: usize,
    queue: usize,
    queue_time: Duration,
    waiting: AtomicUsize,
    running: watch::Sender<usize>,
    /// Mean time of an answer in seconds; 0 before the first. Nothing is called under its lock.
    mean: Mutex<f64>,
}

/// A turn: whoever has one is answered.
#[derive(Debug)]
pub struct Turn {
    gate: Arc<Gate>,
    began: Instant,
    _permit: OwnedSemaphorePermit,
}

/// A place in the queue.
struct Place<'a>(&'a Gate);

impl Gate {
    /// A gate for `served` at once and `queue` that wait, each for `queue_time`.
    pub fn new(served: usize, queue: usize, queue_time: Duration) -> Arc<Self> {
        Arc::new(Self {
            turns: Arc::new(Semaphore::new(served)),
            served,
            queue,
            queue_time,
            waiting: AtomicUsize::new(0),
            running: watch::Sender::new(0),
            mean: Mutex::default(),
        })
    }

    /// Waits for a turn.
    pub async fn enter(self: &Arc<Self>) -> Result<Turn, Refusal> {
        let turns = Arc::clone(&self.turns);
        let permit = match Arc::clone(&turns).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) if turns.is_closed() => return Err(Refusal::ending()),
            Err(_) => {
                let _place = self.place()?;
                match timeout(self.queue_time, turns.acquire_owned()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return Err(Refusal::ending()),
                    Err(_) => return Err(self.waited_too_long()),
                }
            }
        };
        self.running.send_modify(|running| *running += 1);
        Ok(Turn {
            gate: Arc::clone(self),
            began: Instant::now(),
            _permit: permit,
        })
    }

    /// Refuses who waits, and who comes.
    pub fn close(&self) {
        self.turns.close();
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests that are answered.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Waits until none is answered any longer.
    pub async fn idle(&self) {
        let mut running = self.running.subscribe();
        // The sender lives as long as the gate, so there is no error.
        let _ = running.wait_for(|running| *running == 0).await;
    }

    fn place(&self) -> Result<Place<'_>, Refusal> {
        let taken = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < self.queue).then_some(waiting + 1)
            });
        if taken.is_ok() {
            return Ok(Place(self));
        }
        let (served, queue) = (self.served, self.queue);
        let seconds = self.retry_after();
        Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "{served} requests are being answered and {queue} wait, which is as many as may \
                 (`queue`); try again in {seconds} s"
            ),
        )
        .code("queue_full")
        .retry_after(seconds))
    }

    fn waited_too_long(&self) -> Refusal {
        let seconds = self.retry_after();
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "the request waited for {:?} and was not its turn (`queue_time`); try again in \
                 {seconds} s",
                self.queue_time
            ),
        )
        .code("queue_timeout")
        .retry_after(seconds)
    }

    /// When there will probably be a turn: after half of the queue, by the mean time of an answer.
    fn retry_after(&self) -> u64 {
        let mean = *self.mean.lock().unwrap_or_else(PoisonError::into_inner);
        let rounds = (self.waiting() as f64 / 2.0 + 1.0) / self.served as f64;
        (mean * rounds).ceil().clamp(RETRY.0, RETRY.1) as u64
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let took = self.began.elapsed().as_secs_f64();
        let mut mean = self
            .gate
            .mean
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *mean = if *mean == 0.0 {
            took
        } else {
            *mean + NEWEST * (took - *mean)
        };
        drop(mean);
        self.gate.running.send_modify(|running| *running -= 1);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
