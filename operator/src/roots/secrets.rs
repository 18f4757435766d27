//! Where the Secrets are that MeshRootCertificates name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use osm_api::k8s_openapi::ByteString;
use osm_api::{MeshRootCertificateReason as Reason, SecretKeyReference};
use osm_issuer::tresor::{self, AuthorityKey, AuthorityMaterial};
use osm_issuer::{Blame, Credential, PrivateKeyPem};
use osm_kubernetes::{Created, Leadership, RequestError, Target, Writer};
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::provider::RootProblem;
use crate::labels;

/// Key of a Secret with the certificates of an authority.
const CERTIFICATE_KEY: &str = "ca.crt";
/// Key of a Secret with the private key of an authority.
const PRIVATE_KEY_KEY: &str = "private.key";

/// What is done about an authority that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is made.
    Make,
    /// It is a problem: certificates of the former one may be in use, and another must not take its place unseen.
    Report,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) enum Secrets {
    /// Without a cluster: the Secret `name` in `namespace` is the folder `<namespace>/<name>` here, with a file for each key.
    Folder(PathBuf),
    /// An API server.
    Cluster {
        /// Reads, and makes what is missing.
        writer: Writer,
        /// Only the replica that writes makes an authority; the others wait for it.
        leadership: watch::Receiver<Leadership>,
        /// Label of a Secret that is made.
        mesh_name: String,
    },
}

impl Secrets {
    /// The value of one key of a Secret. `field` names the reference in the MeshRootCertificate.
    pub(super) async fn value(&self, field: &str, reference: &SecretKeyReference) -> Result<Credential, RootProblem> {
        let SecretKeyReference { namespace, name, key } = reference;
        let found = self.read(field, namespace, name).await?;
        let text = found.and_then(|mut keys| keys.remove(key)).map(|ByteString(bytes)| String::from_utf8(bytes));
        match text {
            Some(Ok(text)) => Ok(Credential::new(text)),
            Some(Err(_)) => {
                let message = format!("key {key:?} of Secret {namespace}/{name} is not text");
                Err(RootProblem::new(Reason::InvalidSecret, field, message, "write the value as text"))
            }
            None => {
                let message = format!("Secret {namespace}/{name} with key {key:?} does not exist");
                Err(RootProblem::new(Reason::SecretNotFound, field, message, "create the Secret, or name another"))
            }
        }
    }

    /// Whether a Secret is there.
    pub(super) async fn exists(&self, field: &str, namespace: &str, name: &str) -> Result<bool, RootProblem> {
        Ok(self.read(field, namespace, name).await?.is_some())
    }

    /// The authority in a Secret; `missing` says what is done if there is no Secret.
    pub(super) async fn authority(
        &self,
        field: &str,
        namespace: &str,
        name: &str,
        missing: Missing,
        now: OffsetDateTime,
    ) -> Result<AuthorityMaterial, RootProblem> {
        if let Self::Folder(root) = self {
            let folder = folder_of(root, field, namespace, name)?;
            return authority_in_folder(field, folder, missing, now).await;
        }
        let Some(mut keys) = self.read(field, namespace, name).await? else {
            return match missing {
                Missing::Make => self.make_authority(field, namespace, name, now).await,
                Missing::Report => {
                    let message = format!("Secret {namespace}/{name}, whose certificates are in use, is gone");
                    Err(RootProblem::new(
                        Reason::SecretNotFound,
                        field,
                        message,
                        "restore it, or rotate to another root",
                    ))
                }
            };
        };
        let mut text = |key: &str| {
            let message = |what: &str| format!("key {key:?} of Secret {namespace}/{name} {what}");
            let remedy =
                "write ca.crt (the signing certificate, then its issuers up to the root) and private.key as PEM";
            let invalid = |what| RootProblem::new(Reason::InvalidSecret, field, message(what), remedy);
            let ByteString(bytes) = keys.remove(key).ok_or_else(|| invalid("is missing"))?;
            String::from_utf8(bytes).map_err(|_| invalid("is not PEM"))
        };
        Ok(AuthorityMaterial::new(text(CERTIFICATE_KEY)?, PrivateKeyPem::new(text(PRIVATE_KEY_KEY)?)))
    }

    /// Who is to blame for what a Secret holds.
    pub(super) fn blame(&self, namespace: &str, name: &str) -> Blame {
        match self {
            Self::Folder(root) => Blame::Folder { path: root.join(namespace).join(name) },
            Self::Cluster { .. } => Blame::Secret { namespace: namespace.to_owned(), name: name.to_owned() },
        }
    }

    /// The connection to the API server and the name of the mesh; `None` without a cluster.
    pub(super) fn cluster(&self) -> Option<(kube::Client, &str)> {
        match self {
            Self::Folder(_) => None,
            Self::Cluster { writer, mesh_name, .. } => Some((writer.client(), mesh_name)),
        }
    }

    async fn make_authority(
        &self,
        field: &str,
        namespace: &str,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<AuthorityMaterial, RootProblem> {
        let missing = || {
            let message = format!("Secret {namespace}/{name} does not exist yet; the replica that writes makes it");
            RootProblem::new(Reason::SecretNotFound, field, message, "wait")
        };
        let Self::Cluster { writer, leadership, mesh_name } = self else { return Err(missing()) };
        if *leadership.borrow() != Leadership::Leader {
            return Err(missing());
        }
        let made = AuthorityMaterial::generate(AuthorityKey::default(), now)
            .map_err(|error| RootProblem::of_issuer(field, &error))?;
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "namespace": namespace, "name": name, "labels": labels::of_mesh(mesh_name) },
            "type": "Opaque",
            "stringData": {
                CERTIFICATE_KEY: made.certificate_pem(),
                PRIVATE_KEY_KEY: made.private_key().expose_private_key_pem(),
            },
        });
        match writer.create_if_absent(&manifest).await {
            Ok(Created::Created) => Ok(made),
            // Another was faster; it is read the next time.
            Ok(Created::Existed) => Err(missing()),
            Err(error) => Err(RootProblem::local(field, &format!("create Secret {namespace}/{name}: {error}"))),
        }
    }

    /// The keys of a Secret; `None` when there is none.
    async fn read(
        &self,
        field: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, ByteString>>, RootProblem> {
        match self {
            Self::Folder(root) => {
                let folder = folder_of(root, field, namespace, name)?;
                let read = tokio::task::spawn_blocking(move || read_folder(&folder)).await;
                let read = read.map_err(|error| RootProblem::local(field, &error.to_string()))?;
                read.map_err(|error| RootProblem::local(field, &format!("read Secret {namespace}/{name}: {error}")))
            }
            Self::Cluster { writer, .. } => {
                let found = writer.get(&Target::secret(namespace, name)).await;
                let found = found.map_err(|error| unreadable(field, namespace, name, &error))?;
                let Some(found) = found else { return Ok(None) };
                // The error of the decoder could quote the value.
                let secret: osm_api::k8s_openapi::api::core::v1::Secret = serde_json::from_value(found)
                    .map_err(|_| RootProblem::local(field, &format!("Secret {namespace}/{name} cannot be read")))?;
                Ok(Some(secret.data.unwrap_or_default()))
            }
        }
    }
}

fn unreadable(field: &str, namespace: &str, name: &str, error: &RequestError) -> RootProblem {
    let message = format!("Secret {namespace}/{name} cannot be read: {error}");
    match error {
        RequestError::Forbidden(_) => {
            let remedy = "keep the Secret in the control plane's namespace, and add its name to osm.rootSecretNames of the chart";
            RootProblem::new(Reason::SecretNotFound, field, message, remedy)
        }
        _ => RootProblem::local(field, &message),
    }
}

/// The authority in a folder; `missing` says what is done if it is not there.
pub(super) async fn authority_in_folder(
    field: &str,
    folder: PathBuf,
    missing: Missing,
    now: OffsetDateTime,
) -> Result<AuthorityMaterial, RootProblem> {
    if missing == Missing::Report && !folder.join(CERTIFICATE_KEY).exists() {
        let message = format!("the authority in {}, whose certificates are in use, is gone", folder.display());
        return Err(RootProblem::new(Reason::SecretNotFound, field, message, "restore it, or rotate to another root"));
    }
    let opened = tokio::task::spawn_blocking(move || tresor::load_or_create(&folder, now)).await;
    let opened = opened.map_err(|error| RootProblem::local(field, &error.to_string()))?;
    opened.map_err(|error| RootProblem::of_issuer(field, &error))
}

/// Names come from manifests: none may lead out of the folder.
fn folder_of(root: &Path, field: &str, namespace: &str, name: &str) -> Result<PathBuf, RootProblem> {
    let is_name = |text: &str| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        !text.is_empty() && text.bytes().all(known) && !text.starts_with('.')
    };
    if is_name(namespace) && is_name(name) {
        return Ok(root.join(namespace).join(name));
    }
    let message = format!("{namespace}/{name} is no name of a Secret");
    Err(RootProblem::new(Reason::InvalidField, field, message, "use lower-case letters, digits, '-' and '.'"))
}

fn read_folder(folder: &Path) -> std::io::Result<Option<BTreeMap<String, ByteString>>> {
    let mut keys = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let key = entry.file_name().to_string_lossy().into_owned();
            keys.insert(key, ByteString(std::fs::read(entry.path())?));
        }
    }
    Ok(Some(keys))
}
