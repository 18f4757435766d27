//! The columns that `kubectl get` shows.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition as Column;

use crate::kinds::Kind;

/// The columns of a kind of ours, from left to right; none for other kinds.
pub(super) fn of(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::MeshConfig => vec![
            ready("Whether every proxy runs with these settings."),
            text(
                "Proxies",
                ".status.propagation.acked",
                "Proxies that run with these settings, of all that are connected.",
            ),
            text("Version", ".status.version", "Version of the control plane that applies these settings."),
            wide(reason()),
            age(),
        ],
        Kind::MeshRootCertificate => vec![
            ready("Whether the root plays its role on every proxy."),
            text("Role", ".spec.role", "The part the root is to play."),
            text("State", ".status.state", "How far it has come."),
            text("Expires", ".status.expires", "When the root certificate ends."),
            wide(acked()),
            wide(reason()),
            age(),
        ],
        Kind::TrafficTarget => vec![
            ready("Whether every proxy concerned enforces the policy."),
            acked(),
            reason(),
            wide(text("Destination", ".spec.destination.name", "The identity that may be called.")),
            age(),
        ],
        Kind::HttpRouteGroup | Kind::TcpRoute => {
            vec![ready("Whether every proxy concerned knows the routes."), acked(), reason(), age()]
        }
        Kind::TrafficSplit => vec![
            text("Service", ".spec.service", "The service whose calls are divided."),
            ready("Whether every proxy concerned divides its calls so."),
            acked(),
            reason(),
            age(),
        ],
        Kind::ProxySnapshot => vec![
            ready("Whether every connected proxy runs this version."),
            text("Synced", ".status.proxies.summary", "Proxies that run this version, of all that are connected."),
            number("Rejected", ".status.proxies.rejected", "Proxies that refused a part of this version."),
            text("Version", ".status.version", "Hash of the content."),
            wide(number("Clusters", ".status.resources.clusters", "Clusters in this version.")),
            age(),
        ],
        Kind::Namespace | Kind::Service | Kind::EndpointSlice | Kind::Pod | Kind::ServiceAccount => Vec::new(),
    }
}

fn ready(description: &str) -> Column {
    text("Ready", r#".status.conditions[?(@.type=="Ready")].status"#, description)
}

fn acked() -> Column {
    text("Acked", ".status.propagation.acked", "Proxies that have acknowledged it, of all that it concerns.")
}

fn reason() -> Column {
    text("Reason", r#".status.conditions[?(@.type=="Ready")].reason"#, "Why the object is ready or not.")
}

fn age() -> Column {
    column("Age", "date", ".metadata.creationTimestamp", "Time since the object was created.")
}

fn text(name: &str, json_path: &str, description: &str) -> Column {
    column(name, "string", json_path, description)
}

fn number(name: &str, json_path: &str, description: &str) -> Column {
    column(name, "integer", json_path, description)
}

/// The column only where there is room (`kubectl get -o wide`).
fn wide(mut column: Column) -> Column {
    column.priority = Some(1);
    column
}

fn column(name: &str, type_: &str, json_path: &str, description: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: json_path.to_owned(),
        description: Some(description.to_owned()),
        ..Column::default()
    }
}
