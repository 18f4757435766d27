//! What changes at a provider while its root signs: a token is revoked and another put into its Secret, or the server signs by
//! another root. By a real server with Vault's API, over two replicas that nobody restarts.

use anyhow::{Context, Result, bail, ensure};
use osm_issuer::vault::{VaultAuth, VaultConfig, VaultProtocol};
use osm_issuer::{
    Blame, CertificateStore, Clock, ControlPlaneIdentity, Credential, IssuerConfig, Issuers, LeafKeyAlgorithm,
    StoreConfig, TrustDomain,
};
use osm_open_bao::OpenBao;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::roots::{TIMES, path, replicas_with, root, trusted_in_shop, wait_for_record, wait_for_state};
use crate::world::{CONTROL_PLANE, LIMIT, Operator, Proxy, World, condition};

/// The root in Vault.
fn vault(server: &OpenBao, role: &str) -> String {
    let key =
        |name: &str, key: &str| json!({ "secretKeyRef": { "namespace": CONTROL_PLANE, "name": name, "key": key } });
    json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshRootCertificate",
        "metadata": { "namespace": CONTROL_PLANE, "name": "vault" },
        "spec": { "role": role, "provider": { "vault": {
            "protocol": "https", "host": server.address().ip(), "port": server.address().port(), "role": "osm",
            "token": key("osm-vault-token", "token"), "serverCa": key("vault-ca", "ca.crt"),
        } } },
    })
    .to_string()
}

async fn write_secret(world: &World, name: &str, key: &str, value: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": CONTROL_PLANE, "name": name },
        "stringData": { key: value },
    });
    world.apply(&secret.to_string()).await
}

/// Somebody else whom the same server signs for.
fn other_client(server: &OpenBao) -> Result<CertificateStore> {
    let trust_domain = TrustDomain::new("cluster.local")?;
    let config = VaultConfig {
        host: server.address().ip().to_string(),
        port: server.address().port(),
        protocol: VaultProtocol::Https { ca_pem: Some(server.ca_pem().to_owned()) },
        namespace: None,
        mount: VaultConfig::DEFAULT_MOUNT.to_owned(),
        role: "osm".to_owned(),
        auth: VaultAuth::Token { token: Credential::new(server.root_token().to_owned()), origin: Blame::Process },
        timeout: LIMIT,
        control_plane: ControlPlaneIdentity::new(trust_domain, CONTROL_PLANE, "osm-controller")?,
        leaf_key: LeafKeyAlgorithm::default(),
    };
    let clock = Clock::system();
    let signing = IssuerConfig::Vault(config).build(clock.now())?;
    Ok(CertificateStore::new(Issuers { signing, validating: Vec::new() }, StoreConfig::default(), clock))
}

/// Serial number of the certificate of an account of the shop at a replica, which must be of the root in Vault.
async fn serial(operator: &Operator, account: &str) -> Result<String> {
    let page = operator.json("/debug/certificates").await?;
    let identity = format!("spiffe://cluster.local/ns/shop/sa/{account}");
    let found = page.as_array().and_then(|all| all.iter().find(|one| one["identity"] == *identity));
    let leaf = &found.with_context(|| format!("nothing of {identity}: {page}"))?["leaf"];
    ensure!(leaf["root"] == "osm-system/vault", "{identity}: {leaf}");
    Ok(leaf["serial"].as_str().context("a serial number")?.to_owned())
}

/// How many certificates a replica could renew, and how many not.
async fn rotate(operator: &Operator) -> Result<(u64, u64)> {
    let (code, body) = operator.request("POST", "/certificates/rotate").await?;
    let answer: Value = serde_json::from_str(&body)?;
    let count = |key: &str| answer[key].as_u64().with_context(|| format!("{code}: {body}"));
    Ok((count("renewed")?, count("failed")?))
}

/// Waits until the metric of a replica tells of so many certificates that cannot be issued.
async fn wait_for_failing(operator: &Operator, number: usize) -> Result<()> {
    eventually("the metric tells of what fails", LIMIT, || async {
        let (_, metrics) = operator.get("/metrics").await?;
        let line = format!("osm_cert_failing {number}");
        ensure!(metrics.lines().any(|found| found == line), "{metrics}");
        Ok(())
    })
    .await
}

/// A mesh of two replicas with a proxy each, whose root in Vault signs, with the token that it uses.
struct Signing {
    world: World,
    server: OpenBao,
    token: String,
    /// The one with the proxy of `api`, and the one with that of `buyer`.
    operators: [Operator; 2],
    _proxies: [Proxy; 2],
}

impl Signing {
    async fn start() -> Result<Self> {
        let (world, server) = (World::start().await?, OpenBao::start().await);
        server.set_up().await;
        let token = server.token_in(None, json!({})).await;
        write_secret(&world, "osm-vault-token", "token", &token).await?;
        write_secret(&world, "vault-ca", "ca.crt", server.ca_pem()).await?;
        let operators = replicas_with(&world, &[&TIMES[..], &["--provider-check-seconds", "1"]].concat()).await?;
        let operators: Vec<Operator> = operators.into_iter().map(|(_, operator)| operator).collect();
        let Ok(operators) = <[Operator; 2]>::try_from(operators) else { bail!("there are two replicas") };
        let api = world.proxy("api-0", "api", &[operators[0].xds]).await?;
        let buyer = world.proxy("buyer-0", "buyer", &[operators[1].xds]).await?;
        world.apply(&root("first", "osm-ca-bundle", "active")).await?;
        wait_for_state(&world, "first", "active").await?;
        world.apply(&vault(&server, "passive")).await?;
        wait_for_state(&world, "vault", "validatingRollout").await?;
        world.apply(&vault(&server, "active")).await?;
        world.apply(&root("first", "osm-ca-bundle", "passive")).await?;
        wait_for_record(&world, "vault", &["(Secret osm-ca-bundle)", "vault"]).await?;
        let client = other_client(&server)?;
        api.renew(world.credentials_by(&client, "api-0", "api").await?);
        buyer.renew(world.credentials_by(&client, "buyer-0", "buyer").await?);
        wait_for_state(&world, "vault", "active").await?;
        Ok(Self { world, server, token, operators, _proxies: [api, buyer] })
    }

    /// Serial numbers of the certificates of both proxies' workloads.
    async fn serials(&self) -> Result<[String; 2]> {
        let [a, b] = &self.operators;
        Ok([serial(a, "api").await?, serial(b, "buyer").await?])
    }

    /// Waits until the status of the root in Vault is False for this reason; gives it.
    async fn ill(&self, reason: &str) -> Result<Value> {
        let is =
            |status: &Value, type_: &str| condition(status, type_) == Some(("False".to_owned(), reason.to_owned()));
        let ill = |status: &Value| is(status, "ResolvedRefs") && is(status, "Ready");
        let object = self.world.wait_for_status(&path("vault"), "what is wrong is told", ill).await?;
        ensure!(object["status"]["usage"] == "issuing", "{object}");
        Ok(object["status"].clone())
    }

    async fn stop(self) -> Result<()> {
        for operator in self.operators {
            operator.stop().await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_is_told_and_another_in_its_secret_is_taken_up_by_itself() -> Result<()> {
    let mesh = Signing::start().await?;
    let ([a, b], before) = (&mesh.operators, mesh.serials().await?);

    // Refused: it is told, with the remedy and without the token, and what was issued stays in use.
    mesh.server.write("auth/token/revoke", json!({ "token": mesh.token })).await;
    let text = mesh.ill("ProviderRefused").await?.to_string();
    ensure!(text.contains("Secret osm-system/osm-vault-token") && text.contains("put a valid one there"), "{text}");
    ensure!(!text.contains(&mesh.token), "{text}");
    ensure!(rotate(a).await? == (0, 1), "the server signs for a token that it revoked");
    ensure!(mesh.serials().await? == before);
    wait_for_failing(a, 1).await?;

    // Another token: taken up without an edit of the object, by the leader and by the other.
    let token = mesh.server.token_in(None, json!({})).await;
    write_secret(&mesh.world, "osm-vault-token", "token", &token).await?;
    wait_for_state(&mesh.world, "vault", "active").await?;
    eventually("what waited for a certificate has one", LIMIT, || async {
        ensure!(serial(a, "api").await? != before[0], "it is still the former");
        Ok(())
    })
    .await?;
    wait_for_failing(a, 0).await?;
    ensure!(serial(b, "buyer").await? == before[1], "a certificate was replaced for nothing but a token");
    for operator in [a, b] {
        eventually("each replica signs with the token", LIMIT, || async {
            let (renewed, failed) = rotate(operator).await?;
            ensure!((renewed, failed) == (1, 0), "{renewed} renewed, {failed} failed");
            Ok(())
        })
        .await?;
    }
    ensure!(serial(b, "buyer").await? != before[1]);
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_signs_by_another_root_is_told_and_not_followed() -> Result<()> {
    let mesh = Signing::start().await?;
    let (before, trusted) = (mesh.serials().await?, trusted_in_shop(&mesh.world).await?);
    let former = mesh.server.read("pki/config/issuers").await["data"]["default"].clone();
    let other = json!({ "common_name": "another root", "key_type": "ec", "ttl": "8760h" });
    let other = mesh.server.write("pki/root/generate/internal", other).await["data"]["issuer_id"].clone();
    mesh.server.write("pki/config/issuers", json!({ "default": other })).await;
    let text = mesh.ill("InvalidSecret").await?.to_string();
    ensure!(text.contains("another certificate than the one that is in force"), "{text}");
    ensure!(rotate(&mesh.operators[0]).await? == (0, 1), "a certificate of a root that nobody trusts was used");
    ensure!(mesh.serials().await? == before && trusted_in_shop(&mesh.world).await? == trusted);

    mesh.server.write("pki/config/issuers", json!({ "default": former })).await;
    wait_for_state(&mesh.world, "vault", "active").await?;
    ensure!(rotate(&mesh.operators[1]).await? == (1, 0));
    mesh.stop().await
}
