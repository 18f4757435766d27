//! What holds of every mesh, shown on random small ones: objects of all kinds, also bad and dangling ones, that come, change and
//! go in any order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use osm_api::{Object, ObjectRef};
use osm_engine::{LayerEntry, LayerKey, MeshEngine};
use osm_golden::{CaseOptions, Mesh};
use osm_model::{Finding, HeaderMatch, HttpMatch, Identity, Method, PathMatch};
use proptest::prelude::*;

use world::{Edit, edits, object};

/// All that a mesh gives.
#[derive(Debug, PartialEq)]
struct Outcome {
    layers: BTreeMap<LayerKey, Vec<LayerEntry>>,
    findings: Vec<Finding>,
}

fn outcome(engine: &MeshEngine) -> Outcome {
    let workloads = engine.workloads().cloned().map(LayerKey::Workload);
    let keys = [LayerKey::Mesh].into_iter().chain(workloads);
    Outcome {
        layers: keys.map(|key| (key.clone(), engine.layer(&key).cloned().collect())).collect(),
        findings: engine.findings().into_iter().cloned().collect(),
    }
}

fn engine() -> MeshEngine {
    MeshEngine::new(CaseOptions::default().engine().unwrap())
}

fn scratch<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Mesh {
    Mesh::new(CaseOptions::default().engine().unwrap(), objects.into_iter().cloned())
}

/// The objects after `edits`.
fn settled(edits: &[Edit]) -> BTreeMap<ObjectRef, Object> {
    let mut objects = BTreeMap::new();
    for edit in edits {
        match edit {
            Edit::Set(object) => drop(objects.insert(object.reference(), (**object).clone())),
            Edit::Remove(reference) => drop(objects.remove(reference)),
        }
    }
    objects
}

fn apply(engine: &mut MeshEngine, edits: &[Edit]) {
    engine.update(edits.iter().map(|edit| match edit {
        Edit::Set(object) => (object.reference(), Some((**object).clone())),
        Edit::Remove(reference) => (reference.clone(), None),
    }));
}

fn many(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(many(1000))]

    #[test]
    fn incremental_equals_scratch(updates in prop::collection::vec(edits(1..12), 2..6)) {
        let mut incremental = engine();
        let mut all = Vec::new();
        for update in updates {
            apply(&mut incremental, &update);
            all.extend(update);
        }
        let objects = settled(&all);
        prop_assert_eq!(incremental.finding_count(), incremental.findings().len());
        prop_assert_eq!(outcome(&incremental), outcome(&scratch(objects.values()).engine));
    }
}

proptest! {
    #![proptest_config(many(200))]

    #[test]
    fn the_order_of_objects_does_not_matter(edits in edits(5..40), split in any::<prop::sample::Index>()) {
        let objects: Vec<Object> = settled(&edits).into_values().collect();
        let (first, rest) = objects.split_at(split.index(objects.len().max(1)).min(objects.len()));
        let mut engine = engine();
        for object in rest.iter().rev().chain(first) {
            engine.update([(object.reference(), Some(object.clone()))]);
        }
        prop_assert_eq!(outcome(&engine), outcome(&scratch(&objects).engine));
    }

    #[test]
    fn what_is_added_and_removed_leaves_no_trace(before in edits(5..40), passing in prop::collection::vec(object(), 1..8)) {
        let mut engine = engine();
        apply(&mut engine, &before);
        let before = settled(&before);
        let earlier = outcome(&engine);
        for object in &passing {
            engine.update([(object.reference(), Some(object.clone()))]);
        }
        for object in &passing {
            let reference = object.reference();
            engine.update([(reference.clone(), before.get(&reference).cloned())]);
        }
        prop_assert_eq!(outcome(&engine), earlier);
    }

    #[test]
    fn every_snapshot_is_closed_and_has_no_address_twice(edits in edits(10..60)) {
        let mesh = scratch(settled(&edits).values());
        for workload in mesh.workloads() {
            prop_assert_eq!(mesh.faults(&workload).unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn objects_are_never_modified(edits in edits(5..40)) {
        let objects = settled(&edits);
        let written: Vec<_> = objects.values().map(|object| object.to_value().unwrap()).collect();
        let mesh = scratch(objects.values());
        let held: Vec<_> = mesh.engine.objects().map(|(_, object)| object.to_value().unwrap()).collect();
        prop_assert_eq!(&held, &written);
        let after: Vec<_> = objects.values().map(|object| object.to_value().unwrap()).collect();
        prop_assert_eq!(after, written);
    }

    #[test]
    fn a_namespace_nobody_speaks_of_changes_nothing_for_others(edits in edits(10..40)) {
        let mut engine = engine();
        apply(&mut engine, &edits);
        let before = outcome(&engine);
        let stranger = world::stranger();
        let changes = engine.update(stranger.iter().map(|object| (object.reference(), Some(object.clone()))));
        let touched: BTreeSet<&LayerKey> = changes.resources.iter().map(|change| &change.layer).collect();
        let own = LayerKey::Workload(Identity::new("stranger", "hermit").unwrap());
        prop_assert!(touched.iter().all(|layer| **layer == own), "{:?}", touched);
        let mut after = outcome(&engine);
        after.layers.remove(&own);
        prop_assert_eq!(after, before);
    }
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let text = || prop::sample::select(&["/", "/a", "/b", "/ab", "/a/b", "x.*"][..]);
    let path = prop_oneof![
        text().prop_map(|text| PathMatch::Exact(text.into())),
        text().prop_map(|text| PathMatch::Prefix(text.into())),
        text().prop_map(|text| PathMatch::Regex(text.into())),
        Just(PathMatch::Any),
    ];
    let methods = prop::collection::btree_set(prop::sample::select(&["GET", "PUT"][..]), 0..3);
    let headers = prop::collection::btree_set(prop::sample::select(&["a", "b"][..]), 0..3);
    (path, methods, headers).prop_map(|(path, methods, headers)| HttpMatch {
        path,
        methods: methods.into_iter().filter_map(Method::new).collect(),
        headers: headers.into_iter().map(|name| HeaderMatch { name: name.into(), value: ".*".into() }).collect(),
    })
}

proptest! {
    #![proptest_config(many(2000))]

    #[test]
    fn the_order_of_routes_is_total(a in http_match(), b in http_match(), c in http_match()) {
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        prop_assert!(!(a <= b && b <= c) || a <= c);
    }
}
