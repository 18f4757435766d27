//! The token endpoint.

use serde_json::{Value, json};

use crate::http::{Answer, json as answer};
use crate::{CLIENT, CLIENT_SECRET, State, TENANT};

/// What MSAL reads before it asks for a token.
pub(crate) fn discovery(base: &str) -> Answer {
    answer(
        200,
        &json!({
            "token_endpoint": format!("{base}/{TENANT}/oauth2/v2.0/token"),
            "authorization_endpoint": format!("{base}/{TENANT}/oauth2/v2.0/authorize"),
            "device_authorization_endpoint": format!("{base}/{TENANT}/oauth2/v2.0/devicecode"),
            "issuer": format!("{base}/{TENANT}/v2.0"),
            "tenant_region_scope": "EU",
        }),
    )
}

/// A token for whoever knows the client's secret, or shows the federated token.
pub(crate) fn token(state: &mut State, form: &[(String, String)]) -> Answer {
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let refused = |code: i32, message: &str| -> Answer {
        let body: Value = json!({
            "error": "invalid_client",
            "error_description": format!("AADSTS{code}: {message} Trace ID: 0 Correlation ID: 0"),
            "error_codes": [code],
        });
        answer(401, &body)
    };
    if field("grant_type") != Some("client_credentials")
        || !field("scope").is_some_and(|scope| scope.contains("vault."))
    {
        return refused(70011, "The provided request must include a 'scope' input parameter.");
    }
    if field("client_id") != Some(CLIENT) {
        return refused(700016, "Application with identifier was not found in the directory.");
    }
    match (field("client_secret"), field("client_assertion")) {
        (Some(CLIENT_SECRET), None) => {}
        (Some(_), _) => return refused(7000215, "Invalid client secret provided."),
        (None, Some(assertion)) if state.federated_token.as_deref() == Some(assertion) => {}
        (None, _) => {
            return refused(700213, "No matching federated identity record found for presented assertion subject.");
        }
    }
    let token = state.new_token();
    answer(200, &json!({ "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token }))
}
