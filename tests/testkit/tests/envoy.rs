//! Real Envoys beside applications, with the redirect rules, without a control plane.

use std::time::Duration;

use anyhow::{Result, ensure};
use osm_intercept::InterceptConfig;
use osm_testkit::apps::{FailureKind, LoadRequest, Target};
use osm_testkit::{EnvoyBinary, EnvoySpec, Fabric, Workload, WorkloadSpec, sandbox_test};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// Passes everything on: outbound to where the application wanted to go, inbound to the application's port on the loopback address.
fn bootstrap(application_port: u16) -> String {
    let socket = |address: &str, port: u16| json!({"socket_address": {"address": address, "port_value": port}});
    let listener = |name: &str, port: u16, cluster: &str| {
        json!({
            "name": name,
            "address": {"socket_address": {"address": "::", "port_value": port, "ipv4_compat": true}},
            "listener_filters": [{"name": "envoy.filters.listener.original_dst", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"}}],
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": name, "cluster": cluster}}]}],
        })
    };
    json!({
        "admin": {"address": socket("127.0.0.1", 15000)},
        "static_resources": {
            "listeners": [listener("outbound", 15001, "original"), listener("inbound", 15003, "application")],
            "clusters": [
                {"name": "original", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "1s"},
                {"name": "application", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
                    "cluster_name": "application",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket("127.0.0.1", application_port)}}]}]}},
            ],
        },
    })
    .to_string()
}

sandbox_test! {
    /// A request passes both sidecars, over IPv4 and IPv6, with every Envoy that is claimed to work.
    async fn requests_pass_both_sidecars() -> Result<()> {
        let fabric = Fabric::create().await?;
        for binary in EnvoyBinary::claimed()? {
            let mut client = Workload::start(&fabric, &WorkloadSpec::new("client", ["client"])).await?;
            let arguments = ["http-echo", "--listen", "127.0.0.1:8080", "--name", "server"];
            let mut server = Workload::start(&fabric, &WorkloadSpec::new("server", arguments)).await?;
            let urls = [
                format!("http://{}:8080/", server.pod().ipv4()),
                format!("http://[{}]:8080/", server.pod().ipv6()),
            ];
            // The application listens on its loopback address alone, so only its sidecar can reach it.
            let report = client.control().get(&urls[0], 1).await?;
            ensure!(report.failures.contains_key(&FailureKind::ConnectionRefused), "{report:?}");
            for workload in [&mut client, &mut server] {
                let envoy = workload.join_mesh(&EnvoySpec::new(binary.clone(), bootstrap(8080)), &InterceptConfig::default())?;
                envoy.ready(LIMIT).await?;
            }
            for url in &urls {
                let report = client.control().get(url, 5).await?;
                ensure!(report.successes() == 5, "Envoy {}: {url}: {report:?}", binary.version());
                let echoed: Value = serde_json::from_str(&report.last_body)?;
                ensure!(echoed["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{echoed}");
            }
            let outbound = client.envoy().expect("it joined").stats("^tcp.outbound.downstream_cx_total$").await?;
            ensure!(outbound["tcp.outbound.downstream_cx_total"] == 10, "{outbound:?}");
            let envoy = server.envoy().expect("it joined");
            ensure!(envoy.stats("^tcp.inbound.downstream_cx_total$").await?["tcp.inbound.downstream_cx_total"] == 10);
            ensure!(envoy.allocated_bytes().await? > 1_000_000);
            ensure!(envoy.config_dump().await?["configs"].is_array());
            ensure!(envoy.listeners().await?["listener_statuses"].as_array().is_some_and(|all| all.len() == 2));
            ensure!(envoy.clusters().await?["cluster_statuses"].is_array());

            // A killed sidecar refuses; one that starts again serves again.
            let load = client.control().start_load(&LoadRequest::new(Target::get(urls[0].clone()))).await?;
            load.reach(20, LIMIT).await?;
            envoy.process().kill().await?;
            let killed = load.report().await?;
            load.reach(killed.attempts + 20, LIMIT).await?;
            let report = load.finish().await?;
            ensure!(!report.failures.is_empty() && report.successes() >= 20, "{report:?}");
            server.leave_mesh().await?;
            client.leave_mesh().await?;
            client.stop().await?;
            server.stop().await?;
        }
        Ok(())
    }

    /// A bootstrap that Envoy refuses is reported with Envoy's words, and validation says the same.
    async fn envoys_words_are_reported() -> Result<()> {
        let fabric = Fabric::create().await?;
        let pod = fabric.add_pod("pod").await?;
        for binary in EnvoyBinary::claimed()? {
            let bad = bootstrap(8080).replace("ORIGINAL_DST", "NO_SUCH_TYPE");
            let mut envoy = osm_testkit::Envoy::start(&pod, &EnvoySpec::new(binary.clone(), bad.clone()))?;
            let error = envoy.ready(LIMIT).await.expect_err("a refused bootstrap");
            ensure!(format!("{error:#}").contains("NO_SUCH_TYPE"), "{error:#}");
            let file = pod.directory("check", 0)?.join("bad.yaml");
            std::fs::write(&file, bad)?;
            let error = binary.validate(&file).await.expect_err("a refused configuration");
            ensure!(error.to_string().contains("NO_SUCH_TYPE"), "{error}");
            std::fs::write(&file, bootstrap(8080))?;
            binary.validate(&file).await?;
        }
        Ok(())
    }
}
