//! The example `serve_files`, driven as its users drive it: by swapping a link.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use osm_xds_test_support::{CLUSTER, Connection, DEADLINE, ENDPOINTS, LISTENER, Stream, Variant, in_variants};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// Cargo builds examples together with tests, into a folder beside theirs.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows itself");
    let target = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let program = target.join("examples/serve_files");
    assert!(program.is_file(), "{} is missing: run `cargo build -p osm-xds --examples`", program.display());
    program
}

/// A folder of states, of which `current` names one.
struct States {
    folder: TempDir,
    next: u32,
}

impl States {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("make a folder"), next: 0 }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a new state beside the old one and swaps the link.
    fn swap(&mut self, files: &[(&str, String)]) {
        self.next += 1;
        let state = format!("state-{}", self.next);
        fs::create_dir(self.path().join(&state)).expect("make a folder");
        for (name, text) in files {
            fs::write(self.path().join(&state).join(name), text).expect("write a file");
        }
        let link = self.path().join("next");
        std::os::unix::fs::symlink(&state, &link).expect("make a link");
        fs::rename(link, self.path().join("current")).expect("swap the link");
    }
}

/// The running example; killed when dropped.
struct Example {
    address: SocketAddr,
    output: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
    _child: Child,
}

impl Example {
    async fn start(folder: &Path) -> Self {
        let mut child = Command::new(program())
            .arg("--dir")
            .arg(folder)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start the example");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let errors = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = line_with(&mut output, "listening on ").await;
        let address = line.trim_start_matches("listening on ").parse().expect("an address");
        Self { address, output, errors, _child: child }
    }

    async fn open(&self, variant: Variant) -> Stream {
        Connection::plaintext(self.address).await.open(variant, CLUSTER, "any/node")
    }
}

/// Reads lines until one contains `text`.
async fn line_with(lines: &mut Lines<impl AsyncBufReadExt + AsyncRead + Unpin>, text: &str) -> String {
    timeout(DEADLINE, async {
        loop {
            let line = lines.next_line().await.expect("read").expect("the example goes on");
            if line.contains(text) {
                return line;
            }
        }
    })
    .await
    .expect("the line comes in time")
}

fn cluster(name: &str, timeout: &str) -> String {
    json!({
        "@type": CLUSTER,
        "name": name,
        "type": "EDS",
        "connectTimeout": timeout,
        "edsClusterConfig": {"edsConfig": {"ads": {}, "resourceApiVersion": "V3"}},
    })
    .to_string()
}

fn assignment(cluster: &str, port: u16) -> String {
    json!({
        "@type": ENDPOINTS,
        "clusterName": cluster,
        "endpoints": [{"lbEndpoints": [{"endpoint": {"address": {
            "socketAddress": {"address": "127.0.0.1", "portValue": port},
        }}}]}],
    })
    .to_string()
}

fn shown(response: &osm_xds_test_support::Response, name: &str) -> Value {
    let resource = response.get(name).expect("in the response");
    osm_xds_json::to_json(&response.type_url, &resource.value).expect("a known type")
}

in_variants!(serves_swaps_and_keeps_the_last_good_state, aggregated);
async fn serves_swaps_and_keeps_the_last_good_state(variant: Variant) {
    let mut states = States::new();
    states.swap(&[
        ("a.json", cluster("a", "1s")),
        ("b.json", cluster("b", "1s")),
        ("a-endpoints.json", assignment("a", 8001)),
        ("notes.txt", "not a resource".into()),
    ]);
    let mut example = Example::start(states.path()).await;
    line_with(&mut example.output, "serving 3 resources").await;
    let mut stream = example.open(variant).await;
    stream.watch_all(CLUSTER);
    assert_eq!(stream.expect_and_ack(CLUSTER).await.names(), ["a", "b"]);
    stream.subscribe(ENDPOINTS, &["a"]);
    assert_eq!(stream.expect_and_ack(ENDPOINTS).await.names(), ["a"]);

    // One swap changes two clusters, adds one and moves endpoints: one change, so one response for each type.
    states.swap(&[
        ("a.json", cluster("a", "2s")),
        ("b.json", cluster("b", "2s")),
        ("c.json", cluster("c", "2s")),
        ("a-endpoints.json", assignment("a", 8002)),
    ]);
    let clusters = stream.expect_and_ack(CLUSTER).await;
    assert_eq!(clusters.names(), ["a", "b", "c"]);
    assert_eq!(shown(&clusters, "b")["connectTimeout"], "2s");
    let endpoints = stream.expect_and_ack(ENDPOINTS).await;
    let address = &shown(&endpoints, "a")["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]["socketAddress"];
    assert_eq!(address["portValue"], 8002);

    // Bad files are named, all of them, and nothing of their folder is served.
    states.swap(&[
        ("a.json", cluster("a", "3s")),
        ("broken.json", "{".into()),
        ("unheard.json", json!({"@type": "type.googleapis.com/example.Unheard", "name": "x"}).to_string()),
        ("wrong-field.json", json!({"@type": LISTENER, "name": "l", "adress": {}}).to_string()),
    ]);
    line_with(&mut example.errors, "broken.json").await;
    assert!(line_with(&mut example.errors, "unheard.json").await.contains("example.Unheard"));
    assert!(line_with(&mut example.errors, "wrong-field.json").await.contains("adress"));
    line_with(&mut example.errors, "the last good state stays").await;
    let mut newcomer = example.open(variant).await;
    newcomer.watch_all(CLUSTER);
    let response = newcomer.expect_and_ack(CLUSTER).await;
    assert_eq!(response.names(), ["a", "b", "c"], "also newcomers get the last good state");
    assert_eq!(shown(&response, "a")["connectTimeout"], "2s");

    // The next good state goes out; nothing was sent for the bad one.
    states.swap(&[
        ("a.json", cluster("a", "4s")),
        ("b.json", cluster("b", "2s")),
        ("c.json", cluster("c", "2s")),
        ("a-endpoints.json", assignment("a", 8002)),
    ]);
    let clusters = stream.expect_and_ack(CLUSTER).await;
    assert_eq!(shown(&clusters, "a")["connectTimeout"], "4s");
    if variant.is_delta() {
        assert_eq!(clusters.names(), ["a"], "only what changed");
    }
}

in_variants!(two_files_with_one_name_are_refused, aggregated);
async fn two_files_with_one_name_are_refused(variant: Variant) {
    let mut states = States::new();
    states.swap(&[("a.json", cluster("a", "1s")), ("b.json", cluster("a", "2s"))]);
    let mut example = Example::start(states.path()).await;
    assert!(line_with(&mut example.errors, "b.json").await.contains("`a`"));
    states.swap(&[("a.json", cluster("a", "1s"))]);
    line_with(&mut example.output, "serving 1 resources").await;
    let mut stream = example.open(variant).await;
    stream.watch_all(CLUSTER);
    assert_eq!(stream.expect_and_ack(CLUSTER).await.names(), ["a"]);
}

in_variants!(clients_are_told_to_come_back_until_there_is_a_first_state, aggregated);
async fn clients_are_told_to_come_back_until_there_is_a_first_state(variant: Variant) {
    let mut states = States::new();
    let mut example = Example::start(states.path()).await;
    line_with(&mut example.errors, "current").await;
    let mut early = example.open(variant).await;
    early.watch_all(CLUSTER);
    let status = early.expect_end().await.expect_err("refused");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    states.swap(&[("a.json", cluster("a", "1s"))]);
    line_with(&mut example.output, "serving 1 resources").await;
    let mut stream = example.open(variant).await;
    stream.watch_all(CLUSTER);
    assert_eq!(stream.expect_and_ack(CLUSTER).await.names(), ["a"]);
}

#[tokio::test]
async fn help_names_the_arguments() {
    let output = Command::new(program()).arg("--help").output().await.expect("run the example");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success());
    for expected in ["--dir", "--listen", "current"] {
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn wrong_folder_is_named() {
    let output = Command::new(program())
        .args(["--dir", "/nonexistent-folder", "--listen", "127.0.0.1:0"])
        .output()
        .await
        .expect("run the example");
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.contains("/nonexistent-folder"), "{text}");
}
