//! A cluster and a folder with the same objects are the same mesh, to the byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use osm_api::{Object, ObjectRef};
use osm_engine::{LayerKey, MeshEngine, Options};
use osm_model::TrustDomain;
use osm_source::{Folder, Hint};
use serde_json::json;

use super::*;
use crate::fake::Fake;
use crate::target::Target;

type Objects = BTreeMap<ObjectRef, Object>;

/// A resource: layer and delivery, name, bytes.
type Given = (String, String, Vec<u8>);

/// Everything that a mesh gives out: resources by layer, and what is said of objects.
fn outcome(objects: &Objects) -> (Vec<Given>, Vec<String>) {
    let mut engine = MeshEngine::new(Options {
        mesh_name: "osm".into(),
        control_plane_namespace: "osm-system".into(),
        trust_domain: TrustDomain::new("cluster.local").unwrap(),
        cluster_domain: "cluster.local".into(),
        service_ranges: Vec::new(),
    });
    engine.update(objects.iter().map(|(name, object)| (name.clone(), Some(object.clone()))));
    let workloads = engine.workloads().cloned().map(LayerKey::Workload);
    let layers: Vec<LayerKey> = std::iter::once(LayerKey::Mesh).chain(workloads).collect();
    let mut resources = Vec::new();
    for layer in layers {
        for entry in engine.layer(&layer) {
            let resource = &entry.resource;
            resources.push((
                format!("{layer:?} {:?}", entry.delivery),
                resource.name.to_string(),
                resource.body.to_vec(),
            ));
        }
    }
    (resources, engine.findings().iter().map(|finding| format!("{finding:?}")).collect())
}

fn from_folder(case: &Path) -> Objects {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(case.join("in.yaml"), folder.path().join("in.yaml")).unwrap();
    let refresh = Folder::new(folder.path()).refresh(&Hint::Everything);
    assert!(refresh.problems.is_empty(), "{case:?}: {:?}", refresh.problems);
    refresh.changes.into_iter().filter_map(|(name, object)| Some((name, object?))).collect()
}

/// The same objects, as an API server has them: with what it adds by itself and what others write.
async fn from_api_server(objects: &Objects, fake: &Fake) -> Objects {
    for (name, object) in objects {
        let mut value = object.to_value().unwrap();
        let metadata = &mut value["metadata"];
        metadata["uid"] = format!("uid-of-{name}").into();
        metadata["managedFields"] = json!([{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }]);
        if !metadata["annotations"].is_object() {
            metadata["annotations"] = json!({});
        }
        metadata["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}".into();
        if name.kind.ownership() == Ownership::Own {
            value["status"] = json!({ "conditions": [], "observedGeneration": 1 });
        } else {
            value.as_object_mut().unwrap().remove("apiVersion");
            value.as_object_mut().unwrap().remove("kind");
            // Kubernetes counts generations of few kinds of its own.
            value["metadata"].as_object_mut().unwrap().remove("generation");
        }
        let all = Target::from(name).path().replace(&format!("/namespaces/{}", name.namespace), "");
        fake.put(if name.namespace.is_empty() { "/api/v1/namespaces" } else { &all }, value);
    }
    let mut events = watch(fake.client(), WatchOptions::default(), StoredObjects::default());
    let mut told = Objects::new();
    loop {
        match events.recv().await.unwrap() {
            SourceEvent::Changes(changes) => {
                told.extend(changes.into_iter().filter_map(|(name, object)| Some((name, object?))));
            }
            SourceEvent::Problems(problems) => assert!(problems.is_empty(), "{problems:?}"),
            SourceEvent::Synced => return told,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn equal_objects_in_a_folder_and_on_an_api_server_give_equal_bytes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/cases");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 50);
    let mut resources = 0;
    for (case, streams) in cases.iter().zip([true, false].into_iter().cycle()) {
        let folder = from_folder(case);
        let fake = if streams { Fake::new() } else { Fake::without_streamed_lists() };
        let cluster = from_api_server(&folder, &fake).await;
        assert_eq!(cluster.keys().collect::<Vec<_>>(), folder.keys().collect::<Vec<_>>(), "{case:?}");
        let (of_folder, of_cluster) = (outcome(&folder), outcome(&cluster));
        assert_eq!(of_cluster.1, of_folder.1, "{case:?}");
        for (ours, theirs) in of_cluster.0.iter().zip(&of_folder.0) {
            assert_eq!((&ours.0, &ours.1), (&theirs.0, &theirs.1), "{case:?}");
            assert!(ours.2 == theirs.2, "{case:?}: {} {} differs", ours.0, ours.1);
        }
        assert_eq!(of_cluster.0.len(), of_folder.0.len(), "{case:?}");
        resources += of_cluster.0.len();
    }
    assert!(resources > 500, "{resources} resources were compared");
}
