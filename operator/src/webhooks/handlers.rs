//! The two webhooks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use osm_admission::{
    Injection, InjectorConfig, InjectorDefaults, Membership, ObjectAdmission, Operation, PodAdmission, RoleChange,
    Verdict, World, inject, validate,
};
use osm_api::{Kind, Role};
use osm_issuer::rotation;
use tokio::sync::watch;
use tokio::time::timeout;

use super::configuration::{MUTATING_PATH, VALIDATING_PATH};
use super::metrics::{Outcome, Webhook, WebhookMetrics};
use super::review::{self, AdmissionRequest, Answer};

/// Longest request. The API server accepts objects of 3 MiB, and a request may hold an old and a new one.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// How long a request may take to arrive.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait for the watch of Namespaces to catch up with a Pod in a new one. Within the API server's own limit.
const NAMESPACE_WITHIN: Duration = Duration::from_secs(2);

/// What the webhooks answer from.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// The cluster; nothing until everything has been read once.
    pub world: watch::Receiver<Option<Arc<World>>>,
    /// What the control plane was started with.
    pub defaults: Arc<InjectorDefaults>,
    /// Counts.
    pub metrics: WebhookMetrics,
}

impl Webhooks {
    /// The routes.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route(
                MUTATING_PATH,
                post(|State(webhooks): State<Self>, request| webhooks.serve(Webhook::Mutating, request)),
            )
            .route(
                VALIDATING_PATH,
                post(|State(webhooks): State<Self>, request| webhooks.serve(Webhook::Validating, request)),
            )
            .with_state(self)
    }

    async fn serve(self, webhook: Webhook, request: Request) -> Response {
        let body = match body(request.into_body()).await {
            Ok(body) => body,
            Err((status, message)) => return self.refuse(webhook, Instant::now(), status, &message),
        };
        let started = Instant::now();
        let request = match review::read(&body) {
            Ok(request) => request,
            Err(message) => return self.refuse(webhook, started, StatusCode::BAD_REQUEST, &message),
        };
        let operation = match request.operation() {
            Ok(operation) => operation,
            Err(message) => return self.refuse(webhook, started, StatusCode::BAD_REQUEST, &message),
        };
        let Some(world) = self.world.borrow().clone() else {
            let message = "the control plane has not read the cluster yet; try again";
            return self.refuse(webhook, started, StatusCode::SERVICE_UNAVAILABLE, message);
        };
        let (uid, kind) = (request.uid.clone(), kind_label(&request));
        let (answer, outcome) = match webhook {
            Webhook::Mutating => self.mutate(request, operation).await,
            Webhook::Validating => judge(request, operation, &world),
        };
        self.metrics.answered(webhook, kind, outcome, started.elapsed());
        let answer = answer.review(&uid).to_string();
        ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
    }

    /// Says what is wrong with a request that cannot be answered.
    fn refuse(&self, webhook: Webhook, started: Instant, status: StatusCode, message: &str) -> Response {
        let outcome = match status {
            StatusCode::SERVICE_UNAVAILABLE => Outcome::Unavailable,
            _ => Outcome::Invalid,
        };
        tracing::warn!(status = status.as_u16(), message, "cannot answer an admission request");
        self.metrics.answered(webhook, OTHER, outcome, started.elapsed());
        (status, format!("{message}\n")).into_response()
    }

    async fn mutate(&self, request: AdmissionRequest, operation: Operation) -> (Answer, Outcome) {
        let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
        let is_whole = request.sub_resource.as_deref().unwrap_or_default().is_empty();
        if !is_pod || !is_whole || operation != Operation::Create {
            // Whoever sends these here has a wrong configuration; that is no reason to hold the cluster up.
            let message = format!(
                "{} takes Pods that are created; a {} passes as it is, correct the rules of the MutatingWebhookConfiguration",
                MUTATING_PATH, request.kind.kind
            );
            let warnings = if is_pod { Vec::new() } else { vec![message] };
            return (Answer::Allow { patch: json_patch::Patch(Vec::new()), warnings }, Outcome::Skipped);
        }
        let (Some(namespace), Some(pod)) = (request.namespace, request.object) else {
            let message = "request.namespace or request.object of the Pod is missing".to_owned();
            return (Answer::Deny { code: 400, message }, Outcome::Denied);
        };
        let Some(world) = self.world_with(&namespace).await else {
            let message = format!("Namespace {namespace:?} is not known to the mesh yet; try again");
            return (Answer::Deny { code: 503, message }, Outcome::Unavailable);
        };
        let review = PodAdmission { uid: request.uid, namespace, pod };
        let config = InjectorConfig::new((*self.defaults).clone(), world.mesh_config());
        let settings = world.namespace(&review.namespace).cloned().unwrap_or_default();
        match inject(&review, &settings, &config) {
            Injection::Skip(reason) => {
                tracing::debug!(namespace = review.namespace, %reason, "a pod gets no sidecar");
                (Answer::allow(), Outcome::Skipped)
            }
            Injection::Patch { patch, warnings } => {
                tracing::debug!(namespace = review.namespace, uid = review.uid, "a pod gets a sidecar");
                (Answer::Allow { patch, warnings }, Outcome::Injected)
            }
            Injection::Refuse(refusal) => {
                let message = refusal.to_string();
                tracing::info!(message, "a pod is refused");
                (Answer::Deny { code: 422, message }, Outcome::Denied)
            }
        }
    }

    /// The world in which the Namespace is as the API server has it: it asks only about members of the mesh, so one that
    /// is not known as such has changed a moment ago.
    async fn world_with(&self, namespace: &str) -> Option<Arc<World>> {
        let mut world = self.world.clone();
        let is_member = |world: &Option<Arc<World>>| {
            let settings = world.as_ref().and_then(|world| world.namespace(namespace));
            settings.is_some_and(|settings| settings.membership == Membership::Member)
        };
        let waited = timeout(NAMESPACE_WITHIN, world.wait_for(is_member)).await;
        drop(waited);
        let latest = self.world.borrow().clone();
        latest.filter(|world| world.namespace(namespace).is_some())
    }
}

fn judge(request: AdmissionRequest, operation: Operation, world: &World) -> (Answer, Outcome) {
    if !request.sub_resource.as_deref().unwrap_or_default().is_empty() {
        return (Answer::allow(), Outcome::Allowed);
    }
    let review = ObjectAdmission {
        operation,
        namespace: request.namespace.unwrap_or_default(),
        object: request.object,
        old_object: request.old_object,
    };
    let namespace = world.control_plane_namespace();
    let rules = |roles: &BTreeMap<&str, Role>, change: RoleChange<'_>| admissible(namespace, roles, change);
    match validate(&review, world, &rules) {
        Verdict::Allow { warnings } => {
            (Answer::Allow { patch: json_patch::Patch(Vec::new()), warnings }, Outcome::Allowed)
        }
        Verdict::Deny { message } => {
            tracing::info!(kind = request.kind.kind, name = request.name, message, "an object is refused");
            (Answer::Deny { code: 422, message }, Outcome::Denied)
        }
    }
}

/// The rules by which roots are rotated, asked of roots in `namespace`.
fn admissible(namespace: &str, roles: &BTreeMap<&str, Role>, change: RoleChange<'_>) -> Result<(), String> {
    let name = |name: &str| rotation::RootName::new(namespace, name);
    let role = |role| match role {
        Role::Active => rotation::Role::Active,
        Role::Passive => rotation::Role::Passive,
        Role::Inactive => rotation::Role::Inactive,
    };
    let before = roles.iter().map(|(of, plays)| (name(of), role(*plays))).collect();
    let change = match change {
        RoleChange::Create(of, plays) => rotation::RoleChange::Create(name(of), role(plays)),
        RoleChange::Update(of, plays) => rotation::RoleChange::Update(name(of), role(plays)),
    };
    rotation::admissible(&before, &change).map_err(|error| error.to_string())
}

/// Label of kinds that are not ours.
const OTHER: &str = "other";

fn kind_label(request: &AdmissionRequest) -> &'static str {
    Kind::of(&request.kind.group, &request.kind.kind).map_or(OTHER, Kind::as_str)
}

/// The whole body.
async fn body(body: Body) -> Result<Bytes, (StatusCode, String)> {
    let whole = timeout(READ_WITHIN, Limited::new(body, MAX_REQUEST_BYTES).collect()).await.map_err(|_| {
        let message = format!("the request did not arrive within {} seconds", READ_WITHIN.as_secs());
        (StatusCode::REQUEST_TIMEOUT, message)
    })?;
    whole.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the request is longer than {MAX_REQUEST_BYTES} bytes; make the object smaller");
            (StatusCode::PAYLOAD_TOO_LARGE, message)
        } else {
            (StatusCode::BAD_REQUEST, format!("the request broke off: {error}"))
        }
    })
}
