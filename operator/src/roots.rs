//! From MeshRootCertificates to who signs, who is trusted, and what the status says of it.
//!
//! The [`Keeper`] is one task beside the loop of the mesh. It makes an issuer of each MeshRootCertificate (`provider`), gathers
//! what every proxy is known to hold (`Deliveries` and the xDS server), asks [`osm_issuer::rotation::plan`] for the next step,
//! puts it in force in the certificate store, and tells the loop what each object's status says. What is in force is written
//! down (`record`), so that a process that is killed in any step goes on from it.
//!
//! While there is no active MeshRootCertificate the authority that the control plane was started with signs: it takes part
//! as a root like all others, active when no object is, inactive else, so that the first MeshRootCertificate is rotated to.
//!
//! **Providers and their credentials** are looked at once a minute, and every ten seconds while something is wrong: a Secret that was
//! changed makes another issuer, which takes the place of the former when it is seen to sign with the same root, and no
//! certificate is replaced for it. Secrets are not watched: the control plane may only get those that it is told to use.
//!
//! **How proxies are known to hold something.** Trust bundles and service certificates go by SDS over ADS, so a publication is
//! held once the stream has acknowledged its epoch. Of what is not acknowledged yet, everything that may have arrived counts.
//!
//! **How trust in the control plane's own certificate is known.** Proxies verify the control plane against a file that no
//! stream acknowledges. So a root counts as being in those files only when it has been trusted, and written to wherever the
//! files come from, for [`Timing::trust_bundle_delay`]. A file that comes later still costs no request: such a proxy cannot
//! connect until it has it, and serves with what it has. The API server, which verifies the webhooks, is waited for likewise.
//!
//! **How the certificates are known with which proxies reach the control plane.** Each stream tells with which it was opened.
//! Of a root that is to go, the proxies that still use it are asked to connect again until they come with another. Until
//! then certificates of both roots are accepted.
//!
//! **In a cluster** every replica has a keeper. The one that holds the Lease decides: it writes a step down (`record`) before
//! that is in force anywhere, and takes the next one only when every replica has told (`report`) that it goes by that record, and
//! what its proxies hold. A replica that is silent, or that may have just started, holds every step. The others follow what is
//! written down, and make the issuers that it names, so that each of them signs.

mod deliveries;
mod follow;
mod issuers;
mod keeper;
mod mark;
mod page;
mod provider;
mod proxies;
mod record;
mod report;
mod secrets;
mod source;
mod status;
mod surroundings;

use std::time::Duration;

pub(crate) use self::deliveries::Deliveries;
pub(crate) use self::follow::{follow, open_store};
pub(crate) use self::issuers::BuiltIn;
pub(crate) use self::keeper::{Keeper, KeeperInputs};
pub(crate) use self::provider::Factory;
pub(crate) use self::record::{RecordConfigMap, RecordFile, RecordStore};
pub(crate) use self::report::RootsReport;
pub(crate) use self::secrets::Secrets;
pub(crate) use self::source::{in_cluster, in_folder, observer, with_pages};
pub use self::status::RootStatus;
pub(crate) use self::status::{RootsNews, time};
pub(crate) use self::surroundings::{ClusterSurroundings, OtherReplicas, Surroundings};

/// How long a rotation waits for what nothing tells.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a proxy that was connected is expected back.
    pub proxy_grace: Duration,
    /// How long it takes at most until a trust bundle that was written is in the files of all proxies.
    pub trust_bundle_delay: Duration,
    /// How often the provider of a root in use is looked at, and the Secrets that are its credentials.
    pub look_every: Duration,
    /// How often the number of connected proxies is written down at the most.
    pub write_count_every: Duration,
}

impl Timing {
    /// Of a control plane without a cluster.
    pub const STANDALONE: Self = Self {
        proxy_grace: Duration::from_secs(60),
        trust_bundle_delay: Duration::from_secs(10),
        look_every: Duration::from_secs(60),
        write_count_every: Duration::from_secs(2),
    };
    /// Of a control plane in a cluster: a kubelet looks for new ConfigMaps once a minute, and what is written costs a request.
    pub const CLUSTER: Self = Self {
        trust_bundle_delay: Duration::from_secs(120),
        write_count_every: Duration::from_secs(30),
        ..Self::STANDALONE
    };
}

#[cfg(test)]
mod tests;
