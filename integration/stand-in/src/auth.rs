//! Callers: Hawk headers, bewits and temporary credentials' certificates, checked as the auth service checks
//! them, and whether a caller's scopes suffice. What a refusal looks like on the wire is for `api`.

use std::str::FromStr as _;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::credentials::{certificate_signature, key, temporary_token};
use crate::deployment::{Client, Deployment};
use crate::http::header;

/// Beside a response: who was recognised as its caller, and which scopes were required.
#[derive(Clone)]
pub(crate) struct Authentication {
    pub(crate) client_id: Option<String>,
    pub(crate) required_scopes: Vec<String>,
}

/// Who made a request.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Without credentials.
    Anonymous { scopes: Vec<String> },
    /// With valid credentials.
    Client { id: String, scopes: Vec<String> },
    /// With invalid credentials, and the reason.
    Failed(String),
}

impl Caller {
    /// A client with these scopes and those of everybody.
    pub(crate) fn client(deployment: &Deployment, id: &str, mut scopes: Vec<String>) -> Self {
        scopes.extend_from_slice(&deployment.options.anonymous_scopes);
        Self::Client { id: id.to_owned(), scopes }
    }
}

/// A request, as far as signatures cover it.
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) path_and_query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// The body as the services hash it: empty when it was not sent as JSON.
    pub(crate) text: &'a [u8],
}

/// Finds out who made a request.
pub(crate) fn identify(deployment: &Deployment, request: &Signed) -> Caller {
    let identity = match header(request.headers, "authorization") {
        Some(_) if request.path_and_query.contains("bewit=") => {
            Err("Cannot use two authentication schemes at once".to_owned())
        }
        Some(authorization) => hawk(deployment, request, authorization),
        None if request.path_and_query.contains("bewit=") => bewit(deployment, request),
        None => return Caller::Anonymous { scopes: deployment.options.anonymous_scopes.clone() },
    };
    match identity {
        Ok((id, scopes)) => Caller::client(deployment, &id, scopes),
        Err(message) => Caller::Failed(message),
    }
}

/// Whether `given` scopes include `wanted`; a scope that ends in `*` includes all that it is a prefix of.
pub(crate) fn satisfies(given: &[String], wanted: &str) -> bool {
    given.iter().any(|scope| match scope.strip_suffix('*') {
        Some(prefix) => wanted.starts_with(prefix),
        None => scope == wanted,
    })
}

type Identity = Result<(String, Vec<String>), String>;

fn hawk(deployment: &Deployment, request: &Signed, authorization: &str) -> Identity {
    let header_text = authorization.strip_prefix("Hawk ").ok_or("Unauthorized")?;
    let hawk_header = hawk::Header::from_str(header_text).map_err(|_| "Bad Request: Invalid header syntax")?;
    let (Some(id), Some(ts)) = (&hawk_header.id, hawk_header.ts) else {
        return Err("Bad Request: Missing attributes".into());
    };
    let grant = load(deployment, id, hawk_header.ext.as_deref())?;
    let (host, port) = host(request)?;
    let good = hawk::RequestBuilder::new(request.method, host, port, request.path_and_query)
        .request()
        // The timestamp is compared below, with the stand-in's own clock.
        .validate_header(&hawk_header, &key(&grant.access_token), Duration::MAX);
    if !good {
        return Err("Unauthorized: Bad mac".into());
    }
    if seconds_apart(ts, deployment.caller_now()) > 15 * 60 {
        return Err("Unauthorized: Stale timestamp".into());
    }
    if let Some(hash) = &hawk_header.hash {
        let content_type = header(request.headers, "content-type").unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_lowercase();
        let computed = hawk::PayloadHasher::hash(content_type, hawk::SHA256, request.text).expect("a hash");
        if *hash != computed {
            return Err("Invalid payload hash: it is not that of the body which arrived".into());
        }
    }
    Ok((id.clone(), grant.scopes))
}

fn bewit(deployment: &Deployment, request: &Signed) -> Identity {
    let (host, port) = host(request)?;
    let mut bewit = None;
    let signed = hawk::RequestBuilder::new("GET", host, port, request.path_and_query)
        .extract_bewit(&mut bewit)
        .map_err(|_| "Bad Request: Invalid bewit structure")?
        .request();
    let bewit = bewit.ok_or("Bad Request: Empty bewit")?;
    if request.method != "GET" && request.method != "HEAD" {
        return Err("Unauthorized: Invalid method".into());
    }
    let expiry = Timestamp::try_from(bewit.exp()).map_err(|_| "Bad Request: Invalid bewit structure")?;
    if expiry < deployment.now() {
        return Err("Unauthorized: Access expired".into());
    }
    let ext = bewit.ext().filter(|ext| !ext.is_empty());
    let grant = load(deployment, bewit.id(), ext)?;
    if !signed.validate_bewit(&bewit, &key(&grant.access_token)) {
        return Err("Unauthorized: Bad mac".into());
    }
    Ok((bewit.id().to_owned(), grant.scopes))
}

/// What a caller signs with, and may do.
struct Granted {
    access_token: String,
    scopes: Vec<String>,
}

/// Loads a client, limited by what stands in `ext`: a certificate, authorized scopes, or both.
fn load(deployment: &Deployment, id: &str, ext: Option<&str>) -> Result<Granted, String> {
    let ext: Value = match ext {
        None => Value::Null,
        Some(ext) => {
            let bytes = STANDARD.decode(ext).map_err(|_| "Failed to parse ext")?;
            serde_json::from_slice(&bytes).map_err(|_| "Failed to parse ext")?
        }
    };
    let certificate = ext.get("certificate").filter(|certificate| !certificate.is_null());
    let issuer = match certificate.and_then(|certificate| certificate.get("issuer")) {
        None => id,
        Some(Value::String(issuer)) if issuer == id => {
            return Err("ext.certificate.issuer must differ from the supplied clientId".into());
        }
        Some(Value::String(issuer)) => issuer,
        Some(_) => return Err("ext.certificate.issuer must be a string".into()),
    };
    let client = deployment.clients.get(issuer).ok_or_else(|| format!("Client with clientId '{issuer}' not found"))?;
    let mut grant = Granted { access_token: client.access_token.clone(), scopes: client.scopes.clone() };
    if let Some(certificate) = certificate {
        grant = limit(deployment, id, issuer, client, certificate)?;
    }
    if let Some(authorized) = ext.get("authorizedScopes") {
        let authorized = scopes(authorized).ok_or("ext.authorizedScopes must be an array of valid scopes")?;
        grant.scopes.extend_from_slice(&deployment.options.anonymous_scopes);
        if !authorized.iter().all(|scope| satisfies(&grant.scopes, scope)) {
            return Err("Supplied credentials do not satisfy authorizedScopes".into());
        }
        grant.scopes = authorized;
    }
    Ok(grant)
}

/// Checks a certificate, and gives what it grants.
fn limit(
    deployment: &Deployment,
    id: &str,
    issuer: &str,
    client: &Client,
    certificate: &Value,
) -> Result<Granted, String> {
    let number =
        |name: &str| certificate[name].as_i64().ok_or_else(|| format!("ext.certificate.{name} must be a number"));
    if certificate["version"] != 1 {
        return Err("ext.certificate.version must be 1".into());
    }
    let seed = certificate["seed"].as_str().ok_or("ext.certificate.seed must be a string")?;
    if seed.len() != 44 {
        return Err("ext.certificate.seed must be 44 characters".into());
    }
    let (start, expiry) = (number("start")?, number("expiry")?);
    let granted = scopes(&certificate["scopes"]).ok_or("ext.certificate.scopes must be an array of valid scopes")?;

    // Both ends have five minutes of tolerance: observed at 4 minutes past (200) and at 6 (401).
    let (now, tolerance) = (deployment.now().as_millisecond(), 5 * 60 * 1000);
    if start > now + tolerance {
        return Err("ext.certificate.start > now".into());
    }
    if expiry < now - tolerance {
        return Err("ext.certificate.expiry < now".into());
    }
    if expiry - start > 31 * 24 * 60 * 60 * 1000 {
        return Err("ext.certificate cannot last longer than 31 days!".into());
    }
    let named = issuer != id;
    if named && !satisfies(&client.scopes, &format!("auth:create-client:{id}")) {
        return Err(format!("ext.certificate issuer `{issuer}` doesn't have `auth:create-client:{id}`"));
    }
    if !granted.iter().all(|scope| satisfies(&client.scopes, scope)) {
        return Err(format!("ext.certificate issuer `{issuer}` doesn't satisfy all certificate scopes"));
    }
    let token = &client.access_token;
    let signature = certificate_signature(token, id, named.then_some(issuer), seed, start, expiry, &granted);
    if certificate["signature"] != signature.as_str() {
        return Err("ext.certificate.signature is not valid, or wrong clientId provided".into());
    }
    Ok(Granted { access_token: temporary_token(token, seed), scopes: granted })
}

fn scopes(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|scope| scope.as_str().map(str::to_owned)).collect()
}

/// Host and port as the caller addressed them: that is what it signed.
fn host<'a>(request: &Signed<'a>) -> Result<(&'a str, u16), String> {
    let host = header(request.headers, "host").ok_or("Bad Request: Invalid Host header")?;
    match host.rsplit_once(':') {
        Some((name, port)) => Ok((name, port.parse().map_err(|_| "Bad Request: Invalid Host header")?)),
        None => Ok((host, 80)),
    }
}

fn seconds_apart(time: SystemTime, now: Timestamp) -> i64 {
    Timestamp::try_from(time).map_or(i64::MAX, |time| (now.as_second() - time.as_second()).abs())
}
