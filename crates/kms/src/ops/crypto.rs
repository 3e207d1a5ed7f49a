//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateRandom: key material is unsealed for one
//! call and wiped at its end.

use super::find::{Found, by_arn, find};
use super::grants::check_tokens;
use super::keys::identity_allows;
use super::{Body, Call, Note, Room, conditions, material};
use crate::store::records::Material;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_aws::ops::{Decrypt, Encrypt, GenerateDataKey, GenerateRandom, Operation, ReEncrypt};
use keystead_aws::policy::Denied;
use keystead_aws::{AwsError, error};
use keystead_envelope::blob::{self, BlobError, BlobHeader};
use keystead_envelope::random;
use keystead_types::KeyArn;
use keystead_types::arn::is_multi_region_id;
use serde_json::json;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

type Answer = Result<Body, AwsError>;
type Context = BTreeMap<String, String>;

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

/// How a key is to be used.
struct Use<'a> {
    action: &'static str,
    op: Operation,
    context: &'a Context,
    algorithm: Option<&'a str>,
    /// Of ReEncrypt: the other key, where there is one.
    re_encrypt: Option<Option<KeyArn>>,
}

impl<'a> Use<'a> {
    fn new(op: Operation, context: &'a Context, algorithm: Option<&'a String>) -> Self {
        let algorithm = algorithm.map(String::as_str);
        Self { action: op.info().actions[0], op, context, algorithm, re_encrypt: None }
    }
}

fn check_algorithm(given: Option<&String>) -> Result<(), AwsError> {
    match given {
        Some(other) if other != ALGORITHM => Err(AwsError::client(
            "InvalidKeyUsageException",
            format!("Algorithm {other} and key spec SYMMETRIC_DEFAULT are incompatible."),
        )),
        _ => Ok(()),
    }
}

/// What came out of a blob, and which of its key's materials opened it.
struct Opened<'a> {
    plain: Zeroizing<Vec<u8>>,
    material: &'a Material,
}

impl<'a> Found<'a> {
    fn seal(&self, room: &Room<'_>, context: &Context, plain: &[u8]) -> Result<Vec<u8>, AwsError> {
        let (arn, current) = (self.arn(), &self.key.record.material);
        let id = hex::decode(&current.id).map_err(|_| error::internal())?;
        let header = BlobHeader {
            region: arn.region().clone(),
            account: arn.account().clone(),
            key_id: arn.key_id().to_owned(),
            material_id: id.first_chunk().copied().ok_or_else(error::internal)?,
        };
        let material = material::open(room.root, arn, current)?;
        blob::seal(&material, &header, context, plain).map_err(|fault| match fault {
            BlobError::TooLong => error::validation("The ciphertext would be too long."),
            BlobError::Invalid | BlobError::Random(_) => error::internal(),
        })
    }

    /// Opens a blob that claims to be this key's, or that of another key of its family.
    fn open(
        &self,
        room: &Room<'_>,
        header: Option<&BlobHeader>,
        sealed: &[u8],
        context: &Context,
    ) -> Result<Opened<'a>, AwsError> {
        let header = header.ok_or_else(error::invalid_ciphertext)?;
        let key = &self.key.record;
        let region = header.region == *key.arn.region() || key.multi_region.is_some();
        if !region || (&header.account, &*header.key_id) != (key.arn.account(), key.arn.key_id()) {
            return Err(error::incorrect_key());
        }
        let material =
            key.material_of(&header.material_id).ok_or_else(error::invalid_ciphertext)?;
        let plain = blob::open(&material::open(room.root, &key.arn, material)?, sealed, context)
            .map_err(|_| error::invalid_ciphertext())?;
        Ok(Opened { plain, material })
    }
}

impl Found<'_> {
    fn allows(&self, room: &Room<'_>, call: &Call<'_>, wish: &Use<'_>) -> Result<(), Denied> {
        self.authorize(room, call, wish.action, wish.op, |request| {
            request.encryption_context = Some(wish.context.clone());
            request.key("kms:EncryptionAlgorithm", wish.algorithm.unwrap_or(ALGORITHM));
            if let Some(other) = &wish.re_encrypt {
                let same = other.as_ref() == Some(self.arn());
                conditions::flag(request, "kms:ReEncryptOnSameKey", same);
            }
        })
        .map(drop)
    }
}

/// The key that a blob is to be opened with: the one that the request names, else the one that the
/// blob names. Whoever may not use it learns nothing more.
fn find_for_blob<'a>(
    room: &Room<'a>,
    call: &Call<'_>,
    given: Option<&String>,
    header: Option<&BlobHeader>,
    wish: &Use<'_>,
    note: &mut Note,
) -> Result<Found<'a>, AwsError> {
    // The id of a multi-Region key names the key of its family that is in the call's Region.
    let named = header.and_then(|h| {
        let here = h.region == *call.region || is_multi_region_id(&h.key_id);
        here.then(|| KeyArn::new(call.region.clone(), h.account.clone(), &h.key_id).ok()).flatten()
    });
    let Some(given) = given else {
        let header = header.ok_or_else(error::invalid_ciphertext)?;
        let undisclosed = || {
            let resource =
                format!("arn:aws:kms:{}:{}:key/{}", header.region, header.account, header.key_id);
            Denied::undisclosed(&call.who.caller, wish.action, &resource).kms_ciphertext_error()
        };
        let arn = named.ok_or_else(undisclosed)?;
        let found = by_arn(room, &arn, note).ok_or_else(undisclosed)?;
        found.allows(room, call, wish).map_err(|denied| denied.kms_ciphertext_error())?;
        return Ok(found);
    };
    // A bare id may name another account's key, because the blob says whose it is.
    let found = match named.filter(|arn| arn.key_id() == given) {
        Some(arn) => {
            by_arn(room, &arn, note).ok_or_else(|| error::key_not_found(&arn.to_string()))?
        }
        None => find(room, call, given, wish.op, note)?,
    };
    found.allows(room, call, wish).map_err(|denied| denied.kms_error())?;
    Ok(found)
}

pub(super) fn encrypt(room: &Room<'_>, call: &Call<'_>, r: &Encrypt, note: &mut Note) -> Answer {
    note.dry_run = r.dry_run;
    check_tokens(room, &r.grant_tokens)?;
    let op = Operation::Encrypt;
    let found = find(room, call, &r.key_id, op, note)?;
    let wish = Use::new(op, &r.context, r.algorithm.as_ref());
    found.allows(room, call, &wish).map_err(|denied| denied.kms_error())?;
    found.usable()?;
    found.encrypts(op)?;
    check_algorithm(r.algorithm.as_ref())?;
    if r.dry_run {
        return Err(error::dry_run());
    }
    let sealed = found.seal(room, &r.context, &r.plaintext)?;
    Ok(Body::Json(json!({
        "CiphertextBlob": STANDARD.encode(sealed),
        "KeyId": found.arn(),
        "EncryptionAlgorithm": ALGORITHM,
    })))
}

pub(super) fn decrypt(room: &Room<'_>, call: &Call<'_>, r: &Decrypt, note: &mut Note) -> Answer {
    note.dry_run = r.dry_run;
    note.canary = r.context.get("keystead:purpose").is_some_and(|p| p == "canary");
    check_tokens(room, &r.grant_tokens)?;
    let header = blob::parse_header(&r.ciphertext).ok();
    let op = Operation::Decrypt;
    let wish = Use::new(op, &r.context, r.algorithm.as_ref());
    let given = r.key_id.as_ref();
    let found = find_for_blob(room, call, given, header.as_ref(), &wish, note)?;
    found.usable()?;
    found.encrypts(op)?;
    check_algorithm(r.algorithm.as_ref())?;
    let opened = found.open(room, header.as_ref(), &r.ciphertext, &r.context)?;
    if r.dry_run {
        return Err(error::dry_run());
    }
    let more = format!(",\"EncryptionAlgorithm\":\"{ALGORITHM}\"");
    Ok(secret(&found, opened.material, &opened.plain, &more))
}

/// An answer with a plaintext, written into one buffer of the right size.
fn secret(found: &Found<'_>, material: &Material, plain: &[u8], more: &str) -> Body {
    let mut text = String::with_capacity(1024 + more.len() + plain.len() * 4 / 3);
    text.push_str("{\"KeyId\":\"");
    text.push_str(&found.arn().to_string());
    text.push_str("\",\"KeyMaterialId\":\"");
    text.push_str(&material.id);
    text.push_str("\",\"Plaintext\":\"");
    STANDARD.encode_string(plain, &mut text);
    text.push('"');
    text.push_str(more);
    text.push('}');
    Body::Secret(text.into_bytes())
}

pub(super) fn generate(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &GenerateDataKey,
    with_plaintext: bool,
    note: &mut Note,
) -> Answer {
    note.dry_run = r.dry_run;
    check_tokens(room, &r.grant_tokens)?;
    let op = if with_plaintext {
        Operation::GenerateDataKey
    } else {
        Operation::GenerateDataKeyWithoutPlaintext
    };
    let found = find(room, call, &r.key_id, op, note)?;
    let wish = Use::new(op, &r.context, None);
    found.allows(room, call, &wish).map_err(|denied| denied.kms_error())?;
    found.usable()?;
    found.encrypts(op)?;
    if r.dry_run {
        return Err(error::dry_run());
    }
    let mut data_key = Zeroizing::new(vec![0; r.number_of_bytes]);
    random::fill(&mut data_key).map_err(|_| error::internal())?;
    let sealed = found.seal(room, &r.context, &data_key)?;
    let sealed = STANDARD.encode(sealed);
    if with_plaintext {
        let more = format!(",\"CiphertextBlob\":\"{sealed}\"");
        return Ok(secret(&found, &found.key.record.material, &data_key, &more));
    }
    Ok(Body::Json(json!({
        "CiphertextBlob": sealed,
        "KeyId": found.arn(),
        "KeyMaterialId": found.key.record.material.id,
    })))
}

/// Random bytes: a secret of the caller's from here on.
pub(super) fn generate_random(call: &Call<'_>, r: &GenerateRandom) -> Answer {
    identity_allows(call, "kms:GenerateRandom", "*", |_| {})?;
    let mut bytes = Zeroizing::new(vec![0; r.number_of_bytes]);
    random::fill(&mut bytes).map_err(|_| error::internal())?;
    let mut text = String::with_capacity(32 + bytes.len() * 4 / 3);
    text.push_str("{\"Plaintext\":\"");
    STANDARD.encode_string(&*bytes, &mut text);
    text.push_str("\"}");
    Ok(Body::Secret(text.into_bytes()))
}

pub(super) fn re_encrypt(
    room: &Room<'_>,
    call: &Call<'_>,
    r: &ReEncrypt,
    note: &mut Note,
) -> Answer {
    note.dry_run = r.dry_run;
    check_tokens(room, &r.grant_tokens)?;
    let op = Operation::ReEncrypt;
    let header = blob::parse_header(&r.ciphertext).ok();
    // Looked at for a condition key only; what is wrong with it is told in its turn.
    let ahead = find(room, call, &r.destination_key_id, op, &mut Note::default());
    let mut wish = Use::new(op, &r.source_context, r.source_algorithm.as_ref());
    wish.re_encrypt = Some(ahead.ok().map(|found| found.arn().clone()));
    let given = r.source_key_id.as_ref();
    let source = find_for_blob(room, call, given, header.as_ref(), &wish, note)?;
    let target = find(room, call, &r.destination_key_id, op, note)?;
    let mut wish = Use::new(op, &r.destination_context, r.destination_algorithm.as_ref());
    wish.action = op.info().actions[1];
    wish.re_encrypt = Some(Some(source.arn().clone()));
    target.allows(room, call, &wish).map_err(|denied| denied.kms_error())?;
    for key in [&source, &target] {
        key.usable()?;
    }
    for key in [&source, &target] {
        key.encrypts(op)?;
    }
    check_algorithm(r.source_algorithm.as_ref())?;
    check_algorithm(r.destination_algorithm.as_ref())?;
    let opened = source.open(room, header.as_ref(), &r.ciphertext, &r.source_context)?;
    if r.dry_run {
        return Err(error::dry_run());
    }
    let sealed = target.seal(room, &r.destination_context, &opened.plain)?;
    Ok(Body::Json(json!({
        "CiphertextBlob": STANDARD.encode(sealed),
        "SourceKeyId": source.arn(),
        "KeyId": target.arn(),
        "SourceEncryptionAlgorithm": ALGORITHM,
        "DestinationEncryptionAlgorithm": ALGORITHM,
        "SourceKeyMaterialId": opened.material.id,
        "DestinationKeyMaterialId": target.key.record.material.id,
    })))
}
