//! `weir top`: upstreams and endpoints of a running edge, live.

mod board;
mod keys;
mod plain;
mod view;

use std::{process::ExitCode, time::Duration};

use clap::Args;
use ratatui::{Terminal, backend::Backend};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::remote::{self, AdminArgs, Remote};
use crate::types::Span;
use board::Board;
use keys::Key;

/// Watch the upstreams and endpoints of the running edge.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// How often to look.
    #[arg(long, default_value = "1s", value_name = "TIME")]
    interval: Span,
    /// Look twice, an interval apart, print what was seen as plain text, and exit.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Looking more often shows noise and costs the edge.
const SHORTEST: Duration = Duration::from_millis(100);

/// Keys that wait to be acted upon. Nobody types more at once.
const KEYS: usize = 16;

/// Runs `weir top`.
pub(super) fn run(args: &TopArgs) -> ExitCode {
    remote::block_on(1, async {
        let interval = args.interval.get().max(SHORTEST);
        let remote = Remote::new(&args.admin)?.with_patience(interval.max(Duration::from_secs(5)));
        let mut board = Board::default();
        // Before the screen is taken over: that nobody is there should stay to be read.
        board.saw(remote.get("/stats").await?.json()?);
        if args.once {
            tokio::time::sleep(interval).await;
            board.saw(remote.get("/stats").await?.json()?);
            print!("{}", plain::text(&board));
            return Ok(ExitCode::SUCCESS);
        }
        let mut terminal = ratatui::try_init()?;
        let watched = watch(&mut terminal, &remote, &mut board, interval, keys::listen(KEYS)).await;
        ratatui::restore();
        watched.map(|()| ExitCode::SUCCESS)
    })
}

/// Draws until somebody quits.
async fn watch<B: Backend>(
    terminal: &mut Terminal<B>,
    remote: &Remote,
    board: &mut Board,
    interval: Duration,
    mut keys: mpsc::Receiver<Key>,
) -> anyhow::Result<()>
where
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        terminal.draw(|frame| view::draw(frame, board, remote.address()))?;
        tokio::select! {
            key = keys.recv() => match key {
                // Nobody can quit any more: the terminal is gone.
                None | Some(Key::Quit) => return Ok(()),
                Some(key) => board.press(key),
            },
            _ = ticks.tick() => match look(remote).await {
                Ok(stats) => board.saw(stats),
                // An edge that restarts comes back.
                Err(error) => board.lost(remote::printable(&error.to_string())),
            },
        }
    }
}

async fn look(remote: &Remote) -> Result<board::Stats, remote::RemoteError> {
    remote.get("/stats").await?.json()
}
