//! A message's header: what it says in clear, and its bytes.

use super::{ID_BYTES, MessageError, TAG};
use std::collections::BTreeMap;

pub(super) const VERSION: u8 = 2;
pub(super) const SUITE: [u8; 2] = [0x04, 0x78];
const PROVIDER: &[u8] = b"aws-kms";
const FRAMED: u8 = 2;
const COMMITMENT: usize = 32;
/// The longest header that is read. Ours have one or two wrapped keys and three context pairs.
pub const MAX_HEADER_BYTES: usize = 32 << 10;
const MAX_WRAPPED: usize = 8;

/// The data key, wrapped under one KMS key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wrapped {
    /// The KMS key's ARN.
    pub key_arn: String,
    /// The KMS ciphertext blob.
    pub ciphertext: Vec<u8>,
}

/// A header as read; nothing of it is proved before the message is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub(super) bytes: Vec<u8>,
    pub(super) id: [u8; ID_BYTES],
    pub(super) commitment: [u8; COMMITMENT],
    pub(super) tag: [u8; TAG],
    context: BTreeMap<String, String>,
    wrapped: Vec<Wrapped>,
}

impl Header {
    /// Reads the header at the start of a message.
    pub fn parse(message: &[u8]) -> Result<Self, MessageError> {
        let mut rest = Reader(message.get(..MAX_HEADER_BYTES).unwrap_or(message));
        if rest.take(1)? != [VERSION] {
            return Err(MessageError::Malformed("another version"));
        }
        if rest.take(2)? != SUITE {
            return Err(MessageError::Malformed("another suite"));
        }
        let id = rest.array()?;
        let context = read_context(rest.counted()?)?;
        let count = usize::from(rest.u16()?);
        if count == 0 || count > MAX_WRAPPED {
            return Err(MessageError::Malformed("the number of wrapped keys"));
        }
        let mut wrapped = Vec::with_capacity(count);
        for _ in 0..count {
            if rest.counted()? != PROVIDER {
                return Err(MessageError::Malformed("a key provider other than aws-kms"));
            }
            let key_arn = utf8(rest.counted()?)?;
            wrapped.push(Wrapped { key_arn, ciphertext: rest.counted()?.to_vec() });
        }
        if rest.take(1)? != [FRAMED] {
            return Err(MessageError::Malformed("not framed"));
        }
        if rest.take(4)? != (super::FRAME_BYTES as u32).to_be_bytes() {
            return Err(MessageError::Malformed("another frame length"));
        }
        let (commitment, tag) = (rest.array()?, rest.array()?);
        let bytes = message[..message.len().min(MAX_HEADER_BYTES) - rest.0.len()].to_vec();
        Ok(Self { bytes, id, commitment, tag, context, wrapped })
    }

    /// A header without its tag, which the key makes.
    pub(super) fn untagged(
        id: [u8; ID_BYTES],
        context: &BTreeMap<String, String>,
        wrapped: &[Wrapped],
        commitment: [u8; COMMITMENT],
    ) -> Result<Self, MessageError> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&SUITE);
        bytes.extend_from_slice(&id);
        let mut pairs = Vec::new();
        if !context.is_empty() {
            pairs.extend_from_slice(&u16_of(context.len())?.to_be_bytes());
            for text in context.iter().flat_map(|(name, value)| [name, value]) {
                push_counted(&mut pairs, text.as_bytes())?;
            }
        }
        push_counted(&mut bytes, &pairs)?;
        if wrapped.is_empty() || wrapped.len() > MAX_WRAPPED {
            return Err(MessageError::Malformed("the number of wrapped keys"));
        }
        bytes.extend_from_slice(&u16_of(wrapped.len())?.to_be_bytes());
        for one in wrapped {
            push_counted(&mut bytes, PROVIDER)?;
            push_counted(&mut bytes, one.key_arn.as_bytes())?;
            push_counted(&mut bytes, &one.ciphertext)?;
        }
        bytes.push(FRAMED);
        bytes.extend_from_slice(&(super::FRAME_BYTES as u32).to_be_bytes());
        bytes.extend_from_slice(&commitment);
        if bytes.len() + TAG > MAX_HEADER_BYTES {
            return Err(MessageError::Malformed("a header that is too long"));
        }
        let (context, wrapped) = (context.clone(), wrapped.to_vec());
        Ok(Self { bytes, id, commitment, tag: [0; TAG], context, wrapped })
    }

    pub(super) fn set_tag(&mut self, tag: [u8; TAG]) {
        debug_assert_eq!(self.tag, [0; TAG]);
        self.tag = tag;
        self.bytes.extend_from_slice(&tag);
    }

    /// What the tag covers.
    pub(super) fn before_tag(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - TAG]
    }

    /// Its bytes: the start of the message.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message's id.
    pub fn id(&self) -> &[u8; ID_BYTES] {
        &self.id
    }

    /// The encryption context.
    pub fn context(&self) -> &BTreeMap<String, String> {
        &self.context
    }

    /// The data key as each KMS key wrapped it.
    pub fn wrapped(&self) -> &[Wrapped] {
        &self.wrapped
    }
}

fn u16_of(n: usize) -> Result<u16, MessageError> {
    u16::try_from(n).map_err(|_| MessageError::Malformed("a field that is too long"))
}

fn push_counted(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), MessageError> {
    out.extend_from_slice(&u16_of(bytes.len())?.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<String, MessageError> {
    let text = std::str::from_utf8(bytes).map_err(|_| MessageError::Malformed("not UTF-8"))?;
    Ok(text.to_owned())
}

/// Pairs sorted by name, each once: one context has one form.
fn read_context(bytes: &[u8]) -> Result<BTreeMap<String, String>, MessageError> {
    let mut pairs = BTreeMap::new();
    if bytes.is_empty() {
        return Ok(pairs);
    }
    let mut rest = Reader(bytes);
    let count = rest.u16()?;
    for _ in 0..count {
        let (name, value) = (utf8(rest.counted()?)?, utf8(rest.counted()?)?);
        if pairs.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(MessageError::Malformed("a context that is not sorted"));
        }
        pairs.insert(name, value);
    }
    if count == 0 || !rest.0.is_empty() {
        return Err(MessageError::Malformed("the length of the context"));
    }
    Ok(pairs)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], MessageError> {
        let cut = MessageError::Malformed("cut short");
        let (head, tail) = self.0.split_at_checked(n).ok_or(cut)?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }
    fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }
    fn counted(&mut self) -> Result<&'a [u8], MessageError> {
        let n = self.u16()?;
        self.take(usize::from(n))
    }
}
