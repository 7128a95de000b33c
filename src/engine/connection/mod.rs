//! Connections to an engine: where it listens, which one answers, how it is spoken to, and what its long answers say.

pub(super) mod address;
pub(super) mod client;
pub(super) mod endpoint;
pub(super) mod engine_info;
pub(super) mod find;
pub(super) mod messages;
pub(super) mod witness;
