//! A user with a browser.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use ureq::Agent;
use vox_plugin::Result;

use super::server::location;
use crate::Surroundings;

/// What happens with the address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Browser {
    /// It is opened, and the user agrees.
    Follows,
    /// The user opens it, who read it on the terminal.
    OpenedByHand,
    /// The user agrees; before the answer come some that are none.
    AnsweredByStrangersFirst,
    /// It is opened, and nothing comes back.
    GoesNowhere,
    /// The user ends the command as soon as it is opened.
    IsCancelled,
}

/// A user.
pub struct User {
    browser: Browser,
    printed: Mutex<Vec<String>>,
    told: Mutex<Vec<String>>,
    statuses: Arc<Mutex<Vec<u16>>>,
    cancelled: AtomicBool,
    visits: Mutex<Vec<JoinHandle<()>>>,
}

impl User {
    pub fn new(browser: Browser) -> Self {
        Self {
            browser,
            printed: Mutex::default(),
            told: Mutex::default(),
            statuses: Arc::default(),
            cancelled: AtomicBool::new(false),
            visits: Mutex::default(),
        }
    }

    /// Takes what was printed.
    pub fn printed(&self) -> Vec<String> {
        std::mem::take(&mut self.printed.lock().unwrap())
    }

    /// What was told so far.
    pub fn told(&self) -> String {
        self.told.lock().unwrap().join("\n")
    }

    /// What the browser was answered, once its visits are over.
    pub fn statuses(&self) -> Vec<u16> {
        for visit in self.visits.lock().unwrap().drain(..) {
            visit.join().unwrap();
        }
        self.statuses.lock().unwrap().clone()
    }

    fn visit(&self, address: &str) {
        let (address, browser) = (address.to_owned(), self.browser);
        let statuses = Arc::clone(&self.statuses);
        let visit = thread::spawn(move || {
            let agent: Agent = Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into();
            let get = |address: &str| {
                let response = agent.get(address).call().unwrap();
                statuses.lock().unwrap().push(response.status().as_u16());
            };
            if browser != Browser::AnsweredByStrangersFirst {
                return get(&address);
            }
            let back = location(&address);
            let (place, _) = back.split_once("/callback").unwrap();
            get(&back.replace("state=", "state=x"));
            get(&back.replace("state=", "estate="));
            get(&format!("{place}/favicon.ico"));
            let posted = agent.post(&back).send_empty().unwrap();
            statuses.lock().unwrap().push(posted.status().as_u16());
            get(&back);
        });
        self.visits.lock().unwrap().push(visit);
    }
}

impl Surroundings for User {
    fn print(&self, line: &str) -> Result<()> {
        self.printed.lock().unwrap().push(line.to_owned());
        Ok(())
    }

    fn tell(&self, line: &str) -> Result<()> {
        self.told.lock().unwrap().push(line.to_owned());
        if self.browser == Browser::OpenedByHand
            && let Some(address) = line
                .split_whitespace()
                .find(|word| word.starts_with("http"))
            && address.contains("/authorize?")
        {
            self.visit(address);
        }
        Ok(())
    }

    fn open(&self, address: &str) -> bool {
        match self.browser {
            Browser::OpenedByHand => panic!("no browser was to be opened"),
            Browser::GoesNowhere => {}
            Browser::IsCancelled => self.cancelled.store(true, Ordering::Release),
            Browser::Follows | Browser::AnsweredByStrangersFirst => self.visit(address),
        }
        true
    }

    fn should_cancel(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}
