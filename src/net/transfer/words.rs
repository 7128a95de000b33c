//! The readable part of a server's error answer.

use reqwest::Response;

use crate::report::secrets;

/// The beginning of an answer's body; the rest, and whether it ends well, does not matter.
pub(super) async fn first_words(mut response: Response) -> String {
    let mut words = Vec::new();
    while words.len() < 4096
        && let Ok(Some(chunk)) = response.chunk().await
    {
        words.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// The message in an error's body. S3 and similar storages answer in XML with keys, tokens and signatures: of these, only the
/// code and the message are used. HTML pages are ignored.
pub(super) fn printable(body: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0)
    };
    let words = match (element("Code"), element("Message")) {
        (None, None) if body.trim_start().starts_with('<') => String::new(),
        (None, None) => body.to_owned(),
        (code, message) => code.into_iter().chain(message).collect::<Vec<_>>().join(": "),
    };
    // Before it is cut: half a secret is one too.
    secrets::hide(&words.split_whitespace().collect::<Vec<_>>().join(" ")).chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errors_body_is_printed_without_what_it_says_about_keys() {
        let s3 = "<?xml version=\"1.0\"?>\n<Error><Code>ExpiredToken</Code><Message>The provided token\n has expired.\
                  </Message><Token-0>FwoGZXIv</Token-0><SignatureProvided>ab12</SignatureProvided></Error>";
        assert_eq!(printable(s3), "ExpiredToken: The provided token has expired.");
        assert_eq!(printable("<html><body>502</body></html>"), "");
        assert_eq!(printable(" no such\n file "), "no such file");
        assert_eq!(printable(&"x".repeat(1000)).len(), 300);
    }
}
