//! Makes one input of another: a file of the corpus with a few changes.

use crate::corpus::Corpus;
use crate::rng::Rng;

/// No input grows beyond this.
const LONGEST: usize = 64 << 10;

/// An input of the corpus with one to eight changes; one in a hundred is noise.
pub(crate) fn input(rng: &mut Rng, corpus: &Corpus) -> Vec<u8> {
    if rng.below(100) == 0 {
        return (0..rng.below(256)).map(|_| rng.next() as u8).collect();
    }
    let mut bytes = rng.one_of(&corpus.files).1.clone();
    // Half of them have one change, a quarter two, and so on.
    for _ in 0..=rng.next().trailing_zeros().min(7) {
        change(rng, &mut bytes, corpus);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, corpus: &Corpus) {
    match rng.below(11) {
        0 | 1 => flip(rng, bytes),
        2 => set(rng, bytes),
        3 => {
            let at = rng.below(bytes.len() + 1);
            bytes.truncate(at);
        }
        4 => {
            let range = range(rng, bytes.len(), 64);
            bytes.drain(range);
        }
        5 => repeat(rng, bytes),
        6 => {
            let other = &rng.one_of(&corpus.files).1;
            splice(rng, bytes, other);
        }
        7 => {
            let word = rng.one_of(&corpus.words).clone();
            let at = rng.below(bytes.len() + 1);
            bytes.splice(at..at, word);
        }
        _ => replace_word(rng, bytes, corpus),
    }
}

fn range(rng: &mut Rng, len: usize, most: usize) -> std::ops::Range<usize> {
    let from = rng.below(len);
    from..len.min(from + 1 + rng.below(most))
}

fn flip(rng: &mut Rng, bytes: &mut [u8]) {
    let at = rng.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

fn set(rng: &mut Rng, bytes: &mut [u8]) {
    let at = rng.below(bytes.len());
    let any = rng.next() as u8;
    let value = *rng.one_of(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'/', any]);
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

/// Repeats a part, now and then a thousand times: what is quadratic shows.
fn repeat(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let part = range(rng, bytes.len(), 256);
    let times = if rng.below(16) == 0 { 1000 } else { 1 + rng.below(4) };
    let times = times.min(LONGEST / part.len().max(1));
    let more = bytes[part.clone()].repeat(times);
    bytes.splice(part.end..part.end, more);
}

/// The head of this and the tail of another.
fn splice(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.below(bytes.len() + 1);
    bytes.truncate(at);
    let from = rng.below(other.len() + 1);
    bytes.extend_from_slice(&other[from..]);
}

/// Another word in the place of one: what keeps the grammar and changes the sense.
fn replace_word(rng: &mut Rng, bytes: &mut Vec<u8>, corpus: &Corpus) {
    let inside = |b: &u8| b.is_ascii_alphanumeric();
    let at = rng.below(bytes.len());
    let Some(from) = (at..bytes.len()).find(|i| inside(&bytes[*i])) else { return };
    let from = (0..from).rev().find(|i| !inside(&bytes[*i])).map_or(0, |i| i + 1);
    let end = (from..bytes.len()).find(|i| !inside(&bytes[*i])).unwrap_or(bytes.len());
    let word = rng.one_of(&corpus.words).clone();
    bytes.splice(from..end, word);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus() -> Corpus {
        let files = vec![("a".to_owned(), b"{\"Key\": 1}".to_vec()), ("b".to_owned(), Vec::new())];
        Corpus { files, words: vec![b"word".to_vec(), Vec::new()] }
    }

    #[test]
    fn a_seed_and_a_number_make_one_input_and_others_another() {
        let made = |seed, number| input(&mut Rng::new(seed, number), &corpus());
        assert!((0..2000).all(|n| made(7, n) == made(7, n) && made(7, n).len() <= LONGEST));
        let different: std::collections::BTreeSet<_> = (0..2000).map(|n| made(7, n)).collect();
        assert!(different.len() > 300, "{}", different.len());
        assert_ne!(
            (0..9).map(|n| made(7, n)).collect::<Vec<_>>(),
            (0..9).map(|n| made(8, n)).collect::<Vec<_>>()
        );
    }
}
