//! What a waiting job takes of the allocator: a replica keeps a million of them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use machine::{Bootstrap, Command, Entry, LEVEL, Op, SharedSpecs, Stamp, State, Write};
use model::{Actor, Elapsed, JobId, JobSpec, RequestId, Settings, TaskSpec, Timestamp, Work};

/// The last is for all that are larger.
const SIZES: usize = 512;

/// Counts what is allocated and not freed: pieces by their size in words, and the bytes of all.
struct Counting;

static LIVE: [AtomicU64; SIZES] = [const { AtomicU64::new(0) }; SIZES];
static BYTES: AtomicU64 = AtomicU64::new(0);

fn slot(layout: Layout) -> &'static AtomicU64 {
    &LIVE[layout.size().div_ceil(8).min(SIZES - 1)]
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        slot(layout).fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        slot(layout).fetch_sub(1, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps what `dealloc` asks for.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many pieces of each size in bytes there are, and how many bytes.
fn live() -> (BTreeMap<usize, u64>, u64) {
    let pieces = LIVE.iter().enumerate();
    let pieces = pieces.map(|(words, count)| (words * 8, count.load(Ordering::Relaxed))).collect();
    (pieces, BYTES.load(Ordering::Relaxed))
}

const ARGV_BYTES: usize = 200;
const JOBS: u64 = 16_384;
/// It was 585 when this was written, and 889 while rows of jobs and groups held all that few of them need themselves.
const BYTES_MAX: i64 = 600;

struct Submits {
    state: State,
    specs: SharedSpecs,
}

impl Submits {
    fn new() -> Submits {
        let bootstrap = Bootstrap {
            cluster: "memory".to_owned(),
            settings: Settings::default(),
            epoch: 0,
            next_node: 2,
            level: LEVEL,
        };
        let mut submits = Submits { state: State::default(), specs: SharedSpecs::default() };
        submits.apply(vec![Command::Bootstrap(bootstrap)]);
        submits
    }

    fn apply(&mut self, commands: Vec<Command>) {
        let index = self.state.index() + 1;
        let stamp = Stamp { elapsed: Elapsed(index), wall: Timestamp(1_767_225_600_000_000) };
        let mut entry = Entry { stamp, commands };
        self.specs.share_entry(&mut entry);
        self.state.apply(index, &entry);
    }

    fn submit(&mut self, jobs: std::ops::Range<u64>) {
        for number in jobs {
            let argv = vec!["echo".to_owned(), "x".repeat(ARGV_BYTES - 4)];
            let spec = JobSpec::of("", vec![TaskSpec::new("main", Work::Run(argv))]);
            let op = Op::Submit { job: JobId(number), spec: Arc::new(spec) };
            let request = RequestId(1_767_225_600_000_u128 << 80 | u128::from(number));
            let write = Write { request, body_hash: number, actor: Actor::new("ann", "cli"), op };
            self.apply(vec![Command::Write(write)]);
        }
    }
}

#[test]
fn a_waiting_job_takes_so_many_bytes() {
    let mut submits = Submits::new();
    submits.submit(1..JOBS + 1);
    let (before, bytes_before) = live();
    submits.submit(JOBS + 1..2 * JOBS + 1);
    let (after, bytes) = live();
    assert_eq!(submits.state.unfinished_jobs(), 2 * JOBS);

    let grown = after.iter().map(|(size, count)| (size, *count as i64 - before[size] as i64));
    let table: String = grown
        .filter(|(_, more)| *more != 0)
        .map(|(size, more)| format!("{size:6} bytes: {:6.2} a job\n", more as f64 / JOBS as f64))
        .collect();
    let each = (bytes - bytes_before) as i64 / JOBS as i64 - ARGV_BYTES as i64;
    assert!(each <= BYTES_MAX, "{each} bytes a job beside its argv, at most {BYTES_MAX}:\n{table}");
}
