//! What to do about an error, as a part of its message that can be told apart: a line has both, a terminal and programs get each
//! by itself. `thiserror` passes nothing but a formatter into a message, so what is taken apart is collected per thread.

use std::cell::RefCell;
use std::fmt::{self, Display};

thread_local! {
    /// The hints of the message that [`split_hint`] formats; none while messages are formatted whole.
    static COLLECTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// The end of an error's message that says what to do. In a line it stands behind the message: `; make room`. An empty one is none.
#[derive(Clone, Copy, Debug)]
pub struct Hint<T>(pub T);

impl<T: Display> Display for Hint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        if text.is_empty() {
            return Ok(());
        }
        let is_collected = COLLECTED.with_borrow_mut(|hints| match hints {
            Some(hints) => {
                hints.push(text.clone());
                true
            }
            None => false,
        });
        if is_collected { Ok(()) } else { write!(f, "; {text}") }
    }
}

/// The message of an error without what to do, and what to do.
#[must_use]
pub fn split_hint(error: &dyn Display) -> (String, Option<String>) {
    let outer = COLLECTED.replace(Some(Vec::new()));
    let message = error.to_string();
    let hints = COLLECTED.replace(outer).unwrap_or_default();
    (message, (!hints.is_empty()).then(|| hints.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Problem {
        #[error("no space in {place}{}", Hint("make room"))]
        Full { place: &'static str },
        #[error("{0} (image a)")]
        Of(Box<Problem>),
        #[error("unknown{}", Hint(""))]
        Unknown,
    }

    #[test]
    fn a_message_is_whole_or_taken_apart() {
        let full = || Problem::Full { place: "/tmp; there" };
        assert_eq!(full().to_string(), "no space in /tmp; there; make room");
        assert_eq!(split_hint(&full()), ("no space in /tmp; there".to_owned(), Some("make room".to_owned())));
        let outer = Problem::Of(Box::new(full()));
        assert_eq!(outer.to_string(), "no space in /tmp; there; make room (image a)");
        assert_eq!(split_hint(&outer), ("no space in /tmp; there (image a)".to_owned(), Some("make room".to_owned())));
        assert_eq!(split_hint(&Problem::Unknown), ("unknown".to_owned(), None));
        assert_eq!(Problem::Unknown.to_string(), "unknown");
    }
}
