//! Replacing the root of a mesh in a cluster: the roles are edited one by one, each when the step before is done.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::api::{Api, ListParams, Patch, PatchParams};
use osm_api::{ConditionStatus, MeshRootCertificate, Role};
use serde_json::json;
use tokio::time::Instant;

use super::endpoint::EndpointArgs;

/// How often the status is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One edit, and what its status must say before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    root: String,
    role: Role,
    /// `status.state` of whom, once it is done.
    until: (String, &'static str),
}

/// From `from` to `to`, in OSM's order.
fn edits(from: &str, to: &str, role_of_to: Role) -> Vec<Edit> {
    let edit =
        |root: &str, role, whose: &str, state| Edit { root: root.to_owned(), role, until: (whose.to_owned(), state) };
    let mut edits = Vec::new();
    if role_of_to == Role::Inactive {
        edits.push(edit(to, Role::Passive, to, "validatingRollout"));
    }
    if role_of_to != Role::Active {
        edits.push(edit(to, Role::Active, to, "validatingRollout"));
    }
    edits.push(edit(from, Role::Passive, to, "active"));
    edits.push(edit(from, Role::Inactive, from, "inactive"));
    edits
}

/// Rotates to the MeshRootCertificate `to`.
pub(super) async fn rotate(args: &EndpointArgs, to: &str, timeout: Duration) -> anyhow::Result<ExitCode> {
    let client = args.cluster.client().await?;
    let api: Api<MeshRootCertificate> = Api::namespaced(client, &args.cluster.osm_namespace);
    let all = api.list(&ListParams::default()).await.context("list MeshRootCertificates")?.items;
    let name = |root: &MeshRootCertificate| root.metadata.name.clone().unwrap_or_default();
    let target = all.iter().find(|root| name(root) == to);
    let target = target.with_context(|| {
        format!("there is no MeshRootCertificate {to} in {}; create it with role passive", args.cluster.osm_namespace)
    })?;
    let others: Vec<&MeshRootCertificate> =
        all.iter().filter(|root| name(root) != to && root.spec.role() == Role::Active).collect();
    let from = match others.as_slice() {
        [from] => name(from),
        [] => bail!("no other MeshRootCertificate is active, so there is nothing to rotate from"),
        _ => bail!("several other MeshRootCertificates are active; set the role of all but one to passive or inactive"),
    };
    for Edit { root, role, until: (whose, state) } in edits(&from, to, target.spec.role()) {
        let word = serde_json::to_value(role)?;
        let text = format!("{root} is to be {}", word.as_str().unwrap_or_default());
        let _ = crate::print(&format!("{text}; waiting until {whose} is {state}\n"), ExitCode::SUCCESS);
        let patch = Patch::Merge(json!({ "spec": { "role": word } }));
        let edited = api.patch(&root, &PatchParams::default(), &patch).await;
        let edited = edited.with_context(|| format!("change the role of {root}"))?;
        let generation = (whose == root).then_some(edited.metadata.generation).flatten();
        wait(&api, &whose, state, generation, timeout).await?;
    }
    Ok(crate::print(&format!("{to} signs, {from} is trusted no longer.\n"), ExitCode::SUCCESS))
}

async fn wait(
    api: &Api<MeshRootCertificate>,
    name: &str,
    state: &str,
    generation: Option<i64>,
    timeout: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let root = api.get(name).await.with_context(|| format!("read MeshRootCertificate {name}"))?;
        let waits = match is_done(&root, state, generation) {
            Ok(()) => return Ok(()),
            Err(waits) => waits,
        };
        if Instant::now() >= deadline {
            bail!(
                "{name} did not become {state} within {timeout:?}: {waits}; the roles stay as they are, run this again or edit them"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a root has come to a state; else what it says instead.
fn is_done(root: &MeshRootCertificate, state: &str, generation: Option<i64>) -> Result<(), String> {
    let Some(status) = &root.status else { return Err("it has no status yet".to_owned()) };
    if generation.is_some_and(|generation| status.observed_generation < Some(generation)) {
        return Err("its status is about an earlier version".to_owned());
    }
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(ready) if ready.status == ConditionStatus::True && status.state.as_deref() == Some(state) => Ok(()),
        Some(ready) => Err(ready.message.clone()),
        None => Err("it has no condition yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_change_in_osms_order_and_never_skip_passive() {
        let roles = |to: Role| -> Vec<(String, Role)> {
            edits("old", "new", to).into_iter().map(|edit| (edit.root, edit.role)).collect()
        };
        let last = [("old".to_owned(), Role::Passive), ("old".to_owned(), Role::Inactive)];
        assert_eq!(roles(Role::Active), last);
        let from_passive = [("new".to_owned(), Role::Active)].into_iter().chain(last.clone()).collect::<Vec<_>>();
        assert_eq!(roles(Role::Passive), from_passive);
        let from_inactive = [("new".to_owned(), Role::Passive)].into_iter().chain(from_passive).collect::<Vec<_>>();
        assert_eq!(roles(Role::Inactive), from_inactive);
    }

    #[test]
    fn a_step_is_done_when_the_status_of_this_version_says_so() {
        let root = |text: &str| -> MeshRootCertificate {
            serde_saphyr::from_str(&format!(
                "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshRootCertificate\nmetadata: {{ name: a }}\n\
                 spec: {{ provider: {{}} }}\nstatus: {text}\n"
            ))
            .unwrap()
        };
        let ready = "{ type: Ready, status: 'True', reason: Programmed, message: all, lastTransitionTime: 2026-01-01T00:00:00Z }";
        let done = root(&format!("{{ state: active, observedGeneration: 2, conditions: [{ready}] }}"));
        assert_eq!(is_done(&done, "active", Some(2)), Ok(()));
        assert!(is_done(&done, "active", Some(3)).is_err());
        assert_eq!(is_done(&done, "inactive", None), Err("all".to_owned()));
    }
}
