//! What changes on an object reaches proxies at once.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use osm_api::{Object, Strictness, decode};
use osm_engine::LayerKey;
use osm_golden::{Case, Mesh};
use osm_translate::ResourceKind;
use serde_json::json;

/// Defect 13 of OSM: its controller did not take up a changed Service.
#[test]
fn defect_13_a_changed_app_protocol_reaches_proxies() {
    let case = Case::read("defect-13-app-protocol").unwrap();
    let mut mesh = Mesh::new(case.options.engine().unwrap(), case.objects.iter().cloned());
    let is_there = |mesh: &Mesh, name: &str| {
        mesh.engine
            .layer(&LayerKey::Mesh)
            .any(|entry| entry.resource.kind == ResourceKind::Listener && &*entry.resource.name == name)
    };
    assert!(is_there(&mesh, "outbound_shop/store_80_tcp") && !is_there(&mesh, "outbound-listener.80"));
    let service = case.objects.iter().find(|object| matches!(object, Object::Service(_))).unwrap();
    let mut changed = service.to_value().unwrap();
    changed["spec"]["ports"][0]["appProtocol"] = json!("http");
    let changed = decode(changed, Strictness::Strict).unwrap();
    let changes = mesh.engine.update([(changed.reference(), Some(changed))]);
    assert!(is_there(&mesh, "outbound-listener.80") && !is_there(&mesh, "outbound_shop/store_80_tcp"));
    let server = case.objects.iter().find(|object| matches!(object, Object::Pod(_))).unwrap();
    assert_eq!(server.reference().name, "store-0");
    let inbound = |change: &osm_engine::ResourceChange| &*change.name == "inbound-listener";
    assert!(changes.resources.iter().any(inbound), "the server speaks the new protocol too");
}
