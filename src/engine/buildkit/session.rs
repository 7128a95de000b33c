//! Serves BuildKit's session: a connection on which the engine sends requests to us during a build. It requests our health,
//! secrets by their ids, and credentials for registries.

use std::collections::BTreeMap;

use bollard::grpc::BuildRef;
use bollard::health::health_check_response::ServingStatus;
use bollard::health::health_server::{Health, HealthServer};
use bollard::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use futures_util::stream::Empty;
use hyper_util::rt::TokioExecutor;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::engine::BuildSecrets;
use crate::engine::build::pulling::Access;
use crate::engine::connection::address::Address;
use crate::engine::connection::client::{ConnectionError, upgrade};
use crate::net::registry::Login;

/// A session. Dropping it ends it, and with it a build that still uses it.
pub(in crate::engine) struct Session {
    id: String,
    serving: JoinHandle<()>,
}

impl Session {
    /// Opens a session with the engine at `place` and serves it.
    pub(in crate::engine) async fn open(
        place: &Address,
        secrets: &BuildSecrets,
        access: &Access,
    ) -> Result<Self, ConnectionError> {
        let id: String = BuildRef::random().into();
        let method = |name: &str| ("x-docker-expose-session-grpc-method", name.to_owned());
        let headers = [
            ("x-docker-expose-session-uuid", id.clone()),
            ("x-docker-expose-session-name", "image-worker".to_owned()),
            method("/grpc.health.v1.Health/Check"),
            method("/moby.buildkit.secrets.v1.Secrets/GetSecret"),
            method("/moby.filesync.v1.Auth/Credentials"),
        ];
        let connection = upgrade(place, "/session", &headers).await?;
        let secrets_service = SecretsServer::new(SecretsService { secrets: secrets.values().clone() });
        let auth_service = AuthServer::new(AuthService(access.clone()));
        let routes = TowerToHyperService::new(
            Routes::new(secrets_service).add_service(HealthServer::new(HealthService)).add_service(auth_service),
        );
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let serving = tokio::spawn(async move {
            // The connection ends with the build. A build that still needs it reports an error itself.
            drop(server.serve_connection(connection, routes).await);
        });
        Ok(Self { id, serving })
    }

    /// The session's id, which a build request refers to.
    pub(in crate::engine) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct SecretsService {
    secrets: BTreeMap<String, Vec<u8>>,
}

#[tonic::async_trait]
impl Secrets for SecretsService {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = &request.get_ref().id;
        match self.secrets.get(id) {
            Some(value) => Ok(Response::new(GetSecretResponse { data: value.clone() })),
            // BuildKit continues without the secret if the Dockerfile does not say `required`.
            None => Err(Status::not_found(format!("no secret has the id {id}"))),
        }
    }
}

/// Serves credentials for registries. BuildKit requests them before it connects to a registry.
struct AuthService(Access);

#[tonic::async_trait]
impl Auth for AuthService {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let found = self.0.credentials(&request.get_ref().host).await;
        let (username, secret) = match found.map(|found| found.login) {
            Some(Login::Password { username, password }) => (username, password),
            Some(Login::IdentityToken(token)) => (String::new(), token),
            None => Default::default(),
        };
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    // With the methods below a client can sign in for BuildKit, without giving it a password. Here BuildKit has the password.

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("BuildKit signs in by itself"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("BuildKit signs in by itself"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("BuildKit signs in by itself"))
    }
}

struct HealthService;

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("nobody lists us"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches us"))
    }
}
