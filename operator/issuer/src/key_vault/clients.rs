//! The SDK's clients, with a transport of ours below them: no retries but the store's, no redirects, no settings from the
//! environment but those that the SDK's credentials are meant to read.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, RetryOptions, Transport};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use azure_security_keyvault_certificates::{CertificateClient, CertificateClientOptions};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use reqwest::{Certificate, redirect};

use super::config::{KeyVaultAuth, KeyVaultConfig, KeyVaultNetwork};
use crate::error::IssueError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether requests without TLS are let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlainHttp {
    Refused,
    /// The machine's own metadata service has no TLS.
    ForMetadataService,
}

pub(super) struct Clients {
    pub(super) keys: KeyClient,
    pub(super) certificates: CertificateClient,
    pub(super) secrets: SecretClient,
}

impl Clients {
    /// Sends nothing.
    pub(super) fn new(config: &KeyVaultConfig) -> Result<Self, IssueError> {
        config.check()?;
        let failed = |error: azure_core::Error| config.misconfigured(error.to_string());
        let client_options = client_options(config, PlainHttp::Refused)?;
        let credential = credential(config)?;
        let url = &config.vault_url;
        let keys = KeyClientOptions { client_options: client_options.clone(), ..KeyClientOptions::default() };
        let certificates =
            CertificateClientOptions { client_options: client_options.clone(), ..CertificateClientOptions::default() };
        let secrets = SecretClientOptions { client_options, ..SecretClientOptions::default() };
        Ok(Self {
            keys: KeyClient::new(url, credential.clone(), Some(keys)).map_err(failed)?,
            certificates: CertificateClient::new(url, credential.clone(), Some(certificates)).map_err(failed)?,
            secrets: SecretClient::new(url, credential, Some(secrets)).map_err(failed)?,
        })
    }
}

fn credential(config: &KeyVaultConfig) -> Result<Arc<dyn TokenCredential>, IssueError> {
    let failed = |error: azure_core::Error| IssueError::Misconfigured {
        remote: config.credential_origin(),
        message: format!("auth: {error}"),
    };
    Ok(match &config.auth {
        KeyVaultAuth::WorkloadIdentity { tenant_id, client_id, token_file } => {
            let client_options = client_options(config, PlainHttp::Refused)?;
            WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id: client_id.clone(),
                tenant_id: tenant_id.clone(),
                token_file_path: token_file.clone(),
            }))
            .map_err(failed)?
        }
        KeyVaultAuth::ManagedIdentity { client_id } => {
            let once = AskedOnce(transport(config, PlainHttp::ForMetadataService)?);
            let client_options =
                ClientOptions { transport: Some(Transport::new(Arc::new(once))), ..ClientOptions::default() };
            let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
            ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions { user_assigned_id, client_options }))
                .map_err(failed)?
        }
        KeyVaultAuth::ClientSecret { tenant_id, client_id, secret, .. } => {
            let secret = Secret::new(secret.expose_credential().to_owned());
            let client_options = client_options(config, PlainHttp::Refused)?;
            let options = ClientSecretCredentialOptions { client_options };
            ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options)).map_err(failed)?
        }
    })
}

/// Asks once, whoever is above. The SDK's credential for machines tries again by itself for more than a minute, whatever its
/// options say; what went wrong is therefore given to it as a failure that it does not know how to mend.
#[derive(Debug)]
struct AskedOnce(reqwest::Client);

#[async_trait]
impl HttpClient for AskedOnce {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let failed = |error| azure_core::Error::with_error(ErrorKind::Credential, error, "asking for a token failed");
        let answer = self.0.execute_request(request).await.map_err(failed)?;
        let answer = answer.try_into_raw_response().await.map_err(failed)?;
        if answer.status().is_success() {
            let (status, headers, body) = answer.deconstruct();
            return Ok(AsyncRawResponse::from_bytes(status, headers, body));
        }
        let status = answer.status();
        let kind = ErrorKind::HttpResponse { status, error_code: None, raw_response: Some(Box::new(answer)) };
        Err(failed(azure_core::Error::with_message(kind, "it was refused")))
    }
}

fn client_options(config: &KeyVaultConfig, plain_http: PlainHttp) -> Result<ClientOptions, IssueError> {
    let cloud = config.network.authority_host.as_ref().map(|host| {
        let mut custom = CustomConfiguration::default();
        custom.authority_host.clone_from(host);
        Arc::new(CloudConfiguration::Custom(custom))
    });
    Ok(ClientOptions {
        // The store decides when to try again.
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::new(transport(config, plain_http)?))),
        cloud,
        ..ClientOptions::default()
    })
}

fn transport(config: &KeyVaultConfig, plain_http: PlainHttp) -> Result<reqwest::Client, IssueError> {
    let KeyVaultNetwork { ca_pem, addresses, timeout, .. } = &config.network;
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .referer(false)
        .redirect(redirect::Policy::none())
        .https_only(plain_http == PlainHttp::Refused)
        .connect_timeout(CONNECT_TIMEOUT.min(*timeout))
        .timeout(*timeout);
    if let Some(pem) = ca_pem {
        let roots = Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|error| config.bad("CA certificate", &error.to_string()))?;
        if roots.is_empty() {
            return Err(config.bad("CA certificate", "no certificate found; it must be PEM text"));
        }
        client = client.tls_certs_only(roots);
    }
    for (host, address) in addresses {
        client = client.resolve(host, *address);
    }
    client.build().map_err(|error| config.misconfigured(error.to_string()))
}
