//! Connections to an engine: its address, the search for an engine that answers, HTTP requests, and the parser of long replies.

pub(super) mod address;
pub(super) mod client;
pub(super) mod endpoint;
pub(super) mod engine_info;
pub(super) mod find;
pub(super) mod messages;
pub(super) mod restart_detector;
