//! An agent that does what its arguments say.

use serde::Deserialize;
use serde_json::Value;
use vox_plugin::agent::{Action, Message, Outgoing, Recruit};

/// The arguments of an agent.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// What it does first.
    begins: Vec<Act>,
    /// What it does at each message.
    answers: Vec<Act>,
    /// The number of the message at which it does what `ends` says instead.
    patience: u64,
    ends: Vec<Act>,
    /// Messages that it got.
    #[serde(skip)]
    heard: u64,
}

/// Something that an agent does. `{sender}`, `{topic}` and `{body}` in its texts stand for what the
/// message says.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Act {
    Send {
        to: String,
        topic: String,
        body: String,
    },
    Spawn {
        plugin: String,
        name: String,
        script: Value,
    },
    Finish(String),
}

impl Script {
    /// What it does first.
    pub fn begin(&self) -> Vec<Action> {
        let as_it_is = |text: &str| text.to_owned();
        self.begins.iter().map(|act| act.action(as_it_is)).collect()
    }

    /// What it does at this message.
    pub fn answer(&mut self, message: &Message) -> Vec<Action> {
        self.heard += 1;
        let acts = if self.heard == self.patience {
            &self.ends
        } else {
            &self.answers
        };
        let body = String::from_utf8_lossy(&message.body);
        let filled = |text: &str| {
            text.replace("{sender}", &message.sender)
                .replace("{topic}", &message.topic)
                .replace("{body}", &body)
        };
        acts.iter().map(|act| act.action(filled)).collect()
    }
}

impl Act {
    fn action(&self, fill: impl Fn(&str) -> String) -> Action {
        match self {
            Self::Send { to, topic, body } => Action::Send(Outgoing {
                recipient: fill(to),
                topic: fill(topic),
                body: fill(body).into_bytes(),
            }),
            Self::Spawn {
                plugin,
                name,
                script,
            } => Action::Spawn(Recruit {
                plugin: plugin.clone(),
                name: fill(name),
                arguments: script.to_string(),
            }),
            Self::Finish(result) => Action::Finish(fill(result)),
        }
    }
}
