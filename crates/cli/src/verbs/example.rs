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
    use std::collections::BTreeMap;
    use std::path::Path;

    use model::JobSpec;
    use model::settings::Limits;

    use super::*;

    #[test]
    fn every_example_stands_alone() {
        // As after `baton example pipeline > pipeline.yaml`: nothing lies beside the file.
        let alone = tempfile::tempdir().unwrap();
        let printed = |name: &str, file: &str, text: &str| -> JobSpec {
            crate::jobfile::parse(file, text, alone.path(), &Limits::default())
                .unwrap_or_else(|bad| panic!("{name}: {bad}"))
        };
        let specs: BTreeMap<&str, JobSpec> = ALL
            .iter()
            .map(|(name, _, text)| {
                let file = if *name == "toml" { "x.toml" } else { "x.yaml" };
                (*name, printed(name, file, text))
            })
            .collect();
        assert_eq!(specs["pipeline"], specs["toml"], "one schema, two formats");
    }

    #[test]
    fn every_example_file_can_be_printed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_job =
                path.extension().is_some_and(|kind| kind == "yaml" || kind == "toml" || kind == "json");
            if is_job {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(ALL.iter().any(|(_, _, known)| *known == text), "{}", path.display());
            }
        }
    }
}
