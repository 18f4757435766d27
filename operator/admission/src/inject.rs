//! Which Pods get a sidecar, and what changes in them.

mod containers;
mod eligible;
mod interception;
mod names;
mod overlay;
mod probes;
mod refusal;
mod scrape;
mod volumes;

use std::collections::BTreeMap;
use std::fmt;

use osm_api::k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use osm_bootstrap::{ProbeRoute, Probes, names as pod_names};
use osm_intercept::InterceptConfig;
use serde_json::{Map, Value, json};

pub use eligible::SkipReason;
pub use refusal::Refusal;

pub(crate) use containers::wanted_containers;
pub(crate) use volumes::volumes;

use crate::annotation::PROXY_UUID_LABEL;
use crate::config::InjectorConfig;
use crate::version::{VERSION_ANNOTATION, injection_version};
use crate::world::NamespaceSettings;
use eligible::Eligibility;
use names::Former;
use probes::Rewritten;

/// A Pod that is about to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct PodAdmission {
    /// `uid` of the AdmissionRequest.
    pub uid: String,
    /// Namespace of the request; the object itself may not name it yet.
    pub namespace: String,
    /// The Pod, with the API server's defaults.
    pub pod: Value,
}

/// How a Pod is called in messages. Its name may not be decided yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Its Namespace.
    pub namespace: String,
    /// Its name, or what its name will start with, followed by `*`.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pod {}/{}", self.namespace, self.name)
    }
}

/// What becomes of a Pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Injection {
    /// It is created as it is.
    Skip(SkipReason),
    /// It gets a sidecar.
    Patch {
        /// What changes. Empty when an earlier injection has said it all.
        patch: json_patch::Patch,
        /// What its author should know; one line each.
        warnings: Vec<String>,
    },
    /// It is not created.
    Refuse(Refusal),
}

/// Decides about a Pod. No side effects, whether or not the request is a dry run.
#[must_use]
pub fn inject(review: &PodAdmission, namespace: &NamespaceSettings, config: &InjectorConfig) -> Injection {
    let name = pod_name(review);
    match decide(&name, review, namespace, config) {
        Ok(injection) => injection,
        Err(refusal) => Injection::Refuse(refusal),
    }
}

fn pod_name(review: &PodAdmission) -> PodName {
    let text = |pointer: &str| review.pod.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let generated = || text("/metadata/generateName").map_or_else(|| "*".to_owned(), |prefix| format!("{prefix}*"));
    let name = text("/metadata/name").map_or_else(generated, str::to_owned);
    PodName { namespace: review.namespace.clone(), name }
}

fn decide(
    name: &PodName,
    review: &PodAdmission,
    namespace: &NamespaceSettings,
    config: &InjectorConfig,
) -> Result<Injection, Refusal> {
    let unreadable = |problem: String| Refusal::Unreadable { pod: name.clone(), problem };
    let pod: Pod = serde_path_to_error::deserialize(&review.pod)
        .map_err(|error| unreadable(format!("{}: {}", error.path(), error.inner())))?;
    match eligible::eligible(name, &pod, namespace, &config.defaults.control_plane_namespace)? {
        Eligibility::Skip(reason) => return Ok(Injection::Skip(reason)),
        Eligibility::Inject => {}
    }
    let spec = pod.spec.as_ref().ok_or_else(|| unreadable("spec is missing".to_owned()))?;
    let former = names::former(name, spec)?;
    let none = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let interception = interception::merged(name, annotations, &config.interception)?;
    interception::refuse_uid_clash(name, spec, interception.proxy_uid)?;
    let scrape = scrape::annotations(name, annotations, &namespace.metrics)?;

    let mut injected = review.pod.clone();
    let rewritten = rewrite_probes(spec, &mut injected, former);
    let mut warnings = config.warnings.clone();
    warnings.extend(rewritten.warnings);
    warnings.extend(reserved_ports(spec, &interception));
    let probes = Probes::new(rewritten.routes).map_err(|problem| Refusal::Probes { pod: name.clone(), problem })?;
    put_containers(&mut injected, wanted_containers(config, &interception, probes, &rewritten.health_check_ports));
    put_volumes(&mut injected, volumes());
    map(&mut injected["metadata"], "labels").insert(PROXY_UUID_LABEL.to_owned(), review.uid.as_str().into());
    let version = (VERSION_ANNOTATION, injection_version(config));
    map(&mut injected["metadata"], "annotations")
        .extend(scrape.into_iter().chain([version]).map(|(key, value)| (key.to_owned(), value.into())));
    Ok(Injection::Patch { patch: json_patch::diff(&review.pod, &injected), warnings })
}

fn rewrite_probes(spec: &PodSpec, injected: &mut Value, former: Former) -> Rewritten {
    let routes = match former {
        Former::Fresh => Vec::new(),
        Former::Injected => former_routes(spec),
    };
    let mut rewritten = Rewritten::default();
    let none = Vec::new();
    let lists: [(&str, &Vec<Container>); 2] =
        [("containers", &spec.containers), ("initContainers", spec.init_containers.as_ref().unwrap_or(&none))];
    for (field, containers) in lists {
        if let Some(written) = injected["spec"].get_mut(field).and_then(Value::as_array_mut) {
            probes::rewrite(containers, written, &routes, &mut rewritten);
        }
    }
    rewritten
}

/// Where an earlier injection left the original probes: in the arguments of the init container. Unreadable ones are as none.
fn former_routes(spec: &PodSpec) -> Vec<ProbeRoute> {
    let is_init = |container: &&Container| container.name == pod_names::INIT_CONTAINER;
    let init = spec.init_containers.iter().flatten().find(is_init);
    let mut arguments = init.into_iter().flat_map(|container| container.args.iter().flatten());
    let text = arguments.find_map(|argument| argument.strip_prefix("--probes="));
    let probes = text.and_then(|text| serde_json::from_str::<Probes>(&text.replace("$$", "$")).ok());
    probes.map(|probes| probes.routes().to_vec()).unwrap_or_default()
}

/// Two programs cannot listen on one port of a Pod, and the sidecar is first.
fn reserved_ports(spec: &PodSpec, interception: &InterceptConfig) -> Vec<String> {
    let ports = &interception.proxy_ports;
    let fixed = [i32::from(osm_translate::naming::ADMIN_PORT), i32::from(pod_names::PROXY_READINESS_PORT)];
    let of_proxy: Vec<i32> =
        ports.direct.iter().chain([&ports.inbound, &ports.outbound]).map(|port| port.get().into()).collect();
    let is_reserved = |port: i32| fixed.contains(&port) || of_proxy.contains(&port);
    let mut warnings = Vec::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        if names::is_own_container(&container.name) {
            continue;
        }
        for port in container.ports.iter().flatten().filter(|port| is_reserved(port.container_port)) {
            warnings.push(format!(
                "container {:?} names port {}, which the sidecar listens on; let it listen on another",
                container.name, port.container_port
            ));
        }
    }
    warnings
}

/// Our containers come first and in their order, so that what comes after them runs within the mesh.
fn put_containers(injected: &mut Value, wanted: Vec<Value>) {
    let present = list(&mut injected["spec"], "initContainers");
    let (mut own, others): (Vec<Value>, Vec<Value>) = std::mem::take(present)
        .into_iter()
        .partition(|container| container["name"].as_str().is_some_and(names::is_own_container));
    for container in wanted {
        let known = own.iter().position(|known| known["name"] == container["name"]);
        let mut result = known.map_or_else(|| json!({}), |known| own.swap_remove(known));
        overlay::overlay(&mut result, container);
        present.push(result);
    }
    present.extend(others);
}

fn put_volumes(injected: &mut Value, wanted: Vec<Value>) {
    let present = list(&mut injected["spec"], "volumes");
    for volume in wanted {
        match present.iter_mut().find(|known| known["name"] == volume["name"]) {
            Some(known) => overlay::overlay(known, volume),
            None => present.push(volume),
        }
    }
}

/// The list `field` of an object; made if it is absent or null.
fn list<'a>(parent: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    let value = &mut parent[field];
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("it was just made one")
}

/// The map `field` of an object; made if it is absent or null.
fn map<'a>(parent: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    let value = &mut parent[field];
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made one")
}
