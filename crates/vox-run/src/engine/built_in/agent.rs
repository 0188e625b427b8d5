//! `agent`: agents work together until they are done.
//!
//! The agents of one step share mailboxes: each gets messages one at a time and answers with actions, which
//! are carried out in their order before the next message is delivered. Everything happens on the thread of
//! the step, the oldest message first, so that the same agents given the same messages do the same again.
//!
//! - What an agent sends to `run` leaves the step through the port that the topic names.
//! - A chunk that comes to an input of the step is a message of `run`, whose topic is the port, to every
//!   agent that `hears` it.
//! - An agent may start others as far as its plugin is granted `agent_spawn`.
//!
//! The step ends well when every agent has finished, or when no message is left and no input will bring one;
//! what they finished with is among its attributes, as `agent.<name>`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vox_contract::{Capability, ExtensionPoint, PluginId, Scope};
use vox_host::contract::agent::{Action, Assignment, Message, Outgoing, Recruit};
use vox_host::contract::{Attribute, Chunk, ChunkHead, step};
use vox_host::{Instance, InstanceOptions, Ports as _};

use super::set::merged;
use super::{Place, Trouble, counted};
use crate::plan::{Arguments, Step};

/// The address of the run itself.
const RUN: &str = "run";

/// Messages that are delivered at most, unless the plan says otherwise.
const MESSAGES: u64 = 100_000;

/// Agents that live at most.
const AGENTS: usize = 1_000;

/// The arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TroupeArguments {
    /// The agents that begin, by their address.
    agents: BTreeMap<String, Member>,
    /// How many messages are delivered before the step fails: 100,000 when left out.
    #[serde(default, rename = "max-messages")]
    messages: Option<u64>,
}

/// An agent that begins.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Member {
    /// The plugin that serves it.
    plugin: PluginId,
    /// Its arguments.
    #[serde(default, rename = "with")]
    arguments: Arguments,
    /// The inputs of the step whose chunks are messages to it.
    #[serde(default)]
    hears: Vec<String>,
}

/// The runner.
#[derive(Clone, Debug)]
pub(crate) struct Troupe {
    agents: BTreeMap<String, Member>,
    messages: u64,
}

impl Troupe {
    /// The runner with these arguments.
    pub fn new(arguments: TroupeArguments, step: &Step) -> Result<Self, String> {
        let TroupeArguments { agents, messages } = arguments;
        if agents.is_empty() {
            return Err("name an agent at least, in `agents`".to_owned());
        }
        if agents.contains_key(RUN) {
            return Err("`run` is the address of the run itself".to_owned());
        }
        for (name, member) in &agents {
            let unknown = member.hears.iter().find(|port| step.input(port).is_none());
            if let Some(port) = unknown {
                return Err(format!(
                    "the agent `{name}` hears `{port}`, which is no input of the step"
                ));
            }
        }
        Ok(Self {
            agents,
            messages: messages.unwrap_or(MESSAGES),
        })
    }

    /// The plugins that it calls.
    pub fn plugins(&self) -> Vec<(&PluginId, ExtensionPoint, Vec<String>)> {
        let agents = self.agents.iter();
        agents
            .map(|(name, member)| {
                let way = ["agents", name, "plugin"].map(str::to_owned).to_vec();
                (&member.plugin, ExtensionPoint::Agent, way)
            })
            .collect()
    }

    /// Lets the agents work.
    pub fn run(&self, place: &Place<'_>) -> Result<step::Outcome, Trouble> {
        let mut stage = Stage {
            place,
            agents: BTreeMap::new(),
            mail: VecDeque::new(),
            begun: VecDeque::new(),
            results: BTreeMap::new(),
            pushed: BTreeMap::new(),
        };
        // All of them are there before the first one acts, so that it can write to any.
        let mut begun = Vec::with_capacity(self.agents.len());
        for (name, member) in &self.agents {
            let arguments = Value::Object(member.arguments.clone()).to_string();
            begun.push((name, stage.start(name, &member.plugin, arguments, None)?));
        }
        for (name, actions) in begun {
            stage.act(name, actions)?;
        }
        // Read by threads of their own, so that a writer of several is held back by none.
        let arrivals = merged(place.ports, &place.ports.inputs())?;
        let mut delivered = 0;
        loop {
            if place.cancel.is_cancelled() {
                return Err(Trouble::error("it was cancelled"));
            }
            if let Some((name, actions)) = stage.begun.pop_front() {
                stage.act(&name, actions)?;
                continue;
            }
            if let Some((recipient, message)) = stage.mail.pop_front() {
                delivered += 1;
                if delivered > self.messages {
                    return Err(Trouble::error(format!(
                        "the agents sent each other more than {} messages; raise `max-messages`, \
                         or see why they do not come to an end",
                        self.messages
                    )));
                }
                stage.deliver(&recipient, &message)?;
                continue;
            }
            if stage.agents.is_empty() {
                break;
            }
            // Ends when every input is at its end.
            let Ok(arrival) = arrivals.recv() else { break };
            let (port, Chunk { data, .. }) = arrival?;
            let hears = |member: &&String| self.agents[*member].hears.contains(&port);
            for name in self.agents.keys().filter(hears) {
                let message = Message {
                    sender: RUN.to_owned(),
                    topic: port.clone(),
                    body: data.clone(),
                };
                stage.mail.push_back((name.clone(), message));
            }
        }
        let summary = format!(
            "{} finished, {} delivered",
            counted(stage.results.len() as u64, "agent"),
            counted(delivered, "message")
        );
        let result = |(name, result): (String, String)| Attribute {
            key: format!("agent.{name}"),
            value: result,
        };
        Ok(step::Outcome {
            code: 0,
            summary,
            attributes: stage.results.into_iter().map(result).collect(),
        })
    }
}

/// The agents that live, and what is on its way to them.
struct Stage<'a> {
    place: &'a Place<'a>,
    agents: BTreeMap<String, Actor>,
    mail: VecDeque<(String, Message)>,
    /// What agents that others have started want done.
    begun: VecDeque<(String, Vec<Action>)>,
    /// What agents have finished with.
    results: BTreeMap<String, String>,
    /// Chunks that were pushed to each port.
    pushed: BTreeMap<String, u64>,
}

struct Actor {
    instance: Instance,
    /// The plugin whose agent started it.
    started_by: Option<PluginId>,
}

impl Stage<'_> {
    fn start(
        &mut self,
        name: &str,
        plugin: &PluginId,
        arguments: String,
        started_by: Option<PluginId>,
    ) -> Result<Vec<Action>, Trouble> {
        if name == RUN || self.agents.contains_key(name) || self.results.contains_key(name) {
            return Err(Trouble::error(format!(
                "an agent `{}` cannot be started: the name is taken",
                name.escape_debug()
            )));
        }
        if self.agents.len() == AGENTS {
            return Err(Trouble::error(format!(
                "more than {AGENTS} agents live at once"
            )));
        }
        let mut options = InstanceOptions::default();
        options.cancel = self.place.cancel.clone();
        options.events = Arc::new(self.place.reporter.clone());
        options.ports = Arc::clone(self.place.ports) as _;
        let mut instance = self.place.host.instance(plugin, options)?;
        let actions = instance.agent()?.start(&Assignment {
            run: self.place.run.to_owned(),
            name: name.to_owned(),
            arguments,
        })?;
        let actor = Actor {
            instance,
            started_by,
        };
        self.agents.insert(name.to_owned(), actor);
        Ok(actions)
    }

    fn deliver(&mut self, recipient: &str, message: &Message) -> Result<(), Trouble> {
        // One that has finished is told nothing more.
        let Some(actor) = self.agents.get_mut(recipient) else {
            return Ok(());
        };
        let actions = actor.instance.agent()?.receive(message)?;
        self.act(recipient, actions)
    }

    fn act(&mut self, name: &str, actions: Vec<Action>) -> Result<(), Trouble> {
        for action in actions {
            match action {
                Action::Send(outgoing) => self.send(name, outgoing)?,
                Action::Spawn(recruit) => self.spawn(name, recruit)?,
                Action::Finish(result) => {
                    self.agents.remove(name);
                    self.results.insert(name.to_owned(), result);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, sender: &str, outgoing: Outgoing) -> Result<(), Trouble> {
        let Outgoing {
            recipient,
            topic,
            body,
        } = outgoing;
        if recipient == RUN {
            let sequence = self.pushed.entry(topic.clone()).or_default();
            let head = ChunkHead {
                modality: match std::str::from_utf8(&body) {
                    Ok(_) => "text".to_owned(),
                    Err(_) => "application/octet-stream".to_owned(),
                },
                sequence: *sequence,
                timestamp: 0,
                attributes: vec![Attribute {
                    key: "agent".to_owned(),
                    value: sender.to_owned(),
                }],
            };
            *sequence += 1;
            return Ok(self.place.ports.push(&topic, head, &body, None)?);
        }
        if !self.agents.contains_key(&recipient) && !self.results.contains_key(&recipient) {
            let known: Vec<&str> = self.agents.keys().map(String::as_str).collect();
            return Err(Trouble::error(format!(
                "agent `{sender}` sends to `{}`, which is none of the agents: {}, {RUN}",
                recipient.escape_debug(),
                known.join(", ")
            )));
        }
        let message = Message {
            sender: sender.to_owned(),
            topic,
            body,
        };
        self.mail.push_back((recipient, message));
        Ok(())
    }

    /// Starts an agent for another one, as far as that one's plugin may.
    fn spawn(&mut self, name: &str, recruit: Recruit) -> Result<(), Trouble> {
        let Some(spawner) = self.agents.get(name) else {
            return Ok(());
        };
        let spawner = spawner.instance.plugin().clone();
        let grants = self.place.host.grants(&spawner);
        let live = self
            .agents
            .values()
            .filter(|actor| actor.started_by.as_ref() == Some(&spawner))
            .count();
        let refusal = match grants.scope(Capability::AgentSpawn) {
            None => Some("it is not granted `agent_spawn`".to_owned()),
            Some(Scope::AtMost(most)) if live >= *most as usize => {
                Some(format!("it is granted {most} agents at the same time"))
            }
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            return Err(Trouble::error(format!(
                "agent `{name}` of plugin `{spawner}` wants to start `{}`, and {refusal}; \
                 `vox plugin grant {spawner} agent_spawn` allows it",
                recruit.name.escape_debug()
            )));
        }
        let plugin: PluginId = recruit
            .plugin
            .parse()
            .map_err(|error| Trouble::error(format!("agent `{name}`: {error}")))?;
        let actions = self.start(&recruit.name, &plugin, recruit.arguments, Some(spawner))?;
        self.begun.push_back((recruit.name, actions));
        Ok(())
    }
}
