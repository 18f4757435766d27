//! The pods that are there, by the node ids of their proxies. A certificate outlives its pod; a proxy does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use osm_api::{Kind, Object, ObjectRef};
use osm_model::Identity;
use osm_xds::ProxyName;

/// Node ids of the proxies in pods, `<pod>.<uid>`, by namespace and name of the pod. A handle: clones are the same pods.
#[derive(Debug, Clone, Default)]
pub struct KnownPods {
    pods: Arc<RwLock<BTreeMap<ObjectRef, Pod>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    /// `metadata.uid`.
    uid: String,
    /// `spec.serviceAccountName`.
    service_account: String,
}

impl KnownPods {
    /// Whether a proxy may be the one of a pod that is there. Node ids that do not end with a pod's uid belong to no pod (to a
    /// VM, for example), and nothing is known against them.
    pub fn may_be(&self, namespace: &str, node: &str) -> bool {
        let Some((name, uid)) = pod_of(node) else { return true };
        let pods = self.read();
        pods.get(&ObjectRef::new(Kind::Pod, namespace, name)).is_some_and(|pod| pod.uid == uid)
    }

    /// Whether a proxy was that of a pod that is not there any more, or has ended. Who has just come may not be known yet.
    pub(crate) fn has_left(&self, proxy: &ProxyName) -> bool {
        let mut parts = proxy.as_str().splitn(3, '/');
        match (parts.next(), parts.nth(1)) {
            (Some(namespace), Some(node)) => !self.may_be(namespace, node),
            _ => false,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ObjectRef, Pod>> {
        // A map is whole whatever a panic elsewhere did.
        self.pods.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes over changed objects, and gives the proxies whose pod is gone, or was replaced by another of its name.
    pub(super) fn update(&self, changes: &[(ObjectRef, Option<Object>)]) -> BTreeSet<ProxyName> {
        let mut gone = BTreeSet::new();
        if changes.iter().all(|(name, _)| name.kind != Kind::Pod) {
            return gone;
        }
        let mut pods = self.pods.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (name, object) in changes.iter().filter(|(name, _)| name.kind == Kind::Pod) {
            let now = object.as_ref().and_then(pod);
            let before = match now.clone() {
                Some(pod) => pods.insert(name.clone(), pod),
                None => pods.remove(name),
            };
            gone.extend(before.filter(|before| Some(before) != now.as_ref()).and_then(|pod| proxy(name, &pod)));
        }
        gone
    }
}

fn pod(object: &Object) -> Option<Pod> {
    let Object::Pod(pod) = object else { return None };
    let service_account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    Some(Pod {
        uid: pod.metadata.uid.clone().filter(|uid| !uid.is_empty())?,
        service_account: service_account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned()),
    })
}

/// The name the proxy of a pod goes by.
fn proxy(name: &ObjectRef, pod: &Pod) -> Option<ProxyName> {
    let identity = Identity::new(&name.namespace, &pod.service_account).ok()?;
    Some(ProxyName::new(format!("{identity}/{}.{}", name.name, pod.uid)))
}

/// Name and uid of the pod that a node id names.
fn pod_of(node: &str) -> Option<(&str, &str)> {
    let (name, uid) = node.rsplit_once('.')?;
    is_uid(uid).then_some((name, uid))
}

/// Whether a text has the form of a uid that the API server gives.
fn is_uid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use osm_api::{Strictness, decode};
    use serde_json::json;

    use super::*;

    const UID: &str = "0f4c2b9a-6a43-4a0e-9d3c-0d7b9f4f6d11";
    const OTHER: &str = "11111111-6a43-4a0e-9d3c-0d7b9f4f6d11";

    fn api_pod(uid: Option<&str>) -> (ObjectRef, Option<Object>) {
        let value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": "shop", "name": "api-0", "uid": uid },
            "spec": { "serviceAccountName": "api", "containers": [] },
        });
        let object = decode(value, Strictness::Lenient).unwrap();
        (object.reference(), Some(object))
    }

    fn proxy_of(uid: &str) -> ProxyName {
        ProxyName::new(format!("shop/api/api-0.{uid}"))
    }

    #[test]
    fn a_proxy_is_known_as_long_as_its_pod_is_there() {
        let pods = KnownPods::default();
        let node = format!("api-0.{UID}");
        assert!(!pods.may_be("shop", &node));
        assert!(pods.update(&[api_pod(Some(UID))]).is_empty());
        assert!(pods.may_be("shop", &node));
        assert!(!pods.has_left(&proxy_of(UID)) && pods.has_left(&proxy_of(OTHER)));
        assert!(!pods.has_left(&ProxyName::new("shop/api/vm-1")), "of no pod");
        assert!(!pods.may_be("other", &node), "a pod of that name elsewhere");
        assert!(pods.update(&[api_pod(Some(UID))]).is_empty(), "the same pod again");
        let (name, _) = api_pod(None);
        assert_eq!(pods.update(&[(name, None)]), [proxy_of(UID)].into());
        assert!(!pods.may_be("shop", &node));
    }

    #[test]
    fn another_pod_of_the_name_is_another_proxy() {
        let pods = KnownPods::default();
        pods.update(&[api_pod(Some(UID))]);
        assert_eq!(pods.update(&[api_pod(Some(OTHER))]), [proxy_of(UID)].into());
        assert!(pods.may_be("shop", &format!("api-0.{OTHER}")) && !pods.may_be("shop", &format!("api-0.{UID}")));
    }

    #[test]
    fn proxies_outside_of_pods_are_nobodys_pod() {
        let pods = KnownPods::default();
        assert!(pods.may_be("shop", "vm-1") && pods.may_be("shop", "api-0.example.org"));
        assert!(pods.update(&[api_pod(None)]).is_empty(), "a manifest has no uid");
    }
}
