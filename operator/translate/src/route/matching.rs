//! A condition on requests, said twice: as a route match and as an access permission. Both must accept the same requests,
//! so they are made side by side here.

use envoy_types::pb::envoy::config::rbac::v3::{Permission, permission, permission::Rule};
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier, route_match::PathSpecifier,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};
use osm_model::{HttpMatch, Method, PathMatch};

use crate::message::{exact, expression, prefix, regex};

/// The pseudo-header of the method.
const METHOD: &str = ":method";

/// Every request.
pub(super) fn any_request() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

/// `condition` as a route match.
pub(super) fn route_match_of(condition: &HttpMatch) -> RouteMatch {
    let path = match &condition.path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.to_string()),
        PathMatch::Prefix(path) => match segments(path) {
            "" => PathSpecifier::Prefix("/".to_owned()),
            segments => PathSpecifier::PathSeparatedPrefix(segments.to_owned()),
        },
        PathMatch::Regex(path) => PathSpecifier::SafeRegex(expression(&**path)),
        PathMatch::Any => PathSpecifier::Prefix("/".to_owned()),
    };
    let method = method_expression(condition).map(|methods| header(METHOD, methods));
    let headers = condition.headers.iter().map(|condition| header(&condition.name, regex(&*condition.value)));
    RouteMatch {
        path_specifier: Some(path),
        headers: method.into_iter().chain(headers).collect(),
        ..Default::default()
    }
}

/// `condition` as a permission: path and method and every header.
pub(crate) fn permission_of(condition: &HttpMatch) -> Permission {
    let path = match &condition.path {
        PathMatch::Exact(path) => vec![url_path(exact(&**path))],
        PathMatch::Prefix(path) => match segments(path) {
            "" => Vec::new(),
            segments => vec![any_of(vec![url_path(exact(segments)), url_path(prefix(format!("{segments}/")))])],
        },
        PathMatch::Regex(path) => vec![url_path(regex(&**path))],
        PathMatch::Any => Vec::new(),
    };
    let method = method_expression(condition).map(|methods| rule(Rule::Header(header(METHOD, methods))));
    let headers = condition.headers.iter();
    let headers = headers.map(|condition| rule(Rule::Header(header(&condition.name, regex(&*condition.value)))));
    let mut conditions: Vec<Permission> = path.into_iter().chain(method).chain(headers).collect();
    match conditions.len() {
        0 => rule(Rule::Any(true)),
        1 => conditions.remove(0),
        _ => rule(Rule::AndRules(permission::Set { rules: conditions })),
    }
}

/// A prefix by whole segments, without its last slash; empty when it is every path.
fn segments(prefix: &str) -> &str {
    prefix.trim_end_matches('/')
}

/// One method exactly, or several as an expression. Methods are tokens, in which `.`, `*`, `+`, `$`, `^` and `|` are legal, so they are quoted.
fn method_expression(condition: &HttpMatch) -> Option<StringMatcher> {
    let mut methods = condition.methods.iter().map(Method::as_str);
    match (methods.next(), condition.methods.len()) {
        (None, _) => None,
        (Some(method), 1) => Some(exact(method)),
        (Some(_), _) => {
            let quoted: Vec<String> = condition.methods.iter().map(|method| quoted(method.as_str())).collect();
            Some(regex(quoted.join("|")))
        }
    }
}

/// `text` as an RE2 expression that matches just it.
fn quoted(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut expression, character| {
        if !character.is_ascii_alphanumeric() {
            expression.push('\\');
        }
        expression.push(character);
        expression
    })
}

fn header(name: &str, value: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..Default::default()
    }
}

fn url_path(path: StringMatcher) -> Permission {
    rule(Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(path)) }))
}

fn any_of(rules: Vec<Permission>) -> Permission {
    rule(Rule::OrRules(permission::Set { rules }))
}

fn rule(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}
