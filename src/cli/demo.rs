//! `weirgate demo`: a dev issuer, a stand-in provider, a database where there is a server for one, the
//! gateway, a guided tour; then it stays.

mod server;
mod setup;
mod tour;
mod watch;

use clap::Args;
use setup::Setup;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;
use tokio::sync::oneshot;

/// What `demo` was asked.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Use this provider in place of the stand-in; its key comes from OPENAI_API_KEY.
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// The model that the tour asks for.
    #[arg(long, default_value = "gpt-4o-mini")]
    pub model: String,
    /// Where certificates, keys and the record go; a new directory below the system's temporary
    /// one when it is not given.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// No tour: one line of JSON with addresses and tokens, then stay up.
    #[arg(long)]
    pub json: bool,
    /// End after the tour.
    #[arg(long, conflicts_with = "json")]
    pub once: bool,
}

/// Runs the demo until it is interrupted. Returns 0, 1 when the tour did not come out as it
/// should, or 2 when it could not run.
pub(super) fn run(options: &Options) -> u8 {
    super::process::protect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let done = runtime.block_on(stay(options));
        // What was begun when a signal came ends first: a server that just started stops here.
        drop(runtime);
        done
    });
    if options.dir.is_none() {
        // All that is left of a start that did not come to its end.
        let _ = std::fs::remove_dir_all(setup::own_directory());
    }
    match done {
        Ok(fine) => u8::from(!fine),
        Err(error) => {
            eprintln!("weirgate demo: {error}");
            2
        }
    }
}

/// All of it, up to a signal, which ends it wherever it is. Returns whether the tour came out as it
/// should.
async fn stay(options: &Options) -> Result<bool, String> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    let handle = signals.handle();
    let (tell, mut told) = oneshot::channel();
    // The stand-in runs on this thread; the wait must not hold it up.
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody listens any more where it is over anyhow.
            let _ = tell.send(());
        }
    });
    let setup = tokio::select! {
        setup = Setup::start(options) => setup?,
        _ = &mut told => return Ok(false),
    };
    let fine = if options.json {
        println!("{}", setup.facts());
        Ok(true)
    } else {
        tokio::select! {
            fine = tour::run(&setup, options) => fine,
            _ = &mut told => {
                setup.stop(options.dir.is_none()).await;
                return Ok(false);
            }
        }
    };
    if fine.is_ok() && !options.once {
        if !options.json {
            setup.print_commands(options);
        }
        let _ = told.await;
    }
    handle.close();
    setup.stop(options.dir.is_none()).await;
    fine
}
