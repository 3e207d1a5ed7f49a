//! One cluster: what it does next ([`machine`], pure).

pub(crate) mod machine;
