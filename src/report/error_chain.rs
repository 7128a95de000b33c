//! An error with its causes, printed one way everywhere.

use std::error::Error;
use std::fmt;
use std::iter::successors;

/// An error and all its causes in a line: `what: cause: its cause`. Some libraries repeat their cause's text in their own:
/// repeated text is left out.
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a dyn Error);

impl<'a> ErrorChain<'a> {
    /// The causes of the error, the nearest first, without texts that `printed` or a nearer cause contains already.
    pub fn causes(self, mut printed: String) -> impl Iterator<Item = String> + 'a {
        let causes = successors(self.0.source(), |error| (*error).source());
        causes.map(ToString::to_string).filter(move |text| {
            let is_new = !printed.contains(text);
            if is_new {
                printed.clone_from(text);
            }
            is_new
        })
    }

    /// The innermost cause, or the error itself: it has the useful text; the outer errors often are only the layers of a client.
    #[must_use]
    pub fn innermost(self) -> &'a dyn Error {
        let mut innermost = self.0;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        innermost
    }
}

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0.to_string();
        f.write_str(&error)?;
        self.causes(error).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Layer {
        what: &'static str,
        source: Option<Box<Layer>>,
    }

    fn chain(words: &[&'static str]) -> Layer {
        let (what, rest) = words.split_first().unwrap();
        Layer { what, source: (!rest.is_empty()).then(|| Box::new(chain(rest))) }
    }

    #[test]
    fn causes_follow_in_a_line_each_once() {
        let error = chain(&["cannot send", "no answer: refused", "refused", "os error 111"]);
        assert_eq!(ErrorChain(&error).to_string(), "cannot send: no answer: refused: os error 111");
        assert_eq!(ErrorChain(&error).innermost().to_string(), "os error 111");
        let alone = chain(&["alone"]);
        assert_eq!(
            (ErrorChain(&alone).to_string(), ErrorChain(&alone).innermost().to_string()),
            ("alone".to_owned(), "alone".to_owned())
        );
    }
}
