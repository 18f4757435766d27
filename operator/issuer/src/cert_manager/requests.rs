//! CertificateRequests on the API server: made, looked at, and taken away again whatever happens.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_crds_cert_manager::{
    CertificateRequest as Object, CertificateRequestIssuerRef as IssuerReference, CertificateRequestSpec as Spec,
};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::config::CertManagerConfig;
use crate::error::IssueError;
use crate::issuer::CertificateRequest;
use crate::pem;
use crate::validity::LeafValidity;

/// Label of our CertificateRequests; those that people or other programs make lack it.
const OURS: (&str, &str) = ("openservicemesh.io/leaf-request", "true");
/// Older ones are nobody's: no request takes so long, and clocks may differ by some minutes.
const LEFT_OVER_AFTER: time::Duration = time::Duration::minutes(15);
/// How long taking one away may take.
const DELETE_WITHIN: Duration = Duration::from_secs(5);

/// The CertificateRequests of the control plane's namespace.
///
/// They are read without a schema: one field that another version of cert-manager writes differently must not hide the rest.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    api: Api<DynamicObject>,
    resource: ApiResource,
    labels: BTreeMap<String, String>,
}

/// Why the API server gave no answer to go by.
#[derive(Debug)]
pub(super) enum CallError {
    Client(kube::Error),
    TimedOut,
}

impl Requests {
    pub(super) fn new(config: &CertManagerConfig) -> Self {
        let resource = ApiResource::erase::<Object>(&());
        let api = Api::namespaced_with(config.client.clone(), &config.namespace, &resource);
        let mut labels = config.labels.clone();
        labels.insert(OURS.0.to_owned(), OURS.1.to_owned());
        Self { api, resource, labels }
    }

    /// Creates the CertificateRequest `name`.
    pub(super) async fn create(&self, name: &str, spec: Spec, until: Instant) -> Result<(), CallError> {
        let mut object = DynamicObject::new(name, &self.resource);
        object.metadata.labels = Some(self.labels.clone());
        let spec = serde_json::to_value(spec).map_err(|error| CallError::Client(kube::Error::SerdeError(error)))?;
        object.data = serde_json::json!({ "spec": spec });
        within(until, self.api.create(&PostParams::default(), &object)).await.map(drop)
    }

    pub(super) async fn get(&self, name: &str, until: Instant) -> Result<Value, CallError> {
        within(until, self.api.get(name)).await.map(|object| object.data)
    }

    /// Takes a CertificateRequest away. One that stays is found by [`Self::remove_left_over`].
    pub(super) async fn delete(&self, name: &str) {
        let deleted = within(Instant::now() + DELETE_WITHIN, self.api.delete(name, &DeleteParams::default())).await;
        match deleted {
            Ok(_) => {}
            Err(error) if error.code() == Some(404) => {}
            Err(error) => tracing::warn!(
                certificate_request = name,
                "a CertificateRequest stays until the next look at the issuer: {error}"
            ),
        }
    }

    /// Takes away what a process left that did not live to do it.
    pub(super) async fn remove_left_over(&self, now: OffsetDateTime, until: Instant) -> Result<(), CallError> {
        let selector: Vec<_> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let listed = within(until, self.api.list(&ListParams::default().labels(&selector.join(",")))).await?;
        for object in listed.items {
            let made = object.metadata.creation_timestamp.and_then(|made| seconds(made.0.as_second()));
            if let (Some(made), Some(name)) = (made, object.metadata.name)
                && now - made > LEFT_OVER_AFTER
            {
                self.delete(&name).await;
            }
        }
        Ok(())
    }

    /// A promise to take `name` away, also if its holder is dropped.
    pub(super) fn hold(&self, name: &str) -> Held {
        Held { requests: Some(self.clone()), name: name.to_owned() }
    }
}

fn seconds(since_epoch: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(since_epoch).ok()
}

/// A CertificateRequest that may exist.
#[derive(Debug)]
pub(super) struct Held {
    requests: Option<Requests>,
    name: String,
}

impl Held {
    /// Takes the CertificateRequest away.
    pub(super) async fn release(mut self) {
        if let Some(requests) = &self.requests {
            requests.delete(&self.name).await;
        }
        self.requests = None;
    }
}

impl Drop for Held {
    /// The caller did not wait for the answer.
    fn drop(&mut self) {
        if let (Some(requests), Ok(runtime)) = (self.requests.take(), tokio::runtime::Handle::try_current()) {
            let name = std::mem::take(&mut self.name);
            runtime.spawn(async move { requests.delete(&name).await });
        }
    }
}

/// The `spec` for `request`, valid for `validity`.
pub(super) fn spec(
    config: &CertManagerConfig,
    request: &CertificateRequest,
    validity: Duration,
) -> Result<Spec, IssueError> {
    let pem = pem::certificate_request(&request.csr()?);
    Ok(Spec {
        // A Go duration.
        duration: Some(format!("{}s", validity.as_secs())),
        is_ca: Some(false),
        issuer_ref: IssuerReference {
            group: Some(config.issuer_group.clone()),
            kind: Some(config.issuer_kind.as_str().to_owned()),
            name: config.issuer_name.clone(),
        },
        request: STANDARD.encode(pem),
        usages: Some(usages(request.is_rsa()).into_iter().map(str::to_owned).collect()),
        ..Spec::default()
    })
}

/// cert-manager refuses a request whose usages are not those of its CSR, which depend on the key.
fn usages(rsa: bool) -> Vec<&'static str> {
    let mut usages = vec!["digital signature", "server auth", "client auth"];
    if rsa {
        usages.insert(1, "key encipherment");
    }
    usages
}

/// What is asked for on trial is not for use.
pub(super) const TRIAL_VALIDITY: LeafValidity = LeafValidity::MIN;

/// Runs a call until `until` at the latest.
pub(super) async fn within<T>(
    until: Instant,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout_at(until, call).await {
        Ok(answer) => answer.map_err(CallError::Client),
        Err(_) => Err(CallError::TimedOut),
    }
}

impl CallError {
    /// Status code, if the API server answered.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Client(kube::Error::Api(status)) => Some(status.code),
            Self::Client(_) | Self::TimedOut => None,
        }
    }

    /// After how long the API server wants to be asked again, if it said.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let Self::Client(kube::Error::Api(status)) = self else { return None };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }

    /// Whether the same call may succeed in a moment.
    pub(super) fn is_passing(&self) -> bool {
        self.code().is_none_or(|code| code == 429 || code >= 500)
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(kube::Error::Api(status)) => write!(f, "{} ({})", status.message, status.code),
            Self::Client(error) => write!(f, "{error}"),
            Self::TimedOut => f.write_str("the API server did not answer in time"),
        }
    }
}
