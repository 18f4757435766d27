//! What a cluster has from its first moment on: DNS.

use std::net::IpAddr;

use serde_json::json;

use super::network::DNS_SERVICE;
use crate::images::Image;

const COREFILE: &str = "\
.:53 {
    errors
    health
    ready
    hosts /etc/coredns/hosts {
        ttl 5
        fallthrough
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    cache 5
    loadbalance
}
";

/// A change of the DNS server's ConfigMap: names outside the cluster that it is to know, and no others.
pub(super) fn hosts(hosts: &[(String, IpAddr)]) -> String {
    let lines: String = hosts.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    json!({ "data": { "hosts": lines } }).to_string()
}

/// The DNS server, as manifests.
pub(super) fn coredns(image: &Image) -> String {
    let name = |kind: &str, api: &str| json!({ "apiVersion": api, "kind": kind, "metadata": { "name": "coredns", "namespace": "kube-system" } });
    let with = |mut object: serde_json::Value, fields: serde_json::Value| {
        if let (Some(object), serde_json::Value::Object(fields)) = (object.as_object_mut(), fields) {
            object.extend(fields);
        }
        object
    };
    let labels = json!({ "k8s-app": "kube-dns" });
    let read = json!(["list", "watch"]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "system:coredns" },
        "rules": [
            { "apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read },
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "system:coredns" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns" },
        "subjects": [{ "kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system" }],
    });
    let container = json!({
        "name": "coredns",
        "image": image.reference(),
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{ "name": "configuration", "mountPath": "/etc/coredns" }],
        // Without a share of its own it gets next to nothing of a busy machine.
        "resources": { "requests": { "cpu": "100m" } },
        // It is the only one: on a machine that is too busy to answer in time, no names at all would be worse than slow ones.
        "readinessProbe": {
            "httpGet": { "path": "/ready", "port": 8181 }, "periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 10,
        },
    });
    let deployment = with(
        name("Deployment", "apps/v1"),
        json!({ "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "serviceAccountName": "coredns",
                    "dnsPolicy": "Default",
                    "priorityClassName": "system-cluster-critical",
                    "containers": [container],
                    "volumes": [{ "name": "configuration", "configMap": { "name": "coredns" } }],
                },
            },
        } }),
    );
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": labels },
        "spec": {
            "clusterIP": DNS_SERVICE,
            "selector": labels,
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
            ],
        },
    });
    let objects = [
        name("ServiceAccount", "v1"),
        role,
        binding,
        with(name("ConfigMap", "v1"), json!({ "data": { "Corefile": COREFILE, "hosts": "" } })),
        deployment,
        service,
    ];
    json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
}
