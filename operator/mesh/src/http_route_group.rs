//! HTTPRouteGroups: named request patterns.

use std::collections::BTreeSet;
use std::sync::Arc;

use osm_api::{HttpMethod, HttpRouteGroup, HttpRouteGroupReason};
use osm_model::{HeaderMatch, HttpMatch, Method, Origin, PathMatch};

use crate::parsed::{Parsed, Report};

/// An HTTPRouteGroup with its usable matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteGroupFacts {
    /// The group, for attribution.
    pub origin: Origin,
    /// Its matches in the order of the object.
    pub matches: Vec<NamedMatch>,
}

/// One entry of `spec.matches`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMatch {
    /// Its name, which TrafficTargets refer to.
    pub name: Arc<str>,
    /// The requests.
    pub matches: HttpMatch,
    /// Its path in the object, for attribution.
    pub field: Arc<str>,
}

/// Reads an HTTPRouteGroup. A bad match costs only itself.
pub fn http_route_group(object: &HttpRouteGroup) -> Parsed<RouteGroupFacts> {
    let mut report = Report::of(object);
    let mut names = BTreeSet::new();
    let mut matches = Vec::new();
    if object.spec.matches.is_empty() {
        let message = "no match is given, so no request is described";
        report.warn(
            "spec.matches",
            HttpRouteGroupReason::NoMatches,
            message,
            "describe requests, or delete the object",
        );
    }
    for (index, entry) in object.spec.matches.iter().enumerate() {
        let field = format!("spec.matches[{index}]");
        if !names.insert(entry.name.as_str()) {
            let message = format!("{:?} names more than one match, only the first counts", entry.name);
            report.refuse(
                format!("{field}.name"),
                HttpRouteGroupReason::DuplicateMatch,
                message,
                "give each match a name of its own",
            );
            continue;
        }
        let path = entry
            .path_regex
            .as_deref()
            .map_or(Some(PathMatch::Any), |text| path(&format!("{field}.pathRegex"), text, &mut report));
        let methods = methods(entry.methods());
        let headers = headers(&field, entry.headers.iter().flatten(), &mut report);
        if let (Some(path), Some(headers)) = (path, headers) {
            let matches_request = HttpMatch { path, methods, headers };
            matches.push(NamedMatch {
                name: entry.name.as_str().into(),
                matches: matches_request,
                field: field.into(),
            });
        }
    }
    let origin = report.origin("spec");
    report.finish(Some(RouteGroupFacts { origin, matches }))
}

/// An expression without special characters is an exact path: cheaper to match, and more specific in the order of routes.
fn path(field: &str, text: &str, report: &mut Report) -> Option<PathMatch> {
    if matches!(text, "" | ".*" | "/.*" | "*") {
        // `*` is no expression, but OSM's own samples use it for "any path".
        return Some(PathMatch::Any);
    }
    if text.starts_with('/') && !text.bytes().any(|byte| b"\\.+*?()|[]{}^$".contains(&byte)) {
        return Some(PathMatch::Exact(text.into()));
    }
    expression(field, text, report).map(PathMatch::Regex)
}

/// Checks a regular expression against the syntax that Envoy's RE2 and Rust's `regex` share.
fn expression(field: &str, text: &str, report: &mut Report) -> Option<Arc<str>> {
    match regex::Regex::new(text) {
        Ok(_) => Some(text.into()),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or("it cannot be parsed").trim();
            report.refuse(
                field,
                HttpRouteGroupReason::InvalidRegex,
                format!("{text:?} is not a regular expression: {reason}"),
                "write an RE2 expression, which has no look-around and no back-references",
            );
            None
        }
    }
}

/// No methods, or `*` among them, means any.
fn methods(written: Option<&[HttpMethod]>) -> BTreeSet<Method> {
    written.unwrap_or_default().iter().filter_map(|method| Method::new(method.as_str())).collect()
}

fn headers<'a>(
    field: &str,
    entries: impl Iterator<Item = (&'a String, &'a String)>,
    report: &mut Report,
) -> Option<Vec<HeaderMatch>> {
    let mut headers = Vec::new();
    let mut usable = true;
    for (name, value) in entries {
        let path = format!("{field}.headers[{name}]");
        let lower = name.to_ascii_lowercase();
        let legal = !lower.is_empty() && Method::new(&lower).is_some();
        if !legal && !matches!(lower.as_str(), ":authority" | ":method" | ":path" | ":scheme") {
            report.refuse(
                path,
                HttpRouteGroupReason::InvalidHeaderName,
                format!("{name:?} is not a header name"),
                "use letters, digits and '-'",
            );
            usable = false;
            continue;
        }
        let name = if lower == "host" { ":authority".into() } else { lower.into() };
        match expression(&path, value, report) {
            Some(value) => headers.push(HeaderMatch { name, value }),
            None => usable = false,
        }
    }
    headers.sort();
    headers.dedup();
    // A condition that cannot be checked must not become no condition.
    usable.then_some(headers)
}
