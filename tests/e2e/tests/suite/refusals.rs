//! What the mesh must refuse, whoever asks.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use osm_testkit::apps::FailureKind;
use osm_testkit::{Envoy, EnvoySpec, WorkloadSpec, eventually};
use serde_json::Value;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::support::{
    LIMIT, Seen, answered_by, apply, get, gets_no_connection, http2, on_every_envoy, pod_addresses, sees, tcp, world,
};

fn web(client: &str) -> Documents {
    Documents::namespaces()
        .pod(client, 11, &["client"])
        .pod("web", 12, &["http-echo", "--listen", "[::]:8080", "--name", "web"])
        .service("web", Kind::ClusterIp(12), &[(80, 8080, Speaks::Http)], &[12])
}

on_every_envoy! {
    /// A client without a sidecar reaches no port of a pod in the mesh in clear text, in permissive mode neither.
    async fn plaintext(envoy) {
        let documents = web("client")
            .pod("bytes", 13, &["tcp-echo", "--listen", "[::]:9000", "--name", "bytes"])
            .service("bytes", Kind::ClusterIp(13), &[(9000, 9000, Speaks::Tcp)], &[13]);
        let mut world = world(&documents, Mode::Permissive, envoy).await?;
        world.add_outsider(&WorkloadSpec::new("outsider", ["client"])).await?;
        answered_by(&world, "client", get("http://web.shop/"), "web").await?;
        sees(&world, "client", tcp("bytes.shop:9000"), Seen::Status(200)).await?;
        let reset = Seen::Failed(FailureKind::ConnectionReset);
        for number in [12, 13] {
            for address in pod_addresses(number) {
                for port in [8080, 9000] {
                    let address = SocketAddr::new(address, port);
                    sees(&world, "outsider", get(format!("http://{address}/")), reset).await?;
                    gets_no_connection(&world, "outsider", http2(format!("http://{address}/"))).await?;
                    sees(&world, "outsider", tcp(&address.to_string()), reset).await?;
                }
            }
        }
        gets_no_connection(&world, "outsider", get("http://web.shop/")).await?;
        gets_no_connection(&world, "outsider", tcp("bytes.shop:9000")).await?;
        Ok(())
    }

    /// A pod that shows a valid certificate of another identity than the one that serves the Service is not talked to.
    async fn wrong_subject_alternative_name(envoy) {
        let server = ["http-echo", "--listen", "[::]:8080", "--name", "web"];
        let documents = |account| {
            Documents::namespaces()
                .pod("client", 11, &["client"])
                .account("web")
                .account("impostor")
                .pod_as("web-1", account, 12, &server)
                // Keeps the identity, and its port, alive when the first pod no longer has it.
                .pod_as("web-2", "web", 13, &server)
                .service("web", Kind::ClusterIp(12), &[(80, 8080, Speaks::Http)], &[12])
                .service("other", Kind::ClusterIp(13), &[(80, 8080, Speaks::Http)], &[13])
        };
        let mut world = world(&documents("web"), Mode::Permissive, envoy).await?;
        answered_by(&world, "client", get("http://web.shop/"), "web").await?;
        // From now on the pod should show a certificate of another ServiceAccount, but its sidecar has the one of `web`.
        world.write("base.yaml", documents("impostor").text()).await?;
        let failures = async |world: &mut osm_e2e::World| {
            let stats = world.envoy("client")?.stats(r"^cluster\.shop/web\|8080\.ssl\.fail_verify_san$").await?;
            anyhow::Ok(stats.values().sum::<u64>())
        };
        eventually("the client refuses the server's certificate", LIMIT, || async {
            sees(&world, "client", get("http://web.shop/"), Seen::Status(503)).await
        })
        .await?;
        ensure!(failures(&mut world).await? > 0, "the refusal was for another reason than the name in the certificate");
        answered_by(&world, "client", get("http://other.shop/"), "web").await?;
        // The right certificate again: what was refused is not remembered.
        world.write("base.yaml", documents("web").text()).await?;
        eventually("the client accepts the server's certificate", LIMIT, || async {
            answered_by(&world, "client", get("http://web.shop/"), "web").await
        })
        .await?;
        Ok(())
    }

    /// A TrafficTarget opens the ports that its TCPRoute names, and no other of the same pod.
    async fn tcp_port_that_no_traffic_target_names(envoy) {
        let documents = Documents::namespaces()
            .pod("client", 11, &["client"])
            .pod("stranger", 12, &["client"])
            .pod("bytes", 13, &["tcp-echo", "--listen", "[::]:9000", "--name", "bytes"])
            .service("bytes", Kind::ClusterIp(13), &[(9000, 9000, Speaks::Tcp), (9001, 9000, Speaks::Tcp)], &[13])
            .service("other", Kind::ClusterIp(14), &[(9002, 9002, Speaks::Tcp)], &[13])
            .tcp_route("named", &[9000])
            .grant("named", "client", "bytes", ("TCPRoute", "named"));
        let world = world(&documents, Mode::ByPolicy, envoy).await?;
        let report = sees(&world, "client", tcp("bytes.shop:9000"), Seen::Status(200)).await?;
        ensure!(report.last_body == "bytes: hello", "{report:?}");
        gets_no_connection(&world, "client", tcp("other.shop:9002")).await?;
        gets_no_connection(&world, "stranger", tcp("bytes.shop:9000")).await?;
        for address in pod_addresses(13) {
            gets_no_connection(&world, "client", tcp(&SocketAddr::new(address, 9000).to_string())).await?;
        }
        // A rule about requests opens no TCP port.
        let grant = Documents::default()
            .route_group("everything", &[("all", ".*")])
            .grant("requests", "stranger", "bytes", ("HTTPRouteGroup", "everything"));
        apply(&world, "grant.yaml", grant.text()).await?;
        gets_no_connection(&world, "stranger", tcp("bytes.shop:9000")).await?;
        Ok(())
    }

    /// A proxy that holds the certificate of one workload and claims another's node id is refused, and is sent nothing.
    async fn certificate_of_one_and_node_id_of_another(envoy) {
        let mut world = world(&web("client"), Mode::Permissive, envoy.clone()).await?;
        let pod = world.fabric().add_pod("thief").await?;
        let certificates = Envoy::directory_in(&pod)?;
        let bootstrap = world.operator()?.bootstrap("shop", "client", &pod, &certificates).await?;
        let mut bootstrap: Value = serde_saphyr::from_str(&bootstrap)?;
        ensure!(bootstrap["node"]["id"] == "thief", "{}", bootstrap["node"]);
        // The name under which the sidecar of `web` is known.
        bootstrap["node"] = serde_json::json!({ "id": "web", "cluster": "web.shop" });
        let spec = EnvoySpec { log_level: "info".to_owned(), ..EnvoySpec::new(envoy, bootstrap.to_string()) };
        let mut thief = Envoy::start(&pod, &spec)?;
        let words = "is not the one in the certificate";
        let operator = world.operator()?;
        eventually("the control plane says whom it refused", LIMIT, || {
            let log = operator.process().log();
            async move {
                let refusals: Vec<&str> = log.lines().filter(|line| line.contains("a proxy is refused")).collect();
                ensure!(refusals.iter().any(|line| line.contains(words) && line.contains("thief")), "{}", log.lines().last().unwrap_or_default());
                Ok(())
            }
        })
        .await?;
        eventually("the proxy is told why", LIMIT, || {
            let log = thief.process().log();
            async move {
                // Envoy writes what it was answered with a gRPC status (7: permission denied) and escaped.
                let words = "closed: 7, node%20id%20%22web%22%20is%20not%20the%20one%20in%20the%20certificate";
                ensure!(log.contains(words), "{}", log.lines().last().unwrap_or_default());
                Ok(())
            }
        })
        .await?;
        let dump = thief.config_dump().await?;
        let sections = dump["configs"].as_array().context("a dump without sections")?;
        for section in sections {
            let kind = section["@type"].as_str().unwrap_or_default();
            if kind.contains("ListenersConfigDump") || kind.contains("RoutesConfigDump") || kind.contains("EndpointsConfigDump") {
                let dynamic = section.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("dynamic"));
                for (name, resources) in dynamic {
                    ensure!(resources.as_array().is_none_or(Vec::is_empty), "it was sent {name}: {resources}");
                }
            }
            if kind.contains("SecretsConfigDump") {
                let names: Vec<&Value> = section["dynamic_active_secrets"].as_array().into_iter().flatten().map(|secret| &secret["name"]).collect();
                ensure!(names.iter().all(|name| *name == "tls_sds" || *name == "validation_context_sds"), "it was sent {names:?}");
            }
        }
        let proxies = world.operator()?.debug("proxies").await?;
        let streams: Vec<&Value> = proxies.as_array().into_iter().flatten().filter(|proxy| proxy["node"] == "web").collect();
        ensure!(streams.len() == 1, "only the true sidecar of web has a stream: {proxies}");
        answered_by(&world, "client", get("http://web.shop/"), "web").await?;
        Ok(())
    }

    /// Without a rule for the request 404, with a rule for others 403, and without any destination no connection at all.
    async fn requests_without_a_grant(envoy) {
        let documents = web("first")
            .pod("second", 13, &["client"])
            .pod("third", 14, &["client"])
            .route_group("pages", &[("a", "/a"), ("b", "/b/.*")])
            .route_group("first-page", &[("c", "/c")])
            .grant("pages", "second", "web", ("HTTPRouteGroup", "pages"))
            .grant("first-page", "first", "web", ("HTTPRouteGroup", "first-page"));
        let world = world(&documents, Mode::ByPolicy, envoy).await?;
        for target in [get, http2] {
            for (from, path, expected) in [
                ("first", "/c", 200),
                ("first", "/a", 403),
                ("first", "/b/x", 403),
                ("first", "/other", 404),
                ("second", "/a", 200),
                ("second", "/b/x", 200),
                ("second", "/b", 404),
                ("second", "/c", 403),
                ("second", "/", 404),
                // What is granted is the path after dots and slashes are resolved, and in full.
                ("first", "/c/../a", 403),
                ("second", "/c/../a", 200),
                ("second", "/a/", 404),
            ] {
                sees(&world, from, target(format!("http://web.shop{path}")), Seen::Status(expected)).await?;
            }
            gets_no_connection(&world, "third", target("http://web.shop/a".to_owned())).await?;
        }
        for address in pod_addresses(12) {
            let url = format!("http://{}/a", SocketAddr::new(address, 8080));
            gets_no_connection(&world, "third", get(url)).await?;
        }
        Ok(())
    }
}
