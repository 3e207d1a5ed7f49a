//! Accounts and users, from the start file. Roles are made over the wire and live in the store.
//!
//! The file is TOML, mode 0600, and is read once: `[[account]]` with `id` and `name`, each with
//! `[[account.user]]`: `name`, `access_key_id`, `secret_access_key`, `policy` (an identity policy).

use crate::unique_id::spell;
use keystead_aws::policy::{Caller, Policy};
use keystead_types::{AccountId, UserArn};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Why the start file is refused; the text names the entry, never a secret.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalsError {
    /// It cannot be read.
    #[error("cannot read the start file")]
    Read(#[from] std::io::Error),
    /// Others may read it.
    #[error("the start file holds secrets and has mode {0:o}; run `chmod 600` on it")]
    Mode(u32),
    /// Not TOML of this shape; the parser's own words would quote the secret.
    #[error("the start file is not TOML with [[account]] and [[account.user]] entries")]
    Shape,
    /// One entry is wrong.
    #[error("the start file: {0}")]
    Entry(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    account: Vec<AccountEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountEntry {
    id: AccountId,
    name: String,
    #[serde(default)]
    user: Vec<UserEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    name: String,
    access_key_id: String,
    secret_access_key: String,
    policy: String,
}

/// A user of an account.
pub(crate) struct User {
    /// Who it is when it calls.
    pub caller: Caller,
    /// What it may do.
    pub policy: Policy,
    /// Its secret; looked at by the signature check only.
    pub secret: Zeroizing<String>,
}

/// Everybody that the start file names.
#[derive(Default)]
pub(crate) struct Principals {
    accounts: BTreeMap<AccountId, String>,
    /// By access key id.
    users: BTreeMap<String, User>,
}

impl Principals {
    /// Reads the start file.
    pub(crate) fn load(path: &Path) -> Result<Self, PrincipalsError> {
        let mode = std::fs::metadata(path)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(PrincipalsError::Mode(mode));
        }
        Self::parse(&Zeroizing::new(std::fs::read_to_string(path)?))
    }

    /// Reads the start file's text.
    pub(crate) fn parse(text: &str) -> Result<Self, PrincipalsError> {
        let file: File = toml::from_str(text).map_err(|_| PrincipalsError::Shape)?;
        let mut all = Self::default();
        let mut arns = BTreeSet::new();
        for account in file.account {
            let twice = format!("account {} is named twice", account.id);
            if all.accounts.insert(account.id.clone(), account.name).is_some() {
                return Err(PrincipalsError::Entry(twice));
            }
            for entry in account.user {
                all.add(&account.id, entry, &mut arns)?;
            }
        }
        Ok(all)
    }

    fn add(
        &mut self,
        account: &AccountId,
        entry: UserEntry,
        arns: &mut BTreeSet<String>,
    ) -> Result<(), PrincipalsError> {
        let wrong = |what: String| Err(PrincipalsError::Entry(what));
        let arn = match UserArn::new(account.clone(), &entry.name) {
            Ok(arn) => arn.to_string(),
            Err(error) => return wrong(error.to_string()),
        };
        let id = &entry.access_key_id;
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        if !id.starts_with("AKIA") || !(16..=128).contains(&id.len()) || !id.bytes().all(plain) {
            return wrong(format!(
                "{arn}: the access key id is AKIA and capital letters or digits"
            ));
        }
        if entry.secret_access_key.len() < 16 {
            return wrong(format!("{arn}: the secret access key has fewer than 16 characters"));
        }
        let policy = match Policy::parse_identity(&entry.policy) {
            Ok(policy) => policy,
            Err(error) => return wrong(format!("{arn}: its policy: {error}")),
        };
        if !arns.insert(arn.clone()) {
            return wrong(format!("{arn} is named twice"));
        }
        let caller = Caller::user(account.as_str(), &arn, &user_id(&arn));
        let user = User { caller, policy, secret: Zeroizing::new(entry.secret_access_key) };
        if self.users.insert(entry.access_key_id.clone(), user).is_some() {
            return wrong(format!("access key {} is given to two users", entry.access_key_id));
        }
        Ok(())
    }

    /// The user of an access key.
    pub(crate) fn by_access_key(&self, id: &str) -> Option<&User> {
        self.users.get(id)
    }

    /// The access keys of all users.
    pub(crate) fn access_keys(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// The unique id of a user, when there is one of that ARN.
    pub(crate) fn unique_id(&self, arn: &str) -> Option<&str> {
        let user = self.users.values().find(|user| user.caller.arn == arn)?;
        Some(&user.caller.unique_id)
    }

    /// Does the account exist?
    pub(crate) fn has_account(&self, account: &str) -> bool {
        self.accounts.keys().any(|id| id.as_str() == account)
    }
}

/// `AIDA` and 17 letters or digits, the same at every start: derived from the ARN, because the
/// start file has no room for an id and a user is never re-made.
fn user_id(arn: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, arn.as_bytes());
    spell("AIDA", &digest.as_ref()[..17])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, key: &str, policy: &str) -> String {
        format!(
            "[[account]]\nid = \"111122223333\"\nname = \"customer\"\n[[account.user]]\nname = \"{name}\"\n\
             access_key_id = \"{key}\"\nsecret_access_key = \"0123456789abcdef-very-secret\"\npolicy = '''{policy}'''\n"
        )
    }

    const KEY: &str = "AKIAABCDEFGHIJKLMNOP";
    const ANY: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

    #[test]
    fn users_are_found_by_key_and_keep_their_id() {
        let all = Principals::parse(&text("administrator", KEY, ANY)).expect("it is read");
        let user = all.by_access_key(KEY).expect("there");
        assert_eq!(user.caller.arn, "arn:aws:iam::111122223333:user/administrator");
        assert_eq!(user.caller.unique_id, user_id(&user.caller.arn));
        assert_eq!(all.unique_id(&user.caller.arn), Some(user.caller.unique_id.as_str()));
        assert!(user.caller.unique_id.starts_with("AIDA") && user.caller.unique_id.len() == 21);
        assert!(all.has_account("111122223333") && !all.has_account("444455556666"));
        assert!(all.by_access_key("AKIAOTHER").is_none() && all.unique_id("arn").is_none());
    }

    #[test]
    fn each_wrong_entry_is_named_without_the_secret() {
        let twice = format!(
            "{}[[account.user]]{}",
            text("a", KEY, ANY),
            text("b", KEY, ANY).split("[[account.user]]").nth(1).expect("a user")
        );
        for bad in [
            text("a b", KEY, ANY),
            text("a", "AKIAlower-case-letters", ANY),
            text("a", KEY, "{}"),
            text("a", KEY, ANY).replace(
                "secret_access_key = \"0123456789abcdef-very-secret\"",
                "secret_access_key = \"short\"",
            ),
            format!("{0}{0}", text("a", KEY, ANY)),
            twice,
            text("a", KEY, ANY).replace("[[account]]", "[[account]]\nunknown = 1"),
            "not toml".to_owned(),
        ] {
            let error = Principals::parse(&bad).err().unwrap_or_else(|| panic!("accepted: {bad}"));
            assert!(!format!("{error:?} {error}").contains("very-secret"), "{error:?}");
        }
    }

    #[test]
    fn a_start_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("principals.toml");
        std::fs::write(&path, text("a", KEY, ANY)).expect("written");
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set")
        };
        set(0o640);
        assert!(matches!(Principals::load(&path), Err(PrincipalsError::Mode(0o640))));
        set(0o600);
        assert!(Principals::load(&path).is_ok());
    }
}
