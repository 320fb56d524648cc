//! Entries as lines of EDN, and back.

use std::collections::BTreeMap;

use model::JobId;
use model::views::JobState;

use super::{Answer, Call, Entry, Kind};
use crate::edn::Edn;
use crate::workload::Shape;

pub fn line(index: u64, entry: &Entry, nodes: &[String]) -> Edn {
    match entry {
        Entry::Client { time, kind, process, node, call, answer } => {
            let value = value(call, answer.as_ref());
            let mut map = head(index, *time, *kind, Edn::int(*process), Edn::key(call.f()), value);
            map.push(("node", nodes.get(*node).map_or(Edn::Nil, Edn::text)));
            if let Some(Answer::Failed { code, message }) = answer {
                map.push(("error", Edn::Vector(vec![Edn::text(code), Edn::text(message)])));
            }
            Edn::map(map)
        }
        Entry::Nemesis { time, what, value } => {
            let (process, f) = (Edn::key("nemesis"), Edn::key(what.clone()));
            Edn::map(head(index, *time, Kind::Info, process, f, value.clone()))
        }
    }
}

fn head(index: u64, time: u64, kind: Kind, process: Edn, f: Edn, value: Edn) -> Vec<(&'static str, Edn)> {
    vec![
        ("index", Edn::int(index)),
        ("time", Edn::int(time)),
        ("type", Edn::key(name(kind))),
        ("process", process),
        ("f", f),
        ("value", value),
    ]
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    }
}

/// What was asked with what was heard behind it.
fn value(call: &Call, answer: Option<&Answer>) -> Edn {
    let mut value = match call {
        Call::Submit { key, id, body, shape } => {
            vec![Edn::int(*key), Edn::text(id), Edn::int((*body).into()), Edn::key(shape.name())]
        }
        Call::Read { job } | Call::Cancel { job } | Call::Retry { job } => vec![Edn::text(job)],
        Call::Set { register, value } => vec![Edn::int(*register), Edn::int((*value).into())],
        Call::Get { register } => vec![Edn::int(*register)],
    };
    match answer {
        Some(Answer::Submitted { job, index }) => value.extend([Edn::text(job), Edn::int(*index)]),
        Some(Answer::Read { state, index }) => value.extend([Edn::key(state.name()), Edn::int(*index)]),
        Some(Answer::Changed { changed, index }) => value.extend([Edn::int(*changed), Edn::int(*index)]),
        Some(Answer::Got { value: got, index }) => {
            value.extend([got.map_or(Edn::Nil, |got| Edn::int(got.into())), Edn::int(*index)]);
        }
        Some(Answer::Failed { .. }) | None => {}
    }
    Edn::Vector(value)
}

/// The entry of a line; `None`: it is not one.
pub fn entry(line: &Edn, nodes: &[String]) -> Option<Entry> {
    let time = line.get("time")?.as_u64()?;
    let f = line.get("f")?.as_str()?;
    let value = line.get("value")?;
    if line.get("process")?.as_str() == Some("nemesis") {
        return Some(Entry::Nemesis { time, what: f.to_owned(), value: value.clone() });
    }
    let process = line.get("process")?.as_u64()?;
    let kind = match line.get("type")?.as_str()? {
        "invoke" => Kind::Invoke,
        "ok" => Kind::Ok,
        "fail" => Kind::Fail,
        "info" => Kind::Info,
        _ => return None,
    };
    let name = line.get("node")?.as_str()?;
    let node = nodes.iter().position(|node| node == name)?;
    let (call, heard) = call(f, value.items())?;
    let answer = match line.get("error").map(Edn::items) {
        Some([code, message]) => {
            Some(Answer::Failed { code: code.as_str()?.to_owned(), message: message.as_str()?.to_owned() })
        }
        Some(_) => return None,
        None if heard.is_empty() => None,
        None => Some(answer(&call, heard)?),
    };
    Some(Entry::Client { time, kind, process, node, call, answer })
}

fn call<'a>(f: &str, value: &'a [Edn]) -> Option<(Call, &'a [Edn])> {
    let job = |text: &Edn| text.as_str()?.parse::<JobId>().ok();
    let asked = if f == "submit" { 4 } else { 1 + usize::from(f == "set") };
    let (asked, heard) = value.split_at_checked(asked)?;
    let call = match (f, asked) {
        ("submit", [key, id, body, shape]) => Call::Submit {
            key: key.as_u64()?,
            id: id.as_str()?.parse().ok()?,
            body: body.as_u64()?.try_into().ok()?,
            shape: Shape::named(shape.as_str()?)?,
        },
        ("read", [id]) => Call::Read { job: job(id)? },
        ("cancel", [id]) => Call::Cancel { job: job(id)? },
        ("retry", [id]) => Call::Retry { job: job(id)? },
        ("set", [register, value]) => {
            Call::Set { register: register.as_u64()?, value: value.as_u64()?.try_into().ok()? }
        }
        ("get", [register]) => Call::Get { register: register.as_u64()? },
        _ => return None,
    };
    Some((call, heard))
}

fn answer(call: &Call, heard: &[Edn]) -> Option<Answer> {
    let [what, index] = heard else { return None };
    let index = index.as_u64()?;
    Some(match call {
        Call::Submit { .. } => Answer::Submitted { job: what.as_str()?.parse().ok()?, index },
        Call::Read { .. } => Answer::Read { state: state(what.as_str()?)?, index },
        Call::Cancel { .. } | Call::Retry { .. } | Call::Set { .. } => {
            Answer::Changed { changed: what.as_u64()?, index }
        }
        Call::Get { .. } => {
            let value = if *what == Edn::Nil { None } else { Some(what.as_u64()?.try_into().ok()?) };
            Answer::Got { value, index }
        }
    })
}

fn state(name: &str) -> Option<JobState> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

/// Lines of the projections, by the names of their files.
pub fn by_key(entries: &[Entry], at_the_end: &[u64]) -> BTreeMap<String, Vec<String>> {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = 0;
    for entry in entries {
        let Entry::Client { time, kind, process, call, answer, .. } = entry else { continue };
        last = last.max(*time);
        let Some((file, f, value)) = projected(call, answer.as_ref()) else { continue };
        let lines = files.entry(file).or_default();
        let map = head(lines.len() as u64, *time, *kind, Edn::int(*process), Edn::key(f), value);
        lines.push(Edn::map(map).to_string());
    }
    if let Some(set) = files.get_mut("set") {
        let all = Edn::Vector(at_the_end.iter().map(|key| Edn::int(*key)).collect());
        for (kind, value) in [(Kind::Invoke, Edn::Nil), (Kind::Ok, all)] {
            last += 1;
            let map = head(set.len() as u64, last, kind, Edn::int(u64::MAX >> 1), Edn::key("read"), value);
            set.push(Edn::map(map).to_string());
        }
    }
    files
}

fn projected(call: &Call, answer: Option<&Answer>) -> Option<(String, &'static str, Edn)> {
    let got = |answer: Option<&Answer>| match answer {
        Some(Answer::Got { value: Some(value), .. }) => Edn::int((*value).into()),
        _ => Edn::Nil,
    };
    match call {
        Call::Submit { key, body: 0, .. } => Some(("set".to_owned(), "add", Edn::int(*key))),
        Call::Set { register, value } => {
            Some((format!("register-{register}"), "write", Edn::int((*value).into())))
        }
        Call::Get { register } => Some((format!("register-{register}"), "read", got(answer))),
        Call::Submit { .. } | Call::Read { .. } | Call::Cancel { .. } | Call::Retry { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use model::RequestId;

    use super::*;

    fn all() -> Vec<Entry> {
        let client = |kind, call, answer| Entry::Client { time: 5, kind, process: 3, node: 1, call, answer };
        let job = JobId(7);
        let submit = Call::Submit { key: 1, id: RequestId(9), body: 0, shape: Shape::Graph };
        let failed = Answer::Failed { code: "no-leader".to_owned(), message: "say \"who\"".to_owned() };
        vec![
            client(Kind::Invoke, submit.clone(), None),
            client(Kind::Ok, submit.clone(), Some(Answer::Submitted { job, index: 12 })),
            client(Kind::Fail, submit, Some(failed)),
            client(Kind::Ok, Call::Read { job }, Some(Answer::Read { state: JobState::Running, index: 12 })),
            client(Kind::Ok, Call::Cancel { job }, Some(Answer::Changed { changed: 2, index: 13 })),
            client(Kind::Info, Call::Retry { job }, None),
            client(Kind::Invoke, Call::Set { register: 2, value: 9 }, None),
            client(Kind::Ok, Call::Get { register: 2 }, Some(Answer::Got { value: None, index: 1 })),
            client(Kind::Ok, Call::Get { register: 2 }, Some(Answer::Got { value: Some(9), index: 2 })),
            Entry::Nemesis {
                time: 6,
                what: "kill-leader".to_owned(),
                value: Edn::map(vec![("node", Edn::text("n1"))]),
            },
        ]
    }

    fn nodes() -> Vec<String> {
        ["n1", "n2"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_line_reads_as_jepsen_writes_it() {
        let text = line(1, &all()[3], &nodes()).to_string();
        assert_eq!(
            text,
            "{:index 1 :time 5 :type :ok :process 3 :f :read :value [\"j7\" :running 12] :node \"n2\"}"
        );
    }

    #[test]
    fn every_entry_is_read_back_as_it_was() {
        for one in all() {
            let text = line(0, &one, &nodes()).to_string();
            let value = crate::edn::parse(&text).unwrap();
            assert_eq!(entry(&value, &nodes()), Some(one), "{text}");
        }
        assert_eq!(entry(&Edn::Nil, &nodes()), None);
    }

    #[test]
    fn registers_and_the_set_of_submits_have_files_of_their_own() {
        let files = by_key(&all(), &[1]);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["register-2", "set"]);
        assert_eq!(files["register-2"].len(), 3);
        let last = files["set"].last().unwrap();
        assert!(last.contains(":f :read :value [1]"), "{last}");
        assert!(files["register-2"][2].contains(":f :read :value 9"), "{:?}", files["register-2"]);
    }
}
