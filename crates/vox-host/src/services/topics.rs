//! Publish and subscribe between the instances of one host.
//!
//! A subscription's queue is bounded by number and by bytes; when a message more comes, the oldest
//! go. A publisher never waits for a subscriber.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
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
/// Bytes that wait in one subscription; the newest message stays however large it is.
pub(crate) const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// All subscriptions of a host.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    next: AtomicU64,
    /// Guards the table only; a message is queued after it was released.
    subscribers: Mutex<HashMap<u64, (String, Arc<Queue>)>>,
}

/// A subscription's messages.
#[derive(Debug)]
struct Queue {
    /// Guards the messages alone.
    messages: Mutex<Messages>,
    /// Holds a token while messages may be there, so that waiting can be interrupted.
    arrived: (Sender<()>, Receiver<()>),
}

#[derive(Debug, Default)]
struct Messages {
    waiting: VecDeque<Message>,
    bytes: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            messages: Mutex::default(),
            arrived: crossbeam_channel::bounded(1),
        }
    }
}

impl Queue {
    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, message: Message) {
        let mut messages = self.messages();
        messages.bytes += message.payload.len();
        messages.waiting.push_back(message);
        while messages.waiting.len() > QUEUE
            || messages.bytes > QUEUE_BYTES && messages.waiting.len() > 1
        {
            let oldest = messages.waiting.pop_front();
            messages.bytes -= oldest.map_or(0, |message| message.payload.len());
        }
        drop(messages);
        // A token that is there already does.
        let _ = self.arrived.0.try_send(());
    }

    fn pop(&self) -> Option<Message> {
        let mut messages = self.messages();
        let message = messages.waiting.pop_front()?;
        messages.bytes -= message.payload.len();
        if !messages.waiting.is_empty() {
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

impl Topics {
    fn table(&self) -> MutexGuard<'_, HashMap<u64, (String, Arc<Queue>)>> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, message: &Message) -> u32 {
        let queues = self
            .table()
            .values()
            .filter(|(topic, _)| *topic == message.topic)
            .map(|(_, queue)| Arc::clone(queue))
            .collect::<Vec<_>>();
        queues.iter().for_each(|queue| queue.add(message.clone()));
        u32::try_from(queues.len()).unwrap_or(u32::MAX)
    }
}

/// One instance's subscriptions; they end with it.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    topics: Arc<Topics>,
    /// Guards the list of own ids, so that an instance cannot read another's messages.
    own: Mutex<Vec<u64>>,
}

impl Subscriptions {
    /// No subscriptions yet.
    pub(crate) fn new(topics: Arc<Topics>) -> Self {
        Self {
            topics,
            own: Mutex::new(Vec::new()),
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
        self.topics
            .table()
            .insert(id, (topic.to_owned(), Arc::default()));
        own.push(id);
        Some(id)
    }

    fn queue(&self, id: u64) -> Result<Arc<Queue>, Error> {
        let known = self.own().contains(&id);
        let queue = known.then(|| {
            self.topics
                .table()
                .get(&id)
                .map(|(_, queue)| Arc::clone(queue))
        });
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

fn unknown(id: u64) -> Error {
    Error::NotFound(format!("this instance has no subscription {id}"))
}

impl TopicsInterface for Services {
    fn publish(&self, topic: &str, payload: &[u8]) -> Result<u32, Error> {
        self.authorise(Capability::Topics, topic)?;
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
        self.check_message(topic.len())?;
        let most = self.limits.resources;
        self.subscriptions
            .subscribe(topic, most as usize)
            .ok_or_else(|| self.exceeded(LimitName::Resources))
    }

    fn receive(&self, subscription: u64, timeout_ms: u32) -> Result<Option<Message>, Error> {
        let queue = self.subscriptions.queue(subscription)?;
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
        assert_eq!(queue.messages().waiting.len(), 4);
        assert_eq!(queue.messages().bytes, QUEUE_BYTES);
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
