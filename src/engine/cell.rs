//! The cell: how a run's container is made. One place says what a run may do.

use std::path::PathBuf;

use crate::model::agent::Limits;

/// The port inside the container where the model API seems to be.
pub const GATE_PORT: u16 = 9000;

/// Everything an engine needs to make a run's container. It holds no secret but the gate's token, which is good for this
/// run and this gate alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The run's number; label `signalbox.run`.
    pub run: i64,
    /// The lease's fence; label `signalbox.fence`.
    pub fence: i64,
    /// The image.
    pub image: String,
    /// `--model` of the CLI.
    pub model: Option<String>,
    /// What the run may use at most.
    pub limits: Limits,
    /// The run's folder on the host: holds `gate.sock` and `prompt`; mounted read-only at `/gate`.
    pub gate_dir: PathBuf,
    /// What the CLI presents to the gate in place of an API key.
    pub gate_token: String,
}

impl Cell {
    /// The CLI's command line. The prompt comes by standard input, never here.
    pub fn command(&self, claude: &str) -> Vec<String> {
        let mut argv: Vec<String> = [claude, "-p", "--output-format", "stream-json", "--verbose"]
            .into_iter()
            .chain(["--dangerously-skip-permissions"])
            .map(str::to_owned)
            .collect();
        if let Some(model) = &self.model {
            argv.extend(["--model".to_owned(), model.clone()]);
        }
        argv
    }

    /// The CLI's environment, `gate_url` being where the gate seems to be from inside.
    pub fn environment(&self, gate_url: &str) -> Vec<(&'static str, String)> {
        vec![
            ("ANTHROPIC_BASE_URL", gate_url.to_owned()),
            ("ANTHROPIC_API_KEY", self.gate_token.clone()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
            ("DISABLE_AUTOUPDATER", "1".to_owned()),
        ]
    }
}
