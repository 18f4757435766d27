//! The Secret of the gateway: what is in it, whose it is, and what is to be written.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use osm_api::k8s_openapi::ByteString;
use osm_api::k8s_openapi::api::core::v1::Secret;
use osm_issuer::{IngressGatewayIdentity, PrivateKeyPem, SecretMaterial};
use serde_json::{Value, json};

/// Keys of the Secret, OSM's: the roots, the certificate with its intermediates, the private key.
const ROOTS: &str = "ca.crt";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Type of the Secret.
const TLS: &str = "kubernetes.io/tls";
/// Type of a Secret that is taken over, too: a type cannot be changed.
const OPAQUE: &str = "Opaque";

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// What cert-manager notes on a Secret that it keeps.
const CERT_MANAGER: &str = "cert-manager.io/";

/// The Secret as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The version that was read.
    version: Option<String>,
    type_: String,
    labels: BTreeMap<String, String>,
    /// Who else keeps it, as far as that can be seen.
    kept_by: Option<String>,
    /// Whether it has these three keys and no other.
    has_our_keys: bool,
    /// Whether any key has a value.
    is_empty: bool,
    pub(super) roots: String,
    pub(super) chain: String,
    pub(super) key: PrivateKeyPem,
}

impl Found {
    /// Reads a Secret; `None` if it is none.
    pub(super) fn read(object: Value) -> Option<Self> {
        // The error of the decoder could quote a value.
        let Secret { metadata, data, type_, .. } = serde_json::from_value(object).ok()?;
        let mut data = data.unwrap_or_default();
        let has_our_keys = data.keys().map(String::as_str).eq([ROOTS, CHAIN, KEY]);
        let is_empty = data.values().all(|ByteString(value)| value.is_empty());
        let mut text = |key: &str| {
            let bytes = data.remove(key).unwrap_or_default();
            String::from_utf8(bytes.0).unwrap_or_default()
        };
        let (roots, chain, key) = (text(ROOTS), text(CHAIN), PrivateKeyPem::new(text(KEY)));
        let labels = metadata.labels.unwrap_or_default();
        let owner = metadata.owner_references.iter().flatten().next();
        let annotations = metadata.annotations.unwrap_or_default();
        let kept_by = owner
            .map(|owner| format!("{} {}", owner.kind, owner.name))
            .or_else(|| {
                annotations.keys().any(|name| name.starts_with(CERT_MANAGER)).then(|| "cert-manager".to_owned())
            })
            .or_else(|| labels.get(MANAGED_BY).cloned());
        let type_ = type_.unwrap_or_default();
        Some(Self {
            version: metadata.resource_version,
            type_,
            labels,
            kept_by,
            has_our_keys,
            is_empty,
            roots,
            chain,
            key,
        })
    }

    fn has_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// Why the Secret must not be written: somebody else's is never destroyed. One that is as OSM's control plane left it, and one
    /// that is empty, is taken over.
    pub(super) fn refusal(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        if ![TLS, OPAQUE].contains(&self.type_.as_str()) {
            return Some(format!("its type is {:?}, not {TLS}", self.type_));
        }
        if self.has_labels(labels) {
            return None;
        }
        if let Some(keeper) = &self.kept_by {
            return Some(format!("{keeper} keeps it"));
        }
        let is_ours = self.has_our_keys || self.is_empty;
        (!is_ours).then(|| format!("it has other keys than {ROOTS}, {CHAIN} and {KEY}"))
    }
}

/// What the Secret is to hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) identity: &'a IngressGatewayIdentity,
    pub(super) labels: &'a BTreeMap<String, String>,
    /// All roots that are trusted, PEM.
    pub(super) roots: &'a str,
    pub(super) material: &'a SecretMaterial,
}

impl Content<'_> {
    /// What others add is theirs.
    pub(super) fn is_in(&self, found: &Found) -> bool {
        found.roots == self.roots
            && found.chain == self.material.certificate_chain_pem()
            && found.key.expose_private_key_pem() == self.material.expose_private_key_pem()
            && found.has_labels(self.labels)
    }

    /// The Secret, in place of what was found: of that version alone, and of its type.
    pub(super) fn manifest(&self, found: Option<&Found>) -> Value {
        let mut metadata = json!({
            "namespace": self.identity.namespace(), "name": self.identity.secret(), "labels": self.labels,
        });
        if let Some(version) = found.and_then(|found| found.version.as_ref()) {
            metadata["resourceVersion"] = json!(version);
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata,
            "type": found.map_or(TLS, |found| found.type_.as_str()),
            "data": {
                ROOTS: STANDARD.encode(self.roots),
                CHAIN: STANDARD.encode(self.material.certificate_chain_pem()),
                KEY: STANDARD.encode(self.material.expose_private_key_pem()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels;

    fn found(type_: &str, metadata: &Value, data: &[(&str, &str)]) -> Found {
        let data: BTreeMap<&str, String> = data.iter().map(|(key, value)| (*key, STANDARD.encode(value))).collect();
        Found::read(json!({ "type": type_, "metadata": metadata, "data": data })).unwrap()
    }

    const OSMS: [(&str, &str); 3] = [("ca.crt", "roots"), ("tls.crt", "chain"), ("tls.key", "secret key")];

    #[test]
    fn what_osm_made_is_taken_over_and_what_somebody_else_made_is_not() {
        let ours = labels::of_mesh("osm");
        let refusal = |found: Found| found.refusal(&ours);
        assert_eq!(refusal(found(TLS, &json!({}), &OSMS)), None, "OSM's");
        assert_eq!(refusal(found(OPAQUE, &json!({ "labels": { "a": "b" } }), &OSMS)), None);
        assert_eq!(refusal(found(OPAQUE, &json!({}), &[])), None, "an empty one");
        assert_eq!(refusal(found(TLS, &json!({}), &[("tls.crt", ""), ("tls.key", "")])), None, "an empty one");
        let more = [&OSMS[..], &[("more", "of others")]].concat();
        assert_eq!(refusal(found(TLS, &json!({ "labels": ours }), &more)), None, "ours");

        let words = |found: Found| refusal(found).expect("it is refused");
        assert!(words(found(TLS, &json!({}), &OSMS[1..])).contains("other keys"), "a gateway's own");
        assert!(words(found(OPAQUE, &json!({}), &more)).contains("other keys"));
        assert!(words(found("example.com/type", &json!({ "labels": ours }), &OSMS)).contains("example.com/type"));
        let helm = json!({ "labels": { MANAGED_BY: "Helm" } });
        assert_eq!(words(found(TLS, &helm, &OSMS)), "Helm keeps it");
        let another_mesh = json!({ "labels": labels::of_mesh("another") });
        assert_eq!(words(found(TLS, &another_mesh, &OSMS)), "osm-operator keeps it");
        let cert_manager = json!({ "annotations": { "cert-manager.io/certificate-name": "gateway" } });
        assert_eq!(words(found(TLS, &cert_manager, &OSMS)), "cert-manager keeps it");
        let owner = json!({ "apiVersion": "a/v1", "kind": "Gateway", "name": "g", "uid": "u" });
        assert_eq!(words(found(TLS, &json!({ "ownerReferences": [owner] }), &OSMS)), "Gateway g keeps it");
    }

    #[test]
    fn no_key_is_printed() {
        let printed = format!("{:?}", found(TLS, &json!({}), &OSMS));
        assert!(printed.contains("roots") && !printed.contains("secret key"), "{printed}");
    }
}
