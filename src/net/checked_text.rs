//! Texts that are validated when they are parsed: newtypes that only a check can create, and an error with the expected form.
//! Each name is defined in the module that uses it.

/// Why a text is not a valid name.
///
/// The message has the expected form of the name; the caller adds the setting it came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not {what}: {rule}", .value.as_ref().map_or_else(|| "the value".to_owned(), |value| format!("{value:?}")))]
pub struct NameError {
    /// Nothing, where it can hold a secret.
    value: Option<String>,
    what: &'static str,
    rule: &'static str,
}

impl NameError {
    pub(crate) fn new(value: &str, what: &'static str, rule: &'static str) -> Self {
        // A name that is wrong can be anything, also a whole file: quote no more than a line of it.
        let value = Some(value.chars().take(120).collect());
        Self { value, what, rule }
    }

    /// Of a text that is not quoted, as it can hold a secret.
    pub(crate) fn of_a_secret(what: &'static str, rule: &'static str) -> Self {
        Self { value: None, what, rule }
    }
}

/// A text newtype that only a check can create.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::net::NameError;

            fn from_str(text: &str) -> Result<Self, $crate::net::NameError> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($crate::net::NameError::new(text, $what, $rule))
                }
            }
        }

        $crate::report::text_serde!($name);
    };
}

pub(crate) use checked_text;

/// Asserts which texts a name takes and which it refuses.
#[cfg(test)]
pub(crate) fn accepts<T: std::str::FromStr>(good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(text.parse::<T>().is_ok(), "{text:?} should be accepted");
    }
    for text in bad {
        assert!(text.parse::<T>().is_err(), "{text:?} should be refused");
    }
}
