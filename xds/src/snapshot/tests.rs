use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::Snapshot;
use crate::layer::{Delivery, Difference, Entry, Layer};
use crate::resource::Resource;
use crate::type_url::TypeUrl;
use crate::version::SetDigest;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::Listener;

fn resource(is_cluster: bool, name: &str, content: u8) -> Arc<Resource> {
    Arc::new(if is_cluster {
        let cluster = Cluster { name: name.to_owned(), alt_stat_name: content.to_string(), ..Cluster::default() };
        Resource::new(name, &cluster).unwrap()
    } else {
        let listener = Listener { name: name.to_owned(), stat_prefix: content.to_string(), ..Listener::default() };
        Resource::new(name, &listener).unwrap()
    })
}

/// Layer, type, name, content (`None` removes) and delivery of one change.
type Change = (usize, bool, u8, Option<u8>, bool);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (0..3_usize, any::<bool>(), 0..5_u8, prop::option::weighted(0.8, 0..3_u8), any::<bool>());
    prop::collection::vec(change, 0..40)
}

fn apply(layers: &mut [Layer; 3], changes: &[Change]) {
    for (index, is_cluster, name, content, named) in changes {
        let name = name.to_string();
        let type_url = if *is_cluster { TypeUrl::Cluster } else { TypeUrl::Listener };
        let delivery = if *named { Delivery::Named } else { Delivery::Wildcard };
        match content {
            Some(content) => layers[*index].insert(resource(*is_cluster, &name, *content), delivery),
            None => layers[*index].remove(&type_url, &name),
        };
    }
}

/// What the layers say, the slow and obvious way.
fn model(layers: &[Layer; 3]) -> BTreeMap<(TypeUrl, Arc<str>), Entry> {
    layers
        .iter()
        .flat_map(Layer::iter)
        .map(|entry| ((entry.resource.type_url().clone(), Arc::clone(entry.resource.name())), entry.clone()))
        .collect()
}

proptest! {
    #[test]
    fn a_snapshot_is_what_its_layers_say_from_the_last_to_the_first(before in changes(), after in changes()) {
        let mut layers: [Layer; 3] = Default::default();
        apply(&mut layers, &before);
        let (old, old_model) = (Snapshot::new(layers.clone()), model(&layers));
        apply(&mut layers, &after);
        let (new, new_model) = (Snapshot::new(layers.clone()), model(&layers));

        for type_url in [TypeUrl::Cluster, TypeUrl::Listener] {
            let of_type = |model: &BTreeMap<(TypeUrl, Arc<str>), Entry>| -> Vec<Entry> {
                model.iter().filter(|(key, _)| key.0 == type_url).map(|(_, entry)| entry.clone()).collect()
            };
            let expected = of_type(&new_model);
            let mut entries: Vec<Entry> = new.iter_type(&type_url).cloned().collect();
            entries.sort_by(|one, other| one.resource.name().cmp(other.resource.name()));
            prop_assert_eq!(&entries, &expected);
            for after in [None, Some("0"), Some("2"), Some("9")] {
                let rest: Vec<Entry> = new.iter_type_after(&type_url, after).cloned().collect();
                let expected: Vec<Entry> = expected
                    .iter()
                    .filter(|entry| after.is_none_or(|after| &**entry.resource.name() > after))
                    .cloned()
                    .collect();
                prop_assert_eq!(rest, expected);
            }
            let mut digest = SetDigest::default();
            for entry in expected.iter().filter(|entry| entry.delivery == Delivery::Wildcard) {
                digest.add(entry.resource.name(), entry.resource.version());
            }
            prop_assert_eq!(new.type_version(&type_url), digest.version());
        }

        let mut expected = Vec::new();
        let keys: std::collections::BTreeSet<_> = old_model.keys().chain(new_model.keys()).collect();
        for key in keys {
            let (old, new) = (old_model.get(key).cloned(), new_model.get(key).cloned());
            prop_assert_eq!(self::get(&layers, key), new.clone());
            if old != new {
                expected.push(Difference { type_url: key.0.clone(), name: Arc::clone(&key.1), old, new });
            }
        }
        prop_assert_eq!(Snapshot::diff(&old, &new), expected.clone());
        prop_assert_eq!(old.same_content(&new), expected.is_empty());
    }
}

fn get(layers: &[Layer; 3], key: &(TypeUrl, Arc<str>)) -> Option<Entry> {
    Snapshot::new(layers.clone()).get(&key.0, &key.1).cloned()
}

#[test]
fn putting_in_what_is_there_keeps_structure_shared() {
    let mut layer = Layer::new();
    layer.insert(resource(true, "a", 0), Delivery::Wildcard);
    let mut same = layer.clone();
    assert!(same.insert(resource(true, "a", 0), Delivery::Wildcard).is_some());
    assert!(layer.shares_type(&same, &TypeUrl::Cluster));
    assert!(same.insert(resource(true, "a", 0), Delivery::Named).is_some());
    assert!(!layer.shares_type(&same, &TypeUrl::Cluster));
}

#[test]
fn the_complete_state_is_what_a_response_would_hold() {
    use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
    use prost::Message;
    let mut layer = Layer::new();
    layer.insert(resource(true, "a", 0), Delivery::Wildcard);
    layer.insert(resource(true, "b", 0), Delivery::Named);
    layer.insert(resource(true, "c", 0), Delivery::Wildcard);
    let snapshot = Snapshot::new([layer]);
    let state = snapshot.complete_state(&TypeUrl::Cluster);
    assert_eq!(state.resources, 2);
    let response = DiscoveryResponse::decode(state.frames.clone()).unwrap();
    let names: Vec<String> =
        response.resources.iter().map(|any| Cluster::decode(any.value.as_slice()).unwrap().name).collect();
    assert_eq!(names, ["a", "c"]);
    // Kept until it is current no more.
    let again = snapshot.complete_state(&TypeUrl::Cluster);
    assert_eq!(again.frames.as_ptr(), state.frames.as_ptr());
    snapshot.forget_complete_states();
    assert_ne!(snapshot.complete_state(&TypeUrl::Cluster).frames.as_ptr(), state.frames.as_ptr());
}
