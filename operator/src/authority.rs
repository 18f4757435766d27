//! The certificate authority of a mesh in a cluster that has no MeshRootCertificate: a Tresor in a Secret of the control plane's
//! namespace, as OSM keeps it (`ca.crt`, `private.key`).

use std::time::Duration;

use anyhow::Context;
use osm_api::k8s_openapi::api::core::v1::Secret;
use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, TresorConfig};
use osm_issuer::{Blame, CertificateStore, Clock, IssuerConfig, Issuers, PrivateKeyPem, StoreConfig};
use osm_kubernetes::{Created, Leadership, Target, Writer};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::labels;

/// Key of the Secret that holds the certificate chain.
const CERTIFICATE_KEY: &str = "ca.crt";
/// Key of the Secret that holds the private key.
const PRIVATE_KEY_KEY: &str = "private.key";
/// How often to look for a Secret that another replica makes, and to try again what failed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where the authority is kept.
#[derive(Debug, Clone)]
pub(crate) struct AuthoritySecret {
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// `--ca-bundle-secret-name`.
    pub(crate) name: String,
    /// Label of a Secret that is made.
    pub(crate) mesh_name: String,
}

/// Opens the authority of the Secret. If there is none, the holder of the Lease makes it, and the others wait for it.
///
/// # Errors
/// The Secret holds no usable authority; a Secret that a user made is never replaced.
pub(crate) async fn open_store(
    secret: &AuthoritySecret,
    writer: &Writer,
    leadership: &watch::Receiver<Leadership>,
    clock: Clock,
) -> anyhow::Result<CertificateStore> {
    let material = material(secret, writer, leadership, &clock).await?;
    let origin = Blame::Secret { namespace: secret.namespace.clone(), name: secret.name.clone() };
    let config = IssuerConfig::Tresor(TresorConfig { material, origin });
    let signing = config
        .build(clock.now())
        .with_context(|| format!("use the authority in Secret {}/{}", secret.namespace, secret.name))?;
    Ok(CertificateStore::new(Issuers { signing, validating: Vec::new() }, StoreConfig::default(), clock))
}

async fn material(
    secret: &AuthoritySecret,
    writer: &Writer,
    leadership: &watch::Receiver<Leadership>,
    clock: &Clock,
) -> anyhow::Result<AuthorityMaterial> {
    let target = Target::secret(&secret.namespace, &secret.name);
    loop {
        match writer.get(&target).await {
            Ok(Some(found)) => return read(secret, found),
            Ok(None) if *leadership.borrow() == Leadership::Leader => {
                let made = AuthorityMaterial::generate(AuthorityKey::default(), clock.now())?;
                match writer.create_if_absent(&manifest(secret, &made)).await {
                    Ok(Created::Created) => {
                        tracing::info!(secret = secret.name, "made the certificate authority of the mesh");
                        return Ok(made);
                    }
                    Ok(Created::Existed) => continue,
                    Err(error) => {
                        tracing::warn!(secret = secret.name, %error, "cannot create the Secret; trying again")
                    }
                }
            }
            Ok(None) => tracing::debug!(secret = secret.name, "waiting for the holder of the Lease to make the Secret"),
            Err(error) => tracing::warn!(secret = secret.name, %error, "cannot read the Secret; trying again"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn read(secret: &AuthoritySecret, found: Value) -> anyhow::Result<AuthorityMaterial> {
    let named = || format!("Secret {}/{}", secret.namespace, secret.name);
    // The error of the decoder could quote the key.
    let found: Secret = serde_json::from_value(found)
        .map_err(|_| anyhow::anyhow!("{} is not a Secret as Kubernetes has it", named()))?;
    let data = found.data.unwrap_or_default();
    let text = |key: &str| {
        let value =
            data.get(key).with_context(|| format!("{} has no key {key:?}; add it or delete the Secret", named()))?;
        String::from_utf8(value.0.clone()).map_err(|_| anyhow::anyhow!("{} key {key:?} is not PEM", named()))
    };
    Ok(AuthorityMaterial::new(text(CERTIFICATE_KEY)?, PrivateKeyPem::new(text(PRIVATE_KEY_KEY)?)))
}

fn manifest(secret: &AuthoritySecret, material: &AuthorityMaterial) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": secret.namespace,
            "name": secret.name,
            "labels": labels::of_mesh(&secret.mesh_name),
        },
        "type": "Opaque",
        "stringData": {
            CERTIFICATE_KEY: material.certificate_pem(),
            PRIVATE_KEY_KEY: material.private_key().expose_private_key_pem(),
        },
    })
}

#[cfg(test)]
mod tests {
    use osm_api::k8s_openapi::ByteString;
    use time::OffsetDateTime;

    use super::*;

    fn secret() -> AuthoritySecret {
        let (namespace, name) = ("osm-system".to_owned(), "osm-ca-bundle".to_owned());
        AuthoritySecret { namespace, name, mesh_name: "osm".to_owned() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let now = OffsetDateTime::now_utc();
        let made = AuthorityMaterial::generate(AuthorityKey::default(), now).unwrap();
        let mut stored = manifest(&secret(), &made);
        // As the API server does.
        let texts: std::collections::BTreeMap<String, String> =
            serde_json::from_value(stored["stringData"].take()).unwrap();
        let data: std::collections::BTreeMap<String, ByteString> =
            texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))).collect();
        stored["data"] = json!(data);
        let read = read(&secret(), stored).unwrap();
        assert_eq!(read.certificate_pem(), made.certificate_pem());
        assert_eq!(read.private_key().expose_private_key_pem(), made.private_key().expose_private_key_pem());
    }

    #[test]
    fn a_secret_that_lacks_a_key_is_named_with_it() {
        let error = read(&secret(), json!({ "data": {} })).unwrap_err().to_string();
        assert!(error.contains("osm-system/osm-ca-bundle") && error.contains("ca.crt"), "{error}");
    }
}
