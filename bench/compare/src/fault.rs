//! The one error of the harness: what went wrong, why, and what would mend it.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    what: String,
    why: Option<String>,
    fix: Option<String>,
}

impl Fault {
    pub fn new(what: impl Into<String>) -> Fault {
        Fault { what: what.into(), why: None, fix: None }
    }

    pub fn because(mut self, why: impl fmt::Display) -> Fault {
        self.why = Some(why.to_string());
        self
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Fault {
        self.fix = Some(fix.into());
        self
    }

    /// For `map_err`: the same sentence, with the cause that comes.
    pub fn of<E: fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Fault {
        let what = what.into();
        move |error| Fault::new(what).because(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, " (fix: {fix})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_why_and_fix() {
        let fault = Fault::of::<&str>("cannot start etcd")("no such file").fix("apt-get install etcd-server");
        let text = "cannot start etcd: no such file (fix: apt-get install etcd-server)";
        assert_eq!(fault.to_string(), text);
        assert_eq!(Fault::new("lost").to_string(), "lost");
    }
}
