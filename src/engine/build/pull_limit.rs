//! Reads how long a registry with a pull limit asks to wait. The registry sends this to the engine (`Retry-After`), but engines
//! do not pass it on. So this module sends one more request.

use std::time::Duration;

use crate::engine::connection::find::PING_TIMEOUT;
use crate::net::HttpUrl;
use crate::net::registry::{is_loopback, parse_reference};
use crate::net::retry::{Failure as _, RetryConfig, Retryability};
use crate::net::transfer::Storage;

/// How long the registry of an image asks to wait. `None` if it does not send this to a client without credentials.
pub(super) async fn retry_after(image: &str, retry: RetryConfig) -> Option<Duration> {
    let (url, storage) = (manifest(image)?, Storage::new(retry).ok()?);
    let answer = tokio::time::timeout(PING_TIMEOUT, storage.get(&url)).await.ok()?;
    match answer.err()?.retryability() {
        Retryability::RetryAfter(wait) => Some(wait),
        Retryability::Transient | Retryability::Permanent => None,
    }
}

/// The URL of an image's manifest.
fn manifest(image: &str) -> Option<HttpUrl> {
    let image = parse_reference(image)?;
    let (name, version) = (image.repository(), image.digest().or(image.tag())?);
    let scheme = if is_loopback(image.registry()) { "http" } else { "https" };
    let registry = if image.registry() == "docker.io" { "registry-1.docker.io" } else { image.registry() };
    format!("{scheme}://{registry}/v2/{name}/manifests/{version}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_where_registries_have_them() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned = [format!("127.0.0.1:5000/a:1@{digest}"), format!("http://127.0.0.1:5000/v2/a/manifests/{digest}")];
        for (image, url) in [
            ("debian", "https://registry-1.docker.io/v2/library/debian/manifests/latest"),
            ("quay.io/a/b:1", "https://quay.io/v2/a/b/manifests/1"),
            (pinned[0].as_str(), pinned[1].as_str()),
        ] {
            assert_eq!(manifest(image).unwrap().to_string(), url);
        }
    }
}
