//! `baton example`: job files to begin with; the same that lie in `examples/`.

use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Face;

/// Print an example job file
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which one; absent: the first
    name: Option<String>,
    /// List what there is
    #[arg(long)]
    list: bool,
}

/// Name, what it shows, and the file.
pub const ALL: [(&str, &str, &str); 5] = [
    ("hello", "one task", include_str!("../../../../examples/hello.yaml")),
    (
        "pipeline",
        "tasks that wait for one another, files, retries",
        include_str!("../../../../examples/pipeline.yaml"),
    ),
    ("array", "one task a hundred times, then a summary", include_str!("../../../../examples/array.yaml")),
    (
        "resources",
        "memory, a GPU, labels of workers, secrets",
        include_str!("../../../../examples/resources.yaml"),
    ),
    ("toml", "the pipeline once more, as TOML", include_str!("../../../../examples/pipeline.toml")),
];

pub fn run(args: &Args, face: &Face) -> Result<Exit, Fault> {
    if args.list {
        let lines: String = ALL.iter().map(|(name, what, _)| format!("{name:<10} {what}\n")).collect();
        face.print(&lines)?;
        return Ok(Exit::DONE);
    }
    let name = args.name.as_deref().unwrap_or(ALL[0].0);
    let Some((_, _, text)) = ALL.iter().find(|(known, _, _)| *known == name) else {
        let near = model::validate::nearest(name, ALL.iter().map(|(known, _, _)| *known));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(
            Fault::not_found(format!("there is no example `{name}`{hint}")).fix("see `baton example --list`")
        );
    };
    face.print(text)?;
    Ok(Exit::DONE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_example_is_a_valid_job() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_job =
                path.extension().is_some_and(|kind| kind == "yaml" || kind == "toml" || kind == "json");
            if is_job {
                crate::jobfile::read(&path).unwrap_or_else(|bad| panic!("{bad}"));
            }
        }
        for (name, _, text) in ALL {
            let file = if name == "toml" { "x.toml" } else { "x.yaml" };
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
            crate::jobfile::parse(file, text, &folder).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        }
    }
}
