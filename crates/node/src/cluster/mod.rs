//! One cluster: what it does next ([`machine`], pure) and the thread that does it ([`runner`]).

pub(crate) mod machine;
pub(crate) mod runner;
