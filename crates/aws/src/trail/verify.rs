//! Verification of a whole trail: the first line that does not fit, or what holds.

use super::{ChainState, chain, close_input, head_input, hex32, signature_holds};
use crate::watch::Head;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Why a line or a segment does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// Not a JSON object that ends in sequence and chain.
    #[error("the line is not a trail record")]
    NotARecord,
    /// The sequence does not follow the line before.
    #[error("sequence {found} where {expected} belongs")]
    Sequence {
        /// What belongs here.
        expected: u64,
        /// What stands here.
        found: u64,
    },
    /// The chain value is not that of the bytes: this line, or one before it, was changed.
    #[error("the chain value does not fit the record")]
    Chain,
    /// A segment does not begin with its opening line, or the line names another segment.
    #[error("the segment does not begin with its own opening line")]
    Opening,
    /// Lines follow a closing line, or a segment before the last one is not closed.
    #[error("the segment is not closed where it ends")]
    Closing,
    /// The closing line's signature is not the trail key's.
    #[error("the closing line is not signed by the trail's key")]
    Signature,
    /// A kept head says otherwise.
    #[error("the record is not the one of a head kept elsewhere")]
    Head,
    /// A kept head is not signed by the trail's key.
    #[error("the kept head {0} is not signed by the trail's key")]
    HeadSignature(u64),
    /// The trail ends before a kept head.
    #[error(
        "the trail ends at {last}, but a head of {head} was kept elsewhere: records are missing"
    )]
    Cut {
        /// Last sequence present.
        last: u64,
        /// The kept head's sequence.
        head: u64,
    },
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The first line that does not fit.
    Misfit {
        /// File name.
        segment: String,
        /// Line number from 1; 0 when no single line is meant.
        line: usize,
        /// Sequence, where one can be told.
        sequence: Option<u64>,
        /// What is wrong.
        what: Misfit,
    },
    /// Everything fits by itself; nothing outside vouches for it.
    Consistent,
    /// Everything fits, and so do this many heads kept elsewhere.
    Anchored {
        /// Heads that were held against records.
        heads: usize,
    },
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// What was found.
    pub finding: Finding,
    /// Lines that fit.
    pub lines: u64,
    /// Sequence of the first line; above 1 when older segments are no longer there.
    pub first_sequence: Option<u64>,
    /// Where the chain ends.
    pub end: ChainState,
    /// Closing lines whose signature holds.
    pub closed_segments: u64,
    /// The trail key was given from outside; else closing lines vouch for themselves only.
    pub key_pinned: bool,
    /// Bytes of an unfinished last line, being written or torn, which were left out.
    pub unfinished_bytes: usize,
    /// Kept heads that lie before the first line and could not be held against anything.
    pub heads_too_old: usize,
}

impl VerifyReport {
    /// True unless something does not fit.
    pub fn holds(&self) -> bool {
        !matches!(self.finding, Finding::Misfit { .. })
    }

    /// The answer in one line.
    pub fn summary(&self) -> String {
        let range = match self.first_sequence {
            Some(first) => format!("{} records ({first} to {})", self.lines, self.end.sequence),
            None => "0 records".to_owned(),
        };
        match &self.finding {
            Finding::Consistent => format!("consistent, not anchored: {range}"),
            Finding::Anchored { heads } => {
                format!("consistent and anchored by {heads} heads: {range}")
            }
            Finding::Misfit { segment, line, sequence, what } => {
                let which = match sequence {
                    Some(sequence) => format!("record {sequence}"),
                    None => "record".to_owned(),
                };
                format!("first {which} that does not fit: {segment} line {line}: {what}")
            }
        }
    }
}

/// Reads heads kept elsewhere: JSON lines with at least `Sequence`, `Chain` and `Signature`, or
/// with such an object under `Head`. Lines that are none are counted.
pub fn parse_heads(text: &str) -> (Vec<Head>, usize) {
    let mut heads = Vec::new();
    let mut strange = 0;
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let parsed = serde_json::from_str::<Value>(line).ok().and_then(|mut value| {
            let inner = value.get_mut("Head").map(Value::take);
            serde_json::from_value::<Head>(inner.unwrap_or(value)).ok()
        });
        match parsed {
            Some(head) => heads.push(head),
            None => strange += 1,
        }
    }
    (heads, strange)
}

/// Verifies segments in order; the last one may be open.
pub fn verify_segments<'a>(
    segments: impl IntoIterator<Item = (&'a str, &'a str)>,
    public_key: Option<&[u8]>,
    heads: &[Head],
) -> VerifyReport {
    let mut verifier = Verifier::new(public_key, heads);
    for (name, text) in segments {
        verifier.segment(name, text);
    }
    verifier.finish()
}

/// Verification segment by segment, so that one is in memory at a time.
#[derive(Debug)]
pub struct Verifier {
    key: Option<Vec<u8>>,
    heads: BTreeMap<u64, Vec<Head>>,
    state: Option<ChainState>,
    report: VerifyReport,
    misfit: Option<Finding>,
    closed: bool,
    last_segment: String,
    checked_heads: usize,
}

/// What a line says once its chain holds.
struct Line {
    record: Map<String, Value>,
    state: ChainState,
}

impl Verifier {
    /// Begins. `public_key` is the trail's key when it is known from outside.
    pub fn new(public_key: Option<&[u8]>, heads: &[Head]) -> Self {
        let mut by_sequence: BTreeMap<u64, Vec<Head>> = BTreeMap::new();
        for head in heads {
            by_sequence.entry(head.sequence).or_default().push(head.clone());
        }
        let report = VerifyReport {
            finding: Finding::Consistent,
            lines: 0,
            first_sequence: None,
            end: ChainState::START,
            closed_segments: 0,
            key_pinned: public_key.is_some(),
            unfinished_bytes: 0,
            heads_too_old: 0,
        };
        Self {
            key: public_key.map(<[u8]>::to_vec),
            heads: by_sequence,
            state: None,
            report,
            misfit: None,
            closed: true,
            last_segment: String::new(),
            checked_heads: 0,
        }
    }

    fn fail(&mut self, line: usize, sequence: Option<u64>, what: Misfit) {
        let segment = self.last_segment.clone();
        self.misfit.get_or_insert(Finding::Misfit { segment, line, sequence, what });
    }

    /// Takes the next segment, in order of names.
    pub fn segment(&mut self, name: &str, text: &str) {
        if self.misfit.is_some() {
            return;
        }
        if !self.closed || self.report.unfinished_bytes > 0 {
            // The segment before this one has no closing line.
            return self.fail(0, None, Misfit::Closing);
        }
        name.clone_into(&mut self.last_segment);
        self.closed = false;
        let (whole, rest) = match text.rfind('\n') {
            Some(end) => (&text[..end], &text[end + 1..]),
            None => ("", text),
        };
        self.report.unfinished_bytes = rest.len();
        if whole.is_empty() {
            return;
        }
        for (i, line) in whole.split('\n').enumerate() {
            if let Err((sequence, what)) = self.line(i == 0, line) {
                return self.fail(i + 1, sequence, what);
            }
        }
    }

    fn line(&mut self, first: bool, text: &str) -> Result<(), (Option<u64>, Misfit)> {
        let (record, body, found) = split(text).ok_or((None, Misfit::NotARecord))?;
        let at = Some(found.sequence);
        if self.closed {
            return Err((at, Misfit::Closing));
        }
        let opening = record.get("keystead").and_then(Value::as_str) == Some("segment-opened");
        let named = record.get("segment").and_then(Value::as_str) == Some(&self.last_segment);
        if opening != first || (first && !named) {
            return Err((at, Misfit::Opening));
        }
        let previous = match self.state {
            Some(state) => state,
            // Older segments are gone: the opening line says what went before.
            None => origin(&record).ok_or((at, Misfit::Opening))?,
        };
        let expected = previous.sequence + 1;
        if found.sequence != expected {
            return Err((at, Misfit::Sequence { expected, found: found.sequence }));
        }
        if chain(&previous.chain, body.as_bytes()) != found.chain {
            return Err((at, Misfit::Chain));
        }
        if first && origin(&record) != Some(previous) {
            return Err((at, Misfit::Opening));
        }
        let line = Line { record, state: found };
        self.closing(&line).map_err(|what| (at, what))?;
        self.head(&found).map_err(|what| (at, what))?;
        self.report.first_sequence.get_or_insert(found.sequence);
        self.report.lines += 1;
        self.report.end = found;
        self.state = Some(found);
        Ok(())
    }

    fn closing(&mut self, line: &Line) -> Result<(), Misfit> {
        let text = |name: &str| line.record.get(name).and_then(Value::as_str);
        let is_closing = text("keystead") == Some("segment-closed");
        if !is_closing {
            return if text("signature").is_some() { Err(Misfit::NotARecord) } else { Ok(()) };
        }
        let own = text("publicKey").and_then(|k| hex::decode(k).ok()).ok_or(Misfit::Signature)?;
        // A trail keeps its key: the first one seen holds for the rest when none was given.
        let key = self.key.get_or_insert_with(|| own.clone());
        let input = close_input(&self.last_segment, line.state.sequence, &line.state.chain);
        let signature = text("signature").ok_or(Misfit::Signature)?;
        if *key != own || !signature_holds(key, &input, signature) {
            return Err(Misfit::Signature);
        }
        if text("segment") != Some(&self.last_segment) {
            return Err(Misfit::Closing);
        }
        self.closed = true;
        self.report.closed_segments += 1;
        Ok(())
    }

    fn head(&mut self, state: &ChainState) -> Result<(), Misfit> {
        for head in self.heads.remove(&state.sequence).unwrap_or_default() {
            if hex32(&head.chain) != Some(state.chain) {
                return Err(Misfit::Head);
            }
            let input = head_input(state.sequence, &state.chain);
            if self.report.key_pinned
                && !self.key.as_ref().is_some_and(|k| signature_holds(k, &input, &head.signature))
            {
                return Err(Misfit::HeadSignature(head.sequence));
            }
            self.checked_heads += 1;
        }
        Ok(())
    }

    /// Ends: holds the heads that are left over against the end of the trail.
    pub fn finish(mut self) -> VerifyReport {
        let first = self.report.first_sequence.unwrap_or(u64::MAX);
        let last = self.report.end.sequence;
        for (sequence, heads) in std::mem::take(&mut self.heads) {
            // The head of a trail without any record says nothing.
            if sequence == 0 {
                continue;
            }
            if sequence > last {
                self.fail(0, Some(sequence), Misfit::Cut { last, head: sequence });
            } else if sequence < first {
                self.report.heads_too_old += heads.len();
            }
        }
        self.report.finding = match self.misfit {
            Some(misfit) => misfit,
            None if self.checked_heads > 0 => Finding::Anchored { heads: self.checked_heads },
            None => Finding::Consistent,
        };
        self.report
    }
}

/// What an opening line goes on from.
fn origin(record: &Map<String, Value>) -> Option<ChainState> {
    let sequence = record.get("previousSequence")?.as_u64()?;
    let chain = hex32(record.get("previousChain")?.as_str()?)?;
    // A trail that claims to begin here begins at the start.
    (sequence > 0 || chain == ChainState::START.chain).then_some(ChainState { sequence, chain })
}

/// The record, the bytes that were chained, and what the line claims. The chain (and a closing
/// line's signature) must stand at the very end of the line.
fn split(text: &str) -> Option<(Map<String, Value>, String, ChainState)> {
    let record: Map<String, Value> = serde_json::from_str(text).ok()?;
    let field = |name: &str| record.get(name).and_then(Value::as_str);
    let mut body = text;
    if let Some(signature) = field("signature") {
        body = body.strip_suffix(&format!(",\"signature\":\"{signature}\"}}"))?;
    } else {
        body = body.strip_suffix('}')?;
    }
    let chain = field("chain")?;
    let sequence = record.get("sequence")?.as_u64()?;
    let body = body.strip_suffix(&format!(",\"chain\":\"{chain}\""))?;
    body.ends_with(&format!("\"sequence\":{sequence}")).then_some(())?;
    let state = ChainState { sequence, chain: hex32(chain)? };
    Some((record, format!("{body}}}"), state))
}
