//! What a write is aimed at.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind, Resource};
use osm_api::{Kind, ObjectRef, Scope};
use serde_json::Value;

use crate::error::RequestError;

/// An object of any kind: where it is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
}

/// Which kind of webhook configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookConfiguration {
    /// `MutatingWebhookConfiguration`.
    Mutating,
    /// `ValidatingWebhookConfiguration`.
    Validating,
}

impl Target {
    /// A ConfigMap.
    pub fn config_map(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::of("", "v1", "ConfigMap", Some(namespace.into()), name.into())
    }

    /// A Secret.
    pub fn secret(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::of("", "v1", "Secret", Some(namespace.into()), name.into())
    }

    /// A webhook configuration.
    pub fn webhooks(kind: WebhookConfiguration, name: impl Into<String>) -> Self {
        let kind = match kind {
            WebhookConfiguration::Mutating => "MutatingWebhookConfiguration",
            WebhookConfiguration::Validating => "ValidatingWebhookConfiguration",
        };
        Self::of("admissionregistration.k8s.io", "v1", kind, None, name.into())
    }

    /// The object that a manifest describes, by its `apiVersion`, `kind` and `metadata`.
    ///
    /// # Errors
    /// One of them is missing.
    pub fn of_manifest(object: &Value) -> Result<Self, RequestError> {
        let text = |value: &Value, field: &str| {
            let text = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            text.ok_or_else(|| RequestError::Invalid(format!("the object has no {field}")))
        };
        let api_version = text(&object["apiVersion"], "apiVersion")?;
        let kind = text(&object["kind"], "kind")?;
        let name = text(&object["metadata"]["name"], "metadata.name")?;
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let (group, version) = (group.to_owned(), version.to_owned());
        Ok(match Kind::of(&group, &kind) {
            Some(known) => {
                let resource = ApiResource { version, api_version, ..resource(known) };
                Self { resource, namespace, name }
            }
            None => Self::of(&group, &version, &kind, namespace, name),
        })
    }

    fn of(group: &str, version: &str, kind: &str, namespace: Option<String>, name: String) -> Self {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Self { resource, namespace, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path up to the plural name of the kind.
    pub(crate) fn path(&self) -> String {
        DynamicObject::url_path(&self.resource, self.namespace.as_deref())
    }

    pub(crate) fn api_version(&self) -> &str {
        &self.resource.api_version
    }

    pub(crate) fn kind(&self) -> &str {
        &self.resource.kind
    }
}

impl From<&ObjectRef> for Target {
    fn from(object: &ObjectRef) -> Self {
        let namespace = match object.kind.scope() {
            Scope::Namespaced => Some(object.namespace.clone()),
            Scope::Cluster => None,
        };
        Self { resource: resource(object.kind), namespace, name: object.name.clone() }
    }
}

/// A kind of the list, in the version that is watched.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: kind.group().to_owned(),
        version: kind.storage_version().to_owned(),
        api_version: kind.api_version(),
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let target = Target::from(&ObjectRef::new(Kind::HttpRouteGroup, "shop", "routes"));
        assert_eq!(target.path(), "/apis/specs.smi-spec.io/v1alpha4/namespaces/shop/httproutegroups");
        assert_eq!(Target::from(&ObjectRef::new(Kind::Namespace, "", "shop")).path(), "/api/v1/namespaces");
        assert_eq!(Target::config_map("shop", "a").path(), "/api/v1/namespaces/shop/configmaps");
        assert_eq!(
            Target::webhooks(WebhookConfiguration::Mutating, "a").path(),
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        );
        let manifest = json!({
            "apiVersion": "config.openservicemesh.io/v1alpha1", "kind": "MeshConfig",
            "metadata": { "name": "osm-mesh-config", "namespace": "osm-system" },
        });
        let target = Target::of_manifest(&manifest).unwrap();
        assert_eq!(target.path(), "/apis/config.openservicemesh.io/v1alpha1/namespaces/osm-system/meshconfigs");
        let nameless = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {} });
        assert!(Target::of_manifest(&nameless).unwrap_err().to_string().contains("metadata.name"));
    }
}
