//! Where a deployment is, and the credentials that calls to it are made with, as values.

use std::fmt;

use reqwest::Url;

use crate::net::HttpUrl;
use crate::net::retry::RetryConfig;

/// A Taskcluster deployment and how to call it.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The root URL.
    pub root_url: HttpUrl,
    /// How calls are authorised.
    pub access: Access,
    /// How often and how long calls are tried.
    pub retry: RetryConfig,
}

/// How calls to the deployment are authorised.
#[derive(Clone, PartialEq, Eq)]
pub enum Access {
    /// Through taskcluster-proxy, which signs.
    Proxy(HttpUrl),
    /// Signed with Hawk.
    Hawk {
        /// The client.
        client_id: String,
        /// Its access token; a secret.
        access_token: String,
        /// Its certificate, where the credentials are temporary; a secret.
        certificate: Option<String>,
    },
    /// Unsigned: reads public data only.
    Anonymous,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(url) => write!(f, "Proxy({url})"),
            Self::Hawk { client_id, .. } => write!(f, "Hawk({client_id})"),
            Self::Anonymous => f.write_str("Anonymous"),
        }
    }
}

impl Deployment {
    /// Where API calls go: the proxy, or the deployment itself.
    #[must_use]
    pub fn api_url(&self) -> &Url {
        match &self.access {
            Access::Proxy(proxy) => proxy.reveal(),
            Access::Hawk { .. } | Access::Anonymous => self.root_url.reveal(),
        }
    }
}
