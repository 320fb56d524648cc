//! Good files mean the same in every format; bad ones say everything that is wrong, and where.

use super::*;

fn good(file: &str, text: &str) -> JobSpec {
    parse(file, text, Path::new("."), &Limits::default()).unwrap_or_else(|bad| panic!("{bad}"))
}

fn bad(file: &str, text: &str) -> String {
    parse(file, text, Path::new("."), &Limits::default()).expect_err("the file is bad").to_string()
}

const YAML: &str = "\
job: nightly
queue: reports
priority: 3
labels: {team: data}
tasks:
  - name: fetch
    run: [sleep, 1.50]
    files: [{to: fetch.sh, text: exit 0, mode: 755}]
    resources: {cpu: 1, memory: 512MiB, gpu: 0.5}
    retry: {max: 3, backoff: 1s..1m}
    timeout: 10m
    env: {A: b, N: 5, KEY: {secret: key}}
  - name: shard
    script: |
      #!/bin/sh
      exec ./clean.sh
    array: 0-99
    after: [fetch, j7]
";

const TOML: &str = r##"
job = "nightly"
queue = "reports"
priority = 3
labels = {team = "data"}
[[tasks]]
name = "fetch"
run = ["sleep", "1.50"]
files = [{to = "fetch.sh", text = "exit 0", mode = "755"}]
resources = {cpu = 1, memory = "512MiB", gpu = 0.5}
retry = {max = 3, backoff = "1s..1m"}
timeout = "10m"
env = {A = "b", N = "5", KEY = {secret = "key"}}
[[tasks]]
name = "shard"
script = "#!/bin/sh\nexec ./clean.sh\n"
array = "0-99"
after = ["fetch", "j7"]
"##;

#[test]
fn yaml_toml_and_json_mean_the_same() {
    let yaml = good("job.yaml", YAML);
    assert_eq!(good("job.toml", TOML), yaml);
    let json = serde_json::to_string_pretty(&yaml).unwrap();
    assert_eq!(good("job.json", &json), yaml);
    assert_eq!(yaml.tasks[0].work, model::Work::Run(vec!["sleep".into(), "1.50".into()]));
}

#[test]
fn without_an_extension_the_text_decides() {
    let yaml = good("-", YAML);
    assert_eq!(good("-", TOML), yaml);
    assert_eq!(good("-", &serde_json::to_string(&yaml).unwrap()), yaml);
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = "\
job: x
quue: a
priority: high
tasks:
  - name: a
    run: echo hi
    timeout: soon
    resources: {cpu: -1, memory: 5XB}
  - nam: b
    rum: [x]
  - name: c
    run: [x]
    script: y
    retry: {maxx: 1, max: -1}
    array: 9-0
    after: [d]
";
    let expected = [
        "job.yaml:2:1: quue: unknown field; did you mean `queue`?",
        "job.yaml:3:11: priority: expected a whole number, found a text",
        "job.yaml:6:10: tasks[0].run: expected a list such as [\"echo\", \"hello\"], found a text",
        "job.yaml:7:14: tasks[0].timeout: `soon` is not a duration such as 90s or 1h30m",
        "job.yaml:8:22: tasks[0].resources.cpu: `-1` is not an amount",
        "job.yaml:8:34: tasks[0].resources.memory: `5XB` is not a size",
        "job.yaml:9:5: tasks[1].nam: unknown field; did you mean `name`?",
        "job.yaml:10:5: tasks[1].rum: unknown field; did you mean `run`?",
        "job.yaml:11:5: tasks[2]: a task has exactly one of",
        "job.yaml:14:13: tasks[2].retry.maxx: unknown field; did you mean `max`?",
        "job.yaml:14:27: tasks[2].retry.max: -1 is not a whole number from 0 to",
        "job.yaml:15:12: tasks[2].array: `9-0` is not an array range",
        "job.yaml:16:13: tasks[2].after[0]: there is no task `d`",
    ];
    assert_lines(&bad("job.yaml", text), &expected);
}

#[track_caller]
fn assert_lines(found: &str, expected: &[&str]) {
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{found}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nis not\n{expected}");
    }
}

#[test]
fn a_missing_field_hides_nothing_of_the_rest() {
    let text = "\
tasks:
  - run: [x]
    after: [b, [b], gone]
  - name: b
    noop: true
    after: [c]
  - just a text
  - name: c
    service: {}
    after: [b, bb]
  - name: bad name
    files: [{to: ../x}, {text: x}, {to: y, from: absent}]
    function: {input: {text: [1]}}
";
    let expected = [
        "job.yaml:2:5: tasks[0]: the field `name` is missing",
        "job.yaml:3:16: tasks[0].after[1]: expected a text, found a list",
        "job.yaml:3:21: tasks[0].after[2]: there is no task `gone`",
        "job.yaml:6:12: tasks[1].after: a cycle: b -> c -> b",
        "job.yaml:7:5: tasks[2]: expected a table, found a text",
        "job.yaml:9:14: tasks[3].service: the field `run` is missing",
        "job.yaml:10:16: tasks[3].after[1]: there is no task `bb`; did you mean `b`?",
        "job.yaml:11:11: tasks[4].name: a task name has letters",
        "job.yaml:12:13: tasks[4].files[0]: give exactly one of",
        "job.yaml:12:18: tasks[4].files[0].to: a file goes to a relative path",
        "job.yaml:12:25: tasks[4].files[1]: the field `to` is missing",
        "job.yaml:12:50: tasks[4].files[2].from: `./absent`",
        "job.yaml:13:15: tasks[4].function: the field `name` is missing",
        "job.yaml:13:30: tasks[4].function.input.text: expected a text, found a list",
    ];
    assert_lines(&bad("job.yaml", text), &expected);
}

#[test]
fn what_follows_from_a_guess_is_not_told() {
    // How many members `a` is to have, and whether lines are there, is not known.
    let text = "\
tasks:
  - {name: a, noop: true, array: 9-0}
  - {name: b, noop: true, array: 0-9, after_each: [a]}
  - {name: c, noop: true, each_line: {from: absent}, after_each: [b]}
  - {nam: d, noop: true, after: [d]}
  - {noop: true, after: [e]}
";
    let expected = [
        "job.yaml:2:34: tasks[0].array: `9-0` is not an array range",
        "job.yaml:4:45: tasks[2].each_line.from: `./absent`",
        "job.yaml:5:6: tasks[3].nam: unknown field; did you mean `name`?",
        "job.yaml:5:34: tasks[3].after[0]: `d` waits for itself",
        "job.yaml:6:5: tasks[4]: the field `name` is missing",
        "job.yaml:6:26: tasks[4].after[0]: there is no task `e`",
    ];
    assert_lines(&bad("job.yaml", text), &expected);
    assert_eq!(bad("job.yaml", "job: x\n"), "job.yaml:1:1: the field `tasks` is missing");
    assert_eq!(bad("job.yaml", "tasks: [x]\n"), "job.yaml:1:9: tasks[0]: expected a table, found a text");
}

#[test]
fn contents_that_cannot_be_hide_nothing_of_the_rest() {
    let text = "\
tasks:
  - name: a
    noop: true
    stdin: {url: \"http://x\"}
    files: [{to: f, base64: \"?\"}, {to: /g, text: x, sha256: \"12\"}]
    after: [b]
";
    let expected = [
        "job.yaml:4:12: tasks[0].stdin: `url` needs `sha256`",
        "job.yaml:5:13: tasks[0].files[0]: base64: ",
        "job.yaml:5:35: tasks[0].files[1]: ",
        "job.yaml:5:40: tasks[0].files[1].to: a file goes to a relative path",
        "job.yaml:6:13: tasks[0].after[0]: there is no task `b`",
    ];
    assert_lines(&bad("job.yaml", text), &expected);
}

#[test]
fn limits_are_the_cluster_s_own() {
    let limits = Limits { retries_max: 2, inline_bytes_per_job_max: 3, ..Limits::default() };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long"), "1234").unwrap();
    let text = "tasks:\n  - {name: a, noop: true, retry: {max: 3}, files: [{to: f, from: long}]}\n";
    let found = parse("job.yaml", text, folder.path(), &limits).unwrap_err().to_string();
    assert!(found.contains("above inline_bytes_per_job_max = 3"), "{found}");
    assert!(found.contains("above the limit retries_max = 2"), "{found}");
}

#[test]
fn what_validation_finds_has_a_place_too() {
    let text = "tasks:\n  - {name: a, noop: true, after: [b]}\n  - {name: b, noop: true, after: [a]}\n";
    assert_eq!(bad("job.yaml", text), "job.yaml:2:34: tasks[0].after: a cycle: a -> b -> a");
    let text = "{\"tasks\": [{\"name\": \"a\", \"noop\": true,\n  \"after\": [\"aa\"]}]}";
    assert_eq!(
        bad("x.json", text),
        "x.json:2:13: tasks[0].after[0]: there is no task `aa`; did you mean `a`?"
    );
}

#[test]
fn syntax_problems_name_line_and_column() {
    assert!(bad("a.yaml", "job: a\ntasks: [\n").starts_with("a.yaml:"), "{}", bad("a.yaml", "tasks: [\n"));
    assert!(bad("a.json", "{\"job\": 1,}").starts_with("a.json:1:11: "));
    assert!(
        bad("a.toml", "job = 1\njob = 2\n").starts_with("a.toml:2:1: "),
        "{}",
        bad("a.toml", "job = 1\njob = 2\n")
    );
    assert!(bad("a.yaml", "").contains("a.yaml:1:1: expected a table"), "{}", bad("a.yaml", ""));
}

#[test]
fn from_reads_beside_the_job_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fetch.sh"), "echo hi\n").unwrap();
    std::fs::write(folder.path().join("raw.bin"), [0xff, 0]).unwrap();
    let text = "tasks:\n  - name: a\n    run: [./fetch.sh]\n    files:\n      - {to: fetch.sh, from: fetch.sh}\n      - {to: raw, from: raw.bin}\n";
    let spec = parse("job.yaml", text, folder.path(), &Limits::default()).unwrap();
    assert_eq!(spec.tasks[0].files[0].content.inline_bytes(), Some(&b"echo hi\n"[..]));
    assert_eq!(spec.tasks[0].files[1].content.inline_bytes(), Some(&[0xff, 0][..]));
    let missing = text.replace("raw.bin", "absent.bin");
    let error = parse("job.yaml", &missing, folder.path(), &Limits::default()).unwrap_err().to_string();
    assert!(error.starts_with("job.yaml:6:25: tasks[0].files[1].from: `"), "{error}");
}

#[test]
fn the_schema_knows_every_field_of_the_model() {
    let names = |fields: &[schema::Field]| fields.iter().map(|f| f.name.to_owned()).collect::<Vec<_>>();
    // An unknown field makes serde list those that it knows.
    let known = |json: serde_json::Value| -> Vec<String> {
        let error = serde_json::from_value::<JobSpec>(json).unwrap_err().to_string();
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    };
    assert_eq!(known(serde_json::json!({"zzz": 1})), names(schema::JOB));
    assert_eq!(known(serde_json::json!({"tasks": [{"zzz": 1}]})), names(schema::TASK));
}
