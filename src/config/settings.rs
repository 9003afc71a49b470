//! `[gateway]`, `[admin]`, `[record]`, and secrets by name.

use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::{File, Report, Spot};
use super::sign_in::{Around, sign_in};
use super::types::{
    AdminSettings, GatewaySettings, RecordSettings, SecretFrom, SecretRef, TokenIssuer,
};
use super::units::{duration_ms, size_bytes};
use crate::base::IssuerId;
use crate::record::OnFull;
use core::net::SocketAddr;
use std::path::PathBuf;

pub(super) fn gateway(
    section: Option<Section<'_>>,
    main: &File,
    report: &mut Report,
) -> GatewaySettings {
    let mut settings =
        GatewaySettings { workers: 0, data_dir: main.beside("data"), ring_dir: None };
    let Some(mut section) = section else { return settings };
    let workers = section.number("workers", 0..=1024, report);
    settings.workers = workers.and_then(|count| u16::try_from(count).ok()).unwrap_or(0);
    if let Some(dir) = path(&mut section, "data_dir", report) {
        settings.data_dir = dir;
    }
    if let Some(dir) = path(&mut section, "ring_dir", report) {
        settings.ring_dir = Some(dir);
    }
    section.finish(report);
    settings
}

pub(super) fn admin(
    mut section: Section<'_>,
    token_issuers: &Names<'_>,
    certificate_issuers: &Names<'_>,
    issuers: &[TokenIssuer],
    report: &mut Report,
) -> Option<AdminSettings> {
    let address = section.required("address", report);
    let address = address.and_then(|text| socket_address(text, report));
    let insecure = section.flag("insecure", report).unwrap_or(false);
    if let Some(address) = address
        && !address.ip().is_loopback()
    {
        plain_beyond_loopback(section.spot_of("address"), insecure, "[admin]", "TLS", report);
    }
    let issuer = section.text("issuer", report).and_then(|text| {
        if certificate_issuers.find(text.text).is_some() {
            report.error(
                text.spot,
                format!("`{}` is an issuer of certificates", text.text),
                "the admin address takes tokens: name an issuer of tokens",
            );
            return None;
        }
        token_issuers.refer(text, report).map(IssuerId)
    });
    let viewers = section.texts("viewers", report);
    if viewers.is_some() && !section.has("issuer") {
        report.error(
            section.spot_of("viewers"),
            "`viewers` needs `issuer`",
            "groups count only from one issuer: write `issuer = \"NAME\"`",
        );
    }
    let token = section.text("token", report).and_then(|text| secret(text, report));
    let public_url = section.text("public_url", report).and_then(|text| {
        let rest = text.text.strip_prefix("https://").or(text.text.strip_prefix("http://"));
        let good = rest.is_some_and(|rest| {
            !rest.is_empty()
                && rest.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>".contains(&b))
        });
        if !good {
            report.error(
                text.spot,
                "`public_url` is no URL",
                "write `https://gw.example.com`, without query or fragment",
            );
        }
        good.then(|| text.text.trim_end_matches('/').to_owned())
    });
    let sign_in = section.table("sign_in", report).and_then(|section| {
        let around = Around { issuer, issuers, public_url: public_url.as_deref() };
        sign_in(section, &around, report)
    });
    section.finish(report);
    Some(AdminSettings {
        address: address?,
        issuer,
        viewers: viewers.unwrap_or_default().iter().map(|text| text.text.to_owned()).collect(),
        token,
        public_url,
        sign_in,
    })
}

pub(super) fn record(section: Option<Section<'_>>, report: &mut Report) -> RecordSettings {
    let mut settings = RecordSettings::default();
    let Some(mut section) = section else { return settings };
    if let Some(mut retain) = section.table("retain", report) {
        settings.retain_age_ms = retain.text("age", report).and_then(|text| {
            let age = duration_ms(text.text).filter(|age| *age > 0);
            if age.is_none() {
                report.error(
                    text.spot,
                    format!("`{}` is no age", text.text),
                    "write a number and a unit: ms, s, m, h, d, as in `30d`",
                );
            }
            age
        });
        settings.retain_bytes = retain.text("bytes", report).and_then(|text| {
            let bytes = size_bytes(text.text).filter(|bytes| *bytes > 0);
            if bytes.is_none() {
                report.error(
                    text.spot,
                    format!("`{}` is no size", text.text),
                    "write a number and a unit: KiB, MiB, GiB, TiB, as in `50GiB`",
                );
            }
            bytes
        });
        retain.finish(report);
    }
    if let Some(text) = section.text("on_full", report) {
        let words = [
            ("refuse", OnFull::Refuse),
            ("shed_bodies", OnFull::ShedBodies),
            ("drop", OnFull::Drop),
        ];
        settings.on_full = choose("`on_full`", text, &words, report).unwrap_or_default();
    }
    if let Some(text) = section.text("window", report) {
        let range = WINDOW_MIN_MS..=WINDOW_MAX_MS;
        match duration_ms(text.text).filter(|window| range.contains(window)) {
            Some(window) => settings.window_ms = window,
            None => report.error(
                text.spot,
                format!("`{}` is no `window`", text.text),
                "write a number and a unit from 1ms to 100ms, as in `20ms`",
            ),
        }
    }
    section.finish(report);
    settings
}

/// How long the record may be in memory only; a full ring waits as long for room, and work is shed
/// after a quarter of a second.
const WINDOW_MIN_MS: u64 = 1;
const WINDOW_MAX_MS: u64 = 100;

/// A path relative to the file that names it.
pub(super) fn path(
    section: &mut Section<'_>,
    key: &'static str,
    report: &mut Report,
) -> Option<PathBuf> {
    let text = section.text(key, report)?;
    if text.text.is_empty() || text.text.contains('\0') {
        report.error(text.spot, format!("`{key}` is no path"), "");
        return None;
    }
    Some(section.file().beside(text.text))
}

pub(super) fn socket_address(text: Text<'_>, report: &mut Report) -> Option<SocketAddr> {
    let address = text.text.parse().ok();
    if address.is_none() {
        report.error(
            text.spot,
            format!("`{}` is no address to listen on", text.text),
            "write an IP address and a port: `127.0.0.1:8080` or `[::1]:8080`",
        );
    }
    address
}

/// Plain text that leaves the machine: an error, or a warning where it is asked for. `tls` is how
/// it would be avoided.
pub(super) fn plain_beyond_loopback(
    spot: Spot<'_>,
    insecure: bool,
    what: &str,
    tls: &str,
    report: &mut Report,
) {
    if insecure {
        report.warn(spot, format!("{what} is in plain text beyond loopback"), "");
    } else {
        report.error(
            spot,
            format!("{what} would be in plain text beyond loopback"),
            format!(
                "use {tls} or a loopback address, \
                 or write `insecure = true` where the network is trusted"
            ),
        );
    }
}

/// A secret by name. What is written is not repeated in the message: it may be the secret.
pub(super) fn secret(text: Text<'_>, report: &mut Report) -> Option<SecretRef> {
    let from = if let Some(name) = text.text.strip_prefix("env:") {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        (!name.is_empty() && name.bytes().all(good)).then(|| SecretFrom::Env(name.to_owned()))
    } else {
        let path = text.text.strip_prefix("file:").filter(|path| !path.is_empty());
        path.map(|path| SecretFrom::File(text.spot.file.beside(path)))
    };
    if from.is_none() {
        report.error(
            text.spot,
            "a secret is not written into a config",
            "name where it is: `env:VARIABLE` or `file:PATH`",
        );
    }
    from.map(|from| SecretRef { from, place: text.spot.place() })
}
