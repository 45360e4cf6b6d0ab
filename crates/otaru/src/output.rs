//! Output and outcome of a command: what every command takes and gives back.

/// The form in which a command tells what happens.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Output {
    /// Print JSON, one object a line
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,
    /// Show logs on standard error; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 901)]
    pub(crate) verbose: u8,
}

/// Whether what the user wanted has come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has.
    Good,
    /// It has not, and the command has said why.
    Bad,
}
