//! A real MariaDB server, whose protocol has the server speak first.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::fabric::Pod;
use crate::process::{Process, ProcessSpec, Uid, eventually};

/// The user that the server runs as.
pub const MARIADB_UID: Uid = 2100;
/// Its port.
pub const MARIADB_PORT: u16 = 3306;

const USER: &str = "bookwarehouse";
const PASSWORD: &str = "test";
const DATABASE: &str = "booksdemo";

/// A server in a pod, with an empty database `booksdemo` and a user who may do everything in it. It is killed when this is dropped.
#[derive(Debug)]
pub struct MariaDb {
    process: Process,
    socket: PathBuf,
}

impl MariaDb {
    /// Starts a server with an empty data directory and waits until it answers.
    ///
    /// # Errors
    /// MariaDB is not installed, or does not start; the message holds its log.
    pub async fn start(pod: &Pod, limit: Duration) -> Result<Self> {
        let server = installed("mariadbd", "mariadb-server-core")?;
        let directory = pod.directory("mariadb", MARIADB_UID)?;
        let data = directory.join("data");
        let data_option = format!("--datadir={}", data.display());
        let install = ProcessSpec::new("mariadb-install-db", installed("mariadb-install-db", "mariadb-server-core")?)
            .arguments(["--no-defaults", &data_option, "--skip-test-db", "--auth-root-authentication-method=normal"])
            .uid(MARIADB_UID);
        let output = pod.run(&install, limit).await?;
        ensure!(
            output.status.success(),
            "mariadb-install-db failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let setup = directory.join("setup.sql");
        fs::write(
            &setup,
            format!(
                "CREATE DATABASE {DATABASE};\nCREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
                 GRANT ALL ON {DATABASE}.* TO '{USER}'@'%';\n"
            ),
        )?;
        let socket = directory.join("mariadb.sock");
        let spec = ProcessSpec::new(format!("mariadb-{}", pod.name()), server)
            .arguments(["--no-defaults", &data_option, "--skip-name-resolve", "--bind-address=*"])
            .arguments([format!("--port={MARIADB_PORT}"), format!("--socket={}", socket.display())])
            .arguments([
                format!("--init-file={}", setup.display()),
                format!("--pid-file={}", directory.join("mariadb.pid").display()),
            ])
            // Small and quick: nothing here outlives the test.
            .arguments([
                "--innodb-buffer-pool-size=16M",
                "--innodb-log-file-size=4M",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .uid(MARIADB_UID);
        let mut process = pod.spawn(&spec)?;
        let client = MariaDbClient::new()?;
        let looking = eventually("MariaDB answers", limit, || async {
            let local = [format!("--socket={}", socket.display())];
            client.ask(pod, &local, "SELECT 1", limit).await.map(drop)
        });
        let ready = tokio::select! {
            ready = looking => ready,
            ended = process.wait(limit) => Err(anyhow::anyhow!("it ended: {}", ended?)),
        };
        if let Err(error) = ready {
            return Err(error.context(format!("MariaDB's log:\n{}", process.log_tail(20))));
        }
        Ok(Self { process, socket })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its socket, which no redirect rule reaches.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// The command-line client.
#[derive(Debug, Clone)]
pub struct MariaDbClient {
    program: PathBuf,
}

impl MariaDbClient {
    /// The installed client.
    ///
    /// # Errors
    /// It is not installed.
    pub fn new() -> Result<Self> {
        Ok(Self { program: installed("mariadb", "mariadb-client-core")? })
    }

    /// Runs SQL from `pod` on the server at `host` (name or address) and port [`MARIADB_PORT`]; returns the rows, fields separated by tabs.
    ///
    /// # Errors
    /// No connection, an SQL error (the message holds the client's words), or no end within `limit`.
    pub async fn query(&self, pod: &Pod, host: &str, sql: &str, limit: Duration) -> Result<String> {
        let server = ["--protocol=tcp".to_owned(), format!("--host={host}"), format!("--port={MARIADB_PORT}")];
        self.ask(pod, &server, sql, limit).await
    }

    async fn ask(&self, pod: &Pod, server: &[String], sql: &str, limit: Duration) -> Result<String> {
        let spec = ProcessSpec::new("mariadb-client", &self.program)
            .arguments(["--no-defaults", "--batch", "--skip-column-names"])
            .arguments([format!("--connect-timeout={}", limit.as_secs().max(1))])
            .arguments(server)
            .arguments([format!("--user={USER}"), format!("--password={PASSWORD}"), format!("--database={DATABASE}")])
            .arguments([format!("--execute={sql}")])
            .uid(crate::workload::APPLICATION_UID);
        let output = pod.run(&spec, limit).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file());
    found.with_context(|| {
        format!("{program} is not installed: install the Debian package {package} (hack/setup does it)")
    })
}
