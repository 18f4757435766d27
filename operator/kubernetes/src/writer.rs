//! Everything that is written about objects. What is to be written is decided elsewhere; here it is written once and no more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use osm_api::ObjectRef;
use serde_json::{Value, json};

use crate::error::RequestError;
use crate::merge_patch::merge_patch;
use crate::request::{send, unusable};
use crate::stored::{StoredObject, StoredObjects};
use crate::target::{Target, WebhookConfiguration};

/// The field manager under which the operator writes.
pub const FIELD_MANAGER: &str = "osm-operator";

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing had to be written, and nothing was.
    Unchanged,
    /// The object is written.
    Written,
    /// There is no such object (any more), so there is nothing to write to.
    Gone,
}

/// Whether an object was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    Created,
    /// It was there, and is as it was.
    Existed,
}

/// Writes to the API server. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    stored: StoredObjects,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer that compares with what `stored` knows, and enters there what it has written.
    pub fn new(client: Client, stored: StoredObjects) -> Self {
        Self { client, stored }
    }

    /// The connection, for what is not written here.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What the API server holds of our kinds.
    pub fn stored(&self) -> &StoredObjects {
        &self.stored
    }

    /// Makes `status` the status of an object of ours. Only what differs is sent, and only to the version that was compared with.
    ///
    /// # Errors
    /// [`RequestError::Conflict`] when the object has changed since the source read it; what it is now has then been read into
    /// [`StoredObjects`], so that the caller can decide anew. Others as the API server answers.
    pub async fn patch_status(&self, object: &ObjectRef, status: &Value) -> Result<Written, RequestError> {
        let Some(stored) = self.stored.get(object) else { return Ok(Written::Gone) };
        let present = stored.status.unwrap_or_else(|| json!({}));
        let Some(status) = merge_patch(&present, status) else { return Ok(Written::Unchanged) };
        let patch = json!({ "metadata": { "resourceVersion": stored.resource_version }, "status": status });
        let target = Target::from(object);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let request = Request::new(target.path())
            .patch_subresource("status", target.name(), &parameters, &Patch::Merge(patch))
            .map_err(unusable)?;
        match send(&self.client, request).await {
            Ok(mut answer) => {
                self.stored.written(object, StoredObject::take(&mut answer));
                Ok(Written::Written)
            }
            Err(RequestError::NotFound(_)) => Ok(Written::Gone),
            Err(RequestError::Conflict(message)) => {
                if let Some(mut answer) = self.get(&target).await? {
                    self.stored.seen(object, StoredObject::take(&mut answer));
                    return Err(RequestError::Conflict(message));
                }
                Ok(Written::Gone)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the object be there with these fields (server-side apply): fields that we gave before and no longer give disappear,
    /// those of others stay, and where both name a field we win. Its `status` is not written, if its kind has one of its own.
    ///
    /// # Errors
    /// As the API server answers.
    pub async fn apply(&self, object: &Value) -> Result<StoredObject, RequestError> {
        let target = Target::of_manifest(object)?;
        let request =
            Request::new(target.path()).patch(target.name(), &applying(), &Patch::Apply(object)).map_err(unusable)?;
        self.enter(object, send(&self.client, request).await?)
    }

    /// As [`Writer::apply`] for the status: of `object` its name and its status count.
    ///
    /// # Errors
    /// As the API server answers; [`RequestError::NotFound`] if there is no such object.
    pub async fn apply_status(&self, object: &Value) -> Result<StoredObject, RequestError> {
        let target = Target::of_manifest(object)?;
        let body = json!({
            "apiVersion": target.api_version(), "kind": target.kind(),
            "metadata": { "name": target.name(), "namespace": object["metadata"]["namespace"] },
            "status": object["status"],
        });
        let request = Request::new(target.path())
            .patch_subresource("status", target.name(), &applying(), &Patch::Apply(body))
            .map_err(unusable)?;
        self.enter(object, send(&self.client, request).await?)
    }

    /// Keeps what the server has answered to an apply, if the object is one of ours.
    fn enter(&self, object: &Value, mut answer: Value) -> Result<StoredObject, RequestError> {
        let stored = StoredObject::take(&mut answer);
        if let Some(reference) = own_reference(object) {
            self.stored.written(&reference, stored.clone());
        }
        Ok(stored)
    }

    /// Makes the object if there is none of its name; never changes one that is there.
    ///
    /// # Errors
    /// As the API server answers.
    pub async fn create_if_absent(&self, object: &Value) -> Result<Created, RequestError> {
        let target = Target::of_manifest(object)?;
        if self.get(&target).await?.is_some() {
            return Ok(Created::Existed);
        }
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let body = object.to_string().into_bytes();
        let request = Request::new(target.path()).create(&parameters, body).map_err(unusable)?;
        match send(&self.client, request).await {
            Ok(_) => Ok(Created::Created),
            Err(RequestError::Conflict(_)) => Ok(Created::Existed),
            Err(error) => Err(error),
        }
    }

    /// Reads an object; `None` if there is none.
    ///
    /// # Errors
    /// As the API server answers.
    pub async fn get(&self, target: &Target) -> Result<Option<Value>, RequestError> {
        let request = Request::new(target.path()).get(target.name(), &GetParams::default()).map_err(unusable)?;
        match send(&self.client, request).await {
            Ok(object) => Ok(Some(object)),
            Err(RequestError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As the API server answers. That there is none is no error.
    pub async fn delete(&self, target: &Target) -> Result<Written, RequestError> {
        let request =
            Request::new(target.path()).delete(target.name(), &DeleteParams::background()).map_err(unusable)?;
        match send(&self.client, request).await {
            Ok(_) => Ok(Written::Written),
            Err(RequestError::NotFound(_)) => Ok(Written::Gone),
            Err(error) => Err(error),
        }
    }

    /// Makes every webhook of a configuration trust the certificates of `pem`. Other fields stay whose they are.
    ///
    /// # Errors
    /// As the API server answers.
    pub async fn set_ca_bundle(
        &self,
        kind: WebhookConfiguration,
        name: &str,
        pem: &str,
    ) -> Result<Written, RequestError> {
        let target = Target::webhooks(kind, name);
        let Some(present) = self.get(&target).await? else { return Ok(Written::Gone) };
        let webhooks = present["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bundle = STANDARD.encode(pem);
        if webhooks.iter().all(|webhook| webhook["clientConfig"]["caBundle"] == bundle) {
            return Ok(Written::Unchanged);
        }
        let ours: Vec<Value> = webhooks
            .iter()
            .map(|webhook| json!({ "name": webhook["name"], "clientConfig": { "caBundle": bundle } }))
            .collect();
        self.apply(&json!({
            "apiVersion": target.api_version(), "kind": target.kind(),
            "metadata": { "name": name }, "webhooks": ours,
        }))
        .await?;
        Ok(Written::Written)
    }
}

fn applying() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// The name of an object of ours in a manifest.
fn own_reference(object: &Value) -> Option<ObjectRef> {
    let group = object["apiVersion"].as_str()?.split_once('/').map_or("", |(group, _)| group);
    let kind = osm_api::Kind::of(group, object["kind"].as_str()?)?;
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    (kind.ownership() == osm_api::Ownership::Own)
        .then(|| ObjectRef::new(kind, namespace, metadata["name"].as_str().unwrap_or_default()))
}
