//! A change costs what it affects, whatever else the engine holds. Counted, not timed.

use std::sync::Arc;

use osm_incremental::{Changes, Engine, Program, Reader, Role, Work};

/// A mesh in small: pods with an address belong to services, services have endpoints, clients call a few services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Settings,
    Pod(u32),
    Client(u32),
    /// Index: the addresses of a service, by pod.
    AddressesOf(u32),
    /// Node: the addresses of a service that are ready.
    Endpoints(u32),
    /// Index: every service that has endpoints, and how many.
    Services,
    /// Node: how many endpoints a client can reach.
    View(u32),
    /// Node: how many services there are.
    Count,
    /// Index, output: what clients see.
    Views,
    /// Index, output: endpoints of every service.
    EndpointLayer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Settings { port: u32 },
    Pod { service: u32, address: u32, ready: bool },
    Client { services: Vec<u32> },
    Addresses(Arc<Vec<(u32, u32)>>),
    Number(usize),
}

struct Mesh;

impl Program for Mesh {
    type Key = Key;
    type Value = Value;
    type Item = u32;
    type ItemValue = Value;

    fn role(&self, key: &Key) -> Role {
        match key {
            Key::Settings | Key::Pod(_) | Key::Client(_) => Role::Input,
            Key::AddressesOf(_) => Role::Index { stage: 1 },
            Key::Endpoints(_) => Role::Derived { stage: 2 },
            Key::Services => Role::Index { stage: 3 },
            Key::View(_) | Key::Count => Role::Derived { stage: 4 },
            Key::Views | Key::EndpointLayer => Role::Index { stage: 5 },
        }
    }

    fn roots(&self) -> Vec<Key> {
        vec![Key::Count]
    }

    fn on_input(&self, input: &Key, value: &Value, reader: &mut Reader<'_, Self>) {
        match (input, value) {
            (Key::Pod(pod), Value::Pod { service, .. }) => {
                reader.contribute(Key::AddressesOf(*service), *pod, value.clone());
                reader.spawn(Key::Endpoints(*service));
            }
            (Key::Client(client), _) => reader.spawn(Key::View(*client)),
            _ => {}
        }
    }

    fn compute(&self, key: &Key, reader: &mut Reader<'_, Self>) -> Option<Value> {
        match key {
            Key::Endpoints(service) => {
                let Some(Value::Settings { port }) = reader.get(&Key::Settings) else { return None };
                let mut addresses = Vec::new();
                for pod in reader.get_items(&Key::AddressesOf(*service)).values() {
                    if let Value::Pod { address, ready: true, .. } = pod {
                        addresses.push((*address, *port));
                    }
                }
                let addresses = Value::Addresses(Arc::new(addresses));
                if let Value::Addresses(list) = &addresses {
                    reader.contribute(Key::Services, *service, Value::Number(list.len()));
                }
                reader.contribute(Key::EndpointLayer, *service, addresses.clone());
                Some(addresses)
            }
            Key::View(client) => {
                let Some(Value::Client { services }) = reader.get(&Key::Client(*client)) else { return None };
                let mut reachable = 0;
                for service in services {
                    if let Some(Value::Number(endpoints)) = reader.get_item(&Key::Services, service) {
                        reachable += endpoints;
                    }
                }
                reader.contribute(Key::Views, *client, Value::Number(reachable));
                Some(Value::Number(reachable))
            }
            Key::Count => Some(Value::Number(reader.get_items(&Key::Services).len())),
            _ => None,
        }
    }

    fn is_output(&self, key: &Key) -> bool {
        matches!(key, Key::Views | Key::EndpointLayer | Key::Count)
    }
}

const PODS_PER_SERVICE: u32 = 3;

fn pod(service: u32, number: u32) -> Key {
    Key::Pod(service * PODS_PER_SERVICE + number)
}

fn ready(service: u32, address: u32) -> Option<Value> {
    Some(Value::Pod { service, address, ready: true })
}

fn mesh(services: u32) -> Engine<Mesh> {
    let mut engine = Engine::new(Mesh);
    let mut inputs = vec![(Key::Settings, Some(Value::Settings { port: 80 }))];
    for service in 0..services {
        for number in 0..PODS_PER_SERVICE {
            inputs.push((pod(service, number), ready(service, service * 10 + number)));
        }
        let callees = vec![service, (service + 1) % services, (service + 2) % services];
        inputs.push((Key::Client(service), Some(Value::Client { services: callees })));
    }
    engine.update(inputs);
    engine
}

/// What a change does in a small mesh and in a large one; it must do the same in both.
fn same_at_every_size(change: impl Fn(&mut Engine<Mesh>) -> Changes<Mesh>) -> Changes<Mesh> {
    let small = change(&mut mesh(100));
    let large = change(&mut mesh(10_000));
    assert_eq!(small.work, large.work, "the cost depends on the size of the mesh");
    assert_eq!(format!("{small:?}"), format!("{large:?}"));
    large
}

fn changed_items(changes: &Changes<Mesh>) -> Vec<(Key, u32)> {
    changes.items.iter().map(|change| (change.index.clone(), change.item)).collect()
}

#[test]
fn a_new_address_costs_one_service() {
    let changes = same_at_every_size(|engine| engine.update([(pod(50, 1), ready(50, 7))]));
    assert_eq!(changed_items(&changes), [(Key::EndpointLayer, 50)]);
    assert_eq!(changes.items[0].value, Some(Value::Addresses(Arc::new(vec![(500, 80), (7, 80), (502, 80)]))));
    let expected = Work { inputs_changed: 1, computed: 1, items_changed: 2, reads: 2, ..Work::default() };
    assert_eq!(changes.work, expected);
}

#[test]
fn a_new_pod_costs_its_service_and_the_callers() {
    let changes = same_at_every_size(|engine| engine.update([(Key::Pod(1_000_000), ready(50, 7))]));
    assert_eq!(
        changed_items(&changes),
        [(Key::Views, 48), (Key::Views, 49), (Key::Views, 50), (Key::EndpointLayer, 50)]
    );
    // The service, its three callers, and the count, which is the same as before.
    assert_eq!((changes.work.computed, changes.work.cut_off), (5, 1));
}

#[test]
fn a_difference_that_nobody_sees_ends_at_once() {
    let not_ready = |address| Some(Value::Pod { service: 50, address, ready: false });
    let changes = same_at_every_size(|engine| {
        engine.update([(pod(50, 1), not_ready(1))]);
        engine.update([(pod(50, 1), not_ready(2))])
    });
    assert!(changes.is_empty());
    assert_eq!((changes.work.computed, changes.work.cut_off), (1, 1));
}

#[test]
fn adding_and_removing_a_service_cost_that_service() {
    let added = same_at_every_size(|engine| engine.update([(Key::Pod(1_000_000), ready(1_000_000, 7))]));
    assert_eq!(changed_items(&added), [(Key::EndpointLayer, 1_000_000)]);
    assert_eq!((added.work.computed, added.work.removed), (2, 0));

    let removed = same_at_every_size(|engine| {
        engine.update([(Key::Pod(1_000_000), ready(1_000_000, 7))]);
        engine.update([(Key::Pod(1_000_000), None)])
    });
    assert_eq!(changed_items(&removed), [(Key::EndpointLayer, 1_000_000)]);
    assert_eq!(removed.items[0].value, None);
    assert_eq!(removed.nodes.len(), 1, "one service fewer");
    assert_eq!((removed.work.computed, removed.work.removed), (1, 1));
}

#[test]
fn a_setting_that_everything_reads_costs_everything_once() {
    let mut engine = mesh(1_000);
    let changes = engine.update([(Key::Settings, Some(Value::Settings { port: 81 }))]);
    assert_eq!(changes.work.computed, 1_000);
    assert_eq!(changes.items.len(), 1_000);
    assert!(engine.update([(Key::Settings, Some(Value::Settings { port: 81 }))]).is_empty());
}

#[test]
fn many_changes_at_once_compute_each_node_once() {
    let mut engine = mesh(100);
    let all_pods = (0..100).flat_map(|service| (0..PODS_PER_SERVICE).map(move |number| (service, number)));
    let changes = engine.update(all_pods.map(|(service, number)| (pod(service, number), None)));
    // Views and the count; endpoints nodes go with their pods.
    assert_eq!((changes.work.computed, changes.work.removed), (101, 100));
}

#[test]
fn memory_returns() {
    let mut engine = mesh(100);
    let base = engine.stats();
    for round in 0..3 {
        let service = |number: u32| 1_000 + (number + round) % 100;
        engine.update((0..500).map(|number| (Key::Pod(10_000 + number), ready(service(number), number))));
        engine.update((0..50).map(|number| {
            (Key::Client(10_000 + number), Some(Value::Client { services: vec![service(number), 999_999] }))
        }));
        let grown = engine.stats();
        assert_eq!(grown.derived, base.derived + 150);
        for number in 0..500 {
            engine.update([(Key::Pod(10_000 + number), None)]);
        }
        engine.update((0..50).map(|number| (Key::Client(10_000 + number), None)));
        assert_eq!(osm_incremental::Stats { work: base.work, ..engine.stats() }, base);
    }
}
