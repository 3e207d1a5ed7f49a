//! A ciphertext blob, and the same bytes as a script of changes to a good one.

use super::edit;
use crate::blob::{open, parse_header, seal};
use crate::fixtures::blob_header;
use crate::memory::DataKey;
use std::collections::BTreeMap;
use std::sync::OnceLock;

const PLAINTEXT: &[u8] = b"a data key of thirty-two bytes..";
/// All of a blob that is neither header nor ciphertext: salt and tag.
const SALT_AND_TAG: usize = 32 + 16;

/// What was changed never opens, nor does what another key sealed; what a blob names is what it was
/// sealed for.
pub fn blob(data: &[u8]) {
    static GOOD: OnceLock<(DataKey, Vec<u8>, BTreeMap<String, String>)> = OnceLock::new();
    let (material, good, context) = GOOD.get_or_init(|| {
        let material = DataKey::random(32).expect("key memory");
        let context = [("keystead:cluster".to_owned(), "cl-1".to_owned())].into();
        let good = seal(&material, &blob_header(), &context, PLAINTEXT).expect("it seals");
        (material, good, context)
    });
    assert!(open(material, data, context).is_err(), "nobody sealed this");
    let mut changed = good.clone();
    edit(&mut changed, data);
    let opened = open(material, &changed, context);
    if changed == *good {
        assert_eq!(&**opened.expect("it is as it was"), PLAINTEXT);
    } else {
        assert!(opened.is_err(), "changed, and it opens: {changed:?}");
    }
    if let Ok(named) = parse_header(data) {
        let sealed = seal(material, &named, context, b"").expect("a short blob");
        assert_eq!(parse_header(&sealed).expect("ours"), named);
        let length = sealed.len() - SALT_AND_TAG;
        assert_eq!(sealed[..length], data[..length], "printed, it reads another way");
        assert!(open(material, &sealed, context).is_ok_and(|plain| plain.is_empty()));
    }
}
