//! A folder of manifests as a cluster would see it: what kube-proxy, cluster DNS and the kubelet take from it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fabric::{PodAddresses, ServiceRule};
use crate::workload::WorkloadSpec;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The Services, EndpointSlices and Pods of a folder; everything else is the control plane's.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    pods: Vec<Pod>,
}

/// A pod as its manifest describes it.
#[derive(Debug, Clone)]
pub struct PodManifest {
    /// Its namespace.
    pub namespace: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// How to run it: its name, its addresses (`status.podIPs`) and its first container's `args`.
    pub workload: WorkloadSpec,
}

impl Manifests {
    /// Reads every `*.yaml` of a folder, not of folders below it.
    ///
    /// # Errors
    /// A file that cannot be read, or an object of ours to read that is not what its kind says.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut manifests = Self::default();
        for path in yaml_files(folder)? {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            manifests.add(&text).with_context(|| format!("in {}", path.display()))?;
        }
        Ok(manifests)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        for document in serde_saphyr::from_multiple::<Value>(text)? {
            match document["kind"].as_str() {
                Some("Service") => self.services.push(decode(document)?),
                Some("EndpointSlice") => self.slices.push(decode(document)?),
                Some("Pod") => self.pods.push(decode(document)?),
                Some(_) => {}
                None if document.is_null() => {}
                None => bail!("a document without a kind"),
            }
        }
        Ok(())
    }

    /// What kube-proxy would make of it. Headless Services have no address, so no rule.
    ///
    /// # Errors
    /// An address that is none.
    pub fn service_rules(&self) -> Result<Vec<ServiceRule>> {
        let mut rules = Vec::new();
        for service in &self.services {
            for cluster_ip in cluster_ips(service)? {
                for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
                    let number = u16::try_from(port.port)?;
                    let endpoints = self.endpoints(service, port.name.as_deref(), cluster_ip.is_ipv4())?;
                    rules.push(ServiceRule { cluster_ip, port: number, endpoints });
                }
            }
        }
        rules.sort();
        Ok(rules)
    }

    /// What cluster DNS would answer: every Service's names, for headless ones its endpoints' addresses.
    ///
    /// # Errors
    /// An address that is none.
    pub fn names(&self) -> Result<BTreeMap<String, Vec<IpAddr>>> {
        let mut names = BTreeMap::new();
        for service in &self.services {
            let mut addresses = cluster_ips(service)?;
            if addresses.is_empty() {
                for slice in self.slices_of(service) {
                    for address in slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
                        addresses.push(address.parse()?);
                    }
                }
            }
            let base =
                format!("{}.{}", name(service.metadata.name.as_ref()), namespace(service.metadata.namespace.as_ref()));
            for suffix in ["", ".svc", ".svc.cluster.local"] {
                names.insert(format!("{base}{suffix}"), addresses.clone());
            }
        }
        Ok(names)
    }

    /// The pods, in the order of the files and of the documents in them.
    ///
    /// # Errors
    /// A pod without an address of both families.
    pub fn pods(&self) -> Result<Vec<PodManifest>> {
        self.pods.iter().map(pod_manifest).collect()
    }

    fn slices_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a EndpointSlice> {
        self.slices.iter().filter(|slice| {
            slice.metadata.namespace == service.metadata.namespace
                && slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME))
                    == service.metadata.name.as_ref()
        })
    }

    fn endpoints(&self, service: &Service, port: Option<&str>, ipv4: bool) -> Result<Vec<SocketAddr>> {
        let mut endpoints = Vec::new();
        for slice in self.slices_of(service) {
            let same_name = slice
                .ports
                .iter()
                .flatten()
                .find(|candidate| candidate.name.as_deref().unwrap_or("") == port.unwrap_or(""));
            let Some(number) = same_name.and_then(|port| port.port) else { continue };
            for endpoint in &slice.endpoints {
                // Kubernetes: unknown means ready.
                if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
                    continue;
                }
                for address in &endpoint.addresses {
                    let address: IpAddr = address.parse().with_context(|| format!("endpoint address {address:?}"))?;
                    if address.is_ipv4() == ipv4 {
                        endpoints.push(SocketAddr::new(address, u16::try_from(number)?));
                    }
                }
            }
        }
        Ok(endpoints)
    }
}

/// Changes `folder` as a user would: copies the stage's `*.yaml` over what is there, each in one step, and deletes the files that its list
/// `REMOVE` names. Returns the names of the files it touched.
///
/// # Errors
/// A file cannot be read or written, or `REMOVE` names one that is not there.
pub fn apply_stage(stage: &Path, folder: &Path) -> Result<Vec<String>> {
    let mut touched = Vec::new();
    for path in yaml_files(stage)? {
        let name = path.file_name().and_then(|name| name.to_str()).context("a file name that is not text")?;
        // A reader sees the old file or the new one, never half of it; and the name says it is no manifest yet.
        let scratch = folder.join(format!(".{name}.new"));
        fs::copy(&path, &scratch).with_context(|| format!("copying {}", path.display()))?;
        fs::rename(&scratch, folder.join(name))?;
        touched.push(name.to_owned());
    }
    let list = stage.join("REMOVE");
    if list.is_file() {
        for name in fs::read_to_string(&list)?.lines().map(str::trim).filter(|name| !name.is_empty()) {
            ensure!(!name.contains('/'), "{} names {name:?}, which is not a file name", list.display());
            fs::remove_file(folder.join(name)).with_context(|| format!("removing {name}"))?;
            touched.push(name.to_owned());
        }
    }
    ensure!(!touched.is_empty(), "stage {} changes nothing", stage.display());
    Ok(touched)
}

/// The stages below a folder, in the order of their names.
///
/// # Errors
/// The folder cannot be read.
pub fn stages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut stages = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            stages.push(path);
        }
    }
    stages.sort();
    Ok(stages)
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "yaml") && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn decode<T: DeserializeOwned>(document: Value) -> Result<T> {
    let described = format!("{} {}", document["kind"], document["metadata"]["name"]);
    serde_json::from_value(document).with_context(|| format!("decoding {described}"))
}

fn cluster_ips(service: &Service) -> Result<Vec<IpAddr>> {
    let Some(spec) = &service.spec else { return Ok(Vec::new()) };
    let mut texts: Vec<&String> = spec.cluster_ips.iter().flatten().collect();
    if texts.is_empty() {
        texts.extend(&spec.cluster_ip);
    }
    let addresses = texts.into_iter().filter(|text| !text.is_empty() && *text != "None");
    addresses
        .map(|text| {
            text.parse().with_context(|| format!("clusterIP {text:?} of {}", name(service.metadata.name.as_ref())))
        })
        .collect()
}

fn pod_manifest(pod: &Pod) -> Result<PodManifest> {
    let pod_name = name(pod.metadata.name.as_ref());
    let mut addresses = Vec::new();
    for ip in pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten()) {
        addresses.push(ip.ip.parse::<IpAddr>().with_context(|| format!("podIP {:?} of {pod_name}", ip.ip))?);
    }
    let ipv4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let ipv6 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(*address),
    });
    let (Some(ipv4), Some(ipv6)) = (ipv4, ipv6) else {
        bail!("pod {pod_name} needs an IPv4 and an IPv6 address in status.podIPs");
    };
    let spec = pod.spec.as_ref().with_context(|| format!("pod {pod_name} has no spec"))?;
    let arguments = spec.containers.first().and_then(|container| container.args.clone()).unwrap_or_default();
    let arguments = arguments.into_iter().map(OsString::from);
    Ok(PodManifest {
        namespace: namespace(pod.metadata.namespace.as_ref()).to_owned(),
        service_account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        workload: WorkloadSpec::new(pod_name, arguments).at(PodAddresses { ipv4, ipv6 }),
    })
}

fn name(name: Option<&String>) -> &str {
    name.map_or("", String::as_str)
}

fn namespace(namespace: Option<&String>) -> &str {
    namespace.map_or("default", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec:
  clusterIP: 10.96.0.9
  ports: [{ name: http, port: 80, targetPort: 8080 }, { name: other, port: 81 }]
---
apiVersion: v1
kind: Service
metadata: { name: data, namespace: shop }
spec: { clusterIP: None, ports: [{ port: 5432 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints:
  - { addresses: ["10.244.0.9"] }
  - { addresses: ["10.244.0.10"], conditions: { ready: false } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: data-1, namespace: shop, labels: { kubernetes.io/service-name: data } }
addressType: IPv4
ports: [{ port: 5432 }]
endpoints: [{ addresses: ["10.244.0.11"] }]
---
kind: ConfigMap
"#;

    #[test]
    fn services_and_names_are_what_a_cluster_makes_of_them() {
        let mut manifests = Manifests::default();
        manifests.add(TEXT).unwrap();
        let rules = manifests.service_rules().unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0].endpoints, ["10.244.0.9:8080".parse().unwrap()]);
        assert!(rules[1].endpoints.is_empty(), "no endpoint has the port {:?}", rules[1]);
        let names = manifests.names().unwrap();
        assert_eq!(names["web.shop.svc.cluster.local"], ["10.96.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(names["data.shop"], ["10.244.0.11".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_pod_without_addresses_is_named() {
        let mut manifests = Manifests::default();
        manifests.add("kind: Pod\nmetadata: { name: lost }\nspec: { containers: [] }\n").unwrap();
        assert!(manifests.pods().unwrap_err().to_string().contains("pod lost needs"));
    }
}
