//! A real MariaDB in a pod, reached by its Service's name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use osm_testkit::{Fabric, MARIADB_PORT, MariaDb, MariaDbClient, ServiceRule, sandbox_test};

const LIMIT: Duration = Duration::from_secs(60);

sandbox_test! {
    /// Rows that are written can be read, over IPv4 and IPv6; a server that is gone is an error with the client's words.
    async fn a_real_database_in_a_pod() -> Result<()> {
        let fabric = Fabric::create().await?;
        let (server, client) = (fabric.add_pod("mariadb").await?, fabric.add_pod("client").await?);
        let mut database = MariaDb::start(&server, LIMIT).await?;
        let cluster_ip = "10.96.0.60".parse()?;
        let endpoints = vec![SocketAddr::new(server.ipv4().into(), MARIADB_PORT)];
        fabric.set_services(&[ServiceRule { cluster_ip, port: MARIADB_PORT, endpoints }]).await?;
        fabric.set_names(&BTreeMap::from([("mysql.bookwarehouse".to_owned(), vec![cluster_ip])])).await?;
        let mysql = MariaDbClient::new()?;
        let name = "mysql.bookwarehouse";
        mysql.query(&client, name, "CREATE TABLE books (title TEXT, sold INT)", LIMIT).await?;
        mysql.query(&client, name, "INSERT INTO books VALUES ('one', 1), ('two', 2)", LIMIT).await?;
        for host in [name, &server.ipv6().to_string()] {
            let rows = mysql.query(&client, host, "SELECT title, sold FROM books ORDER BY sold", LIMIT).await?;
            ensure!(rows == "one\t1\ntwo\t2", "{rows:?}");
        }
        database.process().kill().await?;
        let error = mysql.query(&client, name, "SELECT 1", LIMIT).await.expect_err("nobody listens");
        ensure!(error.to_string().contains("Can't connect to"), "{error}");
        Ok(())
    }
}
