//! Colour, and only where it is wanted: flag, then NO_COLOR, then whether there is a terminal.

use std::io::IsTerminal;

use serde::Deserialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Busy,
    Warn,
    Bad,
    Dim,
    Bold,
}

/// Whether one stream is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    is_on: bool,
}

impl Paint {
    pub fn plain() -> Paint {
        Paint { is_on: false }
    }

    pub fn stdout(when: When) -> Paint {
        Paint::choose(when, no_color(), std::io::stdout().is_terminal())
    }

    pub fn stderr(when: When) -> Paint {
        Paint::choose(when, no_color(), std::io::stderr().is_terminal())
    }

    fn choose(when: When, no_color: bool, is_terminal: bool) -> Paint {
        let is_on = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => !no_color && is_terminal,
        };
        Paint { is_on }
    }

    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Busy => "36",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Bold => "1",
        };
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

// See no-color.org: any value but the empty one.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_no_color_and_that_over_the_terminal() {
        assert!(Paint::choose(When::Always, true, false).is_on);
        assert!(!Paint::choose(When::Never, false, true).is_on);
        assert!(!Paint::choose(When::Auto, true, true).is_on);
        assert!(!Paint::choose(When::Auto, false, false).is_on);
        assert_eq!(Paint::choose(When::Auto, false, true).tone(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
