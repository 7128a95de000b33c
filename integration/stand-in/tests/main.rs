//! Proves the stand-in against what was measured on the real services (docs/taskcluster.md) or read in their source.
//! Here is only the caller that they share; it signs queries too, which the official
//! client does not.

mod admin;
mod auth;
mod faults;
mod index;
mod object;
mod proxy;
mod queue;
mod reference;
mod reruns;
mod store;
mod tasks;

use hawk::{Key, PayloadHasher, RequestBuilder, SHA256};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Url, redirect};
use serde_json::{Value, json};
use taskcluster::Credentials;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use stand_in::StandIn;

/// A caller of the API.
struct Caller {
    root: String,
    http: Client,
    credentials: Option<Credentials>,
    authorized_scopes: Option<Vec<String>>,
}

/// What was answered.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: HeaderMap,
    text: String,
    body: Value,
}

impl Caller {
    fn anonymous(root: &str) -> Self {
        let http = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        Self { root: root.to_owned(), http, credentials: None, authorized_scopes: None }
    }

    fn new(stand_in: &StandIn, credentials: &Credentials) -> Self {
        Self { credentials: Some(credentials.clone()), ..Self::anonymous(&stand_in.root_url()) }
    }

    async fn get(&self, path: &str) -> Got {
        self.send(Method::GET, path, None).await
    }

    async fn put(&self, path: &str, body: Value) -> Got {
        self.send(Method::PUT, path, Some(body)).await
    }

    async fn post(&self, path: &str, body: Value) -> Got {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Got {
        self.try_send(method, path, body).await.expect("an answer")
    }

    async fn try_send(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<Got> {
        let url: Url = format!("{}{path}", self.root).parse().unwrap();
        let body = body.map(|body| body.to_string());
        let mut request = self.http.request(method.clone(), url.clone());
        if let Some(authorization) = self.authorization(&method, &url, body.as_deref()) {
            request = request.header("authorization", authorization);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        Got::read(request.send().await?).await
    }

    /// The Hawk header, if there are credentials.
    fn authorization(&self, method: &Method, url: &Url, body: Option<&str>) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let mut ext = json!({});
        if let Some(certificate) = &credentials.certificate {
            ext["certificate"] = serde_json::from_str(certificate).unwrap();
        }
        if let Some(scopes) = &self.authorized_scopes {
            ext["authorizedScopes"] = json!(scopes);
        }
        let ext = STANDARD.encode(ext.to_string());
        let hash = body.map(|body| PayloadHasher::hash("application/json", SHA256, body).unwrap());
        let key = Key::new(&credentials.access_token, SHA256).unwrap();
        let signer = hawk::Credentials { id: credentials.client_id.clone(), key };
        let request = RequestBuilder::from_url(method.as_str(), url).unwrap().ext(&ext[..]).hash(hash.as_deref());
        Some(format!("Hawk {}", request.request().make_header(&signer).unwrap()))
    }
}

impl Got {
    async fn read(response: reqwest::Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Self { status, headers, text, body })
    }

    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The part of an error's message that is for people.
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default().split("\n\n---\n").next().unwrap_or_default()
    }

    /// The scopes that the caller lacks, of those that a refused call demands.
    fn missing_scopes(&self) -> &str {
        self.message().split("\n```").nth(1).expect("scopes between back quotes")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Fails with all that there is to know when the status is another.
    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// Fails unless the answer is this error.
    #[track_caller]
    fn expect_error(self, status: u16, code: &str, message: &str) -> Self {
        let got = self.expect(status);
        assert_eq!(got.code(), code, "{got:#?}");
        assert!(got.message().contains(message), "{got:#?}");
        got
    }
}

/// So many minutes from now, as the API wants it.
fn in_minutes(minutes: i64) -> String {
    (Timestamp::now() + SignedDuration::from_mins(minutes)).to_string()
}

const fn minutes(minutes: u64) -> std::time::Duration {
    std::time::Duration::from_secs(60 * minutes)
}

fn artifact_path(claim: &stand_in::Claim, name: &str) -> String {
    let name = name.replace('/', "%2F");
    format!("/api/queue/v1/task/{}/runs/{}/artifacts/{name}", claim.task_id, claim.run_id)
}

/// An s3 request for an artifact that expires in a day.
fn s3(expires: &str) -> Value {
    json!({"storageType": "s3", "expires": expires, "contentType": "application/x-tar"})
}
