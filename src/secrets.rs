//! Values that must not be printed although the program passes them on: build arguments whose name says that they are
//! secret, and a build's secrets. Credentials and signed URLs have types of their own that do not print themselves.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::build_secrets::BuildSecrets;

/// Parts of a name that make its value a secret, as such names are in use.
const TELLING: [&str; 9] =
    ["token", "secret", "password", "passwd", "passphrase", "credential", "apikey", "api_key", "private_key"];

/// Shorter values are words that stand everywhere; hiding them would spoil the log and protect nothing.
const SHORTEST: usize = 4;

/// Values to hide.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The secrets among build arguments.
    #[must_use]
    pub fn among(arguments: &BTreeMap<String, String>) -> Self {
        let is_secret = |(name, _): &(&String, &String)| {
            let name = name.to_ascii_lowercase();
            TELLING.iter().any(|part| name.contains(part))
        };
        Self::default().with(arguments.iter().filter(is_secret).map(|(_, value)| value.as_str()))
    }

    /// These, and the values of a build's secrets.
    #[must_use]
    pub fn and(self, secrets: &BuildSecrets) -> Self {
        let values: Vec<_> = secrets.values().values().map(|value| String::from_utf8_lossy(value)).collect();
        self.with(values.iter().map(AsRef::as_ref))
    }

    fn with<'v>(self, more: impl Iterator<Item = &'v str>) -> Self {
        // Line by line, as output is looked at: a key of many lines is never in one of them whole.
        let lines = more.flat_map(|value| value.lines().map(str::trim));
        let lines = lines.filter(|line| line.len() >= SHORTEST).map(str::to_owned);
        let mut values: Vec<_> = self.0.into_iter().chain(lines).collect();
        // A value inside another would leave the other's rest readable.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// The text without them.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.0
            .iter()
            .filter(|secret| text.contains(*secret))
            .fold(Cow::Borrowed(text), |text, secret| Cow::Owned(text.replace(secret.as_str(), "[hidden]")))
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({} of them)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_telling_names_are_hidden_and_others_are_not() {
        let arguments = [("GITHUB_TOKEN", "abcdef"), ("Password", "abcdefgh"), ("BASE", "debian"), ("A_SECRET", "x")];
        let arguments = arguments.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let secrets = Secrets::among(&arguments.into());
        assert_eq!(secrets.hide("x: abcdefgh, abcdef on debian"), "x: [hidden], [hidden] on debian");
        let key = ("PRIVATE_KEY".to_owned(), "--begin--\nabcdefgh\nijklmnop\n".to_owned());
        assert_eq!(Secrets::among(&[key].into()).hide("key: ijklmnop"), "key: [hidden]");
        assert!(matches!(secrets.hide("nothing"), Cow::Borrowed(_)));
        assert_eq!(format!("{secrets:?}"), "Secrets(2 of them)");
    }
}
