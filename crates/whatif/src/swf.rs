//! The Standard Workload Format (Chapin et al. 1999; Parallel Workloads Archive): a job a line, 18 columns. Beyond it, as some
//! simulators write them: a first line with the names of the columns, several preceding jobs joined by `&`, and more columns.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::workload::{Job, Malformed, Task, Workload, cycle};

/// Places of what is read, from 0.
const SUBMIT: usize = 1;
const RUN: usize = 3;
const PROCESSORS: usize = 4;
const ASKED_PROCESSORS: usize = 7;
const ASKED_TIME: usize = 8;
const USER: usize = 11;
const PRECEDING: usize = 16;

/// What stands in each field.
const FIELDS: [&str; 18] = [
    "number of the job",
    "time of submit",
    "wait",
    "run time",
    "processors",
    "mean processor time",
    "memory",
    "processors asked for",
    "time asked for",
    "memory asked for",
    "status",
    "user",
    "group",
    "program",
    "queue",
    "partition",
    "preceding job",
    "think time",
];

/// Longest time that is believed: a hundred years.
const SECONDS_MAX: f64 = 100.0 * 366.0 * 86_400.0;
const PROCESSORS_MAX: f64 = 1e9;

struct Line<'a> {
    number: usize,
    /// Each with its column, from 1.
    words: Vec<(usize, &'a str)>,
}

struct Read {
    id: u64,
    line: usize,
    /// Where those stand that it waits for.
    column: usize,
    after: Vec<u64>,
    submit: Duration,
    user: String,
    task: Task,
}

/// Jobs that ran at all, on as many processors as they asked for, or else got. The estimate of each is the time that it asked
/// for, but at least what it took. Jobs that wait for each other
/// become tasks of one job, submitted with the first of them.
///
/// # Errors
/// The first line that is none, with its column.
pub fn read_swf(text: &str) -> Result<Workload, Malformed> {
    let mut read: Vec<Read> = Vec::new();
    let mut left_out = 0;
    let mut is_first = true;
    for (number, line) in (1..).zip(text.lines()) {
        let words = words(line);
        let Some((_, first)) = words.first() else { continue };
        if first.starts_with(';') {
            continue;
        }
        let names = std::mem::take(&mut is_first) && first.starts_with(char::is_alphabetic);
        if names {
            continue;
        }
        match job(&Line { number, words })? {
            Some(job) => read.push(job),
            None => left_out += 1,
        }
    }
    read.sort_by_key(|job| job.id);
    if let Some(twice) = read.windows(2).find(|pair| pair[0].id == pair[1].id) {
        let (id, line) = (twice[1].id, twice[0].line);
        return Err(Malformed {
            line: twice[1].line,
            column: 1,
            message: format!("job {id} stands in line {line} too"),
        });
    }
    Ok(Workload { jobs: join(read)?, left_out, ..Workload::default() })
}

fn words(line: &str) -> Vec<(usize, &str)> {
    let start = line.as_ptr() as usize;
    line.split_whitespace().map(|word| (word.as_ptr() as usize - start + 1, word)).collect()
}

fn job(line: &Line<'_>) -> Result<Option<Read>, Malformed> {
    if let Some(missing) = FIELDS.get(line.words.len()) {
        let (has, field) = (line.words.len(), line.words.len() + 1);
        let message = format!(
            "has {has} of the {} fields of a job: field {field} is missing, the {missing}; -1 stands for what is not known",
            FIELDS.len()
        );
        return Err(Malformed { line: line.number, column: 0, message });
    }
    let seconds = |place| number(line, place, SECONDS_MAX);
    let (submit, run) = (seconds(SUBMIT)?, seconds(RUN)?);
    let (given, asked) =
        (number(line, PROCESSORS, PROCESSORS_MAX)?, number(line, ASKED_PROCESSORS, PROCESSORS_MAX)?);
    let asked_time = seconds(ASKED_TIME)?;
    let id =
        number(line, 0, 1e15)?.ok_or_else(|| refusal(line, 0, "is no number of a job; the nearest is 0"))?;
    let after = preceding(line)?;
    let Some(submit) = submit else {
        return Err(refusal(line, SUBMIT, "is no time of submit; the nearest is 0"));
    };
    let cores = asked.filter(|cores| *cores > 0.0).or(given).unwrap_or(0.0) as u64;
    let Some(run) = run.filter(|run| *run > 0.0 && cores > 0) else { return Ok(None) };
    let run = Duration::from_secs_f64(run);
    let estimate = Some(asked_time.map_or(run, Duration::from_secs_f64).max(run));
    let id = id as u64;
    let task = Task { estimate, ..Task::new(id.to_string(), cores, run) };
    let user = line.words[USER].1.to_owned();
    let submit = Duration::from_secs_f64(submit);
    let column = line.words[PRECEDING].0;
    Ok(Some(Read { id, line: line.number, column, after, submit, user, task }))
}

/// What stands there; -1 is nothing.
fn number(line: &Line<'_>, place: usize, max: f64) -> Result<Option<f64>, Malformed> {
    let word = line.words[place].1;
    let value: f64 =
        word.parse().map_err(|_| refusal(line, place, "is not a number; -1 stands for what is not known"))?;
    if value < 0.0 {
        return Ok(None);
    }
    let fits = value.is_finite() && value <= max;
    fits.then_some(Some(value))
        .ok_or_else(|| refusal(line, place, &format!("is more than is believed; the nearest is {max}")))
}

fn preceding(line: &Line<'_>) -> Result<Vec<u64>, Malformed> {
    let word = line.words[PRECEDING].1;
    if word.starts_with('-') {
        return Ok(Vec::new());
    }
    let one = |part: &str| {
        part.parse().map_err(|_| refusal(line, PRECEDING, "is not the number of a job; -1 stands for none"))
    };
    word.split('&').map(one).collect()
}

fn refusal(line: &Line<'_>, place: usize, why: &str) -> Malformed {
    let (column, word) = line.words[place];
    let message = format!("`{word}` {why} (field {}, the {})", place + 1, FIELDS[place]);
    Malformed { line: line.number, column, message }
}

/// Jobs that wait for each other, by whatever way, as one.
fn join(read: Vec<Read>) -> Result<Vec<Job>, Malformed> {
    let places: BTreeMap<u64, usize> = read.iter().enumerate().map(|(place, job)| (job.id, place)).collect();
    // Of each the first of those it belongs together with.
    let mut heads: Vec<usize> = (0..read.len()).collect();
    for (place, job) in read.iter().enumerate() {
        for earlier in job.after.iter().filter_map(|id| places.get(id)) {
            let (a, b) = (head(&mut heads, place), head(&mut heads, *earlier));
            heads[a.max(b)] = a.min(b);
        }
    }
    let mut jobs: Vec<Job> = Vec::new();
    let mut at: BTreeMap<usize, usize> = BTreeMap::new();
    let mut within: Vec<usize> = Vec::with_capacity(read.len());
    for (place, job) in read.iter().enumerate() {
        let together = *at.entry(head(&mut heads, place)).or_insert_with(|| {
            let (submit, user) = (job.submit, job.user.clone());
            jobs.push(Job { submit, user, priority: 0, tasks: Vec::new() });
            jobs.len() - 1
        });
        within.push(jobs[together].tasks.len());
        // One that did not run, or is not in the trace, is over.
        jobs[together].tasks.push(job.task.clone());
    }
    for (place, job) in read.iter().enumerate() {
        let together = at[&head(&mut heads, place)];
        let after = job.after.iter().filter_map(|id| places.get(id)).map(|earlier| within[*earlier]);
        jobs[together].tasks[within[place]].after = after.collect();
    }
    if let Some(cycle) = jobs.iter().find_map(|job| Some((job, cycle(&job.tasks)?))) {
        return Err(circle(&read, cycle));
    }
    jobs.sort_by_key(|job| job.submit);
    Ok(jobs)
}

fn circle(read: &[Read], (job, places): (&Job, Vec<usize>)) -> Malformed {
    let names: Vec<&str> = places.iter().map(|place| job.tasks[*place].name.as_str()).collect();
    let first = read.iter().find(|read| names.first() == Some(&read.task.name.as_str()));
    let (line, column) = first.map_or((0, 0), |first| (first.line, first.column));
    let message =
        format!("jobs wait for each other: {}; leave one of the preceding jobs out (-1)", names.join(" -> "));
    Malformed { line, column, message }
}

fn head(heads: &mut [usize], mut place: usize) -> usize {
    while heads[place] != place {
        heads[place] = heads[heads[place]];
        place = heads[place];
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "7 10 -1 60 4 -1 -1 -1 90 -1 1 3 -1 -1 0 -1 -1 -1";

    #[test]
    fn a_job_is_read_with_its_estimate() {
        let found =
            read_swf(&format!("; Version: 2\n\n{LINE}\n8 11 -1 0 4 -1 -1 -1 90 -1 1 3 -1 -1 0 -1 -1 -1\n"));
        let found = found.unwrap();
        assert_eq!((found.jobs.len(), found.left_out, found.widest()), (1, 1, 4));
        let (job, task) = (&found.jobs[0], &found.jobs[0].tasks[0]);
        assert_eq!(
            (job.submit.as_secs(), task.run.as_secs(), task.estimate.unwrap().as_secs()),
            (10, 60, 90)
        );
        assert_eq!((job.user.as_str(), task.name.as_str()), ("3", "7"));
    }

    #[test]
    fn jobs_that_wait_for_each_other_are_one() {
        let text = "id submit ...\n\
            1 0 0 5 1 -1 -1 1 5 -1 1 1 1 1 1 1 -1 0 A\n\
            2 0 0 5 1 -1 -1 1 5 -1 1 1 1 1 1 1 -1 0 A\n\
            3 0 0 5 1 -1 -1 1 5 -1 1 1 1 1 1 1 1&2 0 A\n\
            4 9 0 5 1 -1 -1 1 5 -1 1 1 1 1 1 1 99 0 B\n";
        let found = read_swf(text).unwrap();
        assert_eq!(found.jobs.len(), 2);
        assert_eq!(found.jobs[0].tasks[2].after, [0, 1]);
        assert_eq!(found.jobs[1].tasks[0].after, [0usize; 0]);
    }

    #[test]
    fn what_is_no_line_is_told_with_its_place() {
        let told = |text: &str| read_swf(text).unwrap_err().to_string();
        assert_eq!(
            told("; x\n1 2 3"),
            "line 2: has 3 of the 18 fields of a job: field 4 is missing, the run time; -1 stands for what is not known"
        );
        assert_eq!(
            told(&LINE.replace("60", "6o")),
            "line 1, column 9: `6o` is not a number; -1 stands for what is not known (field 4, the run time)"
        );
        assert!(
            told(&LINE.replace("90", "9e9"))
                .contains("the nearest is 3162240000 (field 9, the time asked for)")
        );
        assert_eq!(told(&LINE.replace("60", "1e300")).split(':').next(), Some("line 1, column 9"));
        assert_eq!(told(&format!("{LINE}\n{LINE}")), "line 2, column 1: job 7 stands in line 1 too");
        let circle = LINE.replace("-1 -1 -1 0 -1 -1 -1", "").replace("0 -1 -1 -1", "0 -1 7 -1");
        assert!(told(&circle).contains("7 -> 7"), "{circle}");
        let waits_for = |id: u64, other: u64| format!("{id} 0 0 5 1 -1 -1 1 5 -1 1 1 1 1 1 1 {other} 0\n");
        let circle = told(&format!("{}{}{}", waits_for(5, 4), waits_for(8, 9), waits_for(9, 8)));
        assert!(circle.starts_with("line 2, column 36: jobs wait for each other: 8 -> 9 -> 8;"), "{circle}");
        assert_eq!(
            told(&LINE.replace(" 10 ", " -1 ")),
            "line 1, column 3: `-1` is no time of submit; the nearest is 0 (field 2, the time of submit)"
        );
    }
}
