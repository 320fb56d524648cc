//! Placeholder.
pub struct Page { pub title: String, pub facts: Vec<(String, String)>, pub verdict: String, pub seconds: f64, pub nodes: Vec<String>, pub operations: Vec<Dot>, pub windows: Vec<Window>, pub reigns: Vec<Reign>, pub series: Vec<Series>, pub findings: Vec<Row>, pub skipped: Vec<(String, String)> }
pub enum Kind { Ok, Fail, Info }
pub struct Dot { pub at_s: f64, pub latency_ms: f64, pub kind: Kind, pub f: String, pub node: String }
pub struct Window { pub from_s: f64, pub to_s: f64, pub what: String, pub node: String, pub outcome: String }
pub struct Reign { pub node: String, pub term: u64, pub from_s: f64, pub to_s: f64 }
pub struct Series { pub title: String, pub unit: String, pub node: String, pub points: Vec<(f64, f64)> }
pub struct Row { pub id: String, pub claim: String, pub verdict: String, pub looked_at: String, pub problems: Vec<String> }
pub fn render(_: &Page) -> String { String::new() }
