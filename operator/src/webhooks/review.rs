//! AdmissionReviews: what the API server asks, and what it is answered. Version `admission.k8s.io/v1`.

use osm_admission::Operation;
use serde::Deserialize;
use serde_json::{Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<AdmissionRequest>,
}

/// `request` of an AdmissionReview, as far as it is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdmissionRequest {
    pub(super) uid: String,
    pub(super) kind: GroupVersionKind,
    operation: String,
    #[serde(default)]
    pub(super) sub_resource: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) object: Option<Value>,
    #[serde(default)]
    pub(super) old_object: Option<Value>,
}

/// The kind of the object.
#[derive(Debug, Deserialize)]
pub(super) struct GroupVersionKind {
    #[serde(default)]
    pub(super) group: String,
    pub(super) kind: String,
}

impl AdmissionRequest {
    /// What happens to the object.
    ///
    /// # Errors
    /// It is none of the four things that can.
    pub(super) fn operation(&self) -> Result<Operation, String> {
        match self.operation.as_str() {
            "CREATE" => Ok(Operation::Create),
            "UPDATE" => Ok(Operation::Update),
            "DELETE" => Ok(Operation::Delete),
            "CONNECT" => Ok(Operation::Connect),
            other => Err(format!("request.operation: {other:?} is none of CREATE, UPDATE, DELETE and CONNECT")),
        }
    }
}

/// Reads a review.
///
/// # Errors
/// What is wrong with it, with the path of the field.
pub(super) fn read(body: &[u8]) -> Result<AdmissionRequest, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let review: Review = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| format!("the body is no AdmissionReview: {}: {}", error.path(), error.inner()))?;
    json.end().map_err(|error| format!("the body is no AdmissionReview: {error}"))?;
    if review.api_version != API_VERSION || review.kind != KIND {
        let (version, kind) = (review.api_version, review.kind);
        return Err(format!("the body is a {version} {kind}, not an {API_VERSION} {KIND}"));
    }
    let request = review.request.ok_or("request is missing")?;
    if request.uid.is_empty() {
        return Err("request.uid is empty, so there is nothing to answer to".to_owned());
    }
    Ok(request)
}

/// What the API server is told.
#[derive(Debug)]
pub(super) enum Answer {
    /// The object is stored, changed by the patch if there is one.
    Allow {
        /// The change; an empty one is none.
        patch: json_patch::Patch,
        /// Shown to the author, one line each.
        warnings: Vec<String>,
    },
    /// The object is not stored.
    Deny {
        /// HTTP status that the author sees.
        code: u16,
        /// The reason in words.
        message: String,
    },
}

impl Answer {
    /// Stored as it is, without a word.
    pub(super) fn allow() -> Self {
        Self::Allow { patch: json_patch::Patch(Vec::new()), warnings: Vec::new() }
    }

    /// The whole answer.
    pub(super) fn review(&self, uid: &str) -> Value {
        let response = match self {
            Self::Allow { patch, warnings } => allowed(uid, patch, warnings),
            Self::Deny { code, message } => {
                json!({ "uid": uid, "allowed": false, "status": { "code": code, "message": message } })
            }
        };
        json!({ "apiVersion": API_VERSION, "kind": KIND, "response": response })
    }
}

fn allowed(uid: &str, patch: &json_patch::Patch, warnings: &[String]) -> Value {
    use base64::Engine as _;
    let mut response = json!({ "uid": uid, "allowed": true });
    if !patch.0.is_empty() {
        let text = serde_json::to_vec(patch).unwrap_or_default();
        response["patchType"] = "JSONPatch".into();
        response["patch"] = base64::engine::general_purpose::STANDARD.encode(text).into();
    }
    if !warnings.is_empty() {
        response["warnings"] = warnings.into();
    }
    response
}
