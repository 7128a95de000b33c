//! The forms of a secret: as it is, each of its lines, in base64 at any position of the encoded data, and as URLs and JSON escape
//! it. Also the secret parts of a URL.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::Url;

use super::is_secret_name;

/// Shorter values are common words; hiding them would spoil the log and protect nothing.
const SHORTEST: usize = 4;

/// Shorter pieces of base64 reveal next to nothing, and occur in other words.
const SHORTEST_BASE64: usize = 5;

/// So many bytes make a line of `base64`, and of `openssl base64`.
const BASE64_LINES: [usize; 2] = [57, 48];

/// A query parameter of this length counts as a secret, whatever its name.
const LONG_PARAMETER: usize = 20;

/// All forms of a value; none of one that is too short.
pub(super) fn of(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    add(value, &mut forms);
    if let Some(decoded) = percent_decoded(value) {
        add(&decoded, &mut forms);
    }
    forms
}

fn add(value: &str, forms: &mut BTreeSet<String>) {
    // Line by line, as output is scanned: a key of many lines is never in one line as a whole.
    for line in value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST) {
        forms.insert(line.to_owned());
        forms.extend(base64(line.as_bytes()));
        forms.extend(percent_encoded(line));
        let json = serde_json::Value::from(line).to_string();
        forms.insert(json[1..json.len() - 1].to_owned());
    }
    for width in BASE64_LINES {
        let pieces = value.as_bytes().chunks(width).map(|piece| STANDARD_NO_PAD.encode(piece));
        forms.extend(pieces.filter(|piece| piece.len() > SHORTEST_BASE64));
    }
}

/// The constant part of the base64 of data that contains these bytes, at any position.
fn base64(bytes: &[u8]) -> impl Iterator<Item = String> {
    let encoded = move |before: usize| {
        let padded = [&[0; 2][..before], bytes].concat();
        let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)].map(|text| text[from..to].to_owned())
    };
    (0..3).flat_map(encoded).filter(|text| text.len() >= SHORTEST_BASE64)
}

/// As queries, forms and paths have it, in both ways to write hexadecimal digits.
fn percent_encoded(text: &str) -> [String; 4] {
    let encode = |kept: &str, upper: bool| -> String {
        let encoded = text.bytes().map(|byte| match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) || kept.as_bytes().contains(&b) => {
                char::from(b).to_string()
            }
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        });
        encoded.collect()
    };
    [encode("", true), encode("", false), encode("/", true), encode(" ", true).replace(' ', "+")]
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        if let (b'%', Some(byte)) = (first, code) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().filter(|decoded| decoded != text)
}

/// The secret parts of a URL.
pub(super) fn of_url(url: &Url) -> Vec<String> {
    let mut secrets = Vec::new();
    let user = url.username();
    match url.password() {
        Some(password) => {
            let decoded = |text: &str| percent_decoded(text).unwrap_or_else(|| text.to_owned());
            // As an authorization header encodes it.
            secrets.push(format!("{}:{}", decoded(user), decoded(password)));
            secrets.push(password.to_owned());
        }
        None if user.len() >= 2 * SHORTEST => secrets.push(user.to_owned()),
        None => {}
    }
    let Some(query) = url.query() else { return secrets };
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if is_secret_name(name) || value.len() >= LONG_PARAMETER {
            secrets.push(value.to_owned());
        }
    }
    secrets.push(query.to_owned());
    secrets
}
