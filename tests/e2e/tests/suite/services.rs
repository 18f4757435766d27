//! Real services through the mesh: a database that speaks first, gRPC, WebSocket, both versions of HTTP, both address families,
//! headless Services.

use anyhow::{Result, ensure};
use osm_e2e::World;
use osm_testkit::apps::GrpcMode;
use osm_testkit::{MARIADB_PORT, MariaDb, MariaDbClient};
use serde_json::Value;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::support::{
    LIMIT, Seen, answered_by, apply, get, gets_no_connection, grpc, http2, on_every_envoy, pod_addresses, sees,
    service_addresses, switch, tcp, web_socket, with_host, withdraw, world,
};

const CLIENT: u8 = 11;
const STREAMING: GrpcMode = GrpcMode::Streaming { messages: 50 };

/// Two HTTP echoes, `one` and `two`, with a Service each, and a client.
fn two_echoes() -> Documents {
    Documents::namespaces()
        .pod("client", CLIENT, &["client"])
        .pod("one", 12, &["http-echo", "--listen", "[::]:8080", "--name", "one"])
        .pod("two", 13, &["http-echo", "--listen", "[::]:8080", "--name", "two"])
        .service("one", Kind::ClusterIp(12), &[(80, 8080, Speaks::Http)], &[12])
        .service("two", Kind::ClusterIp(13), &[(80, 8080, Speaks::Http)], &[13])
}

/// Lets the client make every request to both.
fn grants_to_both() -> Documents {
    Documents::default()
        .route_group("everything", &[("all", ".*")])
        .grant("one", "client", "one", ("HTTPRouteGroup", "everything"))
        .grant("two", "client", "two", ("HTTPRouteGroup", "everything"))
}

/// Each way to send a request to `one`, with the Host of `two` and its own, arrives at `one` with the Host as it was sent.
async fn every_way_to_send(world: &World) -> Result<()> {
    for address in service_addresses(12) {
        let url = format!("http://{}/path?x=1", std::net::SocketAddr::new(address, 80));
        for host in ["two.shop", "one.shop.svc.cluster.local", "elsewhere.example:4711"] {
            let report = answered_by(world, "client", with_host(&url, host), "one").await?;
            let seen: Value = serde_json::from_str(&report.last_body)?;
            ensure!(seen["headers"]["host"][0] == host, "the Host was changed: {seen}");
            ensure!(seen["uri"] == "/path?x=1", "the path was changed: {seen}");
            ensure!(seen["headers"]["x-osm-destination"].is_null(), "a header of the mesh's own arrived: {seen}");
        }
        answered_by(world, "client", http2(&url), "one").await?;
    }
    for name in ["one", "two"] {
        for host in [format!("{name}.shop"), format!("{name}.shop.svc.cluster.local")] {
            answered_by(world, "client", get(format!("http://{host}/")), name).await?;
            answered_by(world, "client", http2(format!("http://{host}/")), name).await?;
        }
    }
    Ok(())
}

on_every_envoy! {
    /// A real MariaDB behind a TCPRoute: the server's greeting comes first, so nobody may wait for the client to speak.
    async fn a_database_that_speaks_first(envoy) {
        let documents = Documents::namespaces()
            .pod("client", CLIENT, &["client"])
            .pod("database", 12, &["client"])
            .service("mysql", Kind::ClusterIp(6), &[(MARIADB_PORT, MARIADB_PORT, Speaks::TcpServerFirst)], &[12]);
        let world = world(&documents, Mode::ByPolicy, envoy).await?;
        let _database = MariaDb::start(world.member("database")?.pod(), LIMIT).await?;
        let mysql = MariaDbClient::new()?;
        let query = async |host: &str, sql: &str| {
            mysql.query(world.member("client")?.pod(), host, sql, LIMIT).await
        };
        let refused = async |when: &str| {
            let error = query("mysql.shop", "SELECT 1").await.err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            ensure!(text.contains("ERROR 20"), "{when} the database should be out of reach, but: {text:?}");
            anyhow::Ok(())
        };
        refused("without a grant").await?;

        let grant = Documents::default()
            .tcp_route("mysql", &[MARIADB_PORT])
            .grant("mysql", "client", "database", ("TCPRoute", "mysql"));
        apply(&world, "grant.yaml", grant.text()).await?;
        query("mysql.shop", "CREATE TABLE books (title TEXT, sold INT)").await?;
        query("mysql.shop", "INSERT INTO books VALUES ('one', 1), ('two', 2)").await?;
        let [_, ipv6] = service_addresses(6);
        for host in ["mysql.shop", &ipv6.to_string()] {
            let rows = query(host, "SELECT title, sold FROM books ORDER BY sold").await?;
            ensure!(rows == "one\t1\ntwo\t2", "{rows:?}");
        }

        withdraw(&world, "grant.yaml").await?;
        refused("after the grant").await?;
        switch(&world, Mode::Permissive).await?;
        ensure!(query("mysql.shop", "SELECT COUNT(*) FROM books").await? == "2");
        Ok(())
    }

    /// gRPC, one message and a stream that is used in both directions in turn, and a WebSocket: open to all, refused, and granted.
    async fn grpc_and_web_socket(envoy) {
        let documents = Documents::namespaces()
            .pod("client", CLIENT, &["client"])
            .pod("rpc", 12, &["grpc-echo", "--listen", "[::]:9000", "--name", "rpc"])
            .pod("web", 13, &["http-echo", "--listen", "[::]:8080", "--name", "web"])
            .service("rpc", Kind::ClusterIp(12), &[(9000, 9000, Speaks::Grpc)], &[12])
            .service("web", Kind::ClusterIp(13), &[(80, 8080, Speaks::Http)], &[13]);
        let world = world(&documents, Mode::Permissive, envoy).await?;
        let rpc = |mode| grpc("http://rpc.shop:9000", mode);
        let socket = || web_socket("ws://web.shop:80/socket");
        let all_answer = async || {
            answered_by(&world, "client", rpc(GrpcMode::Unary), "rpc").await?;
            answered_by(&world, "client", rpc(STREAMING), "rpc").await?;
            answered_by(&world, "client", socket(), "web").await
        };
        all_answer().await?;

        switch(&world, Mode::ByPolicy).await?;
        gets_no_connection(&world, "client", socket()).await?;
        for mode in [GrpcMode::Unary, STREAMING] {
            let report = world.request("client", &osm_testkit::apps::TryRequest::new(rpc(mode), 1)).await?;
            ensure!(report.successes() == 0, "without a grant gRPC should be refused: {report:?}");
        }

        let grants = Documents::default()
            .route_group("calls", &[("unary", "/osm.testkit.Echo/Unary"), ("stream", "/osm.testkit.Echo/Stream")])
            .grant("calls", "client", "rpc", ("HTTPRouteGroup", "calls"))
            .route_group("socket", &[("socket", "/socket")])
            .grant("socket", "client", "web", ("HTTPRouteGroup", "socket"));
        apply(&world, "grants.yaml", grants.text()).await?;
        all_answer().await?;

        let only_unary = Documents::default()
            .route_group("calls", &[("unary", "/osm.testkit.Echo/Unary")])
            .grant("calls", "client", "rpc", ("HTTPRouteGroup", "calls"));
        apply(&world, "grants.yaml", only_unary.text()).await?;
        answered_by(&world, "client", rpc(GrpcMode::Unary), "rpc").await?;
        sees(&world, "client", rpc(STREAMING), Seen::Status(404)).await?;
        Ok(())
    }

    /// HTTP/1.1 and HTTP/2, IPv4 and IPv6, and whatever Host: what counts is the address that was dialled.
    async fn versions_families_and_hosts(envoy) {
        let world = world(&two_echoes(), Mode::Permissive, envoy).await?;
        every_way_to_send(&world).await?;
        apply(&world, "grants.yaml", grants_to_both().text()).await?;
        switch(&world, Mode::ByPolicy).await?;
        every_way_to_send(&world).await
    }

    /// A headless Service: a client that dials a pod's address reaches that pod, on the Service's port and on the pods'.
    async fn headless(envoy) {
        let members = [12, 13];
        let documents = two_echoes()
            .pod("bytes", 14, &["tcp-echo", "--listen", "[::]:9000", "--name", "bytes"])
            .service("members", Kind::Headless, &[(8080, 8080, Speaks::Http)], &members)
            .service("bytes", Kind::Headless, &[(9000, 9000, Speaks::Tcp)], &[14]);
        let world = world(&documents, Mode::Permissive, envoy).await?;
        let every_member = async || {
            for (number, name) in [(12, "one"), (13, "two")] {
                for address in pod_addresses(number) {
                    let url = format!("http://{}/", std::net::SocketAddr::new(address, 8080));
                    answered_by(&world, "client", with_host(&url, "members.shop"), name).await?;
                    answered_by(&world, "client", http2(&url), name).await?;
                }
            }
            for address in pod_addresses(14) {
                let address = std::net::SocketAddr::new(address, 9000).to_string();
                let report = sees(&world, "client", tcp(&address), Seen::Status(200)).await?;
                ensure!(report.last_body == "bytes: hello", "{report:?}");
            }
            anyhow::Ok(())
        };
        every_member().await?;
        let grants = grants_to_both().tcp_route("bytes", &[9000]).grant("bytes", "client", "bytes", ("TCPRoute", "bytes"));
        apply(&world, "grants.yaml", grants.text()).await?;
        switch(&world, Mode::ByPolicy).await?;
        every_member().await
    }
}
