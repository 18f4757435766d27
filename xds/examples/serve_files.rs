//! Serves a folder of Envoy resources to every proxy that asks, without TLS.
//!
//! `DIR/current` is a symbolic link to a folder that holds one resource in each `*.json` file, in canonical proto JSON
//! with `@type`. To change anything, write a whole new folder beside it and swap the link with `rename`: everything the
//! swap changes is one change to proxies, sent in make-before-break order. A folder with a bad file is refused as a
//! whole, by name, and the last good one stays.
//!
//! It is also the shortest complete use of the library:
//!
//! 1. a [`Policy`] says who a client is ([`Everyone`]);
//! 2. a [`Cache`] holds a [`Snapshot`] for each kind of proxy, here a single one ([`load`], [`publish`]);
//! 3. a [`Server`] serves them ([`run`]).

// Standard output and error are the user interface of this program.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    error::Error,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use futures::future::BoxFuture;
use notify::{RecursiveMode, Watcher};
use osm_xds::{
    Admission, Cache, ClientIdentity, Delivery, Event, Layer, Node, Peer, Policy, ProxyName, Refusal, Resource, Server,
    Settings, Snapshot, SnapshotKey, TypeUrl,
};
use tokio::{net::TcpListener, sync::mpsc};

/// Serve Envoy resources from files to any proxy, without TLS.
#[derive(Debug, Parser)]
#[command(name = "serve_files")]
struct Arguments {
    /// Folder with a symbolic link `current` to the folder whose *.json files are served, one resource in each.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Address to listen on, such as 127.0.0.1:18000; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
}

/// Whoever asks is served, all of them the same.
struct Everyone {
    key: SnapshotKey,
}

impl Policy for Everyone {
    fn authenticate<'a>(&'a self, _: &'a Peer, node: &'a Node) -> BoxFuture<'a, Result<Admission, Refusal>> {
        // A real control plane compares the node with the client's certificate here.
        let admission = Admission { key: self.key.clone(), proxy: ProxyName::new(Arc::clone(&node.id)) };
        Box::pin(std::future::ready(Ok(admission)))
    }

    fn observe(&self, client: &ClientIdentity, event: Event) {
        if let Event::Rejected(rejection) = event {
            let kind = rejection.type_url.short_name();
            eprintln!("{} refused a {kind} update: {}", client.admission.proxy, rejection.message);
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let key = SnapshotKey::new("everyone");
    let cache = Cache::new();
    let server = Server::new(cache.clone(), Arc::new(Everyone { key: key.clone() }), Settings::default());

    // The watch begins before the first look, so that no swap falls between the two.
    let (changed, mut changes) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
        // Reading the folder is an event as well, and no reason to read it again.
        Ok(event) if event.kind.is_access() => {}
        // A full channel already holds the news that something changed.
        Ok(_) => drop(changed.try_send(())),
        Err(error) => eprintln!("cannot watch the folder: {error}"),
    })?;
    watcher
        .watch(&arguments.dir, RecursiveMode::NonRecursive)
        .map_err(|error| format!("watch {}: {error}", arguments.dir.display()))?;

    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("listen on {}: {error}", arguments.listen))?;
    println!("listening on {}", listener.local_addr()?);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_plaintext(listener).await }
    });

    let reload = async {
        loop {
            publish(&cache, &key, &arguments.dir.join("current"));
            if changes.recv().await.is_none() {
                break;
            }
        }
    };
    tokio::select! {
        () = reload => {}
        stop = tokio::signal::ctrl_c() => stop?,
    }
    server.shutdown();
    serving.await?;
    Ok(())
}

/// Makes what the folder holds current; a folder that cannot be used changes nothing.
fn publish(cache: &Cache, key: &SnapshotKey, current: &Path) {
    match load(current) {
        Ok(layer) => {
            let resources = layer.len();
            let publication = cache.publish([(key.clone(), Some(Arc::new(Snapshot::new([layer]))))]);
            // From now on clients are served. Before, they are told to come back: an empty world would be a lie.
            cache.set_ready();
            if publication.changed_keys > 0 {
                println!("serving {resources} resources");
            }
        }
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            eprintln!("{} is not served; the last good state stays", current.display());
        }
    }
}

/// Reads every resource of the folder, or says what is wrong with each bad file.
fn load(current: &Path) -> Result<Layer, Vec<String>> {
    // Resolved once: a swap while the folder is read must not mix two states.
    let folder = current.canonicalize().map_err(|error| vec![format!("{}: {error}", current.display())])?;
    let entries = fs::read_dir(&folder).map_err(|error| vec![format!("{}: {error}", folder.display())])?;
    let mut files: Vec<PathBuf> = Vec::new();
    let mut problems = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            Err(error) => problems.push(format!("{}: {error}", folder.display())),
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();

    let mut layer = Layer::new();
    for file in files {
        match read(&file) {
            Ok(resource) => {
                let (name, kind) = (Arc::clone(resource.name()), resource.type_url().clone());
                if layer.insert(Arc::new(resource), Delivery::Wildcard).is_some() {
                    let kind = kind.short_name();
                    problems.push(format!("{}: another file holds the {kind} `{name}` too", file.display()));
                }
            }
            Err(error) => problems.push(format!("{}: {error}", file.display())),
        }
    }
    if problems.is_empty() { Ok(layer) } else { Err(problems) }
}

/// Reads one file.
fn read(file: &Path) -> Result<Resource, Box<dyn Error>> {
    let json = serde_json::from_slice(&fs::read(file)?)?;
    let resource = osm_xds_json::from_json(&json)?;
    Ok(Resource::from_any(TypeUrl::parse(&resource.type_url), resource.name, &resource.value)?)
}
