//! Publish and subscribe between the instances of one host.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vox_contract::Capability;

use super::Services;
use crate::contract::{
    Error,
    topics::{Message, Topics as TopicsInterface},
};

/// Messages that wait in one subscription; when one more comes the oldest is dropped.
pub(crate) const QUEUE: usize = 256;

/// All subscriptions of a host.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    next: AtomicU64,
    /// Guards the table only; a message is queued after it was released.
    subscribers: Mutex<HashMap<u64, (String, Arc<Queue>)>>,
}

/// A subscription's messages. The mutex guards the messages alone.
#[derive(Debug, Default)]
struct Queue {
    messages: Mutex<VecDeque<Message>>,
    arrived: Condvar,
}

impl Queue {
    fn messages(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, message: Message) {
        let mut messages = self.messages();
        if messages.len() == QUEUE {
            messages.pop_front();
        }
        messages.push_back(message);
        drop(messages);
        self.arrived.notify_one();
    }

    fn take(&self, timeout: Duration) -> Option<Message> {
        let deadline = Instant::now() + timeout;
        let mut messages = self.messages();
        loop {
            if let Some(message) = messages.pop_front() {
                return Some(message);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            messages = self
                .arrived
                .wait_timeout(messages, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
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

    fn subscribe(&self, topic: &str) -> u64 {
        let id = self.topics.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.topics
            .table()
            .insert(id, (topic.to_owned(), Arc::default()));
        self.own().push(id);
        id
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
        let message = Message {
            topic: topic.to_owned(),
            publisher: self.plugin.to_string(),
            payload: payload.to_vec(),
        };
        Ok(self.subscriptions.topics.publish(&message))
    }

    fn subscribe(&self, topic: &str) -> Result<u64, Error> {
        self.authorise(Capability::Topics, topic)?;
        Ok(self.subscriptions.subscribe(topic))
    }

    fn receive(&self, subscription: u64, timeout_ms: u32) -> Result<Option<Message>, Error> {
        let queue = self.subscriptions.queue(subscription)?;
        Ok(queue.take(Duration::from_millis(timeout_ms.into())))
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
        let id = subscriptions.subscribe("t");
        for number in 0..=QUEUE {
            assert_eq!(
                subscriptions.topics.publish(&message(&number.to_string())),
                1
            );
        }
        let first = subscriptions
            .queue(id)
            .unwrap()
            .take(Duration::ZERO)
            .unwrap();
        assert_eq!(first.payload, b"1");
    }

    #[test]
    fn an_instance_reads_only_its_own_subscriptions_and_they_end_with_it() {
        let topics = Arc::<Topics>::default();
        let mine = Subscriptions::new(Arc::clone(&topics));
        let theirs = Subscriptions::new(Arc::clone(&topics));
        let id = theirs.subscribe("t");
        assert!(matches!(mine.queue(id), Err(Error::NotFound(_))));
        drop(theirs);
        assert_eq!(topics.publish(&message("x")), 0);
    }

    #[test]
    fn receiving_ends_when_the_time_has_gone_by() {
        let subscriptions = Subscriptions::new(Arc::default());
        let id = subscriptions.subscribe("t");
        assert_eq!(
            subscriptions
                .queue(id)
                .unwrap()
                .take(Duration::from_millis(1)),
            None
        );
    }
}
