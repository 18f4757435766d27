//! A double of Azure Key Vault and of Microsoft Entra's token endpoint, for tests.
//!
//! **This is not Key Vault.** No emulator of it can be had, so this speaks the part of its protocol that the operator uses, over
//! TLS: the challenge that tells a client where to get a token, tokens for client secrets, for workload identities and, by the
//! metadata service of a machine, for managed identities, keys with versions and attributes, `sign`, certificates, secrets, throttling and refusals. That it is close enough is shown by clients
//! that we did not write: Azure's own, for Rust in the tests of the operator and for Python in the tests of this crate, work with
//! it unchanged. What was never compared with a real vault: limits of requests, latency, exact wording of errors.
//!
//! Keys are real keys, made in this process and held in plain memory.

mod http;
mod keys;
mod login;
mod metadata;
mod server;
mod tls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

pub use keys::{Attributes, KeyKind};
pub use metadata::{METADATA_ADDRESS, MetadataDouble};

use keys::Vault;
use tls::TestAuthority;

/// Host name of the vault. Nobody resolves it but by [`KeyVaultDouble::hosts`].
pub const VAULT_HOST: &str = "mesh.vault.double.test";
/// Host name of the token endpoint.
pub const LOGIN_HOST: &str = "login.double.test";
/// The tenant that the double knows.
pub const TENANT: &str = "5d3a0b26-8c3e-4b0e-9f3a-0d9d6a1c7e10";
/// The client that the double knows.
pub const CLIENT: &str = "a1f6d6a2-5b0f-4c39-8a53-3b9c1a52c001";
/// The client's secret.
pub const CLIENT_SECRET: &str = "the-secret-of-the-client";

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A token.
    Token,
    /// A token for an identity of the machine, from its metadata service.
    MachineToken,
    /// Something without a token, answered with a challenge.
    Challenge,
    /// `GET /keys/…`.
    GetKey,
    /// `GET /keys/…/versions`.
    ListKeyVersions,
    /// `POST /keys/…/create`.
    CreateKey,
    /// `POST /keys/…/…/sign`.
    Sign,
    /// `GET /certificates/…`.
    GetCertificate,
    /// `GET /secrets/…`.
    GetSecret,
}

/// What happens to a request instead of what should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Too many requests; with the seconds after which to come back.
    Throttled(Option<u64>),
    /// The identity has no permission.
    Forbidden,
    /// This status without a body.
    Status(u16),
    /// 200 with a body that is not JSON.
    Garbage,
    /// No answer ever.
    Hang,
    /// Half of the answer.
    Cut,
    /// A signature of other bytes.
    WrongSignature,
    /// A signature that another version of the key claims to have made.
    OtherVersion,
}

struct State {
    vault: Vault,
    calls: Vec<Operation>,
    faults: Vec<(Operation, Fault)>,
    tokens: Vec<String>,
    /// The federated token that a workload identity shows.
    federated_token: Option<String>,
    /// Whether the machine has an identity of its own, beside the one that is called [`CLIENT`].
    system_identity: bool,
}

impl State {
    fn take_fault(&mut self, operation: Operation) -> Option<Fault> {
        let index = self.faults.iter().position(|(of, _)| *of == operation)?;
        Some(self.faults.remove(index).1)
    }

    fn new_token(&mut self) -> String {
        let token = format!("token-{}-of-the-double", self.tokens.len() + self.calls.len());
        self.tokens.push(token.clone());
        token
    }
}

/// A running double. Ends when it is dropped.
pub struct KeyVaultDouble {
    state: Arc<Mutex<State>>,
    authority: TestAuthority,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl KeyVaultDouble {
    /// Starts one on a loopback address, with an empty vault.
    ///
    /// # Errors
    /// No address can be listened on.
    pub async fn start() -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Likewise, on an address of the caller's choice.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub async fn start_at(address: IpAddr) -> Result<Self> {
        let authority = TestAuthority::new(&[VAULT_HOST, LOGIN_HOST])?;
        let listener = tokio::net::TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let state = State {
            vault: Vault::new(format!("https://{VAULT_HOST}:{}", address.port())),
            calls: Vec::new(),
            faults: Vec::new(),
            tokens: Vec::new(),
            federated_token: None,
            system_identity: false,
        };
        let state = Arc::new(Mutex::new(state));
        let task = tokio::spawn(server::serve(listener, authority.acceptor()?, state.clone()));
        Ok(Self { state, authority, address, task })
    }

    /// The vault, such as `https://mesh.vault.double.test:34567`.
    pub fn vault_url(&self) -> String {
        format!("https://{VAULT_HOST}:{}", self.address.port())
    }

    /// The token endpoint.
    pub fn authority_host(&self) -> String {
        format!("https://{LOGIN_HOST}:{}", self.address.port())
    }

    /// The certificate that verifies both.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// What DNS would say.
    pub fn hosts(&self) -> Vec<(String, SocketAddr)> {
        [VAULT_HOST, LOGIN_HOST].map(|host| (host.to_owned(), self.address)).to_vec()
    }

    /// Creates a key, or a new version of it; gives the version.
    ///
    /// # Errors
    /// The process has no randomness.
    pub fn create_key(&self, name: &str, kind: KeyKind) -> Result<String> {
        self.state.lock().vault.create_key(name, kind)
    }

    /// Puts a private key (PKCS#8) into the vault; gives the version.
    ///
    /// # Errors
    /// It is no key of a kind that a vault has.
    pub fn import_key(&self, name: &str, pkcs8: &[u8]) -> Result<String> {
        self.state.lock().vault.import_key(name, pkcs8)
    }

    /// Creates a key and a self-signed certificate authority for it, of the same name and version; gives the version.
    ///
    /// # Errors
    /// The process has no randomness.
    pub fn create_root(&self, name: &str, kind: KeyKind) -> Result<String> {
        self.state.lock().vault.create_certificate(name, kind, None)
    }

    /// The same, but signed by the newest version of `root`. The secret of that name has the chain.
    ///
    /// # Errors
    /// There is no such root.
    pub fn create_intermediate(&self, name: &str, kind: KeyKind, root: &str) -> Result<String> {
        self.state.lock().vault.create_certificate(name, kind, Some(root))
    }

    /// Certificate of `name`, as PEM.
    ///
    /// # Errors
    /// There is none.
    pub fn certificate_pem(&self, name: &str, version: &str) -> Result<String> {
        self.state.lock().vault.certificate_pem(name, version)
    }

    /// Changes the attributes of a version of a key.
    ///
    /// # Errors
    /// There is none.
    pub fn set_attributes(&self, name: &str, version: &str, change: impl FnOnce(&mut Attributes)) -> Result<()> {
        self.state.lock().vault.set_attributes(name, version, change)
    }

    /// The next `times` requests for `operation` end like this.
    pub fn fail(&self, operation: Operation, fault: &Fault, times: usize) {
        let faults = std::iter::repeat_n((operation, fault.clone()), times);
        self.state.lock().faults.extend(faults);
    }

    /// Requests end as they should from now on.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// Which token a workload identity has to show.
    pub fn expect_federated_token(&self, token: &str) {
        self.state.lock().federated_token = Some(token.to_owned());
    }

    /// Starts the metadata service of a machine whose user-assigned identity is [`CLIENT`]; its tokens open this vault. Azure's
    /// clients look for it at [`METADATA_ADDRESS`], so that address has to be on an interface.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start_metadata_service(&self, address: SocketAddr) -> Result<MetadataDouble> {
        MetadataDouble::start(address, self.state.clone()).await
    }

    /// Gives the machine an identity of its own.
    pub fn assign_system_identity(&self) {
        self.state.lock().system_identity = true;
    }

    /// No token that was given is accepted any more.
    pub fn revoke_tokens(&self) {
        self.state.lock().tokens.clear();
    }

    /// Everything that was asked for, in order.
    pub fn calls(&self) -> Vec<Operation> {
        self.state.lock().calls.clone()
    }

    /// How often `operation` was asked for.
    pub fn count(&self, operation: Operation) -> usize {
        self.state.lock().calls.iter().filter(|call| **call == operation).count()
    }
}

impl std::fmt::Debug for KeyVaultDouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyVaultDouble").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for KeyVaultDouble {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long a request hangs: longer than any test.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
