//! `osm-operator verify`: why a call works or does not, step by step.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use hyper::Method;
use kube::Client;
use kube::api::Api;
use osm_api::k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::check::{Line, Lines};
use super::cluster::ClusterArgs;
use super::output::FormatArgs;
use super::policy::{PodName, check, parse_pod, peer};
use super::proxy::ask;

const HELP: &str = "\
Examples:
  osm-operator verify connectivity --from-pod bookbuyer/bookbuyer-7d9f --to-pod bookstore/bookstore-v1-5c6b

Exit codes: 0 nothing stands in the way, 1 something does and is named with its remedy, 2 it could not be found out.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct VerifyArgs {
    #[command(subcommand)]
    command: VerifyCommand,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Subcommand)]
enum VerifyCommand {
    /// Check policy, proxies and certificates between two pods
    Connectivity {
        #[arg(long, value_name = "NAMESPACE/POD", value_parser = parse_pod)]
        from_pod: PodName,
        #[arg(long, value_name = "NAMESPACE/POD", value_parser = parse_pod)]
        to_pod: PodName,
        #[command(flatten)]
        format: FormatArgs,
    },
}

/// Carries the command out.
pub(crate) async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let VerifyCommand::Connectivity { from_pod, to_pod, format } = args.command;
    let client = args.cluster.client().await?;
    let lines = connectivity(&args.cluster, &client, &from_pod, &to_pod).await?;
    lines.print(format)
}

async fn connectivity(cluster: &ClusterArgs, client: &Client, from: &PodName, to: &PodName) -> anyhow::Result<Lines> {
    let (caller, called) = (peer(client, from).await?, peer(client, to).await?);
    let answer = check(&cluster.mesh(client).await?, &caller, &called);
    let mut lines = Lines::default();
    for obstacle in answer.obstacles() {
        lines.push(Line::bad("in the mesh", obstacle.clone(), "see the message"));
    }
    let remedy = "see `osm-operator policy check-pods`; allow it by a TrafficTarget";
    let policy = format!("{} -> {}", caller.identity, called.identity);
    lines.push(Line::judged("allowed by policy", answer.allowed(), policy, remedy));
    for (pod, has_proxy) in [(from, caller.has_proxy), (to, called.has_proxy)] {
        if has_proxy {
            lines.push(container_ready(client, pod).await?);
            lines.extend(proxy_lines(client, pod).await);
        }
    }
    Ok(lines)
}

async fn container_ready(client: &Client, pod: &PodName) -> anyhow::Result<Line> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let found = api.get(&pod.name).await.with_context(|| format!("read pod {}/{}", pod.namespace, pod.name))?;
    let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let name = format!("{}/{}", pod.namespace, pod.name);
    let remedy = format!("kubectl describe pod -n {} {}", pod.namespace, pod.name);
    Ok(Line::judged("pod is ready", ready, name, &remedy))
}

/// What the proxy says of its connection to the control plane and of its certificates.
async fn proxy_lines(client: &Client, pod: &PodName) -> Vec<Line> {
    let name = format!("{}/{}", pod.namespace, pod.name);
    let stats = match ask(client, Method::GET, "stats?filter=control_plane.connected_state", pod).await {
        Ok(body) => String::from_utf8_lossy(&body).into_owned(),
        Err(error) => {
            let remedy = format!("kubectl logs -n {} {} -c envoy", pod.namespace, pod.name);
            return vec![Line::bad("proxy answers", format!("{name}: {error:#}"), &remedy)];
        }
    };
    let connected = stats.lines().any(|line| line.ends_with(": 1"));
    let mut lines = vec![Line::judged(
        "proxy is connected to the control plane",
        connected,
        name.clone(),
        "osm-operator check; kubectl logs of the proxy say why it is refused",
    )];
    if let Ok(body) = ask(client, Method::GET, "certs", pod).await {
        let days = serde_json::from_slice(&body).ok().and_then(|certs: Value| shortest_validity(&certs));
        let text = days.map_or_else(
            || name.clone(),
            |days| match days {
                0 => format!("{name}: valid for less than a day"),
                days => format!("{name}: valid for {days} days or more"),
            },
        );
        lines.push(Line::judged("proxy has a certificate", days.is_some(), text, "osm-operator certificate list"));
    }
    lines
}

/// Days until the first of the proxy's own certificates ends.
fn shortest_validity(certs: &Value) -> Option<u64> {
    let own =
        certs["certificates"].as_array()?.iter().flat_map(|entry| entry["cert_chain"].as_array().into_iter().flatten());
    own.filter_map(|cert| {
        let days = &cert["days_until_expiration"];
        days.as_u64().or_else(|| days.as_str()?.parse().ok())
    })
    .min()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_certificate_that_ends_first_counts() {
        let certs = json!({ "certificates": [
            { "cert_chain": [{ "days_until_expiration": "3" }] },
            { "cert_chain": [{ "days_until_expiration": 1 }], "ca_cert": [{ "days_until_expiration": "0" }] },
        ] });
        assert_eq!(shortest_validity(&certs), Some(1));
        assert_eq!(shortest_validity(&json!({})), None);
    }
}
