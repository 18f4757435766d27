//! How a pod's proxy gets its identity: real Envoys with the bootstrap that `osm-operator init` writes, against the real
//! identity endpoint. Tokens are reviewed by a stand-in, and at the end by a real API server.
#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod control_plane;
mod pod;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use osm_bootstrap::{ProbeKind, ProbeProtocol, ProbeRoute, Probes, names};
use osm_cluster::{ApiServer, KubernetesVersion};
use osm_issuer::{ClientCertificates, Issuers, PeerIdentity};
use osm_kubernetes::{ProvenPod, ReviewOptions, TokenReviewer};
use osm_testkit::{EnvoyBinary, Fabric, NEWEST_ENVOY, OLDEST_ENVOY, eventually, sandbox_test};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use control_plane::{ControlPlane, LIMIT, Tokens, authority, store};
use pod::{MeshedPod, Names, digits, get};

/// As the product keeps certificates.
const KEEP: Duration = Duration::from_secs(120);

fn web() -> Names {
    Names {
        name: "web-0".into(),
        uid: "0b5a2f0e-7a0c-4a35-9f2e-2f1c7f9e4d11".into(),
        namespace: "shop".into(),
        service_account: "api.v1".into(),
    }
}

fn proven(names: &Names) -> ProvenPod {
    ProvenPod {
        namespace: names.namespace.clone(),
        service_account: names.service_account.clone(),
        pod_name: names.name.clone(),
        pod_uid: names.uid.clone(),
        expires: None,
    }
}

/// Runs a test with the oldest and the newest Envoy that are claimed to work.
macro_rules! on_every_envoy {
    ($($(#[$attribute:meta])* async fn $name:ident($binary:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn run($binary: EnvoyBinary) -> Result<()> $body

            sandbox_test! {
                $(#[$attribute])*
                async fn oldest() -> Result<()> { run(EnvoyBinary::find(OLDEST_ENVOY)?).await }
                $(#[$attribute])*
                async fn newest() -> Result<()> { run(EnvoyBinary::find(NEWEST_ENVOY)?).await }
            }
        }
    )+};
}

async fn admitted(control_plane: &ControlPlane, count: usize) -> Result<Vec<PeerIdentity>> {
    eventually("the proxy opens its stream", LIMIT, || async {
        let admitted = control_plane.admitted();
        ensure!(admitted.len() >= count, "{admitted:?}");
        Ok(admitted)
    })
    .await
}

async fn has_certificate(pod: &MeshedPod, serial: &str) -> Result<()> {
    eventually("the proxy has the certificate", LIMIT, || async {
        let found = pod.serial().await?;
        ensure!(found == digits(serial), "it has {found}, not {}", digits(serial));
        Ok(())
    })
    .await
}

on_every_envoy! {
    /// Token in, certificate out, stream open, ready; then a renewal, a new token, a control plane that starts anew, and a
    /// proxy that goes.
    async fn a_token_becomes_a_configured_proxy(binary) {
        let fabric = Fabric::create().await?;
        let (signing, tokens, me) = (authority()?, Arc::new(Tokens::default()), web());
        tokens.accept("first-token", proven(&me));
        let control_plane = ControlPlane::start(tokens.clone(), store(&signing), KEEP).await?;
        let roots = control_plane.store.trust_bundle().await?.pem();
        let mut pod = MeshedPod::create(&fabric, "web-0", "first-token", &roots).await?;
        pod.init(&me, &[]).await?;
        // To run it again is the same as to run it once.
        pod.init(&me, &[]).await?;
        pod.start(&binary)?;
        pod.envoy()?.ready(LIMIT).await?;
        pod.is_ready().await?;
        let identities = admitted(&control_plane, 1).await?;
        let PeerIdentity::Proxy(proxy) = &identities[0] else { panic!("{identities:?}") };
        assert_eq!((proxy.node(), proxy.workload().namespace()), (&*me.node(), "shop"));
        assert_eq!(proxy.workload().service_account(), "api.v1");
        assert_eq!(control_plane.endpoint.proxies(), 1);

        // Renewed over the same stream: the token is not asked about again.
        let asked = tokens.asked("first-token");
        let renewed = control_plane.store.rotate_now(&identities[0]).await?;
        has_certificate(&pod, renewed.serial()).await?;
        assert_eq!(tokens.asked("first-token"), asked);

        // The kubelet renews the token, the old one ends, and the control plane starts anew with nothing in memory.
        pod.token.write("token", "second-token")?;
        tokens.refuse("first-token");
        tokens.accept("second-token", proven(&me));
        control_plane.stop().await;
        let control_plane = ControlPlane::start(tokens.clone(), store(&signing), Duration::from_millis(200)).await?;
        admitted(&control_plane, 1).await?;
        // The stream with everything else may come first: the certificate at hand is still good.
        eventually("the new token is shown", LIMIT, || async {
            ensure!(tokens.asked("second-token") > 0, "not yet");
            Ok(())
        })
        .await?;
        let leaf = control_plane.store.cached(&identities[0]);
        ensure!(leaf.is_some(), "the certificate is kept fresh");
        has_certificate(&pod, leaf.map(|leaf| leaf.serial().to_owned()).as_deref().unwrap_or_default()).await?;

        // The proxy goes, and its key with it.
        pod.stop().await?;
        eventually("the proxy's certificate is dropped", LIMIT, || async {
            let status = control_plane.store.status();
            let kept: Vec<_> = status.iter().filter(|status| matches!(status.identity, PeerIdentity::Proxy(_))).collect();
            ensure!(kept.is_empty(), "{kept:?}");
            Ok(())
        })
        .await
    }

    /// Root change: the mounted bundle is swapped while the proxy runs, first to both roots, then to the new one alone.
    async fn a_change_of_roots_needs_no_restart_of_the_proxy(binary) {
        let fabric = Fabric::create().await?;
        let (old, new) = (authority()?, authority()?);
        let (tokens, me) = (Arc::new(Tokens::default()), web());
        tokens.accept("a-token", proven(&me));
        let mut control_plane = ControlPlane::start(tokens.clone(), store(&old), KEEP).await?;
        let roots = control_plane.store.trust_bundle().await?.pem();
        let mut pod = MeshedPod::create(&fabric, "web-0", "a-token", &roots).await?;
        pod.init(&me, &[]).await?;
        pod.start(&binary)?;
        pod.is_ready().await?;
        let steps = [(&old, vec![new.clone()]), (&new, vec![old.clone()]), (&new, Vec::new())];
        for (signing, validating) in steps {
            let issuers = Issuers { signing: signing.clone(), validating };
            control_plane.store.set_issuers(issuers).await?;
            pod.trust_bundle.write("ca.crt", &control_plane.store.trust_bundle().await?.pem())?;
            // Every connection is made anew, by what the proxy trusts now.
            let store = Arc::clone(&control_plane.store);
            control_plane.stop().await;
            control_plane = ControlPlane::start(tokens.clone(), store, KEEP).await?;
            admitted(&control_plane, 1).await?;
        }
        // Its own certificate comes from the new root by now, and was accepted with it.
        let identities = control_plane.admitted();
        let leaf = control_plane.store.certificate(&identities[0]).await?;
        has_certificate(&pod, leaf.serial()).await
    }

    /// A token that is refused, and a pod that claims to be another, get nothing, and do not become ready.
    async fn whoever_proves_nothing_gets_nothing(binary) {
        let fabric = Fabric::create().await?;
        let (signing, tokens, me) = (authority()?, Arc::new(Tokens::default()), web());
        tokens.accept("token-of-web", proven(&me));
        let control_plane = ControlPlane::start(tokens.clone(), store(&signing), KEEP).await?;
        let roots = control_plane.store.trust_bundle().await?.pem();
        let liar = Names { uid: "11111111-7a0c-4a35-9f2e-2f1c7f9e4d11".into(), ..web() };
        for (name, token, claimed) in [("forger", "no-token", &me), ("liar", "token-of-web", &liar)] {
            let mut pod = MeshedPod::create(&fabric, name, token, &roots).await?;
            pod.init(claimed, &[]).await?;
            pod.start(&binary)?;
            eventually("the proxy tries again and again", LIMIT, || async {
                ensure!(tokens.asked(token) >= 3, "{} times so far", tokens.asked(token));
                Ok(())
            })
            .await?;
            pod.is_not_ready().await?;
            ensure!(control_plane.admitted().is_empty() && control_plane.endpoint.proxies() == 0);
        }
        // With the truth the same control plane does serve.
        let mut pod = MeshedPod::create(&fabric, "honest", "token-of-web", &roots).await?;
        pod.init(&me, &[]).await?;
        pod.start(&binary)?;
        pod.is_ready().await
    }

    /// While nobody can review tokens, proxies that are there keep their streams, and new ones wait.
    async fn an_api_server_that_is_down_delays_newcomers_only(binary) {
        let fabric = Fabric::create().await?;
        let (signing, tokens, me) = (authority()?, Arc::new(Tokens::default()), web());
        let later = Names { name: "web-1".into(), uid: "22222222-7a0c-4a35-9f2e-2f1c7f9e4d11".into(), ..web() };
        tokens.accept("token-0", proven(&me));
        tokens.accept("token-1", proven(&later));
        let control_plane = ControlPlane::start(tokens.clone(), store(&signing), KEEP).await?;
        let roots = control_plane.store.trust_bundle().await?.pem();
        let mut pod = MeshedPod::create(&fabric, "web-0", "token-0", &roots).await?;
        pod.init(&me, &[]).await?;
        pod.start(&binary)?;
        pod.is_ready().await?;
        tokens.set_down(true);
        let mut newcomer = MeshedPod::create(&fabric, "web-1", "token-1", &roots).await?;
        newcomer.init(&later, &[]).await?;
        newcomer.start(&binary)?;
        eventually("the newcomer tries again", LIMIT, || async {
            ensure!(tokens.asked("token-1") >= 3, "{} times so far", tokens.asked("token-1"));
            Ok(())
        })
        .await?;
        newcomer.is_not_ready().await?;
        // The one that is there is renewed all the same.
        let renewed = control_plane.store.rotate_now(&control_plane.admitted()[0]).await?;
        has_certificate(&pod, renewed.serial()).await?;
        tokens.set_down(false);
        newcomer.is_ready().await
    }
}

on_every_envoy! {
    /// Probes as the kubelet sends them, from the node, with the redirect rules in place: by HTTP for two containers, and by
    /// HTTPS on the same port.
    async fn probes_reach_the_application_without_a_certificate(binary) {
        let fabric = Fabric::create().await?;
        let (signing, tokens, me) = (authority()?, Arc::new(Tokens::default()), web());
        tokens.accept("a-token", proven(&me));
        let control_plane = ControlPlane::start(tokens.clone(), store(&signing), KEEP).await?;
        let roots = control_plane.store.trust_bundle().await?.pem();
        let mut pod = MeshedPod::create(&fabric, "web-0", "a-token", &roots).await?;
        let http = |container: &str, path: &str, port| ProbeRoute {
            kind: ProbeKind::Liveness,
            container: container.into(),
            protocol: ProbeProtocol::Http { path: path.into() },
            port,
            timeout_seconds: 10,
        };
        let tls = ProbeRoute {
            container: "tls".into(), protocol: ProbeProtocol::Https, port: 8443, ..http("tls", "/", 8443)
        };
        let probes = Probes::new(vec![http("web", "/healthz?deep=1", 8080), http("admin", "/", 8081), tls])?;
        pod.init(&me, &[format!("--probes={}", serde_json::to_string(&probes)?)]).await?;
        pod.start(&binary)?;
        let mut servers = JoinSet::new();
        for port in [8080, 8081] {
            let listener = pod.network.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
            let answer = async move |request: axum::extract::Request| format!("{} on {port}", request.uri());
            servers.spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        }
        pod.is_ready().await?;
        let probe = pod.address(names::LIVENESS_PORT);
        for (path, seen) in [
            ("/osm-liveness-probe/web", "/healthz?deep=1 on 8080"),
            ("/osm-liveness-probe/admin", "/ on 8081"),
        ] {
            let (status, body) = get(probe, path).await?;
            ensure!(status == 200 && body.contains(seen), "{path}: {status} {body}");
        }
        // Nothing else of the application can be reached so, and nothing else of the admin interface.
        ensure!(get(probe, "/healthz").await?.0 == 404);
        ensure!(get(pod.address(names::PROXY_READINESS_PORT), "/config_dump").await?.0 == 404);

        // The same port by TLS: the handshake is the application's.
        let leaf = control_plane.server_certificate()?;
        let bundle = control_plane.store.trust_bundle().await?;
        let server = Arc::new(osm_issuer::server_config(&leaf, &bundle, ClientCertificates::Optional)?);
        let listener = pod.network.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 8443))).await?;
        servers.spawn(async move {
            let (stream, _) = listener.accept().await?;
            let mut stream = TlsAcceptor::from(server).accept(stream).await?;
            stream.write_all(b"from the application").await?;
            stream.shutdown().await
        });
        let client = Arc::new(osm_issuer::anonymous_client_config(&bundle)?);
        let stream = TcpStream::connect(probe).await?;
        let mut stream = TlsConnector::from(client).connect("ads.cluster.local".try_into()?, stream).await?;
        let mut words = String::new();
        stream.read_to_string(&mut words).await?;
        ensure!(words == "from the application", "{words:?}");

        // An application that is gone is unhealthy, and one that hangs is so when the probe's time is over.
        servers.shutdown().await;
        ensure!(get(probe, "/osm-liveness-probe/web").await?.0 == 503);
        Ok(())
    }
}

sandbox_test! {
    /// The token is one that a real API server made for a pod, and is reviewed by it.
    async fn the_api_server_says_whose_a_token_is() -> Result<()> {
        let fabric = Fabric::create().await?;
        let api_server = ApiServer::start(KubernetesVersion::NEWEST).await?;
        let kubectl = api_server.kubectl();
        kubectl.apply(POD).await?;
        let uid = kubectl.output(&["get", "pod", "-n", "shop", "web-0", "-o", "jsonpath={.metadata.uid}"]).await?;
        let uid = uid.trim().to_owned();
        let me = Names { uid: uid.clone(), ..web() };
        let token = |audience: &str| {
            let options = ["create", "token", "-n", "shop", "api.v1", "--bound-object-kind=Pod", "--bound-object-name=web-0"];
            let options = options.map(str::to_owned).into_iter();
            let bound = [format!("--bound-object-uid={uid}"), format!("--audience={audience}")];
            options.chain(bound).collect::<Vec<_>>()
        };
        let make = async |audience: &str| -> Result<String> {
            let arguments = token(audience);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Ok(kubectl.output(&arguments).await?.trim().to_owned())
        };
        let client = osm_kubernetes::client(Some(api_server.kubeconfig())).await?;
        let reviewer = Arc::new(TokenReviewer::new(client, ReviewOptions::new(names::TOKEN_AUDIENCE)));
        let control_plane = ControlPlane::start(reviewer, store(&authority()?), KEEP).await?;
        let roots = control_plane.store.trust_bundle().await?.pem();

        // A token for another audience is as good as none.
        let binary = EnvoyBinary::find(NEWEST_ENVOY)?;
        let mut other = MeshedPod::create(&fabric, "other", &make("another").await?, &roots).await?;
        other.init(&me, &[]).await?;
        other.start(&binary)?;
        let mut pod = MeshedPod::create(&fabric, "web-0", &make(names::TOKEN_AUDIENCE).await?, &roots).await?;
        pod.init(&me, &[]).await?;
        pod.start(&binary)?;
        pod.is_ready().await?;
        let identities = admitted(&control_plane, 1).await?;
        let PeerIdentity::Proxy(proxy) = &identities[0] else { panic!("{identities:?}") };
        assert_eq!((proxy.node(), proxy.workload().service_account()), (&*me.node(), "api.v1"));
        other.is_not_ready().await?;
        assert_eq!(control_plane.endpoint.proxies(), 1);
        Ok(())
    }
}

/// A pod as the API server has it; no kubelet runs it.
const POD: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: api.v1, namespace: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: web-0, namespace: shop }
spec:
  serviceAccountName: api.v1
  containers: [{ name: web, image: web }]
"#;
