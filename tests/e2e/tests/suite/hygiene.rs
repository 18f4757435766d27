//! Private keys and tokens stay where they belong: not in logs, dumps, status or metrics, at the highest log level neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use osm_e2e::World;
use osm_testkit::sandbox::STATE_DIRECTORY;
use osm_testkit::{Envoy, EnvoySpec, eventually};
use serde_json::Value;

use crate::manifests::{Documents, Kind, Mode, Speaks};
use crate::support::{LIMIT, Seen, answered_by, apply, comes_to_see, get, http2, on_every_envoy, switch, world};

/// How private keys and tokens begin, whatever they are: PEM, the DER of an ECDSA key in base64, an HTTP credential, a token.
const BEGINNINGS: [&str; 5] = ["PRIVATE KEY", "MIGHAgEAMBMGByqGSM49", "MHcCAQEEI", "Bearer ", "eyJhbGciOi"];
/// Every stage at its most talkative.
const EVERYTHING: &str = "trace";

/// The keys of a text: the lines between the marks of a PEM private key.
fn keys_in(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("-----") {
            inside = line.contains("BEGIN") && line.contains("PRIVATE KEY");
        } else if inside && line.len() >= 40 {
            keys.insert(line.to_owned());
        }
    }
    keys
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// The keys that exist on disk: the authority's and every proxy's.
fn keys_on_disk(state: &Path) -> Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    for path in files(state)?.into_iter().chain(files(&Path::new(STATE_DIRECTORY).join("pod"))?) {
        let text = String::from_utf8_lossy(&fs::read(&path)?).replace("\\n", "\n");
        keys.extend(keys_in(&text));
    }
    Ok(keys)
}

/// Everything that the control plane shows to people, by where it is shown.
async fn shown(world: &mut World) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for folder in [Path::new(STATE_DIRECTORY).join("log"), world.status_folder()] {
        for path in files(&folder)? {
            texts.insert(path.display().to_string(), String::from_utf8_lossy(&fs::read(&path)?).into_owned());
        }
    }
    let operator = world.operator()?;
    let (status, index) = operator.admin("/debug").await?;
    ensure!(status == 200, "/debug: {status}");
    let index: Value = serde_json::from_str(&index)?;
    for page in index.as_array().context("the index of /debug is no list")? {
        let path = page["path"].as_str().context("a page without a path")?;
        let pages: Vec<String> = if path.contains('{') {
            let beginning = path.split('{').next().unwrap_or_default();
            ["client", "web", "bytes"].map(|account| format!("{beginning}shop/{account}")).into()
        } else {
            vec![path.to_owned()]
        };
        for path in pages {
            let (status, text) = operator.admin(&path).await?;
            ensure!(status == 200, "{path}: status {status}: {text}");
            texts.insert(path, text);
        }
    }
    Ok(texts)
}

on_every_envoy! {
    /// After a run with everything in it (grants, a refused configuration, a refused proxy, restarts), nothing secret is shown.
    async fn nothing_secret_is_shown(envoy) {
        let documents = Documents::namespaces()
            .pod("client", 11, &["client"])
            .pod("web", 12, &["http-echo", "--listen", "[::]:8080", "--name", "web"])
            .pod("bytes", 13, &["tcp-echo", "--listen", "[::]:9000", "--name", "bytes"])
            .service("web", Kind::ClusterIp(12), &[(80, 8080, Speaks::Http)], &[12])
            .service("bytes", Kind::ClusterIp(13), &[(9000, 9000, Speaks::Tcp)], &[13]);
        let mut world = world(&documents, Mode::Permissive, envoy.clone()).await?;
        world.operator()?.kill().await?;
        world.operator()?.start_again_logging(EVERYTHING).await?;
        comes_to_see(&world, "client", get("http://web.shop/"), Seen::Status(200)).await?;
        let grants = |path: &str| {
            Documents::default()
                .route_group("pages", &[("page", path)])
                .grant("pages", "client", "web", ("HTTPRouteGroup", "pages"))
                .tcp_route("bytes", &[9000])
                .grant("bytes", "client", "bytes", ("TCPRoute", "bytes"))
        };
        apply(&world, "grants.yaml", grants("/pages").text()).await?;
        switch(&world, Mode::ByPolicy).await?;
        answered_by(&world, "client", http2("http://web.shop/pages"), "web").await?;
        world.write("grants.yaml", grants("/.{1,1000}").text()).await?;
        eventually("a configuration is refused", LIMIT, || {
            let log = world_log();
            async move {
                ensure!(log?.contains("a proxy refused a configuration"), "nothing is refused yet");
                Ok(())
            }
        })
        .await?;
        // A proxy that is not who it says.
        let pod = world.fabric().add_pod("thief").await?;
        let certificates = Envoy::directory_in(&pod)?;
        let bootstrap = world.operator()?.bootstrap("shop", "client", &pod, &certificates).await?;
        let mut bootstrap: Value = serde_saphyr::from_str(&bootstrap)?;
        bootstrap["node"]["id"] = "web".into();
        let _thief = Envoy::start(&pod, &EnvoySpec::new(envoy, bootstrap.to_string()))?;
        eventually("a proxy is refused", LIMIT, || {
            let log = world_log();
            async move {
                ensure!(log?.contains("a proxy is refused"), "nobody is refused yet");
                Ok(())
            }
        })
        .await?;

        let keys = keys_on_disk(&Path::new(STATE_DIRECTORY).join("world/state"))?;
        // The authority's, three sidecars' and the thief's: without them the search would find nothing in anything.
        ensure!(keys.len() >= 5, "only {} lines of keys are on disk", keys.len());
        let shown = shown(&mut world).await?;
        let certificates = shown.get("/debug/certificates").context("a page about certificates")?;
        ensure!(certificates.contains("shop"), "the page about certificates is empty: {certificates}");
        for (place, text) in &shown {
            let plain = text.replace("\\n", "\n");
            for secret in keys.iter().map(String::as_str).chain(BEGINNINGS) {
                let line = plain.lines().find(|line| line.contains(secret));
                // The line itself may be secret, so only its beginning is shown.
                let beginning: String = line.unwrap_or_default().chars().take(60).collect();
                ensure!(line.is_none(), "{place} shows a secret that begins {:?}: {beginning}...", &secret[..10]);
            }
        }
        Ok(())
    }
}

/// The control plane's log.
fn world_log() -> Result<String> {
    Ok(fs::read_to_string(Path::new(STATE_DIRECTORY).join("log/operator.log"))?)
}

#[test]
fn keys_are_found_where_they_are() {
    let line = "A".repeat(64);
    let text = format!(
        "x\n-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\n{line}B\n"
    );
    assert_eq!(keys_in(&text), BTreeSet::from([line]));
}
