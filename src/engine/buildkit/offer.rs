//! Offers cache images to BuildKit on a containerd image store. There BuildKit looks up such an image in a registry only, and
//! would send the name of a local image to a public registry. So this module runs a registry on the loopback device and offers
//! the engine's images under names in it. The registry has the images' documents and nothing else; BuildKit already has the
//! layers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info};

use crate::engine::containerd::is_containerd;
use crate::engine::{Engine, StorageError};
use crate::net::ImageId;
use crate::report::ErrorChain;

/// The repository of every image in this registry. The digest identifies the image.
const NAME: &str = "image-worker/cache";

/// The images that a build may take cached steps from. The engine can use their names as long as this value exists.
pub(in crate::engine) struct Offer {
    /// The names for the build request.
    pub(in crate::engine) names: Vec<String>,
    serving: Option<JoinHandle<()>>,
}

/// Why no image is offered.
#[derive(Debug, thiserror::Error)]
enum OfferError {
    #[error("the engine does not say how it keeps images")]
    Store(#[source] Box<dyn Error + Send + Sync>),
    #[error(
        "with this image store BuildKit takes steps from registries only, and what one would say of {name} cannot be read"
    )]
    Unread { name: String, source: Box<dyn Error + Send + Sync> },
    #[error("nothing can listen on the loopback device")]
    Listen(#[source] io::Error),
}

/// The media type in a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
}

/// Documents by their digests, as `sha256:…`.
type Documents = HashMap<String, Vec<u8>>;

impl Engine {
    /// Offers images to a build, by their names in the engine. If that is not possible, logs the reason and offers none.
    pub(in crate::engine) async fn offer(&self, names: Vec<String>, by_buildkit: bool) -> Offer {
        if names.is_empty() {
            return Offer { names, serving: None };
        }
        if !by_buildkit {
            if !self.keeps_manifests().await {
                return Offer { names, serving: None };
            }
            info!(
                "building without a layer cache: Docker's classic builder cannot take steps with containerd's image store"
            );
            return Offer { names: Vec::new(), serving: None };
        }
        self.offer_to_buildkit(names).await.unwrap_or_else(|error| {
            info!("building without a layer cache: {}", ErrorChain(&error));
            Offer { names: Vec::new(), serving: None }
        })
    }

    async fn offer_to_buildkit(&self, names: Vec<String>) -> Result<Offer, OfferError> {
        let info = self.client.info().await.map_err(|error| OfferError::Store(error.into()))?;
        if !is_containerd(&info) {
            return Ok(Offer { names, serving: None });
        }
        let (mut documents, mut ids) = (Documents::new(), Vec::new());
        for name in &names {
            let unread = |source| OfferError::Unread { name: name.clone(), source };
            let id = self.inspect(name).await.map_err(|error| unread(error.into()))?.id;
            let id = id.as_deref().and_then(ImageId::in_answer);
            let id = id.ok_or_else(|| unread(StorageError::Unknown("by ids that are no sums".to_owned()).into()))?;
            let known = self.stored_documents(id).await.map_err(|error| unread(error.into()))?;
            documents.extend(known.into_iter().map(|it| (it.digest.prefixed(), it.text)));
            ids.push(id.to_string());
        }
        serve(documents, &ids).await.map_err(OfferError::Listen)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn serve(documents: Documents, ids: &[String]) -> io::Result<Offer> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let place = listener.local_addr()?;
    debug!("a registry at {place} has the documents of {}", ids.join(", "));
    let documents = Arc::new(documents);
    let serving = tokio::spawn(async move {
        // The connections end with this task.
        let mut connections = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
            let documents = Arc::clone(&documents);
            let service = service_fn(move |request| {
                let response = answer(&documents, &request);
                async { Ok::<_, Infallible>(response) }
            });
            // BuildKit may send a TLS handshake first, which is not HTTP. It then tries again without TLS.
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
        }
    });
    // The name has the digest, so that another process on this port cannot serve another image.
    let names = ids.iter().map(|id| format!("{place}/{NAME}@{id}")).collect();
    Ok(Offer { names, serving: Some(serving) })
}

/// Serves a document only to a client that knows its digest.
fn answer(documents: &Documents, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().strip_prefix("/v2/").and_then(|path| path.strip_prefix(NAME)).unwrap_or_default();
    let digest = path.strip_prefix("/manifests/").or_else(|| path.strip_prefix("/blobs/"));
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let Some((digest, text)) = digest.filter(|_| is_read).and_then(|digest| documents.get_key_value(digest)) else {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let media_type = serde_json::from_slice(text).ok().and_then(|document: Document| document.media_type);
    let kind = media_type.and_then(|kind| HeaderValue::try_from(kind).ok());
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
    let mut response = Response::new(Full::from(text.clone()));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if let Ok(digest) = HeaderValue::try_from(digest) {
        response.headers_mut().insert("docker-content-digest", digest);
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::net::Digest;

    #[tokio::test]
    async fn documents_are_told_by_their_digests_and_tls_is_answered_in_http() {
        let (text, kind) = (r#"{"mediaType":"application/manifest"}"#, "content-type: application/manifest\r\n");
        let [id, other] = [text, "other"].map(|text| Digest::of(text.as_bytes()).prefixed());
        let offer = serve(Documents::from([(id.clone(), text.into())]), std::slice::from_ref(&id)).await.unwrap();
        let (place, rest) = offer.names[0].split_once('/').unwrap();
        assert!(place.starts_with("127.0.0.1:"), "{place}");
        let name = rest.strip_suffix(&format!("@{id}")).unwrap();
        let ask = async |bytes: &[u8]| {
            let mut connection = TcpStream::connect(place).await.unwrap();
            connection.write_all(bytes).await.unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let http = async |method: &str, path: &str| {
            ask(format!("{method} /v2/{path} HTTP/1.1\r\nhost: {place}\r\nconnection: close\r\n\r\n").as_bytes()).await
        };
        for place in ["manifests", "blobs"] {
            let answer = http("GET", &format!("{name}/{place}/{id}")).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(kind) && answer.ends_with(text), "{answer}");
            let answer = http("HEAD", &format!("{name}/{place}/{id}")).await;
            let length = format!("content-length: {}\r\n", text.len());
            assert!(answer.contains(&length) && answer.ends_with("\r\n\r\n"), "{answer}");
            for (method, path) in [("GET", format!("{name}/{place}/{other}")), ("PUT", format!("{name}/{place}/{id}"))]
            {
                assert!(http(method, &path).await.starts_with("HTTP/1.1 404 "), "{method} {path}");
            }
        }
        for path in ["", "_catalog", &format!("{name}/tags/list"), &format!("another/manifests/{id}")] {
            assert!(http("GET", path).await.starts_with("HTTP/1.1 404 "), "{path}");
        }
        let hello = b"\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03";
        assert!(ask(hello).await.starts_with("HTTP/1.1 400 "));
    }
}
