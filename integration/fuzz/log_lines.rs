//! Log lines under fuzz: whatever an engine, a server or a step prints stays one line and moves no cursor, and no secret is in
//! it, in whatever form it comes and wherever the line is broken.

use std::sync::Once;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image_worker::engine::build_log::{LONGEST_LINE, LineBuffer};
use image_worker::report;
use image_worker::report::secrets;

use super::input::Input;

/// Known to the program from the beginning.
const SECRETS: [&str; 3] = ["s3cr3t/of+the fuzzer", "t\u{f6}k\"en-of-the-fuzzer", "p%40ss-of-the-fuzzer"];

static REGISTERED: Once = Once::new();

pub(super) fn target(data: &[u8]) {
    REGISTERED.call_once(|| SECRETS.into_iter().for_each(secrets::add));
    let mut input = Input::new(data);
    let secret = input.pick(&SECRETS);
    let (shown, known) = form(secret, &mut input);
    let before = input.text();
    // Near where a line is broken, or not.
    let filler = if input.flag() { LONGEST_LINE - input.below(64) } else { 0 };
    let step = 1 + input.below(300);
    let rest = String::from_utf8_lossy(input.rest()).into_owned();
    // A part of a secret that is in the input by itself proves nothing.
    if [&before, &rest].iter().any(|it| it.contains(&known) || lines(it, step).concat().contains(&known)) {
        return;
    }
    let text = format!("{}{before}{shown}{rest}", ".".repeat(filler));

    let line = report::printable(&text);
    assert_harmless(&line);
    assert!(!line.contains(&known), "{known:?} is in {line:?}");
    assert_harmless(&report::error_line(&text));

    let lines = lines(&text, step);
    for (number, line) in lines.iter().enumerate() {
        assert!(line.len() <= LONGEST_LINE + text.len().min(4096), "a line of {} bytes", line.len());
        assert!(!line.chars().any(|it| it.is_control() && it != '\t'), "{line:?}");
        // A line that was broken goes on in the next.
        let next = lines.get(number + 1).filter(|_| line.len() > LONGEST_LINE - 4).map_or("", String::as_str);
        let whole = format!("{line}{next}");
        assert!(!whole.contains(&known), "{known:?} is in {whole:?}");
    }
}

/// The lines of a text that comes in pieces of so many bytes.
fn lines(text: &str, step: usize) -> Vec<String> {
    let mut buffer = LineBuffer::default();
    let mut lines: Vec<_> = text.as_bytes().chunks(step).flat_map(|piece| buffer.piece(piece)).collect();
    lines.extend(buffer.end());
    lines
}

/// A secret as something else repeats it, and what of it must not be shown.
fn form(secret: &str, input: &mut Input) -> (String, String) {
    match input.below(4) {
        0 => {
            let encoded = STANDARD.encode(["", "u", "u:"][input.below(3)].to_owned() + secret);
            let known = encoded[4..encoded.len() - 4].to_owned();
            (encoded, known)
        }
        1 => {
            let encoded: String = secret
                .bytes()
                .map(|byte| match byte {
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
                    byte => format!("%{byte:02X}"),
                })
                .collect();
            (encoded.clone(), encoded)
        }
        2 => {
            let quoted = serde_json::Value::from(secret).to_string();
            (quoted.clone(), quoted[1..quoted.len() - 1].to_owned())
        }
        _ => (secret.to_owned(), secret.to_owned()),
    }
}

fn assert_harmless(line: &str) {
    let harmful = |it: char| {
        (it.is_control() && it != '\t')
            || matches!(it, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    assert!(!line.chars().any(harmful), "{line:?}");
}
