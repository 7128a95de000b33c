//! Times and ids as the services write and read them.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

/// A time as JavaScript's `toJSON` writes it.
pub(crate) fn json_time(time: Timestamp) -> String {
    format!("{:.3}", to_millis(time))
}

/// A time as JavaScript reads it: what is finer than a millisecond is cut off.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(to_millis)
}

fn to_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// A new slugid that starts with a letter, as JavaScript's `slugid.nice()` makes them.
pub(crate) fn slugid() -> String {
    let mut bytes = [0; 16];
    // The standard library's hash keys are random per process and differ per call: enough for ids in tests,
    // and one dependency less.
    for half in bytes.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
    }
    bytes[0] &= 0x7f;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether `text` is a slugid, by the queue's own pattern.
pub(crate) fn is_slugid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    // Of a version 4 UUID, the version and the variant show in the ninth and eleventh character, the end in the last.
    bytes.len() == 22
        && bytes.iter().all(plain)
        && b"QRST".contains(&bytes[8])
        && b"CGKOSWaeimquy26-".contains(&bytes[10])
        && b"AQgw".contains(&bytes[21])
}
