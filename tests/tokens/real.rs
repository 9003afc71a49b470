//! Are the tokens that real issuers give out accepted under their profile, and under no other?
//!
//! The shapes are those of the issuers' documentation; the values are made up.

use crate::issuer::{AUDIENCE, Issuer, NOW_S, check, encode, rules};
use serde_json::{Value, json};
use weirgate::identity::{Algorithm, IssuerRules, KeySnapshot, Principal, Profile, TokenError};

struct Shape {
    name: &'static str,
    profile: Profile,
    header: Value,
    claims: Value,
    groups_claim: &'static str,
    groups: &'static [&'static str],
    client: Option<&'static str>,
}

fn times(mut claims: Value) -> Value {
    let times = json!({"iat": NOW_S - 10, "exp": NOW_S + 3_000});
    if let (Some(claims), Some(times)) = (claims.as_object_mut(), times.as_object()) {
        claims.extend(times.clone());
    }
    claims
}

fn access_tokens() -> Vec<Shape> {
    vec![
        Shape {
            name: "Entra v2, for a person",
            profile: Profile::OidcAccess,
            header: json!({"typ": "JWT", "alg": "RS256", "kid": "rsa"}),
            claims: times(json!({
                "aud": AUDIENCE, "iss": "https://login.microsoftonline.com/t-1/v2.0",
                "nbf": NOW_S - 10, "aio": "ATQ", "azp": "app-1", "azpacr": "1",
                "name": "Alice", "oid": "o-1", "preferred_username": "alice@example.com",
                "rh": "0.A", "roles": ["Reader"], "scp": "access_as_user", "sub": "s-1",
                "tid": "t-1", "uti": "u", "ver": "2.0"})),
            groups_claim: "roles",
            groups: &["Reader"],
            client: Some("app-1"),
        },
        Shape {
            name: "Entra v1, for an application",
            profile: Profile::OidcAccess,
            header: json!({"typ": "JWT", "alg": "RS256", "x5t": "rsa", "kid": "rsa"}),
            claims: times(json!({
                "aud": AUDIENCE, "iss": "https://sts.windows.net/t-1/", "nbf": NOW_S - 10,
                "aio": "E2", "appid": "app-1", "appidacr": "1",
                "idp": "https://sts.windows.net/t-1/", "oid": "o-1", "rh": "0.A", "sub": "o-1",
                "tid": "t-1", "uti": "u", "ver": "1.0", "groups": ["g-1", "g-2"]})),
            groups_claim: "groups",
            groups: &["g-1", "g-2"],
            client: Some("app-1"),
        },
        Shape {
            name: "Okta",
            profile: Profile::OidcAccess,
            header: json!({"kid": "rsa", "alg": "RS256"}),
            claims: times(json!({
                "ver": 1, "jti": "AT.1", "iss": "https://acme.okta.com/oauth2/default",
                "aud": AUDIENCE, "cid": "0oa1", "uid": "00u1", "scp": ["openid", "llm"],
                "auth_time": NOW_S - 100, "sub": "alice@example.com"})),
            groups_claim: "scp",
            groups: &["openid", "llm"],
            client: Some("0oa1"),
        },
        Shape {
            name: "Auth0",
            profile: Profile::OidcAccess,
            header: json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}),
            claims: times(json!({
                "iss": "https://acme.eu.auth0.com/", "sub": "auth0|5f",
                "aud": [AUDIENCE, "https://acme.eu.auth0.com/userinfo"], "azp": "c-1",
                "scope": "openid profile", "https://acme.example.com/roles": ["dev"]})),
            groups_claim: "https://acme.example.com/roles",
            groups: &["dev"],
            client: Some("c-1"),
        },
        Shape {
            name: "Auth0, for a machine, RFC 9068",
            profile: Profile::Rfc9068,
            header: json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"}),
            claims: times(json!({
                "iss": "https://acme.eu.auth0.com/", "sub": "c-1@clients", "aud": AUDIENCE,
                "client_id": "c-1", "jti": "j", "scope": "read write",
                "gty": "client-credentials"})),
            groups_claim: "scope",
            groups: &["read", "write"],
            client: Some("c-1"),
        },
        Shape {
            name: "Keycloak",
            profile: Profile::OidcAccess,
            header: json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}),
            claims: times(json!({
                "jti": "onrtac:1", "iss": "https://kc.example.com/realms/acme",
                "aud": [AUDIENCE, "account"], "sub": "f-1", "typ": "Bearer", "azp": "agents",
                "sid": "s", "acr": "1", "allowed-origins": ["/*"],
                "realm_access": {"roles": ["dev", "offline_access"]},
                "resource_access": {"account": {"roles": ["view-profile"]}},
                "scope": "profile email", "email_verified": true,
                "preferred_username": "alice"})),
            groups_claim: "realm_access.roles",
            groups: &["dev", "offline_access"],
            client: Some("agents"),
        },
        Shape {
            name: "MCP authorization server",
            profile: Profile::Mcp,
            header: json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"}),
            claims: times(json!({
                "iss": "https://as.example.com", "sub": "alice", "aud": format!("{AUDIENCE}/"),
                "client_id": "https://client.example.com/metadata.json", "scope": "mcp:tools"})),
            groups_claim: "scope",
            groups: &["mcp:tools"],
            client: Some("https://client.example.com/metadata.json"),
        },
    ]
}

fn other_tokens() -> Vec<Shape> {
    vec![
        Shape {
            name: "Google, for a service account",
            profile: Profile::IdToken,
            header: json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}),
            claims: times(json!({
                "aud": AUDIENCE, "azp": "1029", "email": "a@p.iam.gserviceaccount.com",
                "email_verified": true, "iss": "https://accounts.google.com", "sub": "1029"})),
            groups_claim: "groups",
            groups: &[],
            client: Some("1029"),
        },
        Shape {
            name: "Keycloak ID token",
            profile: Profile::IdToken,
            header: json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}),
            claims: times(json!({
                "jti": "1", "iss": "https://kc.example.com/realms/acme", "aud": AUDIENCE,
                "sub": "f-1", "typ": "ID", "azp": AUDIENCE, "nonce": "n", "sid": "s",
                "at_hash": "h", "acr": "1", "groups": ["/dev"]})),
            groups_claim: "groups",
            groups: &["/dev"],
            client: Some(AUDIENCE),
        },
        Shape {
            name: "Kubernetes",
            profile: Profile::K8sSa,
            header: json!({"alg": "RS256", "kid": "rsa"}),
            claims: times(json!({
                "aud": [AUDIENCE], "iss": "https://kubernetes.default.svc.cluster.local",
                "jti": "j", "kubernetes.io": {
                    "namespace": "agents", "node": {"name": "n1", "uid": "u1"},
                    "pod": {"name": "agent-0", "uid": "u2"},
                    "serviceaccount": {"name": "runner", "uid": "u3"}, "warnafter": NOW_S + 1},
                "nbf": NOW_S - 10, "sub": "system:serviceaccount:agents:runner"})),
            groups_claim: "kubernetes.io.namespace",
            groups: &["agents"],
            client: None,
        },
        Shape {
            name: "GitHub Actions",
            profile: Profile::GithubActions,
            header: json!({"typ": "JWT", "alg": "RS256", "x5t": "rsa", "kid": "rsa"}),
            claims: times(json!({
                "jti": "j", "sub": "repo:acme/app:environment:prod", "environment": "prod",
                "aud": AUDIENCE, "ref": "refs/heads/main", "sha": "0a", "repository": "acme/app",
                "repository_owner": "acme", "actor_id": "12", "repository_visibility": "private",
                "repository_id": "74", "repository_owner_id": "65", "run_id": "1", "actor": "al",
                "run_number": "10", "run_attempt": "2", "runner_environment": "github-hosted",
                "workflow": "deploy", "head_ref": "", "base_ref": "", "event_name": "push",
                "ref_type": "branch",
                "job_workflow_ref": "acme/app/.github/workflows/d.yml@refs/heads/main",
                "iss": "https://token.actions.githubusercontent.com", "nbf": NOW_S - 300})),
            groups_claim: "environment",
            groups: &["prod"],
            client: Some("acme/app"),
        },
        Shape {
            name: "SPIRE",
            profile: Profile::SpiffeJwt,
            header: json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}),
            claims: times(json!({
                "aud": [AUDIENCE], "iss": "https://spire.example.com",
                "sub": "spiffe://prod.acme/ns/agents/sa/runner"})),
            groups_claim: "",
            groups: &[],
            client: None,
        },
    ]
}

impl Shape {
    fn rules(&self, profile: Profile) -> IssuerRules {
        IssuerRules {
            issuer: self.claims["iss"].as_str().expect("a text").to_owned(),
            groups_claim: self.groups_claim.to_owned(),
            ..rules(profile)
        }
    }

    fn check(
        &self,
        issuer: &Issuer,
        keys: &KeySnapshot,
        profile: Profile,
        change: impl FnOnce(&mut Value),
    ) -> Result<Principal, TokenError> {
        let mut claims = self.claims.clone();
        change(&mut claims);
        let token = issuer.sign(Algorithm::Rs256, &self.header.to_string(), &claims.to_string());
        check(self.rules(profile), keys, &token)
    }
}

#[test]
fn what_issuers_give_out_is_accepted_under_its_profile() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    for shape in access_tokens().into_iter().chain(other_tokens()) {
        let principal =
            shape.check(&issuer, &keys, shape.profile, |_| {}).unwrap_or_else(|error| {
                panic!("{}: {error}", shape.name);
            });
        let groups: Vec<&str> = principal.groups().iter().map(AsRef::as_ref).collect();
        assert_eq!(groups, shape.groups, "{}", shape.name);
        assert_eq!(principal.client_id(), shape.client, "{}", shape.name);
        assert_eq!(principal.sub(), shape.claims["sub"].as_str().expect("a text"));
    }
}

#[test]
fn a_token_of_one_kind_is_refused_under_the_others() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    let access = [Profile::Rfc9068, Profile::OidcAccess, Profile::Mcp];
    for shape in access_tokens().into_iter().chain(other_tokens()) {
        for profile in Profile::ALL {
            // Access tokens differ by how much they must say, not by what they are for.
            if profile == shape.profile
                || access.contains(&profile) && access.contains(&shape.profile)
            {
                continue;
            }
            // Google's ID tokens carry no mark that an access token of Entra lacks.
            let unmarked = shape.name == "Google, for a service account";
            if unmarked && access.contains(&profile) {
                continue;
            }
            let result = shape.check(&issuer, &keys, profile, |_| {});
            assert!(result.is_err(), "{} under {}", shape.name, profile.name());
        }
    }
}

#[test]
fn a_service_account_is_what_its_object_says() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    let shapes = other_tokens();
    let shape = shapes.iter().find(|shape| shape.profile == Profile::K8sSa).expect("one");
    let refuses = |change: fn(&mut Value)| {
        let error = shape.check(&issuer, &keys, Profile::K8sSa, change).expect_err("refused");
        assert_eq!(error.label(), "profile");
    };
    refuses(|claims| claims["sub"] = json!("system:serviceaccount:kube-system:runner"));
    refuses(|claims| claims["sub"] = json!("system:serviceaccount:agents:runner:x"));
    refuses(|claims| claims["sub"] = json!("system:admin"));
    refuses(|claims| claims["kubernetes.io"]["namespace"] = json!("other"));
    refuses(|claims| claims["kubernetes.io"]["serviceaccount"] = json!("runner"));
    refuses(|claims| claims["kubernetes.io"] = json!(null));
    // A legacy token without an end.
    let legacy = shape.check(&issuer, &keys, Profile::K8sSa, |claims| {
        claims.as_object_mut().expect("an object").remove("exp");
    });
    assert_eq!(legacy, Err(TokenError::MissingClaim("exp")));
}

#[test]
fn workload_marks_and_names_are_checked() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    let shapes = other_tokens();
    let spire = shapes.iter().find(|shape| shape.profile == Profile::SpiffeJwt).expect("one");
    for sub in ["alice", "spiffe://prod.acme/../x", "spiffe://Prod/x", "https://prod.acme/x"] {
        let result = spire.check(&issuer, &keys, Profile::SpiffeJwt, |claims| {
            claims["sub"] = json!(sub);
        });
        assert_eq!(result, Err(TokenError::Profile("sub")), "{sub}");
    }
    let github = shapes.iter().find(|shape| shape.profile == Profile::GithubActions).expect("one");
    for name in ["repository", "job_workflow_ref", "run_id", "jti"] {
        let result = github.check(&issuer, &keys, Profile::GithubActions, |claims| {
            claims.as_object_mut().expect("an object").remove(name);
        });
        assert_eq!(result, Err(TokenError::MissingClaim(name)));
    }
    let token =
        issuer.sign(Algorithm::Rs256, &github.header.to_string(), &github.claims.to_string());
    let mut only = github.rules(Profile::GithubActions);
    only.clients = vec!["acme/other".to_owned()];
    assert_eq!(check(only.clone(), &keys, &token), Err(TokenError::Party));
    only.clients.push("acme/app".to_owned());
    assert!(check(only, &keys, &token).is_ok());
}

#[test]
fn the_kind_that_the_claims_name_counts() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    for (shape, name, kind) in
        access_tokens().iter().filter(|shape| shape.profile == Profile::OidcAccess).flat_map(
            |shape| [(shape, "typ", "ID"), (shape, "typ", "Refresh"), (shape, "token_use", "id")],
        )
    {
        let result = shape.check(&issuer, &keys, Profile::OidcAccess, |claims| {
            claims[name] = json!(kind);
        });
        assert_eq!(result, Err(TokenError::Profile(name)), "{}", shape.name);
    }
    for mark in ["nonce", "at_hash", "events"] {
        for shape in access_tokens().iter().filter(|s| s.profile == Profile::OidcAccess) {
            let result = shape.check(&issuer, &keys, Profile::OidcAccess, |claims| {
                claims[mark] = json!("x");
            });
            assert_eq!(result, Err(TokenError::Profile(mark)), "{}", shape.name);
        }
    }
}

#[test]
fn entra_groups_that_did_not_fit_are_not_taken_for_none() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    let shapes = access_tokens();
    let entra = shapes.iter().find(|shape| shape.groups_claim == "groups").expect("one");
    let result = entra.check(&issuer, &keys, Profile::OidcAccess, |claims| {
        claims.as_object_mut().expect("an object").remove("groups");
        claims["_claim_names"] = json!({"groups": "src1"});
        claims["_claim_sources"] = json!({"src1": {"endpoint": "https://graph.example.com"}});
    });
    assert_eq!(result, Err(TokenError::GroupsElsewhere));
}

#[test]
fn an_mcp_audience_is_one_resource_and_no_prefix_of_it() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    let shapes = access_tokens();
    let mcp = shapes.iter().find(|shape| shape.profile == Profile::Mcp).expect("one");
    for (aud, good) in [
        (AUDIENCE.to_owned(), true),
        (format!("{AUDIENCE}/"), true),
        (format!("{AUDIENCE}//"), false),
        (format!("{AUDIENCE}/mcp"), false),
        ("https://gate.example.co".to_owned(), false),
        (encode("x"), false),
    ] {
        let result = mcp.check(&issuer, &keys, Profile::Mcp, |claims| claims["aud"] = json!(aud));
        assert_eq!(result.is_ok(), good, "{aud}");
    }
}
