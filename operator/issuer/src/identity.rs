//! Whom a certificate names: trust domains, the kinds of identity, and how each is written in a certificate.
//!
//! Every certificate of the mesh carries exactly one URI subject alternative name, and its *shape* says which kind of
//! certificate it is. A certificate of one kind can therefore never pass as another:
//!
//! | kind | URI | DNS names |
//! |---|---|---|
//! | workload | `spiffe://<td>/ns/<namespace>/sa/<service account>` | `<service account>.<namespace>.<td>` |
//! | proxy (opens an ADS stream) | `spiffe://<td>/ns/<namespace>/sa/<service account>/proxy/<node>` | none |
//! | control plane | `spiffe://<td>/ns/<namespace>/control-plane/<service>` | `<service>.<namespace>.svc`, `ads.<td>` |
//! | ingress gateway | `spiffe://<td>/ingress-gateway/<namespace>/<secret>` | those that the MeshConfig gives it |
//!
//! A proxy certificate has no DNS name on purpose: a ServiceAccount name may contain dots, so any DNS name under the
//! trust domain could be read as a workload's. Reading goes by the URI, whose segments cannot contain a slash; a DNS
//! name is never split, only rebuilt from the parts and compared.

mod gateway;
mod name;
mod peer;

pub use gateway::IngressGatewayIdentity;
pub use name::{IdentityError, IdentityField, TrustDomain};
pub use peer::{ControlPlaneIdentity, PeerIdentity, ProxyIdentity, SubjectNames, WorkloadIdentity};
