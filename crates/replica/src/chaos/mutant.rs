//! Bugs of this crate that the fault-injection suite must catch.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The log's writer answers before it syncs, and syncs only now and then.
    AckBeforeSync,
    /// A vote is given before it is on the disk.
    SkipVoteSync,
    /// A linearizable read is answered with whatever is applied here.
    ReadWithoutIndex,
    /// A log that lacks entries which it knows to be committed is taken for whole.
    LostTailAccepted,
}

impl Mutant {
    pub const ALL: [(&'static str, Mutant); 4] = [
        ("ack-before-sync", Mutant::AckBeforeSync),
        ("skip-vote-sync", Mutant::SkipVoteSync),
        ("read-without-index", Mutant::ReadWithoutIndex),
        ("lost-tail-accepted", Mutant::LostTailAccepted),
    ];
}
