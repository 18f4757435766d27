//! Where the keeper of the roots gets its objects from, and where it shows what it knows.

use std::path::Path;
use std::sync::Arc;

use osm_api::{Kind, MeshRootCertificateReason, Object, ObjectRef};
use osm_mesh::Report;
use osm_source::{Folder, Hint, SourceEvent};
use serde_json::Value;
use tokio::sync::mpsc;

use super::keeper::RootObjects;
use super::status::{RootStatus, RootsNews};
use crate::admin::ExtraPages;
use crate::mesh::Observer;

/// The MeshRootCertificates of a folder of manifests, as they are now.
pub(crate) fn in_folder(folder: &Path) -> RootObjects {
    roots_of(&Folder::new(folder).refresh(&Hint::Everything).changes)
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

/// Where no keeper runs: tells the loop of the mesh that MeshRootCertificates have no effect, and what signs instead.
pub(crate) fn not_in_use(news: mpsc::UnboundedSender<RootsNews>, signs: String) -> Observer {
    Box::new(move |event| {
        let SourceEvent::Changes(changes) = event else { return };
        let status = |object: &osm_api::MeshRootCertificate| {
            let mut report = Report::of(object);
            report.refuse(
                "spec",
                MeshRootCertificateReason::NotInUse,
                format!("a control plane in a cluster does not use MeshRootCertificates yet; {signs} signs"),
                "leave the object out, and put the certificate and key of the root into that Secret before the control \
                 plane is installed",
            );
            RootStatus::without_effect(report.into_findings())
        };
        let told = roots_of(changes).into_iter().map(|(name, object)| (name, object.as_ref().map(status)));
        let statuses: Vec<_> = told.collect();
        if !statuses.is_empty() && news.send(RootsNews { statuses, events: Vec::new() }).is_err() {
            tracing::debug!("the loop of the mesh has ended");
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

#[cfg(test)]
mod tests {
    use osm_api::{ConditionStatus, Strictness, decode};
    use serde_json::json;

    use super::*;

    #[test]
    fn where_no_keeper_runs_every_root_is_told_that_it_is_not_in_use() {
        let object = decode(
            json!({
                "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshRootCertificate",
                "metadata": { "namespace": "osm-system", "name": "first", "generation": 1 },
                "spec": { "provider": { "tresor": { "ca": { "secretRef": { "name": "a", "namespace": "osm-system" } } } } },
            }),
            Strictness::Lenient,
        )
        .unwrap();
        let name = object.reference();
        let (send, mut news) = mpsc::unbounded_channel();
        let mut observe = not_in_use(send, "the Secret osm-system/osm-ca-bundle".to_owned());
        observe(&SourceEvent::Synced);
        observe(&SourceEvent::Changes(vec![(name.clone(), Some(object))]));
        let told = news.try_recv().unwrap().statuses;
        let [(of, Some(status))] = &*told else { panic!("{told:?}") };
        assert_eq!((of, status.programmed.status), (&name, ConditionStatus::False));
        assert_eq!((status.findings[0].reason, &*status.findings[0].field), ("NotInUse", "spec"));
        assert!(status.findings[0].message.contains("osm-ca-bundle signs"), "{}", status.findings[0].message);
        observe(&SourceEvent::Changes(vec![(name.clone(), None)]));
        assert_eq!(news.try_recv().unwrap().statuses, [(name, None)]);
        assert!(news.try_recv().is_err(), "nothing else");
    }
}
