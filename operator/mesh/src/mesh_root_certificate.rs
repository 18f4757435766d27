//! MeshRootCertificates: who signs.

use osm_api::{MeshRootCertificate, MeshRootCertificateReason};

use crate::parsed::{Parsed, Report};

/// Reads a MeshRootCertificate. Nothing follows from it yet: certificates are signed by the authority that the control plane
/// was started with, and the object says so rather than claiming to be in force.
pub fn mesh_root_certificate(object: &MeshRootCertificate) -> Parsed<()> {
    let mut report = Report::of(object);
    match object.spec.provider.provider() {
        Ok(_) => report.refuse(
            "spec.provider",
            MeshRootCertificateReason::NotInUse,
            "certificates are signed by the authority in the control plane's state folder, the object has no effect",
            "put the authority you want into the state folder as ca.crt and private.key",
        ),
        Err(error) => report.refuse(
            "spec.provider",
            MeshRootCertificateReason::InvalidProvider,
            error.to_string(),
            "set exactly one of tresor, vault and certManager",
        ),
    }
    report.finish(Some(()))
}
