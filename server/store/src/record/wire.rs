//! The messages. Add only: a number is never used again, a type never changed. An absent message or an absent `optional`
//! means that there is none; timestamps are milliseconds since the epoch; 128-bit values are 16 bytes, big endian.

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Entry {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(message, optional, tag = "2")]
    pub(super) id: Option<Identity>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) version: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(super) generation: u64,
    #[prost(message, optional, tag = "5")]
    pub(super) pointer: Option<Pointer>,
    #[prost(message, optional, tag = "6")]
    pub(super) lease: Option<Lease>,
    #[prost(message, optional, tag = "7")]
    pub(super) released: Option<Released>,
    #[prost(message, optional, tag = "8")]
    pub(super) backoff: Option<Backoff>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Identity {
    #[prost(string, tag = "1")]
    pub(super) tenant: String,
    #[prost(string, optional, tag = "2")]
    pub(super) deployment: Option<String>,
    #[prost(string, tag = "3")]
    pub(super) key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pointer {
    #[prost(uint64, tag = "1")]
    pub(super) generation: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) token: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub(super) html: Option<Body>,
    #[prost(message, optional, tag = "4")]
    pub(super) sidecar: Option<Body>,
    #[prost(uint64, tag = "5")]
    pub(super) generated_at: u64,
    #[prost(uint64, tag = "6")]
    pub(super) seen: u64,
    #[prost(bool, tag = "7")]
    pub(super) gone: bool,
    #[prost(uint32, tag = "8")]
    pub(super) status: u32,
    #[prost(string, tag = "9")]
    pub(super) content_type: String,
    #[prost(message, repeated, tag = "10")]
    pub(super) headers: Vec<Pair>,
    #[prost(string, tag = "11")]
    pub(super) etag: String,
    #[prost(message, optional, tag = "12")]
    pub(super) revalidate: Option<Span>,
    #[prost(message, optional, tag = "13")]
    pub(super) stale_while_revalidate: Option<Span>,
    #[prost(message, optional, tag = "14")]
    pub(super) stale_if_error: Option<Span>,
    #[prost(string, repeated, tag = "15")]
    pub(super) tags: Vec<String>,
    #[prost(string, optional, tag = "16")]
    pub(super) path: Option<String>,
    #[prost(message, optional, tag = "17")]
    pub(super) render_time: Option<Span>,
    #[prost(uint64, tag = "18")]
    pub(super) committed_at: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Body {
    #[prost(string, tag = "1")]
    pub(super) object: String,
    /// SHA-256.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) digest: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(super) size_bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Lease {
    #[prost(uint64, tag = "1")]
    pub(super) generation: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) token: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(super) owner: String,
    #[prost(uint64, tag = "4")]
    pub(super) granted_at: u64,
    #[prost(uint64, tag = "5")]
    pub(super) expires_at: u64,
    #[prost(uint64, tag = "6")]
    pub(super) hold_until: u64,
    #[prost(uint64, tag = "7")]
    pub(super) seen: u64,
    #[prost(message, optional, tag = "8")]
    pub(super) ttl: Option<Span>,
    #[prost(bool, tag = "9")]
    pub(super) repeated: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Released {
    #[prost(uint64, tag = "1")]
    pub(super) generation: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) token: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Backoff {
    #[prost(uint32, tag = "1")]
    pub(super) failures: u32,
    #[prost(uint64, tag = "2")]
    pub(super) not_before: u64,
    #[prost(uint64, tag = "3")]
    pub(super) failed_at: u64,
    #[prost(string, tag = "4")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Event {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(uint64, tag = "2")]
    pub(super) seq: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) id: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(super) at: u64,
    #[prost(uint64, tag = "5")]
    pub(super) forget_after: u64,
    #[prost(message, repeated, tag = "6")]
    pub(super) invalidations: Vec<Invalidation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Invalidation {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(enumeration = "Depth", tag = "2")]
    pub(super) depth: i32,
    #[prost(message, repeated, tag = "3")]
    pub(super) scopes: Vec<Scope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Depth {
    Unspecified = 0,
    Soft = 1,
    Hard = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Scope {
    #[prost(oneof = "ScopeKind", tags = "1, 2, 3, 4, 5, 6")]
    pub(super) kind: Option<ScopeKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum ScopeKind {
    #[prost(message, tag = "1")]
    Everything(Everything),
    #[prost(string, tag = "2")]
    Tenant(String),
    #[prost(message, tag = "3")]
    Deployment(Within),
    #[prost(message, tag = "4")]
    PathPrefix(Within),
    #[prost(message, tag = "5")]
    Tag(Within),
    #[prost(message, tag = "6")]
    Key(Within),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Everything {}

/// Something of one tenant.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Within {
    #[prost(string, tag = "1")]
    pub(super) tenant: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ObjectMeta {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(string, tag = "2")]
    pub(super) content_type: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pair {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// A length of time: whole seconds, and below 1,000,000,000 nanoseconds.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Span {
    #[prost(uint64, tag = "1")]
    pub(super) seconds: u64,
    #[prost(uint32, tag = "2")]
    pub(super) nanos: u32,
}
