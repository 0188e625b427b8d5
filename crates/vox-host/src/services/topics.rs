//! Publish and subscribe between the instances of one host.
//!
//! A subscription's queue is bounded by number; all those of one instance together are bounded by
//! bytes. When a message more comes, the oldest of its subscription go, and where the instance's
//! other subscriptions hold all the bytes, the message does. A publisher never waits for a
//! subscriber.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use vox_contract::{Capability, LimitName};

use super::{CancelToken, Services};
use crate::contract::{
    Error,
    topics::{Message, Topics as TopicsInterface},
};

/// Messages that wait in one subscription; when one more comes the oldest is dropped.
pub(crate) const QUEUE: usize = 256;
/// Bytes that wait in all subscriptions of one instance; a message for which nothing else waits is
/// taken however large it is.
pub(crate) const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Longest name of a topic in bytes.
const MAX_TOPIC: usize = 256;

/// All subscriptions of a host.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    next: AtomicU64,
    /// Guards the table only; a message is queued after it was released.
    subscribers: Mutex<HashMap<u64, Arc<Queue>>>,
}

/// A subscription's messages.
#[derive(Debug)]
struct Queue {
    topic: String,
    /// Bytes that wait in all subscriptions of the instance.
    held: Arc<AtomicUsize>,
    /// Guards the messages alone.
    waiting: Mutex<VecDeque<Message>>,
    /// Holds a token while messages may be there, so that waiting can be interrupted.
    arrived: (Sender<()>, Receiver<()>),
}

impl Queue {
    fn new(topic: &str, held: Arc<AtomicUsize>) -> Self {
        Self {
            topic: topic.to_owned(),
            held,
            waiting: Mutex::default(),
            arrived: crossbeam_channel::bounded(1),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message, unless the instance's other subscriptions hold all that may wait.
    fn add(&self, message: &Message) -> bool {
        let mut waiting = self.waiting();
        if waiting.len() == QUEUE {
            self.forget(waiting.pop_front());
        }
        while !self.hold(message.payload.len()) {
            let oldest = waiting.pop_front();
            if oldest.is_none() {
                return false;
            }
            self.forget(oldest);
        }
        waiting.push_back(message.clone());
        drop(waiting);
        // A token that is there already does.
        let _ = self.arrived.0.try_send(());
        true
    }

    /// Counts bytes that are to wait, where there is room.
    fn hold(&self, bytes: usize) -> bool {
        let more = |held: usize| {
            let wanted = held.saturating_add(bytes);
            (held == 0 || wanted <= QUEUE_BYTES).then_some(wanted)
        };
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn forget(&self, message: Option<Message>) {
        let bytes = message.map_or(0, |message| message.payload.len());
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn pop(&self) -> Option<Message> {
        let mut waiting = self.waiting();
        let message = waiting.pop_front()?;
        self.held
            .fetch_sub(message.payload.len(), Ordering::Relaxed);
        if !waiting.is_empty() {
            let _ = self.arrived.0.try_send(());
        }
        Some(message)
    }

    fn take(&self, timeout: Duration, cancel: &CancelToken) -> Result<Option<Message>, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(message) = self.pop() {
                return Ok(Some(message));
            }
            crossbeam_channel::select! {
                recv(self.arrived.1) -> _ => {}
                recv(cancel.cancelled()) -> _ => return Err(Error::Cancelled),
                default(deadline.saturating_duration_since(Instant::now())) => return Ok(None),
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl Topics {
    fn table(&self) -> MutexGuard<'_, HashMap<u64, Arc<Queue>>> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, message: &Message) -> u32 {
        let queues = self
            .table()
            .values()
            .filter(|queue| queue.topic == message.topic)
            .map(Arc::clone)
            .collect::<Vec<_>>();
        let taken = queues.iter().filter(|queue| queue.add(message)).count();
        u32::try_from(taken).unwrap_or(u32::MAX)
    }
}

/// One instance's subscriptions; they end with it.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    topics: Arc<Topics>,
    /// Guards the list of own ids, so that an instance cannot read another's messages.
    own: Mutex<Vec<u64>>,
    /// Bytes that wait in all of them.
    held: Arc<AtomicUsize>,
}

impl Subscriptions {
    /// No subscriptions yet.
    pub(crate) fn new(topics: Arc<Topics>) -> Self {
        Self {
            topics,
            own: Mutex::new(Vec::new()),
            held: Arc::default(),
        }
    }

    fn own(&self) -> MutexGuard<'_, Vec<u64>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to listen, unless there are `most` subscriptions already.
    fn subscribe(&self, topic: &str, most: usize) -> Option<u64> {
        let mut own = self.own();
        if own.len() >= most {
            return None;
        }
        let id = self.topics.next.fetch_add(1, Ordering::Relaxed) + 1;
        let queue = Queue::new(topic, Arc::clone(&self.held));
        self.topics.table().insert(id, Arc::new(queue));
        own.push(id);
        Some(id)
    }

    fn queue(&self, id: u64) -> Result<Arc<Queue>, Error> {
        let known = self.own().contains(&id);
        let queue = known.then(|| self.topics.table().get(&id).map(Arc::clone));
        queue.flatten().ok_or_else(|| unknown(id))
    }

    fn unsubscribe(&self, id: u64) -> Result<(), Error> {
        let mut own = self.own();
        let position = own
            .iter()
            .position(|known| *known == id)
            .ok_or_else(|| unknown(id))?;
        own.swap_remove(position);
        self.topics.table().remove(&id);
        Ok(())
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        let own = std::mem::take(&mut *self.own());
        let mut table = self.topics.table();
        own.iter().for_each(|id| {
            table.remove(id);
        });
    }
}

fn check_topic(topic: &str) -> Result<(), Error> {
    if topic.is_empty() || topic.len() > MAX_TOPIC {
        return Err(Error::Invalid(format!(
            "a topic has 1 to {MAX_TOPIC} bytes, this one has {}",
            topic.len()
        )));
    }
    Ok(())
}

fn unknown(id: u64) -> Error {
    Error::NotFound(format!("this instance has no subscription {id}"))
}

impl TopicsInterface for Services {
    fn publish(&self, topic: &str, payload: &[u8]) -> Result<u32, Error> {
        self.authorise(Capability::Topics, topic)?;
        check_topic(topic)?;
        self.check_message(topic.len() + payload.len())?;
        self.check_message_rate()?;
        let message = Message {
            topic: topic.to_owned(),
            publisher: self.plugin.to_string(),
            payload: payload.to_vec(),
        };
        Ok(self.subscriptions.topics.publish(&message))
    }

    fn subscribe(&self, topic: &str) -> Result<u64, Error> {
        self.authorise(Capability::Topics, topic)?;
        check_topic(topic)?;
        let most = self.limits.resources;
        self.subscriptions
            .subscribe(topic, most as usize)
            .ok_or_else(|| self.exceeded(LimitName::Resources))
    }

    fn receive(&self, subscription: u64, timeout_ms: u32) -> Result<Option<Message>, Error> {
        let queue = self.subscriptions.queue(subscription)?;
        // It may have been revoked since the subscription began.
        self.authorise(Capability::Topics, &queue.topic)?;
        let mut timeout = Duration::from_millis(timeout_ms.into());
        if let Some(deadline) = self.clock.deadline() {
            timeout = timeout.min(deadline.saturating_duration_since(Instant::now()));
        }
        queue.take(timeout, &self.cancel_token())
    }

    fn unsubscribe(&self, subscription: u64) -> Result<(), Error> {
        self.subscriptions.unsubscribe(subscription)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message {
            topic: "t".into(),
            publisher: "p".into(),
            payload: text.into(),
        }
    }

    #[test]
    fn a_full_queue_drops_its_oldest_message() {
        let subscriptions = Subscriptions::new(Arc::default());
        let id = subscriptions.subscribe("t", 8).unwrap();
        for number in 0..=QUEUE {
            assert_eq!(
                subscriptions.topics.publish(&message(&number.to_string())),
                1
            );
        }
        let first = subscriptions
            .queue(id)
            .unwrap()
            .take(Duration::ZERO, &CancelToken::new())
            .unwrap();
        assert_eq!(first.unwrap().payload, b"1");
    }

    #[test]
    fn an_instance_reads_only_its_own_subscriptions_and_they_end_with_it() {
        let topics = Arc::<Topics>::default();
        let mine = Subscriptions::new(Arc::clone(&topics));
        let theirs = Subscriptions::new(Arc::clone(&topics));
        let id = theirs.subscribe("t", 8).unwrap();
        assert!(matches!(mine.queue(id), Err(Error::NotFound(_))));
        drop(theirs);
        assert_eq!(topics.publish(&message("x")), 0);
    }

    #[test]
    fn receiving_ends_when_the_time_has_gone_by() {
        let subscriptions = Subscriptions::new(Arc::default());
        let id = subscriptions.subscribe("t", 8).unwrap();
        assert_eq!(
            subscriptions
                .queue(id)
                .unwrap()
                .take(Duration::from_millis(1), &CancelToken::new())
                .unwrap(),
            None
        );
    }

    #[test]
    fn a_full_queue_of_large_messages_drops_by_bytes() {
        let subscriptions = Subscriptions::new(Arc::default());
        let id = subscriptions.subscribe("t", 8).unwrap();
        for _ in 0..9 {
            subscriptions
                .topics
                .publish(&message(&"x".repeat(QUEUE_BYTES / 4)));
        }
        let queue = subscriptions.queue(id).unwrap();
        assert_eq!(queue.waiting().len(), 4);
        assert_eq!(queue.held.load(Ordering::Relaxed), QUEUE_BYTES);
        drop(queue);
        subscriptions.unsubscribe(id).unwrap();
        assert_eq!(subscriptions.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn receiving_ends_when_the_run_is_cancelled() {
        let subscriptions = Subscriptions::new(Arc::default());
        let id = subscriptions.subscribe("t", 8).unwrap();
        let cancel = CancelToken::new();
        std::thread::scope(|scope| {
            let queue = subscriptions.queue(id).unwrap();
            let token = cancel.clone();
            let waiting = scope.spawn(move || queue.take(Duration::from_secs(3600), &token));
            cancel.cancel();
            assert_eq!(waiting.join().unwrap(), Err(Error::Cancelled));
        });
    }

    #[test]
    fn an_instance_has_no_more_subscriptions_than_the_limit_says() {
        let subscriptions = Subscriptions::new(Arc::default());
        assert!(subscriptions.subscribe("t", 1).is_some());
        assert!(subscriptions.subscribe("t", 1).is_none());
    }
}
