//! What somebody may do, by the roles, against what they did, by the audit log.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::kubectl::Kubectl;

/// Whom roles are bound to, and whom the audit log names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A ServiceAccount.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A user, by a client certificate.
    User(String),
}

impl Subject {
    /// The ServiceAccount `name` in `namespace`.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn user_name(&self) -> String {
        match self {
            Self::ServiceAccount { namespace, name } => format!("system:serviceaccount:{namespace}:{name}"),
            Self::User(name) => name.clone(),
        }
    }

    fn is(&self, subject: &Value) -> bool {
        match self {
            Self::ServiceAccount { namespace, name } => {
                subject["kind"] == "ServiceAccount" && subject["name"] == **name && subject["namespace"] == **namespace
            }
            Self::User(name) => subject["kind"] == "User" && subject["name"] == **name,
        }
    }
}

/// One verb on one resource. As a request it says where and of which object; as a grant it is limited to what it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// API group; empty for the core's.
    pub group: String,
    /// Plural, with `/status` for the subresource.
    pub resource: String,
    /// Name of the object; as a grant of all if there is none.
    pub name: Option<String>,
    /// What is done.
    pub verb: String,
    /// Namespace; as a grant in all of them if there is none.
    pub namespace: Option<String>,
}

impl Right {
    /// Whether this grant is enough for a request.
    fn covers(&self, request: &Self) -> bool {
        let fits = |limit: &Option<String>, value: &Option<String>| limit.is_none() || limit == value;
        self.group == request.group
            && self.resource == request.resource
            && self.verb == request.verb
            && fits(&self.namespace, &request.namespace)
            && fits(&self.name, &request.name)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

/// What was asked of an API server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Requests that were let through.
    pub allowed: BTreeSet<Right>,
    /// Requests that were forbidden.
    pub refused: BTreeSet<Right>,
}

/// How grants and requests differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Grants that no request needed.
    pub unused: BTreeSet<Right>,
    /// Requests that were forbidden, and that no grant covers.
    pub refused: BTreeSet<Right>,
    /// Requests that were let through by somebody else's grant.
    pub beyond: BTreeSet<Right>,
}

impl Asked {
    /// Compares with what is granted.
    pub fn difference(&self, granted: &BTreeSet<Right>) -> Difference {
        let uncovered = |requests: &BTreeSet<Right>| -> BTreeSet<Right> {
            requests.iter().filter(|request| !granted.iter().any(|right| right.covers(request))).cloned().collect()
        };
        let unused = granted.iter().filter(|right| !self.allowed.iter().any(|request| right.covers(request)));
        Difference {
            unused: unused.cloned().collect(),
            refused: uncovered(&self.refused),
            beyond: uncovered(&self.allowed),
        }
    }
}

/// Grants that a test gives no reason to use: a part of how they are printed, and why they are granted all the same.
pub type Exception = (&'static str, &'static str);

impl Difference {
    /// Fails unless every request was covered by a grant and every grant was used, but for the exceptions.
    ///
    /// # Errors
    /// Says what differs.
    pub fn expect_none_but(&self, exceptions: &[Exception]) -> Result<()> {
        let texts = |rights: &BTreeSet<Right>| -> Vec<String> { rights.iter().map(Right::to_string).collect() };
        let (refused, beyond, mut unused) = (texts(&self.refused), texts(&self.beyond), texts(&self.unused));
        ensure!(refused.is_empty(), "asked for and granted by no role: {refused:#?}");
        ensure!(beyond.is_empty(), "used, but by no role of its own: {beyond:#?}");
        unused.retain(|right| !exceptions.iter().any(|(part, _)| right.contains(part)));
        ensure!(unused.is_empty(), "granted and never used: {unused:#?}");
        Ok(())
    }

    /// Fails if an exception is out of date: what it names is granted and used, or not granted.
    ///
    /// # Errors
    /// Names such exceptions.
    pub fn expect_all_of(&self, exceptions: &[Exception]) -> Result<()> {
        let is_unused = |part: &str| self.unused.iter().any(|right| right.to_string().contains(part));
        let outdated: Vec<_> = exceptions.iter().filter(|(part, _)| !is_unused(part)).collect();
        ensure!(outdated.is_empty(), "named as unused, but used or not granted: {outdated:#?}");
        Ok(())
    }
}

/// Everything that roles grant which are bound to `subject`, one right each.
///
/// # Errors
/// The roles cannot be read, or grant something by a wildcard.
pub async fn granted(kubectl: &Kubectl, subject: &Subject) -> Result<BTreeSet<Right>> {
    let read = async |arguments: &[&str]| -> Result<Value> {
        let output = kubectl.output(&[&["get", "-o", "json"], arguments].concat()).await?;
        serde_json::from_str(&output).context("kubectl prints JSON")
    };
    let bindings = read(&["clusterrolebindings,rolebindings", "-A"]).await?;
    let mut granted = BTreeSet::new();
    for binding in list(&bindings["items"]) {
        if !list(&binding["subjects"]).iter().any(|bound| subject.is(bound)) {
            continue;
        }
        let namespace = binding["metadata"]["namespace"].as_str();
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a binding is to a role");
        let (kind, name) = (text(&binding["roleRef"]["kind"])?, text(&binding["roleRef"]["name"])?);
        let role = read(&[&kind, &name, "-n", namespace.unwrap_or("default")]).await?;
        for rule in list(&role["rules"]) {
            granted.extend(rights(rule, namespace)?);
        }
    }
    Ok(granted)
}

/// The rights of one rule.
fn rights(rule: &Value, namespace: Option<&str>) -> Result<Vec<Right>> {
    let names: Vec<Option<&str>> = match list(&rule["resourceNames"]) {
        [] => vec![None],
        names => names.iter().map(Value::as_str).collect(),
    };
    let mut rights = Vec::new();
    for group in texts(&rule["apiGroups"]) {
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                ensure!(
                    ![group, resource, verb].iter().any(|text| text.contains('*')),
                    "a wildcard is granted: {rule}"
                );
                rights.extend(names.iter().map(|name| Right {
                    group: group.to_owned(),
                    resource: resource.to_owned(),
                    name: name.map(str::to_owned),
                    verb: verb.to_owned(),
                    namespace: namespace.map(str::to_owned),
                }));
            }
        }
    }
    Ok(rights)
}

/// What `subject` asked for, by an audit log.
///
/// # Errors
/// The file cannot be read.
pub fn asked(audit_log: &Path, subject: &Subject) -> Result<Asked> {
    let user = subject.user_name();
    let mut asked = Asked::default();
    for line in BufReader::new(std::fs::File::open(audit_log)?).lines() {
        let line = line?;
        if !line.contains(&user) {
            continue;
        }
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if event["user"]["username"] == *user {
            let is_refused = event["annotations"]["authorization.k8s.io/decision"] == "forbid";
            let requests = requests(&event);
            if is_refused { asked.refused.extend(requests) } else { asked.allowed.extend(requests) }
        }
    }
    Ok(asked)
}

/// The rights that a request needed; none if it is about no resource (discovery, health).
fn requests(event: &Value) -> Vec<Right> {
    let object = &event["objectRef"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (Some(resource), Some(verb)) = (text(&object["resource"]), text(&event["verb"])) else { return Vec::new() };
    let resource = match text(&object["subresource"]) {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource,
    };
    // Of what is posted the name is not known when it is decided whether that may be.
    let name = text(&object["name"]).filter(|_| verb != "create");
    let (group, namespace) = (text(&object["apiGroup"]).unwrap_or_default(), text(&object["namespace"]));
    let right = Right { group, resource, name, verb, namespace };
    // Who patches something into being must also be allowed to create it.
    let creates = right.verb == "patch" && event["responseStatus"]["code"] == 201;
    let create = creates.then(|| Right { verb: "create".to_owned(), ..right.clone() });
    [right].into_iter().chain(create).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> + Clone {
    list(value).iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests;
