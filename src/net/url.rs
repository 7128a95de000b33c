//! URLs that can be printed: many of ours are signed, and their queries are secrets. `transfer` and `taskcluster` make the
//! requests.

use std::fmt;
use std::str::FromStr;

use crate::net::NameError;
use crate::report::text_serde;

/// An `http:` or `https:` URL that prints without what could be a secret in it: no query, no user, no fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(reqwest::Url);

text_serde!(HttpUrl);

impl HttpUrl {
    /// The whole URL, for the request only.
    #[must_use]
    pub fn reveal(&self) -> &reqwest::Url {
        &self.0
    }
}

/// Whom a URL is about: the host, and the port if it is not the usual one.
#[must_use]
pub fn host(url: &reqwest::Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        // These fail only for URLs without a host, which `from_str` refuses.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for HttpUrl {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match reqwest::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Self(url)),
            // The text is not quoted: a mistyped URL can still hold a secret.
            _ => Err(NameError::of_a_secret("a URL", "expected http://HOST/… or https://HOST/…")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::accepts;

    #[test]
    fn urls_print_without_secrets() {
        let url: HttpUrl = "https://me:pw@example.com/a/b?X-Amz-Signature=1#f".parse().unwrap();
        assert_eq!(url.to_string(), "https://example.com/a/b");
        assert_eq!(format!("{url:?}"), "https://example.com/a/b");
        assert!(url.reveal().as_str().contains("Signature"));
        assert_eq!(host(url.reveal()).as_deref(), Some("example.com"));
        let port: HttpUrl = "http://me:pw@[::1]:8080/a?b".parse().unwrap();
        assert_eq!(host(port.reveal()).as_deref(), Some("[::1]:8080"));
        accepts::<HttpUrl>(&["http://localhost:1"], &["", "ftp://x/", "file:///etc/passwd", "example.com"]);
    }
}
