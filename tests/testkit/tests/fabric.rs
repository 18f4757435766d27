//! The network, the applications and their clients, without a mesh.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use osm_testkit::apps::{ConnectionUse, FailureKind, GrpcMode, LoadRequest, Target, TryRequest};
use osm_testkit::{Fabric, NODE_IPV4, NODE_IPV6, ProcessSpec, ServiceRule, Workload, WorkloadSpec, sandbox_test};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

fn tcp(address: SocketAddr, greeting: bool, send: &str) -> TryRequest {
    TryRequest::new(Target::Tcp { address: address.to_string(), greeting, send: send.to_owned() }, 1)
}

/// Greets one client, answers its line, and says who it was.
async fn answer_once(listener: TcpListener) -> Result<SocketAddr> {
    let (stream, peer) = listener.accept().await?;
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(b"runner\n").await?;
    let mut line = String::new();
    ensure!(stream.read_line(&mut line).await? > 0, "no line came");
    stream.get_mut().write_all(format!("{} back\n", line.trim_end()).as_bytes()).await?;
    Ok(peer)
}

sandbox_test! {
    /// The whole bookstore, by names and Services' addresses, with no proxy anywhere.
    async fn the_bookstore_works_without_a_mesh() -> Result<()> {
        let fabric = Fabric::create().await?;
        let ledger = Workload::start(&fabric, &WorkloadSpec::new("ledger", ["ledger", "--listen", "[::]:3306"])).await?;
        let warehouse = Workload::start(&fabric, &WorkloadSpec::new("bookwarehouse", [
            "bookwarehouse", "--listen", "[::]:14001", "--ledger", "ledger.bookwarehouse:3306",
        ])).await?;
        let store = async |version: &str| {
            let arguments = ["bookstore", "--listen", "[::]:14001", "--identity", version];
            Workload::start(&fabric, &WorkloadSpec::new(format!("bookstore-{version}"), arguments)).await
        };
        let (v1, v2) = (store("v1").await?, store("v2").await?);
        let buyer = Workload::start(&fabric, &WorkloadSpec::new("bookbuyer", ["bookbuyer"])).await?;

        let mut names = BTreeMap::new();
        let mut rules = Vec::new();
        for (number, port, service, pods) in [
            (1, 3306, "ledger.bookwarehouse", vec![&ledger]),
            (2, 14001, "bookwarehouse.bookwarehouse.svc.cluster.local", vec![&warehouse]),
            (3, 14001, "bookstore.bookstore", vec![&v1, &v2]),
        ] {
            let cluster_ip = format!("10.96.0.{number}").parse()?;
            names.insert(service.to_owned(), vec![cluster_ip]);
            let endpoints = pods.iter().map(|workload| SocketAddr::new(workload.pod().ipv4().into(), port)).collect();
            rules.push(ServiceRule { cluster_ip, port, endpoints });
        }
        fabric.set_names(&names).await?;
        fabric.set_services(&rules).await?;

        let report = buyer.control().get("http://bookstore.bookstore:14001/buy-a-book/new", 40).await?;
        ensure!(report.successes() == 40, "{report:?}");
        let by_version: u64 = report.identities.values().sum();
        ensure!(by_version == 40 && report.identities.len() == 2, "both versions sell: {report:?}");
        let total = ledger.control().counters().await?.counters;
        ensure!(total == BTreeMap::from([("total-books".to_owned(), 40)]), "{total:?}");

        // Without endpoints a Service refuses, and an address nobody has cannot be reached; neither hangs.
        rules[2].endpoints.clear();
        fabric.set_services(&rules).await?;
        let report = buyer.control().get("http://bookstore.bookstore:14001/books-bought", 1).await?;
        ensure!(report.failures == BTreeMap::from([(FailureKind::ConnectionRefused, 1)]), "{report:?}");
        let report = buyer.control().get("http://10.97.0.1:14001/", 1).await?;
        ensure!(report.failures == BTreeMap::from([(FailureKind::Unreachable, 1)]), "{report:?}");
        let report = buyer.control().get("http://nobody.nowhere:14001/", 1).await?;
        ensure!(report.failures == BTreeMap::from([(FailureKind::Resolve, 1)]), "{report:?}");
        for workload in [buyer, v1, v2, warehouse, ledger] {
            workload.stop().await?;
        }
        Ok(())
    }

    /// Pods reach servers in the runner, the runner reaches pods' loopback addresses, and a pod reaches itself through its Service.
    async fn the_node_the_runner_and_hairpins() -> Result<()> {
        let fabric = Fabric::create().await?;
        let client = Workload::start(&fabric, &WorkloadSpec::new("client", ["client"])).await?;
        for node in [NODE_IPV4.into(), NODE_IPV6.into()] {
            let listener = tokio::net::TcpListener::bind(SocketAddr::new(node, 15128)).await?;
            let serving = tokio::spawn(answer_once(listener));
            let report = client.control().attempt(&tcp(SocketAddr::new(node, 15128), true, "hello")).await?;
            let peer = serving.await??;
            ensure!(report.last_body == "hello back", "{report:?}");
            let pod = if node.is_ipv4() { IpAddr::from(client.pod().ipv4()) } else { client.pod().ipv6().into() };
            ensure!(peer.ip() == pod, "the pod's own address is seen: {peer}");
        }
        let inside: SocketAddr = "127.0.0.1:4711".parse()?;
        let serving = tokio::spawn(answer_once(client.pod().listen(inside).await?));
        let stream = client.pod().connect(inside, Duration::from_secs(5)).await?;
        ensure!(stream.peer_addr()? == inside);
        ensure!(tokio::net::TcpStream::connect(inside).await.is_err(), "the runner's loopback address is another");
        drop(stream);
        ensure!(serving.await?.is_err(), "a client that goes away without a word");

        let arguments = ["http-echo", "--listen", "[::]:8080", "--name", "self"];
        let server = Workload::start(&fabric, &WorkloadSpec::new("self", arguments)).await?;
        let rule = |cluster_ip: &str, pod: IpAddr| -> Result<ServiceRule> {
            let endpoints = vec![SocketAddr::new(pod, 8080)];
            Ok(ServiceRule { cluster_ip: cluster_ip.parse()?, port: 80, endpoints })
        };
        let rules = [rule("10.96.0.7", server.pod().ipv4().into())?, rule("fd00:96::7", server.pod().ipv6().into())?];
        fabric.set_services(&rules).await?;
        for url in ["http://10.96.0.7/", "http://[fd00:96::7]/"] {
            for workload in [&client, &server] {
                let report = workload.control().get(url, 3).await?;
                ensure!(report.identities == BTreeMap::from([("self".to_owned(), 3)]), "{url}: {report:?}");
            }
        }
        let (status, _) = server.pod().request("GET", "127.0.0.1:8080".parse()?, "/", Duration::from_secs(5)).await?;
        ensure!(status == 200);
        Ok(())
    }

    /// Every protocol, over IPv4 and IPv6.
    async fn every_protocol_over_both_families() -> Result<()> {
        let fabric = Fabric::create().await?;
        let client = Workload::start(&fabric, &WorkloadSpec::new("client", ["client"])).await?;
        let http = Workload::start(&fabric, &WorkloadSpec::new("http", ["http-echo", "--listen", "[::]:80", "--name", "http"])).await;
        ensure!(http.is_err(), "an application without privileges cannot listen on port 80");
        let http = Workload::start(&fabric, &WorkloadSpec::new("http", ["http-echo", "--listen", "[::]:8080", "--name", "http"])).await?;
        let grpc = Workload::start(&fabric, &WorkloadSpec::new("grpc", ["grpc-echo", "--listen", "[::]:9000", "--name", "grpc"])).await?;
        let echo = Workload::start(&fabric, &WorkloadSpec::new("tcp", ["tcp-echo", "--listen", "[::]:7000", "--name", "tcp"])).await?;
        let ledger = Workload::start(&fabric, &WorkloadSpec::new("ledger", ["ledger", "--listen", "[::]:3306"])).await?;

        for ipv6 in [false, true] {
            let address = |workload: &Workload, port| {
                let ip = if ipv6 { workload.pod().ipv6().into() } else { workload.pod().ipv4().into() };
                SocketAddr::new(ip, port)
            };
            let web = address(&http, 8080);
            let mut request = Target::get(format!("http://{web}/path?status=418"));
            let report = client.control().attempt(&TryRequest::new(request.clone(), 2)).await?;
            ensure!(report.statuses == BTreeMap::from([(418, 2)]), "{report:?}");
            if let Target::Http { url, http2, headers, body, .. } = &mut request {
                *url = format!("http://{web}/path");
                *http2 = true;
                headers.insert("x-seen".to_owned(), "yes".to_owned());
                "sent".clone_into(body);
            }
            let report = client.control().attempt(&TryRequest::new(request, 2)).await?;
            ensure!(report.identities == BTreeMap::from([("http".to_owned(), 2)]), "{report:?}");
            let echoed: serde_json::Value = serde_json::from_str(&report.last_body)?;
            ensure!(echoed["version"] == "HTTP/2.0" && echoed["headers"]["x-seen"][0] == "yes", "{echoed}");
            ensure!(echoed["body"] == "sent" && echoed["headers"]["client-app"][0] == "client", "{echoed}");

            let call = |mode| TryRequest::new(Target::Grpc { url: format!("http://{}", address(&grpc, 9000)), mode }, 2);
            for mode in [GrpcMode::Unary, GrpcMode::Streaming { messages: 20 }] {
                let report = client.control().attempt(&call(mode)).await?;
                ensure!(report.identities == BTreeMap::from([("grpc".to_owned(), 2)]), "{mode:?}: {report:?}");
            }
            let socket = Target::WebSocket { url: format!("ws://{web}/socket"), messages: 20 };
            let report = client.control().attempt(&TryRequest::new(socket, 2)).await?;
            ensure!(report.identities == BTreeMap::from([("http".to_owned(), 2)]), "{report:?}");

            let report = client.control().attempt(&tcp(address(&echo, 7000), false, "hello")).await?;
            ensure!(report.last_body == "tcp: hello", "{report:?}");
            let report = client.control().attempt(&tcp(address(&ledger, 3306), true, "get total-books")).await?;
            ensure!(report.last_body == "ok 0", "{report:?}");
            let refused = Target::Grpc { url: format!("http://{}", address(&grpc, 9001)), mode: GrpcMode::Unary };
            let report = client.control().attempt(&TryRequest::new(refused, 1)).await?;
            ensure!(report.failures == BTreeMap::from([(FailureKind::ConnectionRefused, 1)]), "{report:?}");
        }
        Ok(())
    }

    /// A key is for its owner alone, and a process without privileges is one.
    async fn private_files_are_private() -> Result<()> {
        let fabric = Fabric::create().await?;
        let pod = fabric.add_pod("pod").await?;
        pod.write_private("proxy", 1500, "key.pem", b"old")?;
        let file = pod.write_private("proxy", 1500, "key.pem", b"secret")?;
        for (uid, readable) in [(1500, true), (2000, false)] {
            let cat = ProcessSpec::new("cat", "cat").arguments([&file]).uid(uid);
            let output = pod.run(&cat, Duration::from_secs(5)).await?;
            ensure!(output.status.success() == readable && (output.stdout == b"secret") == readable, "{uid}: {output:?}");
        }
        Ok(())
    }

    /// Load goes on when the server is gone, counts what failed, and recovers.
    async fn load_never_stops_on_failure() -> Result<()> {
        let fabric = Fabric::create().await?;
        let client = Workload::start(&fabric, &WorkloadSpec::new("client", ["client"])).await?;
        let server = WorkloadSpec::new("server", ["http-echo", "--listen", "[::]:8080", "--name", "server"]);
        let mut running = Workload::start(&fabric, &server).await?;
        let url = format!("http://{}:8080/", running.pod().ipv4());
        let request = LoadRequest { connections: ConnectionUse::New, ..LoadRequest::new(Target::get(url)) };
        let load = client.control().start_load(&request).await?;
        let limit = Duration::from_secs(20);
        let before = load.reach(50, limit).await?;
        ensure!(before.unsuccessful() == 0, "{before:?}");
        running.application().kill().await?;
        let killed = load.report().await?.attempts;
        load.reach(killed + 50, limit).await?;
        let report = load.finish().await?;
        ensure!(report.successes() >= 50 && report.failures.contains_key(&FailureKind::ConnectionRefused), "{report:?}");
        ensure!(report.latency_milliseconds.p50 > 0.0, "{report:?}");
        Ok(())
    }
}
