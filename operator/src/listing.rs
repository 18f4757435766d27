//! The objects of a kind as they are now, for whoever looks once.

use anyhow::Context;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use osm_api::{Kind, Object, ObjectRef, Strictness};

/// The API resource of a kind, in the version that is stored.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    let names = GroupVersionKind::gvk(kind.group(), kind.storage_version(), kind.as_str());
    ApiResource::from_gvk_with_plural(&names, kind.plural())
}

/// All objects of a kind. Those that cannot be read are left out: their status says why.
///
/// # Errors
/// The API server does not answer, or refuses.
pub(crate) async fn list(client: &Client, kind: Kind) -> anyhow::Result<Vec<(ObjectRef, Object)>> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
    let found = api.list(&ListParams::default()).await.with_context(|| format!("list {}", kind.plural()))?;
    let objects = found.items.into_iter().filter_map(|mut object| {
        // Items of a list carry no type of their own.
        object.types = Some(kube::core::TypeMeta { api_version: kind.api_version(), kind: kind.as_str().to_owned() });
        let value = serde_json::to_value(object).ok()?;
        osm_api::decode(value, Strictness::Lenient).ok()
    });
    Ok(objects.map(|object| (object.reference(), object)).collect())
}
