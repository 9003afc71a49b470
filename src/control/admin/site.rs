//! Under which names browsers reach the surface, and what a browser must show to act here.
//!
//! A name that is not the surface's own is refused, so that no page of another name that is made
//! to resolve to this address (DNS rebinding) passes for one of its own. Sign-in is offered under
//! https, or on loopback: elsewhere a cookie would go over the network in plain text.

use axum::http::{HeaderMap, header};
use reqwest::Url;
use std::net::SocketAddr;

/// Where the surface is.
#[derive(Clone, Debug)]
pub struct Site {
    /// `[admin] public_url`.
    pub public_url: Option<String>,
    /// What the listener is bound to.
    pub bound: SocketAddr,
}

/// What is wrong with how a browser asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// `Host` is none of the surface's names.
    Host,
    /// The page that asks is of another origin.
    Origin,
}

impl Site {
    /// The name of the session's cookie. The browser lets `__Host-` be set over https only, by
    /// this very host and for no other.
    pub(super) fn cookie(&self) -> &'static str {
        if self.is_secure() { "__Host-weirgate" } else { "weirgate" }
    }

    /// The name of the cookie that binds a question to the issuer to its browser.
    pub(super) fn question_cookie(&self) -> &'static str {
        if self.is_secure() { "__Host-weirgate-sign-in" } else { "weirgate-sign-in" }
    }

    /// Where an issuer sends browsers back to. There is no slash at its end.
    pub(super) fn public_base(&self) -> Option<String> {
        self.public().map(|url| url.as_str().trim_end_matches('/').to_owned())
    }

    /// Whether cookies go over https only.
    pub(super) fn is_secure(&self) -> bool {
        self.public().is_some_and(|url| url.scheme() == "https")
    }

    /// The base of links for whoever asked under these headers; `None` where no sign-in is
    /// offered. There is no slash at its end.
    pub(super) fn base(&self, headers: &HeaderMap) -> Option<String> {
        let local = || self.local(host(headers)?).map(|url| url.origin().ascii_serialization());
        self.public_base().or_else(local)
    }

    /// Whether the request came under a name of the surface, from no page but its own.
    ///
    /// Browsers name the page in `Origin` and its relation in `Sec-Fetch-Site`; a header that is
    /// not there proves nothing, and one that is there must be right. `navigates`: whether a
    /// person may come here by a link of another site.
    pub(super) fn check(&self, headers: &HeaderMap, navigates: bool) -> Result<(), Foreign> {
        let host = host(headers).ok_or(Foreign::Host)?;
        if !self.knows(host) {
            return Err(Foreign::Host);
        }
        for origin in headers.get_all(header::ORIGIN) {
            let origin = origin.to_str().ok().and_then(|text| Url::parse(text).ok());
            if !origin.is_some_and(|origin| self.owns(&origin, host)) {
                return Err(Foreign::Origin);
            }
        }
        for relation in headers.get_all("sec-fetch-site") {
            let own = relation == "same-origin" || relation == "none";
            if !own && !navigates {
                return Err(Foreign::Origin);
            }
        }
        Ok(())
    }

    fn knows(&self, host: &str) -> bool {
        let public = self.public().and_then(|url| {
            let named = authority(url.scheme(), host)?;
            Some(named.origin() == url.origin())
        });
        public == Some(true) || self.local(host).is_some()
    }

    /// Whether a page of `origin` is the surface's, for one that asks under `host`. A loopback
    /// address is that of the browser's machine: its page asks under that very name or is another.
    /// The public name is good also where a proxy puts a loopback one into `Host`.
    fn owns(&self, origin: &Url, host: &str) -> bool {
        let public = self.public().is_some_and(|url| url.origin() == origin.origin());
        public || self.local(host).is_some_and(|url| url.origin() == origin.origin())
    }

    /// `public_url`, where a cookie may go to it.
    fn public(&self) -> Option<Url> {
        let url = Url::parse(self.public_url.as_deref()?).ok()?;
        (url.scheme() == "https" || is_loopback(&url)).then_some(url)
    }

    /// The surface under `host`, if that is a loopback name of its own listener.
    fn local(&self, host: &str) -> Option<Url> {
        authority("http", host).filter(|url| self.is_local(url))
    }

    fn is_local(&self, url: &Url) -> bool {
        let here = self.bound.ip().is_loopback() || self.bound.ip().is_unspecified();
        here && is_loopback(url) && url.port_or_known_default() == Some(self.bound.port())
    }
}

/// `Host`, if there is exactly one.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    }
}

/// `host` under `scheme`, if it is a name and a port, and nothing more.
fn authority(scheme: &str, host: &str) -> Option<Url> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    Url::parse(&format!("{scheme}://{host}")).ok()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn site(public_url: Option<&str>, bound: &str) -> Site {
        Site { public_url: public_url.map(ToOwned::to_owned), bound: bound.parse().unwrap() }
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).fold(
            HeaderMap::new(),
            |mut map, (name, value): (header::HeaderName, header::HeaderValue)| {
                map.append(name, value);
                map
            },
        )
    }

    #[test]
    fn only_own_names_are_hosts() {
        let at = |site: &Site, host: &str| site.check(&headers(&[("host", host)]), false).is_ok();
        let public = site(Some("https://gw.example.com/ops"), "127.0.0.1:9901");
        for good in ["gw.example.com", "GW.example.com:443", "127.0.0.1:9901", "localhost:9901"] {
            assert!(at(&public, good), "{good}");
        }
        for bad in [
            "",
            "gw.example.com:80",
            "gw.example.com.evil.example",
            "evil.example:9901",
            "127.0.0.1",
            "127.0.0.1:9902",
            "u@gw.example.com",
            "gw.example.com/x",
            "gw.example.com#",
            "gw.example.com:x",
        ] {
            assert!(!at(&public, bad), "{bad}");
        }
        let two = headers(&[("host", "gw.example.com"), ("host", "gw.example.com")]);
        assert_eq!(public.check(&two, false), Err(Foreign::Host));
        assert_eq!(public.check(&HeaderMap::new(), false), Err(Foreign::Host));
        assert!(at(&site(None, "0.0.0.0:80"), "localhost"));
        assert!(at(&site(None, "[::1]:9901"), "[::1]:9901"));
        // The listener is not there, whatever the name resolves to.
        assert!(!at(&site(None, "10.0.0.5:9901"), "127.0.0.1:9901"));
        assert!(!at(&site(None, "10.0.0.5:9901"), "10.0.0.5:9901"));
    }

    #[test]
    fn a_page_of_another_origin_is_told_by_either_header() {
        let site = site(Some("https://gw.example.com"), "127.0.0.1:9901");
        let check = |name: &'static str, value: &str, navigates| {
            site.check(&headers(&[("host", "gw.example.com"), (name, value)]), navigates)
        };
        for (name, value) in [
            ("origin", "https://gw.example.com"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
        ] {
            assert_eq!(check(name, value, false), Ok(()), "{value}");
        }
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "http://gw.example.com"),
            ("origin", "https://gw.example.com:8443"),
            ("origin", "https://127.0.0.1:9901"),
            ("origin", "http://127.0.0.1:9901"),
            ("origin", "http://localhost:3000"),
            ("origin", "null"),
            ("origin", ""),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "anything"),
        ] {
            assert_eq!(check(name, value, false), Err(Foreign::Origin), "{value}");
        }
        assert_eq!(check("sec-fetch-site", "cross-site", true), Ok(()), "a link");
        assert_eq!(check("origin", "https://evil.example", true), Err(Foreign::Origin));
        for (origin, good) in [
            ("http://127.0.0.1:9901", true),
            ("https://gw.example.com", true),
            ("http://localhost:9901", false),
        ] {
            let local = headers(&[("host", "127.0.0.1:9901"), ("origin", origin)]);
            assert_eq!(site.check(&local, false).is_ok(), good, "{origin}");
        }
    }

    #[test]
    fn cookies_are_set_over_https_or_on_loopback_only() {
        let of = |public_url, bound: &str, host: &str| {
            let site = site(public_url, bound);
            (site.cookie(), site.base(&headers(&[("host", host)])))
        };
        let at = |text: &str| Some(text.to_owned());
        assert_eq!(
            of(Some("https://gw.example.com/ops"), "127.0.0.1:9901", "x"),
            ("__Host-weirgate", at("https://gw.example.com/ops"))
        );
        assert_eq!(
            of(None, "127.0.0.1:9901", "localhost:9901"),
            ("weirgate", at("http://localhost:9901"))
        );
        assert_eq!(of(None, "10.0.0.5:9901", "10.0.0.5:9901"), ("weirgate", None));
        assert_eq!(of(Some("http://gw.example.com"), "10.0.0.5:80", "gw.example.com").1, None);
    }
}
