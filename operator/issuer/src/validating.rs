//! Roots that do not depend on what a provider says from now on: those of an authority whose provider is not there any more, and
//! those that a provider had when it was taken up.

use std::sync::Arc;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::bundle::TrustBundle;
use crate::error::{Blame, IssueError};
use crate::issuer::{CertificateRequest, IssuedCertificate, Issuer, IssuerHealth};

/// See the module.
#[derive(Debug)]
pub(crate) struct Validating {
    pub(crate) origin: Blame,
    pub(crate) bundle: TrustBundle,
}

impl Validating {
    fn cannot_sign(&self) -> IssueError {
        IssueError::Misconfigured {
            remote: self.origin.clone(),
            message: "only its certificate is known, so it can be trusted but cannot sign".to_owned(),
        }
    }
}

#[async_trait]
impl Issuer for Validating {
    async fn issue(&self, _: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        Err(self.cannot_sign())
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        Ok(self.bundle.clone())
    }

    async fn probe(&self, _: OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        Err(self.cannot_sign())
    }
}

/// An issuer whose roots are those that it had once: what was decided about, and what everybody verifies its certificates by.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) inner: Arc<dyn Issuer>,
    pub(crate) bundle: TrustBundle,
}

#[async_trait]
impl Issuer for Pinned {
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        self.inner.issue(request).await
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        Ok(self.bundle.clone())
    }

    async fn probe(&self, now: OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        self.inner.probe(now).await
    }
}
