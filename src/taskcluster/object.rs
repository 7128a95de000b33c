//! The object service, limited to one upload: request the URL for the PUT, and report the end of the upload.

use std::collections::BTreeMap;

use serde::Deserialize;
use taskcluster::Credentials;

use super::{CallError, answer, builder, call};
use crate::net::retry::RetryConfig;
use crate::net::{Digest, HttpUrl};
use crate::taskcluster::{Access, Deployment};

/// The object service with the credentials of one upload.
pub struct Object {
    client: taskcluster::Object,
    retry: RetryConfig,
}

/// What the queue hands out for an upload through the object service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectUpload {
    /// The object's name.
    pub name: String,
    /// The project that the object belongs to.
    pub project_id: String,
    /// Names this upload until it is finished.
    pub upload_id: String,
    /// Must be sent to the object service as it came.
    pub expires: String,
    /// Allowed to do this upload and nothing else; a secret.
    pub credentials: UploadCredentials,
}

/// Credentials that do not print themselves.
#[derive(Clone, Deserialize)]
pub struct UploadCredentials(Credentials);

impl std::fmt::Debug for UploadCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UploadCredentials({})", self.0.client_id)
    }
}

/// A signed PUT request.
#[derive(Debug, Deserialize)]
pub struct PutUrl {
    /// Valid for 45 minutes; a secret.
    pub url: HttpUrl,
    /// Bound by the signature: exactly these must be sent.
    pub headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadAnswer {
    upload_method: UploadMethod,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadMethod {
    put_url: PutUrl,
}

impl Object {
    /// Calls the deployment directly: taskcluster-proxy would replace the signature with the task's own, which the object service
    /// refuses.
    pub(super) fn new(deployment: &Deployment, upload: &ObjectUpload) -> Result<Self, CallError> {
        let credentials = upload.credentials.0.clone();
        let direct = Deployment { access: Access::Anonymous, ..deployment.clone() };
        let client = taskcluster::Object::new(builder(&direct).credentials(credentials))
            .map_err(|error| CallError::setup("object", &error))?;
        Ok(Self { client, retry: deployment.retry })
    }

    /// Requests the URL for the PUT. Repeated with the same upload, it returns a fresh URL.
    pub async fn create_upload(
        &self,
        upload: &ObjectUpload,
        content_type: &str,
        size: u64,
    ) -> Result<PutUrl, CallError> {
        const CALL: &str = "object.createUpload";
        let payload = serde_json::json!({
            "projectId": upload.project_id,
            "uploadId": upload.upload_id,
            "expires": upload.expires,
            "proposedUploadMethods": { "putUrl": { "contentType": content_type, "contentLength": size } },
        });
        let json = call(self.retry, CALL, &upload.name, || self.client.createUpload(&upload.name, &payload)).await?;
        Ok(answer::<UploadAnswer>(CALL, &upload.name, json)?.upload_method.put_url)
    }

    /// Declares the object complete; it is handed out with this sha256 from now on.
    pub async fn finish_upload(&self, upload: &ObjectUpload, sha256: Digest) -> Result<(), CallError> {
        let payload = serde_json::json!({
            "projectId": upload.project_id,
            "uploadId": upload.upload_id,
            "hashes": { "sha256": sha256 },
        });
        call(self.retry, "object.finishUpload", &upload.name, || self.client.finishUpload(&upload.name, &payload)).await
    }
}
