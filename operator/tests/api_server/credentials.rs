//! A Vault token that is revoked while its root signs, and another that is put into the Secret: by a real server with Vault's API,
//! over two replicas that nobody restarts.

use anyhow::{Context, Result, ensure};
use osm_issuer::vault::{VaultAuth, VaultConfig, VaultProtocol};
use osm_issuer::{
    Blame, CertificateStore, Clock, ControlPlaneIdentity, Credential, IssuerConfig, Issuers, LeafKeyAlgorithm,
    StoreConfig, TrustDomain,
};
use osm_open_bao::OpenBao;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::roots::{TIMES, path, replicas_with, root, wait_for_record, wait_for_state};
use crate::world::{CONTROL_PLANE, LIMIT, Operator, World, condition};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_is_told_and_another_in_its_secret_is_taken_up_by_itself() -> Result<()> {
    let (world, server) = (World::start().await?, OpenBao::start().await);
    server.set_up().await;
    let former = server.token_in(None, json!({})).await;
    write_secret(&world, "osm-vault-token", "token", &former).await?;
    write_secret(&world, "vault-ca", "ca.crt", server.ca_pem()).await?;
    let operators = replicas_with(&world, &[&TIMES[..], &["--provider-check-seconds", "1"]].concat()).await?;
    let [a, b] = [&operators[0].1, &operators[1].1];
    let api = world.proxy("api-0", "api", &[a.xds]).await?;
    let buyer = world.proxy("buyer-0", "buyer", &[b.xds]).await?;
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
    let before = [serial(a, "api").await?, serial(b, "buyer").await?];

    // Refused: it is told, with the remedy and without the token, and what was issued stays in use.
    server.write("auth/token/revoke", json!({ "token": former })).await;
    let refused = |status: &Value| {
        let is = |type_: &str| condition(status, type_) == Some(("False".to_owned(), "ProviderRefused".to_owned()));
        is("ResolvedRefs") && is("Ready")
    };
    let object = world.wait_for_status(&path("vault"), "the refusal is told", refused).await?;
    let text = object["status"].to_string();
    ensure!(text.contains("Secret osm-system/osm-vault-token") && text.contains("put a valid one there"), "{text}");
    ensure!(!text.contains(&former) && object["status"]["usage"] == "issuing", "{text}");
    ensure!(rotate(a).await? == (0, 1), "the server signs for a token that it revoked");
    ensure!([serial(a, "api").await?, serial(b, "buyer").await?] == before);
    wait_for_failing(a, 1).await?;

    // Another token: taken up without an edit of the object, by the leader and by the other.
    let token = server.token_in(None, json!({})).await;
    write_secret(&world, "osm-vault-token", "token", &token).await?;
    wait_for_state(&world, "vault", "active").await?;
    eventually("what waited for a certificate has one", LIMIT, || async {
        ensure!(serial(a, "api").await? != before[0], "it is still the former");
        Ok(())
    })
    .await?;
    wait_for_failing(a, 0).await?;
    ensure!(serial(b, "buyer").await? == before[1], "a certificate was replaced for nothing but a token");
    for (name, operator) in [("a", a), ("b", b)] {
        eventually("each replica signs with the token", LIMIT, || async {
            let (renewed, failed) = rotate(operator).await?;
            ensure!((renewed, failed) == (1, 0), "{name}: {renewed} renewed, {failed} failed");
            Ok(())
        })
        .await?;
    }
    ensure!(serial(b, "buyer").await? != before[1]);
    for (_, operator) in operators {
        operator.stop().await?;
    }
    Ok(())
}
