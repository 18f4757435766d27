//! Why the Secret is not as it should be, in words for the status of the MeshConfig.

use std::fmt;

use osm_api::{MeshConfigReason as Reason, ObjectRef};
use osm_issuer::{IngressGatewayIdentity, IssueError};
use osm_kubernetes::RequestError;
use osm_model::{Aspect, Finding, Severity};

use super::wanted::SECTION;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The Secret cannot be read.
    Read(RequestError),
    /// What was read is no Secret.
    Unreadable,
    /// It cannot be made.
    Create(RequestError),
    /// It cannot be changed.
    Write(RequestError),
    /// It is somebody else's.
    NotOurs(String),
    /// There is no certificate.
    Issue(IssueError),
    /// The certificate in the Secret goes on, and cannot be renewed.
    Renewal(IssueError),
}

impl Problem {
    /// Whether it passes without anybody changing anything.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Read(error) | Self::Create(error) | Self::Write(error) => {
                error.is_transient() || matches!(error, RequestError::Conflict(_))
            }
            Self::Unreadable | Self::NotOurs(_) | Self::Issue(_) | Self::Renewal(_) => false,
        }
    }

    /// Whether what was read of the Secret stays true.
    pub(super) fn leaves_what_is_known(&self) -> bool {
        match self {
            Self::Read(_) | Self::Unreadable | Self::NotOurs(_) => false,
            Self::Create(_) | Self::Write(_) | Self::Issue(_) | Self::Renewal(_) => true,
        }
    }

    /// The finding about a MeshConfig whose gateway this is about.
    pub(super) fn finding(&self, mesh_config: &ObjectRef, gateway: &IngressGatewayIdentity) -> Finding {
        let named = named(gateway);
        let (reason, message) = match self {
            Self::Issue(_) => {
                (Reason::CertificateNotIssued, format!("no certificate is issued for Secret {named}: {self}"))
            }
            Self::Renewal(_) => {
                (Reason::CertificateNotIssued, format!("the certificate in Secret {named} cannot be renewed: {self}"))
            }
            Self::NotOurs(_) => {
                (Reason::SecretNotOurs, format!("Secret {named} is somebody else's, and is not written: {self}"))
            }
            Self::Read(_) | Self::Unreadable | Self::Create(_) | Self::Write(_) => {
                (Reason::SecretNotWritten, format!("Secret {named} cannot be {}: {self}", self.attempt()))
            }
        };
        let (severity, field) = match self {
            Self::Renewal(_) => (Severity::Warning, SECTION.to_owned()),
            Self::Issue(_) => (Severity::Error, SECTION.to_owned()),
            _ => (Severity::Error, format!("{SECTION}.secret")),
        };
        Finding {
            object: osm_engine::object_id(mesh_config),
            field: field.into(),
            aspect: Aspect::ResolvedRefs,
            severity,
            reason: reason.as_str(),
            message: message.into(),
            remedy: self.remedy(gateway).into(),
        }
    }

    fn attempt(&self) -> &'static str {
        match self {
            Self::Create(_) => "made",
            Self::Write(_) => "written",
            _ => "read",
        }
    }

    fn remedy(&self, gateway: &IngressGatewayIdentity) -> String {
        let (namespace, secret) = (gateway.namespace(), gateway.secret());
        match self {
            Self::Read(RequestError::Forbidden(_))
            | Self::Create(RequestError::Forbidden(_))
            | Self::Write(RequestError::Forbidden(_)) => format!(
                "set osm.ingressGateway.secret.name={secret} and osm.ingressGateway.secret.namespace={namespace} of the chart, which \
                 grants it"
            ),
            Self::Create(RequestError::NotFound(_)) => format!("create the namespace {namespace}"),
            Self::NotOurs(_) => "delete it, or name another Secret".to_owned(),
            Self::Issue(_) | Self::Renewal(_) => {
                "see what the MeshRootCertificates say of who signs; a provider must allow these names".to_owned()
            }
            Self::Read(_) | Self::Unreadable | Self::Create(_) | Self::Write(_) => {
                "delete the Secret, so that it is made anew, or name another".to_owned()
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) | Self::Create(error) | Self::Write(error) => error.fmt(f),
            Self::Unreadable => f.write_str("the answer is no Secret"),
            Self::NotOurs(why) => f.write_str(why),
            Self::Issue(error) | Self::Renewal(error) => error.fmt(f),
        }
    }
}

/// The Secret of a gateway, for people.
pub(super) fn named(gateway: &IngressGatewayIdentity) -> String {
    format!("{}/{}", gateway.namespace(), gateway.secret())
}

#[cfg(test)]
mod tests {
    use osm_api::Kind;
    use osm_issuer::{Blame, TrustDomain};

    use super::*;

    #[test]
    fn every_problem_names_the_secret_and_what_to_do() {
        let domain = TrustDomain::new("cluster.local").unwrap();
        let gateway = IngressGatewayIdentity::new(domain, "ingress", "tls", ["gateway.example"]).unwrap();
        let object = ObjectRef::new(Kind::MeshConfig, "osm-system", "osm-mesh-config");
        let forbidden = || RequestError::Forbidden("cannot get resource \"secrets\"".to_owned());
        let refused = || IssueError::Refused { remote: Blame::Process, message: "not this name".to_owned() };
        let chart = "osm.ingressGateway.secret.name=tls and osm.ingressGateway.secret.namespace=ingress";
        let (error, warning) = (Severity::Error, Severity::Warning);
        for (problem, reason, severity, remedy) in [
            (Problem::Read(forbidden()), Reason::SecretNotWritten, error, chart),
            (Problem::Create(forbidden()), Reason::SecretNotWritten, error, chart),
            (Problem::Write(forbidden()), Reason::SecretNotWritten, error, chart),
            (
                Problem::Create(RequestError::NotFound("namespaces".to_owned())),
                Reason::SecretNotWritten,
                error,
                "create the namespace ingress",
            ),
            (
                Problem::Write(RequestError::Invalid("it is immutable".to_owned())),
                Reason::SecretNotWritten,
                error,
                "delete the Secret",
            ),
            (Problem::Unreadable, Reason::SecretNotWritten, error, "delete the Secret"),
            (Problem::NotOurs("Helm keeps it".to_owned()), Reason::SecretNotOurs, error, "name another"),
            (Problem::Issue(refused()), Reason::CertificateNotIssued, error, "a provider must allow these names"),
            (Problem::Renewal(refused()), Reason::CertificateNotIssued, warning, "a provider must allow these names"),
        ] {
            let finding = problem.finding(&object, &gateway);
            assert_eq!((finding.reason, finding.severity), (reason.as_str(), severity), "{problem:?}");
            assert!(finding.message.contains("ingress/tls"), "{finding:?}");
            assert!(finding.message.contains(&problem.to_string()), "{finding:?}");
            assert!(finding.remedy.contains(remedy), "{finding:?}");
            assert!(!problem.is_passing());
        }
        assert!(Problem::Read(RequestError::Expired).is_passing(), "nobody needs to act");
        assert!(Problem::Write(RequestError::Conflict(String::new())).is_passing(), "it is looked at again");
    }
}
