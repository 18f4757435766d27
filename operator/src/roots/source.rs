//! Where the keeper of the roots gets its objects from, and where it shows what it knows.

use std::path::Path;
use std::sync::Arc;

use osm_api::{Kind, Object, ObjectRef};
use osm_source::{Folder, Hint, SourceEvent};
use serde_json::Value;
use tokio::sync::mpsc;

use super::keeper::RootObjects;
use crate::admin::ExtraPages;
use crate::mesh::Observer;

/// The MeshRootCertificates of a folder of manifests, as they are now.
pub(crate) fn in_folder(folder: &Path) -> RootObjects {
    roots_of(&Folder::new(folder).refresh(&Hint::Everything).changes)
}

/// The MeshRootCertificates of a cluster, as they are now. Those that cannot be read are left out.
///
/// # Errors
/// The API server does not answer.
pub(crate) async fn in_cluster(client: &kube::Client) -> anyhow::Result<RootObjects> {
    let found = crate::listing::list(client, Kind::MeshRootCertificate).await?;
    let changes: Vec<_> = found.into_iter().map(|(name, object)| (name, Some(object))).collect();
    Ok(roots_of(&changes))
}

/// Tells the keeper of the roots what becomes of their objects.
pub(crate) fn observer(objects: mpsc::UnboundedSender<RootObjects>) -> Observer {
    Box::new(move |event| {
        let SourceEvent::Changes(changes) = event else { return };
        let roots = roots_of(changes);
        if !roots.is_empty() && objects.send(roots).is_err() {
            tracing::debug!("the keeper of the roots has ended");
        }
    })
}

fn roots_of(changes: &[(ObjectRef, Option<Object>)]) -> RootObjects {
    let roots = changes.iter().filter(|(name, _)| name.kind == Kind::MeshRootCertificate);
    roots
        .map(|(name, object)| match object {
            Some(Object::MeshRootCertificate(object)) => (name.clone(), Some(object.as_ref().clone())),
            _ => (name.clone(), None),
        })
        .collect()
}

/// The pages of the keeper of the roots, before others.
pub(crate) fn with_pages(
    others: ExtraPages,
    roots: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
) -> ExtraPages {
    Arc::new(move |page| roots(page).or_else(|| others(page)))
}
