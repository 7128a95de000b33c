//! Making credentials: permanent ones, temporary ones with a certificate, and signed URLs (bewits).
//! Whether a request's credentials are good is decided in `auth`, by the same arithmetic in reverse.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};
use taskcluster::Credentials;

use crate::deployment::{Client, Deployment};
use crate::wire::slugid;

/// The client that issues task credentials.
pub(crate) const QUEUE: &str = "static/taskcluster/queue";
/// The client that signs the index's redirects.
pub(crate) const INDEX: &str = "static/taskcluster/index";

/// The services' own clients.
pub(crate) fn static_clients() -> impl Iterator<Item = (String, Client)> {
    [QUEUE, INDEX]
        .into_iter()
        .map(|id| (id.to_owned(), Client { access_token: slugid() + &slugid(), scopes: vec!["*".into()] }))
}

/// Temporary credentials with a name, as the queue issues them.
pub(crate) fn temporary(deployment: &Deployment, client_id: &str, expiry: Timestamp, scopes: &[String]) -> Credentials {
    let issuer = &deployment.clients[QUEUE];
    let start = deployment.now().as_millisecond();
    let expiry = expiry.as_millisecond();
    let seed = slugid() + &slugid();
    let certificate = json!({
        "version": 1,
        "scopes": scopes,
        "start": start,
        "expiry": expiry,
        "seed": seed,
        "signature": certificate_signature(&issuer.access_token, client_id, Some(QUEUE), &seed, start, expiry, scopes),
        "issuer": QUEUE,
    });
    Credentials {
        client_id: client_id.to_owned(),
        access_token: temporary_token(&issuer.access_token, &seed),
        certificate: Some(certificate.to_string()),
    }
}

/// Credentials as the services' answers carry them.
pub(crate) fn to_json(credentials: &Credentials) -> Value {
    let mut value = json!({"clientId": credentials.client_id, "accessToken": credentials.access_token});
    if let Some(certificate) = &credentials.certificate {
        value["certificate"] = json!(certificate);
    }
    value
}

/// What a certificate signs: its fields as lines, the scopes last.
pub(crate) fn certificate_signature(
    issuer_token: &str,
    client_id: &str,
    issuer: Option<&str>,
    seed: &str,
    start: i64,
    expiry: i64,
    scopes: &[String],
) -> String {
    let mut lines = vec!["version:1".to_owned()];
    if let Some(issuer) = issuer {
        lines.push(format!("clientId:{client_id}"));
        lines.push(format!("issuer:{issuer}"));
    }
    lines.push(format!("seed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:"));
    lines.extend_from_slice(scopes);
    STANDARD.encode(hmac(issuer_token, lines.join("\n").as_bytes()))
}

/// The access token that belongs to a certificate's seed.
pub(crate) fn temporary_token(issuer_token: &str, seed: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac(issuer_token, seed.as_bytes()))
}

/// `path` with a bewit of the index service, good for 15 minutes.
pub(crate) fn signed_url(deployment: &Deployment, path: &str) -> String {
    let key = key(&deployment.clients[INDEX].access_token);
    let credentials = hawk::Credentials { id: INDEX.to_owned(), key };
    let (host, port) = host_and_port(&deployment.root_url);
    let expiry = (deployment.now() + Duration::from_mins(15)).into();
    let bewit = hawk::RequestBuilder::new("GET", host, port, path)
        .request()
        .make_bewit(&credentials, expiry)
        .map(|bewit| bewit.to_str())
        .expect("a bewit");
    format!("{}{path}?bewit={bewit}", deployment.root_url)
}

/// The two halves of `http://host:port`.
fn host_and_port(url: &str) -> (&str, u16) {
    let (host, port) = url.trim_start_matches("http://").rsplit_once(':').expect("a port");
    (host, port.parse().expect("a port number"))
}

/// A Hawk key.
pub(crate) fn key(token: &str) -> hawk::Key {
    hawk::Key::new(token, hawk::SHA256).expect("a key")
}

/// HMAC-SHA256, which is what a Hawk key does.
pub(crate) fn hmac(secret: &str, data: &[u8]) -> Vec<u8> {
    key(secret).sign(data).expect("a signature")
}
