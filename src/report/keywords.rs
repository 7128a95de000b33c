//! Choices between a few words: one list of the words for reading, printing and the error message.

/// Defines an enum whose variants are words in settings, and its `FromStr`, `Display` and serde. The text behind the name is for
/// the error: `"kaniko" is not an engine: expected auto, docker, podman or managed`.
macro_rules! keywords {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident, $what:literal {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// All words.
            #[allow(dead_code, reason = "not every setting is completed")]
            $visibility const WORDS: &[&str] = &[$($word),+];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::report::not_a_keyword(text, $what, Self::WORDS)),
                }
            }
        }

        $crate::report::text_serde!($name);
    };
}

/// Serde as the text that `Display` writes and `FromStr` reads.
macro_rules! text_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {keywords, text_serde};

/// The error for a text that is none of the words.
pub(crate) fn not_a_keyword(text: &str, what: &str, words: &[&str]) -> String {
    let (last, others) = words.split_last().map_or(("", words), |(last, others)| (*last, others));
    let text: String = text.chars().take(120).collect();
    format!("{text:?} is not {what}: expected {} or {last}", others.join(", "))
}

#[cfg(test)]
mod tests {
    keywords! {
        /// A colour.
        #[derive(Default)]
        enum Colour, "a colour" {
            /// Like grass.
            #[default]
            Green = "green",
            /// Like snow.
            White = "snow-white",
            /// Like the sky.
            Blue = "blue",
        }
    }

    #[test]
    fn words_are_read_printed_and_listed() {
        assert_eq!("snow-white".parse(), Ok(Colour::White));
        assert_eq!(format!("{} {:>6}", Colour::default(), Colour::Blue), "green   blue");
        assert_eq!(serde_json::to_string(&Colour::White).unwrap(), "\"snow-white\"");
        assert_eq!(
            "Green".parse::<Colour>().unwrap_err(),
            "\"Green\" is not a colour: expected green, snow-white or blue"
        );
    }
}
