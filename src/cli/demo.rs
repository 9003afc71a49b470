//! `weirgate demo`: a dev issuer, a stand-in provider, a database where there is a server for one, the
//! gateway, a guided tour; then it stays.

mod server;
mod setup;
mod tour;

use clap::Args;
use setup::Setup;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;

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
        runtime.block_on(async {
            let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
            let setup = Setup::start(options).await?;
            let mut fine = true;
            if options.json {
                println!("{}", setup.facts());
            } else {
                fine = tour::run(&setup, options).await?;
            }
            if !options.once {
                if !options.json {
                    setup.print_commands(options);
                }
                // The stand-in runs on this thread; the wait must not hold it up.
                let told = tokio::task::spawn_blocking(move || signals.forever().next());
                told.await.map_err(|error| error.to_string())?;
            }
            setup.stop(options.dir.is_none()).await;
            Ok(fine)
        })
    });
    match done {
        Ok(fine) => u8::from(!fine),
        Err(error) => {
            eprintln!("weirgate demo: {error}");
            2
        }
    }
}
