//! `spec.certificate` of MeshConfig.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::time_schema;
use crate::value::{Complaint, Effective, parse_duration};

const DEFAULT_VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_VALIDITY: Duration = Duration::from_secs(10 * 60);
const FEWEST_KEY_BITS: u16 = 2048;
const MOST_KEY_BITS: u16 = 4096;

/// Certificates of workloads and of the ingress gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// How long a workload's certificate is valid, for example 24h; at least 10m. A text that is no duration counts as 24h.
    pub service_cert_validity_duration: String,
    /// Size of RSA keys of workloads in bits, 2048 to 4096; another number counts as 2048.
    pub cert_key_bit_size: i64,
    /// A certificate of the mesh for an ingress gateway, kept up to date in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_gateway: Option<IngressGatewayCertificateSpec>,
}

impl CertificateSpec {
    pub(super) fn service_validity(section: Option<&Self>) -> Effective<Duration> {
        match section {
            None => Effective::good(DEFAULT_VALIDITY),
            Some(section) => {
                validity("spec.certificate.serviceCertValidityDuration", &section.service_cert_validity_duration)
            }
        }
    }

    pub(super) fn rsa_key_bits(section: Option<&Self>) -> Effective<Option<u16>> {
        let Some(section) = section else {
            return Effective::good(None);
        };
        match u16::try_from(section.cert_key_bit_size) {
            Ok(bits @ FEWEST_KEY_BITS..=MOST_KEY_BITS) => Effective::good(Some(bits)),
            _ => Effective::instead(
                Some(FEWEST_KEY_BITS),
                Complaint {
                    field: "spec.certificate.certKeyBitSize".to_owned(),
                    value: section.cert_key_bit_size.to_string(),
                    problem: "is not within 2048 to 4096".to_owned(),
                    remedy: "write a size within that range; 2048 is used until then".to_owned(),
                },
            ),
        }
    }
}

/// A certificate for an ingress gateway, with which it proves itself to the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressGatewayCertificateSpec {
    /// DNS names in the certificate. What is no DNS name is left out.
    #[schemars(length(min = 1))]
    pub subject_alt_names: Vec<String>,
    /// How long the certificate is valid, for example 24h; at least 10m. A text that is no duration counts as 24h.
    pub validity_duration: String,
    /// The Secret to write the certificate to.
    pub secret: SecretReference,
}

impl IngressGatewayCertificateSpec {
    /// `validityDuration`, 24 hours when it is no duration, at least 10 minutes.
    pub fn validity(&self) -> Effective<Duration> {
        validity("spec.certificate.ingressGateway.validityDuration", &self.validity_duration)
    }
}

/// A certificate of the mesh that is kept in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressGatewayStatus {
    /// The Secret, as namespace/name.
    pub secret: String,
    /// When the certificate ends. It is renewed long before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub expires: Option<Time>,
}

/// A Secret, by name and namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(max = 1024))]
    pub name: String,
    /// Namespace of the Secret.
    #[schemars(length(max = 1024))]
    pub namespace: String,
}

fn validity(field: &str, text: &str) -> Effective<Duration> {
    let complaint = |problem: String, remedy: &str| Complaint {
        field: field.to_owned(),
        value: text.to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    match parse_duration(text) {
        Ok(validity) if validity >= SHORTEST_VALIDITY => Effective::good(validity),
        Ok(_) => Effective::instead(
            SHORTEST_VALIDITY,
            complaint("is shorter than 10m".to_owned(), "write 10m or more; 10m is used until then"),
        ),
        Err(error) => Effective::instead(
            DEFAULT_VALIDITY,
            complaint(error.to_string(), "write a duration such as 24h; 24h is used until then"),
        ),
    }
}
