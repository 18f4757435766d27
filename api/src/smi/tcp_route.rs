//! TCPRoute: a set of TCP ports.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::PolicyStatus;
use crate::value::{Complaint, Port};

/// A set of TCP ports, to which TrafficTargets refer.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "specs.smi-spec.io",
    version = "v1alpha4",
    kind = "TCPRoute",
    root = "TcpRoute",
    plural = "tcproutes",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    shortname = "tr",
    category = "mesh",
    doc = "A set of TCP ports, to which TrafficTargets refer."
)]
#[serde(rename_all = "camelCase")]
pub struct TcpRouteSpec {
    /// The connections in question.
    pub matches: TcpMatch,
}

/// TCP connections, by the port they go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpMatch {
    /// Ports on the workload.
    #[schemars(inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i64>,
}

impl TcpMatch {
    /// The ports that are ports, and a complaint about each number that is none: OSM's schema accepted any.
    pub fn ports(&self) -> (Vec<Port>, Vec<Complaint>) {
        let mut ports = Vec::new();
        let mut complaints = Vec::new();
        for (index, number) in self.ports.iter().enumerate() {
            match Port::new(*number) {
                Some(port) => ports.push(port),
                None => complaints.push(Complaint {
                    field: format!("spec.matches.ports[{index}]"),
                    value: number.to_string(),
                    problem: "is not a port".to_owned(),
                    remedy: "write a number from 1 to 65535; it is ignored until then".to_owned(),
                }),
            }
        }
        (ports, complaints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_no_ports_are_complained_of_and_left_out() {
        let matches = TcpMatch { ports: vec![3306, 0, 70_000, 65_535, -1] };
        let (ports, complaints) = matches.ports();
        assert_eq!(ports.into_iter().map(Port::get).collect::<Vec<_>>(), [3306, 65_535]);
        let fields: Vec<_> = complaints.iter().map(|complaint| complaint.field.as_str()).collect();
        assert_eq!(fields, ["spec.matches.ports[1]", "spec.matches.ports[2]", "spec.matches.ports[4]"]);
    }
}
