//! The whole page: safe, complete, and small whatever it is given.

use super::timeline::DOTS_MAX;
use super::*;

fn dot(at_s: f64, latency_ms: f64, kind: Kind, node: &str) -> Dot {
    Dot { at_s, latency_ms, kind, f: "read".to_owned(), node: node.to_owned() }
}

fn window(from_s: f64, to_s: f64, what: &str, node: &str, outcome: &str) -> Window {
    Window { from_s, to_s, what: what.to_owned(), node: node.to_owned(), outcome: outcome.to_owned() }
}

fn row(id: &str, verdict: &str, problems: usize) -> Row {
    Row {
        id: id.to_owned(),
        claim: format!("the claim of {id}"),
        verdict: verdict.to_owned(),
        looked_at: format!("what {id} saw"),
        problems: (0..problems).map(|number| format!("{id} problem {number}.")).collect(),
    }
}

/// A run with so many operations and windows.
fn run(operations: usize, windows: usize, seconds: f64) -> Page {
    let nodes = ["n1", "n2", "n3", "n4", "n5"];
    let operation = |place: usize| {
        let kind = [Kind::Ok, Kind::Ok, Kind::Ok, Kind::Fail, Kind::Info][place * 7 % 5];
        let latency = 1.0 + (place * 7_919 % 10_007) as f64 / 10.0;
        dot(seconds * place as f64 / operations as f64, latency, kind, nodes[place * 3 % 5])
    };
    let fault = |place: usize| {
        let from = seconds * place as f64 / windows as f64;
        let outcome = ["installed", "installed", "skipped: no leader", "indeterminate"][place % 4];
        window(
            from,
            from + seconds / windows as f64 / 2.0,
            &format!("fault {}", place % 12),
            nodes[place % 5],
            outcome,
        )
    };
    let reign = |place: usize| Reign {
        node: nodes[place % 5].to_owned(),
        term: place as u64 + 1,
        from_s: seconds * place as f64 / 20.0,
        to_s: seconds * (place as f64 + 0.9) / 20.0,
    };
    let measure = |title: &str, node: &str| Series {
        title: title.to_owned(),
        unit: "bytes".to_owned(),
        node: node.to_owned(),
        points: (0..=seconds as u64).map(|at| (at as f64, 1e8 + (at * 7_919 % 1_009) as f64 * 1e4)).collect(),
    };
    let titles = ["resident memory", "log", "snapshots", "files", "threads", "sockets"];
    Page {
        title: "a run".to_owned(),
        facts: vec![("seed".to_owned(), "7".to_owned())],
        verdict: "false".to_owned(),
        seconds,
        nodes: nodes.map(str::to_owned).to_vec(),
        operations: (0..operations).map(operation).collect(),
        windows: (0..windows).map(fault).collect(),
        reigns: (0..20).map(reign).collect(),
        series: titles.iter().flat_map(|title| nodes.map(|node| measure(title, node))).collect(),
        findings: vec![row("W0", "true", 0), row("W3", "false", 27), row("W4", "unknown", 1)],
        skipped: vec![("W9".to_owned(), "no ledger".to_owned())],
    }
}

fn count(html: &str, what: &str) -> usize {
    html.matches(what).count()
}

/// Each element ends, in the right order, and attributes are quoted.
fn assert_sound(html: &str) {
    let body = html.split_once('\n').expect("a first line").1;
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some(begin) = rest.find('<') {
        let end = begin + rest[begin..].find('>').expect("an element ends");
        let element = &rest[begin + 1..end];
        assert!(count(element, "\"").is_multiple_of(2), "{element}");
        let name = element.split([' ', '\n']).next().expect("a name");
        rest = &rest[end + 1..];
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "before {:.100}", rest),
            None if element.ends_with('/') || ["meta", "link"].contains(&name) => {}
            None => open.push(name),
        }
        // What is in those is no markup.
        if ["script", "style"].contains(&name) {
            rest = &rest[rest.find("</").expect("it ends")..];
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    let (_, body) = body.split_once("</style>").expect("a style");
    let (body, _) = body.split_once("<script>").expect("a script");
    assert_eq!((count(body, "NaN"), count(body, "inf") - count(body, "info")), (0, 0));
}

#[test]
fn a_page_without_anything_is_a_page() {
    let html = render(&Page::default());
    assert_sound(&html);
    for text in [
        "unknown",
        "No claim was judged.",
        "No checker reported.",
        "Nothing was asked.",
        "No fault was tried.",
    ] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn each_part_may_be_missing() {
    let whole = run(100, 10, 60.0);
    let without: [fn(&mut Page); 8] = [
        |page| page.nodes.clear(),
        |page| page.operations.clear(),
        |page| page.windows.clear(),
        |page| page.reigns.clear(),
        |page| page.series.clear(),
        |page| page.findings.clear(),
        |page| page.seconds = 0.0,
        |page| page.operations.iter_mut().for_each(|dot| dot.latency_ms = f64::INFINITY),
    ];
    for take in without {
        let mut page = whole.clone();
        take(&mut page);
        assert_sound(&render(&page));
    }
}

#[test]
fn no_text_becomes_markup() {
    const EVIL: &str = "</script><img src=x onerror='a()'>\"><i>&";
    let evil = || EVIL.to_owned();
    let mut page = run(0, 0, 60.0);
    page.operations = vec![Dot { f: evil(), node: evil(), ..dot(1.0, 2.0, Kind::Ok, "") }];
    page.windows = vec![window(1.0, 2.0, EVIL, EVIL, EVIL), window(1.0, 2.0, EVIL, EVIL, "installed")];
    page.reigns = vec![Reign { node: evil(), term: 1, from_s: 0.0, to_s: 60.0 }];
    page.series = vec![Series { title: evil(), unit: evil(), node: evil(), points: vec![(0.0, 1.0)] }];
    let problems = vec![evil()];
    let looked_at = evil();
    page.findings = vec![Row { id: evil(), claim: evil(), verdict: evil(), looked_at, problems }];
    page.skipped = vec![(evil(), evil())];
    page.facts = vec![(evil(), evil())];
    page.nodes = vec![evil()];
    (page.title, page.verdict) = (evil(), evil());
    let html = render(&page);
    assert_sound(&html);
    assert_eq!((count(&html, "<img"), count(&html, "<i>&"), count(&html, "<script")), (0, 0, 2));
    assert!(count(&html, "&lt;img src=x onerror=&#39;a()&#39;&gt;&quot;&gt;&lt;i&gt;&amp;") >= 15);
}

#[test]
fn nothing_is_fetched_from_elsewhere() {
    let html = render(&run(100, 10, 60.0));
    assert_eq!((count(&html, "http://"), count(&html, "https://"), count(&html, "@import")), (0, 0, 0));
    assert_eq!((count(&html, "src="), count(&html, "url("), count(&html, "url(#hatch)")), (0, 1, 1));
}

#[test]
fn half_a_million_operations_stay_a_small_page() {
    let page = run(500_000, 300, 1_800.0);
    let html = render(&page);
    assert_sound(&html);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    assert!(count(&html, "<") < 8_000, "{} elements", count(&html, "<"));
    assert!(html.contains("500,000"));
    assert_eq!(count(&html, "<circle"), 0);
    // One in each row of the list, and one in each bar.
    for place in 0..300 {
        let from = text::moment(page.windows[place].from_s);
        assert!(html.contains(&format!("<tr><td>{from}</td>")), "{from}");
        assert!(html.contains(&format!(" at {}, {from} to ", page.windows[place].node)), "{from}");
    }
}

#[test]
fn few_operations_are_drawn_one_by_one() {
    let circles = |operations: usize| count(&render(&run(operations, 5, 60.0)), "<circle");
    assert_eq!((circles(DOTS_MAX), circles(DOTS_MAX + 1)), (DOTS_MAX, 0));
}

#[test]
fn all_findings_are_told_the_worst_first() {
    let html = render(&run(100, 5, 60.0));
    let place = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    let ids = ["W3", "W4", "W0"].map(|id| place(&format!("<td class=\"id\">{id}</td>")));
    assert!(ids.is_sorted(), "{ids:?}");
    assert!(place("W3 problem 0.") > ids[0] && place("W3 problem 19.") < ids[1]);
    assert!(html.contains("W4 problem 0.") && !html.contains("W3 problem 20."));
    assert!(html.contains("and 7 more") && html.contains("what W0 saw") && html.contains("the claim of W4"));
    assert!(html.contains("Of 3 claims: 1 broken, 1 undecided, 1 held."));
}

#[test]
fn a_verdict_is_a_word_beside_its_sign() {
    for (verdict, told) in
        [("true", "✓</span> true"), ("false", "✗</span> false"), ("unknown", "?</span> unknown")]
    {
        let html = render(&Page { verdict: verdict.to_owned(), ..Page::default() });
        assert!(html.contains(told), "{verdict}");
        assert!(html.contains(&format!("<title>{verdict}: ")), "{verdict}");
    }
}

#[test]
fn axes_have_round_numbers_with_their_units() {
    let html = render(&run(500, 10, 60.0));
    let label = |text: &str| html.contains(&format!(">{text}</span>"));
    for text in ["0 s", "10 s", "60 s", "1 ms", "10 ms", "100 ms", "1 s", "0 B", "50 MiB", "0 /s"] {
        assert!(label(text), "{text}");
    }
    assert!(!label("70 s") && !label("100 s"));
}

#[test]
fn only_what_may_have_taken_place_shades() {
    let band = "class=\"band";
    let page = |outcome: &str| {
        let mut page = run(10, 0, 60.0);
        page.windows = vec![window(5.0, 9.0, "cut", "n2", outcome)];
        render(&page)
    };
    assert_eq!(count(&page("skipped: why"), band), 0);
    // Its lane, latency, rate and six resources.
    assert_eq!(count(&page("installed"), band), 9);
    assert_eq!(count(&page("indeterminate"), "class=\"band doubt\""), 1);
    let mut all = run(10, 0, 60.0);
    all.windows = vec![window(5.0, 9.0, "cut", "", "installed")];
    assert_eq!(count(&render(&all), band), 13, "five lanes, not one");
}

#[test]
fn numbers_that_are_none_spoil_nothing() {
    let mut page = run(100, 4, 60.0);
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 1e300, 0.0];
    for (place, odd) in odd.into_iter().enumerate() {
        page.operations.push(dot(odd, 1.0, Kind::Ok, "n1"));
        page.operations.push(dot(1.0, odd, [Kind::Ok, Kind::Fail, Kind::Info][place % 3], "n1"));
        page.windows.push(window(odd, 5.0, "odd", "n1", "installed"));
        page.windows.push(window(5.0, odd, "odd", "n1", "installed"));
        page.reigns.push(Reign { node: "n1".to_owned(), term: u64::MAX, from_s: odd, to_s: odd });
        page.series[0].points.push((odd, 1.0));
        page.series[0].points.push((1.0, odd));
    }
    let html = render(&page);
    assert_sound(&html);
    assert!(html.contains("left:88.89%\">80 s</span>"), "it is drawn at most half as long again");
    assert!(count(&html, "class=\"tick\"") < 60);
    page.seconds = f64::NAN;
    page.operations.retain(|dot| dot.at_s < 1e6);
    assert_sound(&render(&page));
}

#[test]
fn more_nodes_and_kinds_of_faults_than_fit_are_told_as_numbers() {
    let mut page = run(0, 0, 60.0);
    page.nodes = (0..40).map(|number| format!("node-{number}")).collect();
    page.reigns.clear();
    page.windows = (0..30)
        .map(|number| window(number.into(), 60.0, &format!("kind {number}"), "", "installed"))
        .collect();
    let html = render(&page);
    assert_sound(&html);
    assert!(html.contains("16 more nodes not drawn") && html.contains("15 other kinds"));
}
