//! What the MeshConfig asks for, as far as it can be used.

use osm_api::{IngressGatewayCertificateSpec, MeshConfig, MeshConfigReason, MeshObject, Object, ObjectRef};
use osm_issuer::{ControlPlaneIdentity, IngressGatewayIdentity, LeafValidity};
use osm_model::{Aspect, Finding, Severity};
use osm_source::SourceEvent;
use tokio::sync::{mpsc, watch};

use super::GatewayNews;
use crate::mesh::{Observer, is_mesh_config};

/// The section of the MeshConfig.
pub(super) const SECTION: &str = "spec.certificate.ingressGateway";

/// What is wanted by the MeshConfig of a generation; of none, where there is no MeshConfig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The MeshConfig's generation.
    pub(super) generation: i64,
    /// What its section says; `None` if it has none.
    pub(super) gateway: Option<Asked>,
}

/// A certificate that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Whom it shall name; `None` if that cannot be made of the text.
    pub(super) identity: Option<IngressGatewayIdentity>,
    /// How long it shall be valid at the most.
    pub(super) validity: LeafValidity,
    /// What is wrong with the text.
    pub(super) findings: Vec<Finding>,
}

/// Tells what is wanted, from when everything was read. Of a MeshConfig that is deleted the last settings stay.
pub(crate) fn observer(control_plane: ControlPlaneIdentity, wanted: watch::Sender<Option<Wanted>>) -> Observer {
    let (mut current, mut synced) = (Wanted::default(), false);
    Box::new(move |event| {
        match event {
            SourceEvent::Changes(changes) => {
                let ours = |name: &ObjectRef| is_mesh_config(name) && name.namespace == control_plane.namespace();
                for (_, object) in changes.iter().filter(|(name, _)| ours(name)) {
                    if let Some(Object::MeshConfig(config)) = object {
                        current = Wanted::of(config, &control_plane);
                    }
                }
            }
            SourceEvent::Synced => synced = true,
            SourceEvent::Problems(_) => return,
        }
        if synced {
            wanted.send_if_modified(|told| {
                let differs = told.as_ref() != Some(&current);
                if differs {
                    *told = Some(current.clone());
                }
                differs
            });
        }
    })
}

/// Without a cluster there is no Secret to keep: a MeshConfig that asks for one is told.
pub(crate) fn without_cluster(news: mpsc::UnboundedSender<Option<GatewayNews>>) -> Observer {
    Box::new(move |event| {
        let SourceEvent::Changes(changes) = event else { return };
        for (name, object) in changes.iter().filter(|(name, _)| is_mesh_config(name)) {
            let Some(Object::MeshConfig(config)) = object else { continue };
            let certificate = config.spec.certificate.as_ref();
            let is_asked_for = certificate.is_some_and(|certificate| certificate.ingress_gateway.is_some());
            let finding = Finding {
                object: osm_engine::object_id(name),
                field: SECTION.into(),
                aspect: Aspect::Accepted,
                severity: Severity::Warning,
                reason: MeshConfigReason::NoEffect.as_str(),
                message: "the field has no effect: certificates for ingress gateways are kept in Secrets of a cluster"
                    .into(),
                remedy: "leave the field out".into(),
            };
            let told = GatewayNews {
                generation: config.metadata.generation.unwrap_or_default(),
                findings: is_asked_for.then_some(finding).into_iter().collect(),
                status: serde_json::Value::Null,
            };
            if news.send(Some(told)).is_err() {
                tracing::debug!("the loop of the mesh has ended");
            }
        }
    })
}

impl Wanted {
    fn of(config: &MeshConfig, control_plane: &ControlPlaneIdentity) -> Self {
        let section = config.spec.certificate.as_ref().and_then(|certificate| certificate.ingress_gateway.as_ref());
        Self {
            generation: config.metadata.generation.unwrap_or_default(),
            gateway: section.map(|section| Asked::of(config, section, control_plane)),
        }
    }
}

impl Asked {
    fn of(config: &MeshConfig, section: &IngressGatewayCertificateSpec, control_plane: &ControlPlaneIdentity) -> Self {
        let mut findings = Vec::new();
        let mut note = |severity, field: &str, message: String, remedy: &str| {
            findings.push(Finding {
                object: osm_engine::object_id(&config.reference()),
                field: format!("{SECTION}.{field}").into(),
                aspect: Aspect::Accepted,
                severity,
                reason: MeshConfigReason::InvalidField.as_str(),
                message: message.into(),
                remedy: remedy.into(),
            });
        };
        let own = [control_plane.service_dns_name(), control_plane.ads_dns_name()];
        let mut names = Vec::new();
        for (index, name) in section.subject_alt_names.iter().enumerate() {
            let problem = match IngressGatewayIdentity::dns_name(name) {
                Err(error) => error.to_string(),
                Ok(_) if own.contains(name) => {
                    format!("use {name:?} as DNS name: it is the control plane's own, whom the gateway could pass for")
                }
                Ok(_) => {
                    names.push(name.as_str());
                    continue;
                }
            };
            let message = format!("{problem}; the certificate is without it");
            let remedy = "write DNS names in lower case, such as gateway.ingress.cluster.local";
            note(Severity::Warning, &format!("subjectAltNames[{index}]"), message, remedy);
        }
        if names.is_empty() {
            let message = "no name can be used, so no certificate is issued".to_owned();
            let remedy = "write a DNS name such as gateway.ingress.cluster.local";
            note(Severity::Error, "subjectAltNames", message, remedy);
        }
        let (namespace, secret) = (section.secret.namespace.as_str(), section.secret.name.as_str());
        let domain = || control_plane.trust_domain().clone();
        let identity = IngressGatewayIdentity::new(domain(), namespace, secret, names.iter().copied());
        // Of the names nothing bad is left: what remains is the Secret.
        if let (Err(error), false) = (&identity, names.is_empty()) {
            let remedy = "name a Secret and its namespace";
            note(Severity::Error, "secret", error.to_string(), remedy);
        }
        let validity = LeafValidity::new(section.validity().value).unwrap_or_default();
        Self { identity: identity.ok(), validity, findings }
    }
}

#[cfg(test)]
mod tests {
    use osm_issuer::TrustDomain;
    use serde_json::{Value, json};

    use super::*;

    fn control_plane() -> ControlPlaneIdentity {
        ControlPlaneIdentity::new(TrustDomain::new("cluster.local").unwrap(), "osm-system", "osm-controller").unwrap()
    }

    fn config(namespace: &str, gateway: Value) -> MeshConfig {
        let mut certificate = json!({ "serviceCertValidityDuration": "24h", "certKeyBitSize": 2048 });
        certificate["ingressGateway"] = gateway;
        let object = json!({
            "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
            "metadata": { "namespace": namespace, "name": "osm-mesh-config", "generation": 3 },
            "spec": { "certificate": certificate },
        });
        serde_json::from_value(object).unwrap()
    }

    fn asked(names: &[&str], secret: &str) -> Asked {
        let secret = json!({ "name": secret, "namespace": "ingress" });
        let gateway = json!({ "subjectAltNames": names, "validityDuration": "24h", "secret": secret });
        Wanted::of(&config("osm-system", gateway), &control_plane()).gateway.unwrap()
    }

    fn told(asked: &Asked) -> Vec<(&str, Severity)> {
        asked.findings.iter().map(|finding| (&*finding.field, finding.severity)).collect()
    }

    #[test]
    fn all_names_that_can_be_used_are_in_the_certificate_and_of_others_it_is_said_why_not() {
        let good = asked(&["gateway.ingress.cluster.local", "shop.example"], "tls");
        assert_eq!(told(&good), []);
        let identity = good.identity.unwrap();
        assert_eq!((identity.namespace(), identity.secret()), ("ingress", "tls"));
        assert_eq!(identity.dns_names().count(), 2);
        for bad in
            ["spiffe://a/b", "10.0.0.1", "*.example", "Shop", "", "ads.cluster.local", "osm-controller.osm-system.svc"]
        {
            let some = asked(&["shop.example", bad], "tls");
            let field = "spec.certificate.ingressGateway.subjectAltNames[1]";
            assert_eq!(told(&some), [(field, Severity::Warning)], "{bad}");
            assert_eq!(some.identity.unwrap().dns_names().collect::<Vec<_>>(), ["shop.example"], "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_a_certificate_is_an_error_about_its_field() {
        let nameless = asked(&["*"], "tls");
        let names = "spec.certificate.ingressGateway.subjectAltNames";
        assert_eq!(told(&nameless), [(&*format!("{names}[0]"), Severity::Warning), (names, Severity::Error)]);
        let nowhere = asked(&["shop.example"], "No Name");
        assert_eq!(told(&nowhere), [("spec.certificate.ingressGateway.secret", Severity::Error)]);
        assert!(nameless.identity.is_none() && nowhere.identity.is_none());
    }

    #[test]
    fn the_last_settings_stay_when_the_mesh_config_is_deleted_and_others_have_no_say() {
        let (tell, told) = watch::channel(None);
        let mut observe = observer(control_plane(), tell);
        let gateway = |secret: &str| {
            let secret = json!({ "name": secret, "namespace": "ingress" });
            json!({ "subjectAltNames": ["shop.example"], "validityDuration": "24h", "secret": secret })
        };
        let change = |namespace: &str, gateway: Option<Value>| {
            let config = config(namespace, gateway.clone().unwrap_or_default());
            let object = gateway.is_some().then(|| Object::MeshConfig(config.clone().into()));
            SourceEvent::Changes(vec![(config.reference(), object)])
        };
        let secret = || -> Option<String> {
            let asked = told.borrow().clone()?.gateway?;
            asked.identity.map(|identity| identity.secret().to_owned())
        };
        observe(&change("osm-system", Some(gateway("a"))));
        assert_eq!(told.borrow().clone(), None, "not before everything was read");
        observe(&SourceEvent::Synced);
        assert_eq!(secret().as_deref(), Some("a"));
        observe(&change("elsewhere", Some(gateway("b"))));
        observe(&change("osm-system", None));
        assert_eq!(secret().as_deref(), Some("a"));
        observe(&change("osm-system", Some(Value::Null)));
        assert_eq!(told.borrow().clone(), Some(Wanted { generation: 3, gateway: None }));
    }

    #[test]
    fn without_a_cluster_a_mesh_config_that_asks_is_told() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut observe = without_cluster(tell);
        let secret = json!({ "name": "tls", "namespace": "ingress" });
        let asks = json!({ "subjectAltNames": ["shop.example"], "validityDuration": "24h", "secret": secret });
        for (gateway, reasons) in [(asks, vec!["NoEffect"]), (Value::Null, vec![])] {
            let config = config("osm-system", gateway);
            observe(&SourceEvent::Changes(vec![(config.reference(), Some(Object::MeshConfig(config.into())))]));
            let news = told.try_recv().unwrap().unwrap();
            assert_eq!(news.findings.iter().map(|finding| finding.reason).collect::<Vec<_>>(), reasons);
            assert_eq!(news.generation, 3);
        }
    }
}
