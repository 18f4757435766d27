//! `osm-operator certificate`: what signs, what is trusted, when certificates end, and how far a rotation has come.

mod endpoint;
mod rotate;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use self::endpoint::{Endpoint, EndpointArgs};
use super::output::{FormatArgs, columns};

const HELP: &str = "\
Examples:
  osm-operator certificate status
  osm-operator certificate status --watch
  osm-operator certificate list --admin 127.0.0.1:9091
  osm-operator certificate inspect bookstore/bookstore
  osm-operator certificate rotate
  osm-operator certificate rotate --to new-root

Without --admin the control plane of a cluster is asked, through forwarded ports: about roots the replica that holds the Lease,
about certificates all.

Exit codes: 0 done, 1 a rotation waits or a certificate could not be renewed, 2 could not be done.";

/// How often a live view looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CertificateArgs {
    #[command(subcommand)]
    command: CertificateCommand,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, Subcommand)]
enum CertificateCommand {
    /// List the certificates in use: whose, of which root, until when
    List {
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Show all that is known of the certificates of one workload
    Inspect {
        /// The workload, or a part of a SPIFFE id
        #[arg(value_name = "NAMESPACE/SERVICEACCOUNT")]
        identity: String,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Renew the certificates of all workloads, or with --to replace the root, step by step
    Rotate {
        /// MeshRootCertificate that is to sign; its roles and the former root's are edited as each step is done
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// How long one step may take, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 900)]
        timeout: u64,
    },
    /// Show which root signs, which are trusted, how far a rotation has come and what it waits for
    Status {
        /// Stay and show every change until nothing is left to do
        #[arg(short, long)]
        watch: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
}

/// Carries the command out.
pub(crate) async fn run(args: CertificateArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        CertificateCommand::List { format } => {
            let page = everywhere(&args.endpoint).await?;
            Ok(crate::print(&format.text(&page, certificates)?, ExitCode::SUCCESS))
        }
        CertificateCommand::Inspect { identity, format } => {
            let page = everywhere(&args.endpoint).await?;
            let found = matching(&page, &identity);
            if found.is_empty() {
                bail!("no certificate of {identity:?}; see `osm-operator certificate list`");
            }
            let found = Value::Array(found);
            Ok(crate::print(&format.text(&found, details)?, ExitCode::SUCCESS))
        }
        CertificateCommand::Rotate { to: None, .. } => renew(&args.endpoint.open_all().await?).await,
        CertificateCommand::Rotate { to: Some(to), timeout } => {
            rotate::rotate(&args.endpoint, &to, Duration::from_secs(timeout)).await
        }
        CertificateCommand::Status { watch: false, format } => {
            let page = args.endpoint.open().await?.get("/debug/roots").await?;
            let code = if page["complete"] == true { ExitCode::SUCCESS } else { ExitCode::from(1) };
            Ok(crate::print(&format.text(&page, roots)?, code))
        }
        CertificateCommand::Status { watch: true, format } => watch(&args.endpoint.open().await?, format).await,
    }
}

/// The certificates of all replicas: each has its own for every workload that it serves.
async fn everywhere(endpoint: &EndpointArgs) -> anyhow::Result<Value> {
    let mut all = Vec::new();
    for endpoint in endpoint.open_all().await? {
        let page = endpoint.get("/debug/certificates").await?;
        for mut one in page.as_array().cloned().unwrap_or_default() {
            if let Some(replica) = endpoint.replica() {
                one["replica"] = replica.into();
            }
            all.push(one);
        }
    }
    all.sort_by_key(|one| text(&one["identity"]));
    Ok(Value::Array(all))
}

async fn renew(endpoints: &[Endpoint]) -> anyhow::Result<ExitCode> {
    let (mut renewed, mut failed) = (0, 0);
    for endpoint in endpoints {
        let answer = endpoint.post("/certificates/rotate").await?;
        renewed += answer["renewed"].as_u64().unwrap_or_default();
        failed += answer["failed"].as_u64().unwrap_or_default();
    }
    let text = format!("{renewed} certificates are renewed, {failed} could not be.\n");
    Ok(crate::print(&text, if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }))
}

/// Prints the page whenever it reads differently, until nothing is left to do.
async fn watch(endpoint: &Endpoint, format: FormatArgs) -> anyhow::Result<ExitCode> {
    let mut shown = String::new();
    loop {
        let page = endpoint.get("/debug/roots").await?;
        let text = format.text(&page, roots)?;
        if text != shown {
            let mut output = std::io::stdout();
            let separated = if shown.is_empty() { text.clone() } else { format!("\n{text}") };
            // A reader that went away wants no more.
            if output.write_all(separated.as_bytes()).and_then(|()| output.flush()).is_err() {
                return Ok(ExitCode::SUCCESS);
            }
            shown = text;
        }
        if page["complete"] == true {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// Certificates as a table.
fn certificates(page: &Value) -> String {
    let rows = page.as_array().into_iter().flatten().map(|one| {
        let leaf = &one["leaf"];
        let problem = one["failure"]["reason"].as_str().unwrap_or_default().to_owned();
        let replica = text(&one["replica"]);
        [text(&one["identity"]), text(&leaf["root"]), text(&leaf["notAfter"]), text(&leaf["renewAt"]), replica, problem]
    });
    columns(["IDENTITY", "ROOT", "EXPIRES", "RENEWAL", "REPLICA", "PROBLEM"], rows)
}

/// The certificates whose identity is a workload's, or contains a text.
fn matching(page: &Value, wanted: &str) -> Vec<Value> {
    let of_workload = wanted.split_once('/').map(|(namespace, account)| format!("/ns/{namespace}/sa/{account}"));
    let is_wanted = |one: &&Value| {
        let identity = one["identity"].as_str().unwrap_or_default();
        match &of_workload {
            Some(workload) if !wanted.contains("://") => {
                identity.ends_with(workload.as_str()) || identity.contains(&format!("{workload}/"))
            }
            _ => identity.contains(wanted),
        }
    };
    page.as_array().into_iter().flatten().filter(is_wanted).cloned().collect()
}

/// Certificates with everything, one after the other.
fn details(found: &Value) -> String {
    let mut all = String::new();
    for one in found.as_array().into_iter().flatten() {
        let leaf = &one["leaf"];
        let mut lines = vec![
            ("Identity", text(&one["identity"])),
            ("Kind", text(&one["kind"])),
            ("Root", text(&leaf["root"])),
            ("Serial", text(&leaf["serial"])),
            ("Issued", text(&leaf["issuedAt"])),
            ("Expires", text(&leaf["notAfter"])),
            ("Renewal", text(&leaf["renewAt"])),
            ("Replica", text(&one["replica"])),
        ];
        if !one["failure"].is_null() {
            lines.push(("Problem", text(&one["failure"]["message"])));
            lines.push(("Next attempt", text(&one["failure"]["retryAt"])));
        }
        if !all.is_empty() {
            all.push('\n');
        }
        for (name, value) in lines {
            all += &format!("{:<14}{value}\n", format!("{name}:"));
        }
    }
    all
}

/// Roots as a table, with what each waits for below it.
fn roots(page: &Value) -> String {
    let rows = page["roots"].as_array().into_iter().flatten().map(|root| {
        let acknowledged = format!("{}/{}", root["acknowledged"], root["targeted"]);
        [text(&root["root"]), text(&root["usage"]), text(&root["state"]), acknowledged]
    });
    let mut all = columns(["ROOT", "USAGE", "STATE", "ACKED"], rows);
    if let Some(problem) = page["roles"].as_str() {
        all += &format!("\nNothing moves: {problem}\n");
    }
    let mut waits: Vec<&str> = Vec::new();
    for wait in page["roots"].as_array().into_iter().flatten().flat_map(|root| root["waitsFor"].as_array()).flatten() {
        let wait = wait.as_str().unwrap_or_default();
        if !waits.contains(&wait) {
            waits.push(wait);
        }
    }
    if !waits.is_empty() {
        all += "\nThe next step waits:\n";
        all += &waits.iter().map(|wait| format!("  {wait}\n")).collect::<String>();
    }
    all
}

/// A page as JSON.
fn parse(page: &str, body: &[u8]) -> anyhow::Result<Value> {
    serde_json::from_slice(body).with_context(|| format!("{page}: the answer is no JSON"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page() -> Value {
        let leaf = json!({ "root": "osm-system/new", "serial": "01:02", "notAfter": "2026-01-02T00:00:00Z" });
        json!([
            { "identity": "spiffe://cluster.local/ns/shop/sa/web", "kind": "workload", "leaf": leaf, "failure": null },
            { "identity": "spiffe://cluster.local/ns/shop/sa/web-2", "kind": "workload", "leaf": null,
              "failure": { "reason": "IssuerUnreachable", "message": "no answer", "retryAt": null } },
        ])
    }

    #[test]
    fn certificates_are_listed_with_their_root_and_end() {
        let text = certificates(&page());
        assert!(text.contains("osm-system/new") && text.contains("2026-01-02T00:00:00Z"), "{text}");
        assert!(text.contains("IssuerUnreachable"), "{text}");
    }

    #[test]
    fn a_workload_is_found_by_its_name_and_no_other() {
        let found = matching(&page(), "shop/web");
        assert_eq!(found.len(), 1);
        assert!(details(&Value::Array(found)).contains("Serial:       01:02"));
        assert_eq!(matching(&page(), "spiffe://cluster.local/ns/shop").len(), 2);
        assert!(matching(&page(), "shop/we").is_empty());
    }

    #[test]
    fn a_rotation_shows_what_it_waits_for_once() {
        let wait = "proxy shop/web/1 does not trust osm-system/new yet";
        let root = |name: &str, usage: &str, state: &str| json!({ "root": name, "usage": usage, "state": state, "acknowledged": 1, "targeted": 2, "waitsFor": [wait] });
        let old = root("osm-system/old", "issuing", "issuingRollback");
        let page = json!({ "roots": [old, root("osm-system/new", "validating", "validatingRollout")], "roles": null });
        let text = roots(&page);
        assert_eq!(text.matches(wait).count(), 1, "{text}");
        assert!(text.contains("validatingRollout   1/2"), "{text}");
        let wrong = roots(&json!({ "roots": [], "roles": "spec.role: no MeshRootCertificate is active" }));
        assert!(wrong.contains("Nothing moves: spec.role"), "{wrong}");
    }
}
