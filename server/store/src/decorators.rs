//! Stores around a store. Each keeps the contracts of the ports, and passes their conformance suite.

pub mod counting;
pub mod faults;
pub mod observing;

/// What a store can be asked for: one per method of the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A read of an entry.
    EntryRead,
    /// A swap of an entry.
    Swap,
    /// A read of the log's head.
    HeadRead,
    /// A read of events.
    EventRead,
    /// An append to the log.
    Append,
    /// A put of an object.
    Put,
    /// A read of an object.
    Get,
    /// A question for size and digest of an object.
    Info,
    /// A call that deletes objects, however many.
    Delete,
    /// A question for the URL of an object.
    Url,
}

impl Operation {
    /// As metrics and traces name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EntryRead => "entry_read",
            Self::Swap => "swap",
            Self::HeadRead => "head_read",
            Self::EventRead => "event_read",
            Self::Append => "append",
            Self::Put => "put",
            Self::Get => "get",
            Self::Info => "info",
            Self::Delete => "delete",
            Self::Url => "url",
        }
    }
}
