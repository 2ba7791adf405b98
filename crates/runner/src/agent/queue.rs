//! What people said while the agent was at work: one message is with the agent, the others wait here.
//! No I/O, no time.

use std::collections::HashSet;
use std::collections::VecDeque;

use sojourn_core::wire::relay::Person;

/// The most messages that wait.
pub(super) const MAX_QUEUED: usize = 32;

/// The longest message, in bytes.
pub(super) const MAX_MESSAGE: usize = 100_000;

/// The longest id that a client gives a message, in bytes.
const MAX_ID: usize = 128;

/// So many messages are remembered, to know one that comes again.
const MAX_KNOWN: usize = 4096;

/// Something that a person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) content: String,
    pub(super) by: Person,
}

/// Why a message is not taken, or not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It was taken before.
    #[error("this message was taken already")]
    Known,
    /// There is nothing in it.
    #[error("the message is empty; write something")]
    Empty,
    /// It is too long.
    #[error("the message is longer than {MAX_MESSAGE} bytes; put the text into a file and name it")]
    Long,
    /// Its id is no id.
    #[error("client_msg_id has 1 to {MAX_ID} bytes")]
    Id,
    /// Too many wait.
    #[error("{MAX_QUEUED} messages wait already; cancel one, or wait for the agent")]
    Full,
    /// The agent has it.
    #[error("the agent has this message already; interrupt the turn if it should not do it")]
    Sent,
    /// Nothing is known of it.
    #[error("no message with this client_msg_id waits")]
    Unknown,
}

impl Refusal {
    /// A stable word.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Known | Self::Sent => "CONFLICT",
            Self::Empty | Self::Id => "INVALID",
            Self::Long => "TOO_LARGE",
            Self::Full => "LIMIT_REACHED",
            Self::Unknown => "NOT_FOUND",
        }
    }
}

/// The messages of a session, in the order in which they were said.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Message>,
    known: HashSet<String>,
    /// The same ids, the oldest first.
    order: VecDeque<String>,
}

impl Queue {
    /// Takes a message; it waits until [`Queue::next`] gives it out.
    pub(super) fn push(&mut self, message: Message) -> Result<(), Refusal> {
        if message.id.is_empty() || message.id.len() > MAX_ID {
            return Err(Refusal::Id);
        }
        if self.known.contains(&message.id) {
            return Err(Refusal::Known);
        }
        check(&message.content)?;
        if self.waiting.len() >= MAX_QUEUED {
            return Err(Refusal::Full);
        }
        if self.order.len() >= MAX_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(message.id.clone());
        self.order.push_back(message.id.clone());
        self.waiting.push_back(message);
        Ok(())
    }

    /// Puts something of our own before everything that waits.
    pub(super) fn push_first(&mut self, message: Message) {
        self.waiting.push_front(message);
    }

    /// The next message for the agent.
    pub(super) fn next(&mut self) -> Option<Message> {
        self.waiting.pop_front()
    }

    /// Changes what waits.
    pub(super) fn edit(&mut self, id: &str, content: String) -> Result<(), Refusal> {
        check(&content)?;
        let place = self.place(id)?;
        if let Some(message) = self.waiting.get_mut(place) {
            message.content = content;
        }
        Ok(())
    }

    /// Takes back what waits.
    pub(super) fn cancel(&mut self, id: &str) -> Result<(), Refusal> {
        let place = self.place(id)?;
        self.waiting.remove(place);
        Ok(())
    }

    fn place(&self, id: &str) -> Result<usize, Refusal> {
        let place = self.waiting.iter().position(|message| message.id == id);
        place.ok_or(match self.known.contains(id) {
            true => Refusal::Sent,
            false => Refusal::Unknown,
        })
    }
}

fn check(content: &str) -> Result<(), Refusal> {
    match content.len() {
        _ if content.trim().is_empty() => Err(Refusal::Empty),
        bytes if bytes > MAX_MESSAGE => Err(Refusal::Long),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, content: &str) -> Message {
        let by = Person { user: "alice".to_owned(), address: None };
        Message { id: id.to_owned(), content: content.to_owned(), by }
    }

    #[test]
    fn messages_go_out_in_order_and_can_be_changed_while_they_wait() {
        let mut queue = Queue::default();
        for id in ["a", "b", "c"] {
            queue.push(message(id, id)).unwrap();
        }
        assert_eq!(queue.push(message("b", "again")), Err(Refusal::Known));
        queue.edit("b", "other".to_owned()).unwrap();
        queue.cancel("a").unwrap();
        assert_eq!(queue.next().unwrap().content, "other");
        assert_eq!(queue.edit("b", "late".to_owned()), Err(Refusal::Sent));
        assert_eq!(queue.cancel("b"), Err(Refusal::Sent));
        assert_eq!(queue.cancel("x"), Err(Refusal::Unknown));
        queue.push_first(message("ours", "first"));
        assert_eq!(queue.next().unwrap().id, "ours");
        assert_eq!(queue.next().unwrap().id, "c");
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn flaw_20_nothing_empty_reaches_an_agent_and_nothing_grows() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(message("a", " \n")), Err(Refusal::Empty));
        assert_eq!(queue.push(message("", "x")), Err(Refusal::Id));
        let long = "x".repeat(MAX_MESSAGE + 1);
        assert_eq!(queue.push(message("a", &long)), Err(Refusal::Long));
        for n in 0..MAX_QUEUED {
            queue.push(message(&n.to_string(), "x")).unwrap();
        }
        assert_eq!(queue.push(message("more", "x")), Err(Refusal::Full));
        assert_eq!(queue.edit("0", long), Err(Refusal::Long));
        for n in MAX_QUEUED..2 * MAX_KNOWN {
            queue.next();
            queue.push(message(&n.to_string(), "x")).unwrap();
        }
        assert!(queue.known.len() <= MAX_KNOWN && queue.order.len() <= MAX_KNOWN);
    }
}
