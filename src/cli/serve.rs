//! `weirgate serve`: the gateway until a signal ends it.

use super::source::System;
use crate::config::{self, Config};
use crate::gateway::Gateway;
use crate::runtime;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::Path;
use std::sync::Arc;

/// Runs until SIGTERM or SIGINT. Returns 0 after a clean end, 1 for a bad config, 2 when it could
/// not run.
pub(super) fn run(path: &Path) -> u8 {
    super::process::protect();
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let probe = runtime::probe();
    match &probe.reason {
        None => tracing::info!("the data path runs on io_uring"),
        Some(reason) => tracing::warn!(reason, "the data path runs on epoll"),
    }
    // The signals are listened to before the start, so that none is lost in between.
    let mut signals = match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be listened to");
            return 2;
        }
    };
    let gateway = match Gateway::start(config, Arc::new(System)) {
        Ok(gateway) => gateway,
        Err(error) => {
            tracing::error!("weirgate does not start: {error}");
            return 2;
        }
    };
    for (name, address) in gateway.addresses() {
        tracing::info!(listener = name, %address, "listening");
    }
    if let Some(address) = gateway.admin_address() {
        tracing::info!(%address, "admin surface");
    }
    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        reload(path, &gateway);
    }
    tracing::info!("draining");
    if gateway.stop() { 0 } else { 2 }
}

fn reload(path: &Path, gateway: &Gateway) {
    match config::load(path, &System) {
        Ok(config) => {
            let failed = config.failed_cases();
            if !failed.is_empty() {
                for case in failed {
                    tracing::error!("the old config stays in force: {case}");
                }
                return;
            }
            if let Err(error) = gateway.reload(config) {
                tracing::error!("the old config stays in force: {error}");
            }
        }
        Err(errors) => {
            for error in errors {
                tracing::error!("the old config stays in force: {error}");
            }
        }
    }
}

fn load(path: &Path) -> Result<Config, u8> {
    match config::load(path, &System) {
        Ok(config) => {
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            Ok(config)
        }
        Err(errors) => {
            for error in errors {
                tracing::error!("{error}");
            }
            Err(1)
        }
    }
}
