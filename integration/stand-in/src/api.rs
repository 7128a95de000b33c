//! What every API call goes through, in the services' own order: body, credentials, parameters, query, schema,
//! handler, schema of the response; and what their errors look like. The calls themselves are in the modules of the services.

use std::cell::RefCell;
use std::iter::repeat;
use std::sync::Arc;

use axum::RequestPartsExt as _;
use axum::extract::{OriginalUri, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Extension, body};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::auth::{Authentication, Caller, Signed, identify};
use crate::deployment::Deployment;
use crate::http::{header, json_response, parameters};
use crate::queue::runs::settle;
use crate::reference::ApiCall;
use crate::schema::validate;
use crate::scopes::ScopeExpression;
use crate::shared::Shared;
use crate::wire::{is_slugid, json_time, parse_time, slugid};

/// What an API call does, with the deployment for itself.
pub(crate) type Handler = fn(&mut Deployment, &ApiRequest) -> ApiResult;

/// What comes of it.
pub(crate) type ApiResult = Result<Response, ApiError>;

/// A request to a handler: all checked that could be checked without it.
pub(crate) struct ApiRequest {
    call: &'static ApiCall,
    parameters: Map<String, Value>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Value,
    caller: Caller,
    required_scopes: RefCell<Vec<String>>,
    root_url: String,
}

/// An error as the services answer it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: u16,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400, for what the schemas cannot express.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(400, "InputError", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "ResourceNotFound", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "RequestConflict", message)
    }

    /// Status and message, for those who do not come through the API.
    pub(crate) fn into_parts(self) -> (u16, String) {
        (self.status, self.message)
    }

    /// 500, as the services answer where they did not foresee something. The reason is for readers of test output.
    pub(crate) fn internal(reason: &str) -> Self {
        let message = format!("Internal Server Error, incidentId {}. Error: {reason}", slugid());
        Self::new(500, "InternalServerError", message)
    }

    fn arguments(message: String) -> Self {
        Self::new(400, "InvalidRequestArguments", message)
    }
}

pub(crate) fn get(handler: Handler) -> MethodRouter<Arc<Shared>> {
    route(MethodFilter::GET, handler)
}

pub(crate) fn put(handler: Handler) -> MethodRouter<Arc<Shared>> {
    route(MethodFilter::PUT, handler)
}

pub(crate) fn post(handler: Handler) -> MethodRouter<Arc<Shared>> {
    route(MethodFilter::POST, handler)
}

pub(crate) fn delete(handler: Handler) -> MethodRouter<Arc<Shared>> {
    route(MethodFilter::DELETE, handler)
}

fn route(method: MethodFilter, handler: Handler) -> MethodRouter<Arc<Shared>> {
    on(
        method,
        move |State(shared): State<Arc<Shared>>, Extension(call): Extension<&'static ApiCall>, request: Request| async move {
            let (mut parts, body) = request.into_parts();
            // It was read into memory when the call was logged.
            let body = body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            let Ok(path) = parts.extract::<RawPathParams>().await else {
                return (StatusCode::BAD_REQUEST, "Failed to decode param").into_response();
            };
            let values = path.iter().map(|(_, value)| value).chain(repeat(""));
            let names = call.parameters.iter();
            let parameters = names.zip(values).map(|(name, value)| (name.clone(), json!(value))).collect();
            respond(&mut shared.lock(), call, handler, parameters, &parts, &body)
        },
    )
}

fn respond(
    deployment: &mut Deployment,
    call: &'static ApiCall,
    handler: Handler,
    parameters_of_path: Map<String, Value>,
    parts: &Parts,
    body: &[u8],
) -> Response {
    // Only a body whose type is JSON is read at all; the rest, to the services, is no body.
    let is_json = is_json(&parts.headers);
    let text = if is_json { body } else { b"" };
    let OriginalUri(uri) = parts.extensions.get().cloned().unwrap_or_else(|| OriginalUri(parts.uri.clone()));
    let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
    let caller = parts.extensions.get().cloned().unwrap_or_else(|| {
        let signed = Signed { method: parts.method.as_str(), path_and_query, headers: &parts.headers, text };
        identify(deployment, &signed)
    });
    settle(deployment);
    let mut request = ApiRequest {
        call,
        parameters: parameters_of_path,
        query: uri.query().map_or(Vec::new(), parameters),
        body: json!({}),
        caller,
        required_scopes: RefCell::default(),
        root_url: deployment.root_url.clone(),
    };
    let result =
        request.read_body(text).and_then(|()| request.check(is_json)).and_then(|()| handler(deployment, &request));
    let response = result.unwrap_or_else(|error| request.error_response(&error, &json_time(deployment.now())));
    let client_id = match request.caller {
        Caller::Client { id, .. } => Some(id),
        _ => None,
    };
    let authentication = Authentication { client_id, required_scopes: request.required_scopes.into_inner() };
    let no_store = [("cache-control", "no-store, no-cache, must-revalidate")];
    (Extension(authentication), no_store, response).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = header(headers, "content-type").and_then(|kind| kind.split(';').next());
    content_type.is_some_and(|kind| kind.trim() == "application/json")
}

/// The response to a path that no call has.
pub(crate) fn not_found() -> Response {
    json_response(StatusCode::NOT_FOUND, &json!({"error": "Not found"}))
}

impl ApiRequest {
    /// A parameter of the path; empty when the route has none of that name.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.parameters.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The run of the path, if the route has one.
    pub(crate) fn run_id(&self) -> Option<u32> {
        self.param("runId").parse().ok()
    }

    /// A property of the body that the schema requires.
    pub(crate) fn text(&self, property: &str) -> &str {
        self.body[property].as_str().unwrap_or_default()
    }

    /// A time of the body that the schema requires.
    pub(crate) fn time(&self, property: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.text(property)).ok_or_else(|| ApiError::internal("the schema lets bad times pass"))
    }

    /// The caller's scopes.
    pub(crate) fn given(&self) -> &[String] {
        match &self.caller {
            Caller::Failed(_) => &[],
            Caller::Anonymous { scopes } | Caller::Client { scopes, .. } => scopes,
        }
    }

    /// Refuses callers that lack what the reference requires, with the values that its template needs.
    pub(crate) fn authorize(&self, values: &Value) -> Result<(), ApiError> {
        let template = self.call.scopes.as_ref();
        let required = template.and_then(|template| ScopeExpression::expand(template, values));
        let required = required.ok_or_else(|| ApiError::internal("the scopes of this call need other values"))?;
        let id = match &self.caller {
            Caller::Failed(message) => return Err(ApiError::new(401, "AuthenticationFailed", message)),
            Caller::Anonymous { .. } => None,
            Caller::Client { id, .. } => Some(id),
        };
        let given = self.given();
        for scope in required.scopes(given) {
            let mut all = self.required_scopes.borrow_mut();
            if !all.contains(&scope) {
                all.push(scope);
            }
        }
        let Some(missing) = required.missing(given) else { return Ok(()) };
        let whole = format!("satisfy the following scope expression:\n\n```\n{required}\n```");
        let message = match id {
            Some(id) => format!(
                "Client ID {id} does not have sufficient scopes and is missing the following scopes:\n\n\
                 ```\n{missing}\n```\n\nThis request requires the client to {whole}"
            ),
            None => format!("This request requires Taskcluster credentials that {whole}"),
        };
        Err(ApiError::new(403, "InsufficientScopes", message))
    }

    /// A response that the reference allows; any other is an internal error, as in the services.
    pub(crate) fn reply(&self, mut value: Value) -> ApiResult {
        if let Some(schema) = &self.call.output {
            let valid = validate(schema, &mut value, &self.root_url);
            valid.map_err(|error| ApiError::internal(&format!("Output schema validation error: {error}")))?;
        }
        Ok(json_response(StatusCode::OK, &value))
    }

    fn read_body(&mut self, text: &[u8]) -> Result<(), ApiError> {
        if text.is_empty() {
            return Ok(());
        }
        let malformed =
            |reason: &str| ApiError::new(400, "MalformedPayload", format!("Failed to parse JSON: {reason}"));
        self.body = serde_json::from_slice(text).map_err(|error| malformed(&error.to_string()))?;
        if !self.body.is_object() && !self.body.is_array() {
            return Err(malformed("Must be an object or array"));
        }
        Ok(())
    }

    /// The order matters: the scopes that the path alone decides about come before anything that is wrong with it.
    fn check(&mut self, is_json: bool) -> Result<(), ApiError> {
        let of_path = Value::Object(self.parameters.clone());
        if self.call.scopes.as_ref().is_some_and(|template| ScopeExpression::expand(template, &of_path).is_some()) {
            self.authorize(&of_path)?;
        }
        let parameters = self.parameters.iter().map(|(name, value)| (name, value.as_str().unwrap_or_default()));
        let bad: Vec<String> = parameters.filter_map(|(name, value)| bad_param(name, value)).collect();
        if !bad.is_empty() {
            return Err(ApiError::arguments(format!("Invalid URL patterns:\n{}", bad.join("\n"))));
        }
        let bad: Vec<String> = self.query.iter().filter_map(|(name, value)| self.bad_query(name, value)).collect();
        if !bad.is_empty() {
            return Err(ApiError::arguments(bad.join("\n")));
        }
        let Some(schema) = &self.call.input else { return Ok(()) };
        if !is_json {
            let message = "Payload must be JSON with content-type: application/json";
            return Err(ApiError::new(400, "MalformedPayload", message));
        }
        validate_input(schema, &mut self.body, &self.root_url)
    }

    fn bad_query(&self, name: &str, value: &str) -> Option<String> {
        let is_known = self.call.query.iter().any(|known| known == name);
        let good = match name {
            "bewit" => true,
            "limit" if is_known => !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()),
            "continuationToken" if is_known => !value.is_empty(),
            _ => return Some(format!("Query-string parameter: {name} is not supported!")),
        };
        (!good).then(|| format!("Query-string parameter: {name}=\"{value}\" does not match expression"))
    }

    fn error_response(&self, error: &ApiError, time: &str) -> Response {
        let ApiError { status, code, message } = error;
        let name = &self.call.name;
        let message = format!(
            "{message}\n\n---\n\n* method:     {name}\n* errorCode:  {code}\n* statusCode: {status}\n* time:       {time}"
        );
        let body = json!({
            "code": code,
            "message": message,
            "requestInfo": {"method": name, "params": self.parameters, "payload": self.body, "time": time},
        });
        let status = StatusCode::from_u16(*status).expect("a status of this file");
        let challenge = (status == StatusCode::UNAUTHORIZED).then_some([("www-authenticate", "hawk")]);
        (challenge, json_response(status, &body)).into_response()
    }
}

/// The call that every service has.
pub(crate) fn ping(_: &mut Deployment, request: &ApiRequest) -> ApiResult {
    request.reply(json!({"alive": true, "uptime": 1}))
}

/// Refuses a body that does not match its schema, and gives it that schema's defaults.
pub(crate) fn validate_input(schema: &str, body: &mut Value, root_url: &str) -> Result<(), ApiError> {
    validate(schema, body, root_url).map_err(|error| ApiError::new(400, "InputValidationError", error))
}

/// Whether the index takes it for a namespace.
pub(crate) fn is_namespace(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_!~*'()%-".contains(&b));
    text.split('.').all(is_part)
}

/// What is wrong with a parameter of the path, by its name.
fn bad_param(name: &str, value: &str) -> Option<String> {
    let good = match name {
        "taskId" | "taskGroupId" => is_slugid(value),
        "runId" => !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()),
        "name" => !value.is_empty() && value.bytes().all(|b| (0x20..=0x7e).contains(&b)),
        "namespace" | "indexPath" => is_namespace(value),
        _ => true,
    };
    (!good).then(|| format!("URL parameter '{name}' given as '{value}' must match regular expression"))
}
